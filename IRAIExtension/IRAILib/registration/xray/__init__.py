"""Floor 2: a CT onto one or two X-ray frames, and the radiograph a CT would give."""

from .drr import attenuation, render_drr

__all__ = ["attenuation", "render_drr"]
