"""What reads a config, a person's context or a command takes no more than so much, and says no in words."""

from __future__ import annotations

import contextlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.alarms.local_time import UTC
from agent.config import MAX_BYTES, load_config
from agent.config.faults import ConfigError
from agent.ingest.wfdb import RecordError, read_header
from agent.patient_context import read_context
from agent.uplink.commands import COMMANDS, MAX_COMMAND_BYTES, parse_command

TODAY = date(2026, 12, 1)
KEYS = [
    "resourceType",
    "entry",
    "resource",
    "birthDate",
    "status",
    "clinicalStatus",
    "code",
    "type",
    "coding",
    "system",
]
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["Bundle", "Patient", "Condition", "9" * 30, "1990-13-40", "-1-1-1", "active"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def bundle(patient: object, *others: object) -> dict[str, object]:
    return {"resourceType": "Bundle", "entry": [{"resource": one} for one in (patient, *others)]}


def test_a_config_without_end_is_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "vagus.toml"
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="is larger than 8 MB: is this a config"):
        load_config(path)


def test_a_config_as_large_as_may_be_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vagus.toml"
    path.write_bytes(b"#" * MAX_BYTES)
    with pytest.raises(ConfigError, match="agent"):
        load_config(path)


WORDS = [
    "r",
    "r/2",
    "1",
    "2",
    "16",
    "212",
    "16+24",
    "/",
    "..",
    "a\0b",
    "9" * 5000,
    "-1",
    "1e999",
    "200(0)/mV",
    "#",
    "x.dat",
]
lines = st.lists(st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=9).map(" ".join), max_size=4)


@given(content=st.binary(max_size=200) | lines.map("\n".join).map(str.encode))
@example(content=b"r 1 250 " + b"9" * 400 + b"\nr.dat 16 200(0)/mV")
@example(content=b"r 1 250 0\n/ 16 200(0)/mV")
@example(content=b"r 1 250 0\n\0 16 200(0)/mV")
@example(content=b"r 1 250 0\nx 16+" + b"9" * 5000 + b" 200(0)/mV")
@settings(max_examples=500)
def test_any_bytes_are_a_header_of_a_recording_or_a_record_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("record") / "r.hea"
    path.write_bytes(content)
    with contextlib.suppress(RecordError, FileNotFoundError):
        assert read_header(path).duration_s >= 0


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.hea").symlink_to("/dev/zero")
    with pytest.raises(RecordError, match="larger than 1 MB"):
        read_header(tmp_path / "r.hea")


@given(born=st.sampled_from(["9" * 30, "0", "1990-02-30", "-5", "1-1-1-1", "", "٣", "1990-" + "9" * 5000]))
def test_a_birth_date_that_is_none_is_refused(tmp_path_factory: pytest.TempPathFactory, born: str) -> None:
    path = tmp_path_factory.mktemp("context") / "a.json"
    path.write_text(json.dumps(bundle({"resourceType": "Patient", "birthDate": born})))
    with pytest.raises(ConfigError):
        read_context(path, UTC, TODAY)


@given(document=st.one_of(values, st.builds(bundle, values), st.builds(bundle, values, values)))
@example(document=bundle({"resourceType": "Patient", "birthDate": "9" * 30}))
@settings(max_examples=300)
def test_any_bundle_is_a_context_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, document: object) -> None:
    path = tmp_path_factory.mktemp("context") / "a.json"
    path.write_text(json.dumps(document))
    with contextlib.suppress(ConfigError):
        read_context(path, UTC, TODAY)


@given(name=st.sampled_from([*COMMANDS, "format", ""]), payload=st.binary(max_size=400))
@example(name="ack", payload=b"[" * MAX_COMMAND_BYTES)
@example(name="ack", payload=b'{"patient": ' + b"9" * 8000 + b"}")
@example(name="pause", payload=b" " * (MAX_COMMAND_BYTES + 1))
@settings(max_examples=300)
def test_any_bytes_are_no_command_and_the_answer_says_why(name: str, payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_command(name, payload)
    assert len(str(refused.value)) < 400


@given(name=st.sampled_from(sorted(COMMANDS)), said=st.dictionaries(st.text(max_size=9), values, max_size=5))
def test_any_json_is_a_command_or_an_answer_that_says_why(name: str, said: dict[str, object]) -> None:
    with contextlib.suppress(ValueError):
        parse_command(name, json.dumps({"patient": "p", "by": "n", **said}).encode())
