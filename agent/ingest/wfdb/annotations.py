"""Annotations in MIT format (annot(5)): beats, rhythm changes and notes at samples of a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.ingest.wfdb.header import RecordError

_SKIP, _NUM, _SUB, _CHN, _AUX = 59, 60, 61, 62, 63
_NOTE = 22

# ecgcodes.h: the place in this list is the code in the file; 15 and 17 are not defined.
SYMBOLS = (
    *(" ", "N", "L", "R", "a", "V", "F", "J", "A", "S", "E", "j", "/", "Q", "~", "", "|", "", "s", "T", "*", "D"),
    *('"', "=", "p", "B", "^", "t", "+", "u", "?", "!", "[", "]", "e", "n", "@", "x", "f", "(", ")", "r"),
)
_CODES = {symbol: code for code, symbol in enumerate(SYMBOLS) if symbol.strip()}


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """The annotations of a record in time order: a column per field, all of one length."""

    sample: npt.NDArray[np.int64]
    symbol: tuple[str, ...]
    """WFDB mnemonics: "N", "V", "+" (rhythm), "~" (quality), "[" and "]" (VF begins, ends) …"""
    aux: tuple[str, ...]
    """Free text: the rhythm of a "+" such as "(AFIB"; "" where there is none."""
    subtype: npt.NDArray[np.int8]
    channel: npt.NDArray[np.uint8]
    number: npt.NDArray[np.int8]
    time_resolution_hz: float | None = None
    """What `sample` counts, where the file says so itself; otherwise the record's rate."""

    def __len__(self) -> int:
        return len(self.sample)


def read_annotations(path: Path | str) -> Annotations:
    """An annotation file in MIT format, named with its annotator: "…/101.atr". Raises RecordError or OSError."""
    path = Path(path)
    rows: list[_Row] = []
    sample = channel = number = 0
    for code, value, aux in _words(path, path.read_bytes()):
        if code in {0, _SKIP}:  # Code 0 with an interval is no annotation either: it closes a file's notes on itself.
            sample += value
        elif code < _SKIP:
            sample += value
            rows.append(_Row(sample, code, channel, number))
        elif not rows:
            raise RecordError(path, "the file begins with an addition to an annotation, and there is none before it")
        elif code == _NUM:
            rows[-1].number = number = _signed_byte(value)
        elif code == _SUB:
            rows[-1].subtype = _signed_byte(value)
        elif code == _CHN:
            rows[-1].channel = channel = value & 0xFF
        else:
            rows[-1].aux = aux
    return _annotations(path, rows)


def _words(path: Path, raw: bytes) -> Iterator[tuple[int, int, str]]:
    """(code, value, text) of every word of the file, up to its end mark; the value of a skip is its interval."""
    at = 0
    while True:
        if at + 2 > len(raw):
            raise RecordError(path, f"the file ends at byte {len(raw)} without an end mark")
        code, value = raw[at + 1] >> 2, raw[at] | (raw[at + 1] & 3) << 8
        at += 2
        if code == 0 and value == 0:
            return
        length = {_SKIP: 4, _AUX: value}.get(code, 0)
        field = raw[at : at + length]
        if len(field) < length:
            raise RecordError(path, f"the file ends within a field of {length} bytes at byte {at}")
        at += length + length % 2
        if code == _SKIP:
            # Two 16-bit words, the high one first (a PDP-11 long).
            interval = field[1] << 24 | field[0] << 16 | field[3] << 8 | field[2]
            yield code, (interval ^ 1 << 31) - (1 << 31), ""
        else:
            yield code, value, field.rstrip(b"\0").decode("latin-1")


@dataclass(slots=True)
class _Row:
    sample: int
    code: int
    channel: int
    number: int
    subtype: int = 0
    aux: str = ""


def _signed_byte(value: int) -> int:
    return (value & 0xFF ^ 0x80) - 0x80


