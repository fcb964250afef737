"""What the packs are made from is fetched by name from a server like PhysioNet's, and nothing that judges them."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("wfdb")

from models.training.fetch import PARTS, fetch
from models.training.rhythm_records import cinc2017_names


class PhysioNet(BaseHTTPRequestHandler):
    """Has every file that is asked for, and remembers which were."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        content = self._content()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _content(self) -> bytes:
        everything = [f"A{number:05d}" for number in range(1, 8529)]
        if self.path.endswith("REFERENCE-v3.csv"):
            return "\n".join(f"{name},N" for name in everything).encode()
        if self.path.endswith(".zip"):
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as archive:
                for name in everything:
                    archive.writestr(f"training2017/{name}.mat", name)
                    archive.writestr(f"training2017/{name}.hea", name)
            return out.getvalue()
        return self.path.encode()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def physionet() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Asked", (PhysioNet,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_just_the_listed_recordings_come_and_only_once(physionet: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = physionet
    came = fetch(tmp_path, url)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    expected = {f"{part.folder}/{file}" for part in PARTS for file in part.files()}
    expected |= {f"cinc2017/training2017/{name}.{ending}" for name in cinc2017_names() for ending in ("hea", "mat")}
    assert files == expected | {"cinc2017/REFERENCE-v3.csv", "cinc2015/ALARMS"}
    assert came == len(expected)
    assert not any("/mitdb/1.0.0/100." in path or "/svdb/1.0.0/800." in path for path in asked)
    asked.clear()
    assert fetch(tmp_path, url) == 0
    assert not asked


def test_the_table_of_labels_names_what_may_be_learnt_from(physionet: tuple[str, list[str]], tmp_path: Path) -> None:
    fetch(tmp_path, physionet[0])
    rows = (tmp_path / "cinc2017" / "REFERENCE-v3.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == cinc2017_names()


def test_without_a_network_nothing_half_is_left(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="refused"):
        fetch(tmp_path, "http://127.0.0.1:9")
    assert not list(tmp_path.rglob("*.*"))
