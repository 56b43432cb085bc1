"""Pictures from real Slicer views: every pixel where it should be, in the colour it should have."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.headless import HeadlessUnavailableError, rendering
from IRAILib.headless.views import SliceView, ThreeDView, axis_letters, write_png
from mrml_cases import oblique_ras_from_ijk
from PIL import Image
from view_cases import BRIGHT, SIZE, axial_matrix, ball, centre_of, dots, ras_of_voxel, segmentation_of_box


@pytest.fixture(autouse=True)
def renderer(app):
    """Skips where nothing can draw."""
    try:
        rendering.require_rendering()
    except HeadlessUnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("orientation", ["Axial", "Sagittal", "Coronal"])
@pytest.mark.parametrize("oblique", [False, True])
def test_a_voxel_is_drawn_where_it_lies(orientation, oblique):
    matrix = oblique_ras_from_ijk((2.0, 3.0, 4.0), (-30.0, -20.0, -40.0)) if oblique else axial_matrix()
    voxel = (21, 6, 13)
    ras = ras_of_voxel(matrix, voxel)
    volume = dots([voxel], ras_from_ijk=matrix)
    with SliceView(orientation, SIZE, letters=False) as view:
        view.show(volume, window=1000, level=500).centre_on(ras).field_of_view(60)
        image = view.image()
        expected = view.pixel_of(ras)
        np.testing.assert_allclose(view.ras_of(*expected), ras, atol=1e-6)
    assert image.shape == (240, 300, 3)
    np.testing.assert_allclose(centre_of(image[..., 0] > BRIGHT), expected, atol=0.75)
    np.testing.assert_allclose(expected, ((240 - 1) / 2, (300 - 1) / 2), atol=1.0)


def test_away_from_the_middle_too_and_at_the_right_size():
    matrix = axial_matrix()
    voxels = [(3, 4, 9), (28, 4, 9), (3, 20, 9)]
    volume = dots(voxels)
    with SliceView("Axial", SIZE, letters=False) as view:
        view.show(volume, window=1000, level=500).offset_mm(ras_of_voxel(matrix, voxels[0])[2]).field_of_view(90)
        image = view.image()
        pixel_mm = 90 / 300
        for voxel in voxels:
            row, column = view.pixel_of(ras_of_voxel(matrix, voxel))
            half = round(2.0 / pixel_mm), round(1.5 / pixel_mm)
            patch = image[int(row) - 12:int(row) + 13, int(column) - 12:int(column) + 13, 0] > BRIGHT
            assert patch[12, 12], voxel
            assert patch.sum() == pytest.approx(2.0 * 3.0 / pixel_mm**2, rel=0.15), (voxel, half)


def test_radiological_sides():
    """The patient's right is on the left of the picture, the front is on top, the head is on top."""
    right_front_up = (2, 2, 17)  # i small: right; j small: front; k large: up
    volume = dots([right_front_up])
    ras = ras_of_voxel(axial_matrix(), right_front_up)
    assert (ras > 0).all()
    for orientation, letters in (("Axial", "RA"), ("Coronal", "RS"), ("Sagittal", "AS")):
        with SliceView(orientation, SIZE, letters=False) as view:
            view.show(volume, window=1000, level=500).cut_through(ras)
            row, column = centre_of(view.image()[..., 0] > BRIGHT)
        assert row < 120, f"{orientation}: {letters[1]} is on top"
        assert column < 150, f"{orientation}: {letters[0]} is on the left of the picture"


def test_letters_name_the_edges(scene):
    assert axis_letters(np.array([1.0, 0.0, 0.0])) == "R"
    assert axis_letters(np.array([-1.0, 0.0, 0.02])) == "L"
    assert axis_letters(np.array([0.0, -0.8, 0.6])) == "PS"
    volume = dots([(1, 1, 1)])
    with SliceView("Axial", SIZE, letters=True) as view:
        with_letters = view.show(volume).image()
        texts = [actor.GetInput() for actor in view._letters]
    assert texts == ["L", "R", "A", "P"]  # right, left, upper, lower edge
    yellow = (with_letters[..., 0] > 150) & (with_letters[..., 2] < 130)
    for rows, columns in ((slice(None), slice(0, 30)), (slice(None), slice(270, 300)), (slice(0, 30), slice(None)),
                          (slice(210, 240), slice(None))):
        assert yellow[rows, columns].sum() > 5


