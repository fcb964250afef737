"""The export as other systems read it: valid R4B, the strip sample for sample, every reference within the bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle

from agent.alarms.alert import AlertEvent, Attended, Mark, Phase, State, Verdict
from agent.alarms.states import urgency
from agent.cli import main
from agent.engine import Engine
from agent.fhir import codes
from agent.fhir.bundle import bundle, instant
from agent.fhir.kept import Alarm, Kept, Reading
from agent.history import History
from agent.history.file import FILE_NAME
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from agent.signal.outlook import Glucose

SCRIPT = (Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0), Episode(Rhythm.SINUS, 6.0))
MARK = Mark("nurse-3", EPOCH_NS + 30 * 10**9)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder as a short watch leaves it."""
    folder = tmp_path_factory.mktemp("state")
    history = History(folder / FILE_NAME)
    patient = SimulatedPatient(5, script=SCRIPT)
    stream = patient.stream("anna", "patch")
    engine = Engine([Person("anna", (stream,))], shipped_models(), watch=history.watch)
    events = [event for chunk in patient.chunks(stream, chunk_s=1.0) for event in engine.step([chunk])]
    history.note_events(events)
    asystole = next(event for event in events if event.rule == "asystole")
    verdict = Verdict("false", "the lead was off", "nurse-3", MARK.at_ns)
    history.note_attended([replace(asystole, attended=Attended(State.ACTIVE, MARK, verdict=verdict))])
    t_ns = EPOCH_NS
    for mg_dl, doubt, beyond in ((101.04, "", ""), (40.0, "", "low"), (300.0, "warming up", "")):
        history.watch("anna", Glucose(t_ns, mg_dl, beyond, None, doubt))
        t_ns += 300 * 10**9
    history.close()
    return folder


@pytest.fixture(scope="module")
def exported(state: Path) -> dict[str, Any]:
    out = state / "bundle.json"
    assert main(["export", "fhir", "anna", "--state", str(state), "--out", str(out)]) == 0
    document: dict[str, Any] = json.loads(out.read_text())
    return document


def of(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in document["entry"] if entry["resource"]["resourceType"] == kind]


def coded(document: dict[str, Any], code: str) -> list[dict[str, Any]]:
    return [one for one in of(document, "Observation") if one["code"]["coding"][0]["code"] == code]


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "reference":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_it_is_a_valid_bundle_of_what_was_kept(exported: dict[str, Any]) -> None:
    Bundle.model_validate(exported)
    counted = Counter(entry["resource"]["resourceType"] for entry in exported["entry"])
    assert {"Patient", "Device", "Provenance"} <= set(counted)
    assert counted["Flag"] == counted["Communication"] >= 2
    assert len(coded(exported, "99504-3")) == 3
    assert len(coded(exported, "8867-4")) == 1


def test_every_reference_leads_to_a_resource_of_the_bundle_and_all_have_their_origin(exported: dict[str, Any]) -> None:
    urls = [entry["fullUrl"] for entry in exported["entry"]]
    assert len(urls) == len(set(urls))
    assert set(references(exported)) <= set(urls)
    (provenance,) = of(exported, "Provenance")
    assert [target["reference"] for target in provenance["target"]] == urls[:-1]


def test_the_strip_is_the_recording_sample_for_sample(exported: dict[str, Any]) -> None:
    patient = SimulatedPatient(5, script=SCRIPT)
    recording = np.concatenate([c.samples[:, 0] for c in patient.chunks(patient.stream("anna", "patch"), chunk_s=1.0)])
    strips = coded(exported, "131328")
    assert strips
    for strip in strips:
        (component,) = strip["component"]
        data = component["valueSampledData"]
        samples = np.array([np.float32(one) for one in data["data"].split(" ")])
        start_ns = round(np.datetime64(strip["effectivePeriod"]["start"].rstrip("Z"), "ns").astype(int))
        first = round((start_ns - EPOCH_NS) / 4_000_000)
        np.testing.assert_array_equal(samples, recording[first : first + len(samples)])
        assert (data["period"], data["dimensions"], data["origin"]["code"]) == (4.0, 1, "mV")


