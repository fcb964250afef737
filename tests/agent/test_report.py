"""A report says what was kept: its numbers against the readings one by one, its page against hostile names."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent, Category, Phase, Priority
from agent.alarms.observation import Beat, BeatStatus, Observation, Quality
from agent.cli import main
from agent.engine import Engine
from agent.history import History
from agent.history.ecg import BUCKET_NS
from agent.history.file import FILE_NAME, open_for_reading
from agent.inference import shipped_models
from agent.ingest.simulate import CGM_DAY, Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.patient import Person
from agent.report.forecast import low_onsets
from agent.report.markup import Markup, join, tag
from agent.report.page import page
from agent.report.period import read_period
from agent.report.summary import as_json, summarise
from agent.report.words import GlucoseUnit, percent, span
from agent.signal.outlook import Expected, Glucose, Outlook, Risk
from agent.time_zone import local_time
from firmware_bridge.chunk import NS_PER_S, Chunk

ROOT = Path(__file__).parents[2]
FIRST_DAY = datetime(2025, 11, 3, tzinfo=UTC)
"""A Monday."""
T0_NS = round(FIRST_DAY.timestamp()) * NS_PER_S
DAY_NS = 86_400 * NS_PER_S
MIN_NS = 60 * NS_PER_S
DAYS = 8
COURSE = (*CGM_DAY, (24.0, 112.0))


@dataclass(frozen=True, slots=True)
class Built:
    """A state folder as an agent leaves it, and all that was seen while it was filled."""

    folder: Path
    seen: list[Observation]
    events: list[AlertEvent]

    def readings(self) -> list[tuple[int, float]]:
        return [(one.t_ns, one.mg_dl) for one in self.seen if isinstance(one, Glucose)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Eight days of glucose with a hole in it, and a quarter of an hour of ECG on one of them, through the engine."""
    folder = tmp_path_factory.mktemp("state")
    script = (Episode(Rhythm.SINUS, 400.0), Episode(Rhythm.ASYSTOLE, 6.0), Episode(Rhythm.ECTOPY, 400.0))
    heart = SimulatedPatient(4, script=script)
    sugar: list[Chunk] = []
    for day in range(DAYS):
        # The course's last reading is the next day's first.
        readings = cgm_readings(day, COURSE)[:-1]
        sugar += cgm_chunks(readings[: 200 if day == 2 else None], t0_ns=T0_NS + day * DAY_NS)
    beats = list(heart.chunks(t0_ns=T0_NS + 3 * DAY_NS + 10 * 3600 * NS_PER_S, chunk_s=10.0))

    seen: list[Observation] = []
    history = History(folder / FILE_NAME)

    def watch(patient: str, one: Observation) -> None:
        seen.append(one)
        history.watch(patient, one)

    person = Person("demo", (beats[0].stream, sugar[0].stream))
    engine = Engine([person], replace(shipped_models(), glucose=None), watch=watch)
    events = []
    for chunk in sorted([*sugar, *beats], key=lambda chunk: chunk.t0_ns):
        events += engine.step([chunk])
    history.note_events(events)
    for one in [one for one in seen if isinstance(one, Glucose)]:
        rate = one.rate_mg_dl_min or 0.0
        ahead = Expected(30, one.mg_dl + 15 * rate, one.mg_dl + 15 * rate - 12, one.mg_dl + 15 * rate + 12)
        watch("demo", Outlook(one.t_ns, one.mg_dl, (ahead, replace(ahead, minutes=60)), Risk(0), Risk(0), Risk(0)))
    history.close()
    return Built(folder, seen, events)


def report(*arguments: object) -> int:
    return main(["report", *map(str, arguments)])


def numbers_of(built: Built, capsys: pytest.CaptureFixture[str], *more: object) -> dict[str, object]:
    assert report("demo", "--state", built.folder, "--days", DAYS, "--json", *more) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def page_of(built: Built, tmp_path: Path, *more: object) -> str:
    out = tmp_path / "page.html"
    assert report("demo", "--state", built.folder, "--days", DAYS, "--out", out, *more) == 0
    return out.read_text(encoding="utf-8")


