"""Floor 3: figures that a statistician can sign: numpy in, dataclass out; what has no value says why, never NaN."""

from .bootstrap import Comparison, Difference, Interval, bootstrap, bootstrap_vector, by_repeat, compare
from .calibration import Bin, Calibration, Curve, calibration
from .checks import Metrics, NotEstimableError
from .classification import (
    auc,
    average_precision,
    choose_threshold,
    class_metrics,
    class_report,
    delong,
    roc_curve,
)
from .competing import competing_metrics, competing_report, wolbers_c
from .conformal import ConformalClassifier, ConformalInterval, Coverage, PredictedSet
from .conformal_survival import ConformalSurvival, TimeInterval
from .curves import aalen_johansen, censoring_curve, kaplan_meier, pseudo_values, restricted_mean
from .decision import DecisionCurve, decision_curve, decision_curve_survival, net_benefit
from .drift import Drift, ReferenceSummary, corrected, drift, psi, summarise
from .monitor import CalibrationOverTime, Cusum, calibration_over_time, cusum, mmd
from .permutation import Permutation, permutation_p, permutation_test, shuffled
from .similarity import Likeness, Similarity
from .survival import brier_at, dynamic_auc, harrell_c, survival_metrics, survival_report, uno_c
from .survival_calibration import HorizonCalibration, horizon_calibration, observed_risk

__all__ = [
    "Bin", "Calibration", "CalibrationOverTime", "Comparison", "ConformalClassifier", "ConformalInterval",
    "ConformalSurvival", "Coverage", "Curve", "Cusum", "DecisionCurve", "Difference", "Drift", "HorizonCalibration",
    "Interval", "Likeness", "Metrics", "NotEstimableError", "Permutation", "PredictedSet", "ReferenceSummary",
    "Similarity", "TimeInterval", "aalen_johansen", "auc", "average_precision", "bootstrap", "bootstrap_vector",
    "brier_at", "by_repeat", "calibration", "calibration_over_time", "censoring_curve", "choose_threshold",
    "class_metrics", "class_report", "compare", "competing_metrics", "competing_report", "corrected", "cusum",
    "decision_curve", "decision_curve_survival", "delong", "drift", "dynamic_auc", "harrell_c", "horizon_calibration",
    "kaplan_meier", "mmd", "net_benefit", "observed_risk", "permutation_p", "permutation_test", "pseudo_values", "psi",
    "restricted_mean", "roc_curve", "shuffled", "summarise", "survival_metrics", "survival_report", "uno_c",
    "wolbers_c",
]
