"""What is done with one case, on whatever machine: files in, plain numbers out. Never raises for a bad case."""

from __future__ import annotations

import gc
import logging
import time
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

from .. import __version__
from ..geometry import InputError, IRAIError, MissingPackageError, RefusedError

log = logging.getLogger("IRAI.cohort")


def run_case(task: str, case: dict[str, Any], settings: dict[str, Any], timeout_s: float | None = None
             ) -> dict[str, Any]:
    """One case, as a Dask worker calls it.

    Args:
        case: `Case.to_dict()`. settings: as `read_settings` gives them. timeout_s: the case is ended after so long,
            in a process of its own.
    Returns: JSON-ready {"status": "done", "values", "notes", "about", "seconds", ...}, or status "refused" or "failed"
        with "kind" and "message". Nothing of the images stays in memory or in the result.
    """
    began = time.monotonic()
    try:
        if timeout_s:
            from ..jobs import run_job

            values = run_job("IRAILib.cohort.tasks:work", {"task": task, "case": case, "settings": settings},
                             timeout_s=timeout_s)
        else:
            values = work(task, case, settings)
        outcome: dict[str, Any] = {"status": "done", **values}
    except RefusedError as error:
        outcome = {"status": "refused", "kind": "refused", "message": _line(error)}
    except MissingPackageError as error:
        outcome = {"status": "failed", "kind": "missing package", "message": _line(error)}
    except InputError as error:
        outcome = {"status": "failed", "kind": "bad input", "message": _line(error)}
    except MemoryError:
        outcome = {"status": "failed", "kind": "memory", "message": "not enough memory for this case"}
    except IRAIError as error:
        outcome = {"status": "failed", "kind": "stopped", "message": _line(error)}
    except Exception as error:  # one broken case must not end a run of hundreds; the traceback is kept with it
        log.exception("case %s", case.get("name"))
        outcome = {"status": "failed", "kind": type(error).__name__, "message": _line(error) or type(error).__name__,
                   "traceback": traceback.format_exc(limit=8)}
    gc.collect()
    return {"case": case["name"], "patient": case["patient"], "task": task, "software": f"IRAI {__version__}",
            "seconds": round(time.monotonic() - began, 3), **outcome}


def work(task: str, case: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one case: {"values": {column: number, text or None}, "about": {column: unit, name}, "notes"}."""
    return {"radiomics": _radiomics, "margin": _margin, "outcome-features": _outcome_features}[task](case, settings)


def read_settings(task: str, path: str | Path | None) -> dict[str, Any]:
    """The settings of a task from YAML, checked before any case begins. Raises InputError naming the key."""
    document = {} if path is None else _read(path)
    where = "" if path is None else f"{path}: "
    if task == "margin":
        return {"margin": _known(document.pop("margin", {}), "ablation.MarginOptions", f"{where}margin"),
                "registration": _known(document.pop("registration", {}), "registration.RegistrationOptions",
                                       f"{where}registration"), **_nothing_left(document, where)}
    from ..biopsy.radiomics import Settings

    extra: dict[str, Any] = {}
    if task == "outcome-features":
        from .features import read_extra

        extra = read_extra(document, where)
    return {"radiomics": Settings.from_dict(document).to_dict(), **extra}


def _read(path: str | Path) -> dict[str, Any]:
    from ..biopsy.radiomics.settings import read_yaml

    return read_yaml(path)


def _known(given: Any, target: str, where: str) -> dict[str, Any]:
    """Options that the class knows, with values that it takes."""
    import importlib

    module, _, name = target.rpartition(".")
    kind = getattr(importlib.import_module(f"IRAILib.{module}"), name)
    if not isinstance(given, dict):
        raise InputError(f"{where}: must hold names and values")
    names = [entry.name for entry in fields(kind)]
    for key in given:
        if key not in names:
            raise InputError(f"{where}: unknown setting '{key}'; there are {', '.join(names)}")
    try:
        kind(**given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None
    return dict(given)


def _nothing_left(document: dict[str, Any], where: str) -> dict[str, Any]:
    if document:
        raise InputError(f"{where}unknown setting '{next(iter(document))}'; there are margin, registration")
    return {}


def _radiomics(case: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    from ..biopsy.radiomics import Settings, extract
    from .features import read_pair, tidy

    chosen = Settings.from_dict(settings["radiomics"])
    image, mask, notes = read_pair(case, chosen)
    row = tidy({"": extract(image, mask, chosen)})
    return {**row, "notes": [*notes, *row["notes"]]}


def _outcome_features(case: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    from .features import outcome_features

    return outcome_features(case, settings)


def _margin(case: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    from .margins import margin_values

    return margin_values(case, settings)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
