"""pyradiomics' names of the features that IBSI knows too, and its published values for the case brain1.

Not in the table: features that IBSI has not (maximal correlation coefficient), that were dropped as copies of others,
or that are defined otherwise (kurtosis without the 3; see `test_radiomics_pyradiomics`).
"""

from __future__ import annotations

import ast
import csv
from pathlib import Path

_SIZES = ("GrayLevelNonUniformity glnu", "GrayLevelNonUniformityNormalized glnu_norm", "GrayLevelVariance gl_var")
NAMES = {
    "glcm": ("cm", (
        "Autocorrelation auto_corr", "ClusterProminence clust_prom", "ClusterShade clust_shade",
        "ClusterTendency clust_tend", "Contrast contrast", "Correlation corr", "DifferenceAverage diff_avg",
        "DifferenceEntropy diff_entr", "DifferenceVariance diff_var", "Id inv_diff", "Idm inv_diff_mom",
        "Idmn inv_diff_mom_norm", "Idn inv_diff_norm", "Imc1 info_corr1", "Imc2 info_corr2", "InverseVariance inv_var",
        "JointAverage joint_avg", "JointEnergy energy", "JointEntropy joint_entr", "MaximumProbability joint_max",
        "SumAverage sum_avg", "SumEntropy sum_entr", "SumSquares joint_var")),
    "glrlm": ("rlm", (
        *_SIZES, "HighGrayLevelRunEmphasis hgre", "LongRunEmphasis lre", "LongRunHighGrayLevelEmphasis lrhge",
        "LongRunLowGrayLevelEmphasis lrlge", "LowGrayLevelRunEmphasis lgre", "RunEntropy rl_entr",
        "RunLengthNonUniformity rlnu", "RunLengthNonUniformityNormalized rlnu_norm", "RunPercentage r_perc",
        "RunVariance rl_var", "ShortRunEmphasis sre", "ShortRunHighGrayLevelEmphasis srhge",
        "ShortRunLowGrayLevelEmphasis srlge")),
    "glszm": ("szm", (
        *_SIZES, "HighGrayLevelZoneEmphasis hgze", "LargeAreaEmphasis lze", "LargeAreaHighGrayLevelEmphasis lzhge",
        "LargeAreaLowGrayLevelEmphasis lzlge", "LowGrayLevelZoneEmphasis lgze", "SizeZoneNonUniformity zsnu",
        "SizeZoneNonUniformityNormalized zsnu_norm", "SmallAreaEmphasis sze", "SmallAreaHighGrayLevelEmphasis szhge",
        "SmallAreaLowGrayLevelEmphasis szlge", "ZoneEntropy zs_entr", "ZonePercentage z_perc", "ZoneVariance zs_var")),
    "gldm": ("ngl", (
        "DependenceEntropy dc_entr", "DependenceNonUniformity dcnu", "DependenceNonUniformityNormalized dcnu_norm",
        "DependenceVariance dc_var", "GrayLevelNonUniformity glnu", "GrayLevelVariance gl_var",
        "HighGrayLevelEmphasis hgce", "LargeDependenceEmphasis hde", "LargeDependenceHighGrayLevelEmphasis hdhge",
        "LargeDependenceLowGrayLevelEmphasis hdlge", "LowGrayLevelEmphasis lgce", "SmallDependenceEmphasis lde",
        "SmallDependenceHighGrayLevelEmphasis ldhge", "SmallDependenceLowGrayLevelEmphasis ldlge")),
    "ngtdm": ("ngt", ("Busyness busyness", "Coarseness coarseness", "Complexity complexity", "Contrast contrast",
                      "Strength strength")),
    "firstorder": ("stat", (
        "10Percentile p10", "90Percentile p90", "Energy energy", "InterquartileRange iqr", "Maximum max", "Mean mean",
        "MeanAbsoluteDeviation mad", "Median median", "Minimum min", "Range range",
        "RobustMeanAbsoluteDeviation rmad", "RootMeanSquared rms", "Skewness skew", "Variance var")),
    "shape": ("morph", (
        "Elongation pca_elongation", "Flatness pca_flatness", "MajorAxisLength pca_maj_axis",
        "MinorAxisLength pca_min_axis", "LeastAxisLength pca_least_axis", "Sphericity sphericity",
        "SurfaceArea area_mesh", "SurfaceVolumeRatio av", "MeshVolume volume", "VoxelVolume vol_approx",
        "Maximum3DDiameter diam")),
}
TEXTURES = ("glcm", "glrlm", "glszm", "gldm", "ngtdm")
DIRECTED = ("glcm", "glrlm")


def tags(family: str, way: str = "3D", merged: str = "avg") -> dict[str, str]:
    """Our key by pyradiomics' feature name, in one family; way: of textures, "3D" or "2_5D"; merged: avg or comb."""
    prefix, names = NAMES[family]
    end = {True: f"_{way}_{merged}", False: f"_{way}"}[family in DIRECTED] if family in TEXTURES else ""
    return {theirs: f"{prefix}_{ours}{end}" for theirs, ours in (name.split() for name in names)}


def baseline(data: Path, family: str) -> dict[str, tuple[dict, dict[str, float]]]:
    """(settings, values by feature name) of a family's published table, by case."""
    with (data / "radiomics" / "pyradiomics" / f"baseline_{family}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    table = {row[0]: row[1:] for row in rows[1:]}
    start = f"original_{family}_"
    return {case: (ast.literal_eval(table["diagnostics_Configuration_Settings"][column]),
                   {name.removeprefix(start): float(row[column]) for name, row in table.items()
                    if name.startswith(start) and row[column]})
            for column, case in enumerate(rows[0][1:])}
