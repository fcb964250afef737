"""`vagus alerts`: what was raised is listed, shown, drawn, exported, counted; `replay --alert` makes it again."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import wfdb
from PIL import Image
from test_recreate import NOON_NS, Ward

from agent.cli import main
from agent.history import History
from agent.inference import shipped_models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.standing import technical
from firmware_bridge.chunk import NS_PER_S

SCRIPT = (Episode(Rhythm.SINUS, 14.0), Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 6.0), Episode(Rhythm.SINUS, 8.0))
PATIENT = SimulatedPatient(7, script=SCRIPT)
NOTHING = "no alert is kept of this time\n"
RULE = "ventricular_tachycardia"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of an agent that has watched a heart and a glucose sensor, with a nurse about."""
    ward = Ward(tmp_path_factory.mktemp("state"), *watched())
    falling = cgm_readings(3, ((0.0, 130.0), (3.0, 120.0), (4.0, 48.0), (5.0, 90.0)))
    ward.live(list(cgm_chunks(falling, t0_ns=NOON_NS - 5 * 3600 * NS_PER_S)), every_s=60)
    ward.live(list(PATIENT.chunks(t0_ns=NOON_NS, chunk_s=1.0)))
    ward.history.flush()
    (alert,) = [one for one in ward.alerts() if one.rule == RULE]
    asked = {"patient": "demo", "by": "nurse", "alert_id": alert.id}
    say(ward, "ack", asked, alert.first.at_ns + 30 * NS_PER_S)
    judged = asked | {"verdict": "false", "note": "brushing teeth"}
    say(ward, "verdict", judged, alert.first.at_ns + 60 * NS_PER_S)
    ward.history.note_suppressed("demo", NOON_NS, "asystole", "the pulse goes on: 71 a minute")
    for low in (one for one in ward.alerts() if one.rule == "predicted_low"):
        ward.history.note_suppressed("demo", low.first.at_ns, "predicted_low", "over after 9 s, and held back for 60 s")
    ward.stop()
    return ward.folder


def watched() -> tuple[Person, object]:
    cgm = next(cgm_chunks(cgm_readings(3)[:1])).stream
    return Person("demo", (PATIENT.stream(), cgm)), shipped_models()


def say(ward: Ward, command: str, asked: dict[str, str], now_ns: int) -> None:
    payload = json.dumps(asked).encode()
    ward.worker.tick([Delivery((), f"cmd/{command}", None, payload, now_ns, lambda: None, command)], now_ns)
    ((_, outcome),) = ward.worker.answers()
    assert outcome.accepted, outcome.words


def run(capsys: pytest.CaptureFixture[str], *args: object, exit_code: int = 0) -> str:
    assert main([str(arg) for arg in args]) == exit_code
    said = capsys.readouterr()
    return said.out if exit_code == 0 else said.out + said.err


def id_of(capsys: pytest.CaptureFixture[str], state: Path, rule: str) -> str:
    listed = run(capsys, "alerts", "--json", "--state", state).splitlines()
    return next(one["alert_id"] for one in map(json.loads, listed) if one["rule"] == rule)


def test_listed_in_order_with_what_became_of_them(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "alerts", "--state", state).splitlines()
    assert len(lines) >= 5
    assert [line[:23] for line in lines] == sorted(line[:23] for line in lines)
    (line,) = [line for line in lines if "suggestive of ventricular tachycardia" in line]
    assert "  demo  high    false " in line
    assert run(capsys, "alerts", "--patient", "nobody", "--state", state) == NOTHING
    later = run(capsys, "alerts", "--since", "2025-11-24T12:00", "--state", state).splitlines()
    silent = [line for line in lines if "ECG simulator/ecg has sent nothing" in line]
    assert later == [*silent[:1], *(line for line in lines if line >= "2025-11-24 12:00")]
    assert run(capsys, "alerts", "--since", "1h", "--state", state) == NOTHING


