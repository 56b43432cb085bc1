"""What each step needs and what it gave, in words. No widget here: a test reads the same words as a user."""

from dataclasses import dataclass

from slicer.i18n import tr as _

from .Parameters import SAME_FRAME, segmentOf


@dataclass(frozen=True)
class StepView:
    """`ready`: its button may be pressed. `needs`: why not (empty when ready). `gave`: what is there already."""

    ready: bool
    needs: str = ""
    gave: str = ""


def firstMissing(pairs):
    """The text of the first pair (present, text) that isn't present, else an empty string."""
    return next((text for present, text in pairs if not present), "")


def caseView(parameters):
    pre, post = parameters.preVolume, parameters.postVolume
    needs = firstMissing([
        (pre or post, _("Choose the scans before and after the ablation, load them, or try the sample case.")),
        (pre, _("Choose the scan before the ablation (only needed for registration).")),
        (post, _("Choose the scan after the ablation.")),
        (pre is not post, _("Before and after are the same volume: choose another one."))])
    return StepView(not needs, needs, "\n".join(describeVolume(v) for v in (pre, post) if v is not None))


def describeVolume(node):
    """Size and spacing of a volume in one line."""
    image = node.GetImageData()
    if image is None:
        return _("{name}: holds no image").format(name=node.GetName())
    size = " × ".join(str(n) for n in image.GetDimensions())
    spacing = " × ".join(f"{s:.3g}" for s in node.GetSpacing())
    return _("{name}: {size} voxels of {spacing} mm").format(name=node.GetName(), size=size, spacing=spacing)


def zoneView(parameters, volumes):
    """`volumes`: ml of "tumor" and "ablation" as far as they could be measured."""
    tumor, zone = segmentOf(parameters, "tumor"), segmentOf(parameters, "ablation")
    needs = firstMissing([
        (tumor, _("Choose the tumour's segment, or make it with a few clicks.")),
        (zone, _("Choose the ablation zone's segment, or make it with a few clicks.")),
        (not (tumor and zone) or tumor != zone, _("Tumour and zone are the same segment: choose another one.")),
        (not tumor or volumes.get("tumor") != 0.0, _("The tumour's segment is empty.")),
        (not zone or volumes.get("ablation") != 0.0, _("The ablation zone's segment is empty."))])
    names = {"tumor": _("Tumour"), "ablation": _("Ablation zone")}
    gave = ", ".join(f"{names[key]} {value:.1f} ml" for key, value in volumes.items() if value)
    return StepView(not needs, needs, gave)


def clicksView(parameters):
    tumor = parameters.clicksTarget == "tumor"
    volume = parameters.preVolume if tumor else parameters.postVolume
    inside = parameters.clicksInside
    needs = firstMissing([
        (volume, _("Choose the scan before the ablation first.") if tumor
         else _("Choose the scan after the ablation first.")),
        (inside and inside.GetNumberOfDefinedControlPoints(), _("Place at least one point inside."))])
    return StepView(not needs, needs)


def registerView(parameters, case, zone):
    """`case`, `zone`: the views of the steps before."""
    from IRAILib.scene.ablation import is_accepted
    from IRAILib.scene.ablation_results import read_record

    if parameters.model == SAME_FRAME:
        return StepView(False, "", _("Both scans are taken as they lie: no registration. Only right when nothing "
                                     "moved in between."))
    needs = case.needs or zone.needs
    record = parameters.registration
    gave = ""
    if record is not None:
        refused = read_record(record).get("refused")
        gave = (_("Refused: {why}").format(why=refused) if refused else _("Accepted.") if is_accepted(record)
                else _("Look at it side by side or as checkerboard, then accept it or redo it."))
    return StepView(not needs, needs, gave)


def marginView(parameters, zone):
    from IRAILib.scene.ablation import is_accepted
    from IRAILib.scene.ablation_results import read_record

    needs = zone.needs
    if not needs and parameters.model != SAME_FRAME:
        refused = read_record(parameters.registration).get("refused")
        needs = firstMissing([
            (parameters.registration, _("Register the scans first, or say in step 3 that they share a frame.")),
            (not refused, _("The registration refused itself: {why}").format(why=refused)),
            (is_accepted(parameters.registration), _("Accept the registration first."))])
    return StepView(not needs, needs, staleText(parameters))


def staleText(parameters):
    """Why a margin that is shown no longer belongs to what is chosen; empty when it does or there is none."""
    from IRAILib.scene.ablation_results import read_record

    document = read_record(parameters.margin)
    if not document:
        return ""
    inputs = document.get("inputs", {})
    for name in ("tumor", "ablation"):
        ref = segmentOf(parameters, name)
        if ref is None or inputs.get(name, {}).get("segment_id") != ref.segment_id:
            return _("The numbers belong to other segments than are chosen now: measure again.")
    if document.get("threshold_mm") not in (None, parameters.thresholdMm):
        return _("The wanted margin was changed: measure again.")
    registered = document.get("registration") is not None
    if registered != (parameters.model != SAME_FRAME):
        return _("The motion between the scans was changed: measure again.")
    return ""


def reportView(parameters):
    folder = str(parameters.reportFolder or "")
    needs = firstMissing([
        (parameters.margin, _("Measure the margin first.")),
        (folder not in ("", "."), _("Choose a folder."))])
    return StepView(not needs, needs)


def headline(document, threshold):
    """The one sentence a reader looks for: MAM, its interval, and how likely it is too small."""
    if not document or document.get("mam_mm") is None:
        return _("No tumour surface was left to measure.") if document else ""
    text = _("Minimal margin {mam:.1f} mm").format(mam=document["mam_mm"])
    interval = document.get("mam_ci95_mm")
    if interval:
        text += _(" (95 % interval {low:.1f} to {high:.1f})").format(low=interval[0], high=interval[1])
    probability = document.get("probability_mam_below_threshold")
    if probability is not None:
        text += _("; under {t:g} mm with probability {p:.0f} %").format(t=threshold, p=100 * probability)
    if document.get("screening_only"):
        text += _(". Slices over 3 mm: screening only")
    return text + "."
