"""From Python values to a parameter node's texts and node references and back, under the keys that Slicer uses."""

from __future__ import annotations

import abc
import contextlib
import enum
import pathlib
import types
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
        return False


SerializerClass = typing.TypeVar("SerializerClass", bound="type[Serializer]")


def parameterNodeSerializer(cls: SerializerClass) -> SerializerClass:
    """Class decorator: register a serializer; later ones win, so that a module can bring its own."""
    _REGISTERED.insert(0, cls)
    return cls


class Validated(Serializer):
    """A serializer whose values pass validators first."""

    def __init__(self, inner: Serializer, validators: list[Validator]) -> None:
        if isinstance(inner, Validated):
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


def createSerializerFromAnnotatedType(annotated) -> Validated:
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
    return Validated(inner, validators)


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
        return Validated(TextSerializer(type_), [NotNone(), IsInstance(accepted)])

    def default(self):
        return self.EMPTY[self._kind] if self._kind in self.EMPTY else self._kind()

    def write(self, parameterNode, name: str, value) -> None:
        parameterNode.SetParameter(name, str(value))

    def read(self, parameterNode, name: str):
        text = parameterNode.GetParameter(name)
        return text == "True" if self._kind is bool else self._kind(text)


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
        return Validated(EnumSerializer(type_), [NotNone(), IsInstance(type_)])

    def default(self):
        return next(iter(self._kind))

    def write(self, parameterNode, name: str, value) -> None:
        parameterNode.SetParameter(name, value.name)

    def read(self, parameterNode, name: str):
        text = parameterNode.GetParameter(name)
        if text not in self._kind.__members__:
            raise ValueError(f"parameter {name} is '{text}', which is none of {list(self._kind.__members__)}")
        return self._kind[text]


@parameterNodeSerializer
class NodeSerializer(Serializer):
    """A MRML node: an empty text that marks the parameter as set, and a node reference of the same name."""

    @staticmethod
    def canSerialize(type_) -> bool:
        import slicer

        return isinstance(type_, type) and issubclass(type_, slicer.vtkMRMLNode)

    @staticmethod
    def create(type_) -> Serializer:
        return Validated(NodeSerializer(), [IsInstance(type_)])

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


@parameterNodeSerializer
class TupleSerializer(Serializer):
    """`tuple[A, B]`: `name.0`, `name.1`."""

    def __init__(self, elements: list[Validated]) -> None:
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


@parameterNodeSerializer
class NoneSerializer(Serializer):
    """None, inside Optional and unions: the text "True" says that it was stored."""

    @staticmethod
    def canSerialize(type_) -> bool:
        return type_ is type(None)

    @staticmethod
    def create(type_) -> Serializer:
        return NoneSerializer()

    def default(self):
        return None

    def write(self, parameterNode, name: str, value) -> None:
        parameterNode.SetParameter(name, "True")

    def read(self, parameterNode, name: str):
        return None


@parameterNodeSerializer
class UnionSerializer(Serializer):
    """`A | B`, `Optional[A]`: `name.<position of the type>`, and only that one."""

    def __init__(self, kinds: tuple, serializers: list[Validated]) -> None:
        self._kinds, self._serializers = kinds, serializers

    @staticmethod
    def canSerialize(type_) -> bool:
        return typing.get_origin(type_) in (typing.Union, types.UnionType)

    @staticmethod
    def create(type_) -> Serializer:
        kinds = typing.get_args(type_)
        return UnionSerializer(kinds, [createSerializerFromAnnotatedType(kind) for kind in kinds])

    def default(self):
        is_optional = len(self._kinds) == 2 and self._kinds[1] is type(None)
        return None if is_optional else self._serializers[0].default()

    def isIn(self, parameterNode, name: str) -> bool:
        return self._stored(parameterNode, name) is not None

    def _stored(self, parameterNode, name: str) -> int | None:
        return next((index for index, serializer in enumerate(self._serializers)
                     if serializer.isIn(parameterNode, f"{name}.{index}")), None)

    def _choose(self, value) -> int:
        for index, (kind, serializer) in enumerate(zip(self._kinds, self._serializers, strict=True)):
            base = split_annotation(kind)[0]
            if isinstance(value, typing.get_origin(base) or base):
                serializer.validate(value)
                return index
        raise TypeError(f"{value!r} is a {type(value).__name__}, none of {self._kinds}")

    def validate(self, value) -> None:
        self._choose(value)

    def write(self, parameterNode, name: str, value) -> None:
        index = self._choose(value)
        with one_modification(parameterNode):
            self.remove(parameterNode, name)
            self._serializers[index].write(parameterNode, f"{name}.{index}", value)

    def read(self, parameterNode, name: str):
        index = self._stored(parameterNode, name)
        if index is None:
            raise KeyError(f"parameter {name} is not on the node")
        return self._serializers[index].read(parameterNode, f"{name}.{index}")

    def remove(self, parameterNode, name: str) -> None:
        for index, serializer in enumerate(self._serializers):
            serializer.remove(parameterNode, f"{name}.{index}")
