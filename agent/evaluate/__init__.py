"""Recordings through the live engine, scored against reference annotations: `vagus evaluate`."""

from __future__ import annotations

import argparse


def evaluate_command(args: argparse.Namespace) -> int:
    """`vagus evaluate TASK --data DIR`; 2 where there is nothing to score."""
    if args.task == "rhythm":
        from agent.evaluate.rhythm import evaluate_rhythm  # noqa: PLC0415 (a task imports only what it needs)

        return evaluate_rhythm(args)
    if args.task == "vf":
        from agent.evaluate.vf import evaluate_vf  # noqa: PLC0415

        return evaluate_vf(args)
    if args.task == "alarms":
        from agent.evaluate.alarms import evaluate_alarms  # noqa: PLC0415

        return evaluate_alarms(args)
    if args.task == "glucose":
        from agent.evaluate.glucose import evaluate_glucose  # noqa: PLC0415

        return evaluate_glucose(args)
    if args.task == "burden":
        from agent.evaluate.burden import evaluate_burden  # noqa: PLC0415

        return evaluate_burden(args)
    from agent.evaluate.beats import evaluate_beats  # noqa: PLC0415

    return evaluate_beats(args)
