"""From TOML text to checked tables, gathering every fault on the way instead of stopping at the first."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from agent.config.faults import ConfigError, Fault, did_you_mean, dotted, shown, words
from agent.config.lines import Path as KeyPath
from agent.config.lines import key_lines, line_of
from agent.config.schema import Table

_MAX_PASSWORD_BYTES = 4096
HANDED_OVER = Path("/run/credentials/vagus.service")
"""Where systemd puts the service's LoadCredential= files."""

T = TypeVar("T", bound=Table)


def parse_toml(text: str | bytes, file: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """The values in `text` and the line of each; raises ConfigError where it is not TOML."""
    if isinstance(text, bytes):
        text = _decode(text, file)
    try:
        return tomllib.loads(text), key_lines(text)
    except RecursionError as error:
        raise ConfigError([Fault(file, 1, "", "nests deeper than a config can")]) from error
    except ValueError as error:
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        message, line, column = str(error), 1, ""
        if place is not None:
            message = message[: place.start()]
            line = int(place[1]) if place[1] else max(1, len(text.splitlines()))
            column = f" (column {place[2]})" if place[2] else " (at the end of the file)"
        raise ConfigError([Fault(file, line, "", f"is not TOML: {message[:200]}{column}")]) from error


def _decode(text: bytes, file: str) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ConfigError([Fault(file, line, "", "is not UTF-8 text", "save it as UTF-8")]) from error


def read_password(file: Path) -> str:
    """The first line of `file`; raises ValueError where it holds no password, OSError where it cannot be read."""
    with file.open("rb") as opened:
        first_line = opened.read(_MAX_PASSWORD_BYTES).partition(b"\n")[0].rstrip(b"\r")
    try:
        password = first_line.decode()
    except UnicodeDecodeError:
        raise ValueError("does not hold UTF-8 text") from None
    if not password:
        raise ValueError("has an empty first line")
    return password


def file_named(written: str, folder: Path) -> Path:
    """The file that a config in `folder` names; raises RuntimeError for the home of nobody.

    What the service manager hands over is only there while the service runs: to whoever looks at a unit that is
    stopped, or makes a backup of it, it is the file that would be handed over.
    """
    file = folder / Path(written).expanduser()
    kept = folder / "credentials" / file.name
    if file.parent == HANDED_OVER and not os.path.exists(file) and os.path.exists(kept):  # noqa: PTH110 - never raises
        return kept
    return file


class TableReader:
    """Reads tables of one config file; what is wrong with them gathers in `faults`."""

    def __init__(self, path: Path, lines: dict[KeyPath, int]) -> None:
        self._file = str(path)
        self._folder = path.parent
        self._lines = lines
        self.faults: list[Fault] = []

    def line(self, path: KeyPath) -> int:
        """The line on which `path` was written."""
        return line_of(self._lines, path)

    def fault(self, path: KeyPath, message: str, suggestion: str = "") -> None:
        self.faults.append(Fault(self._file, self.line(path), dotted(path), message, suggestion))

    def table(self, table: type[T], raw: object, path: KeyPath) -> T | None:
        """`raw` as a `table`, or None with its faults noted."""
        if isinstance(raw, list):
            self.fault(path, "is written as a list", f"write [{dotted(path)}], once and in single brackets")
            return None
        try:
            return table.model_validate(raw)
        except ValidationError as error:
            for place, message, suggestion in words(error, table):
                self.fault((*path, *place), message, suggestion)
            return None

    def tables(self, raw: object, path: KeyPath, name: str) -> list[tuple[KeyPath, dict[str, Any]]]:
        """The tables of an array of tables called `name`; anything else is a fault."""
        if not isinstance(raw, list):
            self.fault(path, f"expected a list of tables, got {shown(raw)}", f"write [[{name}]], in double brackets")
            return []
        found: list[tuple[KeyPath, dict[str, Any]]] = []
        for place, item in enumerate(raw):
            if isinstance(item, dict):
                found.append(((*path, place), item))
            else:
                self.fault((*path, place), f"expected a table, got {shown(item)}", f"write [[{name}]]")
        return found

    def variant(self, tables: Mapping[str, type[T]], key: str, raw: dict[str, Any], path: KeyPath) -> T | None:
        """`raw` as the one of `tables` that its `key` names."""
        name = raw.get(key)
        if isinstance(name, str) and name in tables:
            return self.table(tables[name], raw, path)
        known = ", ".join(f'"{name}"' for name in tables)
        if name is None:
            self.fault((*path, key), "is required", f"one of {known}")
        else:
            self.fault((*path, key), f"must be one of {known}, got {shown(name)}", did_you_mean(name, tables))
        return None

    def path(self, written: str, path: KeyPath) -> Path | None:
        """`written` with ~ expanded, relative to the config's folder."""
        try:
            return file_named(written, self._folder)
        except RuntimeError:
            self.fault(path, f"cannot tell whose home folder {shown(written)} is in", "write the path from /")
            return None

    def first_line(self, file: Path, path: KeyPath, what: str) -> str | None:
        """The secret in a file, which is `what`; None, with a fault noted, if there is none."""
        try:
            return read_password(file)
        except (OSError, ValueError) as error:
            self.fault(path, str(error), f"the first line of the file is the {what}")
            return None

    def readable(self, written: str | None, path: KeyPath) -> Path | None:
        """The file `written` if it can be opened for reading; None, with a fault noted, if not."""
        file = self.path(written, path) if written is not None else None
        if file is None:
            return None
        try:
            if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for its writer
                self.fault(path, f"{shown(str(file))} is not a file")
                return None
            with file.open("rb"):
                return file
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.fault(path, f"cannot read {shown(str(file))}: {reason}", "check the path and who may read it")
            return None
