"""What is published about our interface is what the models say, and nothing in it has gone stale."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.asyncapi import address, as_text, asyncapi_document, examples_in
from agent.asyncapi_examples import RULE, replayed
from agent.uplink.messages import RESEARCH_NOTE
from agent.uplink.schemas import ANSWER, ASKED, SAID, json_schemas

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT: dict[str, Any] = json.loads((DOCS / "asyncapi.json").read_text())
OFFICIAL = os.environ.get("VAGUS_ASYNCAPI_SCHEMA", "")
STALE = "run: python -m agent.asyncapi docs"


def validator(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schemas()[kind])


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_document_is_what_the_models_say() -> None:
    assert (DOCS / "asyncapi.json").read_text() == as_text(asyncapi_document(examples_in(DOCUMENT))), STALE


def test_the_schemas_are_what_the_models_say() -> None:
    for kind, schema in json_schemas().items():
        assert (DOCS / "schema" / f"{kind}.json").read_text() == as_text(schema), STALE
    assert {path.stem for path in (DOCS / "schema").glob("*.json")} == {*SAID, *ASKED, ANSWER}


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 20
    for reference in found:
        node: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


@pytest.mark.parametrize("kind", [*SAID, *ASKED, ANSWER])
def test_a_schema_is_one_and_takes_its_example(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schemas()[kind])
    validator(kind).validate(examples_in(DOCUMENT)[kind])
    assert DOCUMENT["channels"][kind]["address"] == (None if kind == ANSWER else address(kind))


@pytest.mark.parametrize("kind", [*SAID, *ASKED])
def test_a_schema_misses_what_has_to_be_there(kind: str) -> None:
    example = examples_in(DOCUMENT)[kind]
    required = json_schemas()[kind]["required"]
    assert required
    for name in required:
        without = {key: value for key, value in example.items() if key != name}
        assert not validator(kind).is_valid(without), name


def test_schemas_describe_what_is_sent() -> None:
    data = json_schemas()["event"]["$defs"]["AlertData"]
    assert {"late", "alert_id", "onset", "decided_at"} <= set(data["required"])
    assert "evidence" not in data["required"], "it is left out where there is none"
    assert data["properties"]["note"]["const"] == RESEARCH_NOTE


def test_the_example_is_what_a_replay_says() -> None:
    event, _, _ = replayed()
    said = examples_in(DOCUMENT)["event"]["data"]
    assert (said["alert_id"], said["rule"], said["text"]) == (event.alert_id, RULE, event.text), STALE
    assert said["evidence"]["strip"]["left_out"]


@pytest.mark.skipif(not OFFICIAL, reason="VAGUS_ASYNCAPI_SCHEMA does not name AsyncAPI's own schema")
def test_the_document_is_asyncapi_3() -> None:
    jsonschema.Draft7Validator(json.loads(Path(OFFICIAL).read_text())).validate(DOCUMENT)
