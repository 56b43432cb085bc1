"""IRAILib: the logic that every IRAI module shares.

Rooms and who may import whom are drawn in CONTRIBUTING.md. Importing this package costs nothing:
torch, monai, slicer and every optional package are imported by the function that needs them.
"""

__version__ = "0.1.0"

RESEARCH_NOTICE = "Research software, not a medical device. Not for clinical decisions."
