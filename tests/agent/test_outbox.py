"""The outbox keeps what it promised: over crashes, full disks, damaged files and any order of calls."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.uplink.outbox import JournalEntry, Outbox, OutboxError, OutboxFull, Outgoing

ROOT = Path(__file__).parents[2]


def alert(name: str = "a1", *, priority: int = 0, payload: bytes = b"alert", topic: str = "event/p1") -> Outgoing:
    return Outgoing(topic, payload, False, priority, None, "application/json", "alert", name)


def vital(payload: bytes = b"60", *, expiry_s: int | None = 300, priority: int = 5) -> Outgoing:
    return Outgoing("vital/p1/hr", payload, False, priority, expiry_s, "application/json", "vital")


def entry(payload: bytes, patient: str = "p1") -> JournalEntry:
    return JournalEntry(patient, "vagus/v1/in/d1/ecg", "application/cbor", payload, 1_700_000_000_000_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    box = Outbox(path)
    yield box
    box.close()


def payloads(box: Outbox, **how: int) -> list[bytes]:
    return [row.message.payload for row in box.pending(**how)]


def test_what_was_committed_is_there_after_reopening(path: Path) -> None:
    box = Outbox(path)
    sent = [alert(payload=b"first"), vital()]
    box.commit(sent, [entry(b"raw")], alarms={"p1": b"state"})
    box.close()

    again = Outbox(path)

    assert [row.message for row in again.pending()] == sent
    assert again.recover().journal == (entry(b"raw"),)
    assert again.recover().alarms == {"p1": b"state"}
    again.close()


def test_most_urgent_first_then_oldest(outbox: Outbox) -> None:
    outbox.commit([vital(b"v1"), alert("low", priority=2, payload=b"low"), alert("high", payload=b"high")])
    outbox.commit([alert("high2", payload=b"high2"), vital(b"v2")])
    assert payloads(outbox) == [b"high", b"high2", b"low", b"v1", b"v2"]


def test_an_escalated_alert_takes_its_earlier_events_along(outbox: Outbox) -> None:
    outbox.commit([alert("other", priority=1, payload=b"other")])
    outbox.commit([alert("a1", priority=2, payload=b"start low")])
    outbox.commit([alert("a1", priority=0, payload=b"now high")])
    outbox.commit([alert("a1", priority=2, payload=b"end")])
    assert payloads(outbox) == [b"start low", b"now high", b"other", b"end"]


def test_a_round_is_bounded_in_bytes_but_never_empty(outbox: Outbox) -> None:
    outbox.commit([alert(str(i), payload=bytes(1000)) for i in range(5)])
    assert len(outbox.pending(max_bytes=2500)) == 2
    assert len(outbox.pending(max_bytes=1)) == 1
    assert len(outbox.pending(limit=3)) == 3


def test_only_the_last_value_of_a_retained_topic_waits(outbox: Outbox) -> None:
    def state(payload: bytes) -> Outgoing:
        return Outgoing("alarm/p1/a1", payload, True, 0, None, None, "alert", "a1")

    outbox.commit([alert(payload=b"start"), state(b"on")])
    outbox.commit([alert(payload=b"end"), state(b"")])
    assert payloads(outbox) == [b"start", b"end", b""]


def test_delivered_rows_are_gone_and_skipped_rows_stay(outbox: Outbox) -> None:
    outbox.commit([alert("a", payload=b"a"), alert("b", payload=b"b"), vital()])
    first = outbox.pending()[0]
    assert [row.message.payload for row in outbox.pending(skip_ids=[first.id])] == [b"b", b"60"]
    assert [row.message.payload for row in outbox.pending(skip_topics=["event/p1"])] == [b"60"]
    outbox.delivered([first.id])
    assert payloads(outbox) == [b"b", b"60"]
    assert outbox.depth().payload_bytes == len(b"b60")


def test_a_snapshot_replaces_its_patients_journal_and_no_others(outbox: Outbox) -> None:
    outbox.commit(journal=[entry(b"1"), entry(b"2", "p2"), entry(b"3")])
    outbox.commit(journal=[entry(b"4"), entry(b"5", "p2")], snapshots={"p1": b"state after 4"})
    outbox.commit(journal=[entry(b"6")])

    recovery = outbox.recover()

    assert recovery.snapshots == {"p1": b"state after 4"}
    assert [(e.patient, e.payload) for e in recovery.journal] == [("p2", b"2"), ("p2", b"5"), ("p1", b"6")]


def test_a_sequence_number_is_never_given_to_two_committed_messages(path: Path) -> None:
    box = Outbox(path)
    assert [box.next_seq(), box.next_seq()] == [1, 2]
    box.commit([alert()])
    box.next_seq()  # never committed, so nobody has seen it
    first_boot = box.boot_id
    box.close()

    again = Outbox(path)
    assert again.next_seq() == 3
    assert again.boot_id == first_boot + 1
    again.close()


def test_overflow_sheds_vitals_oldest_first_and_never_an_alert(path: Path) -> None:
    box = Outbox(path, max_bytes=300)
    box.commit([vital(b"%050d" % i) for i in range(6)])
    box.commit([alert("a", payload=bytes(100))])
    assert payloads(box) == [bytes(100), *(b"%050d" % i for i in range(2, 6))]
    box.commit([alert(f"b{i}", payload=bytes(100)) for i in range(5)])
    assert box.depth().alert_rows == 6
    assert box.depth().rows == 6
    assert box.dropped == {"vital": 6}
    box.close()


def test_vitals_expire_and_alerts_do_not(path: Path) -> None:
    now_ns = [0]
    box = Outbox(path, clock_ns=lambda: now_ns[0])
    expiring_alert = Outgoing("event/p1", b"alert", False, 0, 300, None, "alert", "a1")
    box.commit([expiring_alert, vital(expiry_s=300)])
    now_ns[0] = 299_000_000_000
    assert [row.remaining_s for row in box.pending()] == [300, 1]
    now_ns[0] = 300_000_000_000
    assert payloads(box) == [b"alert"]
    assert box.dropped == {"vital": 1}
    box.close()


def commit_until_full(box: Outbox) -> int:
    """How many alerts, each with a journal entry, went in."""
    for committed in range(3000):
        try:
            box.commit([alert(str(committed), payload=b"%04000d" % committed)], [entry(bytes(500))])
        except OutboxFull:
            return committed
    raise AssertionError("the disk did not fill up")


def test_a_full_disk_refuses_the_commit_whole_and_takes_it_later(path: Path) -> None:
    box = Outbox(path, max_pages=60)
    committed = commit_until_full(box)
    depth = box.depth()
    assert depth.alert_rows == depth.journal_rows == committed
    box.delivered([row.id for row in box.pending(limit=committed // 2, max_bytes=1 << 30)])
    box.commit([alert("later", payload=bytes(4000))], [entry(bytes(500))])
    assert box.depth().alert_rows == committed - committed // 2 + 1
    box.close()


def test_a_full_disk_gives_up_vitals_for_an_alert(path: Path) -> None:
    box = Outbox(path, max_pages=60)
    n_vitals = 0
    while not box.dropped:
        box.commit([vital(bytes(4000))])
        n_vitals += 1
    box.commit([alert(str(i), payload=bytes(4000)) for i in range(n_vitals // 2)])
    assert box.depth().alert_rows == n_vitals // 2
    box.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "vagus-test", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    box = Outbox(small_disk / "outbox.db")
    (small_disk / "ballast").write_bytes(bytes(2_000_000))
    committed = commit_until_full(box)
    (small_disk / "ballast").unlink()
    box.commit([alert("later", payload=b"later")])
    box.close()

    again = Outbox(small_disk / "outbox.db")
    assert payloads(again, limit=5000, max_bytes=1 << 30) == [*[b"%04000d" % i for i in range(committed)], b"later"]
    again.close()


def test_a_disk_that_stays_full_can_still_be_drained(small_disk: Path) -> None:
    """Even a deletion needs room; without a reserve nothing would ever leave a full outbox."""
    box = Outbox(small_disk / "outbox.db")
    assert not box.is_short_of_room
    with (small_disk / "somebody else's").open("wb") as hog:
        committed = 0
        while not box.is_short_of_room:
            box.commit([alert(str(committed), payload=b"%04000d" % committed)])
            committed += 1
            with contextlib.suppress(OSError):
                hog.write(bytes(20_000))
                hog.flush()
        committed += commit_until_full(box)
        with contextlib.suppress(OSError):
            hog.write(bytes(8 << 20))
            hog.flush()
        drained = 0
        while pending := box.pending():
            box.delivered([row.id for row in pending])
            drained += len(pending)
        assert drained == committed > 100
        box.commit([alert("later", payload=bytes(4000))])
        assert box.depth().rows == 1
    box.close()


@pytest.mark.parametrize("damage", ["not a database", "overwritten", "truncated"])
def test_a_damaged_file_is_moved_aside_and_said(path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    box = Outbox(path)
    box.commit([alert(str(i), payload=bytes(4000)) for i in range(50)])
    box.close()
    content = bytearray(path.read_bytes())
    if damage == "not a database":
        content[:] = b"garbage " * 1000
    elif damage == "overwritten":
        content[8192:40960] = random.Random(1).randbytes(32768)
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)

    again = Outbox(path)

    assert again.moved_aside is not None
    assert again.moved_aside.read_bytes() == content
    assert "damaged" in caplog.text
    again.commit([alert(payload=b"new")])
    assert payloads(again) == [b"new"]
    again.close()


def test_a_second_agent_on_the_same_file_is_told_so(path: Path, outbox: Outbox) -> None:
    with pytest.raises(OutboxError, match="already running"):
        Outbox(path)
    outbox.commit([alert()])


def test_a_newer_file_is_left_alone(path: Path) -> None:
    Outbox(path).close()
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE meta SET value = 99 WHERE key = 'schema_version'")
    db.close()
    with pytest.raises(OutboxError, match="schema version 99"):
        Outbox(path)
    assert not list(path.parent.glob("*damaged*"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutboxError, match="cannot be opened"):
        Outbox(tmp_path / "nowhere" / "outbox.db")


def test_backup_of_an_outbox_in_use(outbox: Outbox, tmp_path: Path) -> None:
    outbox.commit([alert(payload=b"kept")])
    outbox.backup_to(tmp_path / "copy.db")
    copy = Outbox(tmp_path / "copy.db")
    assert payloads(copy) == [b"kept"]
    copy.close()


COMMITTING_PROGRAM = """
import sys
from pathlib import Path
from agent.uplink.outbox import JournalEntry, Outbox, Outgoing
box = Outbox(Path(sys.argv[1]))
print("open", flush=True)
while True:
    seq = box.next_seq()
    message = Outgoing("event/p1", b"%d" % seq, False, seq % 4, None, None, "alert", str(seq))
    entry = JournalEntry("p1", "in", None, b"%d" % seq, seq)
    box.commit([message], [entry], {"p1": b"%d" % seq} if seq % 7 == 0 else {}, {"a": b"%d" % seq})
    print(seq, flush=True)
