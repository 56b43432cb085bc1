"""What headless Slicer can't give says so, by name, with what to use in its place."""

from __future__ import annotations

from ..geometry import IRAIError


class HeadlessUnavailableError(IRAIError, RuntimeError):
    """A part of desktop Slicer that needs its window, its Qt or its programs was asked for without them."""


class HeadlessAttributeError(HeadlessUnavailableError, AttributeError):
    """The same, for an attribute: `hasattr` still answers False, as on a desktop Slicer without that part."""


def unavailable(what: str, instead: str, error: type[HeadlessUnavailableError] = HeadlessUnavailableError):
    """The error for `what`, which only desktop Slicer has, naming what to use `instead`."""
    return error(f"{what} needs desktop Slicer and is not there in headless Slicer: {instead}")
