"""A simulated case in files: two scans, exact and reader's masks, the true motion and the truth in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..geometry import InputError, Mask, Volume
from ..images import replacing, write_dicom_series, write_mask, write_transform, write_volume
from ..images.dicom_write import SYNTHETIC_WORD, burn_word
from .cases import reader_mask
from .simulate import SimulatedCase

TRUTH_FILE = "truth.json"
LARGEST_READER_MM = 2.0
READER_ROUGH_MM = 0.5
ORGAN_ROUGH_MM = 0.8


def reader_masks(case: SimulatedCase) -> dict[str, Mask]:
    """Tumour, zone and organs as a reader would draw them: off by up to 2 mm, mostly too small, uneven.

    The amounts follow from the case's seed. Keys: tumor, ablation, organ_pre, organ_post.
    """
    rng = np.random.default_rng([case.spec.seed, 77])
    out = {}
    for name, mask in (("tumor", case.tumor), ("ablation", case.ablation)):
        shift, erode = rng.uniform(0.0, LARGEST_READER_MM), rng.uniform(-0.5, 1.0) * LARGEST_READER_MM
        out[name] = reader_mask(mask, rng, shift, min(erode, 0.35 * case.spec.tumor_radius_mm), READER_ROUGH_MM)
    for name, mask in (("organ_pre", case.organ_pre), ("organ_post", case.organ_post)):
        out[name] = reader_mask(mask, rng, 0.0, rng.uniform(-0.5, 1.0), ORGAN_ROUGH_MM)
    return out


def write_case(case: SimulatedCase, folder: str | Path, *, kind: str = "dicom") -> Path:
    """Everything of a case in a folder that appears whole or not at all.

    Args:
        folder: new, empty, or an earlier case (which is replaced).
        kind: "dicom" writes the scans as series in `pre` and `post`, "nii.gz" or "nrrd" as files; masks are
            `tumor`, `ablation`, `organ_pre`, `organ_post`, each also with `_reader`, as .nii.gz or .nrrd.
    Returns: the folder. `truth.h5` maps post to pre, as a viewer needs it to show the pre scan over the post scan.
    Raises InputError: the folder holds something else, or can't be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / TRUTH_FILE).is_file())):
        raise InputError(f"{folder}: holds other files; choose an empty folder")
    if kind not in ("dicom", "nii.gz", "nrrd"):
        raise InputError(f"{kind}: scans can be written as dicom, nii.gz or nrrd")
    suffix = "nii.gz" if kind == "dicom" else kind
    readers = reader_masks(case)
    with replacing(folder) as temporary:
        temporary.mkdir()
        _write_scans(case, temporary, kind)
        exact = {"tumor": case.tumor, "ablation": case.ablation, "organ_pre": case.organ_pre,
                 "organ_post": case.organ_post}
        for name, mask in exact.items():
            write_mask(mask, temporary / f"{name}.{suffix}")
            write_mask(readers[name], temporary / f"{name}_reader.{suffix}")
        write_transform(case.pre_from_post, temporary / "truth.h5")
        (temporary / TRUTH_FILE).write_text(json.dumps(case.to_dict(), indent=2) + "\n", encoding="utf-8")
    return folder


def _write_scans(case: SimulatedCase, folder: Path, kind: str) -> None:
    if kind != "dicom":
        for name, scan in (("pre", case.pre), ("post", case.post)):
            write_volume(_marked(scan), folder / f"{name}.{kind}")
        return
    from pydicom.uid import generate_uid

    study = generate_uid()
    for number, (name, scan) in enumerate((("pre", case.pre), ("post", case.post)), start=1):
        write_dicom_series(scan, folder / name, description=f"Synthetic {name}-ablation, {scan.metadata['phase']}",
                           patient_id=f"SYN{case.spec.seed}", patient_name=f"Synthetic^Case {case.spec.seed}",
                           study_uid=study, frame_of_reference=generate_uid(), series_number=number, synthetic=True)


def _marked(scan: Volume) -> Volume:
    return scan.with_array(burn_word(scan.array, SYNTHETIC_WORD))
