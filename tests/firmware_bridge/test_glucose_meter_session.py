"""The conversation with a glucose meter: every finger-stick once, whatever the link and the meter do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_link import START_NS, Ear, ScriptedLink, at, opened

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_glucose import GlucoseMeasurement, GlucoseSample, MeterStatus
from firmware_bridge.codecs.bluetooth_glucose_sample import SampleLocation, SampleType
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat, Special
from firmware_bridge.codecs.bluetooth_racp import (
    RacpAnswer,
    RacpOp,
    RacpOperator,
    RacpRequest,
    RacpResult,
    racp_from_bytes,
)
from firmware_bridge.devices import DeviceRefusedError, LinkError, Notice
from firmware_bridge.devices.assigned_numbers import GLUCOSE_MEASUREMENT, RECORD_ACCESS_CONTROL_POINT
from firmware_bridge.devices.glucose_meter import PROFILE, GlucoseMeterSession
from firmware_bridge.devices.wall_clock import now_as_date_time

NOW_S = START_NS / 1e9


def record(
    number: int, mg_dl: float | Special = 100, minutes_ago: float = 0, status: MeterStatus | None = None
) -> GlucoseMeasurement:
    """A finger-stick, on a clock one hour ahead of UTC."""
    value = Sfloat.of(mg_dl) if isinstance(mg_dl, Special) else Sfloat.of(mg_dl / 1e5)
    sample = GlucoseSample(value, SampleType.CAPILLARY_WHOLE_BLOOD, SampleLocation.FINGER)
    return GlucoseMeasurement(number, now_as_date_time(NOW_S + 3600 - 60 * minutes_ago), None, sample, status)


class Meter:
    """What a meter has stored, and a link to it."""

    def __init__(self, *records: GlucoseMeasurement) -> None:
        self.records = list(records)
        self.ranges = True
        self.refuses: RacpResult | None = None
        self.silent_after: int | None = None
        self.log: list[RacpRequest] = []
        self.session: GlucoseMeterSession | None = None
        self.link = ScriptedLink(on_write=self.written)

    def written(self, characteristic: str, data: bytes) -> None:
        assert characteristic == RECORD_ACCESS_CONTROL_POINT
        request = racp_from_bytes(data)
        assert isinstance(request, RacpRequest)
        assert self.session is not None
        self.log.append(request)
        if self.refuses is not None:
            return self.answers(self.refuses)
        if request.bounds and not self.ranges:
            return self.answers(RacpResult.OPERATOR_NOT_SUPPORTED)
        found = [one for one in self.records if not request.bounds or one.sequence >= request.bounds[0]]
        if request.operator is RacpOperator.LAST:
            found = found[-1:]
        for one in found[: self.silent_after]:
            self.session.notified(GLUCOSE_MEASUREMENT, bytes(one), at(0))
        if self.silent_after is None:
            self.answers(RacpResult.SUCCESS if found else RacpResult.NO_RECORDS)
        return None

    def answers(self, result: RacpResult) -> None:
        assert self.session is not None
        self.session.notified(RECORD_ACCESS_CONTROL_POINT, bytes(RacpAnswer(RacpOp.REPORT, result)), at(0))


def session_of(zone: str = "+01:00", again_s: float = 3600.0) -> tuple[GlucoseMeterSession, Ear]:
    ear = Ear()
    values = {option.name: option.default for option in PROFILE.options} | {"zone": zone}
    streams = {"glucose": PROFILE.offers[0].stream("p1", "meter", values)}
    return GlucoseMeterSession(streams, values, ear, now_s=lambda: NOW_S, silence_s=0.0, again_s=again_s), ear


def visit(meter: Meter, session: GlucoseMeterSession, meanwhile: Callable[[], object] = lambda: None) -> None:
    """One connection, until nothing is left to do."""

    async def run() -> None:
        meter.session = session
        await session.start(meter.link)
        tending = asyncio.create_task(session.tend(meter.link))
        for _ in range(20):
            await asyncio.sleep(0)
        meanwhile()
        for _ in range(20):
            await asyncio.sleep(0)
        tending.cancel()
        await asyncio.wait({tending})
        if not tending.cancelled():
            tending.result()

    asyncio.run(run())


def readings(ear: Ear) -> list[tuple[float, float]]:
    """(minutes since START_NS, mg/dL)."""
    return [((one.t0_ns - START_NS) / 6e10, float(one.samples[0, 0])) for one in ear.chunks]


def test_a_day_of_finger_sticks_the_first_time_and_then_the_new_ones() -> None:
    meter = Meter(record(1, 90, 3000), record(2, 110, 600), record(3, 62, 5))
    session, ear = session_of()
    visit(meter, session)
    assert readings(ear) == [(-600.0, 110.0), (-5.0, 62.0)]
    assert ear.dropped == ["old"]
    meter.records.append(record(4, 71, 0))
    visit(meter, session)
    assert readings(ear)[2:] == [(0.0, 71.0)]
    assert [(request.operator, request.bounds) for request in meter.log] == [
        (RacpOperator.ALL, ()), (RacpOperator.AT_LEAST, (4,)),
    ]  # fmt: skip


def test_one_taken_while_the_link_stands_is_had_soon() -> None:
    meter = Meter(record(1, 90))
    session, ear = session_of(again_s=0.0)
    visit(meter, session, lambda: meter.records.append(record(2, 95)))
    assert [value for _, value in readings(ear)] == [90.0, 95.0]


def test_a_meter_without_ranges_is_asked_for_all_and_each_is_had_once() -> None:
    meter = Meter(record(1, 90), record(2, 95))
    meter.ranges = False
    session, ear = session_of()
    visit(meter, session)
    meter.records.append(record(3, 99))
    visit(meter, session)
    assert [value for _, value in readings(ear)] == [90.0, 95.0, 99.0]


def test_a_meter_that_counts_anew_is_heard_again() -> None:
    meter = Meter(record(700, 90, 60))
    session, ear = session_of()
    visit(meter, session)
    meter.records = [record(0, 120, 3)]
    visit(meter, session)
    assert readings(ear) == [(-60.0, 90.0), (-3.0, 120.0)]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_link_that_breaks_among_the_records_loses_and_repeats_none(backwards: bool) -> None:
    meter = Meter(*(record(number, 80 + number, 100 - number) for number in range(5)))
    if backwards:
        meter.records.reverse()
    session, ear = session_of()
    meter.silent_after = 3
    with pytest.raises(LinkError, match="its records stopped coming"):
        visit(meter, session)
    meter.silent_after = None
    visit(meter, session)
    assert sorted(value for _, value in readings(ear)) == [80.0, 81.0, 82.0, 83.0, 84.0]


def test_a_meter_that_gives_nothing_or_knows_no_zone_is_refused_in_words() -> None:
    meter = Meter(record(1))
    meter.refuses = RacpResult.OP_NOT_SUPPORTED
    session, _ = session_of()
    with pytest.raises(DeviceRefusedError, match="does not give its records: op not supported"):
        visit(meter, session)
    session, _ = session_of(zone="")
    with pytest.raises(DeviceRefusedError, match='option "zone"'):
        visit(meter, session)


def test_control_solution_and_spoilt_strips_are_no_readings_and_the_ends_of_the_range_are() -> None:
    control = GlucoseSample(Sfloat.of(100 / 1e5), SampleType.CONTROL_SOLUTION, SampleLocation.NOT_AVAILABLE)
    meter = Meter(
        GlucoseMeasurement(1, now_as_date_time(NOW_S), None, control),
        record(2, 100, status=MeterStatus.SAMPLE_TOO_SMALL),
        record(3, Special.NEGATIVE_INFINITY),
        record(4, 450, status=MeterStatus.ABOVE_DEVICE_RANGE),
        record(5, Special.NAN),
        GlucoseMeasurement(6, now_as_date_time(NOW_S)),
        record(7, 2000),
    )
    session, ear = session_of()
    visit(meter, session)
    assert [value for _, value in readings(ear)] == [39.0, 450.0]
    assert ear.dropped == ["control solution", "untrusted", "no reading", "no reading"]
    assert [str(error) for heard in ear.heard for error in heard.refused] == [
        "p1/meter/glucose: 2000 mg/dL is no cgm value (0 to 1000 mg/dL)"
    ]


def test_a_low_battery_is_told_until_it_is_changed() -> None:
    meter = Meter(record(1, status=MeterStatus.BATTERY_LOW), record(2, status=MeterStatus.BATTERY_LOW), record(3))
    session, ear = session_of()
    visit(meter, session)
    assert ear.notices == [Notice("battery", "its battery is low", trouble=True), Notice("battery", "")]


@pytest.mark.parametrize("begin", [False, True])
@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([GLUCOSE_MEASUREMENT, RECORD_ACCESS_CONTROL_POINT]),
            st.binary(max_size=20)
            | st.builds(record, st.integers(0, 0xFFFF)).map(bytes)
            | st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 9)).map(
                lambda three: bytes([three[0], 0, three[1], three[2]])
            ),
        ),
        max_size=20,
    )
)
def test_whatever_comes_and_whenever_only_a_decode_error_is_raised(begin: bool, came: list[tuple[str, bytes]]) -> None:
    session, _ = opened(PROFILE, zone="+01:00")
    if begin:
        asyncio.run(session.start(ScriptedLink()))
    for characteristic, data in came:
        try:
            session.notified(characteristic, data, at(0))
        except DecodeError:
            continue
