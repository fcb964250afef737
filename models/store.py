"""Packs installed beside those that ship: taken in whole or not at all, and used only while they are sound.

FOLDER/<id> -> versions/<version>-…/<id>              what is live: a link, moved in one step
FOLDER/versions/<version>-…/<id>                      the live one and the one before it
FOLDER/staging-…                                      where a new one is checked; nothing reads it
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.manifest import MANIFEST_NAME, PackError, read_manifest
from models.pack import MAX_FILE_BYTES, ModelPack, load, shipped

MAX_FILES = 32
MAX_TOTAL_BYTES = 128 << 20
CARD = "CARD.md"
_PIECE = 1 << 20
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_PLOT = ".png"


@dataclass(frozen=True, slots=True)
class Live:
    """The pack to use."""

    pack: ModelPack
    installed: bool
    """False where it is the one that ships with vagus."""
    passed_over: str = ""
    """Why an installed one is not used, in words."""


def install(source: Path, folder: Path, check: Callable[[ModelPack], None]) -> ModelPack:
    """Take the pack in `source`, a folder or a zip file, into `folder`, and make it live.

    It is copied to a staging folder, loaded there (files, hashes, manifest) and shown to `check`, which raises
    PackError on what is wrong with it. Only what the manifest names, CARD.md and PNG files are
    taken. Whatever is refused leaves what was live as it was. Raises PackError with the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder), tempfile.TemporaryDirectory(dir=folder, prefix="staging-") as staging:
            try:
                return _switch(folder, *_staged(source, Path(staging), check))
            except PackError as error:
                inside = Path(staging) in error.path.parents and error.path.suffix
                raise PackError(source, f"{error.path.name}: {error.reason}" if inside else error.reason) from None
    except OSError as error:
        raise PackError(source, f"cannot be installed: {error.strerror or error}") from error


def live(pack_id: str, folder: Path | None) -> Live:
    """The installed pack of that id if it is sound, else the one that ships; raises PackError when neither is."""
    reason = ""
    if folder is not None and os.path.lexists(folder / pack_id):
        try:
            return Live(load(folder / pack_id), True)
        except PackError as error:
            reason = str(error)
    try:
        return Live(load(shipped(pack_id)), False, reason)
    except PackError as error:
        raise PackError(error.path, f"{error.reason}; installed: {reason}" if reason else error.reason) from None


def installed(folder: Path) -> list[str]:
    """Ids of the packs that are live in `folder`."""
    return sorted(path.name for path in folder.glob("*") if path.is_symlink()) if folder.is_dir() else []


def _staged(source: Path, staging: Path, check: Callable[[ModelPack], None]) -> tuple[Path, ModelPack]:
    """The pack copied, loaded and checked, and its folder, which is named like it."""
    unpacked = staging / "new"
    unpacked.mkdir()
    (_copy if source.is_dir() else _unzip)(source, unpacked)
    staged = staging / read_manifest(unpacked / MANIFEST_NAME).id
    unpacked.rename(staged)
    pack = load(staged)
    check(pack)
    _keep_only(staged, pack)
    return staged, pack


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One installation at a time."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy(source: Path, to: Path) -> None:
    room = _Room(source)
    for path in sorted(source.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise PackError(source, f"{path.name} is not a plain file")
        room.take(path.name)
        with path.open("rb") as content:
            room.copy(path.name, content.read, to)


def _unzip(source: Path, to: Path) -> None:
    """Files of one flat folder, or of none; no name may lead elsewhere, and no size is believed."""
    if not source.exists():
        raise PackError(source, "no such file or folder")
    room = _Room(source)
    try:
        with zipfile.ZipFile(source) as archive:
            folders = set()
            for member in archive.infolist():
                parts = PurePosixPath(member.filename.replace("\\", "/")).parts
                if member.is_dir() and len(parts) == 1 and parts[0] not in {"/", ".."}:
                    continue
                if stat.S_ISLNK(member.external_attr >> 16) or not 1 <= len(parts) <= 2 or {"..", "/"} & set(parts):
                    raise PackError(source, f"{member.filename!r} leads out of the pack's folder")
                if member.compress_type not in _COMPRESSIONS:
                    raise PackError(source, f"{member.filename!r} is compressed in a way that is not read here")
                folders.add(parts[:-1])
                room.take(parts[-1])
                with archive.open(member) as content:
                    room.copy(parts[-1], content.read, to)
            if len(folders) > 1:
                raise PackError(source, "holds more than one folder")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise PackError(source, f"is not a zip file that can be read: {error}") from None


class _Room:
    """How much a pack may still take."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._names: set[str] = set()
        self._bytes = 0

    def take(self, name: str) -> None:
        if name in self._names:
            raise PackError(self._source, f"holds {name!r} twice")
        self._names.add(name)
        if len(self._names) > MAX_FILES:
            raise PackError(self._source, f"holds more than {MAX_FILES} files")

    def copy(self, name: str, read: Callable[[int], bytes], to: Path) -> None:
        """Piece by piece, and no further than allowed: what a header says of its size is not trusted."""
        if name in {"", ".", ".."} or name.startswith("."):
            raise PackError(self._source, f"{name!r} is no name for a pack's file")
        written = 0
        with (to / name).open("xb") as file:
            while piece := read(_PIECE):
                written += len(piece)
                self._bytes += len(piece)
                if written > MAX_FILE_BYTES or self._bytes > MAX_TOTAL_BYTES:
                    raise PackError(self._source, f"{name} is too large: {MAX_FILE_BYTES >> 20} MB a file are taken")
                file.write(piece)


def _keep_only(staged: Path, pack: ModelPack) -> None:
    named = {MANIFEST_NAME, CARD, pack.manifest.golden.file, *(one.file for one in pack.manifest.weights.values())}
    for path in staged.iterdir():
        if path.name not in named and path.suffix != _PLOT:
            path.unlink()
            continue
        path.chmod(0o600)
        _flush(path)


def _switch(folder: Path, staged: Path, pack: ModelPack) -> ModelPack:
    """Move the checked folder to its place and the link to it: one step, after all of it is on disk."""
    versions = folder / "versions"
    versions.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=versions, prefix=f"{pack.version}-{pack.hash[:8]}-")) / pack.id
    place.parent.chmod(0o755)  # who installs need not be who runs the agent
    staged.rename(place)
    for path in (place, place.parent, versions):
        _flush(path)
    link, new = folder / pack.id, folder / f".{pack.id}.new"
    before = folder / link.readlink() if link.is_symlink() else None
    new.unlink(missing_ok=True)
    new.symlink_to(place.relative_to(folder))
    new.replace(link)
    _flush(folder)
    _forget(folder, pack.id, {place, before})
    return load(link)


def _forget(folder: Path, pack_id: str, kept: set[Path | None]) -> None:
    """Older versions of this pack go."""
    for place in (folder / "versions").glob(f"*/{pack_id}"):
        if place not in kept:
            shutil.rmtree(place, ignore_errors=True)
            if not any(place.parent.iterdir()):
                place.parent.rmdir()


def _flush(path: Path) -> None:
    """A file's content, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
