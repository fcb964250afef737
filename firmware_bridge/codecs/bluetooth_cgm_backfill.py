"""Fetching what a CGM stored while nobody listened: pages of records in order, over RACP. No clock, no radio.

Whoever owns the link writes what a step says to write, hands in every measurement and every indication of the control
point, and says when nothing has come for too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from firmware_bridge.codecs.bluetooth_bytes import check_range
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement
from firmware_bridge.codecs.bluetooth_racp import (
    RacpAnswer,
    RacpCount,
    RacpOp,
    RacpOperator,
    RacpRequest,
    RacpResult,
    racp_from_bytes,
)

PAGE_MIN = 360
ATTEMPTS = 3

_ENDED_WELL = (RacpResult.SUCCESS, RacpResult.NO_RECORDS)
_NO_RANGES = (RacpResult.OPERATOR_NOT_SUPPORTED, RacpResult.OPERATOR_INVALID, RacpResult.OPERAND_NOT_SUPPORTED)


class Phase(Enum):
    """Where a back-fill stands."""

    IDLE = "idle"
    COUNTING = "counting"
    REPORTING = "reporting"
    ABORTING = "aborting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from what happened."""

    write: bytes | None = None
    """To be written to the control point."""
    records: tuple[CgmMeasurement, ...] = ()
    """A completed page: by time offset, none twice, all later than those of the pages before."""


class CgmBackfill:
    """The records from minute `since_min` to minute `until_min` of the running session, both included.

    Pages of `page_min` minutes bound what a broken link costs: `next_min` says where another back-fill would go on. A
    device that does not know ranges is asked for all that is left at once. A page that breaks off is asked for again,
    up to `attempts` times in all.
    """

    def __init__(self, since_min: int, until_min: int, *, page_min: int = PAGE_MIN, attempts: int = ATTEMPTS) -> None:
        check_range("until_min", until_min, 0, 0xFFFF)
        check_range("since_min", since_min, 0, until_min)
        if page_min < 1 or attempts < 1:
            raise ValueError(f"page_min {page_min} and attempts {attempts} must be at least 1")
        self._until_min, self._page_min, self._attempts = until_min, page_min, attempts
        self._since_min = self.next_min = since_min
        self._page: dict[int, CgmMeasurement] = {}
        self._attempt = 1
        self._ranges = True
        self.phase = Phase.IDLE
        self.reason = ""
        """Why it failed, in words."""
        self.received = 0
        """Records handed out."""
        self.promised: int | None = None
        """Records that the device said it has; None where it cannot say."""

    @property
    def missing(self) -> int:
        """Records promised and not received, as far as is known; meaningful once done."""
        return max(0, (self.promised or 0) - self.received)

    def start(self) -> Step:
        """Ask how many there are."""
        self.phase = Phase.COUNTING
        request = RacpRequest(RacpOp.COUNT, RacpOperator.WITHIN, (self._since_min, self._until_min))
        return Step(bytes(request))

    def measurement(self, record: CgmMeasurement) -> bool:
        """Whether the record is one asked for and is kept until its page is complete; any other is a live one.

        The same record sent twice is kept once; of two values for one minute the later counts.
        """
        if self.phase not in (Phase.REPORTING, Phase.ABORTING):
            return False
        if not self.next_min <= record.offset_min <= self._page_end():
            return False
        self._page[record.offset_min] = record
        return True

    def control_point(self, indication: bytes) -> Step:
        """What the device answered; raises DecodeError where it is no answer, which changes nothing."""
        answer = racp_from_bytes(indication)
        if self.phase is Phase.COUNTING:
            return self._counted(answer)
        if not isinstance(answer, RacpAnswer):
            return Step()
        if self.phase is Phase.REPORTING and answer.request in (RacpOp.REPORT, None):
            return self._reported(answer.result)
        if self.phase is Phase.ABORTING:
            return self._aborted(answer)
        return Step()

    def timed_out(self) -> Step:
        """Nothing came for too long: abort what runs; where that stays without an answer too, it has failed."""
        if self.phase is Phase.COUNTING:
            return self._ask()
        if self.phase is Phase.REPORTING:
            self.phase = Phase.ABORTING
            return Step(bytes(RacpRequest(RacpOp.ABORT, RacpOperator.NONE)))
        if self.phase is Phase.ABORTING:
            return self._fail("the device does not answer")
        return Step()

    def _page_end(self) -> int:
        if not self._ranges:
            return self._until_min
        return min(self.next_min + self._page_min - 1, self._until_min)

    def _ask(self) -> Step:
        self.phase = Phase.REPORTING
        self._page.clear()
        request = (
            RacpRequest(RacpOp.REPORT, RacpOperator.WITHIN, (self.next_min, self._page_end()))
            if self._ranges
            else RacpRequest(RacpOp.REPORT, RacpOperator.AT_LEAST, (self.next_min,))
        )
        return Step(bytes(request))

    def _counted(self, answer: RacpRequest | RacpCount | RacpAnswer) -> Step:
        if isinstance(answer, RacpCount):
            self.promised = answer.records
            return self._ask() if answer.records else self._done()
        if not isinstance(answer, RacpAnswer) or answer.request not in (RacpOp.COUNT, None):
            return Step()
        if answer.result is RacpResult.NO_RECORDS:
            self.promised = 0
            return self._done()
        # A device that cannot count may well report.
        self._ranges = answer.result not in _NO_RANGES
        return self._ask()

    def _aborted(self, answer: RacpAnswer) -> Step:
        # What seemed to be stuck may have ended after all.
        if answer.request is RacpOp.REPORT and answer.result in _ENDED_WELL:
            return self._turn_page()
        if answer.request is RacpOp.ABORT:
            return self._again("the device stopped sending")
        return Step()

    def _reported(self, result: RacpResult) -> Step:
        if result in _ENDED_WELL:
            return self._turn_page()
        if result in _NO_RANGES and self._ranges:
            self._ranges = False
            return self._ask()
        if result is RacpResult.NOT_COMPLETED:
            return self._again("the device broke off")
        return self._fail(f"the device refuses: {result.name.lower().replace('_', ' ')}")

    def _turn_page(self) -> Step:
        records = tuple(self._page[offset_min] for offset_min in sorted(self._page))
        self.received += len(records)
        self._attempt = 1
        end_min = self._page_end()
        self.next_min = end_min + 1
        if end_min >= self._until_min or (self.promised is not None and self.received >= self.promised):
            return self._done(records)
        return Step(self._ask().write, records)

    def _again(self, reason: str) -> Step:
        if self._attempt >= self._attempts:
            return self._fail(f"{reason}, {self._attempts} times")
        self._attempt += 1
        return self._ask()

    def _done(self, records: tuple[CgmMeasurement, ...] = ()) -> Step:
        self.phase = Phase.DONE
        self.next_min = self._until_min + 1
        return Step(records=records)

    def _fail(self, reason: str) -> Step:
        self.phase, self.reason = Phase.FAILED, reason
        return Step()
