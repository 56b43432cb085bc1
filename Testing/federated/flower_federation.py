"""One federation for the ring: a SuperLink, three SuperNodes behind recorders, and a fourth that runs shipped code."""

from __future__ import annotations

import json
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

from federated_cases import PLAN, hospital, write_table
from IRAILib.cohort.federated import Column, FederatedPlan, read_rows
from IRAILib.cohort.federated.processes import APP, Running, start_site, start_superlink, submit, wait_for_result
from IRAILib.geometry import RefusedError
from traffic import Recorder

COLUMNS = ("size", "albumin", "afp", "stage", "response", "months", "status", "z1", "z2")
Z_PLAN = FederatedPlan("unmasked", (Column("z1"), Column("z2")), ("logistic",), target="response",
                       target_value="yes", rounds=1, secure=False)
"""On other columns than PLAN, so that what the one sends is not mistaken for what the other sends."""
SITE_SIZES = (120, 90, 110)
LEAK = """import json, os, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.{half} import {kind}
app = {kind}()
"""
LEAK_SERVER = LEAK.format(half="serverapp", kind="ServerApp") + """
@app.main()
def main(grid, context):
    while len(nodes := list(grid.get_node_ids())) < 4:
        time.sleep(0.3)
    content = RecordDict({"irai": ConfigRecord({"step": "steal"})})
    replies = grid.send_and_receive([Message(content, dst_node_id=n, message_type="train") for n in nodes], timeout=60)
    size = sum(len(r.content.config_records["irai"].get("loot", b"")) for r in replies if not r.has_error())
    out = Path(os.environ["IRAI_FEDERATED_OUT"], str(context.run_config["token"]) + ".json")
    out.with_suffix(".part").write_text(json.dumps({"loot": size, "nodes": len(nodes)}))
    out.with_suffix(".part").rename(out)
"""
LEAK_CLIENT = LEAK.format(half="clientapp", kind="ClientApp") + """
@app.train()
def train(message, context):
    policy = Path(context.node_config["site"])
    rows = (policy.parent / json.loads(policy.read_text())["table"]).read_bytes()
    return Message(RecordDict({"irai": ConfigRecord({"loot": rows})}), reply_to=message)
"""


def free_port() -> int:
    """A loopback port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Federation:
    """Starts and ends the processes, and knows what the sites hold."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.link_port = free_port()
        self.processes: list[Running] = []
        self.recorders: list[Recorder] = []
        self.secret = b"only the three hospitals know this sentence"
        (home / "group.secret").write_bytes(self.secret)
        self.identifiers = [[f"CANARY-{site}-{i:04d}" for i in range(n)] for site, n in enumerate(SITE_SIZES)]
        self.policies = [self._write_site(site) for site in range(3)]
        self.rows = [read_rows(home / f"site{site}.csv", PLAN, "hospital_number") for site in range(3)]
        self.z_rows = [read_rows(home / f"site{site}.csv", Z_PLAN, "hospital_number") for site in range(3)]

    def _write_site(self, site: int) -> Path:
        write_table(self.home / f"site{site}.csv", hospital(site, SITE_SIZES[site], seed=21, missing=0.03),
                    self.identifiers[site])
        policy = {"table": f"site{site}.csv", "group_secret_file": "group.secret", "columns": list(COLUMNS),
                  "patient": "hospital_number", "min_events": 10, "allow_unmasked": True}
        path = self.home / f"site{site}.json"
        path.write_text(json.dumps(policy), encoding="utf-8")
        return path

    @property
    def link(self) -> Path:
        """The coordinator's folder."""
        return self.home / "link"

    def start(self) -> None:
        """SuperLink and three SuperNodes, each through its recorder."""
        self.processes.append(start_superlink(self.link, "127.0.0.1", self.link_port, wait_for_sites_s=60,
                                              wait_for_answers_s=90))
        self._wait_until_it_listens(60)
        for site in range(3):
            self.add_site(site, own_code_only=True)

    def add_site(self, site: int, own_code_only: bool) -> Recorder:
        """One more SuperNode with the table of `site`."""
        recorder = Recorder(self.link_port)
        self.recorders.append(recorder)
        home = self.home / f"node{len(self.recorders)}"
        self.processes.append(start_site(home, self.policies[site], f"127.0.0.1:{recorder.port}", free_port(),
                                         own_code_only=own_code_only))
        return recorder

    def submit(self, plan: FederatedPlan, app: Path | None = None) -> Path:
        """Start a run."""
        return submit(self.link, plan, f"127.0.0.1:{self.link_port}", app=app)

    def wait(self, result: Path, wait_s: float = 150) -> dict:
        """Its result; the sites' and the SuperLink's last words stand in the error when there is none."""
        try:
            return wait_for_result(result, wait_s, watched=self.processes)
        except RefusedError as error:
            if "stays out" in str(error):
                raise
            words = "\n".join(f"--- {one.log}\n{one.tail()}" for one in self.processes)
            raise AssertionError(f"{error}\n{words}") from error

    def leaking_app(self) -> Path:
        """A Flower app whose site half sends the whole table."""
        folder = self.home / "leaking"
        package = folder / "irai_federated"
        package.mkdir(parents=True)
        for name, text in (("__init__", ""), ("server_app", LEAK_SERVER), ("client_app", LEAK_CLIENT)):
            (package / f"{name}.py").write_text(text, encoding="utf-8")
        (folder / "pyproject.toml").write_text(APP, encoding="utf-8")
        (folder / "README.md").write_text("A thief.\n", encoding="utf-8")
        return folder

    def _wait_until_it_listens(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while time.monotonic() < until and self.processes[0].alive:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.link_port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError(f"the SuperLink does not listen:\n{self.processes[0].tail()}")

    def stop(self) -> None:
        """End every process and recorder."""
        for process in self.processes:
            process.send(signal.SIGTERM)
        for process in reversed(self.processes):
            process.stop()
        for recorder in self.recorders:
            recorder.close()


SECURE_PLAN = replace(PLAN, rounds=4, tolerance=0.05)
