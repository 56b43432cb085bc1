"""A site's half over Flower, loaded by Flower's ClientApp process alone.

Whatever goes wrong here is told to the site's own log; the coordinator gets a code of `site.REFUSALS`, because the
text of an exception could hold what stood in a cell.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from ...geometry import InputError, RefusedError
from .masking import FixedPoint, add_masks, agree, introduction, known, new_key_pair, pair_key, to_bytes
from .plan import FederatedPlan, SitePolicy
from .site import read_rows, refusal, site_answer, too_small

log = logging.getLogger("IRAI.federated")
STATE = "irai"
app = ClientApp()


class _StaysOut(Exception):
    """Carries the code that the coordinator may see."""


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one message of the coordinator."""
    try:
        answer = _answer(message.content.config_records["irai"], context)
    except _StaysOut as reason:
        log.error("this site stays out: %s", reason)
        answer = {"refused": str(reason)}
    except RefusedError as error:
        log.error("%s", error)
        answer = {"refused": "request"}
    except Exception:
        log.exception("this site could not answer")
        answer = {"refused": "table"}
    return Message(RecordDict({"irai": ConfigRecord(answer)}), reply_to=message)


def _answer(asked: ConfigRecord, context: Context) -> dict:
    policy = SitePolicy.read(str(context.node_config["site"]))
    plan = FederatedPlan.from_dict(json.loads(str(asked["plan"])))
    code = refusal(plan, policy)
    if code:
        raise _StaysOut(code)
    rows = read_rows(policy.table, plan, policy.patient)
    code = too_small(rows, plan, policy)
    if code:
        raise _StaysOut(code)
    secret = _secret(policy)
    run = str(context.run_id)
    if asked["step"] == "introduce":
        private, public = new_key_pair()
        before = context.state.config_records.get(STATE)
        context.state.config_records[STATE] = ConfigRecord({
            "private": private, "public": public, "digest": plan.digest, "number": 0,
            "answered": int(before["answered"]) if before else 0})
        return {"public": public, "tag": introduction(secret, run, public, plan.digest)}
    if asked["step"] != "sum":
        raise _StaysOut("request")
    state = context.state.config_records[STATE]
    number, answered = int(asked["number"]), int(state["answered"]) + 1
    if number <= int(state["number"]) or answered > policy.max_requests or state["digest"] != plan.digest:
        raise _StaysOut("request")
    own, keys = str(state["public"]), {}
    if plan.secure:
        keys = _pair_keys(json.loads(str(asked["peers"])), bytes(state["private"]), own, secret, run, plan)
    elements = FixedPoint().encode(site_answer(json.loads(str(asked["request"])), rows, plan, policy))
    state["number"], state["answered"] = number, answered
    return {"sum": to_bytes(add_masks(elements, own, keys, f"{run}|{number}".encode()) if plan.secure else elements)}


def _pair_keys(peers: list, private: bytes, own: str, secret: bytes, run: str, plan: FederatedPlan) -> dict[str, bytes]:
    names = [str(public) for public, _ in peers]
    honest = (len(set(names)) == len(names) == plan.n_sites and own in names
              and all(known(secret, run, str(public), plan.digest, str(tag)) for public, tag in peers))
    if not honest:
        raise _StaysOut("peers")
    return {public: pair_key(agree(private, public), secret, run, own, public) for public in names if public != own}


def _secret(policy: SitePolicy) -> bytes:
    secret = Path(policy.group_secret_file).read_bytes().strip()
    if len(secret) < 32:
        raise InputError(f"{policy.group_secret_file}: the hospitals' common secret needs 32 bytes or more")
    return secret
