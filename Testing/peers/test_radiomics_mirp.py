"""The whole extraction beside mirp 2 (an independent IBSI engine) on images that neither was tuned on.

Sarcomas in CT, MR and PET (the IBSI-2 validation set's files) and liver metastases in CT, with settings that no IBSI
configuration uses: cubic interpolation, odd spacings, outlier limits, other bins. mirp only reads arrays here, so that
its spacing is handed over by replacing the method that makes it 1 mm.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from IRAILib.biopsy.radiomics import FAMILIES, Settings, extract
from IRAILib.images import read_mask, read_volume
from radiomics_mirp_peer import DIRECTED, DIRECTED_WAYS, PLAIN, mirp

pytest.importorskip("mirp")

DIRECTIONS = {way: "3D" if way.startswith("3d") else "2_5D" if way.startswith("2.5d") else "2D"
              for way in DIRECTED_WAYS}
STS = "registration/ibsi_validation_STS_0{}/{}"
CASES = {
    "CT, cubic 3.3 mm, range, bins of 15 HU": (
        STS.format("19", "CT"), 1, "ct", Settings(
            spacing_mm=3.3, interpolation="cubic", round_intensity=True, resegment=(-200.0, 300.0),
            discretisation=("fbs", 15), ivh_discretisation=("none",), intensity_unit="HU", aggregations=("3D",))),
    "MR, linear 3.7 mm, 2.5 sigma, 24 levels": (
        STS.format("25", "MR_T1"), 1, "mr", Settings(
            spacing_mm=3.7, outlier_sigma=2.5, discretisation=("fbn", 24), ivh_discretisation=("fbn", 500),
            aggregations=("3D",))),
    "MR, 2D cubic 2.3 mm, 40 levels, by slice": (
        STS.format("19", "MR_T1"), 1, "mr", Settings(
            spacing_mm=(2.3, 2.3), interpolation="cubic", discretisation=("fbn", 40),
            ivh_discretisation=("fbn", 300), aggregations=("2D", "2_5D"))),
    "PET, cubic 3 mm, bins of 0.4 from 0": (
        STS.format("25", "PET"), 1, "mr", Settings(
            spacing_mm=3.0, interpolation="cubic", resegment=(0.0, 25.0), discretisation=("fbs", 0.4),
            ivh_discretisation=("fbs", 0.15), aggregations=("3D_comb",))),
    "metastasis in CT, 2D interpolation, both limits": (
        "abdomen/lits117_patch", 2, "mr", Settings(
            spacing_mm=(1.7, 1.7), resegment=(0.0, 200.0), outlier_sigma=3.0,
            discretisation=("fbn", 20), ivh_discretisation=("fbn", 200), aggregations=("2D", "2_5D"))),
}
LOOSE = {"morph_vol_dens_mvee": 0.04, "morph_area_dens_mvee": 0.04}
"""No consensus exists for these, and mirp stops its ellipsoid before it holds every point. The oriented box is compared
by itself: mirp's search turns about the axes in turn and may miss the smallest, and its area density is that of the
volume. Ours are held to analytic truth in test_radiomics_core_shape.py."""
BOX = {"morph_vol_dens_ombb", "morph_area_dens_ombb"}


def scene(data, name: str, label: int):
    """Image and mask, cut to the neighbourhood of one lesion; even sizes keep both engines' grids the same."""
    if "lits" in name:
        image, mask = read_volume(data / f"{name}_ct.nrrd"), read_mask(data / f"{name}_label.nrrd", label=label)
        from scipy import ndimage

        parts, _ = ndimage.label(mask.array, np.ones((3, 3, 3), int))
        sizes = np.bincount(parts.ravel())
        wanted = int(np.flatnonzero((sizes > 600) & (sizes < 2500))[0])
        mask = mask.with_array(parts == wanted)
    else:
        image, mask = read_volume(data / f"{name}_image.nii.gz"), read_mask(data / f"{name}_mask.nii.gz")
    start, shape = mask.bounding_box_kji(35.0)
    return image.crop(start, shape), mask.crop(start, shape)