def test_a_reading_beyond_the_sensor_s_range_and_one_in_doubt_say_so(exported: dict[str, Any]) -> None:
    plain, low, doubted = coded(exported, "99504-3")
    assert plain["valueQuantity"] == {"value": 101.0, "unit": "mg/dL", "system": codes.UCUM, "code": "mg/dL"}
    assert (low["valueQuantity"]["comparator"], low["status"]) == ("<=", "final")
    assert (doubted["status"], doubted["note"][0]["text"]) == ("preliminary", "in doubt: warming up")


def test_an_alarm_is_a_flag_with_its_span_and_a_communication_with_what_people_did(exported: dict[str, Any]) -> None:
    (flag,) = [one for one in of(exported, "Flag") if one["code"]["coding"][0]["code"] == "asystole"]
    assert flag["status"] == "inactive"
    assert flag["period"]["start"] < flag["period"]["end"]
    alert_id = flag["identifier"][0]["value"]
    (said,) = [one for one in of(exported, "Communication") if one["identifier"][0]["value"] == alert_id]
    assert (said["priority"], said["received"]) == ("stat", instant(MARK.at_ns))
    assert [note["text"] for note in said["note"]] == ["acknowledged by nurse-3", "judged false: the lead was off"]
    assert len(said["about"]) == 2, "the flag, and the strip that it rests on"


def test_only_the_days_that_were_asked_for(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day = instant(EPOCH_NS)[:10]
    out = ["--state", str(state), "--out", str(tmp_path / "out.json")]
    assert main(["export", "fhir", "anna", "--from", day, "--to", day, *out]) == 0
    assert main(["export", "fhir", "anna", "--to", "1999-01-01", *out]) == 1
    assert main(["export", "fhir", "nobody", *out]) == 1
    assert "nothing is kept of nobody" in capsys.readouterr().err
    assert main(["export", "fhir", "anna", "--state", str(tmp_path / "none")]) == 1


def test_the_same_rows_give_the_same_bundle() -> None:
    kept = Kept("anna", [Reading(EPOCH_NS, 100.0, late=True, doubt="", beyond="")], [], [])
    assert bundle(kept, EPOCH_NS) == bundle(kept, EPOCH_NS)


def test_an_alarm_that_is_still_on_is_an_active_flag_and_needs_no_evidence() -> None:
    alarm = Alarm("id1", "low", "physiological", "medium", EPOCH_NS, EPOCH_NS, None, "Low", late=True)
    document = bundle(Kept("anna", [], [], [alarm]), EPOCH_NS)
    Bundle.model_validate(document)
    assert of(document, "Flag")[0]["status"] == "active"
    assert "past" in of(document, "Communication")[0]["note"][0]["text"]


def test_a_drill_is_tagged_as_one(tmp_path: Path) -> None:
    history = History(tmp_path / FILE_NAME)
    drill = AlertEvent(
        "d1", "anna", "asystole", *urgency("asystole"), Phase.START, EPOCH_NS, EPOCH_NS, "DRILL: asystole", drill=True
    )
    history.note_events([drill])
    history.close()
    out = tmp_path / "out.json"
    assert main(["export", "fhir", "anna", "--state", str(tmp_path), "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    for kind in ("Flag", "Communication"):
        assert of(document, kind)[0]["meta"]["tag"][0]["code"] == "HTEST"


@pytest.mark.parametrize(
    ("name", "code"), [("I", "131329"), ("II", "131330"), ("V1", "131331"), ("V6", "131336"), ("aVR", "131390")]
)
def test_leads_have_their_code_of_11073(name: str, code: str) -> None:
    assert codes.lead(name)["coding"][0]["code"] == code


def test_a_lead_without_a_code_keeps_its_name() -> None:
    assert codes.lead("MLII") == {"text": "MLII"}


def test_the_agent_runs_without_the_extra() -> None:
    code = "import sys, agent.cli, agent.supervisor; print(any(m.startswith('fhir.') for m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
