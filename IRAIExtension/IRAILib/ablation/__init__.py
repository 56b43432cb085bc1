"""Floor 3: the ablation's margin with its uncertainty, and simulated cases whose margin is known."""

from .margin import MarginOptions, MarginResult, ablative_margin
from .place import Applicator, ThinnestPlace
from .uncertainty import MarginUncertainty

__all__ = ["Applicator", "MarginOptions", "MarginResult", "MarginUncertainty", "ThinnestPlace", "ablative_margin"]
