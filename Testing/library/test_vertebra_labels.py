"""Names of vertebrae: each fault painted and found, and a healthy spine that raises none."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, Mask
from IRAILib.navigation.vertebra_labels import USUAL, read_labels, rib_number, vertebra_name

GRID = Grid((260, 30, 30), np.array([[-4.0, 0, 0, 58], [0, 4.0, 0, -58], [0, 0, 2.5, -325], [0, 0, 0, 1.0]]))
POINTS = GRID.all_points_ras()


def box(x: float, y: float, z: float, half=(12.0, 12.0, 8.0)) -> np.ndarray:
    return (np.abs(POINTS - np.array([x, y, z])) <= np.array(half)).all(axis=-1)


def spine(names: list[str], top: float = 290.0, ribs: bool = True, sacrum: bool = True, real: list[str] | None = None,
          step: float = 24.0) -> list[tuple[str, Mask]]:
    """Blocks from head to foot. `real` is what they truly are (for ribs and sacrum), `names` what the mask says."""
    out = []
    for n, (name, truth) in enumerate(zip(names, real or names, strict=True)):
        z = top - step * n
        out.append((f"vertebrae_{name}", Mask(box(0, 0, z), GRID, name)))
        if ribs and truth.startswith("T"):
            out += [(f"rib_{side}_{truth[1:]}", Mask(box(sign * 30, 0, z, (18, 4, 3)), GRID))
                    for side, sign in (("left", -1), ("right", 1))]
    if sacrum:
        out.append(("sacrum", Mask(box(0, 0, top - step * len(names) - 4, (16, 16, 12)), GRID)))
    return out


WHOLE = [name for name in USUAL if name[0] in "TL"]


def kinds(labels) -> set[str]:
    return {flag.kind for flag in labels.flags}


def test_a_healthy_spine_raises_nothing() -> None:
    labels = read_labels(spine(WHOLE))
    assert [v.name for v in labels.vertebrae] == WHOLE
    assert labels.flags == ()
    assert labels.agree is True
    assert labels.counted_from == ("first rib", "last rib", "sacrum")
    assert labels.named("l1").centre_ras[2] == pytest.approx(290 - 24 * 12, abs=1.5)


def test_numbers_shifted_by_one_contradict_the_ribs() -> None:
    real = ["T9", "T10", "T11", "T12", "L1", "L2"]
    labels = read_labels(spine(["T10", "T11", "T12", "L1", "L2", "L3"], real=real, sacrum=False))
    assert labels.agree is False
    assert any("rib 12 is on L1" in flag.reason for flag in labels.flags)


def test_a_lumbar_too_many_and_too_few() -> None:
    six = read_labels(spine([*WHOLE, "L6"], step=22.0))
    assert {"extra", "count"} <= kinds(six)
    four = read_labels(spine(WHOLE[:-1]))
    assert any("counted from below it is L5" in flag.reason for flag in four.flags)
    assert any("4 vertebrae between the last rib and the sacrum" in flag.reason for flag in four.flags)


def test_a_thirteenth_thoracic() -> None:
    names = [*WHOLE[:12], "T13", *WHOLE[12:]]
    labels = read_labels(spine(names, step=22.0))
    assert any(flag.level == "T13" for flag in labels.flags)
    assert any("thirteenth rib" in flag.reason for flag in labels.flags)


def test_gaps_in_number_and_in_space() -> None:
    missing = spine(WHOLE)
    del missing[next(n for n, (name, _) in enumerate(missing) if name == "vertebrae_L2")]
    flags = [f for f in read_labels(missing).flags if f.kind == "gap"]
    assert [f.level for f in flags] == ["L3"]
    assert "L2 is missing: the vertebra between isn't in the mask" in flags[0].reason
    skipped = read_labels(spine(["T10", "T11", "L1", "L2"], real=["T10", "T11", "T12", "L1"], sacrum=False))
    assert any("T12 is missing: a number was left out" in f.reason for f in skipped.flags)
    hole = [pair for pair in spine(["T8", "T9", "T10", "T11", "T12", "L1"], ribs=False, sacrum=False)
            if pair[0] != "vertebrae_T11"]
    renamed = [(name.replace("T12", "T11").replace("L1", "T12"), mask) for name, mask in hole]
    assert any("has no label" in f.reason for f in read_labels(renamed).flags)


def test_duplicates_swaps_pieces_and_crumbs() -> None:
    pairs = spine(["T12", "L1", "L2", "L3"], ribs=False, sacrum=False)
    double = read_labels([*pairs[:3], ("vertebrae_L2", pairs[3][1])])
    assert "duplicate" in kinds(double)
    swapped = dict(pairs)
    swapped["vertebrae_L1"], swapped["vertebrae_L2"] = swapped["vertebrae_L2"], swapped["vertebrae_L1"]
    assert "order" in kinds(read_labels(swapped))
    torn = dict(pairs)
    torn["vertebrae_L1"] = Mask(pairs[1][1].array | box(0, 0, 200.0), GRID)
    assert any(f.kind == "pieces" and f.level == "L1" for f in read_labels(torn).flags)
    crumb = dict(pairs)
    crumb["vertebrae_L3"] = Mask(box(0, 0, 218.0, (4, 4, 3)), GRID)
    assert any(f.kind == "small" and f.level == "L3" for f in read_labels(crumb).flags)


def test_nothing_to_count_from_is_said() -> None:
    labels = read_labels(spine(["T12", "L1"], ribs=False, sacrum=False))
    assert labels.agree is None
    assert "uncounted" in kinds(labels)
    assert labels.to_dict()["counts_agree"] is None


def test_empty_and_strange_labels() -> None:
    with pytest.raises(InputError, match="no vertebra"):
        read_labels({"liver": Mask(box(0, 0, 0), GRID)})
    with pytest.raises(InputError, match="no vertebra"):
        read_labels({"vertebrae_L1": Mask(np.zeros(GRID.shape, bool), GRID)})
    assert vertebra_name("L1 vertebra") == vertebra_name("Vertebrae-L1") == vertebra_name("l1") == "L1"
    assert [vertebra_name(text) for text in ("L9", "T14", "liver", "", "C0")] == [None] * 5
    assert rib_number("rib_left_12") == ("left", 12)
    assert rib_number("ribbon") is None
