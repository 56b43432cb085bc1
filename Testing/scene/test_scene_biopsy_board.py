"""The board's page, links and staleness on real MRML: every number leads to its node, also after .mrb."""

from __future__ import annotations

import html.parser
import json

import pytest
from biopsy_scene_cases import body_case, cohort_table, ellipsoid, here, set_segment
from IRAILib.geometry import InputError


class Anchors(html.parser.HTMLParser):
    """Links with their text, and text that is outside of every link."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[dict, str]] = []
        self.loose, self._open, self._quiet = [], None, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        if tag == "a":
            self._open = (dict(attrs), "")
        self._quiet += tag in ("style", "title")

    def handle_endtag(self, tag) -> None:
        if tag == "a" and self._open:
            self.links.append(self._open)
            self._open = None
        self._quiet -= tag in ("style", "title")

    def handle_data(self, data) -> None:
        if self._open:
            self._open = (self._open[0], self._open[1] + data)
        elif not self._quiet:
            self.loose.append(data)


@pytest.fixture
def measured(tmp_path):
    """(case, records) after steps 1 to 3."""
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_features import compare_with_cohort, extract_case
    from IRAILib.scene.biopsy_lesion import measure_case
    from IRAILib.scene.biopsy_scores import work_out_score

    case = body_case()[0]
    records = {"size": measure_case(case),
               "features": extract_case(case, Settings(families=("morphology", "statistics"), intensity_unit="HU"),
                                        run=here)}
    table = cohort_table(tmp_path / "others.csv", read_record(records["features"])["features"])
    records["cohort"] = compare_with_cohort(case, records["features"], table)
    work_out_score("albi", {"bilirubin": "20umol/L", "albumin": "38g/L"})
    return case, records


def test_every_number_on_the_page_leads_to_its_unchanged_node(measured, tmp_path) -> None:
    from IRAILib.scene.biopsy_board import write_case_board
    from IRAILib.scene.biopsy_sources import find_node

    page, document = write_case_board(*measured, tmp_path / "board")
    read = Anchors(page.read_text(encoding="utf-8"))
    assert len(read.links) > 12
    for attributes, _text in read.links:
        found = find_node(attributes["href"])
        assert found.node.GetID() == attributes["data-node-id"]
        assert not found.changed
    numbers = " ".join(text for _attributes, text in read.links)
    saved = json.loads(document.read_text(encoding="utf-8"))
    for figure in saved["lesion"]:
        assert figure["value"] in numbers
        assert figure["value"] not in " ".join(read.loose)
    assert saved["frame"] == "RAS mm"
    assert [entry["step"] for entry in saved["timeline"]]
    assert "histology" in saved["unknown"][0]


def test_a_changed_lesion_marks_its_numbers_and_not_the_score(measured, tmp_path) -> None:
    from IRAILib.scene.biopsy_board import collect_board, write_case_board
    from IRAILib.scene.nodes import mask_from_segment

    case, records = measured
    grid = mask_from_segment(case.lesion).grid
    set_segment(case.lesion, ellipsoid(grid, (6.0, 6.0, 6.0)), grid)
    board = collect_board(case, records)
    assert all(figure.stale for figure in board.lesion)
    assert all(line.value.stale for line in board.features)
    assert not any(line.result.stale for line in board.scores)
    assert all(line.percentile is None for line in board.features), "a place of features that no longer hold"
    page = write_case_board(case, records, tmp_path)[0].read_text(encoding="utf-8")
    assert "Out of date" in page
    assert "Lesion was changed after this result" in page


@pytest.mark.parametrize("what", ["voxels", "place", "transform", "deleted"])
def test_whatever_happens_to_the_scan_is_noticed(measured, scene, what) -> None:
    import slicer
    from IRAILib.scene.biopsy_sources import stale_reasons

    case, records = measured
    assert stale_reasons(records["features"]) == []
    if what == "voxels":
        slicer.util.arrayFromVolume(case.volume)[3, 3, 3] += 1
        slicer.util.arrayFromVolumeModified(case.volume)
    elif what == "place":
        case.volume.SetOrigin(1.0, 2.0, 3.0)
    elif what == "transform":
        import vtk

        node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        shift = vtk.vtkMatrix4x4()
        shift.SetElement(0, 3, 4.0)
        node.SetMatrixTransformToParent(shift)
        case.volume.SetAndObserveTransformNodeID(node.GetID())
    else:
        scene.RemoveNode(case.volume)
    reasons = stale_reasons(records["features"])
    assert len(reasons) == 1
    assert reasons[0].startswith("volume:")
    assert stale_reasons(records["cohort"]), "what was made from stale features is stale"


def test_a_name_or_colour_is_no_change(measured) -> None:
    from IRAILib.scene.biopsy_sources import stale_reasons

    case, records = measured
    case.volume.SetName("renamed")
    segment = case.lesion.node.GetSegmentation().GetSegment(case.lesion.segment_id)
    segment.SetColor(0.1, 0.2, 0.3)
    segment.SetName("HCC segment 6")
    assert stale_reasons(records["features"]) == []


def test_saved_and_loaded_nothing_is_stale_and_links_hold(measured, scene, tmp_path) -> None:
    import slicer
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_board import collect_board
    from IRAILib.scene.biopsy_case import BiopsyCase
    from IRAILib.scene.biopsy_sources import find_node, stale_reasons
    from IRAILib.scene.nodes import SegmentRef

    case, records = measured
    links = [source.link for source in collect_board(case, records).sources]
    shown = [figure.value for figure in collect_board(case, records).lesion]
    names = {name: node.GetName() for name, node in records.items()}
    volume, segmentation, segment = case.volume.GetName(), case.lesion.node.GetName(), case.lesion.segment_id
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    scene.Clear(False)
    for name in ("vtkMRMLScalarVolumeNode", "vtkMRMLTextNode", "vtkMRMLTextNode"):
        scene.AddNewNodeByClass(name, "in the way")  # the loaded nodes must not get their old IDs
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    loaded = {name: scene.GetFirstNodeByName(title) for name, title in names.items()}
    assert all(stale_reasons(node) == [] for node in loaded.values())
    for link in links:
        found = find_node(link)
        assert not found.changed
        assert found.node.GetName() != "in the way"
    node = scene.GetFirstNodeByName(segmentation)
    again = BiopsyCase(scene.GetFirstNodeByName(volume), SegmentRef(node, segment))
    assert [figure.value for figure in collect_board(again, loaded).lesion] == shown
    assert read_record(loaded["size"])["volume_ml"] > 1.0


@pytest.mark.parametrize("link", ["", "http://a/b", "irai://node/", "irai://node/x/segment", "irai://node/x/y/z",
                                  "irai://nodes/vtkMRMLTextNode1", "irai://node/vtkMRMLTextNode99?name=gone"])
def test_a_bad_or_dead_link_says_so(measured, link) -> None:
    from IRAILib.scene.biopsy_sources import find_node

    with pytest.raises(InputError, match=r"link|not in this scene"):
        find_node(link)


def test_a_link_with_odd_names_comes_back(scene) -> None:
    from IRAILib.scene.biopsy_sources import find_node, parse_link, select_node, source_of

    node = scene.AddNewNodeByClass("vtkMRMLTextNode", 'Müller & "Söhne" 50 % <b> / ?x=1#2')
    node.SetText("x")
    source = source_of("score", node)
    assert parse_link(source.link).name == node.GetName()
    found = find_node(source.link)
    assert found.node is node
    assert select_node(found) > 0
    node.SetText("y")
    assert find_node(source.link).changed


def test_names_of_nodes_are_escaped_and_nothing_made_is_refused(measured, tmp_path) -> None:
    from IRAILib.scene.biopsy_board import collect_board, write_case_board
    from IRAILib.scene.biopsy_scores import remove_score

    case, records = measured
    case.volume.SetName("<script>alert(1)</script>")
    page = write_case_board(case, records, tmp_path)[0].read_text(encoding="utf-8")
    assert "<script>" not in page
    remove_score("albi")
    with pytest.raises(InputError, match="nothing was measured"):
        collect_board(case, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board.html", "board.json", "others.csv"]


def test_a_number_without_a_source_is_never_printed(tmp_path) -> None:
    from IRAILib.report.biopsy_board import Board, Figure, write_board

    board = Board("x", "now", "IRAI", False, [], lesion=[Figure("Volume", "3 mL", "7")])
    with pytest.raises(InputError, match="Volume"):
        write_board(board, tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()


def test_what_does_not_fit_is_counted(tmp_path) -> None:
    from IRAILib.report.biopsy_board import MOST, Board, BoardSource, Figure, ScoreLine, ordinal, write_board

    source = BoardSource("1", "score", "Score", "vtkMRMLTextNode1", "ab" * 32, "irai://node/vtkMRMLTextNode1")
    lines = [ScoreLine(Figure(f"Score {n}", f"{n} points", "1"), "a 1", "paper") for n in range(MOST["scores"] + 3)]
    page = write_board(Board("x", "now", "IRAI", False, [source], scores=lines), tmp_path / "b.html").read_text()
    assert "and 3 more in the JSON" in page
    assert [ordinal(n) for n in (0, 1, 2, 3, 11, 12, 13, 21, 100, 101, 111)] == [
        "0th", "1st", "2nd", "3rd", "11th", "12th", "13th", "21st", "100th", "101st", "111th"]
