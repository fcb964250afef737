"""What a glucose sensor cannot have measured, or may not have: limits on values, and on how they move.

How often these fire on people is printed by tests/agent/test_glucose_track.py over the given recordings.
"""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.chunk import NS_PER_S, UNIT_FACTOR

MG_DL_PER_MMOL_L = UNIT_FACTOR["mmol/L", "mg/dL"]
LEAST_MG_DL = 20.0
MOST_MG_DL = 600.0
"""No glucose sensor reports anything outside; most stop at 40 and 400."""
MMOL_LIKE = (1.5, 33.3)
"""27 to 600 mg/dL, said in mmol/L."""

NS_PER_MIN = 60 * NS_PER_S
FASTEST_MG_DL_MIN = 10.0
"""Glucose in the tissue does not move faster than about half of this for long."""
SCATTER_MG_DL = 10.0
"""Two readings differ by this much of themselves, however close."""
JOINED_NS = 30 * NS_PER_MIN
"""A reading older than this says nothing of where the next one can be."""

STUCK_NS = 75 * NS_PER_MIN
STUCK_INTERVALS = 8
"""Of 48 people no 5-minute sensor repeated a value within its range for 75 minutes in 3,103 days (the longest: 70), and
15-minute sensors did it for two hours once in 1,636 days."""

CLIPPED_LOW_MG_DL = 40.0
CLIPPED_HIGH_MG_DL = (399.5, 402.0)
"""Sensors to 400 say 400 or 401, and 22.2 or 22.3 where they count in mmol/L."""
CLIPPED_HIGHEST_MG_DL = 499.5
"""Some reach 500; between the two ends a value is a value."""

REBOUND_MG_DL = 25.0
REBOUND_NS = 16 * NS_PER_MIN
REBOUND_WITHIN_NS = 61 * NS_PER_MIN


def beyond(mg_dl: float) -> str:
    """ "low" or "high" where the sensor's range ends at this value, else ""."""
    if mg_dl <= CLIPPED_LOW_MG_DL:
        return "low"
    low, high = CLIPPED_HIGH_MG_DL
    return "high" if low <= mg_dl <= high or mg_dl >= CLIPPED_HIGHEST_MG_DL else ""


def within_reach(apart_ns: int, from_mg_dl: float, to_mg_dl: float) -> bool:
    """Whether glucose may have gone from the one value to the other in this time."""
    return abs(to_mg_dl - from_mg_dl) <= SCATTER_MG_DL + FASTEST_MG_DL_MIN * apart_ns / NS_PER_MIN


def moves_like_mmol(apart_ns: int, before: float, after: float) -> bool:
    """Whether two values follow on each other as glucose in mmol/L does."""
    return within_reach(apart_ns, before * MG_DL_PER_MMOL_L, after * MG_DL_PER_MMOL_L)


def robust_slope(times_ns: Sequence[int], mg_dl: Sequence[float]) -> float:
    """Slope in mg/dL/min through n ≥ 2 readings at different times: the median of all pairs' (Theil 1950, Sen 1968)."""
    slopes = sorted(
        (mg_dl[j] - mg_dl[i]) * NS_PER_MIN / (times_ns[j] - times_ns[i]) for j in range(1, len(mg_dl)) for i in range(j)
    )
    middle = len(slopes) // 2
    return slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2


def rebounded(times_ns: Sequence[int], mg_dl: Sequence[float], low_mg_dl: float) -> bool:
    """Whether an abrupt low is over as abruptly as it came: someone may have lain on the sensor (a compression low).

    Takes the readings of the last REBOUND_WITHIN_NS, the newest last. It is known only when the low is over, so it is
    a note and holds no alarm back. Unproven: no recording says on which lows people lay, and of 382 such lows in 48
    people 94 ended between 0 and 6 o'clock, a quarter, as if nobody slept on a sensor.
    """
    low = [i for i, value in enumerate(mg_dl) if value < low_mg_dl]
    if not low or low[-1] == len(mg_dl) - 1:
        return False
    first, last = low[0], low[-1]
    before = max((mg_dl[i] for i in range(first) if times_ns[i] >= times_ns[first] - REBOUND_NS), default=0.0)
    fell, rose = before - mg_dl[first], mg_dl[-1] - mg_dl[last]
    abrupt = min(fell, rose) >= REBOUND_MG_DL and times_ns[-1] - times_ns[last] <= REBOUND_NS
    return abrupt and abs(before - mg_dl[-1]) <= REBOUND_MG_DL
