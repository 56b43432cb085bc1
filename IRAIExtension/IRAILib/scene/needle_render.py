"""How long the views took to draw, for the latency budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def last_render_ms(windows: Iterable[Any]) -> float | None:
    """Milliseconds that the last drawing of these vtkRenderWindows took, all together; None when none was drawn."""
    total, any_drawn = 0.0, False
    for window in windows:
        renderers = window.GetRenderers()
        for index in range(renderers.GetNumberOfItems()):
            seconds = renderers.GetItemAsObject(index).GetLastRenderTimeInSeconds()
            if seconds > 0.0:
                total, any_drawn = total + seconds, True
    return 1e3 * total if any_drawn else None


def desktop_windows() -> list[Any]:
    """The render windows of Slicer's visible slice and 3D views; none without a desktop."""
    import slicer

    from ..headless import is_desktop

    manager = slicer.app.layoutManager() if is_desktop() else None
    if manager is None:
        return []
    views = [manager.sliceWidget(name).sliceView() for name in manager.sliceViewNames()]
    views += [manager.threeDWidget(index).threeDView() for index in range(manager.threeDViewCount)]
    return [view.renderWindow() for view in views if view.visible]


def desktop_render_ms() -> float | None:
    """Milliseconds that Slicer's views took for their last drawing; None without a desktop."""
    return last_render_ms(desktop_windows())
