"""Bundles with real keys in real tar files: what is taken, and what is refused under which name."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the extra [update]")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.update import bundle as bundles
from agent.update.bundle import BundleRefused, Device, Manifest, Target, Trust, make, take

KEY, SECOND, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
TRUST = Trust([KEY.public_key()])
DEVICE = Device("agent", "vagus", "0.2.0", 4, "x86_64", "ward", now_ns=1_800_000_000 * 10**9)
ABOUT = Manifest(
    kind="agent",
    name="vagus",
    version="0.3.0",
    sequence=5,
    expires="2030-01-01T00:00:00.000000000Z",
    arch="x86_64",
    files={"x": Target(length=0, sha256="0" * 64)},
)


def made(folder: Path, about: Manifest = ABOUT, keys: tuple[Ed25519PrivateKey, ...] = (KEY,)) -> Path:
    payload = folder / "payload"
    (payload / "bin").mkdir(parents=True)
    (payload / "bin/vagus").write_text("#!/bin/sh\n")
    (payload / "bin/vagus").chmod(0o755)
    (payload / "data").write_bytes(bytes(range(256)) * 40)
    make(payload, folder / "b.tar", about, keys)
    return folder / "b.tar"


def refused(file: Path, to: Path, trust: Trust = TRUST, device: Device = DEVICE) -> str:
    with pytest.raises(BundleRefused) as caught:
        take(file, trust, device, to)
    return caught.value.kind


def changed(file: Path, name: str, content: bytes | None, *, link: str = "") -> Path:
    """The bundle with one member replaced, left out (None), or with a link added."""
    out = file.with_name("changed.tar")
    with tarfile.open(file) as old, tarfile.open(out, "w") as new:
        for member in old:
            source = old.extractfile(member)
            assert source is not None
            data = source.read()
            if member.name == name:
                if content is None:
                    continue
                data = content
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("payload/link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            new.addfile(info)
    return out


def test_what_was_signed_is_what_lies_there(tmp_path: Path) -> None:
    manifest = take(made(tmp_path), TRUST, DEVICE, tmp_path / "to")

    assert set(manifest.files) == {"bin/vagus", "data"}
    assert (tmp_path / "to/data").read_bytes() == bytes(range(256)) * 40
    assert (tmp_path / "to/bin/vagus").stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"version": "0.1.9"}, "downgrade"),
        ({"sequence": 4}, "replayed"),
        ({"sequence": 3}, "replayed"),
        ({"expires": "2026-01-01T00:00:00.000000000Z"}, "expired"),
        ({"arch": "aarch64"}, "wrong_arch"),
        ({"rings": ["canary"]}, "other_ring"),
        ({"kind": "pack"}, "wrong_kind"),
        ({"name": "other"}, "wrong_kind"),
    ],
)
def test_well_signed_but_not_for_here(tmp_path: Path, change: dict[str, object], kind: str) -> None:
    file = made(tmp_path, ABOUT.model_copy(update=change))

    assert refused(file, tmp_path / "to") == kind
    assert not (tmp_path / "to").exists()


def test_versions_are_compared_as_numbers(tmp_path: Path) -> None:
    file = made(tmp_path, ABOUT.model_copy(update={"version": "0.10.0"}))

    assert take(file, TRUST, replace(DEVICE, version="0.9.0"), tmp_path / "to").version == "0.10.0"


def test_a_strangers_key(tmp_path: Path) -> None:
    assert refused(made(tmp_path, keys=(STRANGER,)), tmp_path / "to") == "forged"


def test_a_key_that_signs_twice_counts_once(tmp_path: Path) -> None:
    both = Trust([KEY.public_key(), SECOND.public_key()], threshold=2)

    assert refused(made(tmp_path, keys=(KEY, KEY)), tmp_path / "to", both) == "forged"


def test_two_keys_make_two(tmp_path: Path) -> None:
    both = Trust([KEY.public_key(), SECOND.public_key()], threshold=2)

    assert take(made(tmp_path, keys=(SECOND, KEY)), both, DEVICE, tmp_path / "to").version == "0.3.0"


def test_a_threshold_that_nobody_can_reach_or_that_asks_for_nobody() -> None:
    for threshold in (0, 2):
        with pytest.raises(ValueError, match="are wanted"):
            Trust([KEY.public_key(), KEY.public_key()], threshold)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("payload/data", b"x" * 10240, "forged"),
        ("payload/data", b"x", "forged"),
        ("payload/data", None, "truncated"),
        ("manifest.json", b"{}", "forged"),
        ("manifest.json", None, "unreadable"),
        ("signatures.json", b"[[[", "unreadable"),
        ("signatures.json", b"[]", "forged"),
    ],
)
def test_a_member_changed_or_taken_out(tmp_path: Path, name: str, content: bytes | None, kind: str) -> None:
    assert refused(changed(made(tmp_path), name, content), tmp_path / "to") == kind


def test_more_than_an_updater_has_room_for(tmp_path: Path) -> None:
    file = made(tmp_path)
    many = json.dumps(["AAAA"] * (bundles.MAX_SIGNATURES + 1)).encode()
    long = b" " * (bundles.MAX_MANIFEST_BYTES + 1)

    assert refused(changed(file, "signatures.json", many), tmp_path / "to") == "too_large"
    assert refused(changed(file, "manifest.json", long), tmp_path / "to") == "too_large"


def test_a_link_that_was_not_signed(tmp_path: Path) -> None:
    assert refused(changed(made(tmp_path), "", b"", link="/etc"), tmp_path / "to") == "forged"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "./x", "a\\..\\x", "a\0b"])
def test_even_who_holds_the_key_writes_nowhere_else(tmp_path: Path, name: str) -> None:
    text = ABOUT.model_copy(update={"files": {name: Target(length=0, sha256="0" * 64)}}).model_dump_json().encode()

    with pytest.raises(BundleRefused) as caught:
        bundles._manifest(text)
    assert caught.value.kind == "outside"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_cut_off_anywhere_before_its_last_file_ends(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    file = made(folder)
    with tarfile.open(file) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + last.size
    cut = folder / "cut.tar"
    cut.write_bytes(file.read_bytes()[: int(end * share)])

    assert refused(cut, folder / "to") in ("truncated", "unreadable")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, share: float, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    file = made(folder)
    data = bytearray(file.read_bytes())
    data[int(len(data) * share)] ^= flip
    file.write_bytes(data)

    try:
        take(file, TRUST, DEVICE, folder / "to")
    except BundleRefused:
        return
    assert (folder / "to/data").read_bytes() == bytes(range(256)) * 40
    assert (folder / "to/bin/vagus").read_text() == "#!/bin/sh\n"
