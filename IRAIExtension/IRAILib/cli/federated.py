"""`irai federated`: outcome models of several hospitals whose rows stay where they are."""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys
import time
from pathlib import Path

from ..geometry import InputError, RefusedError
from ..images.atomic import replacing

ENDING = "Exit status: 0 done, 2 bad input, 3 refused (a site's limits, a missing site). See Docs/federated.md."
ADDRESS = "127.0.0.1:9092"


def add_parser(commands) -> None:
    """Add `federated` to the commands."""
    group = commands.add_parser("federated", help="outcome models over several hospitals (Flower, masked sums)",
                                epilog=ENDING)
    steps = group.add_subparsers(dest="step", metavar="STEP", required=True)

    secret = steps.add_parser("secret", help="make the secret that the hospitals share and the coordinator lacks")
    secret.add_argument("file", type=Path)
    secret.set_defaults(run=run_secret)

    check = steps.add_parser("check", help="at a hospital: would this site take part in a plan, and why not",
                             epilog=ENDING)
    check.add_argument("policy", type=Path, help="the site's policy, JSON")
    check.add_argument("plan", type=Path, help="the plan of all, JSON")
    check.set_defaults(run=run_check)

    serve = steps.add_parser("serve", help="at the coordinator: the SuperLink, until Ctrl-C", epilog=ENDING)
    _common(serve, "this machine's address for the sites")
    serve.add_argument("--certificate", default="", help="TLS certificate of this machine, PEM")
    serve.add_argument("--key", default="", help="its key, PEM")
    serve.set_defaults(run=run_serve)

    site = steps.add_parser("site", help="at a hospital: the SuperNode, until Ctrl-C", epilog=ENDING)
    _common(site, "the coordinator's address")
    site.add_argument("policy", type=Path, help="the site's policy, JSON")
    site.add_argument("--local-port", type=int, default=9094, help="a free port of this machine's loopback (9094)")
    site.set_defaults(run=run_site)

    run = steps.add_parser("run", help="at the coordinator: train a plan with the sites that are connected",
                           epilog=ENDING)
    run.add_argument("plan", type=Path, help="the plan of all, JSON")
    _common(run, "the SuperLink's address; --home as for serve")
    run.add_argument("--out", type=Path, required=True, metavar="MODEL.json")
    run.add_argument("--wait", type=float, default=1800, metavar="SECONDS", help="give up after (1800)")
    run.set_defaults(run=run_run)

    judge = steps.add_parser("evaluate", help="at a hospital: AUC and C of a model on rows that were not trained on",
                             epilog=ENDING)
    judge.add_argument("model", type=Path)
    judge.add_argument("table", type=Path)
    judge.add_argument("--patient", default="", metavar="COLUMN", help="tells patients apart, one row each")
    judge.add_argument("--json", action="store_true")
    judge.set_defaults(run=run_evaluate)


