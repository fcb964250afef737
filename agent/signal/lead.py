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
