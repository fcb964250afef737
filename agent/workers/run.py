"""`vagus run`: the agent in one process or in several, as the config asks and the state allows."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from agent.config import ConfigError, load_config
from agent.logs import configure_logging
from agent.uplink.outbox_file import OutboxError
from agent.workers.layout_file import KeptLayout, kept_layout
from agent.workers.shares import Layout, wanted_layout, whole


def run_command(args: argparse.Namespace) -> int:
    """`vagus run CONFIG`: 0 on a clean stop, 1 when the agent could not go on, 2 on a faulty config."""
    path: Path = args.config
    try:
        config = load_config(path)
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    wanted, text = wanted_layout(config, int(time.time())), path.read_text(encoding="utf-8")
    layout, notes = wanted, tuple[str, ...]()
    configure_logging(config.agent.log)
    if wanted.workers > 1 or kept_layout(config.agent.state_dir) != KeptLayout(Layout()):
        from agent.workers.settle import settle  # noqa: PLC0415 (one process needs none of it)

        try:
            layout, notes = settle(config, text, path, wanted)
        except (OutboxError, OSError) as error:
            sys.stderr.write(f"vagus run: {error}\n")
            return 1
    if layout.workers > 1:
        from agent.workers.parent import run_workers  # noqa: PLC0415

        return run_workers(config, text, path, layout, notes)
    from agent.supervisor import run_agent  # noqa: PLC0415 (a parent needs none of it)

    return run_agent(whole(config, notes))
