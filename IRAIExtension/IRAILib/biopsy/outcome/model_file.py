"""A model as files that a person can read: model.json, and weights.npz where there are many numbers. No pickle.

The hashes find damage and carelessness, part by part; they are no signature: who can write the folder can write new
hashes. Compare the folder's `sha256` with the one published beside the report.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...geometry import InputError
from ...images.atomic import replacing
from .evaluate.conformal import ConformalClassifier
from .evaluate.conformal_survival import ConformalSurvival
from .evaluate.similarity import Similarity
from .fitted import FittedModel, coefficients_of
from .pipeline import MODELS, TRANSFORMERS, Pipeline
from .preprocess import Encoder
from .record import NO_FRAME, plain

FORMAT, VERSION = "irai outcome model", 1
MODEL_FILE, WEIGHTS_FILE = "model.json", "weights.npz"
MAX_JSON_BYTES, MAX_WEIGHT_BYTES = 64 * 2**20, 512 * 2**20
INLINE = 500
CONFORMAL: dict[str, Any] = {"ConformalClassifier": ConformalClassifier, "ConformalSurvival": ConformalSurvival}
_PLAIN = ("kind", "target", "time", "time_unit", "site", "patient", "columns", "alpha", "summary", "intended_use",
          "licence", "versions", "images")
_WRONG = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


def save_model(model: FittedModel, folder: str | Path) -> str:
    """Writes folder/model.json (and weights.npz where a part holds more than 500 numbers); returns its sha256.

    Nothing of a patient is written: coefficients, thresholds, quantiles and steps of the baseline hazard only.
    Raises InputError when the place can't be written to.
    """
    folder = Path(folder)
    arrays: dict[str, np.ndarray] = {}
    made = model.pipeline
    document: dict[str, Any] = {"format": FORMAT, "format_version": VERSION, "frame": NO_FRAME}
    document |= {name: plain(getattr(model, name)) for name in _PLAIN}
    document["classes"] = list(model.classes)
    document["horizons"], document["curve_times"] = model.horizons.tolist(), model.curve_times.tolist()
    document["pipeline"] = {
        "columns": list(made.columns), "settings": plain(made.settings), "deep": _deep(made.deep, arrays),
        "encoder": _apart(made.encoder.state(), arrays),
        "chain": [{"kind": step.kind, "state": _apart(step.state(), arrays)} for step in made.chain],
        "model": {"type": type(made.model).__name__, "explained": made.model.explained,
                  "state": _apart(made.model.state(), arrays)}}
    document["coefficients"] = plain(coefficients_of(made))
    document["conformal"] = None if model.conformal is None else {
        "type": type(model.conformal).__name__} | _apart(model.conformal.to_dict(), arrays)
    document["similarity"] = None if model.similarity is None else _apart(model.similarity.to_dict(), arrays)
    document["weights"] = None
    if arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        data = buffer.getvalue()
        document["weights"] = {
            "file": WEIGHTS_FILE, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
            "arrays": {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}}
        with replacing(folder / WEIGHTS_FILE) as temporary:
            temporary.write_bytes(data)
    document["hashes"] = {part: _hash(value) for part, value in document.items()}
    document["sha256"] = _hash(document["hashes"])
    with replacing(folder / MODEL_FILE) as temporary:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    if not arrays and (folder / WEIGHTS_FILE).is_file():
        (folder / WEIGHTS_FILE).unlink()
    return document["sha256"]


def load_model(folder: str | Path, backbone: str | Path | None = None) -> FittedModel:
    """The model of a folder written by save_model; nothing is ever unpickled, sizes are checked before they are read.

    backbone: folder of the public network that the model's deep columns need, where they need one.
    Raises InputError: no model.json, damaged or changed (the changed part is named), made by a newer version, weights
    missing, changed, of other shapes or larger than 512 MB, a kind of model that is not known.
    """
    folder = Path(folder)
    document = read_document(folder)
    where = folder / MODEL_FILE
    arrays = _read_weights(folder, document.get("weights"))
    try:
        model = _built(document, arrays, _backbone(backbone))
        _tried(model)
    except _WRONG as error:
        raise InputError(f"{where}: its parts don't fit together ({error}); train the model again") from error
    return model


def read_document(folder: str | Path) -> dict[str, Any]:
    """model.json as it stands, its hashes checked. Raises InputError as load_model."""
    path = Path(folder) / MODEL_FILE
    if not path.is_file():
        raise InputError(f"{folder}: holds no {MODEL_FILE}; give the folder that training wrote")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MB; this is no model of this program")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error}); take it anew from its source") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"{path}: no outcome model of this program")
    version = document.get("format_version")
    if version != VERSION:
        raise InputError(f"{path}: format version {version}, this program reads {VERSION}; update the program")
    hashes = document.get("hashes")
    if not isinstance(hashes, dict):
        raise InputError(f"{path}: its hashes are missing; take it anew from its source")
    for part in [*document, *hashes]:
        if part not in ("hashes", "sha256") and (part not in document or hashes.get(part) != _hash(document[part])):
            raise InputError(f"{path}: the part '{part}' was changed after training; take it anew from its source")
    if document.get("sha256") != _hash(hashes):
        raise InputError(f"{path}: its hashes were changed after training; take it anew from its source")
    return document


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _deep(deep: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """The networks of deep columns: their settings, their weights as arrays."""
    if deep is None:
        return None
    stated, weights = deep.state()
    return {"state": plain(stated), "arrays": _apart(weights, arrays)}


def _apart(state: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The state JSON-ready; more than 500 numbers in a row go to the arrays and leave {"array": name}."""
    if isinstance(state, Mapping):
        return {str(key): _apart(value, arrays) for key, value in state.items()}
    if isinstance(state, np.ndarray) and state.size > INLINE and state.dtype.kind in "fi":
        name = f"a{len(arrays)}"
        arrays[name] = state.astype("<f8" if state.dtype.kind == "f" else "<i8")
        return {"array": name}
    if isinstance(state, list) and len(state) > 20 and _is_grid(state):
        return _apart(np.asarray(state, float), arrays) if np.size(state) > INLINE else state
    if isinstance(state, list | tuple):
        return [_apart(value, arrays) for value in state]
    return plain(state)


