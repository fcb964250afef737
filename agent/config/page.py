"""docs/config.md, written from the config's own titles and descriptions (`python -m agent.config.page`)."""

from __future__ import annotations

import sys
from datetime import datetime
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from agent.config.limit_schema import LIMITS
from agent.config.schema import (
    AgentTable,
    AlarmsTable,
    HistoryTable,
    MqttTable,
    OutboxTable,
    PatientTable,
    PowerTable,
    RecorderTable,
    Table,
)
from agent.config.source_schema import SOURCES
from agent.config.update import UpdateTable
from agent.config.uplink import HomeAssistantTable, WebhookTable
from agent.config.web import WebTable
from agent.patient_context import ContextTable

_INTRODUCTION = """\
# The config

One TOML file. `vagus check CONFIG` says every fault in it with line and key, and starts nothing.
File names are relative to the config's own folder; `~` is the home folder. Unknown keys are refused.
Secrets are never in the config: a password stands in a file of its own or in an environment variable.
Whole examples: [one person](../examples/one-person.toml), [a ward](../examples/ward.toml),
[wearables over Bluetooth](../examples/wearables.toml).

This page is written by `python -m agent.config.page`; change the descriptions in `agent/config/schema.py`,
`agent/config/source_schema.py`, `agent/config/limit_schema.py`, `agent/config/uplink.py`, `agent/config/web.py`,
`agent/config/update.py`, `agent/patient_context.py`.
"""

_SIMPLE = {datetime: "date and time", str: "text", int: "whole number", float: "number", bool: "true or false"}


def config_page() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION]
    parts += [_section("[agent]", AgentTable), _section("[mqtt]", MqttTable), _section("[[patient]]", PatientTable)]
    parts += [_section(f'[[patient.source]] with type = "{name}"', table) for name, table in SOURCES.items()]
    parts += [_section(f'[[patient.limit]] with rule = "{name}"', table) for name, table in LIMITS.items()]
    rest: dict[str, type[Table]] = {
        "[alarms]": AlarmsTable,
        "[outbox]": OutboxTable,
        "[history]": HistoryTable,
        "[recorder]": RecorderTable,
        "[power]": PowerTable,
        "[home_assistant]": HomeAssistantTable,
        "[webhook]": WebhookTable,
        "[web]": WebTable,
        "[update]": UpdateTable,
        "context_file": ContextTable,
    }
    parts += [_section(name, table) for name, table in rest.items()]
    return "\n".join(parts)


def _section(heading: str, table: type[Table]) -> str:
    lines = [f"## `{heading}`", "", " ".join((table.__doc__ or "").split()), ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [_row(key, field) for key, field in table.keys().items() if key != "rule"]
    return "\n".join(lines) + "\n"


def _row(key: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else "" if field.default is None else f"`{_toml(field.default)}`"
    meaning = f"**{field.title}.** {field.description}".replace("|", "\\|")
    return f"| `{key}` | {_value(field)} | {default} | {meaning} |"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _value(field: FieldInfo) -> str:
    """What may be written: the type and its bounds."""
    bounds = {name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le") if hasattr(m, name)}
    text = _type(field.annotation)
    if "ge" in bounds:
        text += f", {bounds['ge']:g} to {bounds['le']:g}"
    elif "gt" in bounds:
        text += f", more than {bounds['gt']:g}, at most {bounds['le']:g}"
    return text


def _type(annotation: Any) -> str:
    """A type in words."""
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{_toml(choice)}`" for choice in inner)
    if get_origin(annotation) is list:
        return "list of text"
    if get_origin(annotation) is dict:
        return "table"
    if get_origin(annotation) in (Union, UnionType) and len(inner) > 1:
        return " or ".join(_type(one) for one in inner)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    return _type(inner[0])  # X | None, or X with its checks


if __name__ == "__main__":
    sys.stdout.write(config_page())
