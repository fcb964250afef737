"""Devices on serial lines, over real terminal devices: torn, noisy, unplugged, restarted, asked again."""

from __future__ import annotations

import asyncio
import errno
import random
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serial_device import SerialDevice, frames_of

from agent.config.serial import SerialConfig
from agent.ingest import serial as serial_source
from agent.ingest import serial_port
from agent.ingest.ble import open_descriptors
from agent.ingest.decoder import Decoder, StreamConfig
from agent.ingest.device_status import DeviceStatus
from agent.ingest.serial import SerialSource
from agent.ingest.serial_port import PortError, find_port, open_port
from agent.ingest.source import Delivery
from agent.signal.align import Aligner
from firmware_bridge.chunk import Chunk, Gap, Stream
from firmware_bridge.frame import Frame, FrameFlag
from firmware_bridge.resend import ResendRequest
from firmware_bridge.serial_line import to_line

serial = pytest.importorskip("serial", reason="needs pyserial")

ECG = Stream("p1", "strap", "ecg", "ecg", "mV", 250.0)
ACC = Stream("p1", "strap", "acc", "acc", "g", 50.0, ("x", "y", "z"))
OTHER = Stream("p2", "band", "ecg", "ecg", "mV", 250.0)
T0_NS = 1_795_000_000 * 10**9


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(serial_port, "LONGEST_WAIT_S", 0.02)


def signal(stream: Stream, seconds: float) -> list[Chunk]:
    """Pieces of 200 ms whose every sample is another."""
    size, rng = round(stream.rate_hz / 5), np.random.default_rng(len(stream.key))
    return [
        Chunk(stream, T0_NS + k * 200_000_000, rng.normal(size=(size, len(stream.channels))).astype(np.float32), k)
        for k in range(round(seconds * 5))
    ]


