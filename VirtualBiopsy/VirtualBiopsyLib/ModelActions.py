"""What the buttons of steps 4 and 5 do."""

from .Parameters import QUICK, THOROUGH, caseFrom, namesOf, pathOf, typedValues

EFFORT = {QUICK: {"outer_folds": 5, "repeats": 1, "inner_folds": 3, "permutations": 0, "bootstraps": 200,
                  "sensitivity": False},
          THOROUGH: {"repeats": 10, "permutations": 100, "bootstraps": 2000}}
"""Beside the plan's own defaults."""


class ModelActions:
    """Mixed into the logic."""

    @staticmethod
    def modelInputs(parameters):
        """What the chosen model asks for that is no image feature. Raises InputError for a damaged model."""
        from IRAILib.geometry import InputError
        from IRAILib.scene.biopsy_model import open_model

        folder = pathOf(parameters.modelFolder)
        if folder is None:
            raise InputError("choose a model's folder first")
        return open_model(folder)

    def predict(self, parameters):
        """Ask the chosen model about this patient; the record is remembered and returned."""
        from IRAILib.scene.biopsy_model import predict_case

        model = self.modelInputs(parameters)
        parameters.prediction = predict_case(caseFrom(parameters), parameters.features, model,
                                             typedValues(parameters.modelValues), previous=parameters.prediction)
        return parameters.prediction

    @staticmethod
    def tableColumns(parameters):
        """Names of the training table's columns; [] where none is chosen. Raises InputError for a bad table."""
        from IRAILib.biopsy.outcome.table import read_table

        path = pathOf(parameters.trainTable)
        return [] if path is None else read_table(path).names

    def train(self, parameters, progress=None, cancelled=None):
        """Train and validate in a worker process; the record is remembered and returned."""
        from IRAILib.geometry import InputError
        from IRAILib.scene.biopsy_train import train_model

        table, folder = pathOf(parameters.trainTable), pathOf(parameters.trainFolder)
        if table is None or folder is None:
            raise InputError("choose a table and a folder to write to first")
        plan = {"target": parameters.target, "time": parameters.time or None, "patient": parameters.patient or None,
                "site": parameters.site or None, "event": parameters.event.strip() or None,
                "exclude": namesOf(parameters.exclude), "baseline": namesOf(parameters.baseline),
                **EFFORT.get(parameters.effort, {})}
        parameters.training = train_model(table, plan, folder, previous=parameters.training, progress=progress,
                                          cancelled=cancelled)
        return parameters.training

    @staticmethod
    def useTrainedModel(parameters):
        """Choose the model that step 5 wrote."""
        parameters.modelFolder = parameters.trainFolder
