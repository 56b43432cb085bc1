"""What each step needs and what it gave, in words. No widget here: a test reads the same words as a user."""

from dataclasses import dataclass

from slicer.i18n import tr as _

from .Parameters import GIVEN, LANDMARKS, REFINE, REPLAY, SESSION, VOLUMES, volumesOf

GOOD, WARN, BAD, NOTHING = "good", "warn", "bad", "nothing"
_LETTERS = "font-size: 20px; font-weight: bold; padding: 6px; border-radius: 4px; "
STATUS_STYLES = {
    GOOD: _LETTERS + "background-color: #1f8f3b; color: white;",
    WARN: _LETTERS + "background-color: #f2a516; color: black;",
    BAD: _LETTERS + "background-color: #c8102e; color: white;",
    NOTHING: _LETTERS + "background-color: #8c8c8c; color: white;",
}
_LINE = "padding: 4px; border-radius: 3px; font-weight: bold; "
LINE_STYLES = {
    GOOD: _LINE + "background-color: #d8f0dd; color: #14502a;",
    WARN: _LINE + "background-color: #ffe7b8; color: #6b4300;",
    BAD: _LINE + "background-color: #c8102e; color: white;",
    NOTHING: _LINE + "background-color: #e4e4e4; color: #555555;",
}
PIXELS_MM = 0.02


@dataclass(frozen=True)
class StepView:
    """`ready`: its button may be pressed. `needs`: why not (empty when ready). `gave`: what is there already.
    `live`: something runs that can be ended."""

    ready: bool
    needs: str = ""
    gave: str = ""
    live: bool = False


def statusWord(state):
    """The big letters, and what they stand for: guiding is green; anything that is not live now is grey."""
    if not state.connected:
        return _("NOT CONNECTED"), NOTHING
    if state.stale:
        return _("NO GUIDANCE"), NOTHING
    estimate = state.estimate
    if estimate is None or estimate.tip is None:
        return _("LIVE SLICE"), GOOD
    if state.breach.status == "breach":
        return _("BREACH"), BAD
    if state.breach.status == "near":
        return _("NEAR A STRUCTURE"), WARN
    return _("GUIDING"), GOOD


def sigmaText(state):
    """How sure the tool's place is; why there are no numbers, while there are none."""
    if not state.connected:
        return ""
    if state.stale:
        return _("No numbers: {why}").format(why=state.why_stale)
    estimate = state.estimate
    if estimate is None or estimate.tip is None:
        return ""
    if estimate.sigma is None:
        missing = ", ".join(state.tool.unknown) or _("the tip")
        return _("Uncertainty not known: {what} states no error. Validated on: {on}.").format(
            what=missing, on=estimate.validated_on)
    return _("Tip ± {sigma:.1f} mm (one standard deviation in any direction). Validated on: {on}.").format(
        sigma=estimate.sigma, on=estimate.validated_on)


def volumesView(parameters, session):
    volumes = volumesOf(parameters)
    if not volumes:
        return StepView(False, _("Choose the volume that the plan was made on, or try the sample."))
    names = ", ".join(node.GetName() for node in volumes)
    gave = _("{names}; {n} structures to avoid").format(names=names, n=len(session.obstacles))
    return StepView(True, "" if parameters.structures is not None else
                    _("Without structures there is no warning and no outline on the live slice."), gave)


def linkView(parameters, state, session):
    needs = ""
    if parameters.source == REPLAY and str(parameters.recording or ".") == ".":
        needs = _("Choose a recording, or try the sample.")
    elif parameters.source == SESSION and parameters.browser is None:
        needs = _("Choose a session that was recorded in step 5.")
    elif parameters.source not in (REPLAY, SESSION) and not parameters.host.strip():
        needs = _("Say where the server is.")
    gave = _(state.link_text)
    if state.rate_hz:
        gave += _(", {rate:.0f} pictures a second").format(rate=state.rate_hz)
    return StepView(not needs, needs, gave, session.bridge is not None)


