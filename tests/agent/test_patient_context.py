"""What is known of a person moves limits within their bounds; a bad file moves nothing and is told."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.limits import BOUNDS, DEFAULTS, Limits
from agent.alarms.local_time import UTC
from agent.config import load_config
from agent.config.faults import ConfigError
from agent.patient_context import LastGood, PatientContext, context_of, read_context
from agent.persons import persons

TODAY = date(2026, 11, 30)
SNOMED = "http://snomed.info/sct"


def read(path: Path, text: str) -> PatientContext:
    path.write_text(text)
    return read_context(path, UTC, TODAY)


def bundle(*resources: dict[str, Any], born: str | None = "1954-05-17") -> str:
    patient = {"resourceType": "Patient", **({"birthDate": born} if born else {})}
    return json.dumps({"resourceType": "Bundle", "entry": [{"resource": one} for one in (patient, *resources)]})


def condition(code: str, system: str = SNOMED, **more: object) -> dict[str, Any]:
    return {"resourceType": "Condition", "code": {"coding": [{"system": system, "code": code}]}, **more}


def test_age_and_what_is_known_move_limits_to_where_they_belong(tmp_path: Path) -> None:
    limits = read(tmp_path / "a.toml", 'age_years = 72\nknown = ["atrial_fibrillation", "long_qt"]').applied(Limits())
    assert limits.atrial_fibrillation_longer_than_s == 600
    assert limits.ventricular_tachycardia_beats == 3
    assert isinstance(limits.ventricular_tachycardia_beats, int)
    assert limits.tachycardia_above_bpm == 140
    assert read(tmp_path / "b.toml", 'known = ["athlete"]').applied(Limits()).bradycardia_below_bpm == 35
    child, infant = (read(tmp_path / "c.toml", f"age_years = {age}").applied(Limits()) for age in (7, 0.5))
    assert (child.tachycardia_above_bpm, child.bradycardia_below_bpm) == (180, 60)
    assert (infant.tachycardia_above_bpm, infant.bradycardia_below_bpm) == (220, 60)


def test_what_the_config_sets_is_moved_by_a_clinician_only(tmp_path: Path) -> None:
    own = Limits(bradycardia_below_bpm=45)
    text = (
        'known = ["athlete"]\n[[limit]]\nrule = "tachycardia"\nabove_bpm = 120\n'
        '[[limit]]\nrule = "high"\nenabled = false'
    )
    limits = read(tmp_path / "a.toml", text).applied(own)
    assert (limits.bradycardia_below_bpm, limits.tachycardia_above_bpm) == (45, 120)
    assert limits.disabled == {"high"}
    clinician = read(tmp_path / "b.toml", '[[limit]]\nrule = "bradycardia"\nbelow_bpm = 50').applied(own)
    assert clinician.bradycardia_below_bpm == 50


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("age = 72", "age"),
        ("age_years = -1", "age_years"),
        ('known = ["cold"]', "known"),
        ("[[limit]]\nrule = 'asystole'\nenabled = false", "cannot be switched off"),
        ("[[limit]]\nrule = 'bradycardia'\nbelow_bpm = 200", "below_bpm"),
        ("[[limit]]\nrule = 'low'\nbelow_mg_dl = 80\nfrom = '22:00'\nto = '06:00'", "hours"),
        ("nonsense", "is not TOML"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "a.toml", text)
    assert fault in str(caught.value.faults[0])


def test_a_fhir_bundle_tells_age_and_conditions_that_hold(tmp_path: Path) -> None:
    gone = {"clinicalStatus": {"coding": [{"code": "resolved"}]}}
    text = bundle(
        condition("9651007"),
        condition("49436004", **gone),
        condition("Z95.0", "http://hl7.org/fhir/sid/icd-10-cm"),
        condition("38341003"),
        {"resourceType": "Observation", "code": {"coding": [{"system": SNOMED, "code": "49436004"}]}},
    )
    context = read(tmp_path / "a.json", text)
    assert context.known == ("long_qt", "pacemaker")
    assert context.age_years == pytest.approx(72.5, abs=0.1)
    pump = {"resourceType": "Device", "type": {"coding": [{"system": SNOMED, "code": "14106009"}]}, "status": "active"}
    assert read(tmp_path / "b.json", bundle(pump)).known == ("pacemaker",)


@pytest.mark.parametrize(("born", "age"), [("2026", 0.0), ("2020-05", 6.5), ("1999-12-31", 26.9), (None, None)])
def test_a_birth_date_may_be_inexact(tmp_path: Path, born: str | None, age: float | None) -> None:
    found = read(tmp_path / "a.json", bundle(born=born)).age_years
    assert found == (None if age is None else pytest.approx(age, abs=0.1))


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["resourceType", "entry", "resource", "code", "coding", "birthDate"]), inner),
).map(lambda document: json.dumps(document).encode()))  # fmt: skip
def test_no_bytes_do_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("context") / "a.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        read_context(path, UTC, TODAY)


@given(
    age=st.none() | st.floats(0, 130),
    known=st.sets(st.sampled_from(["atrial_fibrillation", "long_qt", "pacemaker", "athlete"])),
    limits=st.dictionaries(st.sampled_from(sorted(BOUNDS)), st.floats(0, 1000)),
)
def test_no_context_crosses_a_bound(age: float | None, known: set[Any], limits: dict[str, float]) -> None:
    applied = PatientContext(age, tuple(known), tuple(limits.items())).applied(Limits())
    assert all(BOUNDS[name].low <= getattr(applied, name) <= BOUNDS[name].high for name in DEFAULTS if name in BOUNDS)


def test_a_refused_file_leaves_the_last_good_one_and_says_so(tmp_path: Path) -> None:
    path, last_good = tmp_path / "anna.toml", LastGood(tmp_path)
    path.write_text("nonsense")
    context, why = context_of("anna", path, UTC, last_good, TODAY)
    assert context == PatientContext()
    assert "the config's limits hold alone" in why
    path.write_text('known = ["long_qt"]\n[[limit]]\nrule = "tachycardia"\nabove_bpm = 120')
    good, why = context_of("anna", path, UTC, last_good, TODAY)
    assert why == ""
    path.unlink()
    context, why = context_of("anna", path, UTC, last_good, TODAY)
    assert context == good
    assert why.startswith("The context file of anna was refused, the last good one holds: ")
    assert context_of("ben", path, UTC, last_good, TODAY)[0] == PatientContext()
    (tmp_path / "context" / "anna.json").write_text('{"limits": [["disabled", 1]]}')
    assert last_good.get("anna") is None


def test_a_config_names_the_file_and_the_person_gets_the_limits(tmp_path: Path) -> None:
    (tmp_path / "anna.toml").write_text('known = ["athlete"]')
    config = tmp_path / "vagus.toml"
    config.write_text(
        f'[agent]\nid = "home"\nstate_dir = "{tmp_path}"\n[[patient]]\nid = "anna"\ncontext_file = "anna.toml"\n'
        '[[patient.source]]\ntype = "mqtt"\ndevice = "d"\nchannel = "ecg"\nkind = "ecg"\nrate_hz = 250\n'
    )
    ((anna,), refused) = persons(load_config(config), {})
    assert (anna.limits.bradycardia_below_bpm, refused) == (35, {})
    (tmp_path / "anna.toml").write_text("?")
    ((anna,), refused) = persons(load_config(config), {})
    assert anna.limits.bradycardia_below_bpm == 35
    assert list(refused) == [("anna", "context_refused")]
