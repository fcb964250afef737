"""The listener for updates that a config asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent import __version__

if TYPE_CHECKING:
    from agent.config import Config
    from agent.fleet.listener import UpdateListener


def listener_for(config: Config, on_change: Callable[[], None]) -> UpdateListener | None:
    """None where the agent takes part in no roll-out. Raises KeyFileError and OSError where a key has changed."""
    if config.update is None:
        return None
    # Only where somebody updates.
    from agent.fleet.installer import UpdateProgram  # noqa: PLC0415
    from agent.fleet.listener import FILE_NAME, UpdateListener  # noqa: PLC0415
    from agent.fleet.order import Trust, read_public_key  # noqa: PLC0415
    from agent.mqtt.configured import connection_to  # noqa: PLC0415

    return UpdateListener(
        connection_to(config.mqtt, f"{config.mqtt.client_id}-update", clean_start=True, session_expiry_s=0),
        Trust([read_public_key(file) for file in config.update.key_files]),
        UpdateProgram(config.update.program),
        ring=config.update.ring,
        running=__version__,
        path=config.agent.state_dir / FILE_NAME,
        jitter_s=config.update.jitter_s,
        on_change=on_change,
    )
