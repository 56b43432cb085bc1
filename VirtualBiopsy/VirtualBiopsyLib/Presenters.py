"""What each step needs and what it gave, in words. No widget here: a test reads the same words as a user."""

from dataclasses import dataclass

from slicer.i18n import tr as _

from .Parameters import FILE, caseFrom, pathOf, regionOf, segmentOf, typedValues

GOOD, WARN, BAD, NOTHING = "good", "warn", "bad", "nothing"
_LINE = "padding: 4px; border-radius: 3px; font-weight: bold; "
LINE_STYLES = {
    GOOD: _LINE + "background-color: #d8f0dd; color: #14502a;",
    WARN: _LINE + "background-color: #ffe7b8; color: #6b4300;",
    BAD: _LINE + "background-color: #c8102e; color: white;",
    NOTHING: _LINE + "background-color: #e4e4e4; color: #555555;",
}


@dataclass(frozen=True)
class StepView:
    """`ready`: its button may be pressed. `needs`: why not (empty when ready). `gave`: what is there already."""

    ready: bool
    needs: str = ""
    gave: str = ""


def firstMissing(pairs):
    """The text of the first pair (present, text) that isn't present, else an empty string."""
    return next((text for present, text in pairs if not present), "")


def staleText(record, parameters=None):
    """Why a result no longer belongs to what is in the scene, or to the lesion that is chosen; empty while it does, or
    where there is none."""
    from IRAILib.geometry import IRAIError
    from IRAILib.scene.biopsy_case import other_case
    from IRAILib.scene.biopsy_sources import stale_reasons

    if record is None:
        return ""
    try:
        reasons = stale_reasons(record)
        case = None if parameters is None else caseOrNone(parameters)
        if case is not None and other_case(record, case):
            reasons.insert(0, other_case(record, case))
    except IRAIError as error:
        return str(error)
    return _("Out of date: {why}. Run this step again.").format(why="; ".join(reasons)) if reasons else ""


def lesionView(parameters):
    lesion = segmentOf(parameters, "lesion")
    needs = firstMissing([
        (parameters.volume or lesion, _("Choose the scan and the lesion's segment, or try the sample.")),
        (parameters.volume, _("Choose the scan.")),
        (lesion, _("Choose the lesion's segment, or make it with a few clicks."))])
    return StepView(not needs, needs)


def sizeText(record):
    """Notes under the lesion's table."""
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_lesion import size_notes

    return "\n".join(_("Note: {text}.").format(text=note) for note in size_notes(read_record(record)))


def clicksView(parameters):
    inside = parameters.clicksInside
    needs = firstMissing([
        (parameters.volume, _("Choose the scan first.")),
        (inside and inside.GetNumberOfDefinedControlPoints(), _("Place at least one point inside."))])
    return StepView(not needs, needs)


def regionsRows(parameters):
    """Rows (part, value) of shell and habitats."""
    from IRAILib.scene.ablation_results import read_record

    rows = []
    for record in (parameters.shell, parameters.habitats):
        rows += [(str(row[0]), f"{row[1]} {row[2]}".strip()) for row in read_record(record).get("board_rows") or []]
    return rows


def regionsText(parameters):
    """What makes shell and habitats doubtful or out of date."""
    from IRAILib.scene.ablation_results import read_record

    lines = []
    for record in (parameters.shell, parameters.habitats):
        lines += [staleText(record, parameters), *(read_record(record).get("warnings") or [])]
    return "\n".join(line for line in lines if line)


def featuresView(parameters):
    from IRAILib.scene.ablation_results import read_record

    needs = lesionView(parameters).needs or firstMissing([
        (parameters.preset != FILE or pathOf(parameters.config), _("Choose a settings file."))])
    document = read_record(parameters.features)
    gave = ""
    if document.get("features"):
        undefined = len(document.get("undefined") or {})
        gave = _("{n} features of {what}, {voxels} voxels.").format(
            n=len(document["features"]), what=document["mask"], voxels=document["voxels"])
        if undefined:
            gave += " " + _("{n} are not defined here; their note says why.").format(n=undefined)
        gave += "".join("\n" + str(text) for text in document.get("warnings") or [])
    stale = staleText(parameters.features, parameters) or otherRegion(parameters, document)
    return StepView(not needs, needs or stale, gave)


def otherRegion(parameters, document):
    """That the features shown are of another part than is chosen."""
    region = regionOf(parameters)
    if document and region is not None and document.get("mask") != region.name:
        return _("The features shown are of {what}: extract again for {now}.").format(
            what=document.get("mask"), now=region.name)
    return ""


def stabilityText(parameters):
    from IRAILib.scene.ablation_results import read_record

    document = read_record(parameters.stability)
    if not document:
        return ""
    text = _("{n} of {all} features are unstable over {k} perturbations (they vary by more than 10 %).").format(
        n=len(document.get("unstable") or {}), all=len(document.get("features") or []),
        k=document.get("n_perturbations"))
    return "\n".join(line for line in (text, staleText(parameters.stability, parameters)) if line)


def cohortText(parameters):
    from IRAILib.scene.ablation_results import read_record

    document = read_record(parameters.cohort)
    if not document:
        return ""
    text = _("Compared with {n} other patients: {k} features in common.").format(
        n=document.get("n_patients"), k=len(document.get("places") or {}))
    lines = [text, *(document.get("warnings") or []), staleText(parameters.cohort, parameters)]
    return "\n".join(line for line in lines if line)


