"""Stability of features over the cases of a manifest, one image in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..geometry import InputError, RefusedError
from .features import read_pair
from .manifest import Case, read_manifest
from .tasks import read_settings

if TYPE_CHECKING:
    from ..biopsy.radiomics.stability import StabilityResult


def stability_of_manifest(manifest: str | Path, config: str | Path | None = None, *, n: int = 10, seed: int = 0,
                          progress: Callable[[float, str], None] | None = None,
                          cancelled: Callable[[], bool] | None = None) -> StabilityResult:
    """`biopsy.radiomics.stability.stability` over a manifest of the task radiomics.

    manifest: see `read_manifest`. config: settings of `irai biopsy features` as YAML; None for the default.
    Raises: as `read_manifest`, `read_settings` and `stability`; a case that can't be read is named.
    """
    from dataclasses import replace

    from ..biopsy.radiomics import Settings
    from ..biopsy.radiomics.stability import stability

    cases = read_manifest(manifest, "radiomics")
    settings = Settings.from_dict(read_settings("radiomics", config)["radiomics"])
    images = _Images(cases, settings)
    found = stability(images, _Masks(images), settings, n=n, seed=seed, progress=progress, cancelled=cancelled)
    return replace(found, cases=tuple(case.name for case in cases), warnings=(*images.notes, *found.warnings))


class _Images(Sequence):
    """Images of the cases, read when asked for; the mask of the last one waits beside it."""

    def __init__(self, cases: list[Case], settings: Any) -> None:
        self.cases, self.settings = cases, settings
        self.mask: Any = None
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index):
        from dataclasses import replace

        case = self.cases[index]
        try:
            image, self.mask, notes = read_pair(case.to_dict(), self.settings)
        except (InputError, RefusedError) as error:
            raise type(error)(f"case {case.name}: {error}") from None
        self.notes += [f"{case.name}: {note}" for note in notes]
        return replace(image, name=case.name)


class _Masks(Sequence):
    """The masks to `_Images`, in step with it."""

    def __init__(self, images: _Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError(index)
        return self.images.mask
