"""When patients are shared out anew their state moves: all of it, once, in order, whenever the power fails."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.alerts.kept import kept_alerts
from agent.cli import main
from agent.history import History
from agent.history.file import FILE_NAME as HISTORY
from agent.history.whole import history_of, open_whole_history
from agent.recorder.ring import RECORDINGS, recordings_of
from agent.standing import technical
from agent.uplink.outbox import JournalEntry, Outbox, OutboxError, Outgoing
from agent.workers import moving
from agent.workers.moving import move_to_owners
from agent.workers.places import state_folders
from agent.workers.shares import Layout

PATIENTS = ("anna", "bert", "cleo", "dora", "emil", "fred", "gone")
NOON_NS = 1_796_126_400_000_000_000
Rows = list[tuple[object, ...]]


def message(kind: str, subject: str, text: str) -> Outgoing:
    payload = json.dumps({"subject": subject, "text": text}).encode()
    retain = kind != "event"
    topic = f"vagus/v1/ward/{kind}/{subject}"
    return Outgoing(
        topic, payload, retain, 0, None, "application/json", "alert", None if retain else f"{subject}-{text}"
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of an agent in one process, that has something of everything to keep."""
    box = Outbox(tmp_path / "outbox.sqlite", webhook_bytes=1 << 20)
    for n in range(3):
        for patient in PATIENTS:
            box.commit(
                [message("event", patient, f"said-{n}"), message("summary", patient, f"now-{n}")],
                [JournalEntry(patient, f"vagus/v1/in/of-{patient}/ecg", None, b"%d" % n, n)],
            )
    box.commit(
        [message("event", "ward", "a model is missing"), message("event", "ward:w7", "its disk is full")],
        [],
        {patient: b"state of " + patient.encode() for patient in PATIENTS[:2]},
        {
            **{f"people:{subject}": b"seen" for subject in (*PATIENTS, "ward", "ward:w7")},
            **{f"summary:{subject}": b"{}" for subject in (*PATIENTS, "ward")},
            "audit:head": b"[1, 2]",
        },
    )
    box.commit([], [JournalEntry("anna", "vagus/v1/in/of-anna/ecg", None, b"after", 9)])
    box.close()
    with closing(History(tmp_path / HISTORY, clock_ns=lambda: NOON_NS)) as history:
        for k, patient in enumerate((*PATIENTS, "ward")):
            history.note_events([technical(patient, "stream_silent:x/ecg", NOON_NS + k, f"silence of {patient}")])
    for patient in PATIENTS:
        (tmp_path / RECORDINGS / patient).mkdir(parents=True)
        (tmp_path / RECORDINGS / patient / "1.vgr").write_bytes(patient.encode())
    standing = [["ward", "model_missing:vf", 1, "a model"], ["anna", "device_battery:h10", 2, "empty"]]
    (tmp_path / "standing.json").write_text(json.dumps(standing))
    return tmp_path


def in_outbox(folder: Path) -> dict[str, Rows]:
    tables = {
        "outbox": "SELECT topic, payload, priority, alert_id FROM outbox ORDER BY id",
        "journal": "SELECT patient, topic, payload, now_ns FROM journal ORDER BY id",
        "snapshot": "SELECT patient, state FROM snapshot ORDER BY patient",
        "alarm": "SELECT alert_id, state FROM alarm ORDER BY alert_id",
        "webhook": "SELECT alert_id, payload FROM webhook ORDER BY id",
    }
    if not (folder / "outbox.sqlite").exists():
        return {table: [] for table in tables}
    with closing(sqlite3.connect(folder / "outbox.sqlite")) as db:
        return {table: db.execute(query).fetchall() for table, query in tables.items()}


def everything(state: Path) -> dict[str, Rows]:
    """What all folders hold together, sorted."""
    found: dict[str, Rows] = {}
    for folder in state_folders(state):
        for table, rows in in_outbox(folder).items():
            found.setdefault(table, []).extend(rows)
        files = [(path.parent.name, path.read_bytes()) for path in folder.glob(f"{RECORDINGS}/*/*")]
        found.setdefault(RECORDINGS, []).extend(files)
        standing = folder / "standing.json"
        rows = json.loads(standing.read_text()) if standing.exists() else []
        found.setdefault("standing", []).extend(tuple(row) for row in rows)
    with closing(open_whole_history(state)) as db:
        found["history"] = [(one.patient, one.id) for one in kept_alerts(db)]
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def subjects(folder: Path) -> set[str]:
    """Everybody of whom something is in a folder."""
    rows = in_outbox(folder)
    found = {str(topic).split("/")[4] for topic, *_ in rows["outbox"]}
    found |= {str(patient) for table in ("journal", "snapshot") for patient, *_ in rows[table]}
    found |= {str(key).partition(":")[2] for key, _ in rows["alarm"] if not str(key).startswith("audit:")}
    found |= {path.name for path in (folder / RECORDINGS).glob("*")}
    if (folder / HISTORY).exists():
        with closing(sqlite3.connect(folder / HISTORY)) as db:
            found |= {name for (name,) in db.execute("SELECT DISTINCT patient FROM alarm")}
    return found


