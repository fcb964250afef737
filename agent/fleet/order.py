"""A roll-out order: which version a ring shall run, signed where the bundles are signed and nowhere else.

What is signed with Ed25519 is the order's text, byte for byte, behind words of its own: no signature of anything else
can stand for one of an order. Whoever rolls out has no key; so the order back is signed in advance, with the next
sequence number, and lies beside it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.uplink.evidence import parse_rfc3339_ns

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_ORDER_BYTES = 8192
_DOMAIN: Final = b"vagus roll-out order 1\n"

Refusal = Literal["unreadable", "forged", "expired", "old", "other_ring"]


class OrderRefused(ValueError):  # noqa: N818 (as SubscribeRefused)
    """`kind` names why; the text says it in words."""

    def __init__(self, kind: Refusal, words: str) -> None:
        self.kind: Refusal = kind
        super().__init__(words)


class KeyFileError(ValueError):
    """A file that holds no Ed25519 key of the kind asked for."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Order(_Strict):
    """What is signed."""

    action: Literal["install", "roll_back"]
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$")]
    """To install, or to go back from."""
    bundle: Annotated[str, Field(max_length=1000)]
    """URL or path."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    length: Annotated[int, Field(ge=1, le=1 << 40)]
    """Bytes of the bundle."""
    sequence: Annotated[int, Field(ge=1, le=1 << 53)]
    """Higher than that of any order before."""
    expires: Annotated[str, Field(max_length=40)]
    """RFC 3339, UTC, with nine digits."""
    rings: Annotated[list[str], Field(max_length=100)] = []
    """Who may take it; empty for any ring."""

    @property
    def expires_ns(self) -> int:
        """Raises ValueError where it is no time."""
        return parse_rfc3339_ns(self.expires)


class Envelope(_Strict):
    """An order as it goes over the broker."""

    order: Annotated[str, Field(max_length=MAX_ORDER_BYTES)]
    signature: Annotated[str, Field(max_length=100)]

    def payload(self) -> bytes:
        return self.model_dump_json().encode()

    def read(self) -> Order:
        """What it says, whoever signed it. Raises OrderRefused."""
        try:
            order = Order.model_validate_json(self.order)
            _ = order.expires_ns
        except ValueError as error:
            raise OrderRefused("unreadable", f"it is no order of this version: {_short(error)}") from None
        return order


class RollOutFile(_Strict):
    """What `vagus fleet roll-out` is given: the order, and the way back."""

    install: Envelope
    roll_back: Envelope


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose orders count."""

    keys: Sequence[Ed25519PublicKey]

    def verify(self, payload: bytes, *, ring: str, now_ns: int, newest: int) -> Order:
        """The order in `payload`, for an agent of `ring` that has seen sequence `newest`. Raises OrderRefused.

        An order with the very number of the newest is no old one: the broker sends it again at every connection.
        """
        if len(payload) > MAX_ORDER_BYTES:
            raise OrderRefused("unreadable", f"it has {len(payload)} bytes, more than {MAX_ORDER_BYTES}")
        try:
            envelope = Envelope.model_validate_json(payload)
        except ValueError as error:
            raise OrderRefused("unreadable", f"it is no order: {_short(error)}") from None
        self._check_signature(envelope)
        order = envelope.read()
        if order.rings and ring not in order.rings:
            raise OrderRefused("other_ring", f"it is for {', '.join(order.rings)}, not for {ring}")
        if order.sequence < newest:
            raise OrderRefused("old", f"its number {order.sequence} is below {newest}, which came before")
        if order.sequence > newest and order.expires_ns <= now_ns:
            raise OrderRefused("expired", f"it expired at {order.expires}")
        return order

    def _check_signature(self, envelope: Envelope) -> None:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (only where orders are taken)

        try:
            signature = base64.b64decode(envelope.signature, validate=True)
        except binascii.Error:
            raise OrderRefused("forged", "its signature is not base64") from None
        for key in self.keys:
            try:
                key.verify(signature, _DOMAIN + envelope.order.encode())
            except InvalidSignature:
                continue
            return
        raise OrderRefused("forged", "its signature is by none of the keys that this agent trusts")


def sign(order: Order, key: Ed25519PrivateKey) -> Envelope:
    text = order.model_dump_json()
    return Envelope(order=text, signature=base64.b64encode(key.sign(_DOMAIN + text.encode())).decode())


def sign_both(order: Order, key: Ed25519PrivateKey) -> RollOutFile:
    """`order` to install, and the one that takes it back, which uses up the next sequence number."""
    back = order.model_copy(update={"action": "roll_back", "sequence": order.sequence + 1})
    return RollOutFile(install=sign(order, key), roll_back=sign(back, key))


def read_public_key(file: Path) -> Ed25519PublicKey:
    """From PEM. Raises KeyFileError and OSError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(file.read_bytes())
    except ValueError:
        raise KeyFileError("holds no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError("holds a key of another kind than Ed25519")
    return key


def read_private_key(file: Path) -> Ed25519PrivateKey:
    """From PEM without a password. Raises KeyFileError and OSError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError):
        raise KeyFileError("holds no private key in PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError("holds a key of another kind than Ed25519")
    return key


def _short(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    return str(error)
