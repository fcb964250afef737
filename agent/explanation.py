"""Why a model said what it said: attributions for the evidence of an alert, made when one is raised and only then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agent.alarms.alert import AlertEvent, Asked, Attribution
from agent.inference import Models, PackModel
from firmware_bridge.chunk import NS_PER_S
from models.attribution import edges, occlusion

PIECES = 25
"""A beat's second is looked at in pieces of 40 ms, a window of eight seconds in pieces of a third of one."""


def explained(event: AlertEvent, models: Models) -> AlertEvent:
    """The event with an attribution in place of each question that its evidence rests on."""
    if event.evidence is None or not event.evidence.asked:
        return event
    known = models.by_task
    made = tuple(attribution(asked, known[asked.task]) for asked in event.evidence.asked if asked.task in known)
    return replace(event, evidence=replace(event.evidence, attributions=made, asked=()))


def attribution(asked: Asked, model: PackModel) -> Attribution:
    """Attribution of one answer to the pieces of the signal it was given about."""
    wanted = model.pack.manifest.input
    window = {name: value.astype(np.float32) for name, value in asked.inputs.items()}
    falls = occlusion(model.probabilities, window, model.pack.labels.index(asked.label), PIECES)
    low, high = edges(wanted.samples, PIECES)[0]
    span_s = wanted.before_s + wanted.after_s
    return Attribution(
        task=asked.task,
        label=asked.label,
        t0_ns=asked.anchor_ns - round(wanted.before_s * NS_PER_S),
        piece_s=round((high - low) * span_s / wanted.samples, 6),
        falls=tuple(round(fall, 2) for fall in falls.tolist()),
    )
