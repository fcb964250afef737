"""What the machine says of its heat and supply, on trees laid out like /sys; and what the agent makes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import machine
from agent.power import COOLER_C, FALL_S, LOOK_S, RISE_S, Heat, Power, PowerWatch, Reading
from agent.spare import DISPLAY, EXPLANATION, OPINION, Economy, Spare

THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
COOL = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "51540",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
    "sys/class/thermal/cooling_device0/cur_state": "0",
    "sys/class/thermal/cooling_device1/type": "pwm-fan",
    "sys/class/thermal/cooling_device1/cur_state": "3",
    "sys/class/hwmon/hwmon1/name": "rpi_volt",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0",
    THROTTLED: "50000",
}
"""A Pi in good order, which had its troubles since the start."""
UPS = {
    "sys/class/power_supply/ups/type": "Battery",
    "sys/class/power_supply/ups/status": "Discharging",
    "sys/class/power_supply/ups/capacity": "64",
    "sys/class/power_supply/mains/type": "Mains",
    "sys/class/power_supply/mains/online": "0",
}


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def after(power: Power, reading: Reading, *, s: float, from_s: float = 1000.0) -> Power:
    """The machine has said the same for so long."""
    now_s = from_s
    while now_s <= from_s + s:
        power.push(reading, now_s)
        now_s += LOOK_S
    return power


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_cool_pi_on_a_good_supply(tmp_path: Path) -> None:
    assert Reading.of(lay_out(tmp_path, COOL)) == Reading(celsius=51.54)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({THROTTLED: "50005"}, {"slowed": True, "under_voltage": True}),
        ({THROTTLED: "8"}, {"slowed": True}),
        ({THROTTLED: "0x1"}, {"under_voltage": True}),
        ({"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1"}, {"under_voltage": True}),
        ({"sys/class/thermal/cooling_device0/cur_state": "2"}, {"slowed": True}),
        ({"sys/class/thermal/thermal_zone1/type": "gpu", "sys/class/thermal/thermal_zone1/temp": "99000"}, {}),
    ],
)
def test_what_a_pi_in_trouble_says(tmp_path: Path, changed: dict[str, str], expected: dict[str, bool]) -> None:
    assert Reading.of(lay_out(tmp_path, COOL | changed)) == replace(Reading(celsius=51.54), **expected)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (True, 64)),
        ({"sys/class/power_supply/mains/online": "1"}, (False, 64)),
        ({"sys/class/power_supply/ups/status": "Charging"}, (False, 64)),
        ({"sys/class/power_supply/ups/capacity": "?"}, (True, None)),
        ({"sys/class/power_supply/ups/scope": "Device"}, (None, None)),
        (
            {
                "sys/class/power_supply/second/type": "Battery",
                "sys/class/power_supply/second/status": "Full",
                "sys/class/power_supply/second/capacity": "9",
            },
            (True, 9),
        ),
    ],
)
def test_what_a_machine_with_a_battery_says(
    tmp_path: Path, changed: dict[str, str], expected: tuple[bool | None, int | None]
) -> None:
    assert machine.battery(lay_out(tmp_path, UPS | changed)) == expected


def test_a_machine_that_says_nothing_is_a_cool_one_on_the_mains(tmp_path: Path) -> None:
    assert Reading.of(tmp_path) == Reading()
    assert after(Power(75, 82), Reading(), s=3600).spare is Spare.NOTHING


def test_the_machine_here_can_be_asked() -> None:
    assert Reading.of(Path("/"))


# -- what is made of it ------------------------------------------------------------------------------------------------


def test_heat_rises_after_a_while_and_falls_later_and_lower() -> None:
    power = Power(75, 82)
    after(power, Reading(celsius=90), s=RISE_S - LOOK_S)
    assert power.heat is Heat.NORMAL
    after(power, Reading(celsius=76), s=RISE_S + LOOK_S, from_s=2000)
    assert (power.heat, power.spare, power.alarms) == (Heat.WARM, Spare.EXPLANATIONS, {})
    assert "warm" in power.reasons[0]
    after(power, Reading(celsius=83), s=RISE_S, from_s=3000)
    assert (power.heat, power.spare, list(power.alarms)) == (Heat.HOT, Spare.SECOND_OPINIONS, ["machine_hot"])
    after(power, Reading(celsius=82 - COOLER_C), s=3600, from_s=4000)
    assert power.heat is Heat.HOT
    after(power, Reading(celsius=70), s=FALL_S - LOOK_S, from_s=8000)
    assert power.heat is Heat.HOT
    after(power, Reading(celsius=72), s=FALL_S, from_s=8000 + FALL_S)
    assert power.heat is Heat.WARM
    after(power, Reading(celsius=40), s=FALL_S, from_s=9000)
    assert (power.heat, power.spare, power.reasons) == (Heat.NORMAL, Spare.NOTHING, [])


def test_a_machine_that_is_held_back_for_its_heat_is_hot_whatever_its_sensor_says() -> None:
    assert after(Power(75, 82), Reading(celsius=60, slowed=True), s=RISE_S).heat is Heat.HOT
    assert after(Power(75, 82), Reading(slowed=True), s=RISE_S).heat is Heat.HOT


def test_a_sensor_that_falls_asleep_does_not_leave_the_machine_hot_for_ever() -> None:
    power = after(Power(75, 82), Reading(celsius=90), s=RISE_S)
    assert after(power, Reading(), s=FALL_S, from_s=2000).heat is Heat.NORMAL


def test_a_dip_of_the_voltage_is_on_for_a_while_and_then_over() -> None:
    power = Power(75, 82)
    power.push(Reading(under_voltage=True), 1000)
    assert (list(power.alarms), power.spare) == (["under_voltage"], Spare.EXPLANATIONS)
    power.push(Reading(), 1000 + FALL_S - 1)
    assert power.under_voltage
    power.push(Reading(), 1000 + FALL_S)
    assert (power.alarms, power.spare) == ({}, Spare.NOTHING)


def test_a_battery_that_wavers_at_the_limit_is_one_alarm() -> None:
    power = Power(75, 82)
    said = []
    for percent in (60, 16, 15, 16, 19, 15, 20, 16, 15):
        power.push(Reading(on_battery=True, battery_percent=percent), 1000)
        said.append("machine_battery" in power.alarms)
    assert said == [False, False, True, True, True, True, False, False, True]
    power.push(Reading(on_battery=False, battery_percent=5), 1000)
    assert (power.alarms, power.spare) == ({}, Spare.NOTHING)


def test_on_its_battery_a_machine_says_less_and_raises_nothing() -> None:
    power = after(Power(75, 82), Reading(on_battery=True, battery_percent=90), s=3600)
    assert (power.spare, power.reasons) == (Spare.DISPLAY, [])


@given(st.lists(st.tuples(st.one_of(st.none(), st.floats(-60, 150)), st.booleans(), st.floats(0, 120)), max_size=60))
def test_any_course_of_heat_keeps_the_modes_apart_in_time(course: list[tuple[float | None, bool, float]]) -> None:
    power, now_s, changed_s = Power(75, 82), 0.0, -1e9
    for celsius, slowed, later_s in course:
        now_s += later_s
        before = power.heat
        power.push(Reading(celsius=celsius, slowed=slowed), now_s)
        if power.heat != before:
            assert now_s - changed_s >= RISE_S
            changed_s = now_s
        assert ("machine_hot" in power.alarms) == (power.heat is Heat.HOT)


# -- watched -----------------------------------------------------------------------------------------------------------


def test_the_watch_asks_for_what_the_machine_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.power.LOOK_S", 0.001)
    monkeypatch.setattr("agent.power.RISE_S", 0.0)
    lay_out(tmp_path, COOL | {"sys/class/thermal/thermal_zone0/temp": "90000"})
    economy = Economy()

    async def watch() -> None:
        changed = asyncio.Event()
        task = asyncio.create_task(PowerWatch(Power(75, 82), economy, tmp_path).run(changed.set))
        async with asyncio.timeout(10):
            await changed.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(watch())
    assert economy.undone == {DISPLAY, EXPLANATION, OPINION}
