"""What a person may count on: a recording over the air is the recording, a hole is a hole, nothing stale alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from scipy.signal import resample_poly

from agent.alarms.alert import AlertEvent, Phase
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.ble import Clocks
from agent.ingest.ble_bumble import bumble_backend
from agent.ingest.replay import record_chunks
from agent.ingest.wfdb import read_record
from agent.patient import Person
from agent.signal.align import Aligner
from firmware_bridge.chunk import NS_PER_S, Chunk, Gap
from firmware_bridge.emulator import Air, FrameFault, GlucoseSensor, HeartRateStrap, Played, PolarH10, Repeated
from firmware_bridge.emulator.polar_h10 import SWITCHED_ON_NS
from tests.peers.ble_house import House, LoopTime, fly, house, now_ns, wall_ns, wearable

H10, CGM = "A0:9E:1A:00:00:01", "F0:11:22:33:44:02"
RATE_HZ = 130
MINUTES = 10
NAMED_UV = np.arange(-20_000, 20_000)
"""Every sample says which one it is."""


def h10_of(air: Air, address: str = H10, **more: Any) -> PolarH10:
    return PolarH10(air, address, time=LoopTime(SWITCHED_ON_NS), **more)


def cgm_of(air: Air, mg_dl: Sequence[float]) -> GlucoseSensor:
    return GlucoseSensor(air, CGM, time=LoopTime(wall_ns()), mg_dl=mg_dl, session_start_ns=wall_ns())


def samples_of(chunks: Sequence[Chunk]) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in chunks])[:, 0]


def recorded_uv(mitdb: Path) -> np.ndarray:
    """Ten minutes of record 208's first lead at 130 Hz, in whole µV, as a strap has them."""
    record = read_record(mitdb / "208", 0, 360 * 60 * MINUTES)
    return np.rint(resample_poly(record.signals[:, 0].astype(float) * 1000, 13, 36)).astype(int)


def replayed(folder: Path, counts_uv: np.ndarray, t0_ns: int) -> list[Chunk]:
    """The same as a WFDB recording, read by the agent's own reader."""
    wfdb = pytest.importorskip("wfdb", reason="the wfdb package is not installed")
    wfdb.wrsamp(
        "resampled", RATE_HZ, ["mV"], ["MLII"], d_signal=counts_uv[:, None], fmt=["16"], adc_gain=[1000.0],
        baseline=[0], write_dir=str(folder),
    )  # fmt: skip
    return list(record_chunks(folder / "resampled", t0_ns=t0_ns))


def alerts(chunks: Iterable[Chunk], like: Chunk) -> list[tuple[str, str, int, int, str]]:
    """What the engine says of the chunks, as those of the stream of `like`."""
    engine = Engine([Person(like.stream.patient, (like.stream,))], shipped_models())
    events = [event for chunk in chunks for event in engine.step([replace(chunk, stream=like.stream)])]
    return [(event.rule, event.phase.value, event.onset_ns, event.at_ns, event.text) for event in events]


@pytest.mark.recordings
def test_record_208_over_the_air_is_record_208(recordings_dir: Callable[[str], Path], tmp_path: Path) -> None:
    counts_uv = recorded_uv(recordings_dir("mitdb"))
    heard: list[Chunk] = []

    async def scenario() -> None:
        air = Air()
        async with h10_of(air, ecg_uv=Played(counts_uv)) as strap, house(air, wearable("polar-h10", H10)) as inside:
            await strap.ended.wait()
            await asyncio.sleep(1)
            heard.extend(inside.chunks("ecg"))

    fly(scenario())
    reference = replayed(tmp_path, counts_uv, heard[0].t0_ns)
    assert len(counts_uv) == RATE_HZ * 60 * MINUTES
    np.testing.assert_array_equal(samples_of(heard), samples_of(reference))
    said = alerts(heard, heard[0])
    assert said == alerts(reference, heard[0])
    assert said


