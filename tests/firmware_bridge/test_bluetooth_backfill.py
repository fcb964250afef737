"""A sensor that stored readings, asked for them over a link that breaks: nothing twice, nothing out of order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_cgm_backfill import CgmBackfill, Phase, Step
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat
from firmware_bridge.codecs.bluetooth_racp import (
    RacpAnswer,
    RacpCount,
    RacpOp,
    RacpOperator,
    RacpRequest,
    RacpResult,
    racp_from_bytes,
)


def record(offset_min: int, mg_dl: float = 100) -> CgmMeasurement:
    return CgmMeasurement(Sfloat.of(mg_dl), offset_min)


@dataclass
class Sensor:
    """A CGM with a store: what it sends for each request, as (measurements, indication)."""

    stored: list[int]
    ranges: bool = True
    counts: bool = True
    breaks_off: int = 0
    """Reports that end half way, before it works."""
    log: list[RacpRequest] = field(default_factory=list)

    def answer(self, written: bytes) -> tuple[list[CgmMeasurement], bytes]:
        request = racp_from_bytes(written)
        assert isinstance(request, RacpRequest)
        self.log.append(request)
        if request.op is RacpOp.ABORT:
            return [], bytes(RacpAnswer(RacpOp.ABORT, RacpResult.SUCCESS))
        if request.op is RacpOp.COUNT and not self.counts:
            return [], bytes(RacpAnswer(RacpOp.COUNT, RacpResult.OP_NOT_SUPPORTED))
        if request.operator is RacpOperator.WITHIN and not self.ranges:
            return [], bytes(RacpAnswer(request.op, RacpResult.OPERATOR_NOT_SUPPORTED))
        lowest, highest = (*request.bounds, 0xFFFF)[:2]
        found = [record(offset) for offset in self.stored if lowest <= offset <= highest]
        if request.op is RacpOp.COUNT:
            return [], bytes(RacpCount(len(found)))
        if self.breaks_off:
            self.breaks_off -= 1
            return found[: len(found) // 2], bytes(RacpAnswer(RacpOp.REPORT, RacpResult.NOT_COMPLETED))
        result = RacpResult.SUCCESS if found else RacpResult.NO_RECORDS
        return found, bytes(RacpAnswer(RacpOp.REPORT, result))


def fetch(backfill: CgmBackfill, sensor: Sensor) -> list[int]:
    """Run to the end over a perfect link."""
    got: list[int] = []
    step = backfill.start()
    while step.write is not None:
        found, indication = sensor.answer(step.write)
        for one in found:
            backfill.measurement(one)
        step = backfill.control_point(indication)
        got += [one.offset_min for one in step.records]
    return got


EVERY_FIVE = list(range(5, 1000, 5))


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("counts", [True, False])
def test_a_gap_is_filled_in_order_whatever_the_device_can(ranges: bool, counts: bool) -> None:
    backfill = CgmBackfill(100, 900, page_min=60)
    got = fetch(backfill, Sensor(EVERY_FIVE, ranges=ranges, counts=counts))
    assert got == list(range(100, 901, 5))
    assert (backfill.phase, backfill.reason, backfill.missing) == (Phase.DONE, "", 0)
    assert backfill.promised == (161 if ranges and counts else None)


def test_pages_are_asked_for_one_by_one() -> None:
    sensor = Sensor([10, 70, 130])
    fetch(CgmBackfill(0, 149, page_min=60), sensor)
    assert [request.bounds for request in sensor.log] == [(0, 149), (0, 59), (60, 119), (120, 149)]


def test_an_empty_store_is_done_at_once() -> None:
    backfill = CgmBackfill(0, 600)
    sensor = Sensor([])
    assert fetch(backfill, sensor) == []
    assert backfill.phase is Phase.DONE
    assert len(sensor.log) == 1


def test_empty_pages_between_are_turned() -> None:
    assert fetch(CgmBackfill(0, 2000, page_min=60), Sensor([3, 1900])) == [3, 1900]


def test_a_report_that_breaks_off_is_asked_for_again_and_nothing_comes_twice() -> None:
    backfill = CgmBackfill(0, 900, page_min=300)
    assert fetch(backfill, Sensor(EVERY_FIVE, breaks_off=2)) == list(range(5, 901, 5))
    assert backfill.phase is Phase.DONE


def test_a_report_that_always_breaks_off_fails_and_says_where_to_go_on() -> None:
    backfill = CgmBackfill(0, 900, attempts=3)
    assert fetch(backfill, Sensor(EVERY_FIVE, breaks_off=9)) == []
    assert (backfill.phase, backfill.reason) == (Phase.FAILED, "the device broke off, 3 times")
    assert backfill.next_min == 0


def test_silence_is_answered_with_abort_and_another_try() -> None:
    backfill = CgmBackfill(0, 100)
    counting = backfill.start()
    assert counting.write is not None
    report = backfill.control_point(bytes(RacpCount(2)))
    assert backfill.measurement(record(5))
    abort = backfill.timed_out()
    assert abort.write == bytes(RacpRequest(RacpOp.ABORT, RacpOperator.NONE))
    again = backfill.control_point(bytes(RacpAnswer(RacpOp.ABORT, RacpResult.SUCCESS)))
    assert again.write == report.write
    backfill.measurement(record(5))
    backfill.measurement(record(10))
    done = backfill.control_point(bytes(RacpAnswer(RacpOp.REPORT, RacpResult.SUCCESS)))
    assert [one.offset_min for one in done.records] == [5, 10]
    assert (backfill.phase, backfill.received) == (Phase.DONE, 2)


def test_silence_after_abort_is_failure() -> None:
    backfill = CgmBackfill(0, 100)
    backfill.start()
    assert backfill.timed_out().write is not None, "a device that does not count may still report"
    assert backfill.timed_out().write is not None
    assert backfill.timed_out() == Step()
    assert (backfill.phase, backfill.reason) == (Phase.FAILED, "the device does not answer")
    assert backfill.timed_out() == Step()


def test_a_report_that_ends_while_it_is_aborted_counts() -> None:
    backfill = CgmBackfill(0, 10)
    backfill.start()
    backfill.control_point(bytes(RacpCount(1)))
    backfill.measurement(record(5))
    backfill.timed_out()
    step = backfill.control_point(bytes(RacpAnswer(RacpOp.REPORT, RacpResult.SUCCESS)))
    assert [one.offset_min for one in step.records] == [5]
    assert backfill.phase is Phase.DONE


def test_live_readings_pass_by() -> None:
    backfill = CgmBackfill(100, 200)
    assert not backfill.measurement(record(150))
    backfill.start()
    backfill.control_point(bytes(RacpCount(1)))
    assert not backfill.measurement(record(205))
    assert not backfill.measurement(record(95))
    assert backfill.measurement(record(150))


def test_the_later_of_two_values_for_one_minute_counts() -> None:
    backfill = CgmBackfill(0, 10)
    backfill.start()
    backfill.control_point(bytes(RacpCount(2)))
    backfill.measurement(record(5, 100))
    backfill.measurement(record(5, 90))
    step = backfill.control_point(bytes(RacpAnswer(RacpOp.REPORT, RacpResult.SUCCESS)))
    assert [one.mg_dl for one in step.records] == [90]


def test_records_lost_on_the_way_are_counted() -> None:
    backfill = CgmBackfill(0, 100)
    backfill.start()
    backfill.control_point(bytes(RacpCount(3)))
    backfill.measurement(record(5))
    backfill.control_point(bytes(RacpAnswer(RacpOp.REPORT, RacpResult.SUCCESS)))
    assert (backfill.phase, backfill.missing) == (Phase.DONE, 2)


def test_a_refusal_is_told_in_words() -> None:
    backfill = CgmBackfill(0, 100)
    backfill.start()
    backfill.control_point(bytes(RacpCount(3)))
    backfill.control_point(bytes(RacpAnswer(RacpOp.REPORT, RacpResult.OPERAND_INVALID)))
    assert (backfill.phase, backfill.reason) == (Phase.FAILED, "the device refuses: operand invalid")


def test_garbage_on_the_control_point_changes_nothing() -> None:
    backfill = CgmBackfill(0, 100)
    backfill.start()
    with pytest.raises(DecodeError):
        backfill.control_point(b"\xff\xff")
    assert backfill.control_point(bytes(RacpRequest(RacpOp.REPORT, RacpOperator.ALL))) == Step()
    assert backfill.control_point(bytes(RacpAnswer(RacpOp.REPORT, RacpResult.SUCCESS))) == Step()
    assert backfill.phase is Phase.COUNTING


def test_a_range_that_is_none_is_refused() -> None:
    for since, until in ((5, 4), (-1, 4), (0, 65_536)):
        with pytest.raises(DecodeError):
            CgmBackfill(since, until)
    with pytest.raises(ValueError, match="page_min 0"):
        CgmBackfill(0, 1, page_min=0)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3000), unique=True, max_size=200).map(sorted),
    st.integers(0, 1500),
    st.integers(0, 1500),
    st.integers(1, 2000),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_over_any_link_every_record_comes_once_and_in_order(
    stored: list[int], since: int, length: int, page_min: int, ranges: bool, lossy: bool, seed: int
) -> None:
    dice, sensor, got = random.Random(seed), Sensor(stored, ranges=ranges), []
    until, next_min = since + length, since
    for _ in range(40):  # each a connection
        if next_min > until:
            break
        backfill = CgmBackfill(next_min, until, page_min=page_min)
        step = backfill.start()
        while step.write is not None and dice.random() > 0.05:
            found, indication = sensor.answer(step.write)
            for one in found:
                for _ in range(dice.choice((0, 1, 2)) if lossy else dice.choice((1, 1, 2))):
                    backfill.measurement(one)
                if dice.random() < 0.05:
                    backfill.measurement(record(until + 1 + dice.randrange(50)))
            step = backfill.timed_out() if dice.random() < 0.1 else backfill.control_point(indication)
            got += [one.offset_min for one in step.records]
        next_min = backfill.next_min
    assert got == sorted(set(got))
    wanted = {offset for offset in stored if since <= offset <= until}
    assert set(got) <= wanted
    if next_min > until and not lossy:
        assert set(got) == wanted
