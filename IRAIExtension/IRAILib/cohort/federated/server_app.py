"""The coordinator's half over Flower, loaded by Flower's ServerApp process alone.

Two kinds of messages go to every site: `introduce` (a public key comes back) and `sum` (a masked vector comes back).
Where the result goes is said by the environment of the SuperLink: IRAI_FEDERATED_OUT, a folder.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from ...geometry import InputError, IRAIError, RefusedError
from ...images.atomic import replacing
from .coordinator import Coordinator
from .masking import FixedPoint, from_bytes, sum_masked
from .plan import FederatedPlan
from .result import FederatedResult
from .site import REFUSALS

log = logging.getLogger("IRAI.federated")
app = ServerApp()
POLL_S = 0.2


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run a plan and write `<out>/<token>.json`: the model, or the line that says why there is none."""
    out = Path(os.environ["IRAI_FEDERATED_OUT"]) / f"{context.run_config['token']}.json"
    try:
        plan = FederatedPlan.from_dict(json.loads(str(context.run_config["plan"])))
        answer = _run(grid, plan).to_dict()
    except (IRAIError, ValueError, KeyError) as error:
        answer = {"error": " ".join(str(error).split()), "status": 3 if isinstance(error, RefusedError) else 2}
    except Exception:
        log.exception("the run broke")
        answer = {"error": "federated: the run broke at the coordinator; superlink.log says where", "status": 2}
    with replacing(out) as path:
        path.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")


def _run(grid: Grid, plan: FederatedPlan) -> FederatedResult:
    nodes = _wait_for_sites(grid, plan.n_sites, float(os.environ.get("IRAI_FEDERATED_WAIT_S", "600")))
    answers = _ask(grid, nodes, {"step": "introduce", "plan": json.dumps(plan.to_dict())})
    peers = json.dumps([[str(answer["public"]), str(answer["tag"])] for answer in answers])
    coordinator, numbers, number = Coordinator(plan), FixedPoint(), 0
    while (request := coordinator.request()) is not None:
        number += 1
        answers = _ask(grid, nodes, {"step": "sum", "number": number, "request": json.dumps(request), "peers": peers,
                                     "plan": json.dumps(plan.to_dict())})
        vectors = [from_bytes(bytes(answer["sum"])) for answer in answers]
        coordinator.receive(numbers.decode(sum_masked(vectors)))
    return coordinator.result()


def _wait_for_sites(grid: Grid, wanted: int, wait_s: float) -> list[int]:
    until = time.monotonic() + wait_s
    while True:
        nodes = sorted(grid.get_node_ids())
        if len(nodes) == wanted:
            return nodes
        if len(nodes) > wanted:
            raise RefusedError(f"federated: {len(nodes)} sites are connected and the plan is for {wanted}")
        if time.monotonic() > until:
            raise RefusedError(f"federated: {len(nodes)} of {wanted} sites came within {wait_s:g} s")
        time.sleep(0.5)


def _ask(grid: Grid, nodes: list[int], entries: Mapping[str, Any]) -> list[ConfigRecord]:
    """The same message to every site; all must answer, or the run ends: a sum without one of them is noise."""
    content = RecordDict({"irai": ConfigRecord(dict(entries))})
    messages = [Message(content, dst_node_id=node, message_type="train") for node in nodes]
    wait_s = float(os.environ.get("IRAI_FEDERATED_ANSWER_S", "600"))
    waiting, good, until = set(grid.push_messages(messages)), [], time.monotonic() + wait_s
    while waiting and time.monotonic() < until:
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            good += [] if reply.has_error() else [reply]
        time.sleep(POLL_S)
    if len(good) != len(nodes):
        raise RefusedError(f"federated: {len(nodes) - len(good)} of {len(nodes)} sites did not answer; nothing can be "
                           "learnt from the others' masked sums, start again when all are back")
    records = [reply.content.config_records["irai"] for reply in good]
    refused = [str(record["refused"]) for record in records if "refused" in record]
    if refused:
        raise RefusedError("federated: " + "; ".join(f"a site stays out: {REFUSALS.get(code, 'it says no')}"
                                                     for code in refused))
    if entries["step"] == "sum" and any("sum" not in record for record in records):
        raise InputError("federated: a site's answer holds no sum")
    return records