def _annotations(path: Path, rows: list[_Row]) -> Annotations:
    symbols = dict(enumerate(SYMBOLS))
    time_resolution_hz = None
    kept: list[_Row] = []
    for row in rows:
        # A file speaks of itself in notes at sample 0: its clock, and the meaning of codes of its own.
        words = row.aux.split(maxsplit=2) if row.code == _NOTE and row.sample == 0 else []
        if row.aux.startswith("## time resolution: ") and words:
            time_resolution_hz = _resolution(path, row.aux.removeprefix("## time resolution: "))
        elif words and words[0] == "##":
            continue
        elif len(words) > 1 and words[0].isdecimal() and 41 < int(words[0]) < 50:
            symbols[int(words[0])] = words[1]
        else:
            kept.append(row)
    for row in kept:
        if not symbols.get(row.code):
            raise RecordError(path, f"annotation code {row.code} at sample {row.sample} is not defined")
    return Annotations(
        sample=np.array([row.sample for row in kept], np.int64),
        symbol=tuple(symbols[row.code] for row in kept),
        aux=tuple(row.aux for row in kept),
        subtype=np.array([row.subtype for row in kept], np.int8),
        channel=np.array([row.channel for row in kept], np.uint8),
        number=np.array([row.number for row in kept], np.int8),
        time_resolution_hz=time_resolution_hz,
    )


def _resolution(path: Path, text: str) -> float:
    try:
        return float(text.split(maxsplit=1)[0])
    except (IndexError, ValueError):
        raise RecordError(path, f"time resolution {text!r} is not a number") from None


def write_annotations(
    path: Path | str,
    sample: Sequence[int] | npt.NDArray[np.int64],
    symbol: Sequence[str],
    *,
    aux: Sequence[str] | None = None,
    subtype: Sequence[int] | npt.NDArray[np.int8] | None = None,
    channel: Sequence[int] | npt.NDArray[np.uint8] | None = None,
    number: Sequence[int] | npt.NDArray[np.int8] | None = None,
) -> None:
    """Write an annotation file in MIT format at `path`, named with its annotator: "…/101.vagus".

    The columns have one length; `sample` counts the record's own samples and never decreases. Raises ValueError on a
    column of another length, a symbol that is not one of SYMBOLS, an unordered or negative sample, or a text that is
    longer than 255 Latin-1 characters.
    """
    none = [0] * len(sample)
    columns = (symbol, aux or [""] * len(sample), *(none if c is None else c for c in (subtype, channel, number)))
    out = bytearray()
    previous = last_channel = last_number = 0
    for at, name, text, sub, chan, num in zip(sample, *columns, strict=True):
        out += _interval(int(at) - previous, name)
        previous = int(at)
        if num != last_number:
            out += _packed(_NUM, int(num) & 0xFF)
        if sub:
            out += _packed(_SUB, int(sub) & 0xFF)
        if chan != last_channel:
            out += _packed(_CHN, int(chan) & 0xFF)
        last_channel, last_number = chan, num
        if text:
            out += _text(text)
    Path(path).write_bytes(out + _packed(0, 0))


def _packed(code: int, value: int) -> bytes:
    return (code << 10 | value).to_bytes(2, "little")


def _interval(delta: int, symbol: str) -> bytes:
    if symbol not in _CODES:
        raise ValueError(f"{symbol!r} is not a WFDB annotation symbol")
    if delta < 0:
        raise ValueError(f"annotations must be in time order: {-delta} samples back")
    if delta < 1 << 10:
        return _packed(_CODES[symbol], delta)
    high, low = delta >> 16, delta & 0xFFFF
    return _packed(_SKIP, 0) + high.to_bytes(2, "little") + low.to_bytes(2, "little") + _packed(_CODES[symbol], 0)


def _text(text: str) -> bytes:
    encoded = text.encode("latin-1")
    if len(encoded) > 255:
        raise ValueError(f"an annotation's text has {len(encoded)} bytes, at most 255 fit")
    return _packed(_AUX, len(encoded)) + encoded + b"\0" * (len(encoded) % 2)
