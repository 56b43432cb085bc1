"""What each step needs and what it gave, in words. No widget here: a test reads the same words as a user."""

from dataclasses import dataclass

from slicer.i18n import tr as _

from .Parameters import CT, FLUOROSCOPY, LIVE, MR, REPLAY

GOOD, COASTING, BAD, NOTHING = "good", "coasting", "bad", "nothing"
_LETTERS = "font-size: 26px; font-weight: bold; padding: 6px; border-radius: 4px; "
STATUS_STYLES = {
    GOOD: _LETTERS + "background-color: #1f8f3b; color: white;",
    COASTING: _LETTERS + "background-color: #f2a516; color: black;",
    BAD: _LETTERS + "background-color: #8c8c8c; color: white;",
    NOTHING: _LETTERS + "background-color: #d9d9d9; color: #555555;",
}


@dataclass(frozen=True)
class StepView:
    """`ready`: its button may be pressed. `needs`: why not (empty when ready). `gave`: what is there already.
    `live`: something runs that can be ended."""

    ready: bool
    needs: str = ""
    gave: str = ""
    live: bool = False


def linkView(parameters, state, session):
    live = session is not None and session.bridge is not None
    needs = ""
    if parameters.source == REPLAY:
        path = parameters.recording
        if str(path or ".") == ".":
            needs = _("Choose a recording, or try the sample.")
    elif not parameters.host.strip():
        needs = _("Say where the server is.")
    return StepView(not needs, needs, _(state.link_text), live)


def scaleView(parameters, state, logic):
    """The scale that counts, and why mm are refused."""
    if parameters.modality in (CT, MR):
        needs = "" if parameters.volume is not None else _("Choose a volume.")
        return StepView(not needs, needs, _("Volumes carry their own scale.") if parameters.volume is not None else "")
    text = state.scale_text
    if parameters.modality == FLUOROSCOPY and text.startswith("no scale"):
        text = _("no scale: give mm per pixel at the catheter's depth, else positions stay pixels")
    refused = text.startswith("no scale")
    return StepView(not refused, text if refused else "", "" if refused else text)


def liveView(parameters, state, logic):
    if parameters.modality in LIVE:
        session = logic.session
        live = session is not None and session.bridge is not None
        return StepView(live, "" if live else _("Connect to a picture source, play a recording, or try the sample."))
    chosen = parameters.volume is not None
    return StepView(chosen, "" if chosen else _("Choose a volume in step 2."))


def statusWord(state):
    """The big letters, and the colour they stand in: live is green, predicted amber, everything else grey."""
    if not state.tracking:
        return _("NOT TRACKING"), NOTHING
    text = _(state.status_text)
    if state.status is None:
        return text, NOTHING
    kind = {"seen": GOOD, "coasting": COASTING, "lost": BAD}.get(state.status.value, NOTHING)
    return text, kind


def sigmaText(state):
    """How sure the tip is, and on what that was checked; empty without a tip."""
    if state.sigma is None:
        return ""
    return _("Tip ± {sigma:.1f} {units} (one standard deviation). Validated on: {what}.").format(
        sigma=state.sigma, units=state.units, what=state.validated_on or _("nothing"))


def rateText(state):
    """Frames worked on, and how many a second; empty before the first."""
    if not state.rate_hz:
        return ""
    return _("{rate:.0f} frames a second, {n} so far").format(rate=state.rate_hz, n=state.frames)


def budgetText(budget):
    """Where the time goes, in ms; a part that is not known is a dash."""
    if budget is None:
        return ""

    def part(value):
        return "–" if value is None else f"{value:.0f}"

    return _("Latency: receive {receive} + infer {infer} + filter {filter} + render {render} = {total} ms").format(
        receive=part(budget.receive_ms), infer=part(budget.infer_ms), filter=part(budget.filter_ms),
        render=part(budget.render_ms), total=part(budget.total_ms))


def planesText(state):
    """What became of the scan planes; empty when none are asked for."""
    return _(state.planes_text) + "." if state.planes_text else ""


def volumeText(found):
    """What the search of a volume gave; empty before one."""
    if found is None:
        return ""
    if not found:
        return _("No needle was found in this volume.")
    first = found[0]
    text = _("{n} needle found.").format(n=1) if len(found) == 1 else _("{n} needles found.").format(n=len(found))
    if first.sigma is not None:
        text += " " + _("Tip ± {sigma:.1f} mm. Validated on: {what}.").format(
            sigma=first.sigma, what=first.validated_on or _("nothing"))
    return text


def planView(parameters, state):
    plan = parameters.plan
    if plan is None:
        return StepView(False, _("Choose or draw a plan line: first the entry, then the target."))
    if plan.GetNumberOfDefinedControlPoints() < 2:
        return StepView(False, _("The plan line needs both of its points."))
    if state.tracking and state.units == "px":
        return StepView(False, _("No scale is known: distances in mm are refused. Give mm per pixel in step 2."))
    return StepView(True)


def planRows(state):
    """Rows of the table; empty when the needle is not there now, so that no old number stays."""
    from IRAILib.scene.needle_guidance import guidance_rows

    return [(_(name), value) for name, value in guidance_rows(state.guidance)]


def recordView(parameters, state, session):
    ready = session is not None and session.connected
    gave = "" if state.recording is None else _("Recording: {n} frames").format(n=state.recording)
    return StepView(ready, "" if ready or state.recording is not None else _("Connect or replay first."), gave)


def robotText(state):
    """The robot in three lines at most."""
    if state is None:
        return _("No robot.")
    if not state["connected"]:
        return _("Robot: no connection. {why}").format(why=state.get("last_error") or "")
    lines = [_("Robot: {phase}").format(phase=state["phase"])]
    if state.get("pending"):
        lines.append(_("waiting for {what}").format(what=state["pending"]))
    elif state.get("last_error"):
        lines.append(state["last_error"])
    if state["held"]:
        told = state["forwarded"]
        lines.append(_("Tip forwarded.") if told["sent"] else _("Tip held back: {why}").format(why=told["reason"]))
    return "\n".join(lines)


def emergencyText(state):
    """What became of an emergency stop; empty when there was none."""
    if state is None or not state["emergency"]:
        return ""
    if state["emergency_confirmed"]:
        return _("Emergency stop: the robot confirmed it and stays locked.")
    if not state["connected"]:
        return _("Emergency stop: NO CONNECTION to the robot. Use its own stop button.")
    return _("Emergency stop: sent, the robot has not confirmed it yet.")
