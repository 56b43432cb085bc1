"""Lists and dicts that write themselves back to the parameter node when they change."""

from __future__ import annotations

import collections.abc


class ObservedList(collections.abc.MutableSequence):
    """A list on a parameter node: append, +=, item assignment and so on are saved at once."""

    def __init__(self, node, serializer, name: str, values: list) -> None:
        self._node, self._serializer, self._name, self._values = node, serializer, name, values

    def _save(self) -> None:
        try:
            self._serializer.write(self._node, self._name, self._values)
        finally:
            self._values = list(self._serializer.read(self._node, self._name))

    def __getitem__(self, index):
        return self._values[index]

    def __setitem__(self, index, value) -> None:
        self._values[index] = value
        self._save()

    def __delitem__(self, index) -> None:
        del self._values[index]
        self._save()

    def __len__(self) -> int:
        return len(self._values)

    def insert(self, index: int, value) -> None:
        self._values.insert(index, value)
        self._save()

    def extend(self, values) -> None:
        self._values.extend(values)
        self._save()

    def __imul__(self, count: int):
        self._values *= count
        self._save()
        return self

    def clear(self) -> None:
        self._values.clear()
        self._save()

    def sort(self, **kwargs) -> None:
        self._values.sort(**kwargs)
        self._save()

    def __eq__(self, other) -> bool:
        return list(self) == (list(other) if isinstance(other, ObservedList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObservedList({self._values})"


class ObservedDict(collections.abc.MutableMapping):
    """A dict on a parameter node, in insertion order; changes are saved at once."""

    def __init__(self, node, serializer, name: str, values: dict) -> None:
        self._node, self._serializer, self._name, self._values = node, serializer, name, values

    def __getitem__(self, key):
        return self._values[key]

    def __setitem__(self, key, value) -> None:
        self._values[key] = value
        self._serializer.write(self._node, self._name, self._values)

    def __delitem__(self, key) -> None:
        del self._values[key]
        self._serializer.write(self._node, self._name, self._values)

    def popitem(self):
        """The last pair, as a dict does; MutableMapping would take the first."""
        pair = self._values.popitem()
        self._serializer.write(self._node, self._name, self._values)
        return pair

    def __iter__(self):
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other) -> bool:
        return dict(self) == (dict(other) if isinstance(other, ObservedDict) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObservedDict({self._values})"
