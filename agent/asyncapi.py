"""docs/asyncapi.json and docs/schema/*.json, written from the models and topics (`python -m agent.asyncapi docs`).

The examples in it are what a replay of a simulated patient published.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent import __version__
from agent.uplink.messages import CLOUD_EVENT_TYPE, JSON_TYPE, RESEARCH_NOTE
from agent.uplink.schemas import ANSWER, ASKED, SAID, json_schemas, shared_schemas
from agent.uplink.topics import Topics

_ABOUT: Final[Mapping[str, tuple[str, str]]] = {
    "event": ("An alert", "Every transition of every alarm, each once by its id. Not retained."),
    "alarm": ("An alarm that is on", "The newest event of one alarm. Retained; emptied when the alarm is over."),
    "summary": ("What is on", "Of one person, or of the agent itself, in one message. Retained."),
    "status": ("How the agent is", "Retained; the last will is one with state offline."),
    "vital": ("A vital sign", "For display, not promised. Some are retained until they are out of date."),
    ANSWER: ("An answer", "What became of a command. Said to the response topic that the command names (MQTT 5)."),
}
"""Title and description of each kind of message that the agent publishes."""
_PARAMETERS: Final[Mapping[str, str]] = {
    "agent": "The agent's id, as its config has it",
    "patient": "The person's pseudonym, or the agent's id for what is about the watching itself",
    "alert_id": "The alarm, as in every event about it",
    "code": "What is measured, such as hr or glucose",
}
_RETAINED: Final = {"alarm", "summary", "status"}
_NOT_PROMISED: Final = {"vital"}
_ANSWERS: Final[Mapping[str, Any]] = {
    "address": None,
    "title": _ABOUT[ANSWER][0],
    "description": _ABOUT[ANSWER][1],
    "messages": {ANSWER: {"$ref": f"#/components/messages/{ANSWER}"}},
}


def asyncapi_document(examples: Mapping[str, Any]) -> dict[str, Any]:
    """The AsyncAPI 3 document, seen from the agent. `examples`: a payload for some kinds of topic."""
    payloads, schemas = shared_schemas("#/components/schemas/{model}")
    kinds = [*SAID, *ASKED]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "vagus",
            "version": __version__,
            "description": f"What the agent says over MQTT, and what it may be asked. {RESEARCH_NOTE.capitalize()}.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON_TYPE,
        "servers": {
            "broker": {
                "host": "localhost:1883",
                "protocol": "mqtt",
                "protocolVersion": "5",
                "description": "The broker that the agent's config names",
            }
        },
        "channels": {**{kind: _channel(kind) for kind in kinds}, ANSWER: _ANSWERS},
        "operations": {kind: _operation(kind) for kind in kinds},
        "components": {
            "messages": {kind: _message(kind, payloads[kind], examples.get(kind)) for kind in [*kinds, ANSWER]},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def address(kind: str) -> str:
    """The topic of a kind of message, with {agent}, {patient} and so on where they stand."""
    topics = Topics("{agent}")
    match kind:
        case "event":
            return topics.event("{patient}")
        case "alarm":
            return topics.alarm("{patient}", "{alert_id}")
        case "summary":
            return topics.summary("{patient}")
        case "status":
            return topics.status
        case "vital":
            return topics.vital("{patient}", "{code}")
        case _:
            return topics.command(kind.removeprefix("cmd_"))


def write(folder: Path, examples: Mapping[str, Any]) -> None:
    """Write the document and the schemas below `folder`."""
    schemas = folder / "schema"
    schemas.mkdir(parents=True, exist_ok=True)
    for kind, schema in json_schemas().items():
        (schemas / f"{kind}.json").write_text(as_text(schema), encoding="utf-8")
    (folder / "asyncapi.json").write_text(as_text(asyncapi_document(examples)), encoding="utf-8")


def as_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _about(kind: str) -> tuple[str, str]:
    if kind in _ABOUT:
        return _ABOUT[kind]
    return f"Command {kind.removeprefix('cmd_')}", (ASKED[kind].__doc__ or "").strip()


def _channel(kind: str) -> dict[str, Any]:
    title, description = _about(kind)
    topic = address(kind)
    return {
        "address": topic,
        "title": title,
        "description": description,
        "parameters": {name: {"description": said} for name, said in _PARAMETERS.items() if f"{{{name}}}" in topic},
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"}},
    }


def _operation(kind: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": "send" if kind in SAID else "receive",
        "channel": {"$ref": f"#/channels/{kind}"},
        "messages": [{"$ref": f"#/channels/{kind}/messages/{kind}"}],
        "summary": _about(kind)[1],
        "bindings": {
            "mqtt": {
                "qos": 0 if kind in _NOT_PROMISED else 1,
                "retain": kind in _RETAINED,
                "bindingVersion": "0.2.0",
            }
        },
    }
    if kind in ASKED:
        operation["reply"] = {
            "address": {"location": "$message.header#/responseTopic"},
            "channel": {"$ref": f"#/channels/{ANSWER}"},
            "messages": [{"$ref": f"#/channels/{ANSWER}/messages/{ANSWER}"}],
        }
    return operation


def _message(kind: str, payload: Mapping[str, Any], example: object) -> dict[str, Any]:
    title, description = _about(kind)
    message: dict[str, Any] = {
        "name": kind,
        "title": title,
        "summary": description,
        "contentType": CLOUD_EVENT_TYPE if kind in {"event", "alarm"} else JSON_TYPE,
        "payload": payload,
    }
    if example is not None:
        message["examples"] = [{"name": kind, "payload": example}]
    return message


def examples_in(document: Mapping[str, Any]) -> dict[str, Any]:
    """The payloads in a document that was written before."""
    messages: Mapping[str, Any] = document["components"]["messages"]
    return {kind: message["examples"][0]["payload"] for kind, message in messages.items() if "examples" in message}


if __name__ == "__main__":
    from agent.asyncapi_examples import examples

    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"), examples())