"""


def test_kill_minus_nine_at_any_instant_loses_no_reported_commit(path: Path) -> None:
    pick = random.Random(0)
    reported: list[int] = []
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", COMMITTING_PROGRAM, str(path)], stdout=subprocess.PIPE, cwd=ROOT
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"open\n"
            time.sleep(pick.uniform(0.0, 0.15))
            os.kill(program.pid, signal.SIGKILL)
            # The last line may be cut short: only whole lines were reported.
            reported += [int(line) for line in program.stdout.read().split(b"\n")[:-1]]

    assert reported
    box = Outbox(path)
    assert box.moved_aside is None
    found = sorted(int(row.message.payload) for row in box.pending(limit=1 << 20, max_bytes=1 << 30))
    recovery = box.recover()
    last = found[-1]
    # Nothing lost, nothing invented, nothing twice; at most one commit per kill was done but not yet reported.
    assert set(reported) <= set(found)
    assert found == list(range(1, last + 1))
    assert len(found) - len(reported) <= 12
    # The journal, the snapshot and the alarm are of the same instant as the messages.
    snapshot = int(recovery.snapshots.get("p1", b"0"))
    assert [int(e.payload) for e in recovery.journal] == list(range(snapshot + 1, last + 1))
    assert recovery.alarms == {"a": b"%d" % last}
    box.close()


class OutboxMachine(RuleBasedStateMachine):
    """Any order of calls agrees with a list in memory."""

    @initialize()
    def open(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.box = Outbox(Path(self.folder.name) / "outbox.db", max_bytes=200)
        self.rows: list[tuple[int, str, int, bytes]] = []  # urgency, kind, order of commit, payload
        self.count = 0
        self.journal: list[tuple[str, bytes]] = []
        self.snapshots: dict[str, bytes] = {}

    @rule(
        kinds=st.lists(st.tuples(st.sampled_from(["alert", "vital"]), st.integers(0, 5)), max_size=4),
        patients=st.lists(st.sampled_from("pq"), max_size=3),
        snapshot=st.sampled_from([None, "p", "q"]),
    )
    def commit(self, kinds: list[tuple[str, int]], patients: list[str], snapshot: str | None) -> None:
        outgoing = []
        for kind, priority in kinds:
            self.count += 1
            payload = b"%020d" % self.count
            make = alert(str(self.count), priority=priority, payload=payload)
            outgoing.append(make if kind == "alert" else vital(payload, priority=priority, expiry_s=None))
            self.rows.append((priority, kind, self.count, payload))
        while outgoing and len(self.rows) > 10 and any(kind == "vital" for _, kind, _, _ in self.rows):
            vitals = [row for row in self.rows if row[1] == "vital"]
            self.rows.remove(min(vitals, key=lambda row: (-row[0], row[2])))
        entries = [entry(b"%d" % self.count, patient) for patient in patients]
        self.journal += [(e.patient, e.payload) for e in entries]
        snapshots = {}
        if snapshot is not None:
            snapshots[snapshot] = b"%d" % self.count
            self.journal = [(patient, payload) for patient, payload in self.journal if patient != snapshot]
        self.snapshots |= snapshots
        self.box.commit(outgoing, entries, snapshots)

    @rule(n=st.integers(0, 5))
    def deliver(self, n: int) -> None:
        ids = [row.id for row in self.box.pending(limit=n)]
        self.rows.sort(key=lambda row: (row[0], row[2]))
        del self.rows[: len(ids)]
        self.box.delivered(ids)

    @rule()
    def restart(self) -> None:
        self.box.close()
        self.box = Outbox(Path(self.folder.name) / "outbox.db", max_bytes=200)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "box"):
            return
        expected = [row[3] for row in sorted(self.rows, key=lambda row: (row[0], row[2]))]
        assert payloads(self.box, limit=1000) == expected
        assert self.box.depth().payload_bytes == 20 * len(expected)
        recovery = self.box.recover()
        assert [(e.patient, e.payload) for e in recovery.journal] == self.journal
        assert recovery.snapshots == self.snapshots

    def teardown(self) -> None:
        if hasattr(self, "box"):
            self.box.close()
            self.folder.cleanup()


TestOutboxInAnyOrder = OutboxMachine.TestCase
TestOutboxInAnyOrder.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
