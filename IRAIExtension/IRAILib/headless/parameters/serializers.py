"""From Python values to a parameter node's texts and node references and back, under the keys that Slicer uses."""

from __future__ import annotations

import abc
import contextlib
import enum
import pathlib
import typing

from .observed import ObservedDict, ObservedList
from .validators import IsInstance, NotNone, Validator, split_annotation

_REGISTERED: list[type[Serializer]] = []


class Serializer(abc.ABC):
    """Keeps values of one type on a parameter node, under a name that it may extend (`name.len`, `name.0`)."""

    @staticmethod
    @abc.abstractmethod
    def canSerialize(type_) -> bool: ...

    @staticmethod
    @abc.abstractmethod
    def create(type_) -> Serializer | None: ...

    @abc.abstractmethod
    def default(self): ...

    def isIn(self, parameterNode, name: str) -> bool:
        return bool(parameterNode.HasParameter(name))

    @abc.abstractmethod
    def write(self, parameterNode, name: str, value) -> None: ...

    @abc.abstractmethod
    def read(self, parameterNode, name: str): ...

    def remove(self, parameterNode, name: str) -> None:
        parameterNode.UnsetParameter(name)

    def validate(self, value) -> None:  # noqa: B027  (a serializer without conditions need not say so)
        """Raise ValueError or TypeError for a value that may not be stored."""

    def supportsCaching(self) -> bool:
        """Whether a copy of a value could stand for it; only a question of interest to Slicer's own wrapper."""
        return False


SerializerClass = typing.TypeVar("SerializerClass", bound="type[Serializer]")


def parameterNodeSerializer(cls: SerializerClass) -> SerializerClass:
    """Class decorator: register a serializer; later ones win, so that a module can bring its own."""
    _REGISTERED.insert(0, cls)
    return cls


class ValidatedSerializer(Serializer):
    """A serializer whose values pass validators first."""

    def __init__(self, inner: Serializer, validators: list[Validator]) -> None:
        if isinstance(inner, ValidatedSerializer):
            inner, validators = inner.inner, inner.validators + validators
        self.inner, self.validators = inner, validators

    canSerialize = staticmethod(lambda type_: False)
    create = staticmethod(lambda type_: None)

    def default(self):
        return self.inner.default()

    def isIn(self, parameterNode, name: str) -> bool:
        return self.inner.isIn(parameterNode, name)

    def validate(self, value) -> None:
        for validator in self.validators:
            validator.validate(value)

    def write(self, parameterNode, name: str, value) -> None:
        self.validate(value)
        self.inner.write(parameterNode, name, value)

    def read(self, parameterNode, name: str):
        return self.inner.read(parameterNode, name)

    def remove(self, parameterNode, name: str) -> None:
        self.inner.remove(parameterNode, name)

    def supportsCaching(self) -> bool:
        return self.inner.supportsCaching()


def createSerializerFromAnnotatedType(annotated) -> ValidatedSerializer:
    """Serializer for a type or `Annotated[type, validators...]`. Raises TypeError for a type that can't be stored."""
    kind, extras = split_annotation(annotated)
    inner = next((extra for extra in extras if isinstance(extra, Serializer)), None)
    if inner is None:
        factory = next((cls for cls in _REGISTERED if cls.canSerialize(kind)), None)
        inner = factory.create(kind) if factory is not None else None
    if inner is None:
        raise TypeError(f"a parameter can't be of type {kind}")
    validators = [extra() if isinstance(extra, type) else extra for extra in extras
                  if isinstance(extra, Validator) or (isinstance(extra, type) and issubclass(extra, Validator))]
    return ValidatedSerializer(inner, validators)


@contextlib.contextmanager
def one_modification(node):
    """One Modified event for all that the block writes."""
    was_modifying = node.StartModify()
    try:
        yield
    finally:
        node.EndModify(was_modifying)


@parameterNodeSerializer
class TextSerializer(Serializer):
    """bool, int, float, str and paths: one text under the parameter's name."""

    ACCEPTED = {bool: bool, int: int, float: (int, float), str: str}
    EMPTY = {bool: False, int: 0, float: 0.0, str: ""}

    def __init__(self, kind) -> None:
        self._kind = kind

    @staticmethod
    def canSerialize(type_) -> bool:
        return type_ in TextSerializer.ACCEPTED or (isinstance(type_, type) and issubclass(type_, pathlib.PurePath))

    @staticmethod
    def create(type_) -> Serializer:
        accepted = TextSerializer.ACCEPTED.get(type_, type_)
        return ValidatedSerializer(TextSerializer(type_), [NotNone(), IsInstance(accepted)])

    def default(self):
        return self.EMPTY[self._kind] if self._kind in self.EMPTY else self._kind()

    def write(self, parameterNode, name: str, value) -> None:
        parameterNode.SetParameter(name, str(value))

    def read(self, parameterNode, name: str):
        text = parameterNode.GetParameter(name)
        return text == "True" if self._kind is bool else self._kind(text)

    def supportsCaching(self) -> bool:
        return True


@parameterNodeSerializer
class EnumSerializer(Serializer):
    """An enum, by the name of its member."""

    def __init__(self, kind) -> None:
        self._kind = kind

    @staticmethod
    def canSerialize(type_) -> bool:
        return isinstance(type_, type) and issubclass(type_, enum.Enum)

    @staticmethod
    def create(type_) -> Serializer:
        return ValidatedSerializer(EnumSerializer(type_), [NotNone(), IsInstance(type_)])

    def default(self):
        return next(iter(self._kind))

    def write(self, parameterNode, name: str, value) -> None:
        parameterNode.SetParameter(name, value.name)

    def read(self, parameterNode, name: str):
        text = parameterNode.GetParameter(name)
        if text not in self._kind.__members__:
            raise ValueError(f"parameter {name} is '{text}', which is none of {list(self._kind.__members__)}")
        return self._kind[text]

    def supportsCaching(self) -> bool:
        return True


