"""The folder of a run: one JSON a case, written whole; at the end one table as Parquet and CSV, errors apart."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from ..geometry import InputError, MissingPackageError
from ..images.atomic import replacing
from .manifest import Case

RUN_FILE, LOCK_FILE, CASES_FOLDER = "run.json", ".running", "cases"
TABLE_NAMES = {"radiomics": "features", "outcome-features": "features", "margin": "margins"}
STATES: tuple[str, ...] = ("done", "refused", "failed")
FIRST_COLUMNS = ("case", "patient")
LAST_COLUMNS = {"settings_hash": "text", "notes": "text", "seconds": "number"}
KINDS = ("", "whole", "number", "text")
"""Of a column; a later one holds all that an earlier one does."""
NUMBER = re.compile(r"[+-]?(?P<whole>0|[1-9][0-9]*)(\.(?P<part>[0-9]+))?")
LOCK_WRITTEN_S = 10.0
"""A lock that isn't readable after so long was left by a run that was killed while it wrote it."""
MOST_DIGITS = 15
"""More aren't kept by a double."""
ERROR_COLUMNS: tuple[str, ...] = ("case", "patient", "line", "status", "kind", "message")


class Store:
    """Results of one run in one folder. Only the process that started the run writes here."""

    def __init__(self, folder: str | Path, task: str, settings: dict[str, Any]) -> None:
        self.folder, self.task, self.settings = Path(folder), task, settings
        self._fingerprints: dict[str, str] = {}

    def open(self, fresh: bool = False) -> None:
        """Make the folder, or go on in it. Raises InputError where it holds something else."""
        run = self.folder / RUN_FILE
        if run.is_file():
            before = _json(run)
            if before.get("task") != self.task:
                raise InputError(f"{self.folder}: holds a run of the task '{before.get('task')}'; choose another "
                                 "folder")
        elif self.folder.is_dir() and any(path.name != LOCK_FILE for path in self.folder.iterdir()):
            raise InputError(f"{self.folder}: isn't empty and holds no run of IRAI; choose another folder")
        (self.folder / CASES_FOLDER).mkdir(parents=True, exist_ok=True)
        if fresh:
            for path in (self.folder / CASES_FOLDER).glob("*.json"):
                path.unlink()
        _write_json(run, {"task": self.task, "settings": self.settings, "software": f"IRAI {__version__}"})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second run out of the folder. A lock that a killed run left behind is taken over."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: no folder for results can be made ({error.strerror})") from None
        path = self.folder / LOCK_FILE
        for _ in range(2):
            try:
                with path.open("x", encoding="utf-8") as file:
                    json.dump(_who(os.getpid()), file)
                break
            except FileExistsError:
                self._refuse_if_alive(path)
                path.unlink(missing_ok=True)
        else:
            raise InputError(f"{self.folder}: another run is writing here; wait for it, or choose another folder")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def _refuse_if_alive(self, lock: Path) -> None:
        told = _holder(lock)
        if told:
            raise InputError(f"{self.folder}: another run is writing here{told}; wait for it, or choose another folder")

    def fingerprint(self, case: Case) -> str:
        """What a case's result hangs on: its row, its files as they lay there first, the settings, the version.

        Columns that are only carried along don't count (scores are made of them), so that a target that is known
        later can be added to the manifest.
        """
        if case.name in self._fingerprints:
            return self._fingerprints[case.name]
        files = {role: _stat(Path(path)) for role, path in case.files.items()}
        row = case.to_dict() | {"line": 0}
        if not self.settings.get("scores"):
            del row["columns"]
        text = json.dumps([row, files, self.task, self.settings, __version__], sort_keys=True)
        self._fingerprints[case.name] = hashlib.sha256(text.encode()).hexdigest()
        return self._fingerprints[case.name]

    def finished(self, case: Case) -> bool:
        """Whether this case was done or refused before, from the same files and settings; failed ones aren't."""
        record = self._kept(case)
        return record is not None and record["status"] in ("done", "refused")

    def keep(self, case: Case, outcome: dict[str, Any]) -> None:
        """Write one case's result, whole or not at all."""
        _write_json(self._path(case), {**_plain(outcome), "line": case.line, "columns": case.columns,
                                       "fingerprint": self.fingerprint(case)})

    def records(self, cases: Iterable[Case]) -> Iterator[dict[str, Any]]:
        """The kept results of these cases, in their order; none for a case without one, or with an outdated one."""
        for case in cases:
            record = self._kept(case)
            if record is not None:
                yield {**record, "line": case.line, "columns": case.columns}

    def write_tables(self, cases: list[Case]) -> dict[str, int]:
        """The run's table (Parquet and CSV), columns.json, errors.csv; returns counts by status.

        Files that the manifest no longer names are left out. A value that is not defined is an empty cell. A column
        of the manifest with the name of a result is led by "manifest_".
        """
        columns, about, counts, renamed = self._columns(cases)
        name = TABLE_NAMES[self.task]
        done = (record for record in self.records(cases) if record["status"] == "done")
        _write_table(self.folder / f"{name}.csv", self.folder / f"{name}.parquet", columns, done, renamed,
                     self._settings_hash())
        _write_json(self.folder / "columns.json", about)
        with replacing(self.folder / "errors.csv") as temporary, \
                temporary.open("w", newline="", encoding="utf-8") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, ERROR_COLUMNS, extrasaction="ignore",
                                                              lineterminator="\n")
            writer.writeheader()
            writer.writerows(record for record in self.records(cases) if record["status"] != "done")
        return counts

    def _columns(self, cases: list[Case]
                 ) -> tuple[dict[str, str], dict[str, Any], dict[str, int], dict[str, str]]:
        """Every column with its kind (of `KINDS`), what is known about it, counts by status, new names of columns."""
        kinds: dict[str, str] = {}
        values: dict[str, str] = {}
        about: dict[str, Any] = {}
        counts = dict.fromkeys(STATES, 0)
        for record in self.records(cases):
            counts[record["status"]] += 1
            if record["status"] != "done":
                continue
            about.update(record.get("about") or {})
            for row, kind in ((record["columns"], kinds), (record["values"], values)):
                for column, value in row.items():
                    kind[column] = max(kind.get(column, ""), _kind(value), key=KINDS.index)
        taken = {*FIRST_COLUMNS, *values, *LAST_COLUMNS}
        renamed = {}
        for column in kinds:
            new = column
            while new in taken or (new != column and new in kinds):
                new = f"manifest_{new}"
            renamed[column] = new
            if new != column:
                about[new] = {"name": f"column '{column}' of the manifest", "unit": ""}
        merged = {**dict.fromkeys(FIRST_COLUMNS, "text"), **{renamed[column]: kind for column, kind in kinds.items()},
                  **values, **LAST_COLUMNS}
        if not self._settings_hash():
            del merged["settings_hash"]
        return {column: kind or "text" for column, kind in merged.items()}, about, counts, renamed

    def _settings_hash(self) -> str:
        """Of the radiomics settings, as `FeatureSet` gives it: only features made alike can be compared."""
        if "radiomics" not in self.settings:
            return ""
        from ..biopsy.radiomics import Settings

        return Settings.from_dict(self.settings["radiomics"]).hash

    def _kept(self, case: Case) -> dict[str, Any] | None:
        """A result made from the same files, row and settings; None for none, and for a damaged one."""
        try:
            record = json.loads(self._path(case).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(record, dict) and record.get("fingerprint") == self.fingerprint(case)
        return record if same and record.get("status") in STATES else None

    def _path(self, case: Case) -> Path:
        return self.folder / CASES_FOLDER / case.file_name


def _write_table(csv_path: Path, parquet_path: Path, columns: dict[str, str], records: Iterator[dict[str, Any]],
                 renamed: dict[str, str], settings_hash: str) -> None:
    """Both files in one pass, a block of rows at a time."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingPackageError("tables in Parquet need pyarrow: pip install pyarrow") from None
    types = {"number": pa.float64(), "whole": pa.int64(), "text": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    with replacing(csv_path) as csv_temporary, replacing(parquet_path) as parquet_temporary, \
            csv_temporary.open("w", newline="", encoding="utf-8") as file, \
            pq.ParquetWriter(parquet_temporary, schema) as parquet:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        block: list[dict[str, Any]] = []
        for record in records:
            row = {"case": record["case"], "patient": record["patient"], "notes": "; ".join(record.get("notes") or []),
                   "seconds": record["seconds"], "settings_hash": settings_hash, **record["values"],
                   **{renamed[column]: value for column, value in record["columns"].items()}}
            block.append({name: _typed(row.get(name), kind) for name, kind in columns.items()})
            writer.writerow(["" if value is None else repr(value) if isinstance(value, float) else value
                             for value in block[-1].values()])
            if len(block) == 64:
                parquet.write_table(pa.Table.from_pylist(block, schema))
                block = []
        parquet.write_table(pa.Table.from_pylist(block, schema))


def _typed(value: Any, kind: str) -> Any:
    if value is None or value == "":
        return None
    return {"number": float, "whole": int}.get(kind, str)(value)


def _kind(value: Any) -> str:
    """Of `KINDS`: a result is a number; text of the manifest is one where nothing is lost (007, 1e5, long ids stay)."""
    if value is None or value == "":
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number" if math.isfinite(value) else "text"
    found = NUMBER.fullmatch(str(value))
    if found is None or len(found["whole"]) + len(found["part"] or "") > MOST_DIGITS:
        return "text"
    return "whole" if found["part"] is None else "number"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, document: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}); choose another folder") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: is damaged; choose another folder")
    return document


def _stat(path: Path) -> list[Any]:
    """Names, sizes and times of a file or of the files in a folder; empty where it can't be seen from here."""
    try:
        if path.is_dir():
            return sorted([str(item.relative_to(path)), item.stat().st_size, item.stat().st_mtime_ns]
                          for item in path.rglob("*") if item.is_file())
        state = path.stat()
    except OSError:
        return []
    return [path.name, state.st_size, state.st_mtime_ns]


def _who(pid: int) -> dict[str, Any]:
    """What tells a process from every other, also from a later one of the same number."""
    psutil = _psutil()
    return {"host": socket.gethostname(), "pid": pid, "started": psutil.Process(pid).create_time()}


def _psutil():
    try:
        import psutil
    except ImportError:
        raise MissingPackageError("cohorts need psutil: pip install psutil") from None
    return psutil


def _holder(lock: Path) -> str | None:
    """Words about who holds the folder; None where the run is dead that did."""
    psutil = _psutil()
    try:
        text = lock.read_text(encoding="utf-8")
        age_s = time.time() - lock.stat().st_mtime
    except OSError:
        return None
    try:
        who = json.loads(text)
        host, pid, started = str(who["host"]), int(who["pid"]), float(who["started"])
    except (ValueError, KeyError, TypeError):
        return " (it has just begun)" if age_s < LOCK_WRITTEN_S else None
    if host != socket.gethostname():
        return f" on {host} (if it was killed there, delete {lock})"
    try:
        return f" (process {pid})" if abs(psutil.Process(pid).create_time() - started) < 1.0 else None
    except psutil.NoSuchProcess:
        return None
