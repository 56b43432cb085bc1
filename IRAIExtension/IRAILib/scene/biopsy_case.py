"""A virtual biopsy's case: the volume, the lesion's segment, the organ's; the folder that takes every result."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from .. import RESEARCH_NOTICE, __version__
from ..geometry import InputError
from .ablation_results import write_record
from .biopsy_sources import INPUT, Source, source_of, sources_of, tie_sources
from .changes import SceneChange, link_parts, put_in_folder
from .nodes import SegmentRef

SYNTHETIC = "IRAI.Synthetic"
STUDY_FOLDER = "Virtual biopsy"


@dataclass(frozen=True)
class BiopsyCase:
    """What a user chose. organ: keeps a shell out of what isn't organ; region: what features are measured of, None
    for the lesion; both may be None."""

    volume: Any
    lesion: SegmentRef
    organ: SegmentRef | None = None
    region: SegmentRef | None = None

    @property
    def folder(self) -> str:
        """Name of the subject-hierarchy folder that takes every result of this case."""
        segment = self.lesion.node.GetSegmentation().GetSegment(self.lesion.segment_id)
        return f"{STUDY_FOLDER}: {segment.GetName() if segment else self.lesion.segment_id}"

    @property
    def synthetic(self) -> bool:
        """Whether the volume was painted by a program."""
        return self.volume is not None and bool(self.volume.GetAttribute(SYNTHETIC))

    @property
    def measured(self) -> SegmentRef:
        """What features are measured of."""
        return self.region or self.lesion

    def sources(self, *, with_organ: bool = False, of_region: bool = False) -> list[Source]:
        """Volume and lesion (and organ; or the region in place of the lesion) as they are now.

        Raises InputError for what is missing or empty."""
        if self.volume is None:
            raise InputError("no volume is selected; choose the scan in step 1")
        asked = self.measured if of_region else self.lesion
        role = "lesion" if asked.segment_id == self.lesion.segment_id else "region"
        found = [source_of("volume", self.volume), source_of(role, asked.node, asked.segment_id)]
        if with_organ and self.organ is not None:
            found.append(source_of("organ", self.organ.node, self.organ.segment_id))
        return found


def other_case(record: Any, case: BiopsyCase) -> str:
    """Why a result is not this case's: it was made of another lesion or scan of the scene; "" where it is this one's.

    No record, one without sources, and one whose nodes are gone (`stale_reasons` says so) give "". Raises InputError
    for a damaged record.
    """
    for source in sources_of(record):
        node = record.GetNodeReference(INPUT + source.role)
        if node is None:
            continue
        if source.role == "features":
            reason = other_case(node, case)
            if reason:
                return reason
        elif source.role == "volume" and node is not case.volume:
            return f"made of another scan ({source.name})"
        elif source.role in ("lesion", "region"):
            segment = case.lesion.segment_id if source.role == "lesion" else source.segment_id
            if node is not case.lesion.node or source.segment_id != segment:
                return f"made of another lesion ({source.name})"
    return ""


def keep_record(change: SceneChange, name: str, role: str, document: dict[str, Any], sources: list[Source],
                parts: dict[str, Any], folder: str) -> Any:
    """Write a step's record with its sources, parts and provenance, and put all that is new into the folder."""
    document = {**document, "sources": [source.to_dict() for source in sources], "software": f"IRAI {__version__}",
                "notice": RESEARCH_NOTICE, "created": now_text()}
    record = write_record(change, name, role, document)
    tie_sources(record, sources)
    link_parts(record, parts)
    put_in_folder(change.added, folder)
    return record


def now_text() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
