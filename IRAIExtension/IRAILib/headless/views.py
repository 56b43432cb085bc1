"""Pictures from real Slicer views, off screen, as arrays or PNG files.

    with SliceView("Axial", 600) as view:
        view.show(ct, window=350, level=50).centre_on(point_ras).field_of_view(150).save("slice.png")
    with ThreeDView((800, 600)) as view:
        view.look_from("anterior").close_up(model).save("surface.png")

On a machine without a display this needs EGL (apt: libegl1 libgl1-mesa-dri) or OSMesa (apt: libosmesa6).
"""

from .offscreen import write_png
from .sliceview import SliceView, axis_letters
from .threedview import ThreeDView

__all__ = ["SliceView", "ThreeDView", "add_color_legend", "axis_letters", "write_png"]

LEGEND_COLORS = 256
LEGEND_SIZE, LEGEND_POSITION = (0.06, 0.33), (0.97, 0.5)
"""Shares of the picture: width and height; where the legend's own right and middle end up."""


def add_color_legend(node, title: str | None = None, labels: int | None = None, number_format: str | None = None):
    """Show the colours of a node's scalars beside the picture; gives the vtkMRMLColorLegendDisplayNode.

    Args:
        node: a displayable node with a colour node, for example a model with visible scalars.
        title: text over the bar; default: the node's name.
        labels: how many numbers stand beside the bar.
        number_format: for example "%.0f mm".
    """
    import slicer

    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(node)
    if legend is None:
        raise ValueError(f"{node.GetName()}: has no display or colour node to make a legend of")
    legend.SetTitleText(node.GetName() if title is None else title)
    legend.SetMaxNumberOfColors(LEGEND_COLORS)
    legend.SetSize(*LEGEND_SIZE)
    legend.SetPosition(*LEGEND_POSITION)
    if labels is not None:
        legend.SetNumberOfLabels(labels)
    if number_format is not None:
        legend.SetLabelFormat(number_format)
    legend.SetVisibility(True)
    return legend
