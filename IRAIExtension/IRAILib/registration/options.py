"""What a registration may be asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec

from ..geometry import InputError, MissingPackageError

MODELS = ("rigid", "deformable")
ENGINES = {
    "convex": ("torch", "pip install torch"),
    "bspline": ("SimpleITK", "pip install SimpleITK"),
    "greedy": ("picsl_greedy", "pip install picsl-greedy"),
    "elastix": ("itk", "pip install itk-elastix"),
}
"""Deformable engines, best first: the package each needs, and how to get it."""
DEFAULT_ORDER = ("convex", "bspline")


@dataclass(frozen=True)
class RegistrationOptions:
    """How to register.

    Attributes:
        model: "rigid" or "deformable" (rigid first, then deformable inside the organ).
        engine: "auto" (convex where torch is installed, else bspline) or one of `ENGINES`.
        exclusion_mm: tumour and zone are left out of the similarity with so wide a rim.
        shell_mm: the local model (affine and second order) is fitted between these distances from the zone.
        local_model: put it inside the zone. Off only to show what happens without.
        respect_exclusion: use the exclusion masks in the similarity. Off only to show what happens without;
            the guard measures the tumour either way.
        spacing_mm: voxel of the working images; None chooses 2 mm, or more for very large organs.
        search_mm: largest displacement, beyond the rigid part, that the first search looks for.
        estimate_error: also register backwards, for inverse consistency and the local error (costs a third).
        max_volume_change_percent: a tumour that changes more is refused.
        fold_distance_mm: a fold nearer to tumour or zone is refused.
        seed: of the random samples; the same seed gives the same result on the same machine.
    """

    model: str = "deformable"
    engine: str = "auto"
    exclusion_mm: float = 6.0
    shell_mm: tuple[float, float] = (4.0, 18.0)
    local_model: bool = True
    respect_exclusion: bool = True
    spacing_mm: float | None = None
    search_mm: float = 24.0
    estimate_error: bool = True
    max_volume_change_percent: float = 10.0
    fold_distance_mm: float = 10.0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise InputError(f"registration model {self.model!r}: choose {' or '.join(MODELS)}")
        if self.engine != "auto" and self.engine not in ENGINES:
            raise InputError(f"registration engine {self.engine!r}: choose auto, {', '.join(ENGINES)}")
        limits = {"exclusion_mm": (0, 30), "search_mm": (4, 60), "max_volume_change_percent": (0, 100),
                  "fold_distance_mm": (0, 100)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} {getattr(self, name)}: choose {low} to {high}")
        if self.spacing_mm is not None and not 0.5 <= self.spacing_mm <= 8.0:
            raise InputError(f"spacing_mm {self.spacing_mm}: choose 0.5 to 8")
        if not 0.0 <= self.shell_mm[0] < self.shell_mm[1] <= 60.0:
            raise InputError(f"shell_mm {self.shell_mm}: choose two rising distances up to 60 mm")

    def to_dict(self) -> dict:
        return asdict(self)


def available_engines() -> list[str]:
    """Engines whose package is installed, best first."""
    return [name for name, (package, _how) in ENGINES.items() if find_spec(package) is not None]


def choose_engine(name: str) -> str:
    """The engine to use. Raises MissingPackageError with the way to install it."""
    if name == "auto":
        name = next(engine for engine in DEFAULT_ORDER if find_spec(ENGINES[engine][0]) or engine == "bspline")
    package, how = ENGINES[name]
    if find_spec(package) is None:
        raise MissingPackageError(f"registration engine {name}: package {package} is not installed; {how}, or choose "
                                  "another engine")
    return name
