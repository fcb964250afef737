"""What a config says of glucose: limits by time of day in a zone, a sensor's life, and what a person bears."""

from __future__ import annotations

import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.glucose_settings import GlucoseSettings, SensorLife
from agent.alarms.limits import Hours, Limits
from agent.alarms.local_time import LocalTime
from agent.config import Config, ConfigError, MqttSource, PatientConfig, parse_config
from agent.patient import Person
from agent.time_zone import local_time

NS = 1_000_000_000

CGM = """\
[agent]
id = "home"
timezone = "Europe/London"
[[patient]]
id = "p1"
[[patient.source]]
type = "mqtt"
device = "g7"
channel = "glucose"
kind = "cgm"
interval_s = 300
"""
"""Eleven lines."""


def read(text: str) -> Config:
    return parse_config(text, Path("/etc/vagus/v.toml"), {"HOME": "/root"})


def patient(text: str) -> PatientConfig:
    return read(text).patients[0]


def one_fault(text: str) -> tuple[int, str, str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    (fault,) = caught.value.faults
    return fault.line, fault.key, f"{fault.message} — {fault.suggestion}"


def limit(rule: str, *lines: str) -> str:
    return "\n".join(["[[patient.limit]]", f'rule = "{rule}"', *lines, ""])


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * NS


# -- limits by time of day -------------------------------------------------------------------------------------------


def test_a_limit_may_differ_at_night_and_what_it_does_not_name_is_as_by_day() -> None:
    limits = patient(
        CGM
        + limit("low", "below_mg_dl = 75", "again_after_min = 45")
        + limit("low", "below_mg_dl = 85", 'from = "22:00"', 'to = "07:00"')
        + limit("high", 'from = "22:00"', 'to = "07:00"', "enabled = false")
    ).limits

    day, night = limits.at(ns("2026-01-31T12:00:00Z")), limits.at(ns("2026-01-31T23:00:00Z"))
    assert (day.low_below_mg_dl, day.low_again_after_min, day.enabled("high")) == (75, 45, True)
    assert (night.low_below_mg_dl, night.low_again_after_min, night.enabled("high")) == (85, 45, False)


def test_a_rule_that_is_off_can_be_on_for_some_hours() -> None:
    limits = patient(
        CGM
        + limit("rapid_rise", "enabled = false")
        + limit("rapid_rise", 'from = "09:00"', 'to = "17:00"', "enabled = true")
        + limit("rapid_rise", 'from = "20:00"', 'to = "21:00"', "at_least_mg_dl_min = 4")
    ).limits

    assert [limits.at(ns(f"2026-01-31T{hour}:30:00Z")).enabled("rapid_rise") for hour in ("08", "09", "16", "20")] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("instant", "limit_mg_dl"),
    [
        ("2026-03-29T00:59:59Z", 85),  # 00:59:59 in winter time
        ("2026-03-29T01:00:00Z", 70),  # 02:00 in summer time: from 01:00 to 02:00 there is no time at all
        ("2026-10-25T00:59:59Z", 70),  # 01:59:59 in summer time
        ("2026-10-24T23:59:59Z", 85),  # 00:59:59
        ("2026-10-25T01:00:00Z", 70),  # 01:00 for the second time
        ("2026-10-25T00:00:00Z", 70),  # 01:00 for the first time
        ("2026-07-01T23:59:59Z", 85),
        ("2026-07-02T00:00:00Z", 70),
        ("2026-01-01T23:00:00Z", 70),  # an hour before midnight
        ("2026-07-01T23:00:00Z", 85),
    ],
)
def test_hours_are_those_of_the_clock_on_the_wall_in_summer_and_winter(instant: str, limit_mg_dl: float) -> None:
    text = CGM + limit("low", "below_mg_dl = 85", 'from = "00:00"', 'to = "01:00"')
    assert patient(text).limits.at(ns(instant)).low_below_mg_dl == limit_mg_dl


@pytest.mark.parametrize(
    ("lines", "line", "key", "said"),
    [
        (['from = "22:00"'], 14, "from", 'stands without "to"'),
        (['to = "22:00"'], 14, "to", 'stands without "from"'),
        (['from = "22:00"', 'to = "22:00"'], 15, "to", "leave both out for the whole day"),
        (['from = "24:00"', 'to = "07:00"'], 14, "from", 'from "00:00" to "23:59"'),
        (['from = "7:00"', 'to = "08:00"'], 14, "from", 'from "00:00" to "23:59"'),
        (["from = 07:00:00", 'to = "08:00"'], 14, "from", 'such as "22:00"'),
        (['form = "07:00"'], 14, "form", 'did you mean "from"?'),
        (['from_time = "07:00"'], 14, "from_time", "unknown key"),
    ],
)
def test_hours_that_make_no_sense_are_one_fault(lines: list[str], line: int, key: str, said: str) -> None:
    found = one_fault(CGM + limit("low", *lines))
    assert found[:2] == (line, f"patient[0].limit[0].{key}")
    assert said in found[2]


