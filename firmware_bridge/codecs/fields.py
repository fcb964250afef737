"""Reading what a stranger sent: bounded JSON, and fields of a map as the type they must have, or a DecodeError."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import MAX_CHUNK_SAMPLES, NS_PER_S, DecodeError

MAX_PAYLOAD_BYTES = 1 << 20
MAX_COUNTER = (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER_TYPES = {int, float}
_NAMES: dict[type, str] = {list: "a list", dict: "a map", bytes: "a byte string"}
MAX_TEXT = 256


def check_size(payload: bytes) -> bytes:
    """The payload if it is not empty and no longer than MAX_PAYLOAD_BYTES; raises DecodeError otherwise."""
    if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise DecodeError(f"payload of {len(payload)} bytes, expected 1 to {MAX_PAYLOAD_BYTES}")
    return payload


def load_json(payload: bytes) -> object:
    """The JSON document (RFC 8259, UTF-8) that the payload is; raises DecodeError.

    Refused besides bad syntax: NaN and Infinity, a key that stands twice in one object, nesting beyond the
    interpreter's limit, integers of thousands of digits.
    """
    try:
        return _DECODER.decode(check_size(payload).decode())
    except UnicodeDecodeError as error:
        raise DecodeError(f"not UTF-8: {error.reason}", error.start) from None
    except json.JSONDecodeError as error:
        raise DecodeError(f"not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise DecodeError("not JSON a sensor sends: nested too deep") from None
    except DecodeError:
        raise
    except ValueError:
        raise DecodeError("not JSON a sensor sends: an integer of thousands of digits") from None


def shown(value: object) -> str:
    """A value as an error message may show it: short, and safe to print whatever it is."""
    if isinstance(value, str):
        return ascii(value if len(value) <= 40 else value[:40] + "…")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value.bit_length() <= 64 else f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | float):
        return repr(value)
    return next((name for kind, name in _NAMES.items() if isinstance(value, kind)), "something else")


def real(value: object, name: str) -> float:
    """The finite number that `value` is; raises DecodeError, which names it `name`."""
    if type(value) not in _NUMBER_TYPES:
        raise DecodeError(f"{name} is {shown(value)}, expected a number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise DecodeError(f"{name} is {shown(value)}, beyond any number a sensor sends") from None
    if not math.isfinite(number):
        raise DecodeError(f"{name} is not a finite number")
    return number


def whole(value: object, name: str, highest: int) -> int:
    """The integer from 0 to `highest` that `value` is; raises DecodeError."""
    if type(value) is not int or not 0 <= value <= highest:
        raise DecodeError(f"{name} is {shown(value)}, expected an integer from 0 to {highest}")
    return value


def text(value: object, name: str) -> str:
    """The string, of at most MAX_TEXT characters, that `value` is; raises DecodeError."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise DecodeError(f"{name} is {shown(value)}, expected a string")
    return value


def mapping(value: object, name: str) -> Mapping[str, object]:
    """The map that `value` is; raises DecodeError."""
    if not isinstance(value, dict):
        raise DecodeError(f"{name} is {shown(value)}, expected a map")
    return value


def sample_rows(value: object, n_channels: int) -> npt.NDArray[np.float64]:
    """Samples written as a list of rows of `n_channels` numbers, or, for one channel, as a flat list: (n, n_channels).

    Raises DecodeError. Non-finite values pass here; they are refused by value in `plausible`.
    """
    if not isinstance(value, list):
        raise DecodeError(f"samples is {shown(value)}, expected a list")
    if not 0 < len(value) <= MAX_CHUNK_SAMPLES:
        raise DecodeError(f"{len(value)} samples, expected 1 to {MAX_CHUNK_SAMPLES}")
    flat = value
    if isinstance(value[0], list):
        for i, row in enumerate(value):
            if not isinstance(row, list) or len(row) != n_channels:
                width = f"{len(row)} values" if isinstance(row, list) else shown(row)
                raise DecodeError(f"sample {i} is {width}, expected a row of {n_channels}")
        flat = list(chain.from_iterable(value))
    elif n_channels != 1:
        raise DecodeError(f"samples is a flat list, expected rows of {n_channels} channels")
    if not set(map(type, flat)) <= _NUMBER_TYPES:
        stranger = next(item for item in flat if type(item) not in _NUMBER_TYPES)
        raise DecodeError(f"a sample is {shown(stranger)}, expected a number")
    try:
        return np.array(flat, np.float64).reshape(-1, n_channels)
    except OverflowError:
        raise DecodeError("a sample is an integer beyond any number a sensor sends") from None


def iso_ns(value: object, name: str) -> int:
    """UTC ns of an ISO 8601 date-time with a zone, to the µs; raises DecodeError."""
    try:
        moment = datetime.fromisoformat(text(value, name))
    except DecodeError:
        raise
    except (ValueError, OverflowError):
        raise DecodeError(f"{name} is {shown(value)}, expected an ISO 8601 date and time") from None
    if moment.tzinfo is None:
        raise DecodeError(f"{name} {shown(value)} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def seconds_ns(value: float) -> int:
    """A finite number of seconds in ns; whole seconds are exact whatever their size."""
    whole_s = math.floor(value)
    return whole_s * NS_PER_S + round((value - whole_s) * NS_PER_S)


def ms_ns(value: object, name: str) -> int:
    """Epoch ms, whole or with a fraction, in ns; raises DecodeError."""
    if type(value) is int:
        return whole(value, name, MAX_COUNTER) * 1_000_000
    whole_ms = math.floor(number := real(value, name))
    return whole_ms * 1_000_000 + round((number - whole_ms) * 1_000_000)


def iso_text(t_ns: int) -> str:
    """UTC ns as ISO 8601 with ms, the way Nightscout writes it."""
    moment = _EPOCH + timedelta(microseconds=t_ns // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain_number(value: np.float32) -> float:
    """The shortest decimal that is this float32, as JSON should carry it."""
    return float(f"{value:.9g}") if float(f"{value:.7g}") != value else float(f"{value:.7g}")


def name_part(name: str) -> str:
    """The last part of a name built with ":" or "/"."""
    return re.split(r"[:/]", name)[-1]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DecodeError(f"key {shown(twice)} stands twice in one object")
    return fields


def _no_constant(name: str) -> float:
    raise DecodeError(f"{name} is not a number in JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
