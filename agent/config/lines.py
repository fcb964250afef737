"""Line numbers for TOML: which line of the text each key was written on.

The standard library's parser gives values without positions. This scanner runs over text that parser has already
accepted, so it need not judge anything: it only has to know where strings, arrays and inline tables end.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]
"""Where a value is: table keys as text, places in an array as numbers from 0."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'"
)


class _Scanner:
    """One pass over one text; `lines` fills as it goes."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._pos = 0
        self._line = 1
        self._counts: dict[Path, int] = {}
        """How many tables each array of tables holds so far."""
        self.lines: dict[Path, int] = {}

    def scan(self) -> None:
        table: Path = ()
        self._skip_blank()
        while self._pos < len(self._text):
            if self._text.startswith("[[", self._pos):
                table = self._array_header()
            elif self._text[self._pos] == "[":
                table = self._table_header()
            else:
                self._key_value(table)
            self._skip_blank()

    def _advance(self, end: int) -> None:
        self._line += self._text.count("\n", self._pos, end)
        self._pos = end

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._pos)
        if found is None:
            raise ValueError(f"line {self._line}: the text is not the TOML it was taken for")
        self._advance(found.end())
        return found.group()

    def _skip_blank(self) -> None:
        self._match(_BLANK)

    def _peek(self) -> str:
        return self._text[self._pos : self._pos + 1]

    def _note(self, path: Path, line: int) -> None:
        self.lines.setdefault(path, line)

    def _dotted_key(self) -> Path:
        """The parts of a key, the position left just past it and the spaces after it."""
        parts: list[str] = []
        while True:
            self._skip_blank()
            if self._peek() in "\"'":
                parts.append(tomllib.loads(f"k = {self._match(_STRING)}")["k"])
            else:
                parts.append(self._match(_BARE_KEY))
            self._skip_blank()
            if self._peek() != ".":
                return tuple(parts)
            self._pos += 1

    def _resolve(self, key: Path) -> Path:
        """`key` with the place of the newest table after each name of an array of tables."""
        path: Path = ()
        for part in key:
            path = (*path, part)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _array_header(self) -> Path:
        line = self._line
        self._pos += 2
        key = self._dotted_key()
        self._pos += 2
        array = (*self._resolve(key[:-1]), key[-1])
        place = self._counts.get(array, 0)
        self._counts[array] = place + 1
        self._note_each(self._resolve(key[:-1]), key[-1:], line)
        self._note((*array, place), line)
        return (*array, place)

    def _table_header(self) -> Path:
        line = self._line
        self._pos += 1
        key = self._dotted_key()
        self._pos += 1
        path = self._resolve(key)
        self._note_each((), path, line)
        return path

    def _note_each(self, table: Path, key: Path, line: int) -> None:
        for end in range(1, len(key) + 1):
            self._note((*table, *key[:end]), line)

    def _key_value(self, table: Path) -> None:
        line = self._line
        key = self._dotted_key()
        self._note_each(table, key, line)
        self._pos += 1  # the equals sign
        self._skip_blank()
        self._value((*table, *key))

    def _value(self, path: Path) -> None:
        match self._peek():
            case '"' | "'":
                self._match(_STRING)
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                self._match(_SCALAR)

    def _array(self, path: Path) -> None:
        self._pos += 1
        place = 0
        self._skip_blank()
        while self._peek() != "]":
            self._note((*path, place), self._line)
            self._value((*path, place))
            place += 1
            self._skip_comma()
        self._pos += 1

    def _inline_table(self, path: Path) -> None:
        self._pos += 1
        self._skip_blank()
        while self._peek() != "}":
            self._key_value(path)
            self._skip_comma()
        self._pos += 1

    def _skip_comma(self) -> None:
        self._skip_blank()
        if self._peek() == ",":
            self._pos += 1
        self._skip_blank()


def key_lines(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every key, table and array element of `text`.

    `text` must be valid TOML (tomllib accepts it). Raises RecursionError where its values nest past Python's limit.
    """
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest thing around it that was written; 1 when there is none."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return 1
