"""What is wrong with a config, in words a person can act on: where it stands, why it cannot be, what to write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agent.config.lines import Path
from agent.config.schema import Table

_EXPECTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "datetime_type": "a date and time such as 2026-01-31T08:00:00Z, without quotes",
    "list_type": "a list in square brackets",
    "model_type": "a table",
    "dict_type": "a table",
}
"""What pydantic wanted, by the type of its error."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")

_PASSWORD = (
    "a config holds no secrets",
    "write the password to a file and name it with password_file, or set VAGUS_MQTT_PASSWORD",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one key."""

    file: str
    line: int
    """Counted from 1."""
    key: str
    """Dotted, array places from 0: `patient[0].source[1].unit`; empty where the text as a whole is meant."""
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " + (f"{self.key}: " if self.key else "")
        return where + self.message + (f" — {self.suggestion}" if self.suggestion else "")


class ConfigError(ValueError):
    """A config that cannot be run; `faults` holds every one, in the order of their lines."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line, fault.key)))
        super().__init__("\n".join(map(str, self.faults)))


def dotted(path: Path) -> str:
    """`path` as a person writes it: ("patient", 0, "id") is patient[0].id."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else _quoted(part[:40]))
    return text


def _quoted(text: str) -> str:
    """`text` in quotes, whatever could move the cursor or the eye of a reader escaped."""
    plain = (c if c.isprintable() and c not in '"\\' else c.encode("unicode_escape").decode() for c in text)
    return '"' + "".join(plain) + '"'


def shown(value: object) -> str:
    """`value` for a message, as TOML would have it and never longer than a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = _quoted(value)
    elif isinstance(value, dict):
        return "a table"
    elif isinstance(value, list):
        return "a list"
    elif isinstance(value, int) and value.bit_length() > 200:
        return "a number far too large"
    else:
        text = str(value)
    return text if len(text) <= 60 else text[:56] + '…"'


def did_you_mean(wrong: object, known: Iterable[str]) -> str:
    """`did you mean "x"?` for the nearest of `known`, else the list of them; empty when there are none."""
    names = list(known)
    if not names:
        return ""
    plain = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(wrong)[:100].lower().replace("-", "_"), plain, n=1)
    if near:
        return f'did you mean "{plain[near[0]]}"?'
    return f"known here: {', '.join(names)}"


def unknown_key(key: str, known: Iterable[str]) -> tuple[str, str]:
    """Message and suggestion for a key that means nothing here."""
    if key.lower() in ("password", "passwd", "pass"):
        return _PASSWORD
    return f"unknown key {shown(key)}", did_you_mean(key, known)


def words(error: ValidationError, table: type[Table]) -> list[tuple[Path, str, str]]:
    """Every fault in a pydantic `error` about `table`: (path within the table, message, suggestion)."""
    return [(detail["loc"], *_in_words(detail, table)) for detail in error.errors(include_url=False)]


def _in_words(detail: Mapping[str, Any], table: type[Table]) -> tuple[str, str]:
    kind: str = detail["type"]
    key = str(detail["loc"][0]) if detail["loc"] else ""
    field = table.keys().get(key)
    meaning = (field.description or "").rstrip(".").replace("`", "") if field is not None else ""
    got = shown(detail["input"])
    message, suggestion = f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, got {got}", meaning
    if kind == "extra_forbidden":
        message, suggestion = unknown_key(key, table.keys())
    elif kind == "missing":
        message = "is required"
    elif kind == "value_error":
        message, suggestion = f"{detail['ctx']['error']}, got {got}", ""
    elif kind == "literal_error":
        expected = str(detail["ctx"]["expected"]).replace("'", '"')
        message = f"must be {expected}, got {got}"
        choices = re.findall(r'"([^"]*)"', expected)
        if isinstance(detail["input"], str) and difflib.get_close_matches(detail["input"][:100], choices):
            suggestion = did_you_mean(detail["input"], choices)
    elif kind in _EXPECTED:
        message = f"expected {_EXPECTED[kind]}, got {got}"
    elif kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal") and field is not None:
        message = f"must be {_bounds(field.metadata)}, got {got}"
    return message, suggestion


def _bounds(metadata: list[Any]) -> str:
    """The range of a field in words: "20 to 60", "more than 0 and at most 86400"."""
    low, high, above = (
        next((getattr(m, name) for m in metadata if hasattr(m, name)), None) for name in ("ge", "le", "gt")
    )
    if low is not None and high is not None:
        return f"from {low:g} to {high:g}"
    return f"more than {above:g} and at most {high:g}"
