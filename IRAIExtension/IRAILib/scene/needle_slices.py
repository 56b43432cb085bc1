"""Live MR, CT and X-ray pictures in the scene: which finder follows them."""

from __future__ import annotations

from ..geometry import InputError
from ..needle.live_slices import SliceFinder, SlicePipeline, slice_finder
from ..needle.ultrasound.scale import PixelScale

LIVE_MODALITIES = ("US", "MR", "CT", "XA")


def slice_pipeline(modality: str, scale: PixelScale | None = None) -> SlicePipeline:
    """What follows a needle or catheter in live MR, CT or X-ray pictures. Raises InputError for another modality."""
    if modality not in LIVE_MODALITIES[1:]:
        raise InputError(f"live pictures of '{modality}' can't be followed; choose from {', '.join(LIVE_MODALITIES)}")
    if modality == "XA":
        from ..fluoroscopy.live import METHOD, STACK, catheter_in

        return SlicePipeline(SliceFinder("XA", METHOD, catheter_in, STACK), scale=scale)
    return SlicePipeline(slice_finder(modality), scale=scale)
