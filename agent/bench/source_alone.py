"""The Bluetooth source of an agent and nothing else, as a program: `python -m agent.bench.source_alone CONFIG`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from agent.config import load_config
from agent.config.ble import BleConfig
from agent.ingest.bluetooth import bluetooth_source
from agent.ingest.source import Delivery


async def listen(config_path: Path) -> None:
    """Take in what the wearables of a config send, and drop it, until asked to stop."""
    config = load_config(config_path)
    worn = [source for patient in config.patients for source in patient.sources if isinstance(source, BleConfig)]

    async def drop(_: Delivery) -> None:
        """What becomes of it is not measured here."""

    task = asyncio.ensure_future(bluetooth_source(worn, config.agent.state_dir).run(drop))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    config_file = Path(sys.argv[1])
    asyncio.run(listen(config_file))
