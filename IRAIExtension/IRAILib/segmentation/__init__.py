"""Floor 2: lesions and zones from a few clicks, and trained models from a local folder."""

from .bundles import BundleResult, segment_bundle
from .card import BundleCard, read_card
from .seeded import SeededOptions, SeededResult, segment_labels, segment_seeded

__all__ = ["BundleCard", "BundleResult", "SeededOptions", "SeededResult", "read_card", "segment_bundle",
           "segment_labels", "segment_seeded"]
