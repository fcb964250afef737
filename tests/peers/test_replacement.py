"""A unit is replaced: what the old one kept comes out of the new one, once, on a real broker."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from test_agent import AgentProcess, demo_signal, expected, heard_all, ward
from test_workers import WardProcess, heard, is_online, of_beds, play, signals
from test_workers import expected as expected_of_all
from test_workers import ward as ward_of_workers

from agent.ingest.sensor import publish_chunks
from agent.uplink.outbox_file import open_outbox_file
from agent.workers.places import state_folders

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]


async def vagus(*words: object) -> tuple[int, str]:
    """The command as a technician types it: exit status and what it complains of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.cli",
        *map(str, words),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


async def replace(old: AgentProcess, new: AgentProcess, archive: Path) -> None:
    """All that `old` is, in `new`'s folder, whose state lies elsewhere."""
    assert await vagus("backup", old.folder / "agent.toml", archive) == (0, "")
    (new.folder / "agent.toml").unlink()
    assert await vagus("restore", archive, "--config", new.folder, "--state", new.folder / "state") == (0, "")
    config = new.folder / "agent.toml"
    config.write_text(config.read_text().replace(str(old.folder / "state"), str(new.folder / "state")))


def other_unit(folder: Path) -> Path:
    (folder / "other").mkdir()
    return folder / "other"


def test_a_unit_killed_in_mid_stream_is_replaced_and_each_alert_is_one(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = demo_signal()
        wanted = expected(played)
        half = len(played) // 2
        async with ward(tmp_path) as (broker, old, nurse, sensor):
            await publish_chunks(sensor, played[:half], speed=None)
            refused, why = await vagus("backup", old.folder / "agent.toml", tmp_path / "too-soon.tar")
            assert (refused, "systemctl stop vagus" in why) == (1, True)
            assert not (tmp_path / "too-soon.tar").exists()
            await old.kill()
            new = AgentProcess(other_unit(tmp_path), broker.port)
            await replace(old, new, tmp_path / "unit.tar")
            before = len(nurse.statuses)
            async with new:
                await nurse.until(
                    lambda n: any(one["state"] == "online" for one in n.statuses[before:]), "the replacement's status"
                )
                await publish_chunks(sensor, played[half:], speed=None)
                await nurse.until(heard_all(wanted), "all alerts")
                assert await new.stop() == 0
            assert set(nurse.transitions()) == set(wanted)

    run(scenario())


def test_what_waited_in_the_outbox_of_the_old_unit_comes_out_of_the_new_one(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = demo_signal()
        wanted = expected(played)
        acl = tmp_path / "acl"
        acl.write_text("topic readwrite vagus/v1/#\ntopic deny vagus/v1/ward/event/demo\n")
        acl.chmod(0o600)
        async with ward(tmp_path, acl_file=acl) as (broker, old, nurse, sensor):
            await publish_chunks(sensor, played, speed=None)
            await nurse.until(
                lambda n: any("event/demo" in reason for reason in n.statuses[-1]["reasons"]), "a refused alert"
            )
            await old.kill()
            assert nurse.transitions() == []
            new = AgentProcess(other_unit(tmp_path), broker.port)
            await replace(old, new, tmp_path / "unit.tar")
            acl.write_text("topic readwrite vagus/v1/#\n")
            await broker.restart()
            async with new:
                await nurse.until(heard_all(wanted), "all alerts")
                assert await new.stop() == 0
            assert set(nurse.transitions()) == set(wanted)

    run(scenario())


def test_a_unit_with_two_workers_is_replaced_whole(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = signals()
        wanted = expected_of_all(played)
        first = {bed: chunks[: len(chunks) // 2] for bed, chunks in played.items()}
        rest = {bed: chunks[len(chunks) // 2 :] for bed, chunks in played.items()}
        async with ward_of_workers(tmp_path, 2) as unit:
            old, nurse = unit.agent, unit.nurse
            await play(unit, first)
            assert (await vagus("backup", old.folder / "agent.toml", tmp_path / "too-soon.tar"))[0] == 1
            assert await old.stop() == 0
            new = WardProcess(other_unit(tmp_path), unit.broker.port, 2)
            await replace(old, new, tmp_path / "unit.tar")
            assert [path.name for path in state_folders(new.folder / "state")] == [
                path.name for path in state_folders(old.folder / "state")
            ]
            before = len(nurse.statuses)
            async with new:
                await nurse.until(lambda n: len(n.statuses) > before and is_online(2)(n), "the replacement's workers")
                await play(unit, rest)
                await nurse.until(heard(wanted), "all alerts")
                assert await new.stop() == 0
            assert set(of_beds(nurse)) == set(wanted)

    run(scenario())


def test_a_backup_is_refused_while_only_one_of_the_workers_runs(run: Run, tmp_path: Path) -> None:
    """Their parent may be gone: each worker holds its own folder."""

    async def scenario() -> None:
        async with ward_of_workers(tmp_path, 2) as unit:
            assert await unit.agent.stop() == 0
        folders = state_folders(tmp_path / "state")
        for number, folder in enumerate(folders):
            held, _ = open_outbox_file(folder / "outbox.sqlite", 0)
            status, why = await vagus("backup", unit.agent.folder / "agent.toml", tmp_path / f"{number}.tar")
            held.close()
            assert (status, "systemctl stop vagus" in why) == (1, True)
        assert len(folders) == 3

    run(scenario())
