"""Arithmetic on the numbers of one beat, or of many at once: the formulas are written once, for both.

A number is a float, or a float64 column with a row for each of many people. Each operation gives the same bits either
way: logarithms come from the C library one by one, as numpy's own are other functions. Floats are quicker for a few
people, columns for a ward.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Number = Any
"""A float, or a float64 column."""
Place = Any
"""An int, or a column of them."""
Truth = Any
"""A bool, or a column of them."""
LEAST = 1e-300
"""Stands for 0 where a quotient is thrown away."""


class Arithmetic(Protocol):
    """What is not an operator."""

    def log(self, value: Number) -> Number: ...

    def log2(self, value: Number) -> Number: ...

    def exp(self, value: Number) -> Number: ...

    def sqrt(self, value: Number) -> Number: ...

    def larger(self, a: Number, b: Number) -> Number: ...

    def smaller(self, a: Number, b: Number) -> Number: ...

    def where(self, condition: Truth, a: Any, b: Any) -> Any: ...

    def greatest(self, values: Sequence[Number]) -> Place:
        """The place of the greatest, the first of equals."""

    def least(self, values: Sequence[Number]) -> Place:
        """The place of the least, likewise."""

    def pick(self, values: Sequence[Number], place: Place) -> Number:
        """The value at a place."""

    def put(self, values: Sequence[Number], place: Place, value: Number) -> list[Number]:
        """The values with another one at a place."""

    def below(self, ordered: Sequence[Number], limit: Number) -> Number:
        """How many are below `limit`."""


class Floats:
    """Of one person."""

    log = staticmethod(math.log)
    log2 = staticmethod(math.log2)
    exp = staticmethod(math.exp)
    sqrt = staticmethod(math.sqrt)
    larger = staticmethod(max)
    smaller = staticmethod(min)
    below = staticmethod(bisect_left)

    @staticmethod
    def where(condition: Truth, a: Any, b: Any) -> Any:
        return a if condition else b

    @staticmethod
    def greatest(values: Sequence[Number]) -> Place:
        return values.index(max(values))

    @staticmethod
    def least(values: Sequence[Number]) -> Place:
        return values.index(min(values))

    @staticmethod
    def pick(values: Sequence[Number], place: Place) -> Number:
        return values[place]

    @staticmethod
    def put(values: Sequence[Number], place: Place, value: Number) -> list[Number]:
        out = list(values)
        out[place] = value
        return out


class Columns:
    """Of many people."""

    sqrt = staticmethod(np.sqrt)
    larger = staticmethod(np.maximum)
    smaller = staticmethod(np.minimum)
    where = staticmethod(np.where)

    @staticmethod
    def log(value: Number) -> Number:
        return np.array(list(map(math.log, value.tolist())))

    @staticmethod
    def log2(value: Number) -> Number:
        return np.array(list(map(math.log2, value.tolist())))

    @staticmethod
    def exp(value: Number) -> Number:
        return np.array(list(map(math.exp, value.tolist())))

    @staticmethod
    def greatest(values: Sequence[Number]) -> Place:
        return np.array(values).argmax(axis=0)

    @staticmethod
    def least(values: Sequence[Number]) -> Place:
        return np.array(values).argmin(axis=0)

    @staticmethod
    def pick(values: Sequence[Number], place: Place) -> Number:
        return np.choose(place, values)

    @staticmethod
    def put(values: Sequence[Number], place: Place, value: Number) -> list[Number]:
        return [np.where(place == k, value, old) for k, old in enumerate(values)]

    @staticmethod
    def below(ordered: Sequence[Number], limit: Number) -> Number:
        return (np.array(ordered) < limit).sum(axis=0)


def total(values: Sequence[Number]) -> Number:
    """Their plain sum: from Python 3.12 on, `sum` compensates for rounding, and has other bits."""
    out = values[0]
    for value in values[1:]:
        out = out + value
    return out
