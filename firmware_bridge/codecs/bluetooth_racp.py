"""Record Access Control Point (0x2A52): asking a sensor for the records it has stored, and its answers.

Records are chosen by a number of 16 bits: the time offset in minutes of a CGM, the sequence number of a glucose meter.
The records themselves come as notifications of the measurement; the answer here follows the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range

BY_NUMBER = 1
"""Filter type: time offset or sequence number. The other (2, user-facing time) is not understood."""


class RacpOp(IntEnum):
    """What is asked or answered."""

    REPORT = 1
    DELETE = 2
    ABORT = 3
    COUNT = 4
    COUNT_ANSWER = 5
    ANSWER = 6


class RacpOperator(IntEnum):
    """Which records."""

    NONE = 0
    ALL = 1
    AT_MOST = 2
    AT_LEAST = 3
    WITHIN = 4
    FIRST = 5
    LAST = 6


class RacpResult(IntEnum):
    """How a request ended."""

    SUCCESS = 1
    OP_NOT_SUPPORTED = 2
    OPERATOR_INVALID = 3
    OPERATOR_NOT_SUPPORTED = 4
    OPERAND_INVALID = 5
    NO_RECORDS = 6
    ABORT_FAILED = 7
    NOT_COMPLETED = 8
    OPERAND_NOT_SUPPORTED = 9


_OPS = {int(member): member for member in RacpOp}
_OPERATORS = {int(member): member for member in RacpOperator}
_RESULTS = {int(member): member for member in RacpResult}
_REQUESTS = (RacpOp.REPORT, RacpOp.DELETE, RacpOp.ABORT, RacpOp.COUNT)
_BOUNDS = {RacpOperator.AT_MOST: 1, RacpOperator.AT_LEAST: 1, RacpOperator.WITHIN: 2}
"""Numbers that follow the filter type; none, and no filter type, for the other operators."""


@dataclass(frozen=True, slots=True)
class RacpRequest:
    """What a collector writes. Raises DecodeError where operation, operator and bounds do not go together."""

    op: RacpOp
    operator: RacpOperator
    bounds: tuple[int, ...] = ()
    """The lowest, the highest, or both, both included; as many as the operator takes."""

    def __post_init__(self) -> None:
        if self.op not in _REQUESTS:
            raise DecodeError(f"operation {self.op.value} is not a request", 0)
        if (self.op is RacpOp.ABORT) != (self.operator is RacpOperator.NONE):
            raise DecodeError(f"operator {self.operator.value} does not go with operation {self.op.value}", 1)
        if len(self.bounds) != _BOUNDS.get(self.operator, 0):
            raise DecodeError(f"{len(self.bounds)} bounds, operator {self.operator.value} takes another number", 2)
        for i, bound in enumerate(self.bounds):
            check_range("bound", bound, 0, 0xFFFF, 3 + 2 * i)
        if list(self.bounds) != sorted(self.bounds):
            raise DecodeError(f"from {self.bounds[0]} to {self.bounds[1]} there is nothing", 3)

    def __bytes__(self) -> bytes:
        head = bytes([self.op, self.operator])
        if not self.bounds:
            return head
        return head + bytes([BY_NUMBER]) + b"".join(bound.to_bytes(2, "little") for bound in self.bounds)


@dataclass(frozen=True, slots=True)
class RacpCount:
    """The answer to COUNT."""

    records: int

    def __post_init__(self) -> None:
        check_range("number of records", self.records, 0, 0xFFFF, 2)

    def __bytes__(self) -> bytes:
        return bytes([RacpOp.COUNT_ANSWER, RacpOperator.NONE]) + self.records.to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class RacpAnswer:
    """How the request `request` ended; None where the device names an operation that does not exist."""

    request: RacpOp | None
    result: RacpResult

    def __bytes__(self) -> bytes:
        return bytes([RacpOp.ANSWER, RacpOperator.NONE, self.request or 0, self.result])


def racp_from_bytes(data: bytes) -> RacpRequest | RacpCount | RacpAnswer:
    """What `data`, all of it, says; each of the three encodes back to the same bytes. Raises DecodeError."""
    reader = ByteReader(data)
    op = _known(_OPS, reader.unsigned(1, "operation"), "operation", 0)
    operator = _known(_OPERATORS, reader.unsigned(1, "operator"), "operator", 1)
    if op in _REQUESTS:
        return _request(op, operator, reader)
    if operator is not RacpOperator.NONE:
        raise DecodeError(f"operator {operator.value} in an answer", 1)
    if op is RacpOp.COUNT_ANSWER:
        count = RacpCount(reader.unsigned(2, "number of records"))
        reader.finish("the number of records")
        return count
    request = reader.unsigned(1, "operation asked for")
    answer = RacpAnswer(
        None if request == 0 else _known(_OPS, request, "operation asked for", 2),
        _known(_RESULTS, reader.unsigned(1, "result"), "result", 3),
    )
    reader.finish("the result")
    return answer


def _request(op: RacpOp, operator: RacpOperator, reader: ByteReader) -> RacpRequest:
    expected = _BOUNDS.get(operator, 0)
    if expected and (filter_type := reader.unsigned(1, "filter type")) != BY_NUMBER:
        raise DecodeError(f"filter type {filter_type} is not {BY_NUMBER} (time offset or sequence number)", 2)
    bounds = tuple(reader.unsigned(2, "bound") for _ in range(expected))
    reader.finish("the request")
    return RacpRequest(op, operator, bounds)


_Member = TypeVar("_Member")


def _known(members: dict[int, _Member], value: int, name: str, offset: int) -> _Member:
    if value not in members:
        raise DecodeError(f"{name} {value} is unknown", offset)
    return members[value]
