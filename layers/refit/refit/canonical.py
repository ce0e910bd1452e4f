"""A digest of what a fitted model is, not of the bytes it is stored in.

skops files of the same model differ from run to run: their members are named by the addresses of objects.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Set
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from refit.errors import ArtifactError

PASSED_OVER = ("_sklearn_version",)  # which library wrote it is recorded beside it


def digest(estimator: Any) -> str:
    """SHA-256 over types and state, walked in a fixed order: numbers by their bits, arrays by type, shape and
    bytes, dictionaries by sorted keys.

    Raises
    ------
    ArtifactError
        For an object whose state cannot be told.
    """
    walk = _Walk()
    walk.add(estimator)
    return walk.hash.hexdigest()


class _Walk:
    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.open: list[int] = []  # what is being walked: a cycle is told by how far up it leads

    def word(self, *parts: str | bytes) -> None:
        """Each part with its length before it, so that no two sequences give the same bytes."""
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            self.hash.update(struct.pack("<Q", len(data)) + data)

    def add(self, value: Any) -> None:
        if value is None or isinstance(value, bool | int | str | bytes):
            self.word(type(value).__name__, value if isinstance(value, bytes) else str(value))
        elif isinstance(value, float):
            self.word("float", struct.pack("<d", value))
        elif isinstance(value, np.ndarray):
            self.array(value)
        elif isinstance(value, np.generic):
            self.word("scalar")
            self.array(np.asarray(value))
        elif isinstance(value, np.dtype):
            self.word("dtype", str(value.descr if value.names else value.str))
        elif isinstance(value, type | FunctionType | BuiltinFunctionType):
            self.word("named", value.__module__ or "", value.__qualname__)
        elif id(value) in self.open:
            self.word("cycle", str(len(self.open) - self.open.index(id(value))))
        else:
            self.open.append(id(value))
            self.compound(value)
            self.open.pop()

    def array(self, values: np.ndarray) -> None:
        self.word("array", str(values.shape))
        if values.dtype.names:  # field by field: between fields there may be bytes that nobody wrote
            for name in values.dtype.names:
                self.word(name)
                self.array(np.ascontiguousarray(values[name]))
        elif values.dtype.hasobject:
            self.word("objects")
            for each in values.ravel().tolist():
                self.add(each)
        else:
            self.word(values.dtype.newbyteorder("<").str)
            self.word(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes())

    def compound(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self.word(_name(value), str(len(value)))
            for key in sorted(value, key=lambda key: (str(type(key)), str(key))):
                if key not in PASSED_OVER:
                    self.add(key)
                    self.add(value[key])
        elif isinstance(value, list | tuple):
            self.several(_name(value), value)
        elif isinstance(value, Set):
            self.several(_name(value), sorted(value, key=lambda each: (str(type(each)), str(each))))
        elif isinstance(value, slice):
            self.several("slice", (value.start, value.stop, value.step))
        elif isinstance(value, partial):
            self.several("partial", (value.func, list(value.args), dict(value.keywords)))
        elif isinstance(value, np.random.RandomState):
            self.several("RandomState", value.get_state(legacy=True))
        elif isinstance(value, np.random.Generator):
            self.several("Generator", (value.bit_generator.state,))
        else:
            self.object(value)

    def several(self, kind: str, values: Iterable[Any]) -> None:
        found = list(values)
        self.word(kind, str(len(found)))
        for each in found:
            self.add(each)

    def object(self, value: Any) -> None:
        """By what copying it would take: how to make it, and its state."""
        try:
            made = value.__reduce_ex__(4)
        except TypeError as error:
            raise ArtifactError(f"{_name(value)} does not tell its state: {error}") from None
        if isinstance(made, str):
            self.word("global", made)
            return
        function, arguments, *rest = made
        state, items, pairs = [*rest, None, None, None][:3]
        self.word("object", _name(value))
        if function.__name__ not in ("__newobj__", "__newobj_ex__", "_reconstructor"):
            self.add(function)
        self.several("arguments", [each for each in arguments if each is not type(value)])
        self.add(state)
        self.several("items", items or ())
        self.several("pairs", pairs or ())


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
