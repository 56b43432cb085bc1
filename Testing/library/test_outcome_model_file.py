"""The model's folder: plain, complete, hostile to change; and its use on new rows."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import outcome_cases as cases
import pytest
from IRAILib.biopsy.outcome import Plan, Run, Table, train
from IRAILib.biopsy.outcome.model_file import MODEL_FILE, WEIGHTS_FILE, _hash, load_model, save_model
from IRAILib.biopsy.outcome.models import boosting
from IRAILib.biopsy.outcome.predict import predict
from IRAILib.geometry import CancelledError, InputError, RefusedError

QUICK = {"patient": "patient", "repeats": 1, "permutations": 0, "bootstraps": 30, "sensitivity": False,
         "inner_folds": 2, "outer_folds": 3}


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    columns = cases.class_columns(80, 11)
    columns["size (mm)"] = [20.0 + 5 * value for value in columns["morph_a"]]
    columns["lab_grade"] = ["A" if value > 0 else "B" for value in columns["lab_a"]]
    del columns["morph_a"]
    survival = cases.survival_columns(80, 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boosting, "ROUNDS", (200,))
        boosted = train(cases.table(columns), Plan("label", models=("boosting",), **QUICK))
    return {"linear": train(cases.table(columns), Plan("label", **QUICK)), "boosting": boosted,
            "cox": train(cases.table(survival), Plan("died", time="months", time_unit="months", **QUICK))}


def table_of(run: Run) -> Table:
    if run.plan.time is None:
        columns = cases.class_columns(80, 11)
        columns["size (mm)"] = [20.0 + 5 * value for value in columns["morph_a"]]
        columns["lab_grade"] = ["A" if value > 0 else "B" for value in columns["lab_a"]]
        return cases.table(columns)
    return cases.table(cases.survival_columns(80, 12))


@pytest.mark.parametrize("name", ["linear", "boosting", "cox"])
def test_the_saved_model_predicts_as_the_trained_one(runs: dict[str, Run], tmp_path: Path, name: str) -> None:
    run = runs[name]
    assert run.final is not None
    digest = save_model(run.final, tmp_path)
    loaded, table = load_model(tmp_path), table_of(run)
    before, after = predict(run.final, table, gate=False), predict(loaded, table, gate=False)
    assert [row.to_dict() for row in before.rows] == [row.to_dict() for row in after.rows]
    assert after.n_refused == 0
    assert json.loads((tmp_path / MODEL_FILE).read_text())["sha256"] == digest == save_model(loaded, tmp_path / "b")
    assert (tmp_path / WEIGHTS_FILE).is_file() == (name == "boosting")
    text = (tmp_path / MODEL_FILE).read_text()
    assert not any(patient in text for patient in cases.patients(80))
    json.dumps(after.to_dict(), allow_nan=False)


def test_contributions_add_up_to_the_log_odds(runs: dict[str, Run]) -> None:
    model = runs["linear"].final
    assert model is not None
    found = predict(model, table_of(runs["linear"]), gate=False)
    intercept = float(model.pipeline.model.intercepts[0])
    for row in found.rows:
        assert row.probability is not None
        chance = row.probability["yes"]
        assert sum(reason.contribution for reason in row.reasons) + intercept == pytest.approx(
            np.log(chance / (1 - chance)), abs=1e-6)
    assert (found.scale, found.explained) == ("log odds", "exact")


def test_one_changed_byte_is_named(runs: dict[str, Run], tmp_path: Path) -> None:
    assert runs["boosting"].final is not None
    save_model(runs["boosting"].final, tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    whole = weights.read_bytes()
    weights.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(InputError, match=r"weights\.npz: a byte was changed"):
        load_model(tmp_path)
    weights.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"bytes, model\.json says"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match="missing"):
        load_model(tmp_path)


@pytest.mark.parametrize(("old", "new", "part"), [
    ('"kind": "binary"', '"kind": "binarx"', "kind"), ('"alpha": 0.1', '"alpha": 0.2', "alpha"),
    ('"intended_use": ""', '"intended_use": "all"', "intended_use"), ('"mean"', '"meam"', "pipeline")])
def test_a_changed_part_is_named(runs: dict[str, Run], tmp_path: Path, old: str, new: str, part: str) -> None:
    assert runs["linear"].final is not None
    save_model(runs["linear"].final, tmp_path)
    path = tmp_path / MODEL_FILE
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=f"'{part}' was changed"):
        load_model(tmp_path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="damaged"):
        load_model(tmp_path)
    with pytest.raises(InputError, match=r"holds no model\.json"):
        load_model(tmp_path / "elsewhere")


def signed(document: dict) -> str:
    """The document with fresh hashes, as somebody who can write would make them."""
    parts = {name: value for name, value in document.items() if name not in ("hashes", "sha256")}
    hashes = {name: _hash(value) for name, value in parts.items()}
    return json.dumps(parts | {"hashes": hashes, "sha256": _hash(hashes)})


def test_hostile_folders_with_right_hashes_are_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    assert runs["boosting"].final is not None
    save_model(runs["boosting"].final, tmp_path)
    path, good = tmp_path / MODEL_FILE, json.loads((tmp_path / MODEL_FILE).read_text())

    def broken(change: object) -> dict:
        document = json.loads(json.dumps(good))
        change(document)  # type: ignore[operator]
        return document

    def payload(data: bytes) -> None:
        (tmp_path / WEIGHTS_FILE).write_bytes(data)
        good["weights"] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    changes = [
        ("lies elsewhere", lambda d: d["weights"].update(file="../secret.npz")),
        ("of a kind that is not numbers", lambda d: d["weights"]["arrays"]["a0"].update(shape=[10**6, 10**6])),
        ("of a kind that is not numbers", lambda d: d["weights"]["arrays"]["a0"].update(dtype="O")),
        ("can't be read", lambda d: d["weights"]["arrays"]["a0"].update(shape=[3])),
        ("not known", lambda d: d["pipeline"]["model"].update(type="os.system")),
        ("don't fit together", lambda d: d["pipeline"]["encoder"]["numbers"].pop()),
        ("don't fit together", lambda d: d["pipeline"].pop("encoder")),
        ("format version", lambda d: d.update(format_version=99)), ("no outcome model", lambda d: d.update(format="x"))]
    for message, change in changes:
        path.write_text(signed(broken(change)))
        with pytest.raises(InputError, match=message):
            load_model(tmp_path)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in good["weights"]["arrays"]:
            archive.writestr(f"{name}.npy", b"\x93NUMPY" + bytes(50_000_000))
    payload(bomb.getvalue())
    path.write_text(signed(good))
    with pytest.raises(InputError, match="larger than declared"):
        load_model(tmp_path)
    pickled = io.BytesIO()
    np.savez(pickled, **{name: np.array([{"a": 1}], object) for name in good["weights"]["arrays"]})
    payload(pickled.getvalue())
    path.write_text(signed(good))
    with pytest.raises(InputError, match="can't be read"):
        load_model(tmp_path)


def test_rows_that_cannot_be_answered_are_refused_with_the_reason(runs: dict[str, Run]) -> None:
    model = runs["linear"].final
    assert model is not None
    table = table_of(runs["linear"])
    columns = {name: table.text[name][:5].tolist() for name in table.names if name not in ("label", "morph_a")}
    assert predict(model, Table.from_columns(columns)).n_refused == 0
    assert [row.patient for row in predict(model, Table.from_columns(columns)).rows][:2] == ["P0000", "P0001"]

    def refusals(**change: list) -> list[str]:
        found = predict(model, Table.from_columns({**columns, **change}))
        return [" / ".join(row.refusals) for row in found.rows]
    far = columns["size (mm)"][:4] + ["900"]
    assert ["outside the training cohort" in text for text in refusals(**{"size (mm)": far})] == [False] * 4 + [True]
    words = refusals(**{"size (mm)": columns["size (mm)"][:4] + ["large"]})
    assert "'large', which is no number" in words[4]
    if next(c for c in model.columns if c["name"] == "lab_grade")["needed"]:
        assert "never seen" in refusals(lab_grade=["A", "B", "A", "B", "Q"])[4]
    limit = predict(model, Table.from_columns({**columns, "size (mm)": [*columns["size (mm)"][:4], "<18"]}))
    assert limit.n_refused == 0
    assert any("size (mm)" in said and "limit" in said for said in limit.warnings)
    renamed = {("size (cm)" if name == "size (mm)" else name): cells for name, cells in columns.items()}
    assert all("another unit" in row.refusals[0] for row in predict(model, Table.from_columns(renamed)).rows)
    del renamed["size (cm)"]
    gone = predict(model, Table.from_columns(renamed))
    assert gone.n_refused == 5
    assert gone.rows[0].probability is None
    assert "column 'size (mm)' is missing" in gone.rows[0].refusals[0]


def test_survival_predictions_carry_curves_and_bounds(runs: dict[str, Run]) -> None:
    model = runs["cox"].final
    assert model is not None
    found = predict(model, table_of(runs["cox"]), gate=False)
    assert found.time_unit == "months"
    for row in found.rows:
        assert row.survival is not None
        assert list(row.survival.values()) == sorted(row.survival.values(), reverse=True)
        assert row.conformal is not None
    risk = np.array([row.risk for row in found.rows], float)
    early = [next(iter(row.survival.values())) for row in found.rows if row.survival]
    assert np.corrcoef(risk, early)[0, 1] < -0.8


def test_a_run_is_the_same_twice_and_survives_json(runs: dict[str, Run]) -> None:
    again = train(table_of(runs["cox"]), runs["cox"].plan)
    assert again.to_dict() == runs["cox"].to_dict()
    text = json.dumps(again.to_dict(), allow_nan=False)
    back = Run.from_dict(json.loads(text))
    assert back.to_dict() == json.loads(text)
    assert not any(patient in json.dumps(again.to_dict(rows=False)) for patient in cases.patients(80))


def test_too_few_events_are_refused_and_cancel_ends_the_run() -> None:
    columns = cases.class_columns(40, 1)
    columns["label"] = ["yes" if n < 6 else "no" for n in range(40)]
    with pytest.raises(RefusedError, match="too few"):
        train(cases.table(columns), Plan("label", **QUICK))
    calls: list[float] = []

    def progress(fraction: float, text: str) -> None:
        calls.append(fraction)
    with pytest.raises(CancelledError):
        train(cases.table(cases.class_columns(60, 1)), Plan("label", **QUICK), progress=progress,
              cancelled=lambda: len(calls) > 3)
    assert calls == sorted(calls)
    assert 3 < len(calls) < 8


def test_unknown_parts_of_a_plan_are_named() -> None:
    with pytest.raises(InputError, match="do you mean 'repeats'"):
        Plan.from_dict({"target": "y", "repeat": 3})
    for wrong in ({"kind": "regression"}, {"outer_folds": 1}, {"models": ("svm",)}, {"coverage": 2},
                  {"horizons": (-1,)}):
        with pytest.raises(InputError, match="plan"):
            Plan.from_dict({"target": "y", **wrong})
