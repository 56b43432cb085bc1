"""Parameters that may be of one type or another: `A | B` and `Optional[A]`."""

from __future__ import annotations

import types
import typing

from .serializers import (
    Serializer,
    ValidatedSerializer,
    createSerializerFromAnnotatedType,
    one_modification,
    parameterNodeSerializer,
)
from .validators import split_annotation


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

    def supportsCaching(self) -> bool:
        return True


@parameterNodeSerializer
class UnionSerializer(Serializer):
    """`A | B`, `Optional[A]`: `name.<position of the type>`, and only that one."""

    def __init__(self, kinds: tuple, serializers: list[ValidatedSerializer]) -> None:
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
            exact = isinstance(value, bool) and bool not in self._kinds  # True is an int to Python
            if isinstance(value, typing.get_origin(base) or base) and not exact:
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

    def supportsCaching(self) -> bool:
        return all(serializer.supportsCaching() for serializer in self._serializers)
