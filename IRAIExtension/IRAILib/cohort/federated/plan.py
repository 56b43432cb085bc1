"""What the hospitals agree on before anything is computed: the plan of all, and each site's own limits."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...geometry import InputError

MODELS = ("logistic", "cox", "network")


@dataclass(frozen=True)
class Column:
    """One input of the models. `levels` (the first is the reference) makes it categorical: the sites can't
    exchange the words they use, so the words stand in the plan."""

    name: str
    levels: tuple[str, ...] = ()

    @property
    def design_names(self) -> list[str]:
        """Names of the design columns that this input becomes."""
        return [f"{self.name}={level}" for level in self.levels[1:]] if self.levels else [self.name]


@dataclass(frozen=True)
class FederatedPlan:
    """What is fitted, on which columns, with which limits. Every site reads the same plan and sees its digest.

    `target`/`target_value`: the column of a binary outcome and the text that means "yes" (logistic, network).
    `time`/`event`/`event_value`: the follow-up in `time_unit`, the column of its end and the text that means
    "event" (Cox; site-stratified, Efron ties). `ridge`: lambda of lambda/2 |beta|^2 on standardised inputs, without
    the intercept. `horizons`: times at which the baseline hazard changes and survival is given. `secure`: sums
    are masked; false is for tests and is refused by a site unless its own policy allows it.
    """

    name: str
    columns: tuple[Column, ...]
    models: tuple[str, ...] = ("logistic",)
    target: str = ""
    target_value: str = "1"
    time: str = ""
    event: str = ""
    event_value: str = "1"
    time_unit: str = "days"
    horizons: tuple[float, ...] = ()
    ridge: float = 1.0
    rounds: int = 10
    tolerance: float = 1e-6
    hidden: int = 6
    local_epochs: int = 20
    learning_rate: float = 0.3
    proximal: float = 0.1
    seed: int = 0
    n_sites: int = 3
    secure: bool = True

    def __post_init__(self) -> None:
        if not self.columns:
            raise InputError("federated plan: 'columns' is empty; name the inputs of the models")
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise InputError("federated plan: a column stands in 'columns' twice")
        for column in self.columns:
            if len(column.levels) == 1 or len(set(column.levels)) != len(column.levels):
                raise InputError(f"federated plan: column '{column.name}' needs two or more different levels")
        unknown = [model for model in self.models if model not in MODELS]
        if unknown or not self.models:
            raise InputError(f"federated plan: models {unknown or 'empty'}; choose from {', '.join(MODELS)}")
        if {"logistic", "network"} & set(self.models) and not self.target:
            raise InputError("federated plan: logistic and network need 'target'")
        if "cox" in self.models and not (self.time and self.event):
            raise InputError("federated plan: cox needs 'time' and 'event'")
        outcome = {self.target, self.time, self.event} & set(names)
        if outcome:
            raise InputError(f"federated plan: {', '.join(sorted(outcome))} is an outcome and can't be an input")
        _check_numbers(self)

    @property
    def design_names(self) -> list[str]:
        """Names of the p design columns, in order."""
        return [name for column in self.columns for name in column.design_names]

    @property
    def digest(self) -> str:
        """SHA-256 of the plan: all sites must speak of the same one."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FederatedPlan:
        """The inverse of to_dict; a column may be a bare name. Raises InputError naming an unknown key."""
        _only_known(cls, data, "federated plan")
        try:
            columns = tuple(Column(entry) if isinstance(entry, str)
                            else Column(str(entry["name"]), tuple(str(level) for level in entry.get("levels") or ()))
                            for entry in data["columns"])
            plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                     for key, value in data.items() if key != "columns"}
            return cls(columns=columns, **plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"federated plan: {error} is missing or of the wrong kind") from error

    @classmethod
    def read(cls, path: str | Path) -> FederatedPlan:
        """A plan from its JSON file. Raises InputError in one line."""
        return cls.from_dict(read_json(path))


@dataclass(frozen=True)
class SitePolicy:
    """What a site insists on, whatever the coordinator asks. It stays at the site.

    `table`: its rows; `patient`: the column that tells patients apart (one row each; it never leaves);
    `columns`: those that a plan may use; `group_secret_file`: 32 or more bytes that the hospitals share and the
    coordinator doesn't have; `min_events`: fewer events, or fewer patients without, and the site stays out;
    `plan_digest`: the only plan it takes part in (empty: any that keeps the limits).
    """

    table: str
    group_secret_file: str
    columns: tuple[str, ...]
    patient: str = ""
    min_events: int = 10
    min_rows: int = 30
    min_sites: int = 3
    max_requests: int = 60
    max_coefficient: float = 20.0
    plan_digest: str = ""
    allow_unmasked: bool = False

    def __post_init__(self) -> None:
        if self.min_sites < 2 or self.min_events < 1 or self.min_rows < 1 or self.max_requests < 1:
            raise InputError("site policy: min_sites is at least 2; min_events, min_rows and max_requests at least 1")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SitePolicy:
        """Raises InputError naming an unknown or missing key."""
        _only_known(cls, data, "site policy")
        try:
            plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                     for key, value in data.items()}
            return cls(**plain)
        except TypeError as error:
            raise InputError(f"site policy: {error}") from error

    @classmethod
    def read(cls, path: str | Path) -> SitePolicy:
        """A policy from its JSON file; relative paths in it start at the file."""
        path = Path(path)
        data = read_json(path)
        for key in ("table", "group_secret_file"):
            if isinstance(data.get(key), str):
                data[key] = str(path.resolve().parent / data[key])
        return cls.from_dict(data)


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError in one line."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as JSON ({error}); give a JSON object") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds no JSON object")
    return data


def _only_known(kind: type, data: Mapping[str, Any], what: str) -> None:
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise InputError(f"{what}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _check_numbers(plan: FederatedPlan) -> None:
    for key in ("ridge", "tolerance", "learning_rate", "proximal"):
        value = getattr(plan, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise InputError(f"federated plan: {key} must be a number of at least 0")
    for key, low, high in (("rounds", 1, 50), ("hidden", 1, 64), ("local_epochs", 1, 1000), ("n_sites", 2, 1000)):
        value = getattr(plan, key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"federated plan: {key} must be a whole number from {low} to {high}")
    times = plan.horizons
    if any(not isinstance(t, int | float) or not 0 < t < math.inf for t in times) or list(times) != sorted(set(times)):
        raise InputError("federated plan: horizons must be rising times above 0")
    if "cox" in plan.models and not times:
        raise InputError("federated plan: cox needs 'horizons', the times at which survival is given")
