"""A stand-in for `slicer.parameterNodeWrapper`: typed parameters on a vtkMRMLScriptedModuleNode.

Slicer's own package imports Qt. This one keeps the same names, annotations, parameter keys and texts, so that a scene
saved here restores in desktop Slicer and the other way round. Types: bool, int, float, str, pathlib paths, enums,
MRML nodes, list, tuple, dict, Optional and unions of these, and parameter packs. GUI connections need a connector
factory (`setGuiConnectorFactory`), which a test harness brings; without it `connectGui` raises an error.
"""

from .observed import ObservedDict, ObservedList
from .packs import isParameterPack, parameterPack
from .serializers import (
    NodeSerializer,
    Serializer,
    ValidatedSerializer,
    createSerializerFromAnnotatedType,
    parameterNodeSerializer,
)
from .unions import UnionSerializer
from .validators import (
    Choice,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    RangeBounds,
    Validator,
    WithinRange,
)
from .wrapper import (
    GuiConnector,
    SlicerParameterNamePropertyName,
    isParameterNodeWrapper,
    parameterNodeWrapper,
    setGuiConnectorFactory,
)

__all__ = [
    "Choice",
    "Default",
    "Exclude",
    "GuiConnector",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NodeSerializer",
    "NotNone",
    "ObservedDict",
    "ObservedList",
    "RangeBounds",
    "Serializer",
    "SlicerParameterNamePropertyName",
    "UnionSerializer",
    "ValidatedSerializer",
    "Validator",
    "WithinRange",
    "createSerializerFromAnnotatedType",
    "isParameterNodeWrapper",
    "isParameterPack",
    "parameterNodeSerializer",
    "parameterNodeWrapper",
    "parameterPack",
    "setGuiConnectorFactory",
]
