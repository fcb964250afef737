"""A device's identity and history move to a replacement, whole; an archive that was meddled with does not."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.backup import BackupError, backup, restore
from agent.cli import main
from agent.config import load_config, streams
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.decoder import StreamConfig
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.ingest.source import Delivery
from agent.persons import persons
from agent.uplink.messages import parse_event
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics
from agent.worker import Worker
from firmware_bridge.codecs import cbor_chunk

CONFIG = """
[agent]
id = "gw-001"
state_dir = "{state}"
[mqtt]
host = "127.0.0.1"
username = "gw-001"
password_file = "secrets/password"
[[patient]]
id = "p1"
[[patient.source]]
type = "mqtt"
device = "strap"
channel = "ecg"
kind = "ecg"
rate_hz = 250
channels = ["II"]
"""
HEART = SimulatedPatient(5, script=[Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0)])


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A config with a secret, and the state of an agent that heard a heart stop."""
    home = tmp_path / "device"
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "password").write_text("open sesame\n")
    (home / "unrelated").write_text("not the agent's")
    (home / "vagus.toml").write_text(CONFIG.format(state=home / "state"))
    worker = working(home)
    for chunk in HEART.chunks(HEART.stream("p1", "strap"), chunk_s=1.0):
        payload = cbor_chunk.encode(chunk)
        worker.tick([Delivery((chunk,), "vagus/v1/in/strap/ecg", "application/cbor", payload, 0, lambda: None)], None)
    worker.outbox.close()
    (home / "state" / "packs" / "vf").mkdir(parents=True)
    (home / "state" / "packs" / "vf" / "manifest.toml").write_text("a pack")
    return home


def working(home: Path) -> Worker:
    config = load_config(home / "vagus.toml")
    config.agent.state_dir.mkdir(exist_ok=True)
    found, _ = persons(config, {place: StreamConfig(*expected) for place, expected in streams(config).items()})
    engine = Engine(found, shipped_models())
    return Worker(engine, Outbox(config.agent.state_dir / "outbox.sqlite"), Topics("gw-001"), wall=False)


def test_a_replacement_has_the_same_config_secrets_state_and_alerts(device: Path, tmp_path: Path) -> None:
    archive, here = tmp_path / "gw-001.tar", tmp_path / "here"
    assert main(["backup", str(device / "vagus.toml"), str(archive)]) == 0
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert main(["restore", str(archive), "--config", str(here), "--state", str(here / "state")]) == 0
    assert (here / "vagus.toml").read_text() == (device / "vagus.toml").read_text()
    assert (here / "secrets" / "password").read_text() == "open sesame\n"
    assert stat.S_IMODE((here / "secrets" / "password").stat().st_mode) == 0o600
    assert (here / "state" / "packs" / "vf" / "manifest.toml").exists()
    assert not (here / "unrelated").exists()
    outbox = Outbox(here / "state" / "outbox.sqlite")
    waiting = [
        parse_event(one.message.payload).data.rule
        for one in outbox.pending(100, 1 << 24)
        if "/event/" in one.message.topic
    ]
    assert "asystole" in waiting
    assert outbox.recover().journal
    outbox.close()


