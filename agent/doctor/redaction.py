"""What tells who, where or how to get in, replaced by words that only say that two things were the same."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote, urlsplit

from agent.alarms.alert import Phase, Priority
from agent.config.limit_schema import LIMITS
from agent.config.reader import file_named
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
from agent.config.uplink import HomeAssistantTable, WebhookTable
from agent.config.web import WebTable
from agent.patient_context import ContextTable

MAX_SECRET_FILE = 1 << 20
WORD = 4
"""Characters from which on a name is also replaced inside a longer word."""
_KINDS = {
    "host": "host",
    "url": "host",
    "listen": "host",
    "address": "device",
    "device": "device",
    "name": "device",
    "port": "device",
    "adapter": "device",
    "username": "user",
    "client_id": "agent",
    "channel": "channel",
    "channels": "channel",
}
_PUBLIC_WHERE = ("channel", "channels", "type", "kind", "adapter")
"""Keys at which a word of the config's own language names nobody."""
_KEY = re.compile(r"-----BEGIN.*?(?:-----END[^\n]*|\Z)", re.DOTALL)
_PATTERNS = (
    (_KEY, "[key]"),
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE), "[url]"),
    (re.compile(r"\b(?:[0-9a-f]{2}[:_-]){5}[0-9a-f]{2}\b", re.IGNORECASE), "[device]"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "[host]"),
    (re.compile(r"(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}(?![\w:])", re.IGNORECASE), "[host]"),
    (re.compile(r"(?<![\w:])[0-9a-f:]*::[0-9a-f:]*(?![\w:])", re.IGNORECASE), "[host]"),
    (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"), "[mail]"),
    (re.compile(r"(?<![\w+=-])(?=\S*\d)[A-Za-z0-9+=_-]{32,}"), "[token]"),
    (re.compile(r"-?\d+(?:\.\d+)?\s*(?:mg/d[lL]|mmol/[lL]|bpm|mV|uV|/min)", re.IGNORECASE), "[value]"),
    (re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?(?:\s*,\s*-?\d+(?:\.\d+)?(?:e-?\d+)?){3,}"), "[numbers]"),
)
_QUOTED = (
    (re.compile(rf"\b(?:{'|'.join(Priority)}) (?:{'|'.join(Phase)}) \S+: .*", re.DOTALL), "[alarm]"),
    (re.compile(r"\binput_value=.*?(?=, input_type|\Z)", re.DOTALL), "input_value=[quoted]"),
    (re.compile(r"\b(command \w+): .*", re.DOTALL), r"\1: [words]"),
    (re.compile(r"(?<!\w)'(?:[^'\\\n]|\\.)*'(?!\w)"), "[quoted]"),
    (re.compile(r'(?<!\w)"(?![^"\n]*\.py")(?:[^"\\\n]|\\.)*"(?!\w)'), "[quoted]"),
)


class Redaction:
    """One archive's placeholders. The same name always gets the same one; they are kept nowhere."""

    def __init__(self) -> None:
        self._placeholders: dict[str, str] = {}
        self._written: set[str] = set()
        self._counts: dict[str, int] = {}
        self._pattern: re.Pattern[str] | None = None

    def hide(self, value: str, kind: str) -> str:
        """The placeholder of `value`, such as patient-1, from now on wherever it occurs in a text."""
        value = value.strip()
        if not value:
            return ""
        known = self._placeholders.get(value.casefold())
        if known is not None:
            return known
        self._counts[kind] = self._counts.get(kind, 0) + 1
        placeholder = f"{kind}-{self._counts[kind]}"
        if placeholder == value.casefold():  # what is called patient-1 itself must become another
            return self.hide(value, kind)
        self._written |= _ways_to_write(value)
        for written in _ways_to_write(value):
            self._placeholders.setdefault(written.casefold(), placeholder)
        self._pattern = None
        return placeholder

    def text(self, text: str) -> str:
        """`text` without what was hidden, and without anything that looks like an address, a key or a measurement."""
        if self._placeholders:
            if self._pattern is None:
                longest_first = sorted(self._written, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(_matching, longest_first)), re.IGNORECASE)
            text = self._pattern.sub(lambda match: self._placeholders.get(match[0].casefold(), "[hidden]"), text)
        for pattern, word in _PATTERNS:
            text = pattern.sub(word, text)
        return text

    def log(self, text: str) -> str:
        """A log, line by line: also without what is quoted in it, for that came from a device, a site or a person."""
        lines = []
        for line in _KEY.sub("[key]", text).splitlines():
            try:
                entry = json.loads(line) if line.startswith("{") else None
            except ValueError:
                entry = None
            unquoted = _unquoted(line) if entry is None else entry
            if isinstance(entry, dict):
                unquoted = {key: _unquoted(one) if isinstance(one, str) else one for key, one in entry.items()}
            found = self.tree(unquoted)
            lines.append(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False))
        return "\n".join(lines) + "\n"

    def tree(self, value: Any) -> Any:
        """A JSON value with every text in it redacted, keys too."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {self.text(str(key)): self.tree(one) for key, one in value.items()}
            case list() | tuple():
                return [self.tree(one) for one in value]
            case bool() | int() | float() | None:
                return value
            case _:
                return self.text(str(value))

    def config(self, raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """A config as it may be shown: keys and words of its own language, numbers and switches; the rest hidden.

        `folder` is that of the config: what the files with passwords hold is hidden too.
        """
        return dict(self._table(raw, (), folder))

    def _table(self, raw: Mapping[str, Any], place: tuple[str, ...], folder: Path) -> Iterator[tuple[str, Any]]:
        for key, value in raw.items():
            shown = key if key in _KEYS else self.hide(key, "key")
            yield shown, self._value(value, (*place, key), folder)

    def _value(self, value: Any, place: tuple[str, ...], folder: Path) -> Any:
        key = place[-1]
        match value:
            case Mapping():
                return dict(self._table(value, place, folder))
            case list():
                return [self._value(one, place, folder) for one in value]
            case str():
                return self._word(value, place, folder)
            case bool():
                return value
            case int() | float() if key in _KEYS and "pass" not in key and "pin" not in key:
                return value
            case _:
                return self.hide(str(value), "secret")

    def _word(self, value: str, place: tuple[str, ...], folder: Path) -> str:
        key = place[-1]
        if value in _WORDS.get(key, ()) or (key in _PUBLIC_WHERE and value in _ALL_WORDS):
            return value
        if key.endswith("_file"):
            with suppress(RuntimeError):
                for secret in _contents(file_named(value, folder)):
                    self.hide(secret, "secret")
            return self.hide(value, "path")
        if key == "url":
            self._url(value)
        if key == "id":
            return self.hide(value, "patient" if place[0] == "patient" else "agent")
        return self.hide(value, _KINDS.get(key, "path" if key.endswith("dir") else "value"))

    def _url(self, url: str) -> None:
        with suppress(ValueError):
            parts = urlsplit(url)
            for secret in (
                parts.username,
                parts.password,
                *re.split(r"[/&=?]", f"{parts.path}/{parts.query}/{parts.fragment}"),
            ):
                if secret and len(secret) > WORD:
                    self.hide(secret, "secret")
            if parts.hostname:
                self.hide(parts.hostname, "host")

    def machine(self) -> None:
        """Hide what this machine and its user are called."""
        self.hide(socket.gethostname(), "host")
        home = Path.home()
        if len(home.parts) > 2:
            self.hide(home.name, "user")

    def people_in(self, database: Path) -> None:
        """Hide the people that a state file knows, who may be in the config no more."""
        with (
            suppress(OSError, sqlite3.Error),
            closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)) as db,
        ):
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
                if "patient" in columns:
                    for (name,) in db.execute(f'SELECT DISTINCT patient FROM "{table}"'):  # noqa: S608
                        self.hide(str(name), "patient")


def _unquoted(line: str) -> str:
    for pattern, word in _QUOTED:
        line = pattern.sub(word, line)
    return line


def _contents(path: Path) -> Iterable[str]:
    """What is secret of a named file: the lines of a password or key."""
    try:
        if path.stat().st_size > MAX_SECRET_FILE:
            return []
        text = path.read_text(errors="replace")
    except (OSError, ValueError):
        return []
    return [line for line in (one.strip() for one in text.splitlines()) if line and not line.startswith("-----")]


def _ways_to_write(value: str) -> set[str]:
    quoted = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1], quote(value, "")}
    separated = {value.replace(":", other) for other in ("_", "-", "")} if value.count(":") == 5 else set()
    return {value, *quoted, *separated}


def _matching(value: str) -> str:
    """A short name only counts as a word of its own: there is an "a" in everything."""
    if len(value) >= WORD:
        return re.escape(value)
    return rf"(?<![^\W_]){re.escape(value)}(?![^\W_])"


def _literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from (one for one in get_args(annotation) if isinstance(one, str))
    for inner in get_args(annotation):
        yield from _literals(inner)


_TABLES: tuple[type[Table], ...] = (
    *(AgentTable, AlarmsTable, HistoryTable, MqttTable, OutboxTable, PatientTable, PowerTable, RecorderTable),
    *(HomeAssistantTable, WebhookTable, WebTable, ContextTable),
    *SOURCES.values(),
    *LIMITS.values(),
)
_SECTIONS = {"agent", "mqtt", "patient", "source", "limit", "alarms", "outbox", "history", "recorder", "power"}
_KEYS = {key for table in _TABLES for key in table.keys()} | _SECTIONS | {"home_assistant", "webhook", "web"}  # noqa: SIM118
_WORDS: dict[str, set[str]] = {}
"""Key of the config's language → the words that may stand there."""
for _table in _TABLES:
    for _key, _field in _table.keys().items():
        _WORDS.setdefault(_key, set()).update(_literals(_field.annotation))
_ALL_WORDS = set[str]().union(*_WORDS.values(), *({*SOURCES}, {*LIMITS}))
