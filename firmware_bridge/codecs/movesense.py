"""Movesense's sensor-data service: subscribe to a path, be told how that went, and have samples under its number.

From vendor material, not verified against a sensor: layout, the unit of ECG samples, and that a packet's time is that
of its first sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range

SERVICE = "34802252-7185-4d5d-b431-630e7050e8f0"
COMMANDS = "34800001-7185-4d5d-b431-630e7050e8f0"
"""Is written to."""
DATA = "34800002-7185-4d5d-b431-630e7050e8f0"
"""Notifies answers and samples."""
ECG_LSB_MV = 25 / 65_536
_SUBSCRIBE, _UNSUBSCRIBE, _ANSWER, _DATA = 1, 2, 1, 2


@dataclass(frozen=True, slots=True)
class MovesenseSubscribe:
    """Ask for what is at a path."""

    reference: int
    """The caller's number for it, 0 to 255."""
    path: str
    """Such as "Meas/ECG/125"."""

    def __post_init__(self) -> None:
        check_range("reference", self.reference, 0, 0xFF, 1)
        if not (self.path and self.path.isascii() and self.path.isprintable()):
            raise DecodeError(f"path {self.path!r} is not printable ASCII", 2)

    def __bytes__(self) -> bytes:
        return bytes([_SUBSCRIBE, self.reference]) + self.path.encode()


@dataclass(frozen=True, slots=True)
class MovesenseUnsubscribe:
    """Ask for no more of it."""

    reference: int

    def __post_init__(self) -> None:
        check_range("reference", self.reference, 0, 0xFF, 1)

    def __bytes__(self) -> bytes:
        return bytes([_UNSUBSCRIBE, self.reference])


def command_from_bytes(data: bytes) -> MovesenseSubscribe | MovesenseUnsubscribe:
    """What was written; each encodes back to the same bytes. Raises DecodeError."""
    reader = ByteReader(data)
    command, reference = reader.unsigned(1, "command"), reader.unsigned(1, "reference")
    if command == _SUBSCRIBE:
        path = reader.take(reader.left, "path")
        if not path.isascii():
            raise DecodeError("the path is not ASCII", 2)
        return MovesenseSubscribe(reference, path.decode())
    if command == _UNSUBSCRIBE:
        reader.finish("the reference")
        return MovesenseUnsubscribe(reference)
    raise DecodeError(f"command {command} is unknown", 0)


@dataclass(frozen=True, slots=True)
class MovesenseAnswer:
    """How a command went, in the numbers of HTTP."""

    reference: int
    status: int

    def __post_init__(self) -> None:
        check_range("reference", self.reference, 0, 0xFF, 1)
        check_range("status", self.status, 0, 0xFFFF, 2)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def __bytes__(self) -> bytes:
        return bytes([_ANSWER, self.reference]) + self.status.to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class MovesenseData:
    """Samples of what is subscribed to under a number."""

    reference: int
    first_ms: int
    """When the first sample was taken, in ms on the sensor's own clock; 32 bits."""
    samples: bytes

    def __post_init__(self) -> None:
        check_range("reference", self.reference, 0, 0xFF, 1)
        check_range("time", self.first_ms, 0, 0xFFFF_FFFF, 2)

    def __bytes__(self) -> bytes:
        return bytes([_DATA, self.reference]) + self.first_ms.to_bytes(4, "little") + self.samples

    def ecg_counts(self) -> npt.NDArray[np.int32]:
        """ECG, (n, 1), in steps of ECG_LSB_MV; raises DecodeError where it is none."""
        count, rest = divmod(len(self.samples), 4)
        if rest or not count:
            raise DecodeError(f"{len(self.samples)} bytes are not one or more samples of 4 bytes", 6 + 4 * count)
        return np.frombuffer(self.samples, "<i4").astype(np.int32).reshape(-1, 1)

    @classmethod
    def of_ecg(cls, reference: int, first_ms: int, counts: npt.NDArray[np.integer]) -> MovesenseData:
        """The packet for samples of shape (n, 1)."""
        return cls(reference, first_ms, counts.astype("<i4").tobytes())


def notification_from_bytes(data: bytes) -> MovesenseAnswer | MovesenseData:
    """What was notified; each encodes back to the same bytes. Raises DecodeError."""
    reader = ByteReader(data)
    kind, reference = reader.unsigned(1, "kind"), reader.unsigned(1, "reference")
    if kind == _ANSWER:
        answer = MovesenseAnswer(reference, reader.unsigned(2, "status"))
        reader.finish("the status")
        return answer
    if kind == _DATA:
        return MovesenseData(reference, reader.unsigned(4, "time"), reader.take(reader.left, "samples"))
    raise DecodeError(f"kind {kind} of notification is unknown", 0)
