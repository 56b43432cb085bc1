"""Floor 2: one image onto another, with a verdict on whether the result may be believed."""

from .options import ENGINES, RegistrationOptions, available_engines, choose_engine
from .pipeline import register
from .result import RegistrationQuality, RegistrationResult

__all__ = [
    "ENGINES", "RegistrationOptions", "RegistrationQuality", "RegistrationResult", "available_engines",
    "choose_engine", "register",
]