def featureRows(parameters, find=""):
    """Rows (feature, value, varies, percentile) and whether each is unstable, for the list in the panel."""
    from IRAILib.scene.changes import part_of

    table = part_of(parameters.features, "table")
    if table is None:
        return [], []
    columns = {table.GetColumnName(n): table.GetTable().GetColumn(n) for n in range(table.GetNumberOfColumns())}
    count = table.GetNumberOfRows()
    read = {name: [column.GetVariantValue(row).ToString() for row in range(count)] for name, column in columns.items()}
    rows, unstable, word = [], [], find.strip().lower()
    for row in range(count):
        cell = {name: values[row] for name, values in read.items()}
        if word and word not in f"{cell['Feature']} {cell['Family']} {cell['Key']}".lower():
            continue
        bad = cell["Stability"] == "unstable"
        if bad and parameters.hideUnstable:
            continue
        name = cell["Feature"] + (f", {cell['Aggregation']}" if cell["Aggregation"] else "")
        value = cell["Note"]
        if cell["Value"] != "nan":
            value = f"{float(cell['Value']):.4g} {cell['Unit']}".removesuffix(" 1")
        spread = f"{cell['Varies by (CV %)']} %" if cell["Varies by (CV %)"] else ""
        rows.append((name, value, spread + (" !" if bad else ""),
                     f"{cell['Percentile']} ({cell['Others']})" if cell["Percentile"] else ""))
        unstable.append(bad)
    return rows, unstable


def scoreView(parameters, inputs):
    """`inputs`: what was typed, by input."""
    from IRAILib.biopsy.scores import find_score
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_scores import score_record

    if not parameters.score:
        return StepView(False, _("Choose a score."))
    score = find_score(parameters.score)
    document = read_record(score_record(score.name))
    stale = document and document.get("typed") != inputs
    return StepView(bool(inputs), _("The values were changed: work it out again.") if stale else
                    "" if inputs else _("Fill in the values."),
                    _("Formula: {formula}\nSource: {source}\nValidated on: {on}").format(
                        formula=score.formula, source=score.source, on=score.validated_on))


def reportView(parameters):
    from IRAILib.scene.biopsy_scores import score_records

    made = any(parameters.getValue(name) is not None for name in ("size", "features", "prediction")) or score_records()
    needs = lesionView(parameters).needs or firstMissing([
        (made, _("Measure the lesion, or work a score out first.")),
        (pathOf(parameters.reportFolder), _("Choose a folder."))])
    return StepView(not needs, needs)


def caseOrNone(parameters):
    """The case, None while it isn't chosen."""
    return caseFrom(parameters) if lesionView(parameters).ready else None


@dataclass(frozen=True)
class ModelView(StepView):
    """`stale`: the prediction shown no longer belongs to what is chosen."""

    stale: bool = False


def modelView(parameters, model, wrong):
    """`model`: an open model or None; `wrong`: why the chosen one can't be used."""
    from IRAILib.scene.ablation_results import read_record

    needs = lesionView(parameters).needs or firstMissing([
        (pathOf(parameters.modelFolder), _("Choose a model's folder.")),
        (not wrong, wrong),
        (model is None or not model.needs_features or parameters.features is not None,
         _("This model needs image features: extract them in step 2."))])
    document = read_record(parameters.prediction)
    other = bool(document) and model is not None and document.get("model_sha256") != model.sha256
    typed = typedValues(parameters.modelValues)
    retyped = bool(document) and model is not None and any(
        (typed.get(one.name) or None) != (document.get("typed") or {}).get(one.name) for one in model.asked)
    stale = staleText(parameters.prediction, parameters) or (
        _("The prediction shown is another model's: press Predict.") if other else
        _("The values were changed: press Predict.") if retyped else "")
    gave = "\n".join(filter(None, [
        _("Validated on: {on}").format(on=document["validated_on"]) if document.get("validated_on") else "",
        *(document.get("warnings") or [])]))
    return ModelView(not needs, needs or stale, gave, stale=bool(stale))


def predictionWords(document):
    """The line a reader looks for."""
    if not document:
        return ""
    if document.get("refused"):
        return _("REFUSED: {why}").format(why=document["refused"])
    return str(document.get("headline") or "")


def trainView(parameters, columns, wrong):
    """`columns`: of the chosen table; `wrong`: why it can't be read."""
    from IRAILib.scene.ablation_results import read_record

    needs = firstMissing([
        (pathOf(parameters.trainTable), _("Choose a table with one row a patient.")),
        (not wrong, wrong),
        (parameters.target in columns, _("Choose the outcome's column.")),
        (parameters.patient in columns, _("Choose the patient's column.")),
        (pathOf(parameters.trainFolder), _("Choose a folder to write to."))])
    document = read_record(parameters.training)
    other = document and (document.get("table_file") != str(parameters.trainTable)
                          or document.get("target") != parameters.target)
    shown = _("The verdict shown is of '{target}' in {table}.").format(
        target=document.get("target"), table=document.get("table_file")) if other else ""
    return StepView(not needs, needs or shown, "\n".join(document.get("warnings") or []))


def trainWords(document):
    """The verdict of a training, in one line."""
    return str(document.get("verdict") or "").replace("with --baseline", _("in 'Baseline' above")) if document else ""