def test_a_running_agent_is_not_torn(device: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = working(device)
    assert main(["backup", str(device / "vagus.toml"), str(tmp_path / "out.tar")]) == 1
    assert "systemctl stop vagus" in capsys.readouterr().err
    assert not (tmp_path / "out.tar").exists()
    worker.outbox.close()


def test_nothing_is_overwritten(device: Path, tmp_path: Path) -> None:
    archive, here = tmp_path / "a.tar", tmp_path / "here"
    config = load_config(device / "vagus.toml")
    backup(device / "vagus.toml", config, archive)
    with pytest.raises(BackupError, match="is there already"):
        backup(device / "vagus.toml", config, archive)
    restore(archive, here, here / "state")
    with pytest.raises(BackupError, match=r"vagus\.toml is there already"):
        restore(archive, here, here / "state")
    with pytest.raises(BackupError, match="is there already"):
        restore(archive, tmp_path / "elsewhere", here / "state")


def test_a_named_file_outside_is_refused_with_what_to_do(device: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    text = (device / "vagus.toml").read_text().replace("secrets/password", str(tmp_path / "outside"))
    (device / "vagus.toml").write_text(text)
    with pytest.raises(BackupError, match="put it there"):
        backup(device / "vagus.toml", load_config(device / "vagus.toml"), tmp_path / "a.tar")


def test_a_password_that_the_service_manager_hands_over_moves_too(device: Path, tmp_path: Path) -> None:
    (device / "secrets").rename(device / "credentials")
    config = device / "vagus.toml"
    handed_over = "/run/credentials/vagus.service/password"
    config.write_text(config.read_text().replace("secrets/password", handed_over))
    assert main(["backup", str(config), str(tmp_path / "a.tar")]) == 0
    here = tmp_path / "here"
    assert main(["restore", str(tmp_path / "a.tar"), "--config", str(here), "--state", str(here / "state")]) == 0
    assert (here / "credentials" / "password").read_text() == "open sesame\n"
    assert load_config(here / "vagus.toml").mqtt.password == (here / "credentials" / "password").read_text().strip()


Change = Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]
Folders = pytest.TempPathFactory


def rewritten(archive: Path, out: Path, change: Change) -> Path:
    """The archive with each member changed."""
    with tarfile.open(archive) as old, tarfile.open(out, "w") as new:
        for member in old:
            file = old.extractfile(member)
            info, content = change(member, file.read() if file else b"")
            info.size = len(content) if info.isreg() else 0
            new.addfile(info, io.BytesIO(content))
    return out


@pytest.fixture
def archive(device: Path, tmp_path: Path) -> Path:
    backup(device / "vagus.toml", load_config(device / "vagus.toml"), tmp_path / "good.tar")
    return tmp_path / "good.tar"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_byte_changed_anywhere_in_a_file_is_found(
    archive: Path, tmp_path_factory: Folders, data: st.DataObject
) -> None:
    with tarfile.open(archive) as tar:
        sizes = {member.name: member.size for member in tar if member.size and member.name != "manifest.json"}
    name = data.draw(st.sampled_from(sorted(sizes)))
    at = data.draw(st.integers(0, sizes[name] - 1))

    def change(info: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if info.name == name else content
        return info, flipped

    folder = tmp_path_factory.mktemp("damaged")
    with pytest.raises(BackupError, match="sha256"):
        restore(rewritten(archive, folder / "bad.tar", change), folder / "c", folder / "s")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.0, 0.999))
def test_an_archive_that_was_cut_off_is_found(archive: Path, tmp_path_factory: Folders, share: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    with tarfile.open(archive) as tar:
        end = max(member.offset_data + member.size for member in tar)
    (folder / "cut.tar").write_bytes(archive.read_bytes()[: int(share * end)])
    with pytest.raises((BackupError, tarfile.TarError)):
        restore(folder / "cut.tar", folder / "c", folder / "s")


@pytest.mark.parametrize(
    "name",
    [
        "config/../../escaped",
        "/etc/escaped",
        "state/../escaped",
        "config//escaped",
        "elsewhere/escaped",
        "config/./x",
        "..",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_even_if_the_manifest_has_it(
    archive: Path, tmp_path: Path, name: str
) -> None:
    def change(info: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if info.name == "manifest.json":
            said = json.loads(content)
            said["files"][name] = said["files"].pop("config/secrets/password")
            return info, json.dumps(said).encode()
        if info.name == "config/secrets/password":
            info.name = name
        return info, content

    before = {path for path in tmp_path.rglob("*") if "escaped" in path.name}
    with pytest.raises(BackupError, match="no place here"):
        restore(rewritten(archive, tmp_path / "bad.tar", change), tmp_path / "in" / "c", tmp_path / "in" / "s")
    assert {path for path in tmp_path.rglob("*") if "escaped" in path.name} == before
    assert not Path("/etc/escaped").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_file_is_refused(archive: Path, tmp_path: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if info.name == "config/secrets/password":
            info.type, info.linkname = kind, "/etc/passwd"
            return info, b""
        return info, content

    with pytest.raises(BackupError, match="not in its manifest"):
        restore(rewritten(archive, tmp_path / "bad.tar", change), tmp_path / "c", tmp_path / "s")


@given(st.binary(max_size=2000))
def test_any_bytes_are_no_archive(tmp_path_factory: Folders, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "x.tar").write_bytes(content)
    with pytest.raises((BackupError, tarfile.TarError)):
        restore(folder / "x.tar", folder / "c", folder / "s")
