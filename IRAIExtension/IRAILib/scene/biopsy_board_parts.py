"""Parts of the board's page that are read from one record each."""

from __future__ import annotations

from typing import Any

from ..report.biopsy_board import MOST, Figure, Prediction

KEY_FEATURES = ("morph_sphericity", "morph_pca_elongation", "stat_mean", "stat_skew", "stat_p90", "ih_entropy_3D_comb",
                "ih_entropy", "cm_contrast_3D_comb", "cm_joint_entr_3D_comb", "ngt_coarseness_3D", "ngt_coarseness",
                "szm_zs_entr_3D")
"""Shown where no model says which features matter: fixed, so that nobody can pick the striking ones."""


def region_figures(document: dict[str, Any]) -> list[list[str]]:
    """Rows (label, value, unit) of a shell or habitat record; [] for none."""
    return [[str(cell) for cell in row] for row in document.get("board_rows") or []]


def key_features(features: dict[str, Any], prediction: dict[str, Any]) -> list[str]:
    """Keys for the page: those that pushed the prediction most, then the fixed ones."""
    pushed = [str(reason.get("feature")) for reason in prediction.get("reasons") or []]
    wanted = [key for key in dict.fromkeys([*pushed, *KEY_FEATURES]) if key in features["features"]]
    return (wanted or list(features["features"]))[:MOST["features"]]


def feature_label(key: str, known: dict[str, Any]) -> str:
    """A feature's name with its aggregation and, where the image was filtered, the filter."""
    prefix = key.rpartition("__")[0]
    return ", ".join(filter(None, [known["name"], known["aggregation"], prefix]))


def prediction_block(document: dict[str, Any], key: str, stale: bool) -> Prediction:
    """The page's block for a prediction record."""
    figures = tuple(Figure(row["label"], row["value"], key, row.get("note", ""), stale)
                    for row in document.get("figures") or [])
    similarity = document.get("similarity_text")
    pushes = [reason for reason in document.get("reasons") or [] if reason.get("contribution") is not None]
    largest = max((abs(float(reason["contribution"])) for reason in pushes), default=1.0) or 1.0
    reasons = tuple((str(reason["feature"]), f"{float(reason['contribution']):+.3g}",
                     float(reason["contribution"]) / largest) for reason in pushes)
    return Prediction(str(document.get("title") or "model"), figures if not document.get("refused") else (),
                      str(document.get("refused") or ""),
                      None if not similarity else Figure("similarity", str(similarity), key,
                                                         str(document.get("similarity_note") or ""), stale),
                      str(document.get("validated_on") or "not said by the model"),
                      str(document.get("intended_use") or "not said by the model"),
                      str(document.get("performance") or "not said by the model"), key, reasons)


def prediction_unknowns(document: dict[str, Any]) -> list[str]:
    """What the page says of a missing or refused prediction."""
    if not document:
        return ["outcome: no model was asked"]
    out = []
    if document.get("refused"):
        out.append("outcome: the model refused this patient")
    return out + [f"model: {text}" for text in document.get("warnings") or []]


def feature_unknowns(features: dict[str, Any]) -> list[str]:
    """What the page says of missing, undefined or doubtful features."""
    if not features:
        return ["image features: none were extracted"]
    undefined = features.get("undefined") or {}
    out = [f"{len(undefined)} of {len(features['features'])} features are not defined for this lesion"] if undefined \
        else []
    return out + [f"features: {text}" for text in features.get("warnings") or []]


def stability_unknowns(features: dict[str, Any], stability: dict[str, Any]) -> list[str]:
    """What the page says of features whose stability is bad or not known."""
    if not features:
        return []
    if not stability:
        return ["how much the features depend on the outline: their stability was not tested"]
    unstable = stability.get("unstable") or {}
    return [f"{len(unstable)} of {len(features['features'])} features are unstable under small changes of outline and "
            "noise"] if unstable else []


def cohort_unknowns(features: dict[str, Any], cohort: dict[str, Any]) -> list[str]:
    """What the page says of a missing or doubtful comparison with other patients."""
    if not features:
        return []
    if not cohort:
        return ["where this patient lies among others: no table was compared"]
    return [f"comparison: {text}" for text in cohort.get("warnings") or []]