def calibrationText(state, session):
    """What the calibration is, and what of it could not be compared with the live image."""
    calibration = session.live.calibration
    if calibration is None:
        return _("Probe: as the sender says; its error is not known.") if state.connected else ""
    x, y = calibration.mm_per_px
    text = _("Probe: {method}, pixels of {x:.3f} x {y:.3f} mm. Validated on: {on}.").format(
        method=calibration.method, x=x, y=y, on=calibration.validated_on)
    if state.not_compared:
        text += " " + _("Not compared with the live image: {what}.").format(what=", ".join(state.not_compared))
    if session.live.lag_s:
        text += " " + _("Lag {lag:.0f} ms.").format(lag=1000 * session.live.lag_s)
    return text


def chainText(state):
    """The chain's verdict: what is broken, or how sure the whole of it is."""
    parts = []
    for chain in (state.image, state.tool):
        if chain.source == "Tool":
            continue
        if not chain.ok:
            parts.append(_("{a} to patient: {why}").format(a=chain.source, why=chain.problem))
        elif chain.error_mm is None:
            parts.append(_("{a} to patient: error not known ({what})").format(a=chain.source,
                                                                             what=", ".join(chain.unknown)))
        else:
            parts.append(_("{a} to patient: ± {e:.1f} mm (rms, 3D)").format(a=chain.source, e=chain.error_mm))
        parts += list(chain.warnings)
    return "\n".join(dict.fromkeys(parts))


def registerView(parameters, session):
    if parameters.method == LANDMARKS and (parameters.fixedPoints is None or parameters.movingPoints is None):
        return StepView(False, _("Choose the landmarks on the volume and the same ones as the tool touched them."))
    if parameters.method == GIVEN and parameters.transform is None:
        return StepView(False, _("Choose the transform from the tracker to the volume."))
    if parameters.method == VOLUMES and len(volumesOf(parameters)) < 2:
        return StepView(False, _("Choose two volumes in step 1: the second is brought into the first."))
    if parameters.method == REFINE and session.registration is None:
        return StepView(False, _("Register by landmarks first: the live slice then refines it."))
    return StepView(True)


def planNeeds(parameters):
    if parameters.volume1 is None:
        return _("Choose the CT in step 1.")
    if parameters.target is None or not parameters.target.GetNumberOfControlPoints():
        return _("Place the target, or draw a path by hand: entry first, then target.")
    return ""


def guideRows(state):
    """Rows of the table; empty when anything in the chain isn't live, so that no old number stays."""
    from IRAILib.scene.needle_guidance import guidance_rows

    return [] if state.stale else [(_(name), value) for name, value in guidance_rows(state.guidance)]


def guideNeeds(parameters, state):
    if parameters.plan is None or parameters.plan.GetNumberOfDefinedControlPoints() < 2:
        return _("Choose or draw a path in step 4.")
    if state.connected and not parameters.tool:
        return _("Choose the tracked tool in step 2: without one there is the live slice alone.")
    if state.connected and not state.tip_calibrated:
        return _("The tool's tip is not calibrated: the middle of its marker is taken for it. Collect poses in step 2.")
    return ""


def breachLine(state):
    """(text, kind) of the warning; nothing when nothing is live."""
    from IRAILib.scene.fusion_guide import breach_text

    if state.stale:
        return "", NOTHING
    kind = {"clear": GOOD, "near": WARN, "breach": BAD}.get(state.breach.status, NOTHING)
    return breach_text(state.breach), kind


def robotText(state):
    """The robot in a line or two."""
    if state is None:
        return _("No robot.")
    if not state["connected"]:
        return _("Robot: no connection. {why}").format(why=state.get("last_error") or "")
    text = _("Robot: {phase}").format(phase=state["phase"])
    if state["emergency"]:
        text += "\n" + (_("Stopped, confirmed.") if state["emergency_confirmed"] else
                        _("Stop sent, not confirmed yet."))
    return text
