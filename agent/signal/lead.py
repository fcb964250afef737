"""Which of a recording's leads is looked at for beats and rhythm."""

from __future__ import annotations

from collections.abc import Sequence

PREFERRED_LEADS = ("MLII", "II")


def analysis_lead(names: Sequence[str]) -> int:
    """Index of the lead to analyse: MLII, else II, else the first.

    By name and not by place: record 114 of the MIT-BIH Arrhythmia Database stores V5 before MLII, some hold no MLII.
    Raises ValueError where there are no leads.
    """
    if not names:
        raise ValueError("a signal without channels has no lead to analyse")
    upper = [name.strip().upper() for name in names]
    return next((upper.index(lead) for lead in PREFERRED_LEADS if lead in upper), 0)


CHEST_LEADS = ("V", "V1", "V2", "V3", "V4", "V5", "V6", "MCL", "MCL1")
"""Seen from the front: what limb leads hide is often plain in these."""


def second_lead(names: Sequence[str]) -> int | None:
    """Index of the lead that is asked besides the analysed one: a chest lead, else the next; None of a single lead."""
    first = analysis_lead(names)
    others = [column for column in range(len(names)) if column != first]
    return next((column for column in others if names[column].strip().upper() in CHEST_LEADS), next(iter(others), None))
