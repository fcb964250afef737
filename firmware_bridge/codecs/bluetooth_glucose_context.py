"""Glucose Measurement Context (0x2A34): what its user told the meter around a finger-stick.

Kinds are the profile's numbers: carbohydrate 1 breakfast, 2 lunch, 3 dinner, 4 snack, 5 drink, 6 supper, 7 brunch; meal
1 before, 2 after, 3 fasting, 4 casual, 5 bedtime; tester 1 self, 2 professional, 3 laboratory; health 1 minor and 2
major issues, 3 menses, 4 stress, 5 none; medication (insulin) 1 rapid, 2 short, 3 intermediate, 4 long, 5 mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat


class ContextFlag(IntFlag):
    """Which fields there are, and how they are meant."""

    CARBOHYDRATE = 1
    MEAL = 2
    TESTER_HEALTH = 4
    EXERCISE = 8
    MEDICATION = 16
    LITRES = 32
    HBA1C = 64
    EXTENDED = 128


@dataclass(frozen=True, slots=True)
class Dose:
    """A carbohydrate or a medication: which, and how much."""

    kind: int
    amount: Sfloat
    """kg; of a medication kg, or L where the context's `litres` says so."""

    def __post_init__(self) -> None:
        check_range("kind", self.kind, 0, 0xFF)

    def __bytes__(self) -> bytes:
        return bytes([self.kind]) + bytes(self.amount)


@dataclass(frozen=True, slots=True)
class Exercise:
    """How long, in s (65,535: longer than can be said), and how hard, in %."""

    duration_s: int
    intensity: int

    def __post_init__(self) -> None:
        check_range("exercise duration", self.duration_s, 0, 0xFFFF)
        check_range("exercise intensity", self.intensity, 0, 0xFF)

    def __bytes__(self) -> bytes:
        return self.duration_s.to_bytes(2, "little") + bytes([self.intensity])


@dataclass(frozen=True, slots=True)
class GlucoseContext:
    """One context; `bytes(c)` and `GlucoseContext.from_bytes` are each other's inverse, byte for byte."""

    sequence: int
    """The measurement's."""
    carbohydrate: Dose | None = None
    meal: int | None = None
    tester_health: tuple[int, int] | None = None
    exercise: Exercise | None = None
    medication: Dose | None = None
    hba1c: Sfloat | None = None
    """%."""
    extended: int | None = None
    """A byte that the profile keeps for later."""
    litres: bool = False
    """Whether the medication's amount is in L."""

    def __post_init__(self) -> None:
        check_range("sequence number", self.sequence, 0, 0xFFFF, 1)
        check_range("extended flags", self.extended or 0, 0, 0xFF, 3)
        check_range("meal", self.meal or 0, 0, 0xFF)
        for nibble in self.tester_health or ():
            check_range("tester or health", nibble, 0, 0xF)

    def __bytes__(self) -> bytes:
        parts = {
            ContextFlag.EXTENDED: None if self.extended is None else bytes([self.extended]),
            ContextFlag.CARBOHYDRATE: self.carbohydrate,
            ContextFlag.MEAL: None if self.meal is None else bytes([self.meal]),
            ContextFlag.TESTER_HEALTH: self.tester_health
            and bytes([self.tester_health[0] | self.tester_health[1] << 4]),
            ContextFlag.EXERCISE: self.exercise,
            ContextFlag.MEDICATION: self.medication,
            ContextFlag.HBA1C: self.hba1c,
        }
        flags = sum(flag for flag, part in parts.items() if part is not None) | ContextFlag.LITRES * self.litres
        body = b"".join(bytes(part) for part in parts.values() if part is not None)
        return bytes([flags]) + self.sequence.to_bytes(2, "little") + body

    @classmethod
    def from_bytes(cls, data: bytes) -> GlucoseContext:
        """The context that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        flags = ContextFlag(reader.unsigned(1, "flags"))
        sequence = reader.unsigned(2, "sequence number")
        extended = reader.unsigned(1, "extended flags") if flags & ContextFlag.EXTENDED else None
        carbohydrate = _dose(reader, "carbohydrate") if flags & ContextFlag.CARBOHYDRATE else None
        meal = reader.unsigned(1, "meal") if flags & ContextFlag.MEAL else None
        nibbles = reader.unsigned(1, "tester and health") if flags & ContextFlag.TESTER_HEALTH else None
        exercise = None
        if flags & ContextFlag.EXERCISE:
            exercise = Exercise(reader.unsigned(2, "exercise duration"), reader.unsigned(1, "exercise intensity"))
        medication = _dose(reader, "medication") if flags & ContextFlag.MEDICATION else None
        hba1c = Sfloat(reader.unsigned(2, "HbA1c")) if flags & ContextFlag.HBA1C else None
        reader.finish("the context")
        return cls(
            sequence,
            carbohydrate,
            meal,
            None if nibbles is None else (nibbles & 0xF, nibbles >> 4),
            exercise,
            medication,
            hba1c,
            extended,
            litres=bool(flags & ContextFlag.LITRES),
        )


def _dose(reader: ByteReader, name: str) -> Dose:
    return Dose(reader.unsigned(1, f"{name} kind"), Sfloat(reader.unsigned(2, name)))
