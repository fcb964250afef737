"""What every test may ask for: the PhysioNet recordings, where this machine has them."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("vagus", deadline=None)  # how fast a machine is decides nothing here
settings.load_profile("vagus")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
UNPACKED = REPOSITORY / ".data"

ARCHIVE = {
    "mitdb": "mitdb-ds1",
    "afdb_annotations_only": "afdb-annotations",
    "nsrdb_annotations_only": "nsrdb-annotations",
}
"""Databases whose archive is not named like the folder in it."""


@pytest.fixture(scope="session")
def recordings_dir() -> Callable[[str], Path]:
    """A function from a database's name ("mitdb", "svdb", "cinc2015", …) to its folder; it skips the test without one.

    Looked for in $VAGUS_DATA (folders or archives), then among the archives of ../shared/data, unpacked into .data/.
    """
    return _database


def _database(name: str) -> Path:
    given = os.environ.get("VAGUS_DATA")
    places = [Path(given), SHARED_DATA] if given else [SHARED_DATA]
    for place in places:
        if (place / name).is_dir():
            return place / name
    if (UNPACKED / name).is_dir():
        return UNPACKED / name
    for place in places:
        archive = place / f"{ARCHIVE.get(name, name)}.tar.xz"
        if archive.is_file():
            return _unpack(archive, name)
    pytest.skip(f"needs the {name} recordings: set VAGUS_DATA")


def _unpack(archive: Path, name: str) -> Path:
    """Unpacked beside its place and moved there when whole, so that an interrupted run leaves no half database."""
    UNPACKED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED) as scratch:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        found = Path(scratch) / name
        if not found.is_dir():
            pytest.skip(f"{archive} holds no folder {name}")
        if not (UNPACKED / name).is_dir():
            found.rename(UNPACKED / name)
    return UNPACKED / name