def _common(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--address", default=ADDRESS, metavar="HOST:PORT", help=f"{what} ({ADDRESS})")
    parser.add_argument("--home", type=Path, default=Path("federated"), help="folder for logs and results (federated)")
    parser.add_argument("--authority", default="", help="certificate of the authority, PEM; needed off loopback")
    parser.add_argument("--flower", type=Path, help="folder of Flower's programs (else $IRAI_FLOWER_BIN, this "
                        "environment or .venv-federated/bin)")


def run_secret(arguments: argparse.Namespace) -> int:
    """Write a secret. Raises InputError rather than replace one."""
    if arguments.file.exists():
        raise InputError(f"{arguments.file}: exists; every hospital must keep the same secret")
    with replacing(arguments.file) as path:
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    print(f"{arguments.file}: hand it to the other hospitals yourself, not through the coordinator")
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Counts for the site's own eyes. Raises InputError, RefusedError."""
    from ..cohort.federated import FederatedPlan, SitePolicy, read_rows
    from ..cohort.federated.site import REFUSALS, refusal, too_small

    policy, plan = SitePolicy.read(arguments.policy), FederatedPlan.read(arguments.plan)
    print(f"plan digest: {plan.digest}")
    code = refusal(plan, policy)
    if not code:
        rows = read_rows(policy.table, plan, policy.patient)
        target, follow = rows.has_target, rows.has_follow_up
        if plan.target:
            print(f"{plan.target}: {target.sum()} patients, {int((rows.y[target] == 1).sum())} of them "
                  f"'{plan.target_value}'")
        if plan.event:
            print(f"{plan.event}: {follow.sum()} patients, {int((rows.event[follow] == 1).sum())} events")
        code = too_small(rows, plan, policy)
    if code:
        raise RefusedError(f"this site stays out: {REFUSALS[code]}")
    print("this site takes part")
    return 0


def run_serve(arguments: argparse.Namespace) -> int:
    """The SuperLink until Ctrl-C."""
    from ..cohort.federated.processes import Tls, flower_folder, start_superlink

    host, port = _address(arguments.address)
    flower = flower_folder(arguments.flower)
    tls = Tls(arguments.authority, arguments.certificate, arguments.key)
    return _keep(start_superlink(arguments.home, host, port, tls=tls, flower=flower), "SuperLink at "
                 f"{arguments.address}")


def run_site(arguments: argparse.Namespace) -> int:
    """The SuperNode until Ctrl-C."""
    from ..cohort.federated import SitePolicy
    from ..cohort.federated.processes import Tls, flower_folder, start_site

    _address(arguments.address)
    flower = flower_folder(arguments.flower)
    SitePolicy.read(arguments.policy)
    running = start_site(arguments.home, arguments.policy, arguments.address, arguments.local_port,
                         tls=Tls(arguments.authority), flower=flower)
    return _keep(running, f"site of {arguments.policy} for {arguments.address}")


def run_run(arguments: argparse.Namespace) -> int:
    """Train; writes the model. Raises InputError, RefusedError."""
    from ..cohort.federated import FederatedPlan, FederatedResult
    from ..cohort.federated.processes import Tls, flower_folder, submit, wait_for_result

    _address(arguments.address)
    plan, flower = FederatedPlan.read(arguments.plan), flower_folder(arguments.flower)
    where = submit(arguments.home, plan, arguments.address, tls=Tls(arguments.authority), flower=flower)
    print(f"irai: run started, plan digest {plan.digest}", file=sys.stderr)
    result = FederatedResult.from_dict(wait_for_result(where, arguments.wait))
    with replacing(arguments.out) as path:
        path.write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
    for kind, model in result.models.items():
        print(f"{kind}: {model.n_patients} patients, {model.n_events} events, {result.n_sites} sites"
              + ("" if kind == "network" or model.converged else ", NOT converged"))
    print(f"{arguments.out}: {result.validated_on}")
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Measures on the site's own rows; they stay here."""
    from ..cohort.federated import FederatedResult, read_rows
    from ..cohort.federated.plan import read_json
    from ..cohort.federated.result import evaluate

    result = FederatedResult.from_dict(read_json(arguments.model))
    found = evaluate(result, read_rows(arguments.table, result.plan, arguments.patient))
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    for kind, entry in found.items():
        counts = f"{entry['n_patients']} patients, {entry['n_events']} events"
        value = "not defined here" if entry["estimate"] is None else f"{entry['estimate']:.3f}"
        interval = "" if entry["ci95"] is None else " (95 % {:.3f} to {:.3f})".format(*entry["ci95"])
        print(f"{kind}: {entry['metric']} {value}{interval}, {counts}"
              + ("" if entry["observed_to_expected"] is None else
                 f", observed / expected {entry['observed_to_expected']:.2f}"))
    return 0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--address {text}: give HOST:PORT, as {ADDRESS}")
    return host.strip("[]"), int(port)


def _keep(running, what: str) -> int:
    def stop(*_) -> None:
        raise KeyboardInterrupt

    for name in (signal.SIGINT, signal.SIGTERM):  # a service manager ends us with SIGTERM; a background job ignores ^C
        signal.signal(name, stop)
    print(f"irai: {what}; log {running.log}; end with Ctrl-C", file=sys.stderr)
    try:
        while running.alive:
            time.sleep(0.3)
    except KeyboardInterrupt:
        return 0
    finally:
        running.stop()
    raise RefusedError(f"{what} has ended by itself: {running.tail(3)}; see {running.log}")
