"""Tables in: CSV of any delimiter, Excel, Parquet, or a cohort's folder."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...geometry import InputError, MissingPackageError
from .cells import cell_text, parse_column, uses_decimal_comma

DELIMITERS = (",", ";", "\t", "|")
PATIENT_NAMES = ("patient", "patient_id", "patientid", "subject", "subject_id", "case", "case_id", "tcia_id", "pid",
                 "id")
FEATURE_FILES = ("features.parquet", "features.csv", "results.parquet", "results.csv")
CLINICAL_FILES = ("clinical.csv", "clinical.xlsx", "clinical.parquet")
COHORT_COLUMNS, COHORT_NOTES = "columns.json", ("notes", "seconds")
"""Of a folder of `irai cohort run`: what its columns are, and those about the run itself, no use to a model."""
MAX_CELLS = 200_000_000


@dataclass(frozen=True)
class Table:
    """n rows of named columns.

    values[name]: (n,) float64 with NaN where missing for kind "number", else (n,) object of str or None.
    kinds[name]: "number", "category", "text", "date" or "empty". text[name]: the cells as written (identifiers keep
    their zeros). origin[name]: "features" or "clinical" for a cohort's folder, else "". source: for messages.
    """

    values: dict[str, np.ndarray]
    kinds: dict[str, str]
    text: dict[str, np.ndarray]
    source: str = "table"
    origin: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.text.values()))) if self.text else 0

    @property
    def names(self) -> list[str]:
        return list(self.values)

    def require(self, name: str, what: str = "column") -> str:
        """`name` if the table has it. Raises InputError that names the near ones."""
        if name in self.values:
            return name
        low = {known.lower(): known for known in self.values}
        near = difflib.get_close_matches(name.lower(), low, 3, 0.5)
        hint = f"do you mean {', '.join(repr(low[n]) for n in near)}?" if near else (
            "it has " + ", ".join(self.names[:8]) + (" ..." if len(self.names) > 8 else ""))
        raise InputError(f"{self.source}: no {what} '{name}'; {hint}")

    def rows(self, keep: np.ndarray) -> Table:
        """The rows of an index or bool array, kinds unchanged."""
        return Table({k: v[keep] for k, v in self.values.items()}, dict(self.kinds),
                     {k: v[keep] for k, v in self.text.items()}, self.source, dict(self.origin), self.warnings)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence], source: str = "table", *, decimal_comma: bool = False,
                     warnings: Sequence[str] = ()) -> Table:
        """From named columns of equal length, any cells. Raises InputError: none, empty, unequal lengths."""
        lengths = {len(cells) for cells in columns.values()}
        if not columns or lengths == {0}:
            raise InputError(f"{source}: the table is empty; it needs a line of names and one line a patient")
        if len(lengths) > 1:
            raise InputError(f"{source}: columns differ in length ({sorted(lengths)})")
        values, kinds, text, said = {}, {}, {}, list(warnings)
        for name, cells in columns.items():
            words = [cell_text(cell) for cell in cells]
            kinds[name], values[name], more = parse_column(name, words, decimal_comma=decimal_comma)
            text[name] = np.array(words, object)
            said += more
        return cls(values, kinds, text, source, {}, tuple(said))


def read_table(path: str | Path) -> Table:
    """A table from .csv/.tsv/.txt (comma, semicolon, tab or bar; decimal point or comma; UTF-8, UTF-16 or Latin-1),
    .xlsx (first sheet), .parquet, or a folder with features.csv|parquet and optionally clinical.csv|xlsx.

    Raises InputError: missing, unreadable, empty, duplicate columns, a line with too many cells; a folder whose
    tables have no common patient column, or a clinical table with two rows for one patient.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table; give a .csv, .xlsx or .parquet file or a cohort's folder")
    suffix = path.suffix.lower()
    if suffix in (".xlsx", ".xlsm"):
        return _from_rows(_excel_rows(path), path)
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix == ".xls":
        raise InputError(f"{path}: the old .xls format is not read; save it as .xlsx or .csv")
    return _from_rows(_csv_rows(path), path, text_numbers=True)


def _csv_rows(path: Path) -> list[list[str]]:
    data = path.read_bytes()
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: this is no text table; give CSV, .xlsx or .parquet")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
    except csv.Error as error:
        raise InputError(f"{path}: can't be read as CSV ({error}); check its quotes") from error
    return rows


def _delimiter(text: str) -> str:
    """The delimiter that splits the first lines into the same, largest number of cells."""
    lines = [line for line in text.splitlines()[:60] if line.strip()]
    if lines and lines[0].lower().startswith("sep=") and len(lines[0]) == 5:
        return lines[0][4]
    best, chosen = (-1.0, 0), ","
    for delimiter in DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            agree = sum(width == widths[0] for width in widths) / len(widths)
            if (round(agree, 1), widths[0]) > best:
                best, chosen = (round(agree, 1), widths[0]), delimiter
    return chosen


def _excel_rows(path: Path) -> list[list]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise MissingPackageError(f"{path}: reading Excel needs openpyxl: pip install openpyxl") from error
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        rows = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # openpyxl raises many kinds on damaged files
        raise InputError(f"{path}: can't be read as .xlsx ({error})") from error
    return rows


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingPackageError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from error
    try:
        read = parquet.ParquetFile(path).read()
        columns = [column.to_pylist() for column in read.columns]
    except Exception as error:  # pyarrow raises many kinds on damaged files
        raise InputError(f"{path}: can't be read as Parquet ({error})") from error
    return _from_rows([list(read.column_names), *zip(*columns, strict=True)], path)


