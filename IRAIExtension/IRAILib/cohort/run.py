"""A cohort on Dask: a cluster of this machine's own processes, or any cluster by its address."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..geometry import CancelledError, InputError, IRAIError, MissingPackageError
from .manifest import Case, read_manifest
from .results import TABLE_NAMES, Store
from .tasks import read_settings, run_case

log = logging.getLogger("IRAI.cohort")
ALLOWED_DEATHS = 3
"""A case during which so many workers died is not given to a further one."""
AHEAD = 2
"""So many cases a worker are handed out at a time: what is in flight, so in memory, doesn't grow with the cohort."""
BEAT_S = 0.2
PATIENCE_S = 60.0
"""So long a cluster may be without any worker before the run gives up (what is done stays)."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class CohortSummary:
    """What became of the cases. `skipped`: done in an earlier run, from the same files and settings."""

    task: str
    cases: int
    done: int
    refused: int
    failed: int
    skipped: int
    workers: int
    seconds: float
    table: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_cohort(manifest: str | Path, task: str, out: str | Path, *, config: str | Path | None = None,
               scheduler: str | None = None, workers: int | None = None, timeout_s: float | None = None,
               fresh: bool = False, tls: dict[str, str] | None = None, progress: Progress | None = None,
               cancelled: Callable[[], bool] | None = None, patience_s: float = PATIENCE_S) -> CohortSummary:
    """Every case of a manifest through a task; a case's result is kept as soon as it is there.

    Args:
        manifest: see `manifest.read_manifest`. task: radiomics, margin or outcome-features.
        out: folder of the results; where it holds an earlier run of this task, that run is gone on with: cases done
            from the same files, row and settings are not done again, failed ones are.
        config: settings as YAML. scheduler: address of a Dask scheduler (tcp://host:8786, tls://...), whose workers
            need this version of IRAI and the same paths; None: processes of this machine.
        workers: how many of those (default: one a core). timeout_s: longest time for a case.
        fresh: forget earlier results. tls: paths "ca", "cert", "key" for a tls:// address.
        progress: (share, text). cancelled: asked a few times a second.
        patience_s: how long a cluster may have no worker at all.
    Returns: counts; `out` then holds TABLE.parquet, TABLE.csv, columns.json, errors.csv, run.json and cases/.
    Raises: InputError (manifest, settings, folder, address, a worker with another version), CancelledError,
        IRAIError (all workers lost): what is done stays, and the same call goes on there.
    """
    began = time.monotonic()
    tell = progress or (lambda share, text: None)
    if workers is not None and (scheduler is not None or workers < 1):
        raise InputError("workers: give 1 or more, and only without the address of a scheduler, which has its own")
    if timeout_s is not None and timeout_s <= 0:
        raise InputError("timeout: give seconds above 0")
    cases = read_manifest(manifest, task)
    settings = read_settings(task, config)
    store = Store(out, task, settings)
    with ExitStack() as stack:
        stack.enter_context(store.locked())
        store.open(fresh)
        todo = [case for case in cases if not store.finished(case)]
        used = 0
        if todo:
            tell(0.0, "starting the workers" if scheduler is None else f"connecting to {scheduler}")
            client = stack.enter_context(_client(scheduler, workers or min(os.cpu_count() or 1, len(todo)), tls))
            used = len(client.nthreads())
            try:
                _work(client, store, todo, len(cases), timeout_s, tell, cancelled or (lambda: False), patience_s)
            finally:
                store.write_tables(cases)
        counts = store.write_tables(cases)
    return CohortSummary(task, len(cases), **counts, skipped=len(cases) - len(todo), workers=used,
                         seconds=round(time.monotonic() - began, 2), table=str(Path(out) / TABLE_NAMES[task]))


def _work(client, store: Store, todo: list[Case], total: int, timeout_s: float | None, tell: Progress,
          cancelled: Callable[[], bool], patience_s: float) -> None:
    """Hand out, gather, keep. Cases that died with a worker are given out again, one at a time: only then is it
    known which of those that the worker held is to blame."""
    state = _State(total, total - len(todo), tell, cancelled, patience_s)
    dead = _round(client, store, todo, AHEAD, timeout_s, state)
    for case in dead:
        for again in _round(client, store, [case], 1, timeout_s, state):
            store.keep(again, _died(again))
            state.one_more(False)


@dataclass
class _State:
    """How far a run is, and whether it is to go on."""

    total: int
    done: int
    tell: Progress
    cancelled: Callable[[], bool]
    patience_s: float
    failed: int = 0

    def __post_init__(self) -> None:
        self.began, self.first, self.lonely_since = time.monotonic(), self.done, None

    def one_more(self, good: bool) -> None:
        self.done, self.failed = self.done + 1, self.failed + (not good)
        text = f"{self.done} of {self.total} cases" + (f", {self.failed} without a result" if self.failed else "")
        if self.done < self.total:
            each_s = (time.monotonic() - self.began) / (self.done - self.first)
            text += f", about {each_s * (self.total - self.done):.0f} s left"
        self.tell(self.done / self.total, text)

    def check(self, workers: int) -> None:
        """Raises CancelledError, or IRAIError where no worker has been there for too long."""
        kept = f"{self.done} of {self.total} cases are done and kept"
        if self.cancelled():
            raise CancelledError(f"cancelled; {kept}: run the same command again to go on")
        self.lonely_since = None if workers else self.lonely_since or time.monotonic()
        if self.lonely_since is not None and time.monotonic() - self.lonely_since > self.patience_s:
            raise IRAIError(f"no worker was left for {self.patience_s:.0f} s; {kept}: start workers and run the same "
                            "command again")


def _round(client, store: Store, cases: list[Case], ahead: int, timeout_s: float | None, state: _State) -> list[Case]:
    """Every case once, `ahead` a worker in flight; returns those during which workers died."""
    from concurrent.futures import CancelledError as TaskCancelled  # parent of Dask's own, by whatever name

    from distributed import KilledWorker, wait

    waiting, flying, dead = iter(cases), {}, []
    name = f"irai-{os.getpid()}-{time.time_ns()}"
    try:
        while True:
            workers = _count_workers(client, state)
            for case in _next(waiting, ahead * max(workers, 1) - len(flying)):
                flying[client.submit(run_case, store.task, case.to_dict(), store.settings, timeout_s, pure=False,
                                     key=f"{name}-{case.file_name}")] = case
            if not flying:
                return dead
            state.check(workers)
            try:
                finished = wait(list(flying), timeout=BEAT_S, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            except TaskCancelled:
                raise _scheduler_lost(state) from None
            for future in finished:
                case = flying.pop(future)
                try:
                    outcome = future.result(timeout=60)
                except KilledWorker:
                    dead.append(case)
                    continue
                except TaskCancelled:
                    raise _scheduler_lost(state) from None
                except Exception as error:  # what Dask raises for a case that could not be run or fetched
                    outcome = _failed(case, "worker", " ".join(f"{type(error).__name__}: {error}".split()))
                future.release()
                store.keep(case, outcome)
                state.one_more(outcome["status"] == "done")
    finally:
        if flying:
            with suppress(OSError, TimeoutError, TaskCancelled):  # a scheduler that is gone has nothing to cancel
                client.cancel(list(flying), force=True)


def _count_workers(client, state: _State) -> int:
    try:
        return len(client.nthreads())
    except (OSError, TimeoutError):
        raise _scheduler_lost(state) from None


def _scheduler_lost(state: _State) -> IRAIError:
    return IRAIError(f"the Dask scheduler was lost; {state.done} of {state.total} cases are done and kept: start it "
                     "and its workers, and run the same command again")


def _next(waiting: Iterator[Case], count: int) -> Iterator[Case]:
    for _ in range(count):
        case = next(waiting, None)
        if case is None:
            return
        yield case


def _died(case: Case) -> dict[str, Any]:
    return _failed(case, "worker died", f"{ALLOWED_DEATHS} or more workers died during this case, most likely for lack "
                   "of memory; give the workers more memory, or a smaller region")


def _failed(case: Case, kind: str, message: str) -> dict[str, Any]:
    """What is kept of a case that no worker could answer for."""
    return {"case": case.name, "patient": case.patient, "software": f"IRAI {__version__}", "seconds": 0.0,
            "status": "failed", "kind": kind, "message": message}


@contextmanager
def _client(scheduler: str | None, workers: int, tls: dict[str, str] | None) -> Iterator[Any]:
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError:
        raise MissingPackageError("cohorts need Dask: pip install \"dask[distributed]\" pyarrow") from None
    settings = {"distributed.scheduler.allowed-failures": ALLOWED_DEATHS - 1,
                "distributed.worker.multiprocessing-method": "spawn", "distributed.admin.tick.limit": "30s"}
    with ExitStack() as stack:
        stack.enter_context(config.set(settings))
        if scheduler is None:
            stack.enter_context(_worker_program())
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
            with _deaf_to_interrupts():
                cluster = stack.enter_context(LocalCluster(
                    n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
                    dashboard_address=None,  # pyright: ignore[reportArgumentType]
                    worker_dashboard_address=None, silence_logs=logging.CRITICAL))
            yield stack.enter_context(Client(cluster))
            return
        client = _connect(Client, scheduler, tls)
        stack.callback(client.close)
        _check_workers(client, scheduler)
        yield client


def _connect(client_class, scheduler: str, tls: dict[str, str] | None):
    from distributed.security import Security

    security = Security(tls_ca_file=tls["ca"], tls_client_cert=tls["cert"], tls_client_key=tls["key"],
                        require_encryption=True) if tls else None
    try:
        return client_class(scheduler, timeout=10, security=security)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"no Dask scheduler answers at {scheduler} ({reason[:160]}); give its address as "
                         "tcp://host:8786") from None


def _check_workers(client, scheduler: str) -> None:
    """Raises InputError where there is no worker, or one without this version of IRAI."""
    if not client.nthreads():
        try:
            client.wait_for_workers(1, timeout=10)
        except TimeoutError:
            raise InputError(f"the Dask scheduler at {scheduler} has no worker; start some with: dask worker "
                             f"{scheduler}") from None
    for address, version in client.run(_version, on_error="return").items():
        if version != __version__:
            told = f"IRAI {version}" if isinstance(version, str) else f"no IRAI ({type(version).__name__})"
            raise InputError(f"the worker {address} has {told}, not {__version__}; install the same version there")


def _version() -> str:
    return __version__


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A terminal sends Ctrl-C to every process: workers started here don't hear it, the run ends them in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _worker_program() -> Iterator[None]:
    """Inside an application that embeds Python, workers are started by its Python, not by itself."""
    import multiprocessing.spawn

    from ..jobs.interpreter import python_executable

    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(python_executable())
    try:
        yield
    finally:
        multiprocessing.set_executable(before)
