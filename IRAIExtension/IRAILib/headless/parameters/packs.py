"""Parameter packs: a class of several parameters that is one parameter itself, stored as `name.field`."""

from __future__ import annotations

import typing

from .serializers import (
    Serializer,
    ValidatedSerializer,
    createSerializerFromAnnotatedType,
    one_modification,
    parameterNodeSerializer,
)
from .validators import Default, IsInstance, NotNone, split_annotation


class ParameterInfo:
    """One annotated field: its serializer, default and full annotation."""

    def __init__(self, owner: type, name: str, annotated) -> None:
        self.basename, self.unalteredType = name, annotated
        self.serializer: ValidatedSerializer = createSerializerFromAnnotatedType(annotated)
        extras = split_annotation(annotated)[1]
        annotated_default = next((extra for extra in extras if isinstance(extra, Default)), None)
        if name in vars(owner):
            self.default = Default(vars(owner)[name])
        else:
            self.default = annotated_default or Default(generator=self.serializer.default)


def collect_parameters(owner: type) -> dict[str, ParameterInfo]:
    """{name: ParameterInfo} of a class's annotations, in order. Raises TypeError naming the field at fault."""
    parameters = {}
    for name, annotated in typing.get_type_hints(owner, include_extras=True).items():
        try:
            parameters[name] = ParameterInfo(owner, name, annotated)
        except TypeError as error:
            raise TypeError(f"{owner.__name__}.{name}: {error}") from error
    return parameters


def isParameterPack(classOrObject) -> bool:
    return bool(getattr(classOrObject, "_is_parameterPack", False))


def parameterPack(classtype=None):
    """Class decorator: its annotated fields become validated properties. Constructor: values by position or name."""
    if classtype is None:
        return parameterPack
    parameters = collect_parameters(classtype)
    if not parameters:
        raise ValueError(f"{classtype.__name__} has no annotated field")
    for name, info in parameters.items():
        setattr(classtype, name, _pack_property(name, info))
    own_init = vars(classtype).get("__init__")

    def initialise(self, *args, **kwargs) -> None:
        self._values = {name: info.default.value for name, info in parameters.items()}
        self._on_change = None
        if own_init is not None:
            own_init(self, *args, **kwargs)
        else:
            for name, value in (dict(zip(parameters, args, strict=False)) | kwargs).items():
                if name not in parameters:
                    raise ValueError(f"{classtype.__name__} has no parameter '{name}'")
                setattr(self, name, value)

    members = {
        "__init__": initialise, "allParameters": parameters, "_is_parameterPack": True,
        "getValue": lambda self, name: _walk(self, name.split(".")),
        "setValue": lambda self, name, value: _assign(self, name.split("."), value),
        "dataType": staticmethod(lambda name: data_type(parameters, name)),
    }
    if "__eq__" not in vars(classtype):
        members["__eq__"] = lambda self, other: isParameterPack(other) and self._values == other._values
        members["__hash__"] = None
    if "__repr__" not in vars(classtype):
        members["__repr__"] = lambda self: f"{classtype.__name__}({self._values})"
    for name, member in members.items():
        setattr(classtype, name, member)
    return classtype


def _pack_property(name: str, info: ParameterInfo) -> property:
    def setter(self, value) -> None:
        info.serializer.validate(value)
        self._values[name] = value
        if self._on_change is not None:
            self._on_change(self)

    return property(lambda self: self._values[name], setter)


def _walk(pack, names: list[str]):
    for name in names:
        if name not in pack.allParameters:
            raise ValueError(f"{type(pack).__name__} has no parameter '{name}'")
        pack = getattr(pack, name)
    return pack


def _assign(pack, names: list[str], value) -> None:
    owner = _walk(pack, names[:-1])
    if names[-1] not in owner.allParameters:
        raise ValueError(f"{type(owner).__name__} has no parameter '{names[-1]}'")
    setattr(owner, names[-1], value)


def data_type(parameters: dict[str, ParameterInfo], name: str):
    """Annotation of a parameter by its dotted name. Raises ValueError for an unknown one."""
    first, _, rest = name.partition(".")
    if first not in parameters:
        raise ValueError(f"there is no parameter '{first}'; there are: {', '.join(parameters)}")
    annotated = parameters[first].unalteredType
    return split_annotation(annotated)[0].dataType(rest) if rest else annotated


@parameterNodeSerializer
class PackSerializer(Serializer):
    """A pack: each field under `name.field`; what is read writes itself back when a field changes."""

    def __init__(self, kind) -> None:
        self._kind = kind

    @staticmethod
    def canSerialize(type_) -> bool:
        return isParameterPack(type_)

    @staticmethod
    def create(type_) -> Serializer:
        return ValidatedSerializer(PackSerializer(type_), [NotNone(), IsInstance(type_)])

    def default(self):
        return self._kind()

    def isIn(self, parameterNode, name: str) -> bool:
        first = next(iter(self._kind.allParameters.values()))
        return first.serializer.isIn(parameterNode, f"{name}.{first.basename}")

    def write(self, parameterNode, name: str, value) -> None:
        with one_modification(parameterNode):
            for field, info in self._kind.allParameters.items():
                info.serializer.write(parameterNode, f"{name}.{field}", getattr(value, field))

    def read(self, parameterNode, name: str):
        pack = self._kind()
        for field, info in self._kind.allParameters.items():
            value = info.serializer.read(parameterNode, f"{name}.{field}")
            pack._values[field] = value
            if isParameterPack(value):
                value._on_change = lambda _inner: self.write(parameterNode, name, pack)
        pack._on_change = lambda changed: self.write(parameterNode, name, changed)
        return pack

    def remove(self, parameterNode, name: str) -> None:
        for field, info in self._kind.allParameters.items():
            info.serializer.remove(parameterNode, f"{name}.{field}")

    def supportsCaching(self) -> bool:
        return all(info.serializer.supportsCaching() for info in self._kind.allParameters.values())
