"""What can go wrong, in words that a user can act on.

Every message is one line: what was wrong, in which file or node, what to do.
"""

from __future__ import annotations


class IRAIError(Exception):
    """Base of every error that IRAI raises on purpose. Its text may be shown to a user as it is."""


class InputError(IRAIError):
    """An input can't be used: missing, damaged, ambiguous or out of range (exit code 2)."""


class EmptyMaskError(InputError):
    """A mask holds no voxel."""


class FrameMismatchError(InputError):
    """Two objects live in different coordinate frames, or a product of transforms doesn't chain."""


class MissingPackageError(InputError):
    """An optional package is needed and not installed; the text says how to install it."""


class RefusedError(IRAIError):
    """The input was read, but an honest answer can't be given (exit code 3)."""


class CancelledError(IRAIError):
    """The user cancelled, or a time-out ended the work. Nothing was left behind."""
