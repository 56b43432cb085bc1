"""The next scan plane, sent to the scanner that the needle was seen by."""

from __future__ import annotations

from typing import Any

from ..geometry import InputError, NeedleStatus, RefusedError
from ..link.scan_planes import plane_messages
from .stream import StreamResult


class PlaneSender:
    """Sends PLANE_0..2 for each needle that was measured, back to where the pictures came from; never a predicted one.

    `text` says what went out last, or why nothing did.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.text = "No scan plane was sent yet"

    def send(self, link: Any, found: StreamResult) -> bool:
        """Planes through the needle of one picture. Args: link: LinkClient or LinkServer. Returns whether they went."""
        if found.estimate.status is not NeedleStatus.SEEN:
            self.text = f"{self._so_far()}; held back: the needle is {found.estimate.status.value.replace('_', ' ')}"
            return False
        try:
            planes = plane_messages(found.tracked())
        except (InputError, RefusedError) as error:
            self.text = f"{self._so_far()}; held back: {error}"
            return False
        if not all(link.send(plane) for plane in planes):
            self.text = f"{self._so_far()}; held back: nobody is connected"
            return False
        self.sent += 1
        self.text = self._so_far()
        return True

    def _so_far(self) -> str:
        return f"Scan planes sent: {self.sent}"