class Heard:
    """A source that runs, and what it hands on."""

    def __init__(self, source: SerialSource) -> None:
        self.source = source
        self.deliveries: list[Delivery] = []

    async def take(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    @property
    def chunks(self) -> list[Chunk]:
        return [chunk for delivery in self.deliveries for chunk in delivery.chunks]

    @property
    def status(self) -> DeviceStatus:
        return self.source.devices()[0]

    async def until(self, condition: Callable[[Heard], object]) -> None:
        async with asyncio.timeout(20):
            while not condition(self):
                await asyncio.sleep(0.002)


@asynccontextmanager
async def hearing(*configs: SerialConfig) -> AsyncIterator[Heard]:
    heard = Heard(SerialSource(configs))
    task = asyncio.create_task(heard.source.run(heard.take))
    await asyncio.sleep(0)
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def plugged(link: Path, *streams: SerialConfig, kept: int = 8) -> AsyncIterator[tuple[SerialDevice, Heard]]:
    """A device at `link`, and a source that has opened its port."""
    device = SerialDevice(link, kept=kept)
    device.plug_in()
    try:
        async with hearing(*(streams or (SerialConfig(ECG, str(link), 3),))) as heard:
            await heard.until(lambda h: h.status.state == "connecting")
            yield device, heard
    finally:
        device.close()


def at_once(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def same(got: list[Chunk], sent: list[Chunk]) -> bool:
    return [(one.t0_ns, one.seq, one.samples.tobytes()) for one in got] == [
        (one.t0_ns, one.seq, one.samples.tobytes()) for one in sent
    ]


def test_what_is_sent_comes_out_and_the_journal_gives_it_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        sent = signal(ECG, 2)
        async with plugged(tmp_path / "port") as (device, heard):
            await device.send(*frames_of(sent))
            await heard.until(lambda h: len(h.chunks) == len(sent))
            assert same(heard.chunks, sent)
            assert (heard.status.state, heard.status.trouble) == ("connected", "")
            decoder = Decoder({("strap", "ecg"): StreamConfig(ECG, "cbor")})
            again = [decoder.decode(one.topic, one.content_type, one.payload)[0] for one in heard.deliveries]
            assert same(again, sent)

    at_once(scenario())


def test_torn_bytes_and_noise_between_frames_cost_no_frame(tmp_path: Path) -> None:
    async def scenario() -> None:
        rng, sent = random.Random(5), signal(ECG, 8)
        wire = b"half a line\0"
        for number, frame in enumerate(frames_of(sent)):
            noise = rng.randbytes(30).replace(b"\0", b"x") + b"\0" if number % 4 == 0 else b""
            wire += noise + b"\0" * rng.randrange(3) + to_line(frame)
        async with plugged(tmp_path / "port") as (device, heard):
            while wire:
                size = rng.randrange(1, 60)
                await device.write(wire[:size])
                wire = wire[size:]
                await asyncio.sleep(0)
            await heard.until(lambda h: len(h.chunks) == len(sent))
            assert same(heard.chunks, sent)
            assert heard.status.counts["malformed"] == 10
            assert heard.status.counts["torn at opening"] == 1

    at_once(scenario())


def test_pulled_out_in_the_middle_of_a_frame_and_plugged_in_elsewhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        sent = signal(ECG, 6)
        frames = frames_of(sent)
        async with plugged(tmp_path / "usb-strap-1", SerialConfig(ECG, f"{tmp_path}/usb-*", 3)) as (device, heard):
            await device.send(*frames[:5])
            await device.write(to_line(frames[5])[:40])
            await heard.until(lambda h: len(h.chunks) == 5)
            device.pull_out()
            await heard.until(lambda h: "no port fits" in h.status.words)
            assert heard.status.state == "searching"
            assert not heard.source.troubles()
            device.link = tmp_path / "usb-strap-2"
            device.plug_in()
            await heard.until(lambda h: h.status.state == "connecting")
            await device.send(*frames[3:5], *frames[20:])  # it sends what it has not got rid of, and some of it twice
            await heard.until(lambda h: len(h.chunks) == 5 + len(frames[20:]))
            assert same(heard.chunks, [*sent[:5], *sent[20:]])
            assert heard.status.counts["openings"] == 2
            assert heard.status.counts["duplicate"] == 2
            assert device.asked.empty()

    at_once(scenario())


def test_a_restarted_device_counts_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path / "port") as (device, heard):
            await device.send(*frames_of(signal(ECG, 1), boot_id=1), *frames_of(signal(ECG, 1), boot_id=2))
            await heard.until(lambda h: len(h.chunks) == 10)
            assert [(chunk.boot_id, chunk.seq) for chunk in heard.chunks] == [(b, k) for b in (1, 2) for k in range(5)]

    at_once(scenario())


def test_a_lost_frame_is_asked_for_and_takes_its_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        sent = signal(ECG, 4)
        frames = frames_of(sent)
        async with plugged(tmp_path / "port", kept=len(sent)) as (device, heard):
            await device.send(*frames[:6])
            device.make(*frames[6:8])
            await device.send(*frames[8:11])
            assert await device.asked.get() == ResendRequest(3, 1, 6, 2)
            await heard.until(lambda h: len(h.chunks) == 11)
            await device.send(*frames[11:])
            await heard.until(lambda h: len(h.chunks) == len(sent))
            aligner = Aligner()
            out = [piece for chunk in heard.chunks for piece in aligner.push(chunk)]
            assert not any(isinstance(piece, Gap) for piece in out)
            assert same([piece for piece in out if isinstance(piece, Chunk)], sent)
            assert heard.status.counts["frames asked for again"] == 2

    at_once(scenario())


def test_a_frame_on_the_devices_own_clock_is_dated_by_its_arrival(tmp_path: Path) -> None:
    async def scenario() -> None:
        ticks = iter(range(10**9, 10**15, 200_000_000))
        source = SerialSource(
            [SerialConfig(ECG, str(tmp_path / "port"), 3)], monotonic_ns=lambda: next(ticks), wall_ns=lambda: T0_NS
        )
        device = SerialDevice(tmp_path / "port")
        device.plug_in()
        heard = Heard(source)
        task = asyncio.create_task(source.run(heard.take))
        await heard.until(lambda h: h.status.state == "connecting")
        (utc,) = frames_of(signal(ECG, 0.2))
        fields = {name: getattr(utc, name) for name in Frame.__dataclass_fields__}
        await device.send(Frame(**{**fields, "flags": FrameFlag.NONE, "time_us": 4_200_000}))
        await heard.until(lambda h: h.chunks)
        assert heard.chunks[0].t0_ns == T0_NS - 196_000_000
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        device.close()

    at_once(scenario())


def test_one_port_serves_several_streams_and_patients_and_several_ports_one_source(tmp_path: Path) -> None:
    async def scenario() -> None:
        hub, single = SerialDevice(tmp_path / "hub"), SerialDevice(tmp_path / "single")
        hub.plug_in()
        single.plug_in()
        spot = Stream("p2", "thermometer", "skin", "temperature", "Cel", 0.0, interval_s=60.0)
        configs = (
            SerialConfig(ECG, str(hub.link), 3),
            SerialConfig(ACC, str(hub.link), 4),
            SerialConfig(OTHER, str(hub.link), 9),
            SerialConfig(spot, str(single.link), 0),
        )
        warm = Chunk(spot, T0_NS, np.array([[36.5]], np.float32), 0)
        async with hearing(*configs) as heard:
            await heard.until(lambda h: all(one.state == "connecting" for one in h.source.devices()))
            await hub.send(*frames_of(signal(ECG, 1)), *frames_of(signal(ACC, 1), stream_id=4))
            await hub.send(*frames_of(signal(OTHER, 1), stream_id=9), *frames_of(signal(OTHER, 1), stream_id=77))
            await single.send(*frames_of([warm], stream_id=0))
            await heard.until(lambda h: len(h.chunks) == 16)
            for stream in (ECG, ACC, OTHER):
                assert same([chunk for chunk in heard.chunks if chunk.stream == stream], signal(stream, 1))
            assert [chunk.samples.item() for chunk in heard.chunks if chunk.stream == spot] == [36.5]
            states = {(one.patient, one.device): one.state for one in heard.source.devices()}
            assert states == dict.fromkeys((("p1", "strap"), ("p2", "band"), ("p2", "thermometer")), "connected")
            assert heard.status.counts["unknown stream"] == 5
        hub.close()
        single.close()

    at_once(scenario())


def test_a_port_that_another_program_has_is_said_and_taken_when_it_is_free(tmp_path: Path) -> None:
    async def scenario() -> None:
        device = SerialDevice(tmp_path / "port")
        device.plug_in()
        other = serial.Serial(str(device.link), exclusive=True)
        async with hearing(SerialConfig(ECG, str(device.link), 3)) as heard:
            await heard.until(lambda h: h.status.state == "refused")
            assert "another program has" in heard.source.troubles()["serial_port"]
            other.close()
            await heard.until(lambda h: h.status.state == "connecting")
            assert not heard.source.troubles()
        device.close()

    at_once(scenario())


def test_a_pattern_that_two_ports_fit_is_refused(tmp_path: Path) -> None:
    for name in ("usb-a", "usb-b"):
        (tmp_path / name).touch()
    with pytest.raises(PortError, match=r"2 ports fit .*usb-\*: write one of .*usb-a, .*usb-b") as caught:
        find_port(f"{tmp_path}/usb-*")
    assert caught.value.state == "refused"
    (tmp_path / "usb-b").unlink()
    (tmp_path / "usb-c").symlink_to(tmp_path / "usb-a")
    assert find_port(f"{tmp_path}/usb-*") == f"{tmp_path}/usb-a"


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (OSError(errno.ENOENT, "no"), "searching", "is not there"),
        (OSError(errno.EACCES, "no"), "refused", "may not be read by this user"),
        (OSError(errno.EBUSY, "no"), "refused", "another program has"),
        (OSError(errno.ENOTTY, "no terminal"), "refused", "cannot be opened: .*no terminal"),
        (ValueError("baud"), "refused", "cannot be opened: baud"),
    ],
)
def test_why_a_port_does_not_open_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(PortError, match=said) as caught:
        open_port("/dev/ttyUSB9", 115200)
    assert caught.value.state == state


