"""The webhook's queue against a small model: any order of commits, deliveries, crashes and refused alerts."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.uplink.outbox import Outbox, Outgoing

BOUND = 400
ALERTS = st.sampled_from(["a", "b", "c", "d"])


@dataclass
class Row:
    number: int
    alert: str
    priority: int
    size: int


class Queue(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.outbox = Outbox(Path(self.folder.name) / "outbox.sqlite", webhook_bytes=BOUND)
        self.rows: list[Row] = []
        self.number = 0
        self.given_up = 0

    @rule(alert=ALERTS, priority=st.integers(0, 3), size=st.integers(10, 120))
    def commit(self, alert: str, priority: int, size: int) -> None:
        self.number += 1
        payload = str(self.number).encode().ljust(size, b" ")
        said = Outgoing(f"event/{alert}", payload, False, priority, None, None, "alert", alert)
        state = Outgoing(f"alarm/{alert}", payload, True, priority, None, None, "alert", alert)
        self.outbox.commit([said, state])
        for row in self.rows:
            if row.alert == alert:
                row.priority = min(row.priority, priority)
        self.rows.append(Row(self.number, alert, priority, size))
        while sum(row.size for row in self.rows) > BOUND:
            self.rows.remove(max(self.rows, key=lambda row: (row.priority, -row.number)))
            self.given_up += 1

    @rule(skipped=st.sets(ALERTS))
    def deliver(self, skipped: set[str]) -> None:
        assert self.outbox.webhook is not None
        waiting = self.outbox.webhook.next(skipped)
        wanted = min(
            (row for row in self.rows if row.alert not in skipped),
            key=lambda row: (row.priority, row.number),
            default=None,
        )
        if waiting is None or wanted is None:
            assert waiting is wanted is None
            return
        assert (int(waiting.payload), waiting.alert_id) == (wanted.number, wanted.alert)
        assert wanted.number == min(row.number for row in self.rows if row.alert == wanted.alert), "in order"
        self.outbox.webhook_delivered([waiting.id])
        self.rows.remove(wanted)

    @rule()
    def crash(self) -> None:
        assert self.outbox.webhook is not None
        assert self.outbox.webhook.given_up == self.given_up
        self.outbox.close()
        self.outbox = Outbox(Path(self.folder.name) / "outbox.sqlite", webhook_bytes=BOUND)
        self.given_up = 0

    @rule()
    def broker_takes_all(self) -> None:
        self.outbox.delivered([row.id for row in self.outbox.pending(1000, 1 << 20)])

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert self.outbox.webhook is not None
        assert len(self.outbox.webhook) == len(self.rows)

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.close()
            self.folder.cleanup()


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
