"""The board's page as a print engine lays it out: one A4 page, however much there is to say."""

from __future__ import annotations

import pytest
from IRAILib.report.biopsy_board import (
    Board,
    BoardSource,
    FeatureLine,
    Figure,
    Prediction,
    ScoreLine,
    write_board,
)

WORDS = "a finding that takes more words than the line has room for, and then some more of them "


def board(tmp_path, scores: int, features: int, unknown: int, sources: int, refused: str = "") -> Board:
    import numpy as np
    from IRAILib.images.atomic import replacing
    from matplotlib.image import imsave

    with replacing(tmp_path / "slice.png") as temporary:
        imsave(temporary, np.random.default_rng(0).uniform(size=(430, 560)))

    def figure(label: str, value: str = "24.3 ± 0.8 mm", note: str = "") -> Figure:
        return Figure(label, value, "1", note)

    nodes = [BoardSource(str(n + 1), "lesion record", f"Lesion record {n}", f"vtkMRMLTextNode{n}", "ab" * 32,
                         f"irai://node/vtkMRMLTextNode{n}", WORDS if n == 1 else "") for n in range(sources)]
    told = () if refused else (figure("Probability of response = yes", "0.62"),)
    prediction = Prediction("response", told, refused, figure("similarity", "distance 2.3 (gate 3.1)", WORDS),
                            WORDS * 3, WORDS * 3, WORDS * 3, "1",
                            tuple((f"cm_contrast_3D_comb {n}", "+0.31", 0.5) for n in range(9)))
    return Board("Virtual biopsy: Lesion", "2026-01-01T00:00:00+00:00", "IRAI", True, nodes,
                 [figure(f"Habitat {n}", "1.28 mL (23 %), 49 HU") for n in range(12)],
                 [ScoreLine(figure(f"MELD-Na (OPTN 2016) {n}", "23 points"), WORDS * 3, WORDS, (WORDS, WORDS))
                  for n in range(scores)], prediction,
                 [FeatureLine(figure("Volume density (axis-aligned bounding box)", "0.8", WORDS), 40.0, 70, "1")
                  for _ in range(features)], WORDS, [WORDS * 4 for _ in range(unknown)],
                 [(tmp_path / "slice.png", "Axial, outline of the lesion", "1")] * 2)


@pytest.mark.parametrize(("counts", "refused"), [((0, 0, 1, 2), ""), ((2, 7, 4, 11), ""), ((4, 7, 7, 12), "no"),
                                                 ((30, 30, 30, 30), ""), ((30, 30, 30, 30), WORDS * 5)])
def test_it_is_one_page(tmp_path, counts, refused) -> None:
    weasyprint = pytest.importorskip("weasyprint", reason="lays pages out: pip install weasyprint")
    path = write_board(board(tmp_path, *counts, refused), tmp_path / "board.html")
    pages = weasyprint.HTML(str(path)).render().pages
    assert len(pages) == 1
    assert (round(pages[0].width * 25.4 / 96), round(pages[0].height * 25.4 / 96)) == (210, 297)


def test_a_refusal_shows_its_reason_and_no_number(tmp_path) -> None:
    path = write_board(board(tmp_path, 1, 1, 1, 3, "outside the training cohort"), tmp_path / "board.html")
    text = path.read_text(encoding="utf-8")
    assert "REFUSED" in text
    assert "outside the training cohort" in text
    assert "0.62" not in text
    assert "Pushed most by" not in text


def test_what_a_node_is_called_can_not_break_the_page(tmp_path) -> None:
    made = board(tmp_path, 0, 0, 1, 2)
    made.unknown = ["<img src=x onerror=alert(1)>"]
    made.sources[0] = BoardSource("1", "scan", '"><script>x</script>', 'id"onclick="x', "ab", 'irai://node/"x"')
    text = write_board(made, tmp_path / "board.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "onerror=alert(1)>" not in text
    assert 'id"onclick' not in text
