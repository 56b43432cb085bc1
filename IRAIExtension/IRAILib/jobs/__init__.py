"""Floor 1: long work in a worker process, with progress, cancel and time-out."""

from .runner import run_job

__all__ = ["run_job"]