def test_what_was_held_back_can_be_asked(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low, asystole = run(capsys, "alerts", "--suppressed", "--state", state).splitlines()
    assert asystole == "2025-11-24 12:00:00.000  demo  asystole  the pulse goes on: 71 a minute"
    told = run(capsys, "alerts", "--suppressed", "--json", "--state", state).splitlines()
    assert [json.loads(line)["rule"] for line in told] == ["predicted_low", "asystole"]
    shown = run(capsys, "alerts", "show", id_of(capsys, state, "predicted_low"), "--state", state)
    assert "never sent: over after 9 s, and held back for 60 s" in shown
    (line,) = [line for line in run(capsys, "alerts", "--state", state).splitlines() if line[:23] == low[:23]]
    assert "  held back  " in line


def test_shown_in_words(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "alerts", "show", id_of(capsys, state, RULE)[:6], "--state", state)
    for part in (
        "Run of 5 ventricular beats",
        "acknowledged by nurse, 30 s after it was raised",
        "judged false by nurse: brushing teeth",
        "strip: 10.0 s at 250 Hz (II)",
        "limit_bpm 100",
        "pack beat sha256 ",
        "research software, not a medical device",
    ):
        assert part in said
    kept = json.loads(run(capsys, "alerts", "show", id_of(capsys, state, RULE), "--json", "--state", state))
    assert len(kept["evidence"]["strip"]["samples"][0]) == 2500
    assert kept["verdict"]["word"] == "false"


def test_drawn_on_ecg_paper_to_scale(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vt.png"
    run(capsys, "alerts", "show", id_of(capsys, state, RULE), "--png", path, "--state", state)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    shaded = (red > 240) & (green > 180) & (blue < 170)
    ink = pixels.max(axis=2) < 60
    paper = (pixels == (255, 246, 244)).all(axis=2)
    columns = np.flatnonzero(paper.any(axis=0))
    assert columns[-1] - columns[0] == pytest.approx(250 * 6, abs=6)  # 10 s at 25 mm/s, 6 pixels a millimetre
    assert shaded[:, columns[0] + 1000 :].sum() > 20 * shaded[:, : columns[0] + 1000].sum()
    rows = np.flatnonzero(paper.any(axis=1))
    inked = np.flatnonzero(ink[rows[0] : rows[-1], columns[0] + 100 : columns[-1]].any(axis=1))
    kept = json.loads(run(capsys, "alerts", "show", id_of(capsys, state, RULE), "--json", "--state", state))
    samples = np.array(kept["evidence"]["strip"]["samples"][0])
    assert np.ptp(inked) / 6 == pytest.approx(10 * np.ptp(samples), abs=1.0)  # 10 mm/mV


def test_glucose_is_drawn_as_a_curve(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "low.png"
    run(capsys, "alerts", "show", id_of(capsys, state, "low"), "--png", path, "--state", state)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    for colour in ((228, 244, 228), (176, 0, 32), (200, 215, 240)):  # target, limit, forecast
        assert (pixels == colour).all(axis=2).sum() > 50


def test_exported_around_the_alert_sample_for_sample(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alert_id = id_of(capsys, state, RULE)
    said = run(capsys, "alerts", "export", alert_id, "--before", 3600, "--out", tmp_path / "out", "--state", state)
    header = next(Path(line) for line in said.splitlines() if line.endswith(".hea"))
    record = wfdb.rdrecord(str(header.with_suffix("")))
    np.testing.assert_array_equal(record.p_signal.astype(np.float32), PATIENT.samples)
    notes = wfdb.rdann(str(header.with_suffix("")), "vagus").aux_note
    assert any(note.startswith(f"start {RULE} high {alert_id}: Run of 5") for note in notes)


def test_counted(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = json.loads(run(capsys, "alerts", "stats", "--json", "--state", state))
    listed = [json.loads(line) for line in run(capsys, "alerts", "--json", "--state", state).splitlines()]
    assert row["held_back"] == 2
    assert row["alarms"] == len(listed) - 1
    listed = [one for one in listed if not one["held_back"]]
    assert row["days"] == 1.0
    assert row["per_day"]["high"] == sum(a["priority"] == "high" and a["category"] == "physiological" for a in listed)
    assert row["acknowledged"] == pytest.approx(1 / len(listed))
    assert row["to_acknowledgement_s"] == 30
    assert row["judged"]["false"] == pytest.approx(1 / len(listed))
    assert "not actionable" in run(capsys, "alerts", "stats", "--state", state)


def test_made_again(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alert_id = id_of(capsys, state, RULE)
    assert "made again to the byte" in run(capsys, "replay", "--alert", alert_id[:8], "--state", state)
    told = json.loads(run(capsys, "replay", "--alert", alert_id, "--state", state, "--json"))
    assert told["same"]
    assert [event["phase"] for event in told["events"]] == ["start", "end"]


@pytest.mark.parametrize(
    ("args", "exit_code", "words"),
    [
        (("alerts", "show", "ffff"), 1, "no alert has the id 'ffff'"),
        (("alerts", "show"), 2, "needs the ID"),
        (("alerts", "list", "ffff"), 2, "vagus alerts show ffff"),
        (("alerts", "export", "ffff"), 2, "needs --out DIR"),
        (("alerts", "--since", "yesterday"), 2, "like 2h or 3d"),
        (("replay", "--alert", "ffff"), 1, "no alert has the id 'ffff'"),
        (("replay",), 2, "or vagus replay --alert ID"),
    ],
)
def test_what_cannot_be_is_said(
    state: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], exit_code: int, words: str
) -> None:
    assert words in run(capsys, *args, "--state", state, exit_code=exit_code)


def test_without_a_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in run(capsys, "alerts", "--state", tmp_path, exit_code=1)


def test_without_a_recording(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "history.sqlite").write_bytes((state / "history.sqlite").read_bytes())
    alert_id = id_of(capsys, state, RULE)
    assert "the recording is incomplete" in run(capsys, "replay", "--alert", alert_id, "--state", tmp_path, exit_code=1)
    out = tmp_path / "out"
    assert "nothing is recorded" in run(
        capsys, "alerts", "export", alert_id, "--out", out, "--state", tmp_path, exit_code=1
    )


def test_of_an_agent_from_before_alerts_were_kept_there_are_the_words(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "history.sqlite").write_bytes((state / "history.sqlite").read_bytes())
    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as db:
        db.executescript("DROP TABLE alert; DROP TABLE attention; DROP TABLE suppressed;")
    alert_id = id_of(capsys, tmp_path, RULE)
    assert "no evidence is kept" in run(capsys, "alerts", "show", alert_id, "--state", tmp_path)
    assert run(capsys, "alerts", "--suppressed", "--state", tmp_path) == "no alarm was held back in this time\n"
    png = tmp_path / "a.png"
    words = run(capsys, "alerts", "show", alert_id, "--png", png, "--state", tmp_path, exit_code=1)
    assert "nothing to draw" in words
    assert not png.exists()
    assert "only the words are kept" in run(capsys, "replay", "--alert", alert_id, "--state", tmp_path, exit_code=1)


def test_what_the_agent_says_of_itself_is_not_made_again(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(History(tmp_path / "history.sqlite")) as history:
        history.note_events([technical("ward", "outbox_full", time.time_ns(), "The disk is full")])
    alert_id = id_of(capsys, tmp_path, "outbox_full")
    words = run(capsys, "replay", "--alert", alert_id, "--state", tmp_path, exit_code=1)
    assert "what the agent says of itself" in words
