"""The last thing that a worker of an old layout does: nothing that its sensors have sent may be left at the broker."""

from __future__ import annotations

import asyncio
import logging

from agent.ingest.mqtt import MqttSource
from agent.mqtt import MqttConnection

log = logging.getLogger(__name__)

CONNECT_S = 10.0
QUIET_S = 1.5
"""Nothing more has come for so long: the broker has nothing left for this session."""


async def leave(ingest: MqttConnection, source: MqttSource) -> bool:
    """Hear nothing new, and wait until all that the broker has kept is on disk; False where there is no broker."""
    try:
        async with asyncio.timeout(CONNECT_S):
            await ingest.wait_connected()
    except TimeoutError:
        log.warning("what the broker has kept cannot be taken in: %s", ingest.status.detail)
        return False
    source.leave()
    while True:
        received = source.received
        await asyncio.sleep(QUIET_S)
        if not ingest.is_connected:
            return False
        if source.received == received and not ingest.unacknowledged:
            log.info("%d kept messages taken in", received)
            return True
