"""`vagus backup` and `vagus restore`: what a device is and what it knows, moved to a replacement.

An archive is a tar file: `manifest.json` first, with the sha256 of every other member; then `config/…`, the config and
every file that it names; then `state/…`, all that the agent keeps. It holds keys and people's data, and can be read by
its owner only. The agent must not run meanwhile, for what it writes would be torn.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sqlite3
import stat
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from agent import __version__
from agent.below import stays_below
from agent.config import Config, ConfigError, load_config
from agent.uplink.evidence import rfc3339
from agent.uplink.outbox_file import FILE_NAME, OutboxError, open_outbox_file
from agent.workers.places import state_folders

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG, STATE = "config", "state"
MAX_MANIFEST_BYTES = 16 << 20
NOT_KEPT = ("-shm", "-reserve", ".lock", ".pid")
"""Endings of files that are made anew."""
BLOCK = 1 << 20


class BackupError(Exception):
    """What cannot be put into an archive or taken out of it, in words."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself."""

    agent: str
    version: str
    """Of the vagus that wrote it."""
    config: str
    """The config's name below CONFIG."""
    files: dict[str, str]
    """Member → sha256."""


def backup_command(args: argparse.Namespace) -> int:
    """`vagus backup CONFIG ARCHIVE`: 0 when it is written, else 1; 2 for a config that is none."""
    try:
        config = load_config(Path(args.config))
        count = backup(Path(args.config), config, Path(args.archive))
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    except (BackupError, OutboxError, OSError) as error:
        sys.stderr.write(f"vagus backup: {error}\n")
        return 1
    sys.stdout.write(f"{args.archive}: {count} files of agent {config.agent.id}. It holds keys and people's data.\n")
    return 0


def restore_command(args: argparse.Namespace) -> int:
    """`vagus restore ARCHIVE --config DIR [--state DIR]`: 0 when all is in its place, else 1."""
    try:
        manifest, config = restore(Path(args.archive), Path(args.config), Path(args.state) if args.state else None)
    except (BackupError, ConfigError, OSError, tarfile.TarError) as error:
        sys.stderr.write(f"vagus restore: {error}\n")
        return 1
    sys.stdout.write(f"agent {manifest.agent} is here: start it with  vagus run {config}\n")
    sys.stdout.write("The device it comes from must not run any more: at the broker, one would put out the other.\n")
    if manifest.version != __version__:
        was = f"vagus {manifest.version}"
        sys.stdout.write(
            f"It was written by {was}, this is {__version__}: what the analysis remembers starts afresh.\n"
        )
    return 0