def _is_grid(state: list) -> bool:
    if all(isinstance(value, float) for value in state):
        return True
    return all(isinstance(row, list) and len(row) == len(state[0]) and all(isinstance(v, float) for v in row)
               for row in state)


def _together(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"array"}:
            return arrays[value["array"]]
        return {key: _together(item, arrays) for key, item in value.items()}
    return [_together(item, arrays) for item in value] if isinstance(value, list) else value


def _read_weights(folder: Path, weights: Any) -> dict[str, np.ndarray]:
    if weights is None:
        return {}
    path = folder / WEIGHTS_FILE
    try:
        declared = {str(name): (tuple(int(n) for n in item["shape"]), np.dtype(item["dtype"]))
                    for name, item in weights["arrays"].items()}
        named, size, digest = weights["file"], int(weights["bytes"]), weights["sha256"]
    except _WRONG as error:
        raise InputError(f"{folder / MODEL_FILE}: what it says of the weights can't be read ({error})") from error
    total = sum(float(np.prod(shape, dtype=float)) * kind.itemsize for shape, kind in declared.values())
    if total > MAX_WEIGHT_BYTES or any(kind.kind not in "fi" or min(shape, default=0) < 0
                                       for shape, kind in declared.values()):
        raise InputError(f"{path}: arrays of {total / 2**20:.0f} MB or of a kind that is not numbers are refused")
    if named != WEIGHTS_FILE or path.is_symlink() or not path.is_file():
        raise InputError(f"{folder}: {WEIGHTS_FILE} is missing or lies elsewhere ('{named}'); copy the whole folder")
    if path.stat().st_size != size or size > MAX_WEIGHT_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, {MODEL_FILE} says {size}; take it anew from its source")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(f"{path}: a byte was changed after training (sha256 differs); take it anew from its source")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in declared):
                raise ValueError("it holds other arrays than model.json names")
            return {name: _array(archive, name, *declared[name]) for name in declared}
    except (zipfile.BadZipFile, OSError, EOFError, *_WRONG) as error:
        raise InputError(f"{path}: can't be read ({error}); take it anew from its source") from error


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """One array; its header must say what model.json says before its numbers are read."""
    info = archive.getinfo(f"{name}.npy")
    wanted = int(np.prod(shape, dtype=float)) * kind.itemsize
    if info.file_size > wanted + 1024:
        raise ValueError(f"array {name} is larger than declared")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found, fortran, dtype = read(file)
        if found != shape or dtype != kind or dtype.hasobject:
            raise ValueError(f"array {name} is {found} {dtype}, declared {shape} {kind}")
        numbers = np.frombuffer(file.read(wanted), dtype=dtype)
    return numbers.reshape(shape, order="F" if fortran else "C").copy()


