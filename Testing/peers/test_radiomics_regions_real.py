"""Shell, habitats and stability on a real liver full of metastases (LiTS 117), beside SimpleITK's distance map.

The file's voxel size is lost; 0.75 x 0.75 x 1 mm stands in, which no statement here depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from IRAILib.biopsy.radiomics import Settings
from IRAILib.biopsy.radiomics.habitats import habitat_features, habitats
from IRAILib.biopsy.radiomics.merge import region_features
from IRAILib.biopsy.radiomics.regions import shell, shell_name
from IRAILib.biopsy.radiomics.stability import stability
from IRAILib.geometry import Grid, Mask, Volume
from scipy import ndimage

pytestmark = pytest.mark.data
SPACING = (0.75, 0.75, 1.0)
SETTINGS = Settings(families=("morphology", "statistics"), intensity_unit="HU")


@dataclass
class Liver:
    image: Volume
    liver: Mask
    lesions: list[Mask]

    def others(self, lesion: Mask) -> Mask:
        return Mask(np.any([one.array for one in self.lesions if one is not lesion], axis=0), lesion.grid, "others")


@pytest.fixture(scope="module")
def liver(data: Path) -> Liver:
    paths = [data / "abdomen" / f"lits117_patch_{name}.nrrd" for name in ("ct", "label")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"{paths[0]} is missing")
    ct, label = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths)
    grid = Grid(ct.shape, np.diag([*SPACING, 1.0]))
    parts = np.asarray(ndimage.label(label == 2)[0])
    sizes = np.bincount(parts.ravel())
    lesions = [Mask(parts == n, grid, f"lesion {n}") for n in np.argsort(-sizes) if n > 0 and sizes[n] >= 300]
    return Liver(Volume(ct.astype(float), grid, "lits117"), Mask(label > 0, grid, "liver"), lesions)


def test_shell_of_a_metastasis_is_liver(liver: Liver) -> None:
    lesion = liver.lesions[2]
    others = liver.others(lesion)
    ring = shell(lesion, 5.0, within=liver.liver, exclude=others, intensity_range=(-50, 250), image=liver.image)
    assert not (ring.array & (lesion.array | others.array | ~liver.liver.array)).any()
    features = region_features(liver.image, {"lesion": lesion, shell_name(5): ring}, SETTINGS).values()
    healthy = liver.image.array[liver.liver.array & ~others.array & ~lesion.array & ~ring.array]
    lesion_hu, ring_hu = features["lesion__stat_mean"], features["shell_0_5mm__stat_mean"]
    assert abs(ring_hu - np.median(healthy)) < 0.5 * abs(lesion_hu - np.median(healthy))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_shell_beside_simpleitks_distance(liver: Liver, number: int) -> None:
    """Theirs is between voxels, so voxels within about a diagonal may differ; the volumes agree within 10 %."""
    lesion = liver.lesions[number]
    image = sitk.GetImageFromArray(lesion.array.astype(np.uint8))
    image.SetSpacing(SPACING)
    theirs = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True))
    for inner, outer in ((0.0, 5.0), (5.0, 10.0)):
        ours = shell(lesion, outer, inner)
        peer = (theirs > inner) & (theirs <= outer) & ~lesion.array
        assert ours.array.sum() == pytest.approx(peer.sum(), rel=0.1)
        differ = ours.array != peer
        off = np.minimum(np.abs(theirs - inner), np.abs(theirs - outer))[differ & (theirs > 0)]
        assert np.percentile(off, 99) < np.linalg.norm(SPACING)
        assert off.max() < 2.5


def test_habitats_of_a_metastasis_are_dark_core_and_bright_rest(liver: Liver) -> None:
    lesion = liver.lesions[0]
    found = habitats(liver.image, lesion, smooth_mm=1.0)
    assert 2 <= found.n <= 6
    assert (np.diff(found.means[:, 0]) > 5.0).all()
    values = {key: one.value for key, one in habitat_features(found).items()}
    assert sum(values[f"habitat{n}__fraction"] for n in range(1, found.n + 1)) == pytest.approx(1.0)
    assert found.means[0, 0] < np.median(liver.image.array[lesion.array]) < found.means[-1, 0]
    again = habitats(liver.image, lesion, smooth_mm=1.0)
    np.testing.assert_array_equal(again.labels, found.labels)
    # smoothing before makes parts of neighbours, not of single voxels
    rough = habitats(liver.image, lesion, n=found.n)
    changes = [np.count_nonzero(np.diff(one.labels.astype(int), axis=2)) for one in (found, rough)]
    assert changes[0] < changes[1]


def test_volume_of_real_lesions_is_stable_and_extremes_are_not(liver: Liver) -> None:
    chosen = [one for one in liver.lesions if 300 <= one.array.sum() <= 3000][:8]
    assert len(chosen) >= 6
    result = stability([liver.image] * len(chosen), chosen, SETTINGS, n=4)
    found = {key: one.icc["ICC(1,1)"].estimate for key, one in result.features.items()}
    assert found["morph_volume"] > 0.9
    assert "morph_volume" not in result.unstable(0.75)
    assert found["stat_min"] < found["stat_median"]
    assert 3.0 < result.noise_sd[0] < 30.0
