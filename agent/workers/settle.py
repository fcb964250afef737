"""When the patients are shared out anew: those who watched until now take in what the broker has kept for them, then
everybody's state is moved, and only then do others go on. Until all of that can be done, things stay as they were.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

from agent.config import Config
from agent.mqtt import MqttConnection
from agent.mqtt.configured import connection_to
from agent.uplink import outbox_file
from agent.uplink.topics import Topics
from agent.workers.keeper import Keeper
from agent.workers.layout_file import KeptLayout, keep_layout, kept_layout
from agent.workers.moving import move_to_owners
from agent.workers.places import state_folders
from agent.workers.shares import Layout, share_of
from agent.workers.talk import Orders

log = logging.getLogger(__name__)

SUBSCRIBE_S = 10.0


def settle(config: Config, text: str, path: Path, wanted: Layout) -> tuple[Layout, tuple[str, ...]]:
    """The layout to run: `wanted`, or that of before, and then why.

    Raises OutboxError or OSError where the state can be neither moved nor left. Blocks until all is in its place.
    """
    state_dir, agent = config.agent.state_dir, config.agent.id
    kept = kept_layout(state_dir)
    if kept is None:  # whoever watched whom: all is found, and what the broker has kept for them is not
        kept = KeptLayout(Layout(), moving_to=wanted)
        log.warning("how the patients were shared out is not known: what sensors sent meanwhile may be missing")
    if kept.moving_to is not None:  # a start before this one did not come to its end
        kept = _moved(state_dir, agent, kept.layout, kept.moving_to)
    if _is_same(kept.layout, wanted, config):
        layout = replace(wanted, made_s=kept.layout.made_s)
        if layout != kept.layout:
            keep_layout(state_dir, KeptLayout(layout))
        return layout, ()
    if any((folder / outbox_file.FILE_NAME).exists() for folder in state_folders(state_dir)):
        log.info("%s from now on, %s until now", _in_words(wanted), _in_words(kept.layout))
        refusal = asyncio.run(_hand_over(config, text, path, kept.layout, wanted))
        if refusal:
            note = f"still {_in_words(kept.layout)}: {refusal}; tried again at the next start"
            log.error("%s", note)
            return kept.layout, (note,)
    return _moved(state_dir, agent, kept.layout, wanted).layout, ()


def _is_same(kept: Layout, wanted: Layout, config: Config) -> bool:
    """Whether everybody who is watched stays where they are."""
    everybody = (patient.id for patient in config.patients)
    return kept.workers == wanted.workers and all(kept.owner(one) == wanted.owner(one) for one in everybody)


def _moved(state_dir: Path, agent: str, before: Layout, layout: Layout) -> KeptLayout:
    began_s = time.monotonic()
    keep_layout(state_dir, KeptLayout(before, moving_to=layout))
    subjects = move_to_owners(state_dir, layout, agent)
    keep_layout(state_dir, KeptLayout(layout))
    log.info("state of %d moved in %.1f s: %s", subjects, time.monotonic() - began_s, _in_words(layout))
    return KeptLayout(layout)


async def _hand_over(config: Config, text: str, path: Path, before: Layout, after: Layout) -> str:
    """From now on the broker keeps for those who come, and those who go take in what it has kept for them.

    Why that could not be; "" where it was.
    """
    sessions = [share_of(config, after, worker) for worker in range(after.workers)]
    try:
        async with asyncio.timeout(SUBSCRIBE_S):
            for share in sessions:
                connection = connection_to(config.mqtt, share.session)
                await _subscribe(connection, (*share.filters, Topics(config.agent.id).commands))
    except TimeoutError:
        return f"the broker at {config.mqtt.host}:{config.mqtt.port} cannot be reached"
    keepers = [
        Keeper(Orders(text, path, before, worker, leaving=True), lambda: None) for worker in range(before.workers)
    ]
    ends = await asyncio.gather(*(keeper.once() for keeper in keepers))
    failed = [str(keeper.number) for keeper, end in zip(keepers, ends, strict=True) if end]
    return f"worker {', '.join(failed)} could not take in what the broker has kept" if failed else ""


async def _subscribe(connection: MqttConnection, filters: tuple[str, ...]) -> None:
    async with connection:
        await connection.wait_connected()
        reading = asyncio.create_task(_read_on(connection))
        try:
            await connection.subscribe(*filters)
        finally:
            reading.cancel()


async def _read_on(connection: MqttConnection) -> None:
    """What comes already is not acknowledged: the broker sends it again to who is to have it."""
    async for _ in connection.messages():
        pass


def _in_words(layout: Layout) -> str:
    return "one process" if layout.workers == 1 else f"{layout.workers} workers"
