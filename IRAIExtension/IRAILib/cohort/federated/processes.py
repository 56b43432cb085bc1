"""SuperLink, SuperNodes and runs as processes: what they are started with and how they are ended.

Flower is not imported here: its programs lie in an environment of their own (flwr pins packages that IRAI moves).
Nothing is fetched from the internet: telemetry, update checks and the installation of apps' dependencies are off.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...geometry import CancelledError, InputError, MissingPackageError, RefusedError
from .plan import FederatedPlan, read_json

PACKAGE_ROOT = Path(__file__).resolve().parents[3]
OTHER_TASKS = ("flwr-agentapp", "flwr-serverapp", "flwr-simulation", "flwr-model", "flwr-connector")
"""What a SuperNode could also be asked to start; a site refuses them."""


@dataclass(frozen=True)
class Tls:
    """Files of TLS. The SuperLink needs `certificate` and `key` (and `authority`); a site or a run needs
    `authority`. All empty: no TLS, for one machine's loopback only."""

    authority: str = ""
    certificate: str = ""
    key: str = ""


def flower_folder(folder: str | Path | None = None) -> Path:
    """The folder of Flower's programs: the one given, $IRAI_FLOWER_BIN, this Python's own, or .venv-federated/bin.

    Raises MissingPackageError when none has them.
    """
    places = [folder, os.environ.get("IRAI_FLOWER_BIN"), Path(sys.executable).parent, ".venv-federated/bin"]
    for place in [folder] if folder else places:
        if place and (Path(place) / "flower-supernode").is_file():
            return Path(place).absolute()
    raise MissingPackageError("federated learning needs Flower in an environment of its own: python3 -m venv "
                              ".venv-federated && .venv-federated/bin/pip install -r "
                              "Testing/requirements-federated.txt")


