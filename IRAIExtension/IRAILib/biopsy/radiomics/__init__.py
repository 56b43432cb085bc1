"""Radiomics after the Image Biomarker Standardisation Initiative: features, filters, stability, regions.

`extract(image, mask, Settings(...))` measures; Docs/radiomics.md says how, Docs/validation.md has the compliance table.
"""

from .extract import Feature, FeatureSet, extract
from .names import AGGREGATIONS, FAMILIES, parse_key
from .settings import Settings

__all__ = ["AGGREGATIONS", "FAMILIES", "Feature", "FeatureSet", "Settings", "extract", "parse_key"]
