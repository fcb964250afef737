"""A signed bundle: one tar file with `manifest.json`, `signatures.json`, then the payload, in that order.

Ed25519 over the manifest's bytes, and no online repository as python-tuf wants it: a bundle comes over any medium, and
there is nothing to ask on the way. What TUF teaches is kept: so many keys must have signed, a bundle expires, numbers
only rise, and length and hash of every file are signed. Nothing of a bundle is believed before its signatures are.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.below import stays_below
from agent.uplink.evidence import parse_rfc3339_ns

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MANIFEST, SIGNATURES, PAYLOAD = "manifest.json", "signatures.json", "payload/"
MAX_MANIFEST_BYTES = 4 << 20
MAX_SIGNATURES = 32
MAX_FILES = 20_000
MAX_TOTAL_BYTES = 4 << 30
_DOMAIN: Final = b"vagus update bundle 1\n"
_BLOCK = 1 << 20

Refusal = Literal[
    "unreadable", "forged", "expired", "downgrade", "replayed", "truncated", "wrong_arch", "other_ring", "outside",
    "too_large", "wrong_kind",
]  # fmt: skip


class BundleRefused(ValueError):  # noqa: N818 (as OrderRefused)
    """`kind` names why; the text says it in words."""

    def __init__(self, kind: Refusal, words: str) -> None:
        self.kind: Refusal = kind
        super().__init__(words)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Target(_Strict):
    """One file of the payload."""

    length: Annotated[int, Field(ge=0, le=MAX_TOTAL_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    executable: bool = False


class Manifest(_Strict):
    """What is signed."""

    format: Literal[1] = 1
    kind: Literal["agent", "pack"]
    name: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6}){0,3}$")]
    sequence: Annotated[int, Field(ge=1, le=1 << 53)]
    """Higher than that of any bundle of this kind and name before."""
    expires: Annotated[str, Field(max_length=40)]
    """RFC 3339, UTC, with nine digits."""
    arch: Literal["any", "aarch64", "x86_64"]
    rings: Annotated[list[str], Field(max_length=100)] = []
    """Who may take it; empty for any ring."""
    files: Annotated[dict[str, Target], Field(min_length=1, max_length=MAX_FILES)]
    """Way below the payload's folder → what lies there."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where a bundle would be installed, and what is there."""

    kind: Literal["agent", "pack"]
    name: str
    version: str
    sequence: int
    """Of the newest bundle taken, 0 for none."""
    arch: str
    ring: str
    now_ns: int
    """The latest of the clock, the build's date and the last time seen: a clock that is not set revives nothing."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count, and how many of them it takes."""

    keys: Sequence[Ed25519PublicKey]
    threshold: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len({key.public_bytes_raw() for key in self.keys}):
            raise ValueError(f"{self.threshold} signatures are wanted of {len(self.keys)} keys")

    def check(self, manifest: bytes, signatures: Sequence[bytes]) -> None:
        """Raises BundleRefused. One key counts once, however often it signed."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (only where bundles are taken)

        good = set()
        for key in self.keys:
            for signature in signatures:
                try:
                    key.verify(signature, _DOMAIN + manifest)
                except InvalidSignature:
                    continue
                good.add(key.public_bytes_raw())
        if len(good) < self.threshold:
            raise BundleRefused("forged", f"{len(good)} of the trusted keys signed it, {self.threshold} must have")


def make(payload: Path, out: Path, about: Manifest, keys: Sequence[Ed25519PrivateKey]) -> Manifest:
    """Write the bundle of the files in `payload`; `about.files` is filled in from them. Raises OSError."""
    paths = {one.relative_to(payload).as_posix(): one for one in sorted(payload.rglob("*")) if one.is_file()}
    files = {
        name: {"length": path.stat().st_size, "sha256": _sha256(path), "executable": os.access(path, os.X_OK)}
        for name, path in paths.items()
    }
    manifest = Manifest.model_validate({**about.model_dump(), "files": files})
    text = manifest.model_dump_json().encode()
    signatures = json.dumps([base64.b64encode(key.sign(_DOMAIN + text)).decode() for key in keys]).encode()
    with tarfile.open(out, "x", format=tarfile.PAX_FORMAT) as tar:
        for name, content in ((MANIFEST, text), (SIGNATURES, signatures)):
            _add(tar, name, io.BytesIO(content), len(content))
        for name, path in paths.items():
            with path.open("rb") as file:
                _add(tar, PAYLOAD + name, file, manifest.files[name].length)
    return manifest


def take(bundle: Path, trust: Trust, device: Device, to: Path) -> Manifest:
    """Unpack the payload into the new folder `to`, checked on its way: what is there afterwards is what was signed.

    Raises BundleRefused, leaving in `to` what came before the fault, and OSError.
    """
    try:
        with tarfile.open(bundle, "r:") as tar:
            text = _head(tar, MANIFEST)
            trust.check(text, _signatures(_head(tar, SIGNATURES)))
            manifest = _manifest(text)
            _suits(manifest, device)
            to.mkdir()
            left = dict(manifest.files)
            while (member := tar.next()) is not None:
                name = member.name.removeprefix(PAYLOAD)
                target = left.pop(name, None) if member.name.startswith(PAYLOAD) and member.isreg() else None
                source = tar.extractfile(member) if target else None
                if target is None or source is None:
                    raise BundleRefused("forged", f"it holds {member.name!r}, which is not in its manifest")
                if member.size != target.length:
                    raise BundleRefused("forged", f"{name} has {member.size} bytes, {target.length} were signed")
                _write(to / name, source, target, name)
    except (tarfile.TarError, EOFError) as error:
        raise BundleRefused("truncated", f"it is cut off or no bundle: {error}") from None
    if left:
        raise BundleRefused("truncated", f"{len(left)} of its files are missing")
    return manifest


def _suits(manifest: Manifest, device: Device) -> None:
    if (manifest.kind, manifest.name) != (device.kind, device.name):
        raise BundleRefused("wrong_kind", f"it is {manifest.kind} {manifest.name}, not {device.kind} {device.name}")
    if manifest.arch not in ("any", device.arch):
        raise BundleRefused("wrong_arch", f"it is for {manifest.arch}, this is {device.arch}")
    if manifest.rings and device.ring not in manifest.rings:
        raise BundleRefused("other_ring", f"it is for {', '.join(manifest.rings)}, not for {device.ring}")
    if parse_rfc3339_ns(manifest.expires) <= device.now_ns:
        raise BundleRefused("expired", f"it expired at {manifest.expires}")
    if manifest.sequence <= device.sequence:
        raise BundleRefused("replayed", f"its number {manifest.sequence} is not above {device.sequence}")
    if _numbers(manifest.version) < _numbers(device.version):
        raise BundleRefused("downgrade", f"it is {manifest.version}, older than {device.version}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _manifest(text: bytes) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(text)
        parse_rfc3339_ns(manifest.expires)
    except ValueError as error:
        first = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
        raise BundleRefused("unreadable", f"its manifest is none of this version: {first}") from None
    for name in manifest.files:
        if "\\" in name or "\0" in name or not stays_below(name):
            raise BundleRefused("outside", f"its manifest names {name!r}, which leads elsewhere")
    if sum(one.length for one in manifest.files.values()) > MAX_TOTAL_BYTES:
        raise BundleRefused("too_large", f"it holds more than {MAX_TOTAL_BYTES >> 30} GB")
    return manifest


def _signatures(text: bytes) -> list[bytes]:
    try:
        said = json.loads(text)
        signatures = [base64.b64decode(one, validate=True) for one in said]
    except (ValueError, TypeError, RecursionError) as error:
        raise BundleRefused("unreadable", f"its signatures cannot be read: {error}") from None
    if len(signatures) > MAX_SIGNATURES:
        raise BundleRefused("too_large", f"it has {len(signatures)} signatures")
    return signatures


def _head(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.next()
    if member is None or member.name != name or not member.isreg():
        raise BundleRefused("unreadable", f"{name} is not where it belongs")
    if member.size > MAX_MANIFEST_BYTES:
        raise BundleRefused("too_large", f"{name} has {member.size} bytes")
    file = tar.extractfile(member)
    content = file.read() if file is not None else b""
    if len(content) != member.size:
        raise BundleRefused("truncated", f"{name} is cut off")
    return content


def _write(path: Path, source: IO[bytes], target: Target, name: str) -> None:
    """`path` is below a folder that only we fill, with plain files and folders: no link can lead out of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, written = hashlib.sha256(), 0
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if target.executable else 0o644), "wb"
    ) as f:
        while block := source.read(_BLOCK):
            digest.update(block)
            written += len(block)
            f.write(block)
        f.flush()
        os.fsync(f.fileno())
    if written != target.length:
        raise BundleRefused("truncated", f"{name} is cut off after {written} bytes")
    if digest.hexdigest() != target.sha256:
        raise BundleRefused("forged", f"{name} is not what was signed")


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
