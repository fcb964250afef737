"""A pack that somebody has thought up, its hashes all right, is refused in words and takes no memory worth the name."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.manifest import MANIFEST_NAME, MAX_BYTES, read_manifest
from models.pack import ModelPack, PackError, golden, load, shipped

PACK = load(shipped("beat"))


def with_golden(content: bytes) -> ModelPack:
    return ModelPack(PACK.path, PACK.manifest, PACK.weights, content)


def archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members.items():
            written.writestr(name, content)
    return out.getvalue()


def array(shape: str) -> bytes:
    """An .npy file whose header claims this shape, and that holds four numbers."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(16)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000 + "]" * 5000, "x" * (MAX_BYTES + 1)], ids=["deep", "large"])
def test_a_manifest_that_would_exhaust_its_reader(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(PackError, match=r"deeper than a manifest can|larger than 1 MB"):
        read_manifest(tmp_path / MANIFEST_NAME)


def test_a_manifest_without_end(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).symlink_to("/dev/zero")
    with pytest.raises(PackError, match="larger than 1 MB"):
        read_manifest(tmp_path / MANIFEST_NAME)


@given(content=st.binary(max_size=2000))
@settings(max_examples=200)
def test_any_bytes_are_a_manifest_or_a_pack_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("pack") / MANIFEST_NAME
    path.write_bytes(content)
    with pytest.raises(PackError):
        read_manifest(path)
    shutil.rmtree(path.parent)


def test_golden_vectors_that_swell_are_not_unpacked() -> None:
    swollen = archive({"logits.npy": bytes(100 << 20)})
    assert len(swollen) < 1 << 20
    with pytest.raises(PackError, match=r"unpacks to \d+ bytes"):
        golden(with_golden(swollen))


@pytest.mark.parametrize("shape", ["(1 << 60,)", "(10**18, 4)", "(4, 10**12)", "-1", "'four'", "(((((4,)))))", "("])
def test_golden_vectors_that_claim_a_shape_they_have_not(shape: str) -> None:
    with pytest.raises(PackError):
        golden(
            with_golden(archive({"signal.npy": array(shape), "context.npy": array("(4,)"), "logits.npy": array(shape)}))
        )


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_changed_in_golden_vectors_are_a_pack_error_or_vectors(data: st.DataObject) -> None:
    content = bytearray(PACK.golden)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        inputs, logits = golden(with_golden(bytes(content)))
    except PackError:
        return
    assert all(len(rows) == len(logits) for rows in inputs.values())


@given(st.binary(max_size=300))
@example(b"PK\x05\x06" + bytes(18))
@example(np.lib.format.magic(1, 0) + b"\x00\x00")
def test_any_bytes_are_no_golden_vectors(content: bytes) -> None:
    with pytest.raises(PackError):
        golden(with_golden(content))
