"""What a registration gives, and how good it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..geometry import LinearTransform, Transform


@dataclass(frozen=True)
class RegistrationQuality:
    """Measured on every result; None where the input for it was not given.

    Attributes:
        jacobian_min, jacobian_mean_tumor: determinant of moving_from_fixed over the organ (fixed frame), and over
            the tumour brought into the fixed frame.
        folding_percent: share of the organ where the determinant is 0 or less.
        fold_distance_mm: from the nearest fold to tumour or zone; None when nothing folds.
        tumor_volume_change_percent: tumour's volume in the fixed frame against the moving one.
        tumor_stretch: largest length change in any direction inside the tumour (1.1: 10 % longer or shorter).
        inverse_consistency_mm: median over the organ of how far a point ends from where it began, forward with
            this map and back with one found independently in the other direction.
        inverse_consistency_zone_mm: root mean square of the same over the shell round the zone.
        organ_dice, organ_dice_rigid, organ_dice_before: overlap of the organ masks.
        organ_distance_mm: mean distance between the organ surfaces after mapping.
        similarity_rigid, similarity_after: normalised mutual information (0 none, 1 a perfect rule from one image
            to the other) over the organ without the excluded zones.
        information_before, information_rigid: mutual information in nats at 3 mm where the headers put the images
            (0 when they don't overlap there), and after the rigid stage.
        zone_shift_mm: how far deformable and rigid differ at the zone (root mean square).
        local_residual_mm: root mean square of what the local model leaves of the field over the shell.
        shell_seen_percent: share of the shell whose counterpart lies in the moving image.
        tre_mm, tre_points: mean error and number of landmarks held out.
    """

    jacobian_min: float | None = None
    jacobian_mean_tumor: float | None = None
    folding_percent: float = 0.0
    fold_distance_mm: float | None = None
    tumor_volume_change_percent: float | None = None
    tumor_stretch: float | None = None
    inverse_consistency_mm: float | None = None
    inverse_consistency_zone_mm: float | None = None
    organ_dice: float | None = None
    organ_dice_rigid: float | None = None
    organ_dice_before: float | None = None
    organ_distance_mm: float | None = None
    information_before: float | None = None
    information_rigid: float | None = None
    similarity_rigid: float | None = None
    similarity_after: float | None = None
    zone_shift_mm: float | None = None
    local_residual_mm: float | None = None
    shell_seen_percent: float | None = None
    tre_mm: float | None = None
    tre_points: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """A map from the fixed to the moving image, and whether to believe it.

    Attributes:
        moving_from_fixed: takes fixed RAS points to moving RAS points; resamples the moving image onto the fixed.
        rigid: the rigid stage alone.
        quality: see there.
        refused: None, or one line that says why no margin may be derived from this.
        local_tre_mm: one standard deviation of the error expected round the zone (over the organ when there is no
            zone), per point as a length in 3D, estimated without knowing the truth.
        method: model and engine.
        seconds: time it took.
        warnings: one line each; not reasons to refuse.
    """

    moving_from_fixed: Transform
    rigid: LinearTransform
    quality: RegistrationQuality
    refused: str | None
    local_tre_mm: float
    method: str
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "local_tre_mm": round(self.local_tre_mm, 3), "refused": self.refused,
                "quality": self.quality.to_dict(), "rigid_matrix_ras": self.rigid.matrix.tolist(),
                "warnings": list(self.warnings), "seconds": round(self.seconds, 2)}