def at(tree: Any, *keys: str | int) -> Any:
    for key in keys:
        tree = tree[key]
    return tree


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_glucose_measures_are_those_of_the_readings(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    measures = at(numbers_of(built, capsys), "glucose", "over", "measures")
    mg_dl = [value for _, value in built.readings()]
    assert len(mg_dl) == DAYS * 288 - 88
    mean = sum(mg_dl) / len(mg_dl)
    expected = {
        "mean_mg_dl": mean,
        "sd_mg_dl": statistics.stdev(mg_dl),
        "cv_percent": 100 * statistics.stdev(mg_dl) / mean,
        "gmi_percent": 3.31 + 0.02392 * mean,
        "below_70_percent": 100 * sum(value < 69.5 for value in mg_dl) / len(mg_dl),
        "above_180_percent": 100 * sum(value >= 180.5 for value in mg_dl) / len(mg_dl),
    }
    assert {name: at(measures, name) for name in expected} == pytest.approx(expected, abs=1e-4)
    assert at(measures, "below_70_percent") != 0


def test_coverage_counts_the_hole(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = numbers_of(built, capsys)
    assert at(numbers, "glucose", "over", "coverage") == pytest.approx(1 - 88 / (DAYS * 288), abs=0.002)
    assert at(numbers, "glucose", "interval_s") == 300
    assert [at(day, "readings") for day in at(numbers, "glucose", "by_day")] == [288, 288, 200, *[288] * 5]


def test_the_usual_day_is_made_of_all_days(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    profile = at(numbers_of(built, capsys), "glucose", "profile")
    noon = at(profile, "minute_of_day").index(12 * 60)
    around = sorted(
        value for t_ns, value in built.readings() if -30 * MIN_NS <= (t_ns - T0_NS) % DAY_NS - DAY_NS // 2 < 30 * MIN_NS
    )
    assert at(profile, "readings", noon) == len(around) == DAYS * 12
    assert at(profile, "mg_dl", 2, noon) == pytest.approx(statistics.median(around))


def test_the_heart_is_that_of_the_beats(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    heart = at(numbers_of(built, capsys), "heart")
    seconds = [one for one in built.seen if isinstance(one, Quality)]
    beats = [one for one in built.seen if isinstance(one, Beat) and one.status is BeatStatus.CONFIRMED and one.usable]
    assert at(heart, "seen_h") == pytest.approx(len(seconds) / 3600)
    assert at(heart, "usable_percent") == pytest.approx(100 * sum(one.good for one in seconds) / len(seconds))
    assert at(heart, "beats") == len(beats)
    ventricular = [beat for beat in beats if beat.label == "V"]
    assert at(heart, "ventricular_percent") == pytest.approx(100 * len(ventricular) / len(beats), abs=1e-4)
    assert len(ventricular) > 30
    assert 70 < at(heart, "mean_bpm") < 77
    assert at(heart, "longest_interval_s") > 6
    stopped = [event for event in built.events if event.rule in {"pause", "asystole"} and event.phase is Phase.START]
    assert at(heart, "pauses") == len(stopped) > 0
    by_hour = at(heart, "by_hour")
    assert [at(hour, "hour") for hour in by_hour if at(hour, "bpm") is not None] == [10]
    assert at(by_hour, 10, "seen_percent") == pytest.approx(100 * len(seconds) / (DAYS * 3600), abs=0.01)
    assert [at(day, "seen_h") for day in at(heart, "by_day")][3] == pytest.approx(len(seconds) / 3600)


def test_alarms_are_counted_by_rule_and_day(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    table = at(numbers_of(built, capsys), "alarms")
    starts = [event for event in built.events if event.phase is Phase.START]
    rules = {str(at(rule, "rule")): rule for rule in at(table, "rules")}
    assert rules.keys() == {event.rule for event in built.events}
    assert "low" in rules
    for name, rule in rules.items():
        days = [(event.at_ns - T0_NS) // DAY_NS for event in starts if event.rule == name]
        assert at(rule, "alarms") == len(days)
        assert at(rule, "by_column") == [days.count(day) for day in range(DAYS)]
    ends = {event.alert_id: event.at_ns for event in built.events if event.phase is Phase.END}
    on_ns = sum(ends[event.alert_id] - event.onset_ns for event in starts if event.rule == "low")
    assert at(rules["low"], "on_s") == pytest.approx(on_ns / NS_PER_S)


def test_forecasts_are_scored_against_what_came(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    near = at(numbers_of(built, capsys), "forecasts", "horizons", 0)
    came = dict(built.readings())
    pairs = [
        (one.expected[0], one.mg_dl, came[one.t_ns + 30 * MIN_NS])
        for one in built.seen
        if isinstance(one, Outlook) and one.t_ns + 30 * MIN_NS in came
    ]
    assert at(near, "pairs") == len(pairs) > 2000
    errors = [expected.mg_dl - value for expected, _, value in pairs]
    assert at(near, "rmse_mg_dl") == pytest.approx(math.sqrt(sum(e * e for e in errors) / len(errors)), abs=1e-4)
    held = [now - value for _, now, value in pairs]
    assert at(near, "last_value_rmse_mg_dl") == pytest.approx(math.sqrt(sum(e * e for e in held) / len(held)), abs=1e-4)
    inside = sum(expected.low_mg_dl <= value <= expected.high_mg_dl for expected, _, value in pairs)
    assert at(near, "interval_percent") == pytest.approx(100 * inside / len(pairs), abs=1e-4)


def test_warnings_are_held_against_the_lows_that_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(tmp_path / FILE_NAME)
    lows = {100, 101, 102, 160, 161, 200}  # of five minutes each; the last is a single reading, no event
    for k in range(288):
        t_ns = T0_NS + k * 5 * MIN_NS
        history.watch("p", Glucose(t_ns, 65.0 if k in lows else 110.0))
        history.watch("p", Outlook(t_ns, 110.0, (), Risk(0), Risk(0), Risk(0)))
    for start, end in ((96, 101), (159, 162), (30, 40), (196, 202)):
        for phase, k in ((Phase.START, start), (Phase.END, end)):
            history.note_events([alarm(k, phase, onset=start)])
    history.note_events([alarm(36, Phase.CONTINUE, onset=30)])
    history.close()
    assert report("p", "--state", tmp_path, "--days", 1, "--json") == 0
    lows_said = at(json.loads(capsys.readouterr().out), "forecasts", "lows")
    assert lows_said == {
        "came": 2,
        "warned": 2,
        "early": 1,
        "warnings": 5,
        "false": 2,
        "usable_days": 1.0,
    }


def test_an_alarm_that_was_held_back_and_never_sent_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(tmp_path / FILE_NAME)
    for k in (10, 20):
        history.watch("p", Glucose(T0_NS + k * 5 * MIN_NS, 260.0))
        history.note_events([alarm(k, phase, onset=k, rule="high") for phase in (Phase.START, Phase.END)])
    history.note_suppressed("p", T0_NS + 20 * 5 * MIN_NS, "high", "over after 40 s")
    history.close()
    assert report("p", "--state", tmp_path, "--days", 1, "--json") == 0
    rules = at(json.loads(capsys.readouterr().out), "alarms", "rules")
    assert [(one["rule"], one["alarms"]) for one in rules] == [("high", 1)]


def alarm(k: int, phase: Phase, *, onset: int, rule: str = "predicted_low", patient: str = "p") -> AlertEvent:
    return AlertEvent(
        f"{rule}{onset}",
        patient,
        rule,
        Category.PHYSIOLOGICAL,
        Priority.LOW,
        phase,
        T0_NS + onset * 5 * MIN_NS,
        T0_NS + k * 5 * MIN_NS,
        "Glucose is expected below 70 mg/dL",
    )


def test_a_low_of_a_quarter_hourly_sensor_is_one_too() -> None:
    below = np.array([0, 15, 30, 300, 400, 415], np.int64) * MIN_NS
    assert low_onsets(below, 900.0) == [0, 400 * MIN_NS]
    assert low_onsets(below, 300.0) == []


# -- days and zones ---------------------------------------------------------------------------------------------------


def test_days_are_those_of_the_zone(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = numbers_of(built, capsys, "--timezone", "America/New_York")
    zone = ZoneInfo("America/New_York")
    local = [datetime.fromtimestamp(t_ns / NS_PER_S, zone).date().isoformat() for t_ns, _ in built.readings()]
    by_day = at(numbers, "glucose", "by_day")
    assert [at(day, "day") for day in by_day] == sorted(set(local))[-DAYS:]
    assert [at(day, "readings") for day in by_day] == [local.count(str(at(day, "day"))) for day in by_day]


def test_a_day_with_a_changed_clock_has_all_its_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clocks went back in Berlin on 26 October 2025: that day had 25 hours."""
    history = History(tmp_path / FILE_NAME)
    begin = datetime(2025, 10, 25, 22, 0, tzinfo=UTC)
    for k in range(25 * 12):
        history.watch("p", Glucose(round((begin + timedelta(minutes=5 * k)).timestamp()) * NS_PER_S, 120.0))
    history.close()
    assert report("p", "--state", tmp_path, "--days", 1, "--json", "--timezone", "Europe/Berlin") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["first_day"], numbers["last_day"]) == ("2025-10-26", "2025-10-26")
    assert numbers["glucose"]["over"]["readings"] == 300


def test_until_shows_earlier_days(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("demo", "--state", built.folder, "--days", 2, "--until", "2025-11-05", "--json") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert [day["day"] for day in numbers["glucose"]["by_day"]] == ["2025-11-04", "2025-11-05"]
    assert numbers["glucose"]["over"]["coverage"] == pytest.approx(488 / 576, abs=0.002)
    assert numbers["heart"] is None


# -- the page ---------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Reads a page as a browser would: what elements there are, whether they close, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for element, attributes in self.elements if element == name]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def check(text: str) -> Reader:
    """A page that needs nothing else, says what its pictures show, and has heads on its tables."""
    read = Reader(text)
    assert not {"script", "link", "img", "iframe", "object", "foreignobject"} & {name for name, _ in read.elements}
    for _, attributes in read.elements:
        assert not any(key.startswith("on") or key in {"href", "src"} for key in attributes)
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text.replace("url(#", "")
    assert "nan" not in {word.lower() for word in re.findall(r"[A-Za-z]+", re.sub(r"<style>.*?</style>", "", text))}
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = read.all("svg")
    assert all(picture["role"] == "img" for picture in pictures)
    named = [name for picture in pictures for name in (picture["aria-labelledby"] or "").split()]
    assert len(named) == 2 * len(pictures)
    assert set(named) <= set(ids)
    assert len(read.all("desc")) == len(pictures)
    assert text.count("<th ") >= text.count("<tr")
    assert "Research software, not a medical device" in read.text
    return read


def test_the_page_shows_the_numbers(built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = numbers_of(built, capsys)
    read = check(page_of(built, tmp_path))
    measures = at(numbers, "glucose", "over", "measures")
    for shown in (
        "3 Nov 2025 to 10 Nov 2025",
        f"{at(measures, 'mean_mg_dl'):.0f} ± {at(measures, 'sd_mg_dl'):.0f}",
        f"{at(measures, 'below_70_percent'):.1f} %",
        f"{at(numbers, 'forecasts', 'horizons', 0, 'rmse_mg_dl'):.1f}",
        f"{at(numbers, 'heart', 'beats'):,}",
        f"{at(numbers, 'heart', 'ventricular_percent'):.2f} %",
        "Sun 9 Nov",
    ):
        assert shown in read.text, shown
    assert len(read.all("li")) >= DAYS


def test_the_other_unit(built: Built, tmp_path: Path) -> None:
    mmol = check(page_of(built, tmp_path, "--unit", "mmol/L"))
    mean = statistics.fmean(value for _, value in built.readings())
    assert f"{mean / 18.0156:.1f} mmol/L" in mmol.text
    assert "3.9–10.0" in mmol.text
    assert "mg/dL" not in mmol.text


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\N{RIGHT-TO-LEFT OVERRIDE}&amp;\x00]]>'


def test_a_pseudonym_or_a_text_cannot_break_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(tmp_path / FILE_NAME)
    for k in range(300):
        history.watch(HOSTILE, Glucose(T0_NS + k * 5 * MIN_NS, 120.0, doubt=HOSTILE))
    history.note_events([alarm(3, Phase.START, onset=3, rule=f"stream_silent:{HOSTILE}", patient=HOSTILE)])
    db = sqlite3.connect(tmp_path / FILE_NAME)
    history.close()
    with db:
        db.execute("UPDATE alarm SET priority = ?, category = 'technical'", (HOSTILE,))
    db.close()
    out = tmp_path / "page.html"
    assert report(HOSTILE, "--state", tmp_path, "--out", out) == 0
    read = check(out.read_text(encoding="utf-8"))
    assert "<script>alert(1)</script>" in read.text, "shown as the text that it is"
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in read.text


def test_a_hostile_pseudonym_names_a_file_in_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "here").mkdir()
    history = History(tmp_path / "state" / FILE_NAME)
    history.watch("../../etc/x", Glucose(T0_NS, 120.0))
    history.close()
    monkeypatch.chdir(tmp_path / "here")
    assert report("../../etc/x", "--state", tmp_path / "state") == 0
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["report-_.._etc_x-2025-11-03.html"]


@given(
    days=st.sampled_from([1, 3, 14, 30, 90]),
    readings=st.lists(st.tuples(st.integers(0, 40 * 288), st.floats(20, 600)), max_size=80),
    buckets=st.lists(st.tuples(st.integers(0, 40 * 288), st.integers(0, 900)), max_size=20),
    interval=st.sampled_from([1, 5, 15]),
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_kept_makes_a_page(
    tmp_path_factory: pytest.TempPathFactory,
    days: int,
    readings: list[tuple[int, float]],
    buckets: list[tuple[int, int]],
    interval: int,
) -> None:
    path = tmp_path_factory.mktemp("state") / FILE_NAME
    history = History(path)
    for k, mg_dl in readings:
        history.watch("p", Glucose(T0_NS + k * interval * MIN_NS, mg_dl))
        history.watch("p", Outlook(T0_NS + k * interval * MIN_NS, mg_dl, (), Risk(0), Risk(0), Risk(0)))
    for k, beats in buckets:
        start_ns = T0_NS + k * BUCKET_NS
        history.watch("p", Quality(start_ns, start_ns + NS_PER_S, good=bool(beats % 2)))
        for beat in range(beats):
            history.watch("p", Beat(start_ns + beat * NS_PER_S // 3, start_ns, BeatStatus.CONFIRMED, 0.33, "N", 1.0))
    history.close()
    db = open_for_reading(path)
    period = read_period(db, "p", days, local_time("UTC"), now_ns=T0_NS)
    db.close()
    summary = summarise(period)
    json.dumps(as_json(summary), allow_nan=False)
    check(page(period, summary, GlucoseUnit("mg/dL"), "now"))


# -- nothing to report ------------------------------------------------------------------------------------------------


def test_too_few_readings_are_said_to_be_insufficient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(tmp_path / FILE_NAME)
    for k in range(3 * 288):
        history.watch("p", Glucose(T0_NS + k * 5 * MIN_NS, 120.0))
    history.close()
    out = tmp_path / "page.html"
    assert report("p", "--state", tmp_path, "--days", 14, "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["glucose"]["over"]["measures"] is None
    read = check(out.read_text(encoding="utf-8"))
    assert "Insufficient data" in read.text
    assert "Time in ranges" not in read.text
    assert "3 days with readings are too few for a profile" in read.text


def test_nothing_kept_of_the_days_asked_for(built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert report("demo", "--state", built.folder, "--until", "2024-01-01", "--out", out) == 1
    assert "No data" in check(out.read_text(encoding="utf-8")).text
    assert "nothing is kept of demo" in capsys.readouterr().err


def test_somebody_unknown(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("anna", "--state", built.folder) == 2
    assert capsys.readouterr().err == "vagus report: nothing is known of 'anna'; there is demo\n"


def test_somebody_in_the_config_of_whom_nothing_came_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        '[agent]\nid = "home"\nstate_dir = "state"\ntimezone = "Europe/Berlin"\n[[patient]]\nid = "anna"\n'
        '[[patient.source]]\ntype = "mqtt"\ndevice = "dex"\nchannel = "cgm"\nkind = "cgm"\ninterval_s = 300\n'
    )
    (tmp_path / "state").mkdir()
    History(tmp_path / "state" / FILE_NAME).close()
    out = tmp_path / "page.html"
    assert report("anna", "--config", config, "--out", out) == 1
    read = check(out.read_text(encoding="utf-8"))
    assert "No data: nothing is kept of anna for these 14 days." in read.text
    assert "times in Europe/Berlin" in read.text


@pytest.mark.parametrize("content", [None, b"garbage " * 1000])
def test_a_state_folder_without_a_history_that_can_be_read(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / FILE_NAME).write_bytes(content)
    assert report("anna", "--state", tmp_path) == 1
    assert str(tmp_path / FILE_NAME) in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--days", "0"], ["--days", "91"], ["--until", "yesterday"], ["--unit", "grams"], ["--days", "x"]]
)
def test_wrong_arguments(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        report("anna", *wrong)
    assert stopped.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_a_zone_that_is_none(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("demo", "--state", built.folder, "--timezone", "Mars/Olympus") == 2
    assert "Mars/Olympus" in capsys.readouterr().err


def test_a_recording_can_be_reported_on(tmp_path: Path) -> None:
    """The command line from a WFDB record to a page, in a process of its own."""
    patient = SimulatedPatient(3, script=(Episode(Rhythm.SINUS, 320.0),))
    counts = (patient.samples[:, 0] * 400).round().astype("<i2")
    (tmp_path / "rec.dat").write_bytes(counts.tobytes())
    (tmp_path / "rec.hea").write_text(f"rec 1 250 {len(counts)}\nrec.dat 16 400(0)/mV 16 0 0 0 0 II\n")
    for command in (["replay", "rec", "--state", "state"], ["report", "rec", "--state", "state", "--out", "page.html"]):
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli", *command],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "mean heart rate was 7" in check((tmp_path / "page.html").read_text(encoding="utf-8")).text


# -- words ------------------------------------------------------------------------------------------------------------


def test_markup_escapes_all_that_it_did_not_make() -> None:
    assert tag("p", "a < b", tag("b", "&"), None, ["c", None], class_="x", title='"<') == (
        '<p class="x" title="&quot;&lt;">a &lt; b<b>&amp;</b>c</p>'
    )
    assert join("<", Markup("<br>")) == "&lt;<br>"


def test_a_share_that_is_there_does_not_round_to_nothing() -> None:
    assert [percent(0.0), percent(0.04, 1), percent(0.3), percent(None)] == ["0 %", "< 0.1 %", "< 1 %", "–"]


def test_spans() -> None:
    assert [span(90), span(600), span(3 * 3600), span(5 * 86_400)] == ["90 s", "10 min", "3 h", "5.0 days"]