def test_everything_of_everybody_moves_to_who_watches_them_and_back(state: Path) -> None:
    before = everything(state)
    for layout in (Layout(3), Layout(2, frozenset({"emil"})), Layout(5), Layout(1)):
        move_to_owners(state, layout, "ward")
        assert everything(state) == before
        for folder in state_folders(state):
            belong = {one for one in PATIENTS if layout.folder(state, one) == folder}
            assert subjects(folder) - belong <= ({"ward", "ward:w7"} if folder == state else set())
            assert subjects(folder) >= belong


def test_what_is_said_of_somebody_stays_in_order(state: Path) -> None:
    move_to_owners(state, Layout(3), "ward")
    owner = Layout(3).folder(state, "anna")
    rows = in_outbox(owner)
    said = [json.loads(bytes(payload))["text"] for topic, payload, *_ in rows["outbox"] if topic.endswith("event/anna")]  # type: ignore[attr-defined, call-overload]
    assert said == ["said-0", "said-1", "said-2"]
    assert [payload for patient, _, payload, _ in rows["journal"] if patient == "anna"] == [b"after"]
    cleo = in_outbox(Layout(3).folder(state, "cleo"))["journal"]
    assert [payload for patient, _, payload, _ in cleo if patient == "cleo"] == [b"0", b"1", b"2"]


def test_a_move_that_is_cut_off_at_any_statement_is_made_good_by_the_next(
    state: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(state)
    was_cut_off = True
    statement = 0
    while was_cut_off:
        statement += 10
        copy = tmp_path_factory.mktemp("copy")
        for path in state.rglob("*"):
            target = copy / path.relative_to(state)
            target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(moving, "_opened", dying_after(statement, moving._opened))
            move_to_owners(copy, Layout(2), "ward")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        was_cut_off = os.waitstatus_to_exitcode(status) == 9
        move_to_owners(copy, Layout(2), "ward")
        assert everything(copy) == before
        assert not subjects(copy) & set(PATIENTS)
    assert statement > 30


def dying_after(statements: int, opened: object) -> object:
    left = [statements]

    def traced(_text: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)

    def opened_and_traced(folder: Path) -> sqlite3.Connection:
        db: sqlite3.Connection = opened(folder)  # type: ignore[operator]
        db.set_trace_callback(traced)
        return db

    return opened_and_traced


def test_nothing_moves_while_somebody_watches(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "PATIENCE_S", 0.0)
    box = Outbox(state / "outbox.sqlite")
    with pytest.raises(OutboxError, match="in use by another process"):
        move_to_owners(state, Layout(2), "ward")
    box.close()


def test_the_history_of_all_workers_reads_as_one(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", "--json", "--state", str(state)]) == 0
    as_one = capsys.readouterr().out
    move_to_owners(state, Layout(4), "ward")
    assert main(["alerts", "--json", "--state", str(state)]) == 0
    assert capsys.readouterr().out == as_one
    assert history_of(state, "cleo") == Layout(4).folder(state, "cleo") / HISTORY
    assert history_of(state, "nobody") == state / HISTORY
    assert recordings_of(state, "cleo") == Layout(4).folder(state, "cleo") / RECORDINGS
    with closing(open_whole_history(state)) as db, pytest.raises(sqlite3.OperationalError):
        db.execute("DELETE FROM f0.alarm")


def test_as_many_histories_as_there_may_be_workers_read_as_one(state: Path) -> None:
    move_to_owners(state, Layout(10), "ward")
    for worker in range(10):
        History(state / f"worker-{worker}" / HISTORY).close()
    with closing(open_whole_history(state)) as db:
        assert {one.patient for one in kept_alerts(db)} == {*PATIENTS, "ward"}
