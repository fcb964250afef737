"""What `vagus bench` says of one patient and of one more. How much it is, no test says."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from agent.bench import idle, memory


def test_a_patient_s_memory_is_told_apart_from_what_all_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SECONDS", 30)
    figures = memory.patient_memory(3)
    assert figures["kb_by_part"]["track.native"] == pytest.approx((12 + 1) * 250 * 4 / 1000, rel=0.05)
    assert figures["kb_counted"] == pytest.approx(sum(figures["kb_by_part"].values()))


def test_a_view_counts_with_what_it_keeps_alive_and_nothing_counts_twice() -> None:
    whole = np.zeros(10_000)
    seen: set[int] = set()
    found = [one for one in memory._objects([[whole[:10], whole[:20]]], seen) if isinstance(one, np.ndarray)]
    assert sorted(one.size for one in found) == [10, 20, 10_000]
    assert not list(memory._objects([whole], seen))


def test_the_agent_is_measured_before_during_and_after_an_ecg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SETTLED_S", dict.fromkeys(idle.SETTLED_S, 0.2))
    figures = asyncio.run(idle.idle_figures(1.0))
    assert figures["start_s"] >= figures["start_cpu_s"] / 2 > 0
    for stretch in ("waiting", "streaming", "silent"):
        assert figures[stretch]["rss_mb"] > 50
        assert figures[stretch]["wakes_a_second"] > 0
