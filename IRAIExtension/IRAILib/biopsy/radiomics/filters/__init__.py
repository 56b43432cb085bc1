"""Convolutional filters as IBSI-2 defines them: mean, Laplacian of Gaussian, Laws, Gabor, wavelets."""

from .apply import apply_filter, filter_reach_kji
from .spec import BOUNDARIES, DEFAULTS, POOLINGS, all_wavelets, check_spec, filter_prefix

__all__ = ["BOUNDARIES", "DEFAULTS", "POOLINGS", "all_wavelets", "apply_filter", "check_spec", "filter_prefix",
           "filter_reach_kji"]
