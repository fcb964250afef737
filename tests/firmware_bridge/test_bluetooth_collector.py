"""A CGM over links that break: whatever happens, every stored record comes, once."""

from __future__ import annotations

import random

import pytest
from bridge_examples import CGM, assert_valid
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bluetooth_backfill import Sensor, record

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_cgm_annunciation import SensorCalibration, SensorStatus, SensorWarning
from firmware_bridge.codecs.bluetooth_cgm_backfill import Phase
from firmware_bridge.codecs.bluetooth_cgm_collector import CgmCollector, Heard
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_racp import RacpAnswer, RacpCount, RacpOp, RacpResult

FEATURE = bytes.fromhex("00000059FFFF")
START = CgmSessionStart(DateTime(2026, 11, 23, 19, 59, 30), 4, 0)
START_NS = 1_795_460_370 * 10**9
MINUTE_NS = 60 * 10**9


def status(offset_min: int, said: int = 0) -> bytes:
    return bytes(CgmStatus(offset_min, SensorStatus(said), SensorCalibration(0), SensorWarning(0)))


def minutes(heard: Heard, start_ns: int = START_NS) -> list[int]:
    return [(reading.t_ns - start_ns) // MINUTE_NS for reading in heard.readings]


def fetch(collector: CgmCollector, heard: Heard, sensor: Sensor) -> list[int]:
    """Let the back-fill run to its end over a perfect link."""
    got: list[int] = []
    while heard.write is not None:
        found, indication = sensor.answer(heard.write)
        for one in found:
            got += minutes(collector.measurement(bytes(one)))
        heard = collector.control_point(indication)
        got += minutes(heard)
    return got


def test_the_first_connection_fetches_a_day_and_then_what_is_new_comes_live() -> None:
    collector = CgmCollector(CGM)
    sensor = Sensor(list(range(0, 3001, 5)))
    first = collector.connected(FEATURE, bytes(START), status(3000, SensorStatus.BATTERY_LOW))
    assert first.notice is not None
    assert first.notice.battery_low
    assert fetch(collector, first, sensor) == list(range(1560, 3001, 5))
    live = collector.measurement(bytes(record(3005, 61)) + bytes(record(3010, 58)))
    assert minutes(live) == [3005, 3010]
    chunks = [reading.chunk for reading in live.readings if reading.chunk is not None]
    assert [chunk.samples.tolist() for chunk in chunks] == [[[61.0]], [[58.0]]]
    assert_valid(chunks, CGM)


def test_after_a_night_without_a_link_only_the_night_is_fetched() -> None:
    collector = CgmCollector(CGM)
    sensor = Sensor([])
    fetch(collector, collector.connected(FEATURE, bytes(START), status(100)), sensor)
    assert minutes(collector.measurement(bytes(record(105)))) == [105]
    sensor.stored = list(range(5, 601, 5))
    again = collector.connected(FEATURE, bytes(START), status(600))
    assert fetch(collector, again, sensor) == list(range(110, 601, 5))
    assert collector.backfill is not None
    assert collector.backfill.phase is Phase.DONE


def test_a_reading_that_comes_live_while_the_past_is_fetched_comes_at_once_and_once() -> None:
    collector = CgmCollector(CGM)
    sensor = Sensor(list(range(5, 101, 5)))
    heard = collector.connected(FEATURE, bytes(START), status(100))
    assert minutes(collector.measurement(bytes(record(100)))) == [100], "it was measured as the link came up"
    assert fetch(collector, heard, sensor) == list(range(5, 100, 5))


def test_another_value_for_the_same_minute_is_a_correction_and_the_same_is_not() -> None:
    collector = CgmCollector(CGM)
    fetch(collector, collector.connected(FEATURE, bytes(START), status(0)), Sensor([]))
    assert minutes(collector.measurement(bytes(record(5, 100)))) == [5]
    assert minutes(collector.measurement(bytes(record(5, 100)))) == []
    assert minutes(collector.measurement(bytes(record(5, 90)))) == [5]


def test_a_new_sensor_starts_from_its_own_beginning() -> None:
    collector = CgmCollector(CGM)
    fetch(collector, collector.connected(FEATURE, bytes(START), status(600)), Sensor([600]))
    later = CgmSessionStart(DateTime(2026, 11, 24, 19, 59, 30), 4, 0)
    heard = collector.connected(FEATURE, bytes(later), status(20))
    assert fetch(collector, heard, Sensor([5, 10, 15, 20])) == [1445, 1450, 1455, 1460]


def test_a_clock_set_anew_by_a_few_seconds_is_no_new_sensor() -> None:
    collector = CgmCollector(CGM)
    fetch(collector, collector.connected(FEATURE, bytes(START), status(600)), Sensor([600]))
    nudged = CgmSessionStart(DateTime(2026, 11, 23, 19, 59, 42), 4, 0)
    assert fetch(collector, collector.connected(FEATURE, bytes(nudged), status(605)), Sensor([600, 605])) == [605]


def test_a_sensor_that_knows_no_zone_takes_the_collectors() -> None:
    bare = bytes(CgmSessionStart(START.local, None, None))
    with pytest.raises(DecodeError, match="no time zone"):
        CgmCollector(CGM).connected(FEATURE, bare, status(5))
    collector = CgmCollector(CGM, zone_quarters=4, dst_quarters=0)
    assert fetch(collector, collector.connected(FEATURE, bare, status(5)), Sensor([5])) == [5]


def test_before_any_connection_nothing_is_believed() -> None:
    collector = CgmCollector(CGM)
    assert collector.measurement(bytes(record(5))) == Heard()
    assert collector.control_point(bytes.fromhex("06000101")) == Heard()
    assert collector.timed_out() == Heard()


def test_damage_is_an_error_and_costs_nothing_else() -> None:
    collector = CgmCollector(CGM)
    fetch(collector, collector.connected(FEATURE, bytes(START), status(0)), Sensor([]))
    with pytest.raises(DecodeError):
        collector.measurement(b"\x06\x00\x6a")
    assert minutes(collector.measurement(bytes(record(5)))) == [5]


def test_a_record_that_cannot_be_costs_only_itself_even_in_the_middle_of_a_page() -> None:
    collector = CgmCollector(CGM)
    heard = collector.connected(FEATURE, bytes(START), status(100))
    heard = collector.control_point(bytes(RacpCount(3)))
    for one in (record(5), record(10, 1500), record(15)):
        assert minutes(collector.measurement(bytes(one))) == []
    heard = collector.control_point(bytes(RacpAnswer(RacpOp.REPORT, RacpResult.SUCCESS)))
    assert minutes(heard) == [5, 15]
    assert [str(error) for error in heard.refused] == [
        "p1/sensor/glucose: 1500 mg/dL is no cgm value (0 to 1000 mg/dL)"
    ]


@settings(deadline=None)
@given(st.integers(0, 1 << 30), st.booleans(), st.integers(1, 12))
def test_over_links_that_break_every_record_comes_once(seed: int, ranges: bool, links: int) -> None:
    dice = random.Random(seed)
    collector, sensor = CgmCollector(CGM, first_fill_min=0xFFFF), Sensor([], ranges=ranges)
    now, got = 0, []
    for link in range(links + 1):
        now += 5 * dice.randrange(0, 200)
        sensor.stored = list(range(5, now + 1, 5))
        heard = collector.connected(FEATURE, bytes(START), status(now))
        last = link == links
        while heard.write is not None and (last or dice.random() > 0.2):
            found, indication = sensor.answer(heard.write)
            for one in found:
                got += minutes(collector.measurement(bytes(one)))
                if dice.random() < 0.01:  # the next reading comes meanwhile
                    now += 5
                    sensor.stored.append(now)
                    got += minutes(collector.measurement(bytes(record(now))))
            lost = not last and dice.random() < 0.2
            heard = collector.timed_out() if lost else collector.control_point(indication)
            got += minutes(heard)
    assert sorted(got) == sensor.stored