def _from_rows(rows: Sequence[Sequence], path: Path, *, text_numbers: bool = False) -> Table:
    rows = [row for row in rows if any(cell_text(cell) is not None or str(cell or "").strip() for cell in row)]
    if rows and len(rows[0]) == 1 and str(rows[0][0]).lower().startswith("sep="):
        rows = rows[1:]
    if len(rows) < 2:
        raise InputError(f"{path}: the table is empty; it needs a line of names and one line a patient")
    if len(rows) * len(rows[0]) > MAX_CELLS:
        raise InputError(f"{path}: {len(rows)} x {len(rows[0])} cells are more than this program takes")
    width = len(rows[0])
    names = [" ".join(str(cell or "").split()) for cell in rows[0]]
    said: list[str] = []
    for n, row in enumerate(rows[1:], 2):
        if any(cell_text(cell) is not None for cell in row[width:]):
            raise InputError(f"{path}: line {n} has {len(row)} cells, the first line names {width}; quote the cells "
                             "that hold the delimiter")
    short = sum(len(row) < width for row in rows[1:])
    if short:
        said.append(f"{short} lines have fewer cells than the first line; the rest counts as missing")
    cells = [[row[c] if c < len(row) else None for row in rows[1:]] for c in range(width)]
    kept = [c for c in range(width) if names[c] or any(cell_text(cell) is not None for cell in cells[c])]
    names = [name or f"(unnamed {c + 1})" for c, name in enumerate(names)]
    twice = [name for name, count in Counter(names[c] for c in kept).items() if count > 1]
    if twice:
        raise InputError(f"{path}: the column '{twice[0]}' is there twice; rename one")
    words = [[cell_text(cell) for cell in cells[c]] for c in kept]
    comma = text_numbers and uses_decimal_comma(words)
    return Table.from_columns(dict(zip((names[c] for c in kept), words, strict=True)), str(path),
                              decimal_comma=comma, warnings=said)


def _read_folder(path: Path) -> Table:
    found = next((path / name for name in FEATURE_FILES if (path / name).is_file()), None)
    if found is None:
        raise InputError(f"{path}: no features.csv or features.parquet in this folder; give a cohort's results")
    features, origin = _cohort_columns(read_table(found), path)
    clinical_file = next((path / name for name in CLINICAL_FILES if (path / name).is_file()), None)
    if clinical_file is None:
        return Table(features.values, features.kinds, features.text, str(path),
                     origin, features.warnings)
    joined = join(features, read_table(clinical_file), str(path))
    return replace(joined, origin={**joined.origin, **origin})


def _cohort_columns(features: Table, folder: Path) -> tuple[Table, dict[str, str]]:
    """The table without what the run wrote about itself, and where each column is from.

    `irai cohort run` says in columns.json what it measured; scores and the manifest's own columns are clinical. In
    any other folder every column is a feature.
    """
    try:
        about = json.loads((folder / COHORT_COLUMNS).read_text(encoding="utf-8"))
        families = {name: str(one.get("family", "")) for name, one in about.items()}
    except (OSError, ValueError, AttributeError):
        return features, dict.fromkeys(features.names, "features")
    kept = [name for name in features.names if name not in COHORT_NOTES]
    measured = {name for name, family in families.items() if family not in ("", "score")}
    table = replace(features, values={name: features.values[name] for name in kept},
                    kinds={name: features.kinds[name] for name in kept},
                    text={name: features.text[name] for name in kept})
    return table, {name: "features" if name in measured else "clinical" for name in kept}


def join(features: Table, clinical: Table, source: str) -> Table:
    """Each row of `features` with the clinical row of its patient; the key is the first common patient column.

    Patients without a clinical row keep missing values and are counted in a warning. Raises InputError: no common
    patient column, two clinical rows for a patient, a column in both tables, no patient in common.
    """
    low = {name.lower(): name for name in clinical.names}
    pairs = {name.lower(): (name, low[name.lower()]) for name in features.names if name.lower() in low}
    key = next((name for name in PATIENT_NAMES if name in pairs), None)
    if key is None:
        raise InputError(f"{source}: features and clinical table share no patient column; name it 'patient' in both")
    both = [name for name, _ in pairs.values() if name != pairs[key][0]]
    if both:
        raise InputError(f"{source}: the column '{both[0]}' is in both tables; rename one")
    left, right = features.text[pairs[key][0]], clinical.text[pairs[key][1]]
    twice = [name for name, count in Counter(right.tolist()).items() if count > 1 and name is not None]
    if twice:
        raise InputError(f"{source}: the clinical table has several rows for patient '{twice[0]}'; keep one")
    place = {name: n for n, name in enumerate(right.tolist()) if name is not None}
    index = np.array([place.get(name, -1) for name in left.tolist()])
    if (index < 0).all():
        raise InputError(f"{source}: no patient of the features is in the clinical table; check the patient column")
    columns: dict[str, np.ndarray] = dict(features.values)
    kinds, text, origin = dict(features.kinds), dict(features.text), dict.fromkeys(features.names, "features")
    for name in clinical.names:
        if name != pairs[key][1]:
            kinds[name], origin[name] = clinical.kinds[name], "clinical"
            columns[name] = clinical.values[name][index]
            text[name] = clinical.text[name][index]
            columns[name][index < 0] = np.nan if columns[name].dtype.kind == "f" else None
            text[name][index < 0] = None
    lost = int((index < 0).sum())
    said = (f"{lost} rows have no clinical row",) if lost else ()
    return Table(columns, kinds, text, source, origin, features.warnings + clinical.warnings + said)
