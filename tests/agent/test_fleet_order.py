"""Roll-out orders: only what was signed, for this ring, in time, and newer than what came before."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.cli import main
from agent.fleet.order import Envelope, Order, OrderRefused, RollOutFile, Trust, read_public_key, sign, sign_both
from agent.uplink.evidence import rfc3339

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TRUST = Trust([KEY.public_key()])
NOW_NS = 1_800_000_000_000_000_000
ORDER = Order(
    action="install",
    version="0.3.0",
    bundle="https://site.example/vagus-0.3.0-aarch64.tar",
    sha256="ab" * 32,
    length=1000,
    sequence=7,
    expires=rfc3339(NOW_NS + 1_000_000_000),
    rings=["ward", "all"],
)


def refusal(payload: bytes, **changes: object) -> str:
    asked = {"ring": "ward", "now_ns": NOW_NS, "newest": 0} | changes
    with pytest.raises(OrderRefused) as caught:
        TRUST.verify(payload, **asked)  # type: ignore[arg-type]
    return caught.value.kind


def test_a_good_order_is_taken() -> None:
    assert TRUST.verify(sign(ORDER, KEY).payload(), ring="ward", now_ns=NOW_NS, newest=6) == ORDER


def test_the_broker_sends_the_newest_again_and_that_is_no_fault() -> None:
    late_ns = NOW_NS + 10_000_000_000
    assert TRUST.verify(sign(ORDER, KEY).payload(), ring="ward", now_ns=late_ns, newest=7) == ORDER


@pytest.mark.parametrize(
    ("payload", "changes", "kind"),
    [
        (sign(ORDER, OTHER).payload(), {}, "forged"),
        (sign(ORDER, KEY).payload().replace(b"0.3.0", b"0.3.1"), {}, "forged"),
        (Envelope(order=ORDER.model_dump_json(), signature="?").payload(), {}, "forged"),
        (Envelope(order=ORDER.model_dump_json(), signature="").payload(), {}, "forged"),
        (sign(ORDER, KEY).payload(), {"now_ns": NOW_NS + 2_000_000_000}, "expired"),
        (sign(ORDER, KEY).payload(), {"newest": 8}, "old"),
        (sign(ORDER, KEY).payload(), {"ring": "canary"}, "other_ring"),
        (b"", {}, "unreadable"),
        (b"x" * 10_000, {}, "unreadable"),
    ],
)
def test_others_are_refused_by_name(payload: bytes, changes: dict[str, object], kind: str) -> None:
    assert refusal(payload, **changes) == kind


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(payload: bytes) -> None:
    assert refusal(payload) == "unreadable"


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_of_a_signed_order_may_change(place: int, by: int) -> None:
    payload = bytearray(sign(ORDER, KEY).payload())
    payload[place % len(payload)] ^= by
    try:
        order = TRUST.verify(bytes(payload), ring="ward", now_ns=NOW_NS, newest=0)
    except OrderRefused:
        return
    assert order == ORDER  # another way to write the same bytes


def test_a_signature_of_something_else_is_none_of_an_order() -> None:
    text = ORDER.model_dump_json()
    bare = Envelope(order=text, signature=base64.b64encode(KEY.sign(text.encode())).decode())
    assert refusal(bare.payload()) == "forged"


def test_the_way_back_is_newer_than_the_order() -> None:
    file = sign_both(ORDER, KEY)
    back = TRUST.verify(file.roll_back.payload(), ring="ward", now_ns=NOW_NS, newest=ORDER.sequence)
    assert (back.action, back.sequence, back.version) == ("roll_back", 8, "0.3.0")


def test_sign_makes_a_file_that_agents_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    bundle, order = tmp_path / "vagus.tar", tmp_path / "order.json"
    bundle.write_bytes(b"bundle")
    words = ["fleet", "sign", str(order), "--key", str(private), "--bundle", str(bundle), "--version", "0.3.0"]
    assert main([*words, "--sequence", "3", "--rings", "ward"]) == 0
    file = RollOutFile.model_validate_json(order.read_bytes())
    trust = Trust([read_public_key(public)])
    assert trust.verify(file.install.payload(), ring="ward", now_ns=0, newest=0).length == 6
    assert main([*words]) == 2
    order.write_text(json.dumps({"install": 1}))
    assert main(["fleet", "roll-out", str(order), "--rings", "ward"]) == 2
    assert "is no order" in capsys.readouterr().err
