"""When a certificate ends: the one date that has to be read out of its DER (RFC 5280, section 4.1)."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def ends_of(pem: str) -> list[datetime]:
    """The end of each certificate in a PEM file, in its order; raises ValueError for one that is damaged."""
    return [_end(ssl.PEM_cert_to_DER_cert(match[0])) for match in _PEM.finditer(pem)]


def _end(der: bytes) -> datetime:
    certificate = dict(_elements(der)).get(_SEQUENCE, b"")
    signed = list(_elements(next((content for _, content in _elements(certificate)), b"")))
    if signed and signed[0][0] == _VERSION:
        signed.pop(0)
    if len(signed) < 4:
        raise ValueError("no certificate")
    times = list(_elements(signed[3][1]))  # after serial number, algorithm and issuer
    if len(times) != 2:
        raise ValueError("a certificate without an end")
    tag, text = times[1][0], times[1][1].decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("a certificate whose end is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element."""
    at = 0
    while at < len(content):
        if at + 2 > len(content):
            raise ValueError("cut off")
        tag, length, at = content[at], content[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(content[at : at + size], "big"), at + size
        if at + length > len(content):
            raise ValueError("cut off")
        yield tag, content[at : at + length]
        at += length