def environment(flower: Path, home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a Flower process with its files under `home`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FLWR_")}
    path = [str(flower), kept.get("PATH", "")]
    python_path = [str(PACKAGE_ROOT), *filter(None, [kept.get("PYTHONPATH", "")])]
    return {**kept, "PATH": os.pathsep.join(path), "PYTHONPATH": os.pathsep.join(python_path),
            "FLWR_HOME": str(home / "flower"), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(extra or {})}


class Running:
    """A process with its own session, so that all that it starts ends with it; its words go to a log file."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(list(command), env=dict(env), stdin=subprocess.DEVNULL, stdout=stream,
                                            stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return self.process.poll() is None

    def stop(self, wait_s: float = 8.0) -> None:
        """End the process and everything in its group: asked first, then killed."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            self.send(how)
            until = time.monotonic() + wait_s
            while time.monotonic() < until:
                if not self.alive and not _group_alive(self.process.pid):
                    return
                time.sleep(0.05)

    def send(self, how: signal.Signals) -> None:
        """A signal to the whole group; nothing where it has ended."""
        if self.alive or _group_alive(self.process.pid):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _group_alive(group: int) -> bool:
    """Whether a process of the group still runs; one that has ended and waits for its parent doesn't count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def start_superlink(home: Path, host: str, port: int, *, tls: Tls | None = None, flower: Path | None = None,
                    wait_for_sites_s: float = 600, wait_for_answers_s: float = 600) -> Running:
    """The coordinator's SuperLink on host:port. Results of runs appear under home/results."""
    flower = flower or flower_folder()
    tls = tls or Tls()
    if not tls.certificate and host not in ("127.0.0.1", "localhost", "::1"):
        raise InputError(f"federated: {host} is reachable by others; give --certificate, --key and --authority (TLS)")
    command = [str(flower / "flower-superlink"), "--host", host, "--port", str(port),
               "--disable-runtime-dependency-installation"]
    command += (["--ssl-certfile", tls.certificate, "--ssl-keyfile", tls.key, "--ssl-ca-certfile", tls.authority]
                if tls.certificate else ["--insecure"])
    (home / "results").mkdir(parents=True, exist_ok=True)
    extra = {"IRAI_FEDERATED_OUT": str((home / "results").absolute()),
             "IRAI_FEDERATED_WAIT_S": str(wait_for_sites_s), "IRAI_FEDERATED_ANSWER_S": str(wait_for_answers_s)}
    return Running(command, environment(flower, home, extra), home / "superlink.log")


def start_site(home: Path, policy: Path, superlink: str, runtime_port: int, *, tls: Tls | None = None,
               flower: Path | None = None, own_code_only: bool = True) -> Running:
    """A site's SuperNode for the SuperLink at host:port; `runtime_port` is a free port of this machine's loopback.

    `own_code_only`: the app that the coordinator ships is not run (site_process.py). False is for tests.
    """
    flower = flower or flower_folder()
    tls = tls or Tls()
    if not policy.is_file():
        raise InputError(f"{policy}: no such file; it holds the site's policy (see Docs/federated.md)")
    host = superlink.rsplit(":", 1)[0].strip("[]")
    if not tls.authority and host not in ("127.0.0.1", "localhost", "::1"):
        raise InputError(f"federated: {superlink} is another machine; give --authority FILE.pem (TLS)")
    if '"' in str(policy.absolute()):
        raise InputError(f"{policy}: the path may not hold a quotation mark")
    command = [str(flower / "flower-supernode"), "--superlink", superlink, "--host", "127.0.0.1",
               "--port", str(runtime_port), "--node-config", f'site="{policy.absolute()}"']
    command += ["--root-certificates", tls.authority] if tls.authority else ["--insecure"]
    env = environment(flower, home)
    if own_code_only:
        env["PATH"] = os.pathsep.join([str(_stand_ins(home, flower)), env["PATH"]])
    return Running(command, env, home / "supernode.log")


def submit(home: Path, plan: FederatedPlan, address: str, *, tls: Tls | None = None, flower: Path | None = None,
           app: Path | None = None, wait_s: float = 120) -> Path:
    """Start a run of the plan at the SuperLink. Returns where its result will appear (home/results/TOKEN.json).

    Raises RefusedError with Flower's last line when it doesn't start.
    """
    flower = flower or flower_folder()
    tls = tls or Tls()
    if not (home / "results").is_dir():
        raise InputError(f"{home}: not the folder of the SuperLink; give the one that it was started with")
    token = uuid.uuid4().hex[:12]
    work = home / f"run-{token}"
    work.mkdir(parents=True)
    folder = app or write_app(work / "app")
    (work / "flower").mkdir()
    connection = f'address = "{address}"\n' + (f'root-certificates = "{tls.authority}"\n' if tls.authority
                                               else "insecure = true\n")
    (work / "flower" / "config.toml").write_text(f'[superlink]\ndefault = "irai"\n[superlink.irai]\n{connection}',
                                                 encoding="utf-8")
    (work / "run.toml").write_text(f"token = {json.dumps(token)}\n"
                                   f"plan = {json.dumps(json.dumps(plan.to_dict()))}\n", encoding="utf-8")
    command = [str(flower / "flwr"), "run", str(folder), "irai", "--run-config", str(work / "run.toml")]
    try:
        said = subprocess.run(command, env=environment(flower, work), capture_output=True, text=True, timeout=wait_s)
    except subprocess.TimeoutExpired as error:
        raise RefusedError(f"federated: {address} did not take the run within {wait_s:g} s") from error
    if said.returncode:
        words = " ".join(word for word in (said.stderr + said.stdout).split() if not set(word) & set("│╭╮╰╯─"))
        raise RefusedError(f"federated: the run did not start at {address}: {words[-300:]}")
    return home / "results" / f"{token}.json"


def wait_for_result(path: Path, wait_s: float, *, cancelled=None, watched: Sequence[Running] = ()) -> dict[str, Any]:
    """The result's JSON when it appears. Raises RefusedError or InputError with the run's own words, RefusedError
    after wait_s or when a watched process has ended, CancelledError."""
    until = time.monotonic() + wait_s
    while not path.is_file():
        if cancelled and cancelled():
            raise CancelledError("federated: cancelled; the run goes on at the SuperLink until that is stopped")
        ended = next((one for one in watched if not one.alive), None)
        if ended is not None:
            raise RefusedError(f"federated: a process has ended; see {ended.log}")
        if time.monotonic() > until:
            raise RefusedError(f"federated: no result within {wait_s:g} s; see the logs beside {path.parent}")
        time.sleep(0.2)
    answer = read_json(path)
    if "error" in answer:
        raise (RefusedError if answer.get("status") == 3 else InputError)(answer["error"])
    return answer


def write_app(folder: Path) -> Path:
    """The Flower app (a folder) that carries the two halves; what it runs is IRAILib's own code."""
    package = folder / "irai_federated"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    for half in ("server_app", "client_app"):
        (package / f"{half}.py").write_text(f"from IRAILib.cohort.federated import {half}\n\napp = {half}.app\n",
                                            encoding="utf-8")
    (folder / "pyproject.toml").write_text(APP, encoding="utf-8")
    (folder / "README.md").write_text("Federated outcome models of IRAI.\n", encoding="utf-8")
    return folder


APP = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "irai-federated"
version = "1.0.0"
description = "Federated outcome models"
license = "Apache-2.0"
dependencies = ["flwr>=1.41"]
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "irai"
[tool.flwr.app.components]
serverapp = "irai_federated.server_app:app"
clientapp = "irai_federated.client_app:app"
[tool.flwr.app.config]
plan = ""
token = ""
"""


def _stand_ins(home: Path, flower: Path) -> Path:
    folder = home / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    python = shlex.quote(str(flower / "python"))
    texts = {"flwr-clientapp": f'exec {python} -m IRAILib.cohort.federated.site_process "$@"\n',
             **dict.fromkeys(OTHER_TASKS, 'echo "irai: a site runs sums only" >&2\nexit 3\n')}
    for name, text in texts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        path.chmod(0o755)
    return folder.absolute()
