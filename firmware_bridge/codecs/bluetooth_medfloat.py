"""Numbers of IEEE 11073-20601: a decimal mantissa and exponent, and values that are no numbers.

SFLOAT (medfloat16) has a mantissa of 12 bits and an exponent of 4, FLOAT (medfloat32) 24 and 8, all two's complement.
The same number has several encodings (100 × 10⁰ and 10 × 10¹), so the bits are kept and the number derived from them.
A special value is its word with exponent 0: 2047 × 10⁻¹ is the number 204.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import Enum
from typing import ClassVar, Self

from firmware_bridge.chunk import DecodeError


class Special(Enum):
    """What may stand in place of a number; the value is how far the word lies past the half of the mantissa's range."""

    POSITIVE_INFINITY = -2
    """Above what the device can say."""
    NAN = -1
    """Not a number: invalid, or nothing measured."""
    NRES = 0
    """Not at this resolution."""
    RESERVED = 1
    NEGATIVE_INFINITY = 2
    """Below what the device can say."""


@dataclass(frozen=True, slots=True)
class _Medfloat:
    """The bits of one number; raises DecodeError where they are more than the format holds."""

    MANTISSA_BITS: ClassVar[int]
    EXPONENT_BITS: ClassVar[int]
    SIZE: ClassVar[int]
    """Bytes."""

    bits: int

    def __post_init__(self) -> None:
        if not 0 <= self.bits < 1 << (8 * self.SIZE):
            raise DecodeError(f"{self.bits:#x} does not fit {8 * self.SIZE} bits")

    def __bytes__(self) -> bytes:
        return self.bits.to_bytes(self.SIZE, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The number that `data`, all of it, is; raises DecodeError."""
        if len(data) != cls.SIZE:
            raise DecodeError(f"a number of {cls.SIZE} bytes is declared, {len(data)} are there", 0)
        return cls(int.from_bytes(data, "little"))

    @property
    def mantissa(self) -> int:
        return _signed(self.bits, self.MANTISSA_BITS)

    @property
    def exponent(self) -> int:
        return _signed(self.bits >> self.MANTISSA_BITS, self.EXPONENT_BITS)

    @property
    def special(self) -> Special | None:
        """What stands here in place of a number; None for a number."""
        steps = self.bits - (1 << (self.MANTISSA_BITS - 1))
        return Special(steps) if -2 <= steps <= 2 else None

    @property
    def value(self) -> float | None:
        """The number, correctly rounded to float64; None where a special value stands."""
        return self.scaled(0)

    def scaled(self, power: int) -> float | None:
        """The number × 10 to the `power`, rounded once, as a unit with another prefix needs it; None as for `value`."""
        if self.special is not None:
            return None
        return float(Decimal(self.mantissa).scaleb(self.exponent + power))

    @classmethod
    def of(cls, number: float | Special) -> Self:
        """The nearest number this format holds, with the exponent nearest to 0 where several give the same.

        Raises ValueError for what is not finite, or too large.
        """
        if isinstance(number, Special):
            return cls((1 << (cls.MANTISSA_BITS - 1)) + number.value)
        exact = Decimal(repr(float(number)))
        if not exact.is_finite():
            raise ValueError(f"{number} is not a number; say it as a Special")
        lowest, limit = -(1 << (cls.EXPONENT_BITS - 1)), (1 << (cls.MANTISSA_BITS - 1)) - 3
        for exponent in sorted(range(lowest, -lowest), key=lambda e: (abs(e), e)):
            mantissa = exact.scaleb(-exponent)
            if abs(mantissa) <= limit and mantissa == mantissa.to_integral_value():
                return cls._of_parts(int(mantissa), exponent)
        for exponent in range(lowest, -lowest):
            mantissa = exact.scaleb(-exponent).to_integral_value(ROUND_HALF_EVEN)
            if abs(mantissa) <= limit:
                return cls._of_parts(int(mantissa), exponent)
        raise ValueError(f"{number:g} is too large for {8 * cls.SIZE} bits")

    @classmethod
    def _of_parts(cls, mantissa: int, exponent: int) -> Self:
        low = mantissa % (1 << cls.MANTISSA_BITS)
        return cls(low | exponent % (1 << cls.EXPONENT_BITS) << cls.MANTISSA_BITS)


@dataclass(frozen=True, slots=True)
class Sfloat(_Medfloat):
    """16 bits: −2045 to 2045 × 10⁻⁸ to 10⁷."""

    MANTISSA_BITS = 12
    EXPONENT_BITS = 4
    SIZE = 2


@dataclass(frozen=True, slots=True)
class Float(_Medfloat):
    """32 bits: ±(2²³ − 3) × 10⁻¹²⁸ to 10¹²⁷."""

    MANTISSA_BITS = 24
    EXPONENT_BITS = 8
    SIZE = 4


def _signed(bits: int, width: int) -> int:
    low = bits & ((1 << width) - 1)
    return low - ((low >> (width - 1)) << width)
