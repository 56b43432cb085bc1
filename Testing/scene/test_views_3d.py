"""3D pictures: sides, colours, translucency, legends and close-ups."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.headless import HeadlessUnavailableError, rendering
from IRAILib.headless.views import ThreeDView, add_color_legend
from view_cases import SIZE, ball, centre_of, dots, segmentation_of_box


@pytest.fixture(autouse=True)
def renderer(app):
    """Skips where nothing can draw."""
    try:
        rendering.require_rendering()
    except HeadlessUnavailableError as error:
        pytest.skip(str(error))


def test_a_model_has_its_colour_in_3d():
    ball((0, 0, 0), color=(0.1, 0.9, 0.2))
    with ThreeDView(SIZE, background=((0, 0, 0), (0, 0, 0))) as view:
        image = view.look_from("anterior").image().astype(int)
    middle = image[120, 150]
    assert middle[1] > 200
    assert middle[1] > 4 * middle[0]
    assert image[5, 5].max() == 0
    filled = (image.max(axis=2) > 20).sum() / image[..., 0].size
    assert 0.2 < filled < 0.6


@pytest.mark.parametrize(("direction", "red_is"), [
    ("anterior", "left"), ("posterior", "right"), ("superior", "right"), ("inferior", "left")])
def test_sides_in_3d(direction, red_is):
    """From the front the patient's right is on the left; from behind and from above (front on top) on the right."""
    ball((30.0, 0.0, 0.0), color=(1.0, 0.0, 0.0))
    ball((-30.0, 0.0, 0.0), color=(0.0, 0.0, 1.0))
    with ThreeDView(SIZE, background=((0, 0, 0), (0, 0, 0))) as view:
        image = view.look_from(direction).image().astype(int)
    red = centre_of((image[..., 0] > 100) & (image[..., 2] < 50))
    blue = centre_of((image[..., 2] > 100) & (image[..., 0] < 50))
    assert (red[1] < blue[1]) == (red_is == "left")


def test_any_direction_and_target():
    ball((0, 0, 50), color=(1, 0, 0))
    ball((0, 0, -50), color=(0, 0, 1))
    with ThreeDView(SIZE, background=((0, 0, 0), (0, 0, 0))) as view:
        both = view.look_from((1.0, 1.0, 0.0)).image()
        upper = view.target((0, 0, 50), 20).image()
    assert centre_of(both[..., 0] > 100)[0] < centre_of(both[..., 2] > 100)[0]
    np.testing.assert_allclose(centre_of(upper[..., 0] > 100), (120, 150), atol=8)
    assert upper[..., 2].max() < 100


def test_scalars_are_coloured_by_their_table(scene):
    import slicer
    from vtk.util.numpy_support import numpy_to_vtk

    model = ball((0, 0, 0), 20.0)
    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetNumberOfColors(3)
    for index, color in enumerate(((1, 0, 0), (1, 1, 0), (0, 1, 0))):
        table.SetColor(index, str(index), *color, 1.0)
    scene.AddNode(table)
    height = numpy_to_vtk(slicer.util.arrayFromModelPoints(model)[:, 2].copy(), deep=True)
    height.SetName("height_mm")
    model.GetPolyData().GetPointData().AddArray(height)
    display = model.GetDisplayNode()
    display.SetActiveScalarName("height_mm")
    display.SetAndObserveColorNodeID(table.GetID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(-20.0, 20.0)
    display.SetScalarVisibility(True)
    with ThreeDView(SIZE, background=((0, 0, 1), (0, 0, 1))) as view:
        image = view.close_up(model).image().astype(int)
        plain = view.image()
        add_color_legend(model, "height", 3, "%.0f mm")
        legend = view.image()
    column = image[:, 150]
    inside = np.where(column[:, 2] < 60)[0]
    top, middle, bottom = (column[inside[int(len(inside) * share)]] for share in (0.15, 0.5, 0.85))
    assert top[1] > 2 * top[0]
    assert min(middle[0], middle[1]) > 150
    assert bottom[0] > 2 * bottom[1]
    changed = np.where(np.abs(legend.astype(int) - plain).max(axis=2) > 40)
    assert len(changed[1]) > 200
    assert changed[1].min() > 150


def test_a_legend_that_was_there_before_the_view_is_drawn_once(scene):
    """Slicer's manager overlooks it; and it must not be left over when it is hidden."""
    model = ball((0, 0, 0))
    model.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")
    with ThreeDView(SIZE, background=((0, 0, 0), (0, 0, 0))) as first:
        bare = first.image()
        legend = add_color_legend(model)
        shown = first.image()
        with ThreeDView(SIZE, background=((0, 0, 0), (0, 0, 0))) as second:
            np.testing.assert_array_equal(second.image(), shown)
            legend.SetVisibility(False)
            np.testing.assert_array_equal(second.image(), bare)
        np.testing.assert_array_equal(first.image(), bare)
    assert (shown != bare).any()


def test_translucent_surfaces_stay_visible():
    """With multi-sampling and depth peeling they vanish."""
    ball((0, 0, 0), 10.0, (1.0, 0.0, 0.0))
    ball((0, 0, 0), 25.0, (0.0, 0.0, 1.0), opacity=0.4)
    with ThreeDView(SIZE, background=((0, 0, 0), (0, 0, 0))) as view:
        image = view.image().astype(int)
    middle, rim = image[120, 150], image[120, 150 + 55]
    assert middle[0] > 80
    assert middle[2] > 40
    assert rim[2] > 40
    assert rim[0] < 20


def test_close_up_on_a_segment_under_a_transform(scene):
    import slicer

    node = segmentation_of_box(dots([]), (5, 8, 4), (9, 11, 7))
    node.CreateClosedSurfaceRepresentation()
    shift = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = 200.0, -100.0, 50.0
    shift.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(shift.GetID())
    with ThreeDView(SIZE, background=((0, 0, 0), (0, 0, 0))) as view:
        image = view.close_up(node).image().astype(int)
    green = image[..., 1] > 60
    assert green.mean() > 0.1
    np.testing.assert_allclose(centre_of(green), (120, 150), atol=8)


def test_show_only_hides_the_rest_and_gives_it_back():
    red, blue = ball((20, 0, 0), color=(1, 0, 0)), ball((-20, 0, 0), color=(0, 0, 1))
    with ThreeDView(SIZE, background=((0, 0, 0), (0, 0, 0))) as view:
        assert view.show_only(red).image()[..., 2].max() < 60
        assert view.show_only().image()[..., 2].max() > 100
    assert blue.GetDisplayNode().GetVisibility()