def test_without_pyserial_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(PortError, match=r"pip install 'vagus\[serial\]'"):
        open_port("/dev/ttyUSB9", 115200)


def test_a_file_that_is_no_terminal_is_refused_and_one_that_is_not_there_is_searched_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PortError) as caught:
        open_port(str(tmp_path / "file"), 115200)
    assert caught.value.state == "refused"
    with pytest.raises(PortError) as caught:
        open_port(str(tmp_path / "nothing"), 115200)
    assert caught.value.state == "searching"


def test_a_line_that_falls_silent_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "patience_s", lambda _stream: 0.05)

    async def scenario() -> None:
        async with plugged(tmp_path / "port") as (device, heard):
            await device.send(*frames_of(signal(ECG, 1)))
            await heard.until(lambda h: h.status.counts.get("openings", 0) >= 3)
            assert heard.status.counts["silences"] >= 2
            await device.send(*frames_of(signal(ECG, 1), boot_id=2))
            await heard.until(lambda h: len(h.chunks) == 10)

    at_once(scenario())


def test_a_stream_that_stays_away_while_others_come_is_somebodys_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_port, "patience_s", lambda _stream: 0.3)

    async def scenario() -> None:
        port = str(tmp_path / "port")
        async with plugged(tmp_path / "port", SerialConfig(ECG, port, 3), SerialConfig(ACC, port, 4)) as (
            device,
            heard,
        ):
            for frame in frames_of(signal(ECG, 600)):
                await device.send(frame)
                await asyncio.sleep(0.01)
                if heard.status.trouble:
                    break
            assert (heard.status.state, heard.status.trouble) == (
                "connected",
                "it sends, but no acc: its streams have the numbers 3",
            )

    at_once(scenario())


