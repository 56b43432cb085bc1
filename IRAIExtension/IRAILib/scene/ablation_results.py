"""What the margin step leaves in the scene: coloured model, thinnest point, thin region, table, histogram, record."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .changes import SceneChange
from .traffic_light import PROBABILITY, RED, SCALAR, colour_model, traffic_light_table
from .write import mask_to_segment, rows_to_table, surface_to_model

HISTOGRAM_BIN_MM = 1.0
HISTOGRAM_LIMIT_MM = 30.0
"""Margins beyond it are counted in the outermost bins: a plot of -80 to 60 mm shows nothing."""


def write_margin(change: SceneChange, result, document: dict[str, Any], threshold_mm: float) -> dict[str, Any]:
    """Add the nodes that show a MarginResult.

    Args:
        change: open SceneChange that takes the nodes back should anything fail.
        result: MarginResult, in the frame of the ablation image (world RAS).
        document: what the record's JSON will say; the table shows its numbers.
        threshold_mm: the required margin.
    Returns: the nodes by part name.
    """
    colors = traffic_light_table(change, threshold_mm)
    model = surface_to_model(result.surface, change.add("vtkMRMLModelNode", "Ablation margin", "margin.model"),
                             {SCALAR: result.margin_mm, PROBABILITY: result.probability_below})
    colour_model(model, colors, threshold_mm)
    parts = {"model": model, "colors": colors}
    parts |= _thinnest(change, result, threshold_mm)
    if result.under_mask is not None and result.under_mask.array.any():
        parts["under"] = _under_region(change, result, threshold_mm)
    parts["table"] = rows_to_table(change.add("vtkMRMLTableNode", "Margin table", "margin.table"),
                                   ["Quantity", "Value", "Unit"], table_rows(document, threshold_mm))
    return parts | _histogram(change, result, threshold_mm)


def outward_at(surface, point_ras: np.ndarray) -> np.ndarray:
    """(3,) unit outward normal of a Surface at its vertex nearest to a point."""
    nearest = int(np.argmin(((surface.points - np.asarray(point_ras)) ** 2).sum(axis=1)))
    return surface.point_normals()[nearest]


def _thinnest(change: SceneChange, result, threshold_mm: float) -> dict[str, Any]:
    """A labelled point, and a line from it to where the ablation should have reached."""
    if result.thinnest_point_ras is None:
        return {}
    start = np.asarray(result.thinnest_point_ras, float)
    point = change.add("vtkMRMLMarkupsFiducialNode", "Thinnest margin", "margin.thinnest")
    point.AddControlPoint(start.tolist(), f"{result.mam_mm:.1f} mm")
    line = change.add("vtkMRMLMarkupsLineNode", "Missing margin direction", "margin.direction")
    end = start + outward_at(result.surface, start) * threshold_mm
    line.AddControlPoint(start.tolist(), "")
    line.AddControlPoint(end.tolist(), "")
    for node in (point, line):
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSelectedColor(1.0, 1.0, 1.0)
        display.SetTextScale(3.5)
        display.SetGlyphScale(2.0)
        display.SetPropertiesLabelVisibility(False)
        node.SetLocked(True)
    line.GetDisplayNode().SetPointLabelsVisibility(False)
    if hasattr(line.GetDisplayNode(), "SetLineEndArrowVisibility"):
        line.GetDisplayNode().SetLineEndArrowVisibility(True)
    return {"thinnest": point, "direction": line}


def _under_region(change: SceneChange, result, threshold_mm: float) -> Any:
    node = change.add("vtkMRMLSegmentationNode", f"Margin under {threshold_mm:g} mm", "margin.under")
    node.CreateDefaultDisplayNodes()
    mask_to_segment(node, result.under_mask, f"under {threshold_mm:g} mm", RED)
    display = node.GetDisplayNode()
    display.SetOpacity2DFill(0.35)
    display.SetOpacity3D(0.0)
    return node


def table_rows(document: dict[str, Any], threshold_mm: float) -> list[list]:
    """Rows (quantity, value, unit) of the metrics table from the record's JSON; missing values are left out."""
    share = document.get("surface_share") or {}
    interval = document.get("mam_ci95_mm")
    rows = [
        ["Minimal ablative margin (MAM)", document.get("mam_mm"), "mm"],
        ["MAM, 95 % interval", None if not interval else f"{interval[0]:.1f} to {interval[1]:.1f}", "mm"],
        ["Margin, 1st percentile of the surface", document.get("p1_mm"), "mm"],
        ["Margin, 5th percentile", document.get("p5_mm"), "mm"],
        ["Margin, median", document.get("p50_mm"), "mm"],
        ["Surface under 0 mm", _percent(share.get("below_0")), "%"],
        [f"Surface 0 to {threshold_mm:g} mm", _percent(share.get("0_to_5")), "%"],
        [f"Surface over {threshold_mm:g} mm", _percent(share.get("above_5")), "%"],
        ["Tumour covered", document.get("coverage_percent"), "%"],
        ["Residual tumour", document.get("residual_tumor_ml"), "ml"],
        ["Tumour", document.get("tumor_ml"), "ml"],
        ["Ablation zone", document.get("ablation_ml"), "ml"],
        ["Dice of tumour and zone", document.get("dice"), ""],
        ["Subcapsular surface, left out", _percent(document.get("subcapsular_share")), "%"],
    ]
    return [[name, value if isinstance(value, str) else f"{value:.2f}", unit]
            for name, value, unit in rows if value is not None]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def histogram(margin_mm: np.ndarray, areas_mm2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area-weighted histogram of the margin.

    Args: margin_mm, areas_mm2: (n,) per vertex.
    Returns: (m,) bin centres in mm, `HISTOGRAM_BIN_MM` apart and breaking at 0; (m,) share of the area, percent.
    """
    clipped = np.clip(margin_mm, -HISTOGRAM_LIMIT_MM, HISTOGRAM_LIMIT_MM - 1e-6)
    low, high = np.floor(clipped.min() / HISTOGRAM_BIN_MM), np.floor(clipped.max() / HISTOGRAM_BIN_MM) + 1.0
    edges = np.arange(low, high + 0.5) * HISTOGRAM_BIN_MM
    counts, _ = np.histogram(clipped, edges, weights=areas_mm2)
    return (edges[:-1] + edges[1:]) / 2.0, 100.0 * counts / max(counts.sum(), 1e-12)


def _histogram(change: SceneChange, result, threshold_mm: float) -> dict[str, Any]:
    import slicer

    keep = np.isfinite(result.margin_mm)
    if not keep.any():
        return {}
    centres, share = histogram(result.margin_mm[keep], result.surface.point_areas_mm2()[keep])
    table = rows_to_table(change.add("vtkMRMLTableNode", "Margin histogram", "margin.histogram"),
                          ["Margin (mm)", "Share of surface (%)"],
                          [[float(a), float(b)] for a, b in zip(centres, share, strict=True)])
    series = change.add("vtkMRMLPlotSeriesNode", "Share of tumour surface", "margin.series")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("Margin (mm)")
    series.SetYColumnName("Share of surface (%)")
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatterBar)
    series.SetColor(0.25, 0.45, 0.65)
    chart = change.add("vtkMRMLPlotChartNode", "Ablation margin histogram", "margin.chart")
    chart.SetTitle(f"Margin over the tumour surface (wanted: {threshold_mm:g} mm)")
    chart.SetXAxisTitle("Margin (mm)")
    chart.SetYAxisTitle("Share of surface (%)")
    chart.SetLegendVisibility(False)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return {"histogram": table, "series": series, "chart": chart}


def write_record(change: SceneChange, name: str, role: str, document: dict[str, Any]) -> Any:
    """A text node with a step's result and provenance as JSON; kept inside the scene file."""
    node = change.add("vtkMRMLTextNode", name, role)
    node.SetText(json.dumps(document, indent=1, default=_plain))
    node.SetForceCreateStorageNode(False)
    return node


def read_record(node) -> dict[str, Any]:
    """A record's JSON; an empty dict for no node or a text that is not ours."""
    if node is None or not node.GetText():
        return {}
    try:
        document = json.loads(node.GetText())
    except json.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