def of_mirp(image, mask, modality: str, settings: Settings, monkeypatch) -> dict[str, float]:
    """mirp's features under our keys."""
    program = mirp()
    from mirp._data_import.numpy_file import ImageNumpyFile

    def spacing(self, force=False):
        if self.image_spacing is None:
            self.image_spacing = tuple(float(s) for s in image.grid.spacing_kji_mm)

    monkeypatch.setattr(ImageNumpyFile, "_complete_image_spacing", spacing)
    kinds = {"fbn": "fixed_bin_number", "fbs": "fixed_bin_size", "none": "none"}
    kind, number = settings.discretisation[0], settings.discretisation[1]
    chosen = [way for way in DIRECTED_WAYS if any(a == next(k for k, v in DIRECTED.items() if v == their)
              or a == DIRECTIONS[way] for a in settings.aggregations
              for their in [list(DIRECTED.values())[DIRECTED_WAYS.index(way)]])]
    flat = sorted({DIRECTIONS[way].replace("_", ".").lower() for way in chosen})
    options = {f"{name}_spatial_method": chosen for name in ("glcm", "glrlm")}
    options |= {f"{name}_spatial_method": flat for name in ("glszm", "gldzm", "ngtdm", "ngldm")}
    options |= {"base_discretisation_n_bins": number} if kind == "fbn" else {"base_discretisation_bin_width": number}
    ivh = settings.ivh_discretisation or ("none",)
    options["ivh_discretisation_method"] = kinds[ivh[0]]
    options |= {"ivh_discretisation_n_bins": ivh[1]} if ivh[0] == "fbn" else {}
    options |= {"ivh_discretisation_bin_width": ivh[1]} if ivh[0] == "fbs" else {}
    if settings.spacing_mm is not None:
        order = {"nearest": 0, "linear": 1, "cubic": 3}[settings.interpolation]
        options |= {"new_spacing": float(settings.spacing_mm[-1]), "spline_order": order, "anti_aliasing": False}
    if settings.resegment is not None:
        options["resegmentation_intensity_range"] = [float(v) for v in settings.resegment if v is not None]
    if settings.outlier_sigma is not None:
        options["resegmentation_sigma"] = settings.outlier_sigma
    by_slice = settings.spacing_mm is not None and len(settings.spacing_mm) == 2
    table = program.extract_features(
        image=image.array.astype(float), mask=mask.array.astype(np.uint8), image_modality=modality,
        base_feature_families="all", base_discretisation_method=kinds[kind], no_approximation=True,
        ibsi_compliant=False, by_slice=by_slice, **options)
    found = {_our_key(name): value for name, value in table[0].iloc[0].items()}
    return {key: float(value) for key, value in found.items() if key is not None}


def _our_key(name: str) -> str | None:
    """Our key of a mirp column, None for what is no feature."""
    if name.split("_")[0] not in {family.prefix for family in FAMILIES.values()}:
        return None
    stem = re.sub(r"_fb[sn]_[wn][\d.]+$", "", name)
    prefix = stem.split("_")[0]
    ways = DIRECTED if prefix in ("cm", "rlm") else PLAIN
    for ours, theirs in sorted(ways.items(), key=lambda pair: -len(pair[1])):
        if stem.endswith(f"_{theirs}") and prefix in ("cm", "rlm", "szm", "dzm", "ngt", "ngl"):
            return re.sub(r"_d\d+(_a[\d.]+)?$", "", stem.removesuffix(f"_{theirs}")) + f"_{ours}"
    return stem


@pytest.mark.parametrize("case", CASES)
def test_whole_extraction(data, case, monkeypatch):
    name, label, modality, settings = CASES[case]
    image, mask = scene(data, name, label)
    ours = extract(image, mask, settings).values()
    theirs = of_mirp(image, mask, modality, settings, monkeypatch)
    shared = ours.keys() & theirs.keys()
    assert len(shared) >= 0.97 * len(ours), sorted(ours.keys() - theirs.keys())
    wrong = [f"{key}: {ours[key]!r}, mirp {theirs[key]!r}" for key in sorted(shared - BOX)
             if not math.isclose(ours[key], theirs[key], rel_tol=LOOSE.get(key, 1e-6), abs_tol=1e-9)]
    assert 0.999 < ours["morph_vol_dens_ombb"] / theirs["morph_vol_dens_ombb"] < 1.1
    assert not wrong, f"{len(wrong)} of {len(shared)}\n" + "\n".join(wrong)
