"""What was asked (Plan), what was predicted without having been seen (HeldOut) and what came out (Run)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ...geometry import InputError

if TYPE_CHECKING:
    from .fitted import FittedModel

KINDS = ("auto", "binary", "multiclass", "survival", "competing")
MODELS = ("linear", "boosting", "forest")
NO_FRAME = "none: the rows of a table have no frame"
_CHOICES = {"kind": KINDS, "validation": ("patient", "site"), "imputation": ("median", "chained"),
            "harmonise": ("none", "combat"), "selection": ("none", "univariate", "stability", "elastic-net"),
            "balance": ("none", "weights", "smote"), "unseen_site": ("refuse", "unharmonised")}
_AT_LEAST = {"outer_folds": 2, "repeats": 1, "inner_folds": 2, "permutations": 0, "bootstraps": 0, "learning_curve": 0,
             "seed": 0, "max_features": 1}


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run; the same plan, table and version give the same run.

    target is the class, or the event indicator when `time` is given. `event` names the value of the target that
    counts (the positive class; the event of interest), `censored` the value that means "no event seen".
    roles overrides the role of a column (see roles.ROLES), groups its group (see roles.GROUPS).
    allow keeps a column that looks like a leak; the report says so. baseline names the columns of the clinical
    baseline (none: columns of the clinical and score groups, see train). max_features bounds the candidates that a
    model may use (None: events / events_per_variable). permutations, bootstraps, learning_curve: 0 leaves them out.
    deep: columns from images by a network trained inside each fold, see biopsy.deep.source.DEFAULTS; {} takes the
    defaults, None leaves them out.
    """

    target: str
    time: str | None = None
    patient: str | None = None
    site: str | None = None
    kind: str = "auto"
    event: str | None = None
    censored: str | None = None
    time_unit: str = ""
    horizons: tuple[float, ...] = ()
    exclude: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    baseline: tuple[str, ...] = ()
    models: tuple[str, ...] = ("linear",)
    validation: str = "patient"
    outer_folds: int = 5
    repeats: int = 3
    inner_folds: int = 4
    imputation: str = "median"
    power_transform: bool = False
    harmonise: str = "none"
    unseen_site: str = "refuse"
    max_correlation: float = 0.95
    selection: str = "none"
    max_features: int | None = None
    events_per_variable: float = 5.0
    balance: str = "none"
    sensitivity: bool = True
    permutations: int = 20
    bootstraps: int = 1000
    learning_curve: int = 0
    coverage: float = 0.9
    seed: int = 0
    deep: dict[str, Any] | None = None
    intended_use: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("horizons", "exclude", "allow", "baseline", "models"):
                object.__setattr__(self, item.name, (value,) if isinstance(value, str) else tuple(value))
            if item.name in _CHOICES and value not in _CHOICES[item.name]:
                raise InputError(f"plan: {item.name} '{value}' is not known; choose {', '.join(_CHOICES[item.name])}")
            if item.name in _AT_LEAST and value is not None and int(value) < _AT_LEAST[item.name]:
                raise InputError(f"plan: {item.name} must be at least {_AT_LEAST[item.name]}, not {value}")
        if not self.target:
            raise InputError("plan: no target; name the column that holds the outcome")
        wrong = [name for name in self.models if name not in MODELS]
        if wrong or not self.models:
            raise InputError(f"plan: model '{', '.join(wrong)}' is not known; choose {', '.join(MODELS)}")
        if not 0.5 <= self.coverage < 1 or not 0 < self.max_correlation <= 1 or self.events_per_variable <= 0:
            raise InputError("plan: coverage is 0.5 to 1, max_correlation 0 to 1, events_per_variable above 0")
        if not all(np.isfinite(h) and h > 0 for h in self.horizons):
            raise InputError("plan: a horizon is a time above 0, in the unit of the time column")

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Raises InputError: an unknown key (the near one is named), no target, a value out of range."""
        known = {item.name for item in fields(cls)}
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                raise InputError(f"plan: '{key}' is not known" + (f"; do you mean '{near[0]}'?" if near else ""))
        if "target" not in values:
            raise InputError("plan: no target; name the column that holds the outcome")
        try:
            return cls(**dict(values))
        except (TypeError, ValueError) as error:
            raise InputError(f"plan: a value is of the wrong kind ({error})") from error


@dataclass(frozen=True)
class Column:
    """One column of the table and what became of it. role and group: see roles; used: it reached the models."""

    name: str
    role: str
    group: str
    kind: str
    unit: str = ""
    missing: float = 0.0
    used: bool = False
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Leak:
    """A column (or patient) that tells what it shouldn't. action: "dropped", "kept" (allowed), "warned", "refused"."""

    column: str
    kind: str
    evidence: str
    value: float | None
    action: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class HeldOut:
    """Predictions for rows that the predicting fit never saw: m = rows x repeats, long form.

    name: "model", "baseline", "null", or a part of the sensitivity analysis ("without imaging", "only clinical").
    row (m,) int of the table; patient (m,) str; site (m,) str or None; repeat, fold (m,) int.
    truth (m,) int: index into classes; classes[0] is "no event" for survival and competing risks (0 censored).
    time (m,) in the plan's time unit, or None. probability (m, C) for classes. For survival: risk (m,) larger is
    worse (comparable between folds), survival (m, T) at horizons (T,); for competing risks `incidence` (m, T) is the
    cumulative incidence of the event of interest (truth == 1) and risk its value at the last horizon.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    row: np.ndarray
    patient: np.ndarray
    repeat: np.ndarray
    fold: np.ndarray
    truth: np.ndarray
    time: np.ndarray | None = None
    site: np.ndarray | None = None
    probability: np.ndarray | None = None
    risk: np.ndarray | None = None
    horizons: np.ndarray | None = None
    survival: np.ndarray | None = None
    incidence: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.row)

    @property
    def n_patients(self) -> int:
        return len(set(self.patient.tolist()))

    def take(self, keep: np.ndarray) -> HeldOut:
        """The rows where keep (m,) bool is True, or those of an index array."""
        changed = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in _ROW_ARRAYS:
            if changed[name] is not None:
                changed[name] = changed[name][keep]
        return HeldOut(**changed)

    def of_repeat(self, repeat: int) -> HeldOut:
        """One repeat: each row at most once."""
        return self.take(self.repeat == repeat)

    def averaged(self) -> HeldOut:
        """Each row once: predictions averaged over the repeats; repeat 0, fold of the first repeat."""
        rows, first, back = np.unique(self.row, return_index=True, return_inverse=True)
        count = np.bincount(back, minlength=len(rows)).astype(float)
        once = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in _ROW_ARRAYS:
            values = once[name]
            if values is None:
                continue
            if name in _PREDICTED:
                total = np.zeros((len(rows), *values.shape[1:]))
                np.add.at(total, back, values)
                once[name] = total / count.reshape(-1, *[1] * (values.ndim - 1))
            else:
                once[name] = values[first]
        once["repeat"] = np.zeros(len(rows), int)
        return HeldOut(**once)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a number that is not finite is null."""
        return {item.name: plain(getattr(self, item.name)) for item in fields(self)} | {"frame": NO_FRAME}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeldOut:
        made: dict[str, Any] = {}
        for item in fields(cls):
            value = values.get(item.name)
            if item.name in ("classes", "columns"):
                value = tuple(value or ())
            elif item.name in ("row", "repeat", "fold", "truth"):
                value = np.asarray(value, int)
            elif item.name in ("patient", "site"):
                value = None if value is None else np.asarray(value, str)
            elif item.name not in ("name", "kind"):
                value = None if value is None else np.asarray(value, float)
            made[item.name] = value
        return cls(**made)


