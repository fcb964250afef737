"""Download what the packs are made from: `python -m models.training.fetch DIR`.

Only recordings of the closed lists come: those that judge the packs are not fetched, and of an archive that holds
them too they are not unpacked. What is there already is left alone.
"""

from __future__ import annotations

import argparse
import io
import sys
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.training.datasets import DS1, NOISE, SVDB
from models.training.rhythm_records import AFDB, NSRDB, cinc2017_names
from models.training.vf_records import CINC2015, CUDB, VFDB

PHYSIONET = "https://physionet.org/files"
CINC2015_ALARMS = "challenge-2015/1.0.0/training/ALARMS"
CINC2017 = "challenge-2017/1.0.0"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """Recordings of one database, and the folder of DIR that they belong in."""

    project: str
    folder: str
    names: tuple[str, ...]
    endings: tuple[str, ...] = ("hea", "dat", "atr")

    def files(self) -> Iterator[str]:
        return (f"{name}.{ending}" for name in self.names for ending in self.endings)


PARTS = (
    Part("mitdb/1.0.0", "mitdb", DS1),
    Part("svdb/1.0.0", "svdb", SVDB),
    Part("vfdb/1.0.0", "vfdb", tuple(VFDB)),
    Part("cudb/1.0.0", "cudb", tuple(CUDB)),
    Part("nstdb/1.0.0", "noise", NOISE, ("hea", "dat")),
    Part("afdb/1.0.0", "afdb_annotations_only", AFDB, ("hea", "atr", "qrs")),
    Part("challenge-2015/1.0.0/training", "cinc2015", CINC2015, ("hea", "mat")),
    Part("nsrdb/1.0.0", "nsrdb_annotations_only", NSRDB, ("hea", "atr")),
)


def fetch(data: Path, physionet: str = PHYSIONET) -> int:
    """Download what is missing in `data`; returns how many files came. Raises OSError where the network fails."""
    came = 0
    for part in PARTS:
        for file in part.files():
            came += _file(f"{physionet}/{part.project}/{file}", data / part.folder / file)
    _listed(f"{physionet}/{CINC2015_ALARMS}", data / "cinc2015" / "ALARMS", CINC2015)
    return came + _cinc2017(data / "cinc2017", physionet)


def _cinc2017(folder: Path, physionet: str) -> int:
    """One archive holds all; only the listed recordings are unpacked and named in the table of labels."""
    names = cinc2017_names()
    wanted = {f"{name}.{ending}" for name in names for ending in ("hea", "mat")}
    missing = {file for file in wanted if not (folder / "training2017" / file).exists()}
    if missing:
        archive = zipfile.ZipFile(io.BytesIO(_get(f"{physionet}/{CINC2017}/training2017.zip")))
        (folder / "training2017").mkdir(parents=True, exist_ok=True)
        for member in archive.namelist():
            name = member.rpartition("/")[2]
            if name in missing:
                (folder / "training2017" / name).write_bytes(archive.read(member))
    _listed(f"{physionet}/{CINC2017}/REFERENCE-v3.csv", folder / "REFERENCE-v3.csv", names)
    return len(missing)


def _listed(url: str, path: Path, names: Iterable[str]) -> None:
    """Of a table with a recording's name first in each row, the rows of `names`."""
    if path.exists():
        return
    listed = set(names)
    rows = [row for row in _get(url).decode("ascii").split() if row.split(",")[0] in listed]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="ascii")


def _file(url: str, path: Path) -> int:
    """The file from `url`, whole or not at all; 0 where it is there already."""
    if path.exists():
        return 0
    content = _get(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f"{path.suffix}.part")
    unfinished.write_bytes(content)
    unfinished.rename(path)
    print(path, flush=True)
    return 1


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 (https, or a test's own server)
        content: bytes = answer.read()
    return content


def main() -> int:
    """Command line; 1 where the network fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    try:
        print(f"{fetch(options.data)} files fetched into {options.data}")
    except OSError as error:
        sys.stderr.write(f"cannot fetch from PhysioNet: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
