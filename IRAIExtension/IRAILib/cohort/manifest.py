"""The list of cases: a CSV with one row a case, and which file plays which part in it."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from ..geometry import InputError

ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "radiomics": (("image", "mask"), ()),
    "margin": (("tumor", "ablation"), ("organ", "organ_pre", "vessels", "pre", "post", "landmarks_pre",
                                       "landmarks_post")),
    "outcome-features": (("image", "mask"), ("ablation", "organ")),
}
"""Columns that hold files, by task: those that a case needs, and those that it may have."""
SELECTORS = ("label", "series")
"""`mask_label`, `pre_series`, ...: which label or segment, or which series, of the file in that column."""
CASE_COLUMNS = ("case", "case_id", "id", "lesion", "lesion_id")
PATIENT_COLUMNS = ("patient", "patient_id", "subject", "subject_id")
OTHER_NAMES = {"tumour": "tumor", "tumour_label": "tumor_label"}
NOTHING = {"", "-", "na", "n/a", "nan", "none", "null"}


@dataclass(frozen=True)
class Case:
    """One row. `files` by role (absolute), `selectors` as mask_label, `columns` everything else as it was written."""

    name: str
    patient: str
    line: int
    files: dict[str, str]
    selectors: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a worker gets them."""
        return {"name": self.name, "patient": self.patient, "line": self.line, "files": dict(self.files),
                "selectors": dict(self.selectors), "columns": dict(self.columns)}

    @property
    def file_name(self) -> str:
        """A file name for this case that no other case has, whatever its name is."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", self.name).strip("._")[:60]
        return f"{plain or 'case'}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}.json"


def read_manifest(path: str | Path, task: str) -> list[Case]:
    """The cases of a manifest, in its order.

    path: CSV (comma, semicolon or tab; UTF-8) with a header. `case` names the row (the patient's name where it is
        missing and every patient has one row), `patient` groups rows; relative files start at the manifest's folder.
        Columns that are no file of this task are carried to the result as they are.
    Raises: InputError for an unknown task, an unreadable or empty manifest, missing or doubled columns, a row with
        too many cells, without a file it needs or without a patient (outcome-features), and for a case named twice.
    """
    if task not in ROLES:
        raise InputError(f"there is no task '{task}'; choose from {', '.join(ROLES)}")
    path = Path(path)
    header, rows = _read(path)
    needed, optional = ROLES[task]
    _check_header(path, header, needed, optional)
    cases = [_case(path, line, dict(zip(header, row, strict=True)), task) for line, row in rows]
    _check_names(path, cases)
    return cases


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); give the manifest's CSV file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text; save the manifest as CSV (UTF-8)") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise InputError(f"{path}: is empty; a header and one row a case are needed")
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        table = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{path}: is no proper CSV ({error})") from None
    if not table:
        raise InputError(f"{path}: holds no header and no case")
    header = [OTHER_NAMES.get(_key(name), _key(name)) if _is_known(_key(name)) else name for name in table[0][1]]
    rows = []
    for line, row in table[1:]:
        if len(row) > len(header):
            raise InputError(f"{path}, line {line}: {len(row)} cells under {len(header)} columns; quote cells that "
                             f"hold the delimiter '{delimiter}'")
        rows.append((line, row + [""] * (len(header) - len(row))))
    if not rows:
        raise InputError(f"{path}: holds no case below its header")
    return header, rows


def _key(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _is_known(name: str) -> bool:
    files = {role for needed, optional in ROLES.values() for role in (*needed, *optional)}
    return (name in files or name in OTHER_NAMES or name in CASE_COLUMNS or name in PATIENT_COLUMNS
            or any(name == f"{role}_{selector}" for role in files for selector in SELECTORS))


def _check_header(path: Path, header: list[str], needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    if "" in header:
        raise InputError(f"{path}: column {header.index('') + 1} has no name")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{path}: column {twice[0]} stands twice")
    for name in needed:
        if name not in header:
            near = difflib.get_close_matches(name, [_key(other) for other in header], 1, 0.6)
            hint = f" (is '{near[0]}' meant?)" if near else ""
            raise InputError(f"{path}: has no column '{name}'{hint}; this task needs {', '.join(needed)}"
                             + (f" and takes {', '.join(optional)}" if optional else ""))


def _case(path: Path, line: int, row: dict[str, str], task: str) -> Case:
    needed, optional = ROLES[task]
    taken = {column: value for column, value in row.items() if value.lower() not in NOTHING}
    files = {}
    for role in (*needed, *optional):
        if role in taken:
            files[role] = _place(path.parent, taken[role])
        elif role in needed:
            raise InputError(f"{path}, line {line}: has no {role}; every case needs {', '.join(needed)}")
    of_patient = next((column for column in PATIENT_COLUMNS if column in taken), "")
    of_case = next((column for column in CASE_COLUMNS if column in taken), of_patient)
    patient, name = taken.get(of_patient, ""), taken.get(of_case, "")
    if not name:
        raise InputError(f"{path}, line {line}: has neither a case nor a patient; name the row in a column 'case'")
    if task == "outcome-features" and not patient:
        raise InputError(f"{path}, line {line}: has no patient; outcome models split by patient: every row needs one")
    known = [f"{role}_{kind}" for role in (*needed, *optional) for kind in SELECTORS]
    selectors = {name: taken[name] for name in known if name in taken and name.rpartition("_")[0] in files}
    empty = {column for column in (*CASE_COLUMNS, *PATIENT_COLUMNS) if column not in taken}
    used = {*needed, *optional, *known, of_case, of_patient, *empty}
    return Case(name, patient or name, line, files, selectors,
                {column: value for column, value in row.items() if column not in used})


def _place(folder: Path, written: str) -> str:
    """Absolute path of a file. A relative one that was written on Windows is found on other systems too."""
    place = folder / written
    if "\\" in written and not place.exists() and not PureWindowsPath(written).drive:
        place = folder / PureWindowsPath(written).as_posix()
    return str(place.absolute())


def _check_names(path: Path, cases: list[Case]) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        before = seen.setdefault(case.name, case)
        if before is not case:
            raise InputError(f"{path}: lines {before.line} and {case.line} are both called '{case.name}'; give every "
                             "row a name of its own in a column 'case'")
