"""The last 24 hours of a heart: burdens and rate with how much was seen, and a doubt where that is too little."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.heart_day import DAY_S, HeartDay, heart_day_vitals
from agent.history import History, _ecg_row
from agent.history.ecg import BUCKET_NS, EcgBucket
from firmware_bridge.chunk import NS_PER_S

END_NS = 1_796_000_000 * NS_PER_S - 1_796_000_000 * NS_PER_S % BUCKET_NS
DAY = HeartDay(END_NS, 0.8 * DAY_S, 90_000, 900, 80_000, 64_000.0, 70_000.0, 7_000.0, 3)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    kept = History(tmp_path / "history.sqlite")
    yield kept
    kept.close()


def shown(day: HeartDay) -> dict[str, tuple[float, str | None]]:
    return {one.message.code: (one.message.value, one.message.doubt) for one in heart_day_vitals("anna", day)}


def test_a_day_that_was_seen_is_told_in_four_numbers() -> None:
    assert shown(DAY) == {
        "pvc_burden_24h": (1.0, None),
        "af_burden_24h": (10.0, None),
        "hr_mean_24h": (75.0, None),
        "pauses_24h": (3.0, None),
    }


def test_too_little_of_a_day_is_insufficient_data() -> None:
    doubts = {doubt for _, doubt in shown(replace(DAY, good_s=0.69 * DAY_S)).values()}
    assert doubts == {"insufficient data: 69 % of the last 24 h could be judged"}


def test_of_a_heart_that_was_not_seen_nothing_is_told() -> None:
    assert shown(HeartDay(END_NS, 0.0, 0, 0, 0, 0.0, 0.0, 0.0, 0)) == {}


def test_the_sums_are_of_the_last_24_hours_and_of_this_person(history: History) -> None:
    for k in range(2 * 288):
        bucket = EcgBucket(END_NS - (k + 1) * BUCKET_NS, 300.0, 290.0, 350, 7, 0, 340, 272.0, 0.7, 0.9, 280.0, 28.0)
        for patient, one in (("anna", bucket), ("ben", replace(bucket, ventricular=300))):
            history._add("ecg", _ecg_row(patient, one))
    history.flush()
    day = history.heart_day("anna", END_NS)
    assert day is not None
    assert (day.beats, day.ventricular, day.pauses) == (288 * 350, 288 * 7, 0)
    assert day.coverage == pytest.approx(290 / 300)
    assert shown(day)["pvc_burden_24h"] == (2.0, None)
