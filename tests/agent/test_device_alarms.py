"""What is wrong with a wearable is an alarm on its wearer, what is wrong with the radio one on the agent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.alarms.states import urgency
from agent.device_alarms import DeviceAlarms
from agent.ingest.device_status import DeviceStatus
from agent.uplink.messages import vital_message
from agent.uplink.topics import Topics
from agent.vitals import device_vitals

STRAP = DeviceStatus("anna", "h10", "connected", "sends", rssi_dbm=-61, battery_percent=80)


@dataclass
class Radio:
    """A source with these wearables and troubles."""

    statuses: list[DeviceStatus] = field(default_factory=list)
    alarms: dict[str, str] = field(default_factory=dict)

    def devices(self) -> list[DeviceStatus]:
        return self.statuses

    def troubles(self) -> dict[str, str]:
        return self.alarms


def test_all_well_is_no_alarm() -> None:
    assert DeviceAlarms("ward").wanted([Radio([STRAP])]) == {}


def test_the_radio_is_the_agents_and_the_device_its_wearers() -> None:
    unpaired = replace(STRAP, state="refused", trouble="has forgotten this machine: pair it again")
    wanted = DeviceAlarms("ward").wanted([Radio([unpaired], {"bluetooth": "No Bluetooth adapter"})])
    assert wanted == {
        ("ward", "bluetooth"): "No Bluetooth adapter",
        ("anna", "device_trouble:h10"): "h10: has forgotten this machine: pair it again",
    }
    assert {urgency(rule)[0].value for _, rule in wanted} == {"technical"}


def test_a_battery_that_wavers_at_the_limit_is_one_alarm() -> None:
    alarms = DeviceAlarms("ward")
    levels = [100, 16, 15, 16, 19, 14, None, 20, 16, 15]
    on = [bool(alarms.wanted([Radio([replace(STRAP, battery_percent=level)])])) for level in levels]
    assert on == [False, False, True, True, True, True, True, False, False, True]


def test_two_wearers_of_the_same_kind_are_told_apart() -> None:
    low = replace(STRAP, battery_percent=3)
    wanted = DeviceAlarms("ward").wanted([Radio([low, replace(low, patient="ben", battery_percent=50)])])
    assert list(wanted) == [("anna", "device_battery:h10")]


def test_battery_and_strength_are_shown_while_it_is_connected() -> None:
    topics = Topics("ward")
    sent = [vital_message(one.message, topics, one.retained_s) for one in device_vitals(STRAP, 10**18)]
    assert [(one.topic.removeprefix("vagus/v1/ward/vital/"), one.retain) for one in sent] == [
        ("anna/battery_h10", True),
        ("anna/rssi_h10", False),
    ]
    assert list(device_vitals(replace(STRAP, state="searching"), 10**18)) == []