def _backbone(folder: str | Path | None) -> Any:
    if folder is None:
        return None
    from ..deep import load_backbone

    return load_backbone(folder)


def _built(document: dict[str, Any], arrays: Mapping[str, np.ndarray], backbone: Any = None) -> FittedModel:
    part = document["pipeline"]
    chain = []
    for step in part["chain"]:
        if step["kind"] not in TRANSFORMERS:
            raise ValueError(f"the transformer '{step['kind']}' is not known")
        chain.append(TRANSFORMERS[step["kind"]].from_state(_together(step["state"], arrays)))
    if part["model"]["type"] not in MODELS:
        raise ValueError(f"the model '{part['model']['type']}' is not known")
    model = MODELS[part["model"]["type"]].from_state(_together(part["model"]["state"], arrays))
    pipeline = Pipeline(Encoder.from_state(_together(part["encoder"], arrays)), chain, model, tuple(part["columns"]),
                        dict(part["settings"]), _deep_columns(part.get("deep"), arrays, backbone))
    conformal, similarity = None, None
    if document["conformal"] is not None:
        stated = dict(document["conformal"])
        conformal = CONFORMAL[stated.pop("type")].from_dict(_together(stated, arrays))
    if document["similarity"] is not None:
        similarity = Similarity.from_dict(_together(document["similarity"], arrays))
    return FittedModel(pipeline, classes=tuple(document["classes"]), conformal=conformal, similarity=similarity,
                       horizons=np.asarray(document["horizons"], float),
                       curve_times=np.asarray(document["curve_times"], float),
                       **{name: document[name] for name in _PLAIN if name in document})


def _deep_columns(part: dict[str, Any] | None, arrays: Mapping[str, np.ndarray], backbone: Any) -> Any:
    if part is None:
        return None
    from ..deep import DeepColumns

    weights = {name: np.asarray(value) for name, value in _together(part["arrays"], arrays).items()}
    return DeepColumns.from_state(part["state"], weights, backbone)


def _tried(model: FittedModel) -> None:
    """One made-up row goes through: shapes that don't fit show here, not at a patient."""
    from .predict import empty_rows

    with np.errstate(all="ignore"):
        found = model.pipeline.predict(empty_rows(model), model.horizons)
        values = model.pipeline.matrix(empty_rows(model)).values
        model.pipeline.model.contributions(values)
    if values.shape[1] != len(model.pipeline.model.weights()):
        raise ValueError("the columns and the weights differ in number")
    numbers = [value for value in vars(found).values() if value is not None]
    if not numbers or not all(np.isfinite(value).all() for value in numbers):
        raise ValueError("a prediction is not a number")
    if found.probability is not None and found.probability.shape[1] != len(model.classes):
        raise ValueError("the classes and the weights differ")