_PREDICTED = ("probability", "risk", "survival", "incidence")
_ROW_ARRAYS = ("row", "patient", "repeat", "fold", "truth", "time", "site", *_PREDICTED)


@dataclass
class Run:
    """One training run.

    summary: n_rows, n_patients, n_events (per class), classes, horizons, primary_metric, events_rule, sample_size, ...
    scores[name][metric] and differences["model - baseline"][metric]: {"estimate", "low", "high", "n", "method"} over
    held-out rows, patients resampled. sensitivity: list of {"name", "columns", metric interval}. permutation:
    {"metric", "observed", "null" list, "p", "n"} or None. choices: what each outer fold chose (parameters, columns).
    selected[column]: share of the outer folds in which it carried weight. final: the FittedModel refitted on all rows
    (save with model_file.save_model; not part of to_dict).
    """

    plan: Plan
    summary: dict[str, Any]
    columns: list[Column]
    leaks: list[Leak]
    warnings: list[str]
    held_out: dict[str, HeldOut]
    scores: dict[str, dict[str, dict[str, Any]]]
    differences: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    sensitivity: list[dict[str, Any]] = field(default_factory=list)
    permutation: dict[str, Any] | None = None
    learning_curve: list[dict[str, Any]] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    selected: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    final: FittedModel | None = None

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """JSON-ready. rows=False leaves out the held-out predictions, which name patients."""
        made = {item.name: plain(getattr(self, item.name)) for item in fields(self)
                if item.name not in ("final", "held_out", "plan", "columns", "leaks")}
        made |= {"plan": self.plan.to_dict(), "columns": [column.to_dict() for column in self.columns],
                 "leaks": [plain(leak.to_dict()) for leak in self.leaks], "frame": NO_FRAME}
        if rows:
            made["held_out"] = {name: held.to_dict() for name, held in self.held_out.items()}
        return made

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Run:
        """Back from to_dict(); `final` is None (it lives in the model's folder)."""
        made = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        made["plan"] = Plan.from_dict(values["plan"])
        made["columns"] = [Column(**item) for item in values["columns"]]
        made["leaks"] = [Leak(**item) for item in values["leaks"]]
        made["held_out"] = {name: HeldOut.from_dict(item) for name, item in values.get("held_out", {}).items()}
        return cls(**made)


def plain(value: Any) -> Any:
    """A value as JSON holds it: arrays become lists, numbers that are not finite become None."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return str(value) if isinstance(value, np.str_) else value