def backup(path: Path, config: Config, archive: Path) -> int:
    """Write the archive of the agent whose config is at `path`; how many files are in it.

    Raises BackupError where the agent runs or the archive is there already, OutboxError or OSError for a state that
    cannot be read.
    """
    state_dir = config.agent.state_dir
    with ExitStack() as stack:
        for folder in state_folders(state_dir):
            outbox = folder / FILE_NAME
            if outbox.exists():
                stack.enter_context(_at_rest(outbox))
        members = dict(_of_config(path, config)) | dict(_of_state(state_dir))
        files = {name: _sha256(source) for name, source in members.items()}
        manifest = {"format": FORMAT, "vagus": __version__, "agent": config.agent.id, "config": path.name}
        text = json.dumps({**manifest, "made_at": rfc3339(time.time_ns()), "files": files}, indent=1).encode()
        try:
            out = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise BackupError(f"{archive} is there already") from error
        with os.fdopen(out, "wb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, MANIFEST, io.BytesIO(text), len(text))
            for name, source in members.items():
                with source.open("rb") as file:
                    _add(tar, name, file, source.stat().st_size)
    return len(files)


def restore(archive: Path, config_dir: Path, state_dir: Path | None) -> tuple[Manifest, Path]:
    """Put an archive in its place: config and what it names into `config_dir`, state into `state_dir`.

    Without `state_dir` it goes where the config says. Nothing that is there is overwritten. Returns what was restored
    and the config's path. Raises BackupError, leaving what was written so far, where the archive is damaged, holds
    anything but the files it names, or something is in the way.
    """
    with tarfile.open(archive) as tar:
        manifest = _manifest(tar)
        config = config_dir / manifest.config
        if config.exists():
            raise BackupError(f"{config} is there already")
        left = dict(manifest.files)
        target = state_dir
        for member in tar:
            if member.name == MANIFEST:
                continue
            sha256 = left.pop(member.name, None)
            if sha256 is None or not member.isreg():
                raise BackupError(f"{archive} holds {member.name!r}, which is not in its manifest")
            room, place = _place(member.name)
            if room == STATE and target is None:
                target = load_config(config).agent.state_dir
            root = config_dir if room == CONFIG else target
            source = tar.extractfile(member)
            if root is None or source is None:
                raise BackupError(f"{archive} holds {member.name!r} where it cannot be read")
            _write(root, place, source, sha256)
    if left:
        raise BackupError(f"{archive} is cut off: {len(left)} files are missing")
    return manifest, config


def _at_rest(outbox: Path) -> closing[sqlite3.Connection]:
    """The outbox's file, ours alone until it is closed, with nothing left in its log."""
    try:
        db, _ = open_outbox_file(outbox, time.time_ns())
    except OutboxError as error:
        raise BackupError(f"{error}. Stop the agent first: sudo systemctl stop vagus") from error
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return closing(db)


def _of_config(path: Path, config: Config) -> Iterator[tuple[str, Path]]:
    """The config first, then the files that it names, which must be below its folder."""
    folder = path.resolve().parent
    yield f"{CONFIG}/{path.name}", path
    state_dir = config.agent.state_dir.resolve()
    for named in sorted({one.resolve() for one in _paths(config)}):
        if not named.is_file() or named.is_relative_to(state_dir) or named == path.resolve():
            continue
        if not named.is_relative_to(folder):
            raise BackupError(f"{named} is named by the config and not below {folder}: put it there, then name it so")
        yield f"{CONFIG}/{named.relative_to(folder).as_posix()}", named


def _paths(value: Any) -> Iterator[Path]:
    """Every path within a config."""
    if isinstance(value, Path):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _paths(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _paths(one)


def _of_state(state_dir: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(state_dir.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.endswith(NOT_KEPT):
            yield f"{STATE}/{path.relative_to(state_dir).as_posix()}", path


def _add(tar: tarfile.TarFile, name: str, file: BinaryIO, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(time.time())
    tar.addfile(info, file)


def _manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    file = tar.extractfile(first) if first is not None and first.isreg() and first.name == MANIFEST else None
    if first is None or file is None or first.size > MAX_MANIFEST_BYTES:
        raise BackupError("this is no archive of `vagus backup`: it does not begin with its manifest")
    try:
        said = json.loads(file.read())
        if said["format"] != FORMAT:
            raise BackupError(f"the archive has format {said['format']}, this vagus reads {FORMAT}")
        manifest = Manifest(str(said["agent"]), str(said["vagus"]), str(said["config"]), dict(said["files"]))
    except (ValueError, TypeError, KeyError) as error:
        raise BackupError("the archive's manifest is damaged") from error
    if PurePosixPath(manifest.config).name != manifest.config or f"{CONFIG}/{manifest.config}" not in manifest.files:
        raise BackupError("the archive's manifest names no config")
    return manifest


def _place(name: str) -> tuple[str, PurePosixPath]:
    """The room of a member, and the way below it; raises BackupError for one that would lead anywhere else."""
    parts = name.split("/")
    if parts[0] not in (CONFIG, STATE) or len(parts) < 2 or not stays_below(name):
        raise BackupError(f"the archive holds {name!r}, which has no place here")
    return parts[0], PurePosixPath(*parts[1:])


def _write(root: Path, place: PurePosixPath, source: Any, sha256: str) -> None:
    path = root.joinpath(*place.parts)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise BackupError(f"{path.parent} leads out of {root}")
    digest = hashlib.sha256()
    try:
        out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    except FileExistsError as error:
        raise BackupError(f"{path} is there already") from error
    with os.fdopen(out, "wb") as file:
        while block := source.read(BLOCK):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != sha256:
        path.unlink()
        raise BackupError(f"{place} is damaged: its sha256 is not the manifest's")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
