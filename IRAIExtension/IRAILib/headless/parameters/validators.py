"""What may follow the type in `Annotated[type, ...]`: limits, choices and the default."""

from __future__ import annotations

import abc
import typing


class Validator(abc.ABC):
    """Refuses values: `validate` raises ValueError or TypeError."""

    @abc.abstractmethod
    def validate(self, value) -> None: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(value) for value in vars(self).values())})"


class NotNone(Validator):
    def validate(self, value) -> None:
        if value is None:
            raise ValueError("a value is needed, not None")


class IsInstance(Validator):
    """None passes: node references may be empty."""

    def __init__(self, classtype) -> None:
        self.classtype = classtype

    def validate(self, value) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a {self.classtype}")


class WithinRange(Validator):
    """Both ends are allowed."""

    def __init__(self, minimum, maximum) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within [{self.minimum}, {self.maximum}]")


class Minimum(Validator):
    def __init__(self, minimum) -> None:
        self.minimum = minimum

    def validate(self, value) -> None:
        if value < self.minimum:
            raise ValueError(f"{value} is less than {self.minimum}")


class Maximum(Validator):
    def __init__(self, maximum) -> None:
        self.maximum = maximum

    def validate(self, value) -> None:
        if value > self.maximum:
            raise ValueError(f"{value} is more than {self.maximum}")


class Choice(Validator):
    def __init__(self, choices) -> None:
        self.choices = choices

    def validate(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of {self.choices}")


class Exclude(Validator):
    def __init__(self, excludedValues) -> None:
        self.excludedValues = excludedValues

    def validate(self, value) -> None:
        if value in self.excludedValues:
            raise ValueError(f"{value!r} is excluded")


class RangeBounds(Validator):
    """For a range with `minimum` and `maximum`."""

    def __init__(self, minimum, maximum) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value) -> None:
        if not (self.minimum <= value.minimum and value.maximum <= self.maximum):
            raise ValueError(f"[{value.minimum}, {value.maximum}] is not within [{self.minimum}, {self.maximum}]")


class Default:
    """The default of a parameter: a value, or `generator`, called for each new one."""

    def __init__(self, value=None, *, generator: typing.Callable | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._generator() if self._generator is not None else self._value

    def __eq__(self, other) -> bool:
        return isinstance(other, Default) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def split_annotation(annotated) -> tuple[typing.Any, list]:
    """`Annotated[type, a, b]` to (type, [a, b]); a bare type to (type, [])."""
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *extras = typing.get_args(annotated)
        return kind, extras
    return annotated, []
