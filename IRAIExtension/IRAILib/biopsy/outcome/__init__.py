"""Floor 3: outcome models from a table that can't fool their maker: leaks named, everything learnt inside the fold."""

from .record import Column, HeldOut, Leak, Plan, Run

__all__ = ["Column", "HeldOut", "Leak", "Plan", "Run"]
