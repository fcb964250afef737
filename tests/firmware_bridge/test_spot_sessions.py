"""Oximeters, thermometers and their clocks: readings as they come or as of the time that is on them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest
from bluetooth_examples import decodes_back_or_refuses, refuses_every_shortening, sfloats
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_link import START_NS, Ear, ScriptedLink, at, opened

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_current_time import CurrentTime
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_medfloat import Float, Sfloat, Special
from firmware_bridge.codecs.bluetooth_oximeter import (
    OximeterDeviceStatus,
    OximeterMeasurementStatus,
    Oximetry,
    Saturation,
    SpotCheck,
)
from firmware_bridge.codecs.bluetooth_thermometer import Temperature
from firmware_bridge.devices import Advertisement, LinkError, Notice, Profile, Session, profiles, recognise, uuid16
from firmware_bridge.devices.assigned_numbers import (
    CURRENT_TIME,
    PLX_CONTINUOUS,
    PLX_SPOT_CHECK,
    TEMPERATURE_MEASUREMENT,
)
from firmware_bridge.devices.heart_rate_strap import CONTACT, NO_CONTACT
from firmware_bridge.devices.oximeter import OximeterSession
from firmware_bridge.devices.wall_clock import WallClock, now_as_date_time, quarters_of

OXIMETER, THERMOMETER = profiles()["pulse-oximeter"], profiles()["thermometer"]
NOW_S = START_NS / 1e9
UNKNOWN = DateTime(0, 0, 0, 0, 0, 0)


def saturation(spo2: float | Special, pulse: float | Special) -> Saturation:
    return Saturation(Sfloat.of(spo2), Sfloat.of(pulse))


def shows(local_s: float) -> ScriptedLink:
    """A link to a device whose clock, which can be set, shows `local_s` after 1970."""
    link = ScriptedLink(
        {CURRENT_TIME: bytes(CurrentTime(now_as_date_time(local_s))), PLX_CONTINUOUS: b"", PLX_SPOT_CHECK: b""}
    )
    link.on_write = lambda characteristic, data: link.values.update({characteristic: data})
    return link


def refuse(characteristic: str, _data: bytes) -> None:
    raise LinkError("refused", f"no writing to {characteristic}")


def readings(ear: Ear) -> list[tuple[str, float, float]]:
    """(channel, seconds since START_NS, value)."""
    return [(one.stream.channel, (one.t0_ns - START_NS) / 1e9, float(one.samples[0, 0])) for one in ear.chunks]


def test_saturation_and_pulse_as_they_come() -> None:
    session, ear = opened(OXIMETER)
    link = shows(NOW_S)
    asyncio.run(session.start(link))
    assert link.subscribed == [PLX_CONTINUOUS, PLX_SPOT_CHECK]
    session.notified(PLX_CONTINUOUS, bytes.fromhex("016200410063004000"), at(1))
    assert readings(ear) == [("spo2", 1.0, 98.0), ("hr", 1.0, 65.0)]


def test_fast_values_stand_in_for_normal_ones_and_no_number_is_no_reading() -> None:
    session, ear = opened(OXIMETER)
    none = saturation(Special.NAN, Special.NRES)
    session.notified(PLX_CONTINUOUS, bytes(Oximetry(none, fast=saturation(97, 0))), at(1))
    session.notified(PLX_CONTINUOUS, bytes(Oximetry(none)), at(2))
    assert readings(ear) == [("spo2", 1.0, 97.0)]
    assert ear.dropped == ["no reading"]


def test_an_oximeter_off_the_finger_or_broken_gives_no_reading_and_says_so_once() -> None:
    session, ear = opened(OXIMETER)
    for second, status in enumerate(
        [
            OximeterDeviceStatus.NOT_ON_USER,
            OximeterDeviceStatus.NOT_ON_USER,
            OximeterDeviceStatus.SENSOR_DISCONNECTED,
            OximeterDeviceStatus.LOW_PERFUSION,
            OximeterDeviceStatus(0),
        ]
    ):
        session.notified(PLX_CONTINUOUS, bytes(Oximetry(saturation(95, 70), device_status=status)), at(second))
    assert [second for _, second, _ in readings(ear)] == [3.0, 3.0, 4.0, 4.0]
    assert ear.notices == [
        NO_CONTACT,
        CONTACT,
        Notice("sensor", "the sensor is broken, unplugged or not one for this device", trouble=True),
        Notice("sensor", ""),
        Notice("signal", "the signal is poor"),
        Notice("signal", ""),
    ]


def test_a_demonstration_is_not_of_the_person() -> None:
    session, ear = opened(OXIMETER)
    shown = Oximetry(saturation(98, 60), measurement_status=OximeterMeasurementStatus.DEMONSTRATION)
    session.notified(PLX_CONTINUOUS, bytes(shown), at(0))
    assert (readings(ear), ear.dropped) == ([], ["untrusted"])


def test_an_impossible_saturation_costs_only_itself() -> None:
    session, ear = opened(OXIMETER)
    session.notified(PLX_CONTINUOUS, bytes(Oximetry(saturation(101, 60))), at(0))
    assert readings(ear) == [("hr", 0.0, 60.0)]
    assert [str(error) for heard in ear.heard for error in heard.refused] == [
        "p1/pulse-oximeter/spo2: 101 % is no spo2 value (0 to 100 %)"
    ]


def test_a_spot_check_is_of_the_time_on_it_as_the_clock_beside_it_tells() -> None:
    # The device shows two hours and ten seconds more than UTC.
    ear = Ear()
    streams = {offer.channel: offer.stream("p1", "oximeter") for offer in OXIMETER.offers}
    session = OximeterSession(streams, {"zone": ""}, ear, now_s=lambda: NOW_S)
    asyncio.run(session.start(shows(NOW_S + 7210)))
    taken = now_as_date_time(NOW_S + 7210 - 600)
    stored = OximeterMeasurementStatus.FROM_STORAGE
    session.notified(PLX_SPOT_CHECK, bytes(SpotCheck(saturation(96, 61), taken, stored)), at(5))
    session.notified(PLX_SPOT_CHECK, bytes(SpotCheck(saturation(95, 62))), at(6))
    session.notified(PLX_SPOT_CHECK, bytes(SpotCheck(saturation(94, 63), taken, clock_not_set=True)), at(7))
    assert [one for one in readings(ear) if one[0] == "spo2"] == [
        ("spo2", -600.0, 96.0), ("spo2", 6.0, 95.0), ("spo2", 7.0, 94.0),
    ]  # fmt: skip
    with pytest.raises(DecodeError, match="a stored reading without a time"):
        session.notified(PLX_SPOT_CHECK, bytes(SpotCheck(saturation(93, 64), None, stored)), at(8))


def test_an_oximeter_with_neither_measurement_is_something_else() -> None:
    session, _ = opened(OXIMETER)
    with pytest.raises(LinkError, match="neither continuous nor spot-check"):
        asyncio.run(session.start(ScriptedLink()))


def test_a_temperature_on_arrival_and_one_with_a_time_in_a_zone() -> None:
    session, ear = opened(THERMOMETER, zone="+01:00")
    asyncio.run(session.start(ScriptedLink()))
    session.notified(TEMPERATURE_MEASUREMENT, bytes(Temperature(Float.of(36.6))), at(3))
    taken = now_as_date_time(NOW_S + 3600 - 60)
    session.notified(TEMPERATURE_MEASUREMENT, bytes(Temperature(Float.of(100.4), fahrenheit=True, time=taken)), at(4))
    ahead = now_as_date_time(NOW_S + 3600 + 60)
    session.notified(TEMPERATURE_MEASUREMENT, bytes(Temperature(Float.of(37), time=ahead)), at(5))
    session.notified(TEMPERATURE_MEASUREMENT, bytes(Temperature(Float.of(37), time=UNKNOWN)), at(6))
    session.notified(TEMPERATURE_MEASUREMENT, bytes(Temperature(Float.of(Special.NAN))), at(7))
    assert [(second, value) for _, second, value in readings(ear)] == [
        (3.0, np.float32(36.6)), (-60.0, 38.0), (5.0, 37.0), (6.0, 37.0),
    ]  # fmt: skip
    assert ear.dropped == ["no reading"]


def test_a_time_on_a_clock_whose_zone_nobody_knows_is_refused_with_what_to_do() -> None:
    session, _ = opened(THERMOMETER)
    asyncio.run(session.start(ScriptedLink()))
    with pytest.raises(DecodeError, match='the option "zone" says it'):
        session.notified(TEMPERATURE_MEASUREMENT, bytes(Temperature(Float.of(37), time=now_as_date_time(NOW_S))), at(0))


def meet(clock: WallClock, link: ScriptedLink) -> ScriptedLink:
    asyncio.run(clock.meet(link))
    return link


def test_a_clock_in_no_zone_is_compared_and_left_alone() -> None:
    clock = WallClock("", lambda: NOW_S)
    assert not clock.is_known
    link = meet(clock, shows(NOW_S - 3 * 3600))
    assert link.written == []
    assert clock.utc_ns(NOW_S - 3 * 3600) == START_NS


def test_a_clock_in_a_zone_is_set_where_it_is_wrong_and_only_there() -> None:
    clock = WallClock("+05:45", lambda: NOW_S)
    local_s = NOW_S + 5.75 * 3600
    assert meet(clock, shows(local_s + 50)).written == []
    link = meet(clock, shows(local_s + 7200))
    [(characteristic, written)] = link.written
    said = CurrentTime.from_bytes(written)
    assert characteristic == CURRENT_TIME
    assert said.local.since_epoch_s() == local_s
    assert said.weekday == datetime.fromtimestamp(local_s, UTC).isoweekday()
    assert clock.utc_ns(local_s) == START_NS
    link.values[CURRENT_TIME] = bytes(CurrentTime(UNKNOWN))
    assert len(meet(clock, link).written) == 2


def test_a_clock_that_cannot_be_set_is_taken_as_wrong_as_it_is() -> None:
    clock = WallClock("+01:00", lambda: NOW_S)
    link = shows(NOW_S + 7200)
    link.on_write = refuse
    meet(clock, link)
    assert clock.utc_ns(NOW_S + 7200) == START_NS
    link.values[CURRENT_TIME] = bytes(CurrentTime(UNKNOWN))
    meet(clock, link)
    assert not clock.is_known


def test_a_device_without_a_clock_to_read_is_in_the_zone_configured() -> None:
    clock = WallClock("-03:30", lambda: NOW_S)
    meet(clock, ScriptedLink())
    assert clock.utc_ns(NOW_S - 3.5 * 3600) == START_NS
    assert [quarters_of(zone) for zone in ("", "+00:00", "-03:30", "+12:45")] == [None, 0, -14, 51]


spot_checks = st.builds(
    SpotCheck,
    st.builds(Saturation, sfloats, sfloats),
    st.none() | st.just(DateTime(2026, 11, 23, 9, 30, 0)),
    st.none() | st.integers(0, 0xFFFF).map(OximeterMeasurementStatus),
    st.none() | st.integers(0, 0xFF_FFFF).map(OximeterDeviceStatus),
    st.none() | sfloats,
    st.booleans(),
)


@settings(deadline=None)
@given(spot_checks, st.binary(max_size=24))
def test_any_spot_check_comes_back_and_any_bytes_are_refused(said: SpotCheck, data: bytes) -> None:
    assert SpotCheck.from_bytes(bytes(said)) == said
    refuses_every_shortening(bytes(said), SpotCheck.from_bytes)
    decodes_back_or_refuses(data, SpotCheck.from_bytes)


def test_they_are_known_by_their_services() -> None:
    for number, name in ((0x1822, "pulse-oximeter"), (0x1809, "thermometer"), (0x1808, "glucose-meter")):
        assert [profile.id for profile in recognise(Advertisement("", frozenset({uuid16(number)})))] == [name]


@pytest.mark.parametrize("profile", [OXIMETER, THERMOMETER], ids=lambda profile: profile.id)
@pytest.mark.parametrize("begin", [False, True])
@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([PLX_CONTINUOUS, PLX_SPOT_CHECK, TEMPERATURE_MEASUREMENT]),
            st.binary(max_size=24) | spot_checks.map(bytes),
        ),
        max_size=20,
    )
)
def test_whatever_comes_and_whenever_only_a_decode_error_is_raised(
    profile: Profile, begin: bool, came: list[tuple[str, bytes]]
) -> None:
    session: Session
    session, ear = opened(profile)
    if begin:
        asyncio.run(session.start(shows(NOW_S)))
    for characteristic, data in came:
        try:
            session.notified(characteristic, data, at(0))
        except DecodeError:
            continue
    assert all(np.isfinite(chunk.samples).all() for chunk in ear.chunks)
