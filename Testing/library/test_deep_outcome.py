"""Deep columns in an outcome model: trained inside the folds, stored as numbers, refused without an image."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from deep_cases import lesion
from IRAILib.biopsy.outcome.matrix import Rows
from IRAILib.biopsy.outcome.model_file import load_model, save_model
from IRAILib.biopsy.outcome.pipeline import DEEP
from IRAILib.biopsy.outcome.predict import predict
from IRAILib.biopsy.outcome.record import Plan, Run
from IRAILib.biopsy.outcome.study import prepare
from IRAILib.biopsy.outcome.table import read_table
from IRAILib.biopsy.outcome.train import train
from IRAILib.geometry import InputError
from IRAILib.images import write_mask, write_volume

DEEP_PLAN = {"mode": "2.5d", "side_mm": 32.0, "pixels": 16, "epochs": 36, "mixup": 0.1, "inner_folds": 2}
QUICK = {"outer_folds": 2, "repeats": 1, "inner_folds": 2, "permutations": 0, "bootstraps": 50, "sensitivity": False}


def write_table(folder: Path, count: int = 60, seed: int = 0) -> Path:
    """Rim or core decides the class; age says nothing."""
    random = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        image, mask = lesion(n % 2, 100 * seed + n, side=32)
        write_volume(image, folder / f"image{seed}_{n}.nii.gz")
        write_mask(mask, folder / f"mask{seed}_{n}.nii.gz")
        rows.append({"patient": f"p{seed}_{n}", "age": f"{random.normal(60, 9):.1f}",
                     "response": "yes" if n % 2 else "no", "image": f"image{seed}_{n}.nii.gz",
                     "mask": f"mask{seed}_{n}.nii.gz"})
    path = folder / f"table{seed}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def plan(**changes) -> Plan:
    return Plan.from_dict({"target": "response", "patient": "patient", "baseline": ["age"], "deep": DEEP_PLAN, **QUICK,
                           **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("deep")
    return folder, train(read_table(write_table(folder)), plan())


def test_the_image_carries_what_age_does_not(trained: tuple[Path, Run]) -> None:
    _, run = trained
    assert run.scores["model"]["auc"]["estimate"] > 0.8
    assert run.scores["baseline"]["auc"]["estimate"] < 0.75
    assert run.final.pipeline.deep.names == ["deep_score"]
    roles = {column.name: column.role for column in run.columns}
    assert roles["image"] == roles["mask"] == "excluded"


def test_the_model_is_numbers_and_gives_the_same_answers(trained: tuple[Path, Run]) -> None:
    folder, run = trained
    save_model(run.final, folder / "model")
    document = json.loads((folder / "model" / "model.json").read_text())
    assert document["pipeline"]["deep"]["state"]["options"]["crop"]["mode"] == "2.5d"
    again = load_model(folder / "model")
    table = read_table(write_table(folder, 6, seed=1))
    one, two = predict(run.final, table, gate=False), predict(again, table, gate=False)
    assert [row.probability for row in one.rows] == [row.probability for row in two.rows]
    yes = [row.probability["yes"] for row in two.rows if row.probability]
    assert np.mean(yes[1::2]) > np.mean(yes[::2]) + 0.2
    assert "deep_score" in {reason.name for row in two.rows for reason in row.reasons}
    (folder / "image1_2.nii.gz").unlink()
    broken = predict(again, table, gate=False)
    assert broken.rows[2].refused
    assert "image1_2.nii.gz" in broken.rows[2].refusals[0]
    assert not broken.rows[3].refused


def test_no_network_sees_a_patient_that_it_scores(trained: tuple[Path, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """A spy on every training: crops of the outer test rows are in none of them."""
    from IRAILib.biopsy.deep import folds as module
    from IRAILib.biopsy.outcome.crossval import cross_validate, outer_folds
    from IRAILib.biopsy.outcome.pipeline import Recipe

    folder, _ = trained
    study = prepare(read_table(folder / "table0.csv"), plan())
    assert study.candidates == ("age", DEEP)
    seen: list[set[int]] = []
    real = module.train_network

    def spy(crops, *arguments, **options):
        seen.append({id(crop) for crop in crops})
        return real(crops, *arguments, **options)

    monkeypatch.setattr(module, "train_network", spy)
    (fold, _) = outer_folds(study)
    cross_validate(study, Recipe(study.plan, study.candidates, "linear"), [fold], "model")
    assert isinstance(study.rows, Rows)
    assert study.rows.crops is not None
    held_out = {id(study.rows.crops[n]) for n in fold.test}
    assert len(seen) == 3, "two inner folds and the whole training part"
    assert not any(one & held_out for one in seen)
    assert len(seen[0] | seen[1]) == len(fold.train)
    assert not seen[0] & seen[1]


def test_images_alone_and_what_is_missing(tmp_path: Path) -> None:
    path = write_table(tmp_path, 8)
    study = prepare(read_table(path), plan(baseline=[], exclude=["age"]))
    assert study.candidates == (DEEP,)
    with pytest.raises(InputError, match="column of images"):
        prepare(read_table(path), plan(deep={**DEEP_PLAN, "image": "scan"}))
    with pytest.raises(InputError, match="'colour' is not known"):
        prepare(read_table(path), plan(deep={"colour": 1}))
    (tmp_path / "mask0_3.nii.gz").unlink()
    with pytest.raises(InputError, match=r"data row 4: .*mask0_3"):
        prepare(read_table(path), plan())