def test_a_frame_that_does_not_fit_the_config_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        slower = replace(ECG, rate_hz=125.0)
        async with plugged(tmp_path / "port", SerialConfig(slower, str(tmp_path / "port"), 3)) as (device, heard):
            await device.send(*frames_of(signal(ECG, 1)))
            await heard.until(lambda h: "payload says 250 Hz, configuration says 125 Hz" in h.status.trouble)
            await device.send(*frames_of(signal(slower, 1), boot_id=2))
            await heard.until(lambda h: len(h.chunks) == 5)
            assert heard.status.trouble == ""
            assert heard.status.counts["malformed"] == 5

    at_once(scenario())


def test_gibberish_asks_about_the_speed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path / "port") as (device, heard):
            rng = random.Random(2)
            for _ in range(80):
                await device.write(rng.randbytes(40).replace(b"\0", b"x") + b"\0")
            await heard.until(lambda h: "is 115200 the baud" in h.status.trouble)
            await device.send(*frames_of(signal(ECG, 1)))
            await heard.until(lambda h: len(h.chunks) == 5)
            assert heard.status.trouble == ""

    at_once(scenario())


def test_a_cable_with_a_loose_contact_leaks_no_descriptor(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path / "port") as (device, heard):
            before = open_descriptors()
            for opening in range(2, 32):
                device.pull_out()
                device.plug_in()
                await heard.until(lambda h, n=opening: h.status.counts["openings"] == n)
                await device.send(*frames_of(signal(ECG, 0.2), boot_id=opening))
                await heard.until(lambda h, n=opening: len(h.chunks) == n - 1)
            assert open_descriptors() == before

    at_once(scenario())


def test_every_malformed_line_is_counted_and_none_does_harm(tmp_path: Path) -> None:
    async def scenario() -> None:
        rng, sent = random.Random(8), signal(ECG, 40)
        lines = [to_line(frame) for frame in frames_of(sent)]
        damaged = 0
        async with plugged(tmp_path / "port") as (device, heard):
            for line in lines:
                for _ in range(500):
                    spoilt = bytearray(line[: rng.randrange(2, len(line) - 1)].replace(b"\0", b"x"))
                    spoilt[rng.randrange(len(spoilt))] = rng.randrange(1, 256)
                    await device.write(spoilt + b"\0")
                    damaged += 1
                await device.write(line)
            await heard.until(lambda h: len(h.chunks) == len(sent))
            counts = heard.status.counts
            assert counts["malformed"] + counts["torn at opening"] == damaged == 100_000
            assert same(heard.chunks, sent)
            assert "faults" not in counts

    at_once(scenario())


def test_a_receiver_that_is_busy_costs_the_oldest_and_that_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_source, "BUFFER_CHUNKS", 4)

    async def scenario() -> None:
        free = asyncio.Event()
        device = SerialDevice(tmp_path / "port")
        device.plug_in()
        source = SerialSource([SerialConfig(ECG, str(device.link), 3)])
        heard = Heard(source)

        async def busy(delivery: Delivery) -> None:
            await free.wait()
            await heard.take(delivery)

        task = asyncio.create_task(source.run(busy))
        await heard.until(lambda h: h.status.state == "connecting")
        await device.send(*frames_of(signal(ECG, 4)))
        await heard.until(lambda _: source.counters()["serial chunks lost"] >= 15)
        free.set()
        await heard.until(lambda h: len(h.chunks) + source.counters()["serial chunks lost"] == 20)
        assert [chunk.seq for chunk in heard.chunks][-4:] == [16, 17, 18, 19]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        device.close()

    at_once(scenario())


def test_before_it_runs_and_after_its_devices_are_stopped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plugged(tmp_path / "port") as (_, heard):
            pass
        assert [one.state for one in heard.source.devices()] == ["stopped"]

    assert [one.state for one in SerialSource([SerialConfig(ECG, "/dev/x", 3)]).devices()] == ["stopped"]
    at_once(scenario())
