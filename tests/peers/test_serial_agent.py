"""A device on a serial line, the real agent as its own process, a real broker: killed, unplugged, held by others."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serial_device import SerialDevice, frames_of
from test_agent import AgentProcess, Subscriber, Transition, demo_signal, heard_all, listening

from agent.broker import LocalBroker
from agent.engine import Engine
from agent.inference import shipped_models
from agent.patient import Person
from firmware_bridge.chunk import Chunk

serial = pytest.importorskip("serial", reason="needs pyserial")

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

CONFIG = """
[agent]
id = "ward"
state_dir = "{folder}/state"
time = "stream"
mains_hz = 0
[mqtt]
host = "127.0.0.1"
port = {port}
[[patient]]
id = "demo"
[[patient.source]]
type = "serial"
port = "{folder}/usb-strap*"
stream = 3
device = "simulator"
kind = "ecg"
rate_hz = 250
channels = ["II"]
"""


class WiredAgent(AgentProcess):
    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        (folder / "agent.toml").write_text(CONFIG.format(folder=folder, port=port))


def telling(played: Sequence[Chunk]) -> list[tuple[int, list[Transition]]]:
    """(how many chunks, what is to be heard by then) wherever the last chunk of them leads to something.

    Once that is heard all of them are on disk.
    """
    engine = Engine([Person("demo", (played[0].stream,))], shipped_models())
    heard: list[Transition] = []
    found = []
    for number, chunk in enumerate(played, 1):
        events = [(event.alert_id, event.phase.value) for event in engine.step([chunk])]
        heard += events
        if any(phase in {"start", "end"} for _, phase in events):
            found.append((number, [one for one in heard if one[1] in {"start", "end"}]))
    return found


def state_of_the_device(nurse: Subscriber) -> str:
    return nurse.statuses[-1]["devices"][0]["state"] if nurse.statuses and nurse.statuses[-1]["devices"] else ""


def test_kills_in_between_lose_nothing_and_repeat_nothing(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = [replace(chunk, boot_id=1) for chunk in demo_signal()]
        frames, stations = frames_of(played), telling(played)
        device = SerialDevice(tmp_path / "usb-strap-1")
        device.plug_in()
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            listening(broker.port) as nurse,
            WiredAgent(tmp_path, broker.port) as agent,
        ):
            sent = 0
            for upto, wanted in (stations[len(stations) // 2], stations[-1]):
                await device.opened.wait()
                await device.send(*frames[sent:upto])
                await nurse.until(heard_all(wanted), f"what {upto} chunks lead to")
                assert set(nurse.transitions()) == set(wanted)
                sent = upto
                await agent.kill()
                device.opened.clear()
                await agent.start()
            await device.opened.wait()
            assert await agent.stop() == 0
        device.close()

    run(scenario())


def test_a_cable_pulled_out_is_told_and_goes_on_where_it_is_plugged_in_again(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = [replace(chunk, boot_id=1) for chunk in demo_signal()]
        frames, stations = frames_of(played), telling(played)
        (first, wanted), (_, all_of_it) = stations[0], stations[-1]
        device = SerialDevice(tmp_path / "usb-strap-1")
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            listening(broker.port) as nurse,
            WiredAgent(tmp_path, broker.port),
        ):
            await nurse.until(lambda n: state_of_the_device(n) == "searching", "a device that is not there")
            device.plug_in()
            await device.opened.wait()
            await device.send(*frames[:first])
            await nurse.until(heard_all(wanted), "the first alert")
            device.pull_out()
            device.opened.clear()
            device.link = tmp_path / "usb-strap-2"
            device.plug_in()
            await device.opened.wait()
            await device.send(*frames[first:])
            await nurse.until(heard_all(all_of_it), "all alerts")
            assert set(nurse.transitions()) == set(all_of_it)
        device.close()

    run(scenario())


def test_a_port_that_another_program_holds_is_an_alarm_until_it_is_free(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        device = SerialDevice(tmp_path / "usb-strap-1")
        device.plug_in()
        other = serial.Serial(str(device.link), exclusive=True)
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            listening(broker.port) as nurse,
            WiredAgent(tmp_path, broker.port) as agent,
        ):
            await nurse.until(lambda n: ("serial_port", "start") in phases(n), "the alarm")
            said = next(alert.data for alert in nurse.alerts if alert.data.rule == "serial_port")
            assert "another program has" in said.text
            assert said.patient == "ward"
            other.close()
            await device.opened.wait()
            await nurse.until(lambda n: ("serial_port", "end") in phases(n), "its end")
            assert await agent.stop() == 0
        device.close()

    run(scenario())


def phases(nurse: Subscriber) -> set[tuple[str, str]]:
    return {(alert.data.rule, alert.data.phase.value) for alert in nurse.alerts}