@parameterNodeSerializer
class NodeSerializer(Serializer):
    """A MRML node: an empty text that marks the parameter as set, and a node reference of the same name."""

    @staticmethod
    def canSerialize(type_) -> bool:
        import slicer

        return isinstance(type_, type) and issubclass(type_, slicer.vtkMRMLNode)

    @staticmethod
    def create(type_) -> Serializer:
        return ValidatedSerializer(NodeSerializer(), [IsInstance(type_)])

    def default(self):
        return None

    def write(self, parameterNode, name: str, value) -> None:
        with one_modification(parameterNode):
            parameterNode.SetParameter(name, "")
            parameterNode.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, parameterNode, name: str):
        return parameterNode.GetNodeReference(name)

    def remove(self, parameterNode, name: str) -> None:
        parameterNode.UnsetParameter(name)
        parameterNode.RemoveNodeReferenceIDs(name)

    def supportsCaching(self) -> bool:
        return True


@parameterNodeSerializer
class ListSerializer(Serializer):
    """`list[T]`: `name.len`, `name.0`, `name.1` and so on. A refused element leaves the list as it was."""

    def __init__(self, element: Serializer) -> None:
        self._element = element

    @staticmethod
    def canSerialize(type_) -> bool:
        return typing.get_origin(type_) is list

    @staticmethod
    def create(type_) -> Serializer:
        return ListSerializer(createSerializerFromAnnotatedType(typing.get_args(type_)[0]))

    def default(self):
        return []

    def isIn(self, parameterNode, name: str) -> bool:
        return bool(parameterNode.HasParameter(f"{name}.len"))

    def _length(self, parameterNode, name: str) -> int:
        return int(parameterNode.GetParameter(f"{name}.len")) if self.isIn(parameterNode, name) else 0

    def validate(self, value) -> None:
        for element in value:
            self._element.validate(element)

    def write(self, parameterNode, name: str, value) -> None:
        values = list(value)
        self.validate(values)
        with one_modification(parameterNode):
            for index in range(len(values), self._length(parameterNode, name)):
                self._element.remove(parameterNode, f"{name}.{index}")
            for index, element in enumerate(values):
                self._element.write(parameterNode, f"{name}.{index}", element)
            parameterNode.SetParameter(f"{name}.len", str(len(values)))

    def read(self, parameterNode, name: str):
        values = [self._element.read(parameterNode, f"{name}.{index}")
                  for index in range(self._length(parameterNode, name))]
        return ObservedList(parameterNode, self, name, values)

    def remove(self, parameterNode, name: str) -> None:
        with one_modification(parameterNode):
            for index in range(self._length(parameterNode, name)):
                self._element.remove(parameterNode, f"{name}.{index}")
            parameterNode.UnsetParameter(f"{name}.len")

    def supportsCaching(self) -> bool:
        return self._element.supportsCaching()


@parameterNodeSerializer
class TupleSerializer(Serializer):
    """`tuple[A, B]`: `name.0`, `name.1`."""

    def __init__(self, elements: list[ValidatedSerializer]) -> None:
        self._elements = elements

    @staticmethod
    def canSerialize(type_) -> bool:
        return typing.get_origin(type_) is tuple

    @staticmethod
    def create(type_) -> Serializer:
        return TupleSerializer([createSerializerFromAnnotatedType(kind) for kind in typing.get_args(type_)])

    def default(self):
        return tuple(element.default() for element in self._elements)

    def isIn(self, parameterNode, name: str) -> bool:
        return self._elements[0].isIn(parameterNode, f"{name}.0")

    def validate(self, value) -> None:
        for element, part in zip(self._elements, tuple(value), strict=True):
            element.validate(part)

    def write(self, parameterNode, name: str, value) -> None:
        self.validate(value)
        with one_modification(parameterNode):
            for index, (element, part) in enumerate(zip(self._elements, tuple(value), strict=True)):
                element.write(parameterNode, f"{name}.{index}", part)

    def read(self, parameterNode, name: str):
        return tuple(element.read(parameterNode, f"{name}.{index}") for index, element in enumerate(self._elements))

    def remove(self, parameterNode, name: str) -> None:
        for index, element in enumerate(self._elements):
            element.remove(parameterNode, f"{name}.{index}")

    def supportsCaching(self) -> bool:
        return all(element.supportsCaching() for element in self._elements)


@parameterNodeSerializer
class DictSerializer(Serializer):
    """`dict[K, V]`: a list of (key, value) tuples."""

    def __init__(self, pairs: ListSerializer) -> None:
        self._pairs = pairs

    @staticmethod
    def canSerialize(type_) -> bool:
        return typing.get_origin(type_) is dict

    @staticmethod
    def create(type_) -> Serializer:
        parts = [createSerializerFromAnnotatedType(kind) for kind in typing.get_args(type_)]
        return DictSerializer(ListSerializer(TupleSerializer(parts)))

    def default(self):
        return {}

    def isIn(self, parameterNode, name: str) -> bool:
        return self._pairs.isIn(parameterNode, name)

    def write(self, parameterNode, name: str, value) -> None:
        self._pairs.write(parameterNode, name, list(value.items()))

    def read(self, parameterNode, name: str):
        return ObservedDict(parameterNode, self, name, dict(self._pairs.read(parameterNode, name)))

    def remove(self, parameterNode, name: str) -> None:
        self._pairs.remove(parameterNode, name)

    def supportsCaching(self) -> bool:
        return self._pairs.supportsCaching()
