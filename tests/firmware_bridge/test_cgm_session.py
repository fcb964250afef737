"""The conversation with a continuous glucose sensor: its clock, its stores, what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_link import START_NS, Ear, ScriptedLink, at, opened
from test_bluetooth_backfill import Sensor, record
from test_bluetooth_collector import MINUTE_NS, START

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_cgm_annunciation import SensorCalibration, SensorStatus, SensorWarning
from firmware_bridge.codecs.bluetooth_cgm_control import CgmControl, CgmOp
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat, Special
from firmware_bridge.codecs.bluetooth_racp import RacpOp
from firmware_bridge.devices import (
    Advertisement,
    DeviceRefusedError,
    LinkError,
    Notice,
    OptionValue,
    Session,
    recognise,
    uuid16,
)
from firmware_bridge.devices.assigned_numbers import (
    CGM_CONTROL_POINT,
    CGM_FEATURE,
    CGM_MEASUREMENT,
    CGM_SESSION_RUN,
    CGM_SESSION_START,
    CGM_STATUS,
    RECORD_ACCESS_CONTROL_POINT,
)
from firmware_bridge.devices.cgm import PROFILE, CgmSession

ZERO = DateTime(0, 0, 0, 0, 0, 0)
NONE = (SensorStatus(0), SensorCalibration(0), SensorWarning(0))


class Body:
    """A sensor on a body: what can be read of it, what it has stored, and a link to it."""

    def __init__(self, *stored_min: int, now_min: int = 0) -> None:
        self.store = Sensor(list(stored_min))
        self.silent = False
        self.session: Session | None = None
        self.link = ScriptedLink(
            {
                CGM_FEATURE: bytes.fromhex("00000059FFFF"),
                CGM_SESSION_START: bytes(START),
                CGM_STATUS: bytes(CgmStatus(now_min, *NONE)),
                CGM_SESSION_RUN: bytes.fromhex("F000"),
            },
            on_write=self.written,
        )

    def written(self, characteristic: str, data: bytes) -> None:
        if characteristic == CGM_SESSION_START:
            self.link.values[CGM_SESSION_START] = data
        elif characteristic == RECORD_ACCESS_CONTROL_POINT and not self.silent:
            found, indication = self.store.answer(data)
            assert self.session is not None
            for one in found:
                self.session.notified(CGM_MEASUREMENT, bytes(one), at(0))
            self.session.notified(RECORD_ACCESS_CONTROL_POINT, indication, at(0))

    def says(self, *records: CgmMeasurement) -> None:
        assert self.session is not None
        self.session.notified(CGM_MEASUREMENT, b"".join(map(bytes, records)), at(0))


def session_at(now_min: float, **options: OptionValue) -> tuple[CgmSession, Ear]:
    """A session `now_min` minutes after START_NS."""
    ear = Ear()
    values = {option.name: options.get(option.name, option.default) for option in PROFILE.options}
    stream = PROFILE.offers[0].stream("p1", "cgm", values)
    return CgmSession({"glucose": stream}, values, ear, now_s=lambda: START_NS / 1e9 + 60 * now_min), ear


def visit(body: Body, session: Session, meanwhile: Callable[[], object] = lambda: None) -> None:
    """One connection: begun, tended until nothing is left to do; then `meanwhile`, and tended again."""

    async def run() -> None:
        body.session = session
        await session.start(body.link)
        tending = asyncio.create_task(session.tend(body.link))
        await quiet()
        meanwhile()
        await quiet()
        tending.cancel()
        await asyncio.wait({tending})
        if not tending.cancelled():
            tending.result()

    async def quiet() -> None:
        """Until everybody waits for something from outside."""
        for _ in range(50):
            await asyncio.sleep(0)

    asyncio.run(run())


def minutes(ear: Ear) -> list[int]:
    return [(chunk.t0_ns - START_NS) // MINUTE_NS for chunk in ear.chunks]


def test_what_it_stored_is_fetched_and_then_it_is_listened_to() -> None:
    body = Body(*range(5, 101, 5), now_min=100)
    session, ear = opened(PROFILE)
    visit(body, session, lambda: body.says(record(105), record(110)))
    assert minutes(ear) == list(range(5, 111, 5))
    assert body.link.subscribed == [CGM_MEASUREMENT, RECORD_ACCESS_CONTROL_POINT]
    assert {chunk.stream.interval_s for chunk in ear.chunks} == {300.0}
    assert {chunk.stream.unit for chunk in ear.chunks} == {"mg/dL"}


def test_three_hours_out_of_reach_come_in_order_and_once() -> None:
    body = Body(now_min=0)
    session, ear = opened(PROFILE)
    visit(body, session, lambda: body.says(record(5)))
    body.store.stored = list(range(5, 186, 5))
    body.link.values[CGM_STATUS] = bytes(CgmStatus(185, *NONE))
    visit(body, session)
    assert minutes(ear) == list(range(5, 186, 5))


def test_a_record_lost_on_a_standing_link_is_fetched_when_the_next_one_comes() -> None:
    body = Body(*range(5, 21, 5), now_min=0)
    session, ear = opened(PROFILE)
    visit(body, session, lambda: [body.says(record(5)), body.says(record(20)), body.says(record(25))])
    assert minutes(ear) == [5, 20, 25, 10, 15]


def test_readings_every_minute_are_no_holes_where_the_configuration_says_so() -> None:
    body = Body(now_min=0)
    session, ear = opened(PROFILE, interval_s=60)
    visit(body, session, lambda: [body.says(record(n)) for n in (1, 2, 3)])
    assert minutes(ear) == [1, 2, 3]
    assert {chunk.stream.interval_s for chunk in ear.chunks} == {60.0}
    assert {request.op for request in body.store.log} == {RacpOp.COUNT}
    assert len(body.store.log) == 1


def test_what_comes_while_the_connection_begins_is_not_lost() -> None:
    body = Body(now_min=0)
    session, ear = opened(PROFILE)
    read = body.link.read

    async def read_while_it_speaks(characteristic: str) -> bytes:
        if characteristic == CGM_SESSION_START:
            body.says(record(5))
            session.notified(CGM_MEASUREMENT, b"\x06", at(0))
        return await read(characteristic)

    body.link.read = read_while_it_speaks  # type: ignore[method-assign]
    visit(body, session)
    assert minutes(ear) == [5]
    assert [str(error) for heard in ear.heard for error in heard.refused] == [
        "a record of 6 bytes is declared, 1 are there (byte 0)"
    ]


def test_a_silent_sensor_is_asked_again_and_given_up_but_heard() -> None:
    body = Body(*range(5, 101, 5), now_min=100)
    ear = Ear()
    values = {option.name: option.default for option in PROFILE.options}
    stream = PROFILE.offers[0].stream("p1", "cgm", values)
    session = CgmSession({"glucose": stream}, values, ear, silence_s=0.0)
    body.silent = True
    visit(body, session)
    assert ear.dropped == ["unfetched"]
    body.silent = False
    body.session = session
    visit(body, session, lambda: body.says(record(105)))
    assert minutes(ear) == list(range(5, 106, 5))


def test_a_sensor_that_takes_no_request_is_heard_all_the_same() -> None:
    body = Body(now_min=0)

    def refuse(characteristic: str, _data: bytes) -> None:
        raise LinkError("refused", f"no writing to {characteristic}")

    body.link.on_write = refuse
    session, ear = opened(PROFILE)
    visit(body, session, lambda: body.says(record(5)))
    assert minutes(ear) == [5]
    assert "unfetched" in ear.dropped


def test_a_lost_link_ends_the_tending() -> None:
    body = Body(now_min=0)

    def lose(characteristic: str, _data: bytes) -> None:
        raise LinkError("lost", f"gone while writing to {characteristic}")

    body.link.on_write = lose
    session, _ = opened(PROFILE)
    with pytest.raises(LinkError, match="gone"):
        visit(body, session)


def told(body: Body, **options: OptionValue) -> tuple[CgmSession, Ear]:
    """A session begun with a sensor that may have to be told the time, three minutes after START_NS."""
    session, ear = session_at(3, **options)
    visit(body, session, lambda: body.says(record(5)))
    return session, ear


def test_a_sensor_that_was_never_told_the_time_is_told() -> None:
    body = Body(now_min=3)
    body.link.values[CGM_SESSION_START] = bytes(CgmSessionStart(ZERO, None, None))
    on_write = body.written

    def takes_the_time(characteristic: str, data: bytes) -> None:
        if characteristic == CGM_SESSION_START:
            assert CgmSessionStart.from_bytes(data).utc_ns() == START_NS + 180 * 10**9
            # It knows for how many minutes it has run, and reckons its start from there.
            data = bytes(CgmSessionStart(DateTime(2026, 11, 23, 18, 59, 30), 0, 0))
        on_write(characteristic, data)

    body.link.on_write = takes_the_time
    session, ear = told(body)
    assert minutes(ear) == [5]
    assert session.session_start_ns == START_NS
    assert session.session_end_ns == START_NS + 240 * 3600 * 10**9


@pytest.mark.parametrize("sent", [None, b"", b"\x01"])
def test_a_sensor_that_does_not_say_how_long_it_lives_is_heard_all_the_same(sent: bytes | None) -> None:
    body = Body(now_min=3)
    del body.link.values[CGM_SESSION_RUN]
    if sent is not None:
        body.link.values[CGM_SESSION_RUN] = sent
    session, ear = told(body)
    assert minutes(ear) == [5]
    assert (session.session_start_ns, session.session_end_ns) == (START_NS, None)


def test_a_sensor_whose_clock_must_be_set_is_told_and_one_that_knows_is_not() -> None:
    body = Body(now_min=3)
    body.link.values[CGM_STATUS] = bytes(
        CgmStatus(3, SensorStatus(0), SensorCalibration.TIME_SYNC_REQUIRED, SensorWarning(0))
    )
    told(body)
    assert CGM_SESSION_START in [characteristic for characteristic, _ in body.link.written]
    body = Body(now_min=3)
    told(body)
    assert CGM_SESSION_START not in [characteristic for characteristic, _ in body.link.written]


def test_a_sensor_that_knows_no_zone_takes_the_one_configured_or_is_refused() -> None:
    bare = bytes(CgmSessionStart(START.local, None, None))
    body = Body(now_min=3)
    body.link.values[CGM_SESSION_START] = bare
    _, ear = told(body, zone="+01:00")
    assert minutes(ear) == [5]
    body = Body(now_min=3)
    body.link.values[CGM_SESSION_START] = bare
    body.link.on_write = lambda _characteristic, _data: None
    with pytest.raises(DeviceRefusedError, match='option "zone"'):
        told(body)


def test_what_it_says_of_itself_is_told_once_and_taken_back() -> None:
    body = Body(now_min=0)
    session, ear = session_at(5)
    broken = CgmMeasurement(Sfloat.of(55), 5, status=SensorStatus.SENSOR_MALFUNCTION)
    low = CgmMeasurement(Sfloat.of(Special.NEGATIVE_INFINITY), 15, status=SensorStatus.BATTERY_LOW)
    visit(
        body,
        session,
        lambda: body.says(broken, CgmMeasurement(Sfloat.of(56), 10, status=SensorStatus.SENSOR_MALFUNCTION)),
    )
    visit(body, session, lambda: [body.says(low), body.says(record(20, 70))])
    assert ear.notices == [
        Notice("sensor", "the sensor is broken, or does not belong to its device", trouble=True),
        Notice("sensor", ""),
        Notice("signal", "glucose below what the sensor can measure"),
        Notice("battery", "its battery is low", trouble=True),
        Notice("signal", ""),
        Notice("battery", ""),
    ]
    assert ear.dropped == ["untrusted", "untrusted"]
    assert [chunk.samples.tolist() for chunk in ear.chunks] == [[[39.0]], [[70.0]]]


def test_a_sensor_that_measures_otherwise_than_configured_says_what_to_write() -> None:
    body = Body(now_min=0)
    body.link.values[CGM_CONTROL_POINT] = b""
    body.link.answers = lambda _characteristic, data: bytes(CgmControl(CgmOp.INTERVAL, 1)) if data == b"\x02" else None
    session, ear = session_at(0)
    visit(body, session, lambda: body.says(record(1)))
    assert ear.notices == [Notice("sensor", "it measures every 1 min: write options = { interval_s = 60 }")]
    body.link.answers = lambda _characteristic, _data: None
    visit(body, session)
    assert ear.notices[1:] == [Notice("sensor", "")]


@pytest.mark.parametrize(("minutes_past", "words"), [(10, ""), (71, "behind"), (-30, "ahead")])
def test_a_sensor_whose_clock_is_wrong_is_told_of(minutes_past: int, words: str) -> None:
    session, ear = session_at(60 + minutes_past)
    visit(Body(now_min=60), session)
    said = f"its clock is {abs(minutes_past)} min {words}, and so are its readings"
    assert ear.notices == ([Notice("sensor", said, trouble=True)] if words else [])


def test_a_record_from_the_store_says_nothing_of_the_sensor_as_it_is_now() -> None:
    body = Body(now_min=100)
    session, ear = session_at(100)
    body.store.stored = [50]
    hot = CgmMeasurement(Sfloat.of(100), 50, calibration=SensorCalibration.TEMPERATURE_TOO_HIGH)
    answer = body.store.answer
    body.store.answer = lambda data: ([hot] * len(answer(data)[0]), answer(data)[1])  # type: ignore[method-assign]
    visit(body, session)
    assert ear.dropped == ["untrusted"]
    assert ear.notices == []


def test_it_is_known_by_its_service_and_has_to_be_paired() -> None:
    assert [profile.id for profile in recognise(Advertisement("", frozenset({uuid16(0x181F)})))] == ["cgm"]
    assert PROFILE.bonds


@pytest.mark.parametrize("begin", [False, True])
@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([CGM_MEASUREMENT, RECORD_ACCESS_CONTROL_POINT, CGM_STATUS]),
            st.binary(max_size=30)
            | st.builds(record, st.integers(0, 0xFFFF)).map(bytes)
            | st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 9)).map(
                lambda three: bytes([three[0], 0, three[1], three[2]])
            ),
        ),
        max_size=30,
    )
)
def test_whatever_comes_and_whenever_only_a_decode_error_is_raised(begin: bool, came: list[tuple[str, bytes]]) -> None:
    body = Body(5, 10, now_min=10)
    session, _ = opened(PROFILE)
    if begin:
        body.session = session
        asyncio.run(session.start(body.link))
    for characteristic, data in came:
        try:
            session.notified(characteristic, data, at(0))
        except DecodeError:
            continue
