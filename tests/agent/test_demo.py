"""The demo: what it expects, how it judges, what it draws, and that one command plays it with the real agent."""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from agent.broker import find_mosquitto
from agent.config import load_config
from agent.demo.bluetooth import ECG_HZ, virtual_bluetooth
from agent.demo.display import LiveDisplay
from agent.demo.play import agent_config, demo_command
from agent.demo.programme import recorded, scripted
from agent.demo.trace import trace
from agent.demo.truth import Expected, Heard, expected_alarms, judge
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.simulate import EPOCH_NS, Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from firmware_bridge.chunk import NS_PER_S


def heard(rule: str, onset_s: float, heard_s: float = 40.0) -> Heard:
    return Heard(f"{rule}-{onset_s}", rule, "high", "…", onset_s, heard_s)


def test_the_script_calls_for_one_alarm_of_each_kind() -> None:
    programme = scripted(None)
    assert programme.expected is not None
    assert [one.rule for one in programme.expected] == [
        "predicted_low",
        "ventricular_tachycardia",
        "pause",
        "asystole",
        "lead_off",
        "stream_silent",
    ]


def test_a_shortened_script_calls_only_for_what_it_still_shows() -> None:
    for seconds in (5.0, 26.0, 32.0, 44.0):
        programme = scripted(seconds)
        assert programme.duration_s == seconds
        assert programme.expected is not None
        assert all(one.due_s <= seconds for one in programme.expected)
    assert [one.rule for one in scripted(32.0).expected or ()] == ["predicted_low", "ventricular_tachycardia"]


def test_what_the_glucose_sensor_stored_raises_nothing_and_the_reading_of_now_warns() -> None:
    programme = scripted(None)
    assert programme.cgm is not None
    assert programme.cgm_chunks is not None
    engine = Engine([Person(programme.cgm.patient, (programme.cgm,))], shipped_models())
    *stored, fresh = programme.cgm_chunks(EPOCH_NS)
    assert engine.step(stored, EPOCH_NS) == []
    (warning,) = engine.step([fresh], fresh.t0_ns)
    assert (warning.rule, warning.phase, warning.late) == ("predicted_low", "start", False)


def test_a_longer_script_goes_on_with_a_normal_rhythm() -> None:
    programme = scripted(100.0)
    assert programme.duration_s == 100.0
    assert programme.phase(99.0) == "a normal rhythm"


def test_premature_beats_and_a_slow_heart_call_for_nothing_here() -> None:
    assert expected_alarms(SimulatedPatient(1, script=[Episode(Rhythm.ECTOPY, 60.0)])) == ()


@pytest.mark.parametrize(("seed", "rate_hz"), [(2, 250), (3, 250), (5, 250), (7, 250), (1, ECG_HZ), (2, ECG_HZ)])
def test_other_people_with_that_script_get_the_alarms_it_calls_for(seed: int, rate_hz: float) -> None:
    patient = SimulatedPatient(seed, rate_hz)
    stream = patient.stream()
    engine = Engine([Person(stream.patient, (stream,))], shipped_models(), mains_hz=50)
    events = [event for chunk in patient.chunks(stream) for event in engine.step([chunk]) if event.phase == "start"]
    alerts = [
        Heard(
            event.alert_id,
            event.rule,
            event.priority,
            event.text,
            onset_s=(event.onset_ns - EPOCH_NS) / NS_PER_S,
            heard_s=(event.at_ns - EPOCH_NS) / NS_PER_S,
        )
        for event in events
    ]
    verdicts = judge(expected_alarms(patient), alerts)
    assert all(verdict.latency_s is not None and verdict.latency_s < 6 for verdict in verdicts)


def test_an_answer_is_an_alert_of_that_rule_at_that_time() -> None:
    expected = [Expected("asystole", 30.0, 35.0), Expected("stream_silent", 60.0, 66.0)]
    verdicts = judge(expected, [heard("stream_silent:strap/ecg", 60.5, 66.0), heard("asystole", 31.0, 35.5)])
    assert [(one.expected, one.heard is not None) for one in verdicts] == [(expected[0], True), (expected[1], True)]
    assert [one.latency_s for one in verdicts] == [5.5, 6.0]


def test_what_did_not_come_and_what_nobody_ordered_are_both_told() -> None:
    expected = [Expected("asystole", 30.0, 35.0)]
    verdicts = judge(expected, [heard("asystole", 50.0, 55.0), heard("pause", 30.0, 34.0)])
    assert [(one.expected is not None, one.heard is not None) for one in verdicts] == [
        (False, True),
        (True, False),
        (False, True),
    ]
    assert all(one.latency_s is None for one in verdicts)


def test_one_alert_answers_one_alarm() -> None:
    expected = [Expected("pause", 10.0, 14.0), Expected("pause", 12.0, 16.0)]
    verdicts = judge(expected, [heard("pause", 10.5)])
    assert {one.expected: one.heard is not None for one in verdicts} == {expected[0]: True, expected[1]: False}


def test_a_trace_shows_the_highest_and_the_lowest_where_they_are() -> None:
    assert trace(np.array([1.0, 0.0]), columns=1, rows=1, low=0.0, high=1.0) == ["\u2881"]
    flat = trace(np.zeros(80), columns=10, rows=3, low=-1.0, high=1.0)
    assert [set(line) == {"\u2800"} for line in flat] == [True, False, True]


