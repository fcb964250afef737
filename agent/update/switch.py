"""Two versions side by side: the new one is staged, tried, switched to, and kept only if it is well.

versions/VERSION              a whole version each; `current` is a link to the one that runs
versions/VERSION.partial      what is being staged; nothing runs from it, and the next update removes it
update.json                   what is under way and what was taken: written to its side, then moved to its place

A cut at any instant leaves `current` on a whole version. If the link had moved and nobody had yet said that the new
version is well, `recover` goes back. It is to run once at boot, before the agent starts, and not at each start of the
unit: `apply` restarts the unit while the new version is not yet known to be well, and holds the lock meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from agent.update.bundle import BundleRefused, Device, Manifest, Trust, take

Result = Literal["done", "refused", "rolled_back"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an update ended."""

    result: Result
    version: str
    """That runs now."""
    why: str = ""
    """In words, where it was not done."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What outlives a cut."""

    sequence: int = 0
    """Of the newest bundle kept."""
    before: str = ""
    """The version to go back to."""
    trying: str = ""
    """The version that is switched to and not yet known to be well; "" for none."""
    why: str = ""
    """What became of the last update, in words; "" where it was well."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the versions lie, such as /opt/vagus."""

    root: Path

    @property
    def versions(self) -> Path:
        return self.root / "versions"

    @property
    def current(self) -> Path:
        return self.root / "current"

    def running(self) -> str:
        """The version that `current` names; raises OSError where there is none."""
        return self.current.readlink().name

    def journal(self) -> Journal:
        """Raises ValueError for one that cannot be read: what was taken before is then unknown."""
        try:
            return Journal(**json.loads((self.root / "update.json").read_text()))
        except FileNotFoundError:
            return Journal()
        except TypeError as error:
            raise ValueError(f"update.json is of another version: {error}") from None

    def write(self, journal: Journal) -> None:
        new = self.root / "update.json.new"
        with new.open("w") as file:
            json.dump(asdict(journal), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.root / "update.json")
        _flush(self.root)

    def switch(self, version: str) -> None:
        """One step: before it the old version runs, after it the new one."""
        new = self.root / "current.new"
        new.unlink(missing_ok=True)
        new.symlink_to(Path("versions") / version)
        new.replace(self.current)
        _flush(self.root)


@dataclass(frozen=True, slots=True)
class Steps:
    """What differs between a real device and a test; each raises or returns why not, "" for good."""

    gate: Callable[[Path], str]
    """Does the version in this folder give the golden alerts? Asked before the switch."""
    restart: Callable[[], None]
    healthy: Callable[[], str]
    """Is what runs now well? Waits for its own deadline."""


def apply(bundle: Path, layout: Layout, trust: Trust, device: Device, steps: Steps) -> Outcome:
    """Take the bundle, or leave all as it was. `device` says version and sequence as well; the layout's count.

    Raises OSError and ValueError for a layout that cannot be read or written.
    """
    with _alone(layout):
        _back_if_unsure(layout)
        old, journal = layout.running(), layout.journal()
        device = replace(device, version=old, sequence=max(journal.sequence, device.sequence))
        partial = layout.versions / "staging.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            manifest = take(bundle, trust, device, partial)
            new = _settle(layout, partial, manifest)
        except BundleRefused as error:
            shutil.rmtree(partial, ignore_errors=True)
            return Outcome("refused", old, f"{error.kind}: {error}")
        if why := _asked(lambda: steps.gate(new)):
            layout.write(replace(journal, why=f"{manifest.version}: {why}"))
            return Outcome("refused", old, f"gate: {why}")
        layout.write(Journal(journal.sequence, before=old, trying=manifest.version))
        layout.switch(manifest.version)
        if why := _asked(lambda: _restarted(steps)):
            layout.switch(old)
            layout.write(replace(journal, why=f"{manifest.version}: {why}"))
            steps.restart()
            return Outcome("rolled_back", old, why)
        layout.write(Journal(manifest.sequence, before=old))
        return Outcome("done", manifest.version)


def recover(layout: Layout) -> str:
    """Go back from a version that was never known to be well; which version that was, "" for none."""
    with _alone(layout):
        return _back_if_unsure(layout)


def roll_back(layout: Layout, steps: Steps) -> Outcome:
    """To the version before, because somebody says so. The bundle's number stays taken: it is not taken again."""
    with _alone(layout):
        journal, now = layout.journal(), layout.running()
        if not journal.before or not (layout.versions / journal.before).is_dir():
            return Outcome("refused", now, "there is no version before it")
        layout.switch(journal.before)
        layout.write(Journal(journal.sequence, why=f"{now}: taken back by hand"))
        steps.restart()
        return Outcome("rolled_back", journal.before, "by hand")


def _settle(layout: Layout, partial: Path, manifest: Manifest) -> Path:
    """The staged version in its place. One that lies there and does not run is a former try."""
    if manifest.version == layout.running():
        raise BundleRefused("replayed", f"{manifest.version} runs already")
    place = layout.versions / manifest.version
    shutil.rmtree(place, ignore_errors=True)
    for folder, _, _ in os.walk(partial, topdown=False):
        _flush(Path(folder))
    partial.rename(place)
    _flush(layout.versions)
    return place


def _back_if_unsure(layout: Layout) -> str:
    journal = layout.journal()
    if not journal.trying:
        return ""
    if layout.running() == journal.trying:
        layout.switch(journal.before)
    layout.write(Journal(journal.sequence, why=f"{journal.trying}: cut off before it was known to be well"))
    return journal.trying


def _restarted(steps: Steps) -> str:
    steps.restart()
    return steps.healthy()


def _asked(step: Callable[[], str]) -> str:
    """A step that breaks is a step that failed: the way back must be reached."""
    try:
        return step()
    except Exception as error:  # whatever it is, the version is not known to be well
        return f"{type(error).__name__}: {error}"


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One update at a time."""
    with (layout.root / "update.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
