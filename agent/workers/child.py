"""A worker: `python -m agent.workers.child FD`, where FD is the socket that its parent talks by.

It stops in good order when it is told to, and when its parent is gone: nobody would say any more that it watches.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import threading

from agent import heap
from agent.config import parse_config
from agent.ingest.bluetooth import BluetoothSettingError
from agent.logs import configure_logging
from agent.supervisor import Supervisor
from agent.uplink.outbox import OutboxError
from agent.workers.shares import share_of
from agent.workers.talk import Orders, ToldParent, streams_of

log = logging.getLogger(__name__)

ALIVE_S = 5.0
LAST_WORDS_S = 30.0
"""Without a parent, an orderly stop that takes longer is cut off: what was promised is on disk."""


def main(argv: list[str]) -> int:
    heap.one_heap()
    return asyncio.run(_work(socket.socket(fileno=int(argv[0]))))


async def _work(sock: socket.socket) -> int:
    reader, writer = await streams_of(sock)
    orders = Orders.of_line(await reader.readline())
    config = parse_config(orders.text, orders.path)
    configure_logging(config.agent.log)
    parent = ToldParent(writer)
    try:
        supervisor = Supervisor(share_of(config, orders.layout, orders.worker), parent)
    except (OutboxError, BluetoothSettingError) as error:
        log.error("worker %d: %s", orders.worker, error)  # noqa: TRY400 (the message says it all)
        return 1
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, supervisor.stop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # of a terminal, to all processes: the parent says what to do
    beside = [
        asyncio.create_task(_stop_without_parent(reader, supervisor), name="parent"),
        asyncio.create_task(_alive(parent, supervisor), name="alive"),
    ]
    if orders.leaving:
        beside.append(asyncio.create_task(supervisor.leave(), name="leaving"))
    await supervisor.run()
    for task in beside:
        task.cancel()
    return 0 if supervisor.has_left or not orders.leaving else 1


async def _stop_without_parent(reader: asyncio.StreamReader, supervisor: Supervisor) -> None:
    await reader.read()
    log.error("the parent is gone: stopping")
    timer = threading.Timer(LAST_WORDS_S, lambda: os._exit(1))
    timer.daemon = True
    timer.start()
    supervisor.stop()


async def _alive(parent: ToldParent, supervisor: Supervisor) -> None:
    while True:
        await supervisor.has_turned()
        used = resource.getrusage(resource.RUSAGE_SELF)
        parent.alive({"cpu_s": used.ru_utime + used.ru_stime, "max_rss_mb": used.ru_maxrss / 1000})
        await asyncio.sleep(ALIVE_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
