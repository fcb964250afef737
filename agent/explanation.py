"""Why a model said what it said: attributions for the evidence of an alert, made when one is raised and only then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agent.alarms.alert import AlertEvent, Asked, Attribution
from agent.inference import Models, PackModel
from firmware_bridge.chunk import NS_PER_S
from models.attribution import edges, occlusions

PIECES = 25
"""A beat's second is looked at in pieces of 40 ms, a window of eight seconds in pieces of a third of one."""


def explained(events: Sequence[AlertEvent], models: Models) -> list[AlertEvent]:
    """The events with an attribution in place of each question that their evidence rests on: a few batches a model."""
    asked = [asked for event in events if event.evidence is not None for asked in event.evidence.asked]
    if not asked:
        return list(events)
    known = models.by_task
    made = {
        id(one): attribution
        for task in dict.fromkeys(one.task for one in asked if one.task in known)
        for one, attribution in _attributions([one for one in asked if one.task == task], known[task])
    }
    return [
        event
        if event.evidence is None or not event.evidence.asked
        else replace(
            event,
            evidence=replace(
                event.evidence,
                attributions=tuple(made[id(one)] for one in event.evidence.asked if id(one) in made),
                asked=(),
            ),
        )
        for event in events
    ]


def _attributions(asked: Sequence[Asked], model: PackModel) -> list[tuple[Asked, Attribution]]:
    """Attribution of each answer of one model to the pieces of the signal it was given about."""
    wanted, labels = model.pack.manifest.input, model.pack.labels
    windows = [{name: value.astype(np.float32) for name, value in one.inputs.items()} for one in asked]
    falls = occlusions(model.probabilities, windows, [labels.index(one.label) for one in asked], PIECES)
    low, high = edges(wanted.samples, PIECES)[0]
    span_s = wanted.before_s + wanted.after_s
    return [
        (
            one,
            Attribution(
                task=one.task,
                label=one.label,
                t0_ns=one.anchor_ns - round(wanted.before_s * NS_PER_S),
                piece_s=round((high - low) * span_s / wanted.samples, 6),
                falls=tuple(round(fall, 2) for fall in of_it),
            ),
        )
        for one, of_it in zip(asked, falls.tolist(), strict=True)
    ]
