"""JSON Schema of every payload: the pydantic models say what is published, and nothing is written twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from agent.uplink.commands import COMMANDS, CommandAnswer
from agent.uplink.messages import AlertMessage, StatusMessage, VitalMessage
from agent.uplink.summary import SummaryMessage

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SAID: Final[Mapping[str, type[BaseModel]]] = {
    "event": AlertMessage,
    "alarm": AlertMessage,
    "summary": SummaryMessage,
    "status": StatusMessage,
    "vital": VitalMessage,
}
"""What the agent says, by the kind of topic."""
ASKED: Final[Mapping[str, type[BaseModel]]] = {f"cmd_{name}": model for name, model in COMMANDS.items()}
"""What it may be asked."""
ANSWER: Final = "cmd_answer"
"""Said where the asker wants it."""


def json_schemas() -> dict[str, dict[str, Any]]:
    """A schema of its own for each kind of topic."""
    return {
        name: {"$schema": DIALECT, **_absent_where_null(model.model_json_schema(mode=mode))}
        for name, model, mode in _all()
    }


def shared_schemas(ref_template: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The schema of each kind of topic, as a reference, and the schemas that they share, by name."""
    named, definitions = models_json_schema([(model, mode) for _, model, mode in _all()], ref_template=ref_template)
    refs = {name: dict(named[model, mode]) for name, model, mode in _all()}
    return refs, {name: _absent_where_null(schema) for name, schema in definitions["$defs"].items()}


def _all() -> list[tuple[str, type[BaseModel], JsonSchemaMode]]:
    said: list[tuple[str, type[BaseModel], JsonSchemaMode]] = [(n, m, "serialization") for n, m in SAID.items()]
    said.append((ANSWER, CommandAnswer, "serialization"))
    return said + [(name, model, "validation") for name, model in ASKED.items()]


def _absent_where_null(schema: dict[str, Any]) -> dict[str, Any]:
    """What may be null may also be absent: alerts and vital signs leave it out."""
    properties: dict[str, Any] = schema.get("properties", {})
    if "required" in schema:
        nullable = {name for name, one in properties.items() if {"type": "null"} in one.get("anyOf", ())}
        schema["required"] = [name for name in schema["required"] if name not in nullable]
    for definition in schema.get("$defs", {}).values():
        _absent_where_null(definition)
    return schema
