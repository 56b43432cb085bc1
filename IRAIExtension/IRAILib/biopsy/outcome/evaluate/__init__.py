"""Floor 3: figures that a statistician can sign: numpy in, dataclass out; what has no value says why, never NaN."""

from .bootstrap import Comparison, Difference, Interval, bootstrap, by_repeat, compare
from .checks import Metrics, NotEstimableError
from .classification import (
    auc,
    average_precision,
    choose_threshold,
    class_metrics,
    class_report,
    delong,
    roc_curve,
)
from .curves import aalen_johansen, censoring_curve, kaplan_meier, pseudo_values, restricted_mean
from .survival import brier_at, dynamic_auc, harrell_c, survival_metrics, survival_report, uno_c

__all__ = [
    "Comparison", "Difference", "Interval", "Metrics", "NotEstimableError", "aalen_johansen", "auc",
    "average_precision", "bootstrap", "brier_at", "by_repeat", "censoring_curve", "choose_threshold", "class_metrics",
    "class_report", "compare", "delong", "dynamic_auc", "harrell_c", "kaplan_meier", "pseudo_values",
    "restricted_mean", "roc_curve", "survival_metrics", "survival_report", "uno_c",
]