def test_window_and_level_and_foreground(scene):
    import slicer

    ramp = np.zeros((4, 40, 50), np.int16) + 100
    background = slicer.util.addVolumeFromArray(ramp, axial_matrix((2, 2, 4)), "grey")
    foreground = slicer.util.addVolumeFromArray(ramp, axial_matrix((2, 2, 4)), "red")
    for volume in (background, foreground):
        volume.CreateDefaultDisplayNodes()
    foreground.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeRed")
    foreground.GetDisplayNode().SetAutoWindowLevel(False)
    foreground.GetDisplayNode().SetWindowLevel(200, 0)
    with SliceView("Axial", SIZE, letters=False) as view:
        middle = view.show(background, window=400, level=100).centre_on((-10, 5, -30)).image()[120, 150]
        np.testing.assert_allclose(middle, 127, atol=3)
        blended = view.show(background, foreground, opacity=0.5, window=400, level=100).centre_on((-10, 5, -30)).image()
        np.testing.assert_allclose(blended[120, 150], (191, 64, 64), atol=4)


def test_a_segment_contour_lies_on_the_segment():
    volume = dots([])
    low, high = (5, 8, 4), (19, 13, 12)
    node = segmentation_of_box(volume, low, high)
    node.GetDisplayNode().SetVisibility2DFill(False)
    node.GetDisplayNode().SetSliceIntersectionThickness(1)
    with SliceView("Axial", SIZE, letters=False) as view:
        view.show(volume, window=1000, level=500).offset_mm(ras_of_voxel(axial_matrix(), (0, 0, 8))[2])
        view.field_of_view(90)
        image = view.image().astype(int)
        green = (image[..., 1] > 80) & (image[..., 1] > image[..., 0] + 60)
        rows, columns = np.where(green)
        corners = [view.pixel_of(ras_of_voxel(axial_matrix(), (low[0] - 0.5, low[1] - 0.5, 8))),
                   view.pixel_of(ras_of_voxel(axial_matrix(), (high[0] + 0.5, high[1] + 0.5, 8)))]
    np.testing.assert_allclose((rows.min(), columns.min()), corners[0], atol=2.5)
    np.testing.assert_allclose((rows.max(), columns.max()), corners[1], atol=2.5)
    inner = green[rows.min() + 6:rows.max() - 5, columns.min() + 6:columns.max() - 5]
    assert not inner.any()
    # beyond the segment in the third direction there is nothing
    with SliceView("Axial", SIZE, letters=False) as view:
        view.show(volume, window=1000, level=500).offset_mm(ras_of_voxel(axial_matrix(), (0, 0, 15))[2])
        assert view.image().max() == 0


def test_a_model_is_cut_where_the_slice_meets_it():
    volume = dots([])
    model = ball((-4.0, 6.0, 1.0), 15.0)
    model.GetDisplayNode().SetVisibility2D(True)
    model.GetDisplayNode().SetSliceIntersectionThickness(1)
    with SliceView("Axial", SIZE, letters=False) as view:
        view.show(volume, window=1000, level=500).offset_mm(10.0).field_of_view(90)
        red = view.image()[..., 0] > 100
        expected = view.pixel_of((-4.0, 6.0, 10.0))
    radius_px = np.sqrt(15.0**2 - 9.0**2) * 300 / 90
    distance = np.linalg.norm(np.argwhere(red) - expected, axis=1)
    assert red.sum() > 100
    np.testing.assert_allclose(distance, radius_px, atol=2.0)


