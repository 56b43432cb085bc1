"""Floor 2: a CT onto one or two X-ray frames, and the radiograph a CT would give."""

from .drr import attenuation, render_drr
from .patient import Patient, covered, prepare_patient
from .register import register_xray
from .result import Rival, XrayRegistration

__all__ = ["Patient", "Rival", "XrayRegistration", "attenuation", "covered", "prepare_patient", "register_xray",
           "render_drr"]
