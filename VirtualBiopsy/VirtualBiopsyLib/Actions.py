"""What the buttons do, on a parameter node; a script calls the same. Imports nothing heavy until it is needed."""

from .ModelActions import ModelActions
from .Parameters import RECORDS, caseFrom, chooseSegment, pathOf, rememberCase, segmentOf, typedValues


class VirtualBiopsyActions(ModelActions):
    """Each takes the parameter node, works in the scene and remembers the result in the parameter node."""

    # ---- 1 lesion

    def trySample(self, parameters, progress=None, cancelled=None, patients=None):
        """Put the sample into the scene, write the table of other painted patients, choose both. Returns the truth."""
        from IRAILib.scene import biopsy_sample
        from IRAILib.scene.biopsy_features import settings_for

        table = biopsy_sample.sample_cohort(settings_for("ct"), patients or biopsy_sample.PATIENTS, progress=progress,
                                            cancelled=cancelled)
        case, painted = biopsy_sample.load_sample()
        rememberCase(parameters, case)
        parameters.preset = "ct"
        parameters.cohortTable = parameters.trainTable = table
        parameters.cohortPatient, parameters.exclude = "", "settings_hash"
        parameters.target, parameters.patient = "response", "patient"
        parameters.time = parameters.site = ""
        parameters.event = "yes"
        parameters.trainFolder = biopsy_sample.sample_folder() / "model"
        return painted

    def segmentFromClicks(self, parameters):
        """Make the lesion's segment from its clicks and choose it. Raises InputError, RefusedError (no contrast)."""
        from IRAILib.scene.biopsy_lesion import segment_lesion

        current = segmentOf(parameters, "lesion")
        name = current.node.GetSegmentation().GetSegment(current.segment_id).GetName() if current else "Lesion"
        made = segment_lesion(parameters.volume, parameters.clicksInside, parameters.clicksOutside,
                              parameters.lesionSegmentation, name=name)
        chooseSegment(parameters, "lesion", made)
        return made

    def measureLesion(self, parameters):
        """Measure the lesion; the record is remembered and returned."""
        from IRAILib.scene.biopsy_lesion import measure_case

        parameters.size = measure_case(caseFrom(parameters), previous=parameters.size)
        return parameters.size

    def makeShell(self, parameters, progress=None, cancelled=None):
        """The shell as a segment; the record is remembered and returned."""
        from IRAILib.scene.biopsy_regions import make_shell

        parameters.shell = make_shell(caseFrom(parameters), parameters.shellOuterMm, parameters.shellInnerMm,
                                      previous=parameters.shell, progress=progress, cancelled=cancelled)
        return parameters.shell

    def findHabitats(self, parameters, progress=None, cancelled=None):
        """The lesion's habitats as segments; the record is remembered and returned."""
        from IRAILib.scene.biopsy_habitats import find_habitats

        number = parameters.habitatsNumber if parameters.habitatsNumber > 1 else None
        parameters.habitats = find_habitats(caseFrom(parameters), number, previous=parameters.habitats,
                                            progress=progress, cancelled=cancelled)
        return parameters.habitats

    # ---- 2 features

    def extract(self, parameters, progress=None, cancelled=None):
        """Features of the lesion or the chosen part; what was made from earlier features is forgotten."""
        from IRAILib.scene.biopsy_features import extract_case, settings_for

        settings = settings_for(parameters.preset, pathOf(parameters.config))
        parameters.features = extract_case(caseFrom(parameters), settings, previous=parameters.features,
                                           progress=progress, cancelled=cancelled)
        self.discard(parameters, "stability", "cohort")
        return parameters.features

    def testStability(self, parameters, progress=None, cancelled=None):
        """How much the features vary; the record is remembered and returned."""
        from IRAILib.scene.biopsy_stability import try_stability

        parameters.stability = try_stability(
            caseFrom(parameters), parameters.features, n=parameters.perturbations, previous=parameters.stability,
            cohort=parameters.cohort, progress=progress, cancelled=cancelled)
        return parameters.stability

    def compare(self, parameters):
        """Where the features lie among other patients; the record is remembered and returned."""
        from IRAILib.geometry import InputError
        from IRAILib.scene.biopsy_features import compare_with_cohort

        path = pathOf(parameters.cohortTable)
        if path is None:
            raise InputError("choose the table of other patients first")
        parameters.cohort = compare_with_cohort(
            caseFrom(parameters), parameters.features, path, patient=parameters.cohortPatient,
            previous=parameters.cohort, stability=parameters.stability)
        return parameters.cohort

    # ---- 3 scores

    def workOutScore(self, parameters):
        """The chosen score from what was typed. Returns its record. Raises InputError, RefusedError."""
        from IRAILib.scene.biopsy_case import STUDY_FOLDER
        from IRAILib.scene.biopsy_scores import work_out_score

        lesion = segmentOf(parameters, "lesion")
        folder = caseFrom(parameters).folder if lesion and parameters.volume else STUDY_FOLDER
        return work_out_score(parameters.score, self.scoreInputs(parameters), folder=folder)

    @staticmethod
    def scoreInputs(parameters):
        """What was typed for the chosen score, by input, with the chosen unit behind the number."""
        from IRAILib.biopsy.scores import find_score

        typed, out = typedValues(parameters.scoreValues), {}
        for item in find_score(parameters.score).inputs:
            entry = typed.get(inputKey(item)) or {}
            text = str(entry.get("value") or "").strip()
            if text:
                out[item.name] = f"{text} {entry.get('unit') or ''}".strip()
        return out

    # ---- 6 report

    @staticmethod
    def records(parameters):
        """The records that the page is written from."""
        return {name: parameters.getValue(name) for name in RECORDS}

    def writeBoard(self, parameters):
        """Write board.html and board.json. Returns the files."""
        from IRAILib.geometry import InputError
        from IRAILib.scene.biopsy_board import write_case_board

        folder = pathOf(parameters.reportFolder)
        if folder is None:
            raise InputError("choose a folder for the page first")
        return write_case_board(caseFrom(parameters), self.records(parameters), folder)

    @staticmethod
    def findSource(link):
        """Select the node that an irai:// link stands for. Returns (Found, its item in the subject hierarchy)."""
        from IRAILib.scene.biopsy_sources import find_node, select_node

        found = find_node(link)
        return found, select_node(found)

    # ---- all

    @staticmethod
    def discard(parameters, *names):
        """Take records, and what they made, out of the scene."""
        from IRAILib.scene.changes import parts_of, remove_node

        for name in names:
            for node in parts_of(parameters.getValue(name)):
                remove_node(node)
            parameters.setValue(name, None)


def inputKey(item):
    """The same question in two scores has one answer: by name and wording."""
    return f"{item.name}|{item.what}"
