"""Floor 3: outcome models from a table that can't fool their maker: leaks named, everything learnt inside the fold."""

from .fitted import FittedModel
from .record import Column, HeldOut, Leak, Plan, Run
from .table import Table, read_table
from .train import train

__all__ = ["Column", "FittedModel", "HeldOut", "Leak", "Plan", "Run", "Table", "read_table", "train"]
