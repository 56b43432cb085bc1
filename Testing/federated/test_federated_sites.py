"""A site's half and the coordinator's half over Flower's messages, without processes: what is refused, what is said."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from federated_cases import PLAN, hospital, write_table
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from IRAILib.cohort.federated import Column, Coordinator, FederatedPlan, FixedPoint, read_rows, site_answer, sum_masked
from IRAILib.cohort.federated import client_app as client
from IRAILib.cohort.federated import server_app as server
from IRAILib.cohort.federated.masking import agree, from_bytes, introduction, new_key_pair
from IRAILib.geometry import InputError, RefusedError

SECRET = b"a sentence that three hospitals know"
RUN = 77


@pytest.fixture(autouse=True)
def a_task_of_flower(monkeypatch) -> None:
    """Flower's processes know their run and node; here nobody has told them."""
    for name, value in (("_run_id", RUN), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


class Site:
    """A table, a policy and Flower's context."""

    def __init__(self, folder, number: int, **changed) -> None:
        self.table = folder / f"site{number}.csv"
        write_table(self.table, hospital(number, 100, seed=4), [f"CANARY-{number}-{i}" for i in range(100)])
        (folder / "secret").write_bytes(SECRET)
        policy = folder / f"site{number}.json"
        policy.write_text(json.dumps({
            "table": self.table.name, "group_secret_file": "secret", "patient": "hospital_number",
            "columns": ["size", "albumin", "afp", "stage", "response", "months", "status"], "min_events": 5,
            **changed}))
        self.context = Context(run_id=RUN, node_id=number + 1, node_config={"site": str(policy)}, state=RecordDict(),
                               run_config={})

    def ask(self, **entries) -> ConfigRecord:
        content = RecordDict({"irai": ConfigRecord({"plan": json.dumps(PLAN.to_dict()), **entries})})
        message = Message(content, dst_node_id=self.context.node_id, message_type="train")
        message.metadata.__dict__["_message_id"] = "1"
        return client.train(message, self.context).content.config_records["irai"]


@pytest.fixture
def three(tmp_path) -> list[Site]:
    return [Site(tmp_path, number) for number in range(3)]


def introduced(sites: list[Site]) -> str:
    answers = [site.ask(step="introduce") for site in sites]
    return json.dumps([[answer["public"], answer["tag"]] for answer in answers])


MOMENTS = {"step": "sum", "number": 1, "request": json.dumps({"kind": "moments"})}


def test_the_sum_of_three_masked_answers_is_the_sum_and_each_alone_is_noise(three) -> None:
    peers = introduced(three)
    vectors = [from_bytes(site.ask(**MOMENTS, peers=peers)["sum"]) for site in three]
    truth = [site_answer({"kind": "moments"}, read_rows(site.table, PLAN), PLAN, None) for site in three]
    np.testing.assert_allclose(FixedPoint().decode(sum_masked(vectors)), np.sum(truth, axis=0), rtol=1e-12)
    for vector, own in zip(vectors, truth, strict=True):
        assert np.abs(FixedPoint().decode(vector) / np.maximum(np.abs(own), 1)).min() > 1e6


def test_a_coordinator_in_the_middle_is_noticed(three) -> None:
    """It puts its own key in place of a site's: without the group's secret it can't sign it."""
    peers = json.loads(introduced(three))
    _, own_key = new_key_pair()
    for forged in (introduction(b"g" * 32, str(RUN), own_key, PLAN.digest), peers[2][1]):
        assert three[0].ask(**MOMENTS, peers=json.dumps([*peers[:2], [own_key, forged]])) == {"refused": "peers"}
    for wrong in (peers[:2], [*peers[:2], peers[1]], peers[1:], [], [*peers, peers[0]]):
        assert three[0].ask(**MOMENTS, peers=json.dumps(wrong)) == {"refused": "peers"}
    assert "sum" in three[0].ask(**MOMENTS, peers=json.dumps(peers))


def test_no_mask_is_used_twice(three) -> None:
    peers = introduced(three)
    assert "sum" in three[0].ask(**MOMENTS, peers=peers)
    assert three[0].ask(**MOMENTS, peers=peers) == {"refused": "request"}
    assert three[0].ask(**{**MOMENTS, "number": 0}, peers=peers) == {"refused": "request"}
    first = three[1].ask(**MOMENTS, peers=peers)["sum"]
    second = three[1].ask(**{**MOMENTS, "number": 2}, peers=peers)["sum"]
    assert not set(from_bytes(first)) & set(from_bytes(second))


def test_a_site_counts_its_answers_over_new_introductions_too(tmp_path) -> None:
    sites = [Site(tmp_path, number, max_requests=2) for number in range(3)]
    for _ in range(2):
        peers = introduced(sites)
        assert "sum" in sites[0].ask(**MOMENTS, peers=peers)
    peers = introduced(sites)
    assert sites[0].ask(**MOMENTS, peers=peers) == {"refused": "request"}


def test_the_plan_may_not_change_after_the_introduction(three) -> None:
    peers = introduced(three)
    other = json.dumps(replace(PLAN, ridge=2.0).to_dict())
    assert three[0].ask(**MOMENTS, peers=peers, plan=other) == {"refused": "request"}


@pytest.mark.parametrize("change", [
    lambda site: site.table.write_text(site.table.read_text().replace("CANARY-0-7,", "CANARY-0-7,Mrs Canary 4711")),
    lambda site: site.table.write_text("name,size\nMrs Canary,4711\n"),
    lambda site: site.table.unlink(),
    lambda site: (site.table.parent / "secret").write_bytes(b"Canary"),
    lambda site: (site.table.parent / "site0.json").write_text('{"Canary": 4711}'),
])
def test_an_error_at_a_site_tells_the_coordinator_nothing(three, change, caplog) -> None:
    change(three[0])
    content = RecordDict({"irai": ConfigRecord({"plan": json.dumps(PLAN.to_dict()), "step": "introduce"})})
    message = Message(content, dst_node_id=1, message_type="train")
    message.metadata.__dict__["_message_id"] = "1"
    reply = client.train(message, three[0].context)
    assert dict(reply.content.config_records["irai"]) == {"refused": "table"}
    assert caplog.text, "the site's own log says more"


@pytest.mark.parametrize("entries", [
    {"step": "sum", "number": 1, "request": "{}", "peers": "[]"}, {"step": "rows"}, {},
    {"step": "introduce", "plan": "{}"}, {"step": "introduce", "plan": "not json"},
])
def test_messages_that_make_no_sense_get_a_code(three, entries: dict) -> None:
    assert set(three[0].ask(**entries)) == {"refused"}


@pytest.mark.parametrize(("changed", "code"), [
    ({"min_events": 60}, "events"), ({"min_rows": 500}, "rows"), ({"min_sites": 4}, "sites"),
    ({"columns": ["size"]}, "columns"), ({"plan_digest": "0" * 64}, "plan"), ({"plan_digest": PLAN.digest}, "")])
def test_a_sites_limits_hold_over_flower(tmp_path, changed: dict, code: str) -> None:
    answer = Site(tmp_path, 1, **changed).ask(step="introduce")
    assert answer == {"refused": code} if code else "public" in answer


class FakeGrid:
    """Three sites in this process; `silent` of them never answer."""

    def __init__(self, sites: list[Site], silent: int = 0) -> None:
        self.sites, self.silent, self.answers = sites, silent, {}

    def get_node_ids(self) -> list[int]:
        return [site.context.node_id for site in self.sites]

    def push_messages(self, messages) -> list[str]:
        for message in list(messages)[self.silent:]:
            site = self.sites[message.metadata.dst_node_id - 1]
            entries = dict(message.content.config_records["irai"])
            self.answers[str(site.context.node_id)] = SimpleNamespace(
                has_error=lambda: False, content=RecordDict({"irai": site.ask(**entries)}),
                metadata=SimpleNamespace(reply_to_message_id=str(site.context.node_id)))
        return [str(site.context.node_id) for site in self.sites]

    def pull_messages(self, waiting) -> list:
        return [self.answers.pop(key) for key in list(waiting) if key in self.answers]


def test_a_whole_run_over_messages(three, monkeypatch) -> None:
    monkeypatch.setattr(server, "POLL_S", 0.0)
    result = server._run(FakeGrid(three), PLAN)
    coordinator = Coordinator(PLAN)
    tables = [read_rows(site.table, PLAN) for site in three]
    while (request := coordinator.request()) is not None:
        coordinator.receive(np.sum([site_answer(request, rows, PLAN, SimpleNamespace(max_coefficient=20.0))
                                    for rows in tables], axis=0))
    for kind, model in coordinator.result().models.items():
        np.testing.assert_allclose(result.models[kind].parameters, model.parameters, rtol=1e-9, atol=1e-9)


def test_a_run_without_one_of_its_sites_ends_and_gives_nothing(three, monkeypatch) -> None:
    monkeypatch.setattr(server, "POLL_S", 0.01)
    monkeypatch.setenv("IRAI_FEDERATED_ANSWER_S", "0.3")
    grid = FakeGrid(three)
    nodes = grid.get_node_ids()
    answers = server._ask(grid, nodes, {"step": "introduce", "plan": json.dumps(PLAN.to_dict())})
    peers = json.dumps([[answer["public"], answer["tag"]] for answer in answers])
    grid.silent = 1
    with pytest.raises(RefusedError, match="1 of 3 sites did not answer; nothing can be learnt"):
        server._ask(grid, nodes, {**MOMENTS, "peers": peers, "plan": json.dumps(PLAN.to_dict())})


def test_one_site_that_stays_out_ends_the_run_in_one_line_without_a_count(tmp_path) -> None:
    sites = [Site(tmp_path, number, **({"min_events": 60} if number == 1 else {})) for number in range(3)]
    with pytest.raises(RefusedError) as refused:
        server._run(FakeGrid(sites), PLAN)
    assert str(refused.value) == ("federated: a site stays out: the site has fewer events (or fewer patients without) "
                                  "than its own limit")
    nosy = replace(PLAN, columns=(*PLAN.columns, Column("hospital_number")))
    with pytest.raises(RefusedError, match="the plan uses a column that the site doesn't give"):
        server._run(FakeGrid([Site(tmp_path, number) for number in range(3)]), nosy)


def test_the_number_of_sites_is_the_plans(three, monkeypatch) -> None:
    with pytest.raises(RefusedError, match="3 sites are connected and the plan is for 2"):
        server._wait_for_sites(FakeGrid(three), 2, 0.1)
    with pytest.raises(RefusedError, match="3 of 4 sites came within"):
        server._wait_for_sites(FakeGrid(three), 4, 0.1)


def test_both_ends_agree_on_a_key_and_damaged_keys_are_named() -> None:
    (one, one_public), (two, two_public) = new_key_pair(), new_key_pair()
    assert agree(one, two_public) == agree(two, one_public)
    assert one_public != two_public
    for wrong in ("zz", "00", "00" * 32):
        with pytest.raises(InputError, match="public key of another site is damaged"):
            agree(one, wrong)


def test_flowers_own_secure_aggregation_would_hide_little() -> None:
    """Why IRAI masks by itself: Flower 1.41 folds a mask's 32-byte seed into 32 bits, so seeds collide and a mask is
    found by trying 2^32 of them. When this fails, Flower has changed and its SecAgg+ is worth another look."""
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    one = bytes(range(32))
    other = one[4:8] + one[:4] + one[8:]
    assert one != other
    first, second = (pseudo_rand_gen(seed, 2 ** 32, [(50,)])[0] for seed in (one, other))
    assert np.array_equal(first, second)


def test_a_plan_over_the_wire_keeps_its_digest() -> None:
    assert FederatedPlan.from_dict(json.loads(json.dumps(PLAN.to_dict()))).digest == PLAN.digest