def test_hours_are_for_glucose_only() -> None:
    assert one_fault(CGM + limit("pause", 'from = "07:00"'))[:2] == (14, "patient[0].limit[0].from")


@pytest.mark.parametrize(
    ("first", "second", "at"),
    [
        (("22:00", "07:00"), ("06:59", "12:00"), "06:59"),
        (("06:59", "12:00"), ("22:00", "07:00"), "06:59"),
        (("22:00", "07:00"), ("23:00", "01:00"), "00:00"),
        (("10:00", "11:00"), ("09:00", "12:00"), "10:00"),
    ],
)
def test_two_limits_of_a_rule_at_once_are_a_fault(first: tuple[str, str], second: tuple[str, str], at: str) -> None:
    tables = [limit("low", f'from = "{start}"', f'to = "{stop}"') for start, stop in (first, second)]
    assert one_fault(CGM + "".join(tables)) == (
        18,
        "patient[0].limit[1].from",
        f'overlaps the hours of "low" on line 13, at {at} — no two limits of a rule may hold at once',
    )


def test_hours_that_only_touch_and_other_rules_are_no_fault() -> None:
    hours = [("low", "22:00", "07:00"), ("low", "07:00", "22:00"), ("high", "00:00", "12:00")]
    text = CGM + "".join(limit(rule, f'from = "{start}"', f'to = "{stop}"') for rule, start, stop in hours)
    assert len(patient(text).limits.hours) == 3


def test_two_limits_for_the_whole_day_are_a_fault() -> None:
    line, key, said = one_fault(CGM + limit("high") + limit("high", "above_mg_dl = 300"))
    assert (line, key) == (15, "patient[0].limit[1].rule")
    assert "line 13" in said
    assert "different hours" in said


def test_an_urgent_low_cannot_be_switched_off_for_an_hour_either() -> None:
    text = CGM + limit("urgent_low", 'from = "22:00"', 'to = "23:00"', "enabled = false")
    line, key, said = one_fault(text)
    assert (line, key) == (16, "patient[0].limit[0].enabled")
    assert "cannot be switched off" in said


minutes = st.integers(0, 1439)


@given(minutes, minutes.filter(bool), minutes)
def test_hours_hold_for_as_many_minutes_as_lie_between_their_ends(start: int, length: int, asked: int) -> None:
    hours = Hours("low", start, (start + length) % 1440)
    assert hours.hold(asked) is ((asked - start) % 1440 < length)
    assert sum(hours.hold(minute) for minute in range(1440)) == length


# -- time zones ------------------------------------------------------------------------------------------------------


ZONES = (
    "Europe/London",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Antarctica/Troll",
    "Etc/GMT+12",
    "UTC",
)
FIRST, LAST = ns("1980-01-01T00:00:00Z") // NS, ns("2080-01-01T00:00:00Z") // NS


@pytest.mark.parametrize("name", ZONES)
@given(second=st.integers(FIRST, LAST))
def test_local_time_is_that_of_the_zone_at_any_instant_of_a_century(name: str, second: int) -> None:
    there = datetime.fromtimestamp(second, UTC).astimezone(zoneinfo.ZoneInfo(name))
    assert local_time(name).minute_of_day(second * NS) == there.hour * 60 + there.minute


