"""The fleet as a technician sees it: who needs somebody stands at the top."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from agent.fleet.member import Member, member_of, worst_first
from agent.fleet.table import summary, table
from agent.fleet.watcher import Watcher
from agent.mqtt import MqttConnection
from agent.uplink.evidence import rfc3339
from agent.uplink.messages import DeviceHealth, StatusMessage, UpdateHealth, offline_payload

NOW_NS = 1_800_000_000_000_000_000
S = 1_000_000_000


def status(agent: str = "bed-1", *, age_s: float = 5, **fields: object) -> StatusMessage:
    values: dict[str, object] = {"agent": agent, "state": "online", "version": "0.2.0", "every_s": 10.0}
    values["at"] = rfc3339(NOW_NS - round(age_s * S))
    return StatusMessage.model_validate(values | fields)


def device(battery: int | None) -> DeviceHealth:
    return DeviceHealth(patient="p", device=f"strap-{battery}", state="connected", battery_percent=battery)


def shown(members: list[Member]) -> str:
    console = Console(file=StringIO(), width=300, highlight=False)
    console.print(table(members))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({}, "good"),
        ({"age_s": 29}, "good"),
        ({"age_s": 31}, "stale"),
        ({"age_s": 31, "every_s": 60.0}, "good"),
        ({"age_s": 31, "every_s": None}, "good"),
        ({"at": None}, "stale"),
        ({"state": "offline", "at": None}, "silent"),
        ({"state": "degraded", "reasons": ["no input"]}, "degraded"),
        ({"update": UpdateHealth(ring="ward", state="failed", version="0.3.0")}, "failed"),
        ({"update": UpdateHealth(ring="ward", state="installing", version="0.3.0")}, "updating"),
        ({"devices": [device(80), device(4), device(None)]}, "low"),
        ({"disk_free_mb": 100}, "low"),
    ],
)
def test_an_agent_is_in_one_condition(fields: dict[str, object], condition: str) -> None:
    assert member_of(status(**fields), NOW_NS).condition == condition  # type: ignore[arg-type]


def test_two_hundred_agents_begin_with_the_worst() -> None:
    statuses = [status(f"bed-{k:03}", devices=[device(50)], backends={"vf": "cpu"}) for k in range(197)]
    statuses += [
        status("z-stale", age_s=7200),
        status("z-gone", state="offline", at=None),
        status("z-hot", state="degraded", reasons=["it is hot", "and more"]),
    ]
    members = worst_first(member_of(one, NOW_NS) for one in statuses)
    assert [one.id for one in members[:4]] == ["z-gone", "z-stale", "z-hot", "bed-000"]
    assert summary(members) == "200 agents: 1 silent, 1 stale, 1 degraded, 197 good; versions 0.2.0 (200)"
    lines = shown(members).splitlines()
    assert len(lines) == 201
    assert "2 h" in lines[2]
    assert "it is hot (and 1 more)" in lines[3]
    assert "50 % strap-50" in lines[4]


def test_what_an_agent_says_is_shown_and_never_obeyed() -> None:
    rude = status("[red]x", state="degraded", reasons=["[/] [link=http://x]y[/link] \x1b[2J"])
    text = shown([member_of(rude, NOW_NS)])
    assert "[red]x" in text
    assert "\x1b" not in text


def test_for_programs_everything_is_json() -> None:
    update = UpdateHealth(ring="ward", version="0.3.0", state="done")
    document = json.loads(json.dumps(member_of(status(update=update), NOW_NS).document()))
    assert document["update"]["ring"] == "ward"
    assert document["condition"] == "good"


def test_a_last_will_takes_nothing_away_of_what_was_known() -> None:
    watcher = Watcher(MqttConnection("127.0.0.1", 1, "nobody"))
    watcher.hear("bed-1", status(age_s=60).payload())
    watcher.hear("bed-1", offline_payload("bed-1"))
    member = member_of(watcher.statuses["bed-1"], NOW_NS, watcher.last_at["bed-1"])
    assert (member.condition, member.version, member.quiet_s) == ("silent", "0.2.0", 60.0)


def test_rubbish_is_told_and_the_topic_says_who_speaks() -> None:
    watcher = Watcher(MqttConnection("127.0.0.1", 1, "nobody"))
    for rubbish in (b"{", b"\xff", b"[]", b'{"agent": 3}'):
        watcher.hear("bad", rubbish)
    watcher.hear("bed-1", status("somebody-else").payload())
    assert watcher.unreadable == {"bad"}
    assert watcher.statuses["bed-1"].agent == "bed-1"
    watcher.hear("bed-1", b"")
    assert watcher.statuses == {}
