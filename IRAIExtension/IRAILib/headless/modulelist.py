"""Slicer's loadable modules: which have a logic in the slicer-core wheel, and `slicer.modules`."""

from __future__ import annotations

import types
from pathlib import Path

from .errors import HeadlessAttributeError, unavailable

LOGIC_CLASSES = {
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Colors": "vtkSlicerColorLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Reformat": "vtkSlicerReformatLogic",
    "SceneViews": "vtkSlicerSceneViewsModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "ViewControllers": "vtkSlicerViewControllersLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}

INSTEAD = {
    "dicom": "read the files with IRAILib.images.read_volume, then slicer.util.addVolumeFromArray",
    "segmenteditor": "edit the array of slicer.util.arrayFromSegmentBinaryLabelmap",
    "segmentstatistics": "compute on slicer.util.arrayFromSegmentBinaryLabelmap",
    "brainsfit": "IRAILib.registration.register",
    "elastix": "IRAILib.registration.register",
    "resamplescalarvectordwivolume": "IRAILib.geometry.resample",
    "sampledata": "slicer.util.downloadFile, then slicer.util.loadVolume",
    "welcome": "there is no page to show",
}


class Module:
    """What `slicer.modules.<name>` is: name, title, path and `logic()`; its widget needs desktop Slicer."""

    def __init__(self, name: str, logic, path: str = "") -> None:
        self.name = self.title = name
        self.path = path
        self._logic = logic

    def logic(self):
        """The module's logic: the real C++ class, on slicer.mrmlScene."""
        return self._logic

    def widgetRepresentation(self):
        """Raises HeadlessUnavailableError: widgets are Qt."""
        raise unavailable(f"the widget of module {self.name}", f"slicer.modules.{self.name.lower()}.logic()")

    createNewWidgetRepresentation = widgetRepresentation


class ModuleNamespace(types.ModuleType):
    """`slicer.modules`: a missing module raises an AttributeError that names it and what to use instead."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        instead = INSTEAD.get(name.lower(), "it is no part of slicer-core (command-line modules, scripted modules "
                                            f"and extensions are not); here are: {', '.join(self.loaded_names())}")
        raise unavailable(f"slicer.modules.{name}", instead, HeadlessAttributeError)

    def loaded_names(self) -> list[str]:
        """Module names in Slicer's spelling, sorted."""
        return sorted(module.name for module in vars(self).values() if isinstance(module, Module))


class ModuleManager:
    """The part of qSlicerModuleManager that scripts call. `module(name)` gives None for one that is not there."""

    def __init__(self, namespace: ModuleNamespace) -> None:
        self._namespace = namespace
        self._connections: list[tuple] = []

    def module(self, name: str):
        return vars(self._namespace).get(name.lower())

    def modulesNames(self) -> list[str]:
        return self._namespace.loaded_names()

    loadedModuleNames = modulesNames

    def factoryManager(self):
        return self

    def connect(self, signal: str, callback) -> bool:
        """Accepted and kept; no module is ever unloaded, so that it is never called."""
        self._connections.append((signal, callback))
        return True

    def disconnect(self, signal: str, callback) -> bool:
        self._connections = [c for c in self._connections if c != (signal, callback)]
        return True


def create_logics(application_logic, scene, share: Path | None) -> dict:
    """{module name: logic} for every logic of the wheel, each told the application logic before the scene."""
    import slicer

    logics = {}
    for name, class_name in LOGIC_CLASSES.items():
        logic_class = getattr(slicer, class_name, None)
        if logic_class is None:
            continue
        logic = logic_class()
        if share is not None and hasattr(logic, "SetModuleShareDirectory"):
            folder = share / name.lower()
            logic.SetModuleShareDirectory(str(folder if folder.is_dir() else share))
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name, logic)
        logics[name] = logic
    return logics