def test_a_markup_point_is_drawn_at_its_place(scene):
    import slicer

    volume = dots([])
    point = np.array([-12.0, 8.0, -1.0])
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "F")
    node.CreateDefaultDisplayNodes()
    slicer.util.updateMarkupsControlPointsFromArray(node, point[None])
    node.GetDisplayNode().SetPointLabelsVisibility(False)
    node.GetDisplayNode().SetSelectedColor(0.0, 1.0, 1.0)
    with SliceView("Axial", SIZE, letters=False) as view:
        image = view.show(volume, window=1000, level=500).offset_mm(point[2]).field_of_view(90).image()
        expected = view.pixel_of(point)
    np.testing.assert_allclose(centre_of(image[..., 2] > 100), expected, atol=1.5)


def test_two_views_of_one_scene_do_not_disturb_each_other():
    volume, other = dots([(15, 12, 9)]), dots([])
    with SliceView("Axial", SIZE, letters=False) as first, SliceView("Coronal", SIZE, letters=False) as second:
        first.show(volume, window=1000, level=500).centre_on(ras_of_voxel(axial_matrix(), (15, 12, 9)))
        before = first.image()
        second.show(other).image()
        np.testing.assert_array_equal(first.image(), before)
        assert before.max() == 255


def test_views_leave_nothing_in_the_scene_or_its_file(app, scene, tmp_path):
    import slicer

    dots([(1, 1, 1)])

    def node_ids():
        return sorted(scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes()))

    before = node_ids()
    with SliceView("Axial", SIZE) as flat, ThreeDView(SIZE) as solid:
        flat.show(slicer.util.getNode("dots")).image()
        solid.image()
        assert slicer.util.saveScene(str(tmp_path / "s.mrml"))
        flat.close()
        flat.close()
    assert node_ids() == before
    assert "IRAI" not in (tmp_path / "s.mrml").read_text()
    assert app.applicationLogic().GetSliceLogics().GetNumberOfItems() == 3


def test_png_is_the_picture_and_compressed(tmp_path):
    ball((0, 0, 0))
    with ThreeDView(SIZE) as view:
        path = view.caption("SYNTHETIC").save(tmp_path / "new" / "ball.png")
        image = view.image()
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    assert path.stat().st_size < image.nbytes / 4
    assert write_png(image[:10, :20], tmp_path / "crop.png").is_file()


def test_a_caption_is_drawn_in_its_corner_and_taken_away():
    volume = dots([])
    with SliceView("Axial", SIZE, letters=False) as view:
        text = view.show(volume, window=1000, level=500).caption("SYNTHETIC", "lower right").image().max(axis=2) > 100
        assert text[200:, 150:].sum() > 50
        assert text.sum() == text[200:, 150:].sum()
        assert view.caption("", "lower right").image().max() == 0


def test_wrong_wishes_are_named():
    with pytest.raises(InputError, match="Oblique"):
        SliceView("Oblique", SIZE)
    with ThreeDView(SIZE) as view:
        with pytest.raises(InputError, match="sideways"):
            view.look_from("sideways")
        with pytest.raises(InputError, match="three numbers"):
            view.look_from((0, 0, 0))


def test_without_any_renderer_the_apt_line_is_named(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv(rendering.VARIABLE, raising=False)
    monkeypatch.setattr(rendering, "has_egl", lambda: False)
    monkeypatch.setattr(rendering, "has_osmesa", lambda: False)
    monkeypatch.setattr(rendering.sys, "platform", "linux")
    with pytest.raises(HeadlessUnavailableError, match="apt-get install -y libegl1 libgl1-mesa-dri"):
        rendering.require_rendering()


def test_osmesa_is_chosen_where_there_is_no_egl(monkeypatch):
    monkeypatch.delenv(rendering.VARIABLE, raising=False)
    monkeypatch.setattr(rendering, "has_egl", lambda: False)
    monkeypatch.setattr(rendering, "has_osmesa", lambda: True)
    monkeypatch.setattr(rendering.sys, "platform", "linux")
    assert rendering.choose_render_window() == rendering.OSMESA_WINDOW
    monkeypatch.setenv(rendering.VARIABLE, "vtkSomethingElse")
    assert rendering.choose_render_window() == "vtkSomethingElse"
