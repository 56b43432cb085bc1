"""Named segments of a file, all at once: a .seg.nrrd, or a label map with a table of names."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import Grid, InputError, Mask, Volume

MOST_SEPARATE = 32


@dataclass(frozen=True, eq=False)
class Structures:
    """Segments by name. layers: (k, j, i) arrays; numbers: {name: (layer, value)}."""

    layers: list[np.ndarray]
    grid: Grid
    numbers: dict[str, tuple[int, int]]
    where: str

    def mask(self, name: str) -> Mask:
        """One segment. Raises InputError that lists the names."""
        layer, value = self.numbers[self.name(name)]
        return Mask(self.layers[layer] == value, self.grid, f"{self.where} [{name}]")

    def name(self, wanted: str) -> str:
        """The segment's own spelling (any case, blanks for underscores)."""
        for name in self.numbers:
            if _plain(name) == _plain(wanted):
                return name
        raise InputError(f"{self.where}: no segment '{wanted}'; there are {', '.join(list(self.numbers)[:40])}")

    def spine(self) -> list[tuple[str, Mask]]:
        """Vertebrae, ribs and sacrum."""
        from ..navigation.vertebra_labels import rib_number, vertebra_name

        return [(name, self.mask(name)) for name in self.numbers
                if vertebra_name(name) or rib_number(name) or _plain(name).endswith("sacrum")]

    def obstacles(self, hard: dict[str, float | None], soft: list[str], ignored: list[str]) -> dict[str, Any]:
        """Every segment as an obstacle by its name, save those said otherwise; alike ones in one when there are more
        than can be told apart. Raises InputError for unknown names."""
        from ..navigation.entry_field import Obstacle
        from ..navigation.entry_kinds import is_target, kind_of

        hard = {self.name(name): margin for name, margin in hard.items()}
        soft, ignored = [self.name(name) for name in soft], [self.name(name) for name in ignored]
        plain = [name for name in self.numbers if name not in hard and name not in soft and name not in ignored
                 and not is_target(name)]
        own = {name: Obstacle(self.mask(name), margin, kind_of(name)) for name, margin in hard.items()}
        own |= {name: Obstacle(self.mask(name), None, kind_of(name), hard=False) for name in soft if name not in hard}
        if len(own) + len(plain) <= MOST_SEPARATE:
            groups = {name: [name] for name in plain}
        else:
            groups = {}
            for name in plain:
                groups.setdefault(_family(name), []).append(name)
        for group, names in groups.items():
            mask = self._union(names, group)
            if mask.array.any():
                kind = kind_of(names[0])
                own[group] = Obstacle(mask, None, kind, hard=kind != "organ")
        return own

    def _union(self, names: list[str], group: str) -> Mask:
        array = np.zeros(self.grid.shape, bool)
        for layer, labels in enumerate(self.layers):
            values = [self.numbers[name][1] for name in names if self.numbers[name][0] == layer]
            if values:
                array |= _table(labels, values)
        return Mask(array, self.grid, f"{self.where} [{group}]")


def read_structures(path: Path, names: Path | None, reference: Volume) -> Structures:
    """All segments of a file on one grid, checked against the image that they belong to.

    Raises InputError: not readable, no names, no segment, another frame.
    """
    from ..images.masks import check_pair

    if not path.exists():
        raise InputError(f"{path}: no such file")
    found = _segments(path) if path.name.lower().endswith((".nrrd", ".nhdr")) else None
    if found is None:
        if names is None:
            raise InputError(f"{path}: is a label map without names; give --names CSV or JSON, or a .seg.nrrd")
        found = _label_map(path, read_names(names))
    elif names is not None:
        raise InputError(f"{path}: names its segments itself; leave --names out")
    for n, layer in enumerate(found.layers):
        check_pair(Mask(layer != 0, found.grid, f"{path} layer {n}"), reference)
    return found


def _segments(path: Path) -> Structures | None:
    """The segments of Slicer's file; None for a plain NRRD."""
    from ..images.headers import check_nrrd
    from ..images.itkfiles import read_itk
    from ..images.slicerseg import is_slicer_segmentation, read_slicer_segmentation, segments_of

    fields = check_nrrd(path)
    if not is_slicer_segmentation(path, fields):
        return None
    segments = segments_of(fields, str(path))
    names = [s.label.name or s.identity for s in segments]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not segments or twice:
        raise InputError(f"{path}: {'names no segment' if not segments else 'has two segments ' + repr(twice[0])}; "
                         "name them apart in Slicer")
    if len(fields["sizes"].split()) == 3:
        volume = read_itk(path)
        return Structures([volume.array], volume.grid,
                          {name: (0, s.label.number) for name, s in zip(names, segments, strict=True)}, str(path))
    masks = [read_slicer_segmentation(path, s.identity) for s in segments]
    numbers = {name: (n, 1) for n, name in enumerate(names)}
    return Structures([m.array for m in masks], masks[0].grid, numbers, str(path))


def _label_map(path: Path, names: dict[int, str]) -> Structures:
    from ..images import read_volume

    volume = read_volume(path)
    if volume.array.dtype.kind == "f" and not np.array_equal(volume.array, np.rint(volume.array)):
        raise InputError(f"{path}: holds fractions, so it is no label map")
    array = volume.array if volume.array.dtype.kind in "iu" else volume.array.astype(np.int32)
    present = set(np.unique(array[array != 0]).tolist())
    numbers = {name: (0, value) for value, name in names.items() if value in present}
    if not numbers:
        raise InputError(f"{path}: none of its labels {sorted(present)[:20]} has a name in the table")
    nameless = sorted(present - set(names))
    for value in nameless:  # what isn't named is still in the way
        numbers[f"label {value}"] = (0, int(value))
    return Structures([array], volume.grid, numbers, str(path))


def _family(name: str) -> str:
    """Ribs together, vertebrae together, else all of a kind."""
    from ..navigation.entry_kinds import kind_of

    plain = _plain(name)
    for word, family in (("rib", "ribs"), ("vertebra", "vertebrae"), ("lung", "lungs"), ("colon", "bowel")):
        if word in plain:
            return family
    return kind_of(name)


def _table(labels: np.ndarray, values: list[int]) -> np.ndarray:
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < 65536:
        wanted = np.zeros(int(labels.max()) + 1, bool)
        wanted[[v for v in values if v <= labels.max()]] = True
        return wanted[labels]
    return np.isin(labels, values)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def read_names(path: Path) -> dict[int, str]:
    """{label value: name} from CSV (columns id, value or label, and name or structure) or JSON. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            pairs = json.loads(text)
            return {int(k): str(v) for k, v in pairs.items()} if all(str(k).isdigit() for k in pairs) else \
                {int(v): str(k) for k, v in pairs.items()}
        rows = list(csv.DictReader(text.splitlines()))
        columns = {word.strip().lower(): word for word in (rows[0] if rows else {})}
        number = next(columns[c] for c in ("id", "value", "label", "index") if c in columns)
        name = next(columns[c] for c in ("name", "structure", "segment") if c in columns)
        return {int(row[number]): row[name].strip() for row in rows}
    except (OSError, ValueError, StopIteration, AttributeError, TypeError) as error:
        raise InputError(f"{path}: can't be read as names of labels ({type(error).__name__}); give CSV with the "
                         'columns id,name or JSON {"1": "liver"}') from None