def test_90_s_out_of_range_are_one_hole_of_exactly_the_samples_missed() -> None:
    async def scenario() -> None:
        air = Air()
        async with h10_of(air, ecg_uv=Played(NAMED_UV)) as strap, house(air, wearable("polar-h10", H10)) as inside:
            await inside.until(lambda one: len(one.chunks("ecg")) > 40)
            before = len(inside.chunks("ecg"))
            await strap.go_away()
            await asyncio.sleep(90)
            assert len(inside.chunks("ecg")) == before
            await strap.come_back()
            back_ns = wall_ns()
            await inside.until(lambda one: len(one.chunks("ecg")) > before, 10)
            assert inside.chunks("ecg")[before].end_ns - back_ns < 10 * NS_PER_S
            await inside.until(lambda one: len(one.chunks("ecg")) > before + 40)
            heard = inside.chunks("ecg")

        numbers = np.rint(1000 * samples_of(heard).astype(float)).astype(int)
        missing = np.diff(numbers) - 1
        assert np.count_nonzero(missing) == 1
        aligner = Aligner()
        pieces = [piece for chunk in heard for piece in aligner.push(chunk)] + aligner.flush()
        (gap,) = [piece for piece in pieces if isinstance(piece, Gap)]
        assert round((gap.end_ns - gap.start_ns) * RATE_HZ / NS_PER_S) == missing.max() > 89 * RATE_HZ
        assert abs((gap.end_ns - gap.start_ns) - missing.max() * NS_PER_S / RATE_HZ) < NS_PER_S / RATE_HZ / 100

    fly(scenario())


def test_what_comes_twice_or_out_of_order_is_taken_once() -> None:
    async def scenario() -> None:
        air = Air()
        async with h10_of(air, ecg_uv=Played(NAMED_UV)) as strap, house(air, wearable("polar-h10", H10)) as inside:
            strap.faults.by_chance({FrameFault.DUPLICATE: 0.2, FrameFault.REORDER: 0.05, FrameFault.LOSE: 0.05})
            await inside.until(lambda one: len(one.chunks("ecg")) > 300, 300)
            numbers = np.rint(1000 * samples_of(inside.chunks("ecg")).astype(float)).astype(int)
            counts = inside.status().counts
        assert len(set(numbers.tolist())) == len(numbers)
        assert counts["duplicate"] > 20
        assert counts["connections"] == 1

    fly(scenario())


@pytest.mark.parametrize("step_s", [3600, -3600, 1, -1])
def test_a_step_of_the_wall_clock_loses_and_doubles_no_sample(step_s: int) -> None:
    stepped_ns = 0

    async def scenario() -> None:
        nonlocal stepped_ns
        air = Air()
        clocks = Clocks(now_ns, lambda: wall_ns() + stepped_ns)
        config = wearable("polar-h10", H10)
        async with h10_of(air, ecg_uv=Played(NAMED_UV)), house(air, config, clocks=clocks) as inside:
            await inside.until(lambda one: len(one.chunks("ecg")) > 40)
            stepped_ns = step_s * NS_PER_S
            await inside.until(lambda one: len(one.chunks("ecg")) > 80)
            heard = inside.chunks("ecg")
        numbers = np.rint(1000 * samples_of(heard).astype(float)).astype(int)
        assert set(np.diff(numbers).tolist()) == {1}
        aligner = Aligner()
        pieces = [piece for chunk in heard for piece in aligner.push(chunk)] + aligner.flush()
        kept = sum(len(piece.samples) for piece in pieces if isinstance(piece, Chunk))
        assert kept == len(numbers)
        assert heard[-1].end_ns - wall_ns() < (max(step_s, 0) + 2) * NS_PER_S

    fly(scenario())


def test_a_glucose_sensor_three_hours_away_is_caught_up_with_and_nothing_stale_alarms() -> None:
    # Falls to 45 mg/dL an hour after it has gone, stays there for an hour, and is well when it comes back.
    knots = [(0, 110), (36, 110), (42, 45), (54, 45), (60, 110), (120, 110)]
    mg_dl = np.interp(np.arange(120), *zip(*knots, strict=True)) + 3 * np.sin(np.arange(120))
    events: list[AlertEvent] = []

    async def watch(inside: House) -> None:
        """As the worker does: what has come, with the wall clock, and time passes where nothing comes."""
        config = wearable("cgm", CGM)
        engine = Engine([Person("p1", config.streams)], shipped_models())
        seen = 0
        while True:
            await asyncio.sleep(5)
            fresh = inside.chunks()[seen:]
            seen += len(fresh)
            events.extend(engine.step(fresh, wall_ns()))

    async def scenario() -> None:
        air = Air()
        sensor = cgm_of(air, mg_dl.round().tolist())
        async with sensor, house(air, wearable("cgm", CGM)) as inside:
            watching = asyncio.create_task(watch(inside))
            await asyncio.sleep(120 * 60 - 30)
            await sensor.go_away()
            await asyncio.sleep(180 * 60)
            before = len(inside.chunks())
            await sensor.come_back()
            await asyncio.sleep(20 * 60)
            watching.cancel()
            times_ns = [chunk.t0_ns for chunk in inside.chunks()]
            assert before == 24
            assert np.diff(times_ns).tolist() == [300 * NS_PER_S] * (len(times_ns) - 1)
            assert len(times_ns) >= 24 + 36 + 3
            assert inside.status().state == "connected"

    fly(scenario())
    started = [event.rule for event in events if event.phase is Phase.START and not event.late]
    assert started == ["stream_silent:cgm/glucose"]
    ended = [event.rule for event in events if event.phase is Phase.END and not event.late]
    assert ended == ["stream_silent:cgm/glucose"]
    assert {"low", "urgent_low"} <= {event.rule for event in events if event.late}