@pytest.mark.parametrize("name", ZONES)
def test_an_offset_changes_at_its_second(name: str) -> None:
    local, zone = local_time(name), zoneinfo.ZoneInfo(name)
    for changed_ns, _ in local.changes[1:]:
        for second in range(changed_ns // NS - 1, changed_ns // NS + 2):
            offset = datetime.fromtimestamp(second, UTC).astimezone(zone).utcoffset()
            assert offset == timedelta(seconds=local.offset_s(second * NS))


def test_before_the_table_its_first_offset_holds_and_without_one_it_is_utc() -> None:
    assert LocalTime("x", ((1000, 60), (2000, 120))).offset_s(0) == 60
    assert LocalTime().offset_s(0) == 0


@pytest.mark.parametrize("name", ["Europe/Lundon", "../etc/passwd", "/etc/localtime", "Europe", "x\\u0000y", "é"])
def test_an_unknown_zone_is_one_fault_at_its_line(name: str) -> None:
    line, key, said = one_fault(CGM.replace("Europe/London", name))
    assert (line, key) == (3, "agent.timezone")
    assert "is no time zone" in said


def test_a_zone_misspelt_is_guessed() -> None:
    assert 'did you mean "Europe/London"?' in one_fault(CGM.replace("Europe/London", "Europe/Lundon"))[2]


def test_a_machine_without_a_time_zone_database_is_said_to_have_none() -> None:
    code = (
        "import sys; sys.modules['tzdata'] = None\n"
        "from pathlib import Path; from agent.config import parse_config\n"
        f"parse_config({CGM!r}, Path('v.toml'), {{'HOME': '/root'}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONTZPATH": "", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert 'agent.timezone: "Europe/London" cannot be looked up: this machine has no time zone database' in done.stderr
    assert "install the package tzdata" in done.stderr


# -- what states are kept under --------------------------------------------------------------------------------------


def test_a_person_reads_the_same_in_every_process_and_in_one_line() -> None:
    code = (
        "from agent.alarms.limits import Hours, Limits; from agent.patient import Person\n"
        "from agent.time_zone import local_time\n"
        "off = frozenset({'low', 'high', 'pause', 'rapid_fall'})\n"
        "hours = (Hours('low', 0, 60),)\n"
        "print(repr(Person('p', (), Limits(disabled=off, hours=hours, local=local_time('Europe/London')))))"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for seed in ("1", "2", "3")
    }
    (only,) = shown
    assert "disabled=['high', 'low', 'pause', 'rapid_fall']" in only
    assert len(only) < 2000


def test_another_table_of_offsets_reads_differently() -> None:
    this, other = (Limits(hours=(Hours("low", 0, 60),), local=LocalTime("z", ((0, s),))) for s in (0, 3600))
    assert repr(Person("p", (), this)) != repr(Person("p", (), other))


def test_a_persons_days_begin_by_the_zone_of_the_agent() -> None:
    assert patient(CGM).limits == Limits(local=local_time("Europe/London"))


# -- the sensor, and what a person bears -----------------------------------------------------------------------------


def test_a_sensor_has_a_beginning_a_warm_up_and_an_end() -> None:
    text = CGM + "sensor_started = 2026-01-31T08:00:00+01:00\nwarm_up_min = 30\nlifetime_days = 10.5\n"
    life = SensorLife("g7", "glucose", ns("2026-01-31T07:00:00Z"), 30, 10.5)
    (source,) = patient(text).sources

    assert isinstance(source, MqttSource)
    assert source.sensor == life
    assert patient(text).glucose.sensor("g7", "glucose") == life
    assert patient(text).glucose.sensor("g6", "glucose") == SensorLife("g6", "glucose")


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2026-07-01T08:00:00", "2026-07-01T07:00:00Z"),
        ("2026-01-31T08:00:00", "2026-01-31T08:00:00Z"),
        ("2026-10-25T12:00:00", "2026-10-25T12:00:00Z"),
        ("2026-10-24T12:00:00", "2026-10-24T11:00:00Z"),
        ("2026-03-29T00:30:00", "2026-03-29T00:30:00Z"),
        ("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),
    ],
)
def test_a_time_without_an_offset_is_local(written: str, utc: str) -> None:
    assert patient(CGM + f"sensor_started = {written}\n").glucose.sensors[0].started_ns == ns(utc)


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ("warm_up_min = 30", "warm_up_min", "counts from sensor_started, which is not given"),
        ("lifetime_days = 10", "lifetime_days", "add sensor_started"),
        ("lifetime_days = 0", "lifetime_days", "from 0.5 to 400"),
        ('sensor_started = "2026-01-31"', "sensor_started", "expected a date and time such as 2026-01-31T08:00:00Z"),
        ("sensor_started = 2026-01-31", "sensor_started", "expected a date and time"),
        ("sensor_started = 1970-01-01T00:00:00Z", "sensor_started", "between 1980 and 2080"),
        ("sensor_started = 9999-12-31T23:59:59-23:59", "sensor_started", "between 1980 and 2080"),
    ],
)
def test_what_cannot_be_said_of_a_sensor_is_one_fault(line: str, key: str, said: str) -> None:
    found = one_fault(CGM + line + "\n")
    assert found[:2] == (12, f"patient[0].source[0].{key}")
    assert said in found[2]


def test_an_ecg_has_no_lifetime() -> None:
    text = CGM.replace('"cgm"', '"ecg"').replace("interval_s = 300", "rate_hz = 250") + "lifetime_days = 10\n"
    assert one_fault(text) == (
        12,
        "patient[0].source[0].lifetime_days",
        'is about glucose sensors, and this is "ecg" — remove it',
    )


def test_a_person_bears_so_many_false_alerts() -> None:
    assert patient(CGM).glucose == GlucoseSettings(1.0, 0.5, "on", (SensorLife("g7", "glucose"),))
    more = 'id = "p1"\nlow_alerts_per_day = 2.5\nurgent_low_alerts_per_day = 0.1\npersonal = "frozen"'
    settings = patient(CGM.replace('id = "p1"', more)).glucose
    assert (settings.low_alerts_per_day, settings.urgent_low_alerts_per_day, settings.personal) == (2.5, 0.1, "frozen")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("low_alerts_per_day = 0", "from 0.1 to 4"),
        ("low_alerts_per_day = 5", "from 0.1 to 4"),
        ("urgent_low_alerts_per_day = nan", "finite"),
        ('personal = "of"', 'did you mean "off"?'),
    ],
)
def test_what_a_person_bears_has_bounds(line: str, said: str) -> None:
    found = one_fault(CGM.replace('id = "p1"', f'id = "p1"\n{line}'))
    assert found[:2] == (6, f"patient[0].{line.partition(' ')[0]}")
    assert said in found[2]
