"""Outcome models of several hospitals whose rows stay where they are.

This package's front is plain numpy and can be read, tested and used without Flower: what a site computes
(`site_answer`), what the coordinator does with sums over sites (`Coordinator`), how sums are masked (`masking`).
`server_app` and `client_app` carry these over Flower and are loaded by Flower alone.
"""

from .coordinator import Coordinator, train_in_process
from .masking import FixedPoint, add_masks, sum_masked
from .plan import Column, FederatedPlan, SitePolicy
from .result import FederatedResult, TrainedModel
from .site import SiteRows, read_rows, site_answer

__all__ = ["Column", "Coordinator", "FederatedPlan", "FederatedResult", "FixedPoint", "SitePolicy", "SiteRows",
           "TrainedModel", "add_masks", "read_rows", "site_answer", "sum_masked", "train_in_process"]