def test_a_cache_that_hides_what_an_update_brought_is_forgotten() -> None:
    async def scenario() -> None:
        air = Air()
        plain = bumble_backend(air.adapter)
        strap = h10_of(air, ecg_uv=Repeated(NAMED_UV))
        everything = strap.services()
        strap.services = lambda: HeartRateStrap.services(strap)  # type: ignore[method-assign]
        backend = replace(plain, client=caching(plain.client))
        async with strap, house(air, wearable("polar-h10", H10), backend=backend) as inside:
            status = await inside.until_status(lambda one: one.state == "refused")
            assert "it lacks what a Polar H10 has" in status.trouble
            strap.services = lambda: everything  # type: ignore[method-assign]
            await strap.update_firmware()
            await inside.until(lambda one: bool(one.chunks("ecg")), 1200)
            assert inside.status().trouble == ""
            assert inside.status().counts["services forgotten"] >= 1

    fly(scenario())


def caching(client: type[Any]) -> type[Any]:
    """A client that, as BlueZ does, asks a device only once what it has, until the device is forgotten."""
    cache: dict[str, Any] = {}

    class CachingClient(client):  # type: ignore[misc]
        async def connect(self, pair: bool, **more: Any) -> None:
            await super().connect(pair, **more)
            self.services = cache.setdefault(self.address, self.services)

        async def unpair(self) -> None:
            cache.pop(self.address, None)
            await super().unpair()

    return CachingClient


def test_five_wearables_of_three_people_at_once() -> None:
    async def scenario() -> None:
        air = Air()
        straps = [f"F0:11:22:33:44:1{number}" for number in range(2)]
        h10s = [f"A0:9E:1A:00:00:1{number}" for number in range(2)]
        configs = [
            wearable("polar-h10", h10s[0], "p1", 'device = "belt-1"'),
            wearable("cgm", CGM, "p1"),
            wearable("polar-h10", h10s[1], "p2", 'device = "belt-2"'),
            wearable("heart-rate-strap", straps[0], "p2", 'device = "strap-2"'),
            wearable("heart-rate-strap", straps[1], "p3", 'device = "strap-3"'),
        ]
        async with AsyncExitStack() as worn:
            for address in h10s:
                await worn.enter_async_context(h10_of(air, address, ecg_uv=Repeated(NAMED_UV)))
            for address in straps:
                await worn.enter_async_context(HeartRateStrap(air, address, time=LoopTime()))
            await worn.enter_async_context(cgm_of(air, [100.0] * 50))
            inside = await worn.enter_async_context(house(air, *configs))
            await asyncio.sleep(600)
            owners = {(chunk.stream.patient, chunk.stream.device, chunk.stream.channel) for chunk in inside.chunks()}
            states = {one.device: one.state for one in inside.source.devices()}
            troubles = [one.trouble for one in inside.source.devices() if one.device != "cgm"]  # it asks the real clock
            counters = inside.source.counters()
        assert owners == {
            ("p1", "belt-1", "ecg"), ("p1", "belt-1", "hr"), ("p1", "cgm", "glucose"),
            ("p2", "belt-2", "ecg"), ("p2", "belt-2", "hr"), ("p2", "strap-2", "hr"), ("p3", "strap-3", "hr"),
        }  # fmt: skip
        assert set(states.values()) == {"connected"}
        assert set(troubles) == {""}
        assert counters["bluetooth links"] == 5

    fly(scenario())


def test_more_wearables_than_links_take_turns() -> None:
    async def scenario() -> None:
        air = Air()
        first, second = "F0:11:22:33:44:21", "F0:11:22:33:44:22"
        configs = [
            wearable("heart-rate-strap", first, "p1", 'device = "one"'),
            wearable("heart-rate-strap", second, "p2", 'device = "two"'),
        ]
        async with (
            HeartRateStrap(air, first, time=LoopTime()) as worn,
            house(air, *configs, links=1) as inside,
        ):
            await inside.until(lambda one: len(one.chunks(device="one")) > 3)
            async with HeartRateStrap(air, second, time=LoopTime()):
                await asyncio.sleep(20)
                assert inside.status("two").words == "is being connected to; waits for one of the adapter's 1 links"
                assert inside.chunks(device="two") == []
                await worn.go_away()
                await inside.until(lambda one: len(one.chunks(device="two")) > 3)

    fly(scenario())
