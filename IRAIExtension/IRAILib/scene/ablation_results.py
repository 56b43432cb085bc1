"""What the margin step leaves in the scene: coloured model, thinnest point, thin region, table, histogram, record."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .changes import SceneChange
from .traffic_light import PROBABILITY, RED, SCALAR, colour_model, traffic_light_table
from .write import mask_to_segment, rows_to_table, surface_to_model

EVALUATED = "Evaluated"
"""Point scalar: 0 where the surface is subcapsular and left out of the numbers."""
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
                             {SCALAR: result.margin_mm, PROBABILITY: np.nan_to_num(result.probability_below),
                              EVALUATED: result.evaluated.astype(float)})
    colour_model(model, colors, threshold_mm)
    parts = {"model": model, "colors": colors}
    parts |= _thinnest(change, result, threshold_mm)
    if result.under_mask.array.any():
        parts["under"] = _under_region(change, result, threshold_mm)
    parts["table"] = rows_to_table(change.add("vtkMRMLTableNode", "Margin table", "margin.table"),
                                   ["Quantity", "Value", "Unit"], table_rows(document, threshold_mm))
    return parts | _histogram(change, result, threshold_mm)


def place_text(place) -> str:
    """A ThinnestPlace in a few words: "2.1 mm, caudal, right, 8 o'clock"."""
    words = [f"{place.margin_mm:.1f} mm", place.words]
    if place.clock is not None:
        words.append(f"{place.clock} o'clock")
    return ", ".join(word for word in words if word)


def _thinnest(change: SceneChange, result, threshold_mm: float) -> dict[str, Any]:
    """A labelled point, a line from it to where the ablation should have reached, and what would close the gap."""
    if result.thinnest is None:
        return {}
    start = np.array(result.thinnest.point_ras)
    missing = max(threshold_mm - result.thinnest.margin_mm, 1.0)
    end = start + np.array(result.thinnest.direction_ras) * missing
    point = _markup(change, "vtkMRMLMarkupsFiducialNode", "Thinnest margin", "margin.thinnest")
    point.AddControlPoint(start.tolist(), f"{result.thinnest.margin_mm:.1f} mm")
    point.SetNthControlPointDescription(0, place_text(result.thinnest))
    line = _markup(change, "vtkMRMLMarkupsLineNode", "Missing margin direction", "margin.direction")
    line.AddControlPoint(start.tolist(), "")
    line.AddControlPoint(end.tolist(), "")
    line.GetDisplayNode().SetPointLabelsVisibility(False)
    if hasattr(line.GetDisplayNode(), "SetLineEndArrowVisibility"):
        line.GetDisplayNode().SetLineEndArrowVisibility(True)
    parts = {"thinnest": point, "direction": line}
    if result.applicator is not None:
        target = _markup(change, "vtkMRMLMarkupsFiducialNode", "Zone that would close it", "margin.applicator")
        target.AddControlPoint(list(result.applicator.target_ras),
                               f"radius {result.applicator.zone_radius_mm:.0f} mm (geometry only)")
        target.GetDisplayNode().SetVisibility(False)
        parts["applicator"] = target
    return parts


def _markup(change: SceneChange, class_name: str, name: str, role: str) -> Any:
    node = change.add(class_name, name, role)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSelectedColor(1.0, 1.0, 1.0)
    display.SetTextScale(3.5)
    display.SetGlyphScale(2.0)
    display.SetPropertiesLabelVisibility(False)
    node.SetLocked(True)
    return node


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
    place = document.get("thinnest") or {}
    clock = f", {place['clock']} o'clock" if place.get("clock") else ""
    rows = [
        ["Minimal margin (MAM)", document.get("mam_mm"), "mm"],
        ["95 % interval", None if not interval else f"{interval[0]:.1f} to {interval[1]:.1f}", "mm"],
        [f"Probability of under {threshold_mm:g} mm", _percent(document.get("probability_mam_below_threshold")), "%"],
        ["Thinnest place", f"{place['words']}{clock}" if place else None, ""],
        ["1st percentile", document.get("p1_mm"), "mm"],
        ["5th percentile", document.get("p5_mm"), "mm"],
        ["Median", document.get("p50_mm"), "mm"],
        ["Surface under 0 mm", _percent(share.get("below_0")), "%"],
        [f"Surface 0 to {threshold_mm:g} mm", _percent(share.get(f"0_to_{threshold_mm:g}")), "%"],
        [f"Surface over {threshold_mm:g} mm", _percent(share.get(f"above_{threshold_mm:g}")), "%"],
        ["Tumour covered", document.get("coverage_percent"), "%"],
        ["Residual tumour", document.get("residual_tumor_ml"), "ml"],
        ["Tumour", document.get("tumor_ml"), "ml"],
        ["Ablation zone", document.get("ablation_ml"), "ml"],
        ["Wanted but not ablated", document.get("tissue_at_risk_ml"), "ml"],
        ["Dice of tumour and zone", document.get("dice"), ""],
        ["Subcapsular, left out", _percent(document.get("subcapsular_share")), "%"],
        ["Least margin there", document.get("subcapsular_min_mm"), "mm"],
        ["Perivascular", _percent(document.get("perivascular_share")), "%"],
        ["Least margin near a vessel", document.get("perivascular_min_mm"), "mm"],
        ["Margin if only rigid", (document.get("registration") or {}).get("rigid_mam_mm"), "mm"],
    ]
    return [[name, value if isinstance(value, str) else f"{value:.2f}" if not unit else f"{value:.1f}", unit]
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

    keep = result.evaluated
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