def test_a_trace_is_blank_where_there_is_no_signal_and_keeps_narrow_peaks() -> None:
    signal = np.zeros(1_000)
    signal[700] = 9.0
    signal[:500] = np.nan
    lines = trace(signal, columns=20, rows=4, low=-1.0, high=1.0)
    assert {len(line) for line in lines} == {20}
    assert {line[:10] for line in lines} == {"\u2800" * 10}
    assert [column for column, cell in enumerate(lines[0]) if cell != "\u2800"] == [14]


def test_the_picture_can_be_drawn_at_any_time() -> None:
    programme = scripted(8.0)
    console = Console(width=70, file=io.StringIO(), force_terminal=True)
    display = LiveDisplay(programme, console)
    for chunk in programme.ecg_chunks(EPOCH_NS):
        display.sent(chunk, EPOCH_NS)
    display.vital("hr", 72.4, "1/min")
    display.began(heard("asystole", 3.0))
    for t_s in (-1.0, 0.0, 3.0, 8.0, 99.0):
        display.advance(t_s)
        with console.capture() as drawn:
            console.print(display.picture())
        assert "heart rate 72/min" in drawn.get()
        assert max(len(line) for line in Text.from_ansi(drawn.get()).plain.splitlines()) <= 70


def test_the_agent_accepts_the_config_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "vagus.toml"
    path.write_text(agent_config(scripted(None), 1883, tmp_path))
    config = load_config(path)
    assert config.agent.state_dir == tmp_path / "state"
    assert len(config.patients[0].sources) == 2


def write_record(folder: Path) -> Path:
    patient = SimulatedPatient(3, 360.0, [Episode(Rhythm.SINUS, 30.0)])
    digital = np.rint(patient.samples * 200)
    both = np.concatenate([np.zeros_like(digital), digital], axis=1)
    (folder / "rec.dat").write_bytes(both.astype("<i2").tobytes())
    (folder / "rec.hea").write_text(
        f"rec 2 360 {len(both)}\nrec.dat 16 200/mV 16 0 0 0 0 V5\nrec.dat 16 200/mV 16 0 0 0 0 MLII\n"
    )
    return folder / "rec"


def test_a_stretch_of_a_recording_is_played_by_its_analysis_lead(tmp_path: Path) -> None:
    programme = recorded(write_record(tmp_path), 10.0, 5.0)
    chunks = list(programme.ecg_chunks(EPOCH_NS))
    assert programme.ecg.channels == ("MLII",)
    assert programme.expected is None
    assert abs(chunks[0].t0_ns - EPOCH_NS) <= 1
    assert sum(len(chunk.samples) for chunk in chunks) == 5 * 360
    assert max(float(chunk.samples.max()) for chunk in chunks) > 0.5


def test_past_the_end_of_a_recording_there_is_nothing_to_play(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="30 s long"):
        recorded(write_record(tmp_path), 31.0, None)


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_record_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    result = demo("--record", str(tmp_path / "none"))
    assert result.returncode == 2
    assert "none.hea" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.broker
@pytest.mark.skipif(find_mosquitto() is None, reason="needs mosquitto")
def test_one_command_plays_a_recording_through_the_real_agent(tmp_path: Path) -> None:
    result = demo("--plain", "--record", str(write_record(tmp_path)), "--from", "5", "--seconds", "8")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the agent is online" in result.stdout
    assert "heart rate" in result.stdout
    assert "No alert in this stretch." in result.stdout
    assert "vagus run vagus.toml" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.broker
@pytest.mark.skipif(find_mosquitto() is None, reason="needs mosquitto")
def test_an_agent_that_ends_too_soon_is_reported_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = agent_config(scripted(5.0))
    monkeypatch.setattr("agent.demo.play.agent_config", lambda *_: good.replace("[mqtt]", "[mqtt]\nhots = 1"))
    assert demo_command(argparse.Namespace(record=None, start_s=None, seconds=5.0, plain=True)) == 1
    said = capsys.readouterr().out
    assert "the agent ended with 2" in said
    assert "hots" in said


@pytest.mark.broker
@pytest.mark.skipif(find_mosquitto() is None, reason="needs mosquitto")
def test_strap_and_glucose_sensor_are_met_over_bluetooth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bumble", reason="bumble is not installed")
    monkeypatch.setattr("agent.demo.programme.GLUCOSE_NOW_S", 2.0)
    assert demo_command(argparse.Namespace(record=None, start_s=None, seconds=6.0, plain=True)) == 0
    said = capsys.readouterr().out
    assert "it looks for a chest strap and a glucose sensor over Bluetooth" in said
    assert "they go over MQTT" not in said
    assert said.count('type = "ble"') == 2
    assert "heart rate" in said
    (row,) = [line for line in said.splitlines() if "predicted low" in line]
    assert "came" in row


@pytest.mark.broker
@pytest.mark.skipif(find_mosquitto() is None, reason="needs mosquitto")
def test_where_bluetooth_does_not_come_up_the_demo_says_so_and_goes_on_over_mqtt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bumble", reason="bumble is not installed")

    async def in_vain(*_: object) -> None:
        return None

    monkeypatch.setattr("agent.demo.bluetooth.VirtualBluetooth.switch_on", in_vain)
    assert demo_command(argparse.Namespace(record=None, start_s=None, seconds=4.0, plain=True)) == 0
    said = capsys.readouterr().out
    assert "they go over MQTT" in said
    assert 'type = "ble"' not in said


def test_without_bumble_there_is_no_bluetooth_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("firmware_bridge.emulator")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bumble", None)

    async def scenario() -> None:
        async with virtual_bluetooth() as bluetooth:
            assert bluetooth is None

    asyncio.run(scenario())
