"""An alert is made again from the recording to the byte, or it is said what has changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent
from agent.alarms.limits import Limits
from agent.alerts.kept import KeptAlert, find_alert, kept_alerts, message_of, said_of
from agent.engine import Engine
from agent.history import History
from agent.history.file import FILE_NAME, open_for_reading
from agent.inference import Models, shipped_models
from agent.ingest.delivery import delivery_of
from agent.ingest.replay import record_chunks
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.ingest.wfdb import read_record
from agent.patient import Person
from agent.recorder import recorder as recorder_module
from agent.recorder.recorder import Recorder
from agent.recorder.recreate import Recreated, Settings, recreate, segments_about
from agent.recorder.ring import Ring, segment_files
from agent.recorder.segment import Tick, read_segment
from agent.spare import Economy, Spare
from agent.uplink.evidence import parse_rfc3339_ns
from agent.uplink.messages import parse_event
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics
from agent.worker import Worker
from firmware_bridge.chunk import NS_PER_S, Chunk

NOON_NS = 1_763_985_600 * NS_PER_S
SCRIPT = (
    Episode(Rhythm.SINUS, 14.0),
    Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 6.0),
    Episode(Rhythm.SINUS, 8.0),
    Episode(Rhythm.ASYSTOLE, 8.0),
    Episode(Rhythm.SINUS, 8.0),
    Episode(Rhythm.SILENCE, 9.0),
    Episode(Rhythm.SINUS, 6.0),
)
ECG = SimulatedPatient(7, script=SCRIPT)


@dataclass
class Ward:
    """An agent's worker over a folder, whose ticks and clock are ours."""

    folder: Path
    person: Person
    models: Models
    economy: Economy = field(default_factory=Economy)

    def __post_init__(self) -> None:
        self.history = History(self.folder / FILE_NAME, days=3660)
        engine = Engine([self.person], self.models, mains_hz=50, watch=self.history.watch)
        self.recorder = Recorder(
            engine,
            self.models,
            Ring(self.folder / "recordings", days=7, max_bytes=1 << 30),
            mains_hz=50,
            late_after_s=30,
        )
        self.outbox = Outbox(self.folder / "outbox.sqlite")
        self.worker = Worker(
            engine,
            self.outbox,
            Topics("ward"),
            wall=True,
            history=self.history,
            recorder=self.recorder,
            economy=self.economy,
        )
        self.worker.recover(lambda *_: ())

    def live(self, chunks: Sequence[Chunk], *, every_s: float = 0.25) -> None:
        """Each chunk arrives 50 ms after its last sample; between them time passes in ticks without data."""
        now_ns = chunks[0].t0_ns
        waiting = list(chunks)
        while waiting:
            now_ns += round(every_s * NS_PER_S)
            come = [chunk for chunk in waiting if chunk.end_ns + NS_PER_S // 20 <= now_ns]
            waiting = waiting[len(come) :]
            self.worker.tick([delivery_of(chunk, now_ns) for chunk in come], now_ns)

    def stop(self) -> None:
        self.recorder.close()
        self.history.close()
        self.outbox.close()

    def again(self, alert: KeptAlert, models: Models | None = None, now: Settings | None = None) -> Recreated:
        with closing(open_for_reading(self.folder / FILE_NAME)) as db:
            said = said_of(db, alert)
        segments = segments_about(self.folder / "recordings", alert.patient, alert.id, said)
        return recreate(segments, alert.id, said, models or self.models, now or Settings(self.person, 50, 30))

    def alerts(self) -> list[KeptAlert]:
        """Those of the rules, not of the agent itself."""
        with closing(open_for_reading(self.folder / FILE_NAME)) as db:
            return [alert for alert in kept_alerts(db) if alert.rule != "agent_restarted"]


@pytest.fixture(scope="module")
def models() -> Models:
    return shipped_models()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[Ward]:
    chunks = list(ECG.chunks(t0_ns=NOON_NS, chunk_s=1.0))
    ward = Ward(tmp_path_factory.mktemp("ward"), Person("demo", (chunks[0].stream,)), models)
    ward.live(chunks)
    ward.stop()
    return ward


def one(ward: Ward, rule: str) -> KeptAlert:
    return next(alert for alert in ward.alerts() if alert.rule.startswith(rule))


def test_every_alert_is_made_again_to_the_byte(ward: Ward) -> None:
    alerts = ward.alerts()
    assert {"ventricular_tachycardia", "asystole", "stream_silent:simulator/ecg"} <= {alert.rule for alert in alerts}
    for alert in alerts:
        again = ward.again(alert)
        assert again.is_same, (alert.rule, again)
        assert not again.notes


def test_the_strip_is_the_recording_sample_for_sample(ward: Ward) -> None:
    recorded = {
        chunk.t0_ns: chunk.samples[:, 0]
        for path in segment_files(ward.folder / "recordings")
        for record in read_segment(path).records
        if isinstance(record, Tick)
        for chunk in record.chunks
    }
    whole = np.concatenate([recorded[t0_ns] for t0_ns in sorted(recorded)])
    with closing(open_for_reading(ward.folder / FILE_NAME)) as db:
        payload = said_of(db, one(ward, "asystole"))["start", one(ward, "asystole").first.at_ns]
    evidence = parse_event(payload).data.evidence
    assert evidence is not None
    strip = evidence.strip.array()[:, 0]
    assert len(strip) == 2500
    windows = np.lib.stride_tricks.sliding_window_view(whole, len(strip))
    assert (windows == strip).all(axis=1).sum() == 1


def test_from_the_middle_of_a_recording(tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files begin where they may: the state of then, beat templates and all, comes from the file's head."""
    monkeypatch.setattr(recorder_module, "SEGMENT_S", 0.0)
    chunks = list(ECG.chunks(t0_ns=NOON_NS, chunk_s=1.0))
    ward = Ward(tmp_path, Person("demo", (chunks[0].stream,)), models)
    ward.live(chunks)
    ward.stop()
    assert len(list(segment_files(tmp_path / "recordings"))) > 20
    for alert in ward.alerts():
        assert ward.again(alert).is_same, alert.rule


def test_over_a_restart(tmp_path: Path, models: Models) -> None:
    chunks = list(ECG.chunks(t0_ns=NOON_NS, chunk_s=1.0))
    person = Person("demo", (chunks[0].stream,))
    first = Ward(tmp_path, person, models)
    first.live(chunks[:30])
    first.worker.save_all()
    first.stop()
    second = Ward(tmp_path, person, models)
    second.live(chunks[30:])
    second.stop()
    asystole = one(second, "asystole")
    assert asystole.first.at_ns > chunks[30].t0_ns
    assert second.again(asystole).is_same


def test_with_less_done_for_a_while(tmp_path: Path, models: Models) -> None:
    chunks = list(ECG.chunks(chunk_s=1.0))
    ward = Ward(tmp_path, Person("demo", (chunks[0].stream,)), models)
    for much, part in ((0, chunks[:8]), (3, chunks[8:30]), (0, chunks[30:])):
        ward.economy.ask("power", Spare(much))
        ward.live(part)
    ward.stop()
    alerts = ward.alerts()
    assert len(list(segment_files(tmp_path / "recordings", "demo"))) == 3
    assert alerts
    for alert in alerts:
        assert ward.again(alert).is_same


def test_an_alert_on_glucose_rests_on_what_was_learned_of_the_person(tmp_path: Path, models: Models) -> None:
    falling = cgm_readings(3, ((0.0, 130.0), (3.0, 120.0), (4.0, 48.0), (5.0, 90.0)))
    chunks = list(cgm_chunks(falling, t0_ns=NOON_NS))
    ward = Ward(tmp_path, Person("demo", (chunks[0].stream,)), models)
    ward.live(chunks, every_s=60)
    ward.stop()
    alerts = ward.alerts()
    assert {"low", "urgent_low"} <= {alert.rule for alert in alerts}
    for alert in alerts:
        assert ward.again(alert).is_same, alert.rule


def test_limits_changed_since_are_said_and_have_no_say(ward: Ward) -> None:
    changed = replace(ward.person, limits=replace(Limits(), asystole_longer_than_s=7.0))
    again = ward.again(one(ward, "asystole"), now=Settings(changed, 60, 30))
    assert again.is_same
    assert any("asystole_longer_than_s 4.0 → 7.0" in note for note in again.notes)
    assert any(note.startswith("mains_hz was 50, is 60") for note in again.notes)


def test_a_pack_that_is_another_is_the_reason(ward: Ward, models: Models) -> None:
    beat = models.beat
    assert beat is not None
    other = replace(models, beat=None)
    again = ward.again(one(ward, "ventricular_tachycardia"), models=other)
    assert not again.is_same
    (reason,) = [reason for reason in again.reasons if reason.startswith("pack changed")]
    assert reason == f"pack changed: beat beat {beat.pack.hash[:12]} then, none now"


def test_another_version_is_the_reason(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.engine.__version__", "9.9")
    monkeypatch.setattr("agent.recorder.recreate.__version__", "9.9")
    again = ward.again(one(ward, "asystole"))
    assert "version changed: 0.1.0 then, 9.9 now" in (*again.reasons, *again.notes)


def test_what_was_said_otherwise_is_named(ward: Ward) -> None:
    alert = one(ward, "asystole")
    with closing(open_for_reading(ward.folder / FILE_NAME)) as db:
        said = {key: text.replace(b"asystole", b"a_systole") for key, text in said_of(db, alert).items()}
    segments = segments_about(ward.folder / "recordings", "demo", alert.id, said)
    again = recreate(segments, alert.id, said, ward.models, Settings(ward.person, 50, 30))
    assert not again.is_same
    assert 'its start differs: rule "a_systole" then, "asystole" now' in again.reasons


def test_an_alert_that_is_not_recorded(ward: Ward, tmp_path: Path) -> None:
    alert = one(ward, "asystole")
    with closing(open_for_reading(ward.folder / FILE_NAME)) as db:
        assert find_alert(db, alert.id[:8]) == alert
        said = said_of(db, alert)
    again = recreate(segments_about(tmp_path, "demo", alert.id, said), alert.id, said, ward.models, None)
    assert not again.is_same
    assert [reason[:42] for reason in again.reasons] == [
        "the recording is incomplete: its start at ",
        "the recording is incomplete: its end at 20",
    ]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_from_a_torn_recording_it_is_the_same_or_said_to_be_incomplete(
    ward: Ward, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    (whole,) = segment_files(ward.folder / "recordings")
    data = whole.read_bytes()
    folder = tmp_path_factory.mktemp("torn")
    (folder / "demo").mkdir()
    (folder / "demo" / whole.name).write_bytes(data[: int(share * len(data))])
    for alert in ward.alerts():
        with closing(open_for_reading(ward.folder / FILE_NAME)) as db:
            said = said_of(db, alert)
        again = recreate(segments_about(folder, "demo", alert.id, said), alert.id, said, ward.models, None)
        assert again.is_same or all(reason.startswith("the recording is incomplete") for reason in again.reasons)
        assert again.is_same or again.reasons


def test_a_fault_begins_the_recording_anew(tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state was set back: nothing that follows is made of what was recorded before."""
    chunks = list(ECG.chunks(t0_ns=NOON_NS, chunk_s=1.0))
    ward = Ward(tmp_path, Person("demo", (chunks[0].stream,)), models)
    step = ward.worker.engine.step

    def failing(come: Sequence[Chunk], now_ns: int | None) -> list[AlertEvent]:
        if any(chunk.t0_ns == chunks[10].t0_ns for chunk in come):
            raise ZeroDivisionError
        return step(come, now_ns)

    monkeypatch.setattr(ward.worker.engine, "step", failing)
    ward.live(chunks)
    ward.stop()
    recorded = [
        chunk.t0_ns
        for path in sorted(segment_files(tmp_path / "recordings"))
        for record in read_segment(path).records
        if isinstance(record, Tick)
        for chunk in record.chunks
    ]
    assert recorded == [chunk.t0_ns for chunk in chunks]
    assert len(list(segment_files(tmp_path / "recordings"))) == 2
    assert ward.again(one(ward, "asystole")).is_same


@pytest.mark.recordings
def test_alerts_of_a_real_record(
    tmp_path: Path, models: Models, recordings_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made again to the byte, and each strip is the record sample for sample."""
    monkeypatch.setattr(recorder_module, "SEGMENT_S", 2.0)
    path = recordings_dir("mitdb") / "208"
    chunks = list(record_chunks(path, t0_ns=NOON_NS, stop_s=240.0))
    ward = Ward(tmp_path, Person("208", (chunks[0].stream,)), models)
    ward.live(chunks, every_s=1.0)
    ward.stop()
    alerts = ward.alerts()
    assert alerts
    whole = read_record(path, stop=240 * 360).signals
    for alert in alerts:
        assert ward.again(alert).is_same, alert.rule
        with closing(open_for_reading(tmp_path / FILE_NAME)) as db:
            message = message_of(said_of(db, alert).values())
        assert message is not None
        if message.data.evidence is not None:
            strip = message.data.evidence.strip
            first = round((parse_rfc3339_ns(strip.t0) - NOON_NS) * strip.rate_hz / NS_PER_S)
            samples = strip.array()
            np.testing.assert_array_equal(samples, whole[first : first + len(samples), : samples.shape[1]])
