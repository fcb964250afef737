"""Recordings through the live engine, scored against reference annotations: `vagus evaluate`."""

from __future__ import annotations

import argparse


def evaluate_command(args: argparse.Namespace) -> int:
    """`vagus evaluate TASK --data DIR`; 2 where there is nothing to score."""
    from agent.evaluate.beats import evaluate_beats  # noqa: PLC0415 (a task imports only what it needs)

    return evaluate_beats(args)
