"""A pack is taken in whole or not at all; what is refused leaves what was live as it was, and says why."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from models.manifest import MANIFEST_NAME
from models.pack import ModelPack, PackError, load, shipped, verify
from models.store import install, installed, live

BEAT = shipped("beat")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The beat pack as somebody might hand it over, under a version of its own."""
    return version_of(tmp_path / "given" / "beat", "0.9.0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "packs"


def version_of(path: Path, version: str) -> Path:
    shutil.copytree(BEAT, path)
    edit(path, load(BEAT).version, version)
    return path


def edit(folder: Path, old: str, new: str) -> None:
    manifest = folder / MANIFEST_NAME
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new, 1), encoding="utf-8")


def sound(pack: ModelPack) -> None:
    verify(pack)


def zipped(source: Path, to: Path, inside: str = "", compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(to, "w", compression) as archive:
        for path in source.iterdir():
            archive.write(path, f"{inside}{path.name}")
    return to


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_without_an_installed_pack_the_shipped_one_is_live(folder: Path) -> None:
    assert not live("beat", folder).installed
    assert not live("beat", None).installed
    assert installed(folder) == []


@pytest.mark.parametrize("inside", [None, "", "beat/", "some-folder/"])
def test_a_folder_or_zip_becomes_live(source: Path, folder: Path, tmp_path: Path, inside: str | None) -> None:
    given = source if inside is None else zipped(source, tmp_path / "beat.zip", inside)
    pack = install(given, folder, sound)
    found = live("beat", folder)
    assert (found.installed, found.pack.version, pack.version) == (True, "0.9.0", "0.9.0")
    assert verify(found.pack) <= found.pack.manifest.golden.tolerance
    assert installed(folder) == ["beat"]
    assert {path.name for path in (folder / "beat").iterdir()} == {path.name for path in BEAT.iterdir()}
    assert list(folder.glob("staging-*")) == []


def test_the_version_before_is_kept_and_older_ones_go(tmp_path: Path, folder: Path) -> None:
    for version in ("1.0.0", "1.1.0", "1.1.0", "1.2.0"):
        given = version_of(
            tmp_path / version / "beat" if not (tmp_path / version).exists() else tmp_path / "again" / "beat", version
        )
        install(given, folder, sound)
        assert live("beat", folder).pack.version == version
    assert sorted(path.name.split("-")[0] for path in (folder / "versions").iterdir()) == ["1.1.0", "1.2.0"]


def broken_hash(given: Path) -> None:
    weights = given / load(BEAT).manifest.weights["onnx"].file
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)


def missing_file(given: Path) -> None:
    (given / "golden.npz").unlink()


def no_manifest(given: Path) -> None:
    (given / MANIFEST_NAME).unlink()


def evil_id(given: Path) -> None:
    edit(given, 'id = "beat"', 'id = "../../beat"')


def other_weights(given: Path) -> None:
    """Everything fits together, but the network is none."""
    weights = load(BEAT).manifest.weights["onnx"]
    (given / weights.file).write_bytes(b"not a network")
    edit(given, weights.sha256, hashlib.sha256(b"not a network").hexdigest())


def link_out(given: Path) -> None:
    (given / "CARD.md").unlink()
    (given / "CARD.md").symlink_to("/etc/hostname")


def folder_within(given: Path) -> None:
    (given / "more").mkdir()


def too_many(given: Path) -> None:
    for number in range(40):
        (given / f"{number}.png").write_bytes(b"")


def too_large(given: Path) -> None:
    with (given / "huge.png").open("wb") as file:
        file.truncate((64 << 20) + 1)


def hidden(given: Path) -> None:
    (given / ".profile").write_text("")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (broken_hash, r"int8\.onnx: has sha256 .*truncated or changed"),
        (missing_file, r"golden\.npz: missing"),
        (no_manifest, r"manifest\.toml: missing"),
        (evil_id, r"manifest\.toml: id: String should match"),
        (other_weights, "cannot load the network"),
        (link_out, r"CARD\.md is not a plain file"),
        (folder_within, "more is not a plain file"),
        (too_many, "more than 32 files"),
        (too_large, r"huge\.png is too large"),
        (hidden, r"'\.profile' is no name"),
    ],
)
def test_what_is_refused_changes_nothing_and_says_why(
    source: Path, folder: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    install(version_of(tmp_path / "first" / "beat", "0.8.0"), folder, sound)
    before = everything(folder)
    spoil(source)
    with pytest.raises(PackError, match=reason) as caught:
        install(source, folder, sound)
    assert caught.value.path == source
    assert "staging" not in str(caught.value)
    assert everything(folder) == before
    assert live("beat", folder).pack.version == "0.8.0"


@pytest.mark.parametrize(
    "name", ["../evil.png", "/evil.png", "beat/../../evil.png", "a/b/c.png", "..\\evil.png", "\\evil.png", ".."]
)
def test_a_zip_that_would_write_elsewhere_is_refused(source: Path, folder: Path, tmp_path: Path, name: str) -> None:
    given = zipped(source, tmp_path / "beat.zip")
    with zipfile.ZipFile(given, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"evil")
    with pytest.raises(PackError, match=r"leads out of|no name for"):
        install(given, folder, sound)
    assert not list(tmp_path.rglob("evil*"))
    assert not live("beat", folder).installed


def test_a_link_in_a_zip_is_refused(source: Path, folder: Path, tmp_path: Path) -> None:
    given = zipped(source, tmp_path / "beat.zip")
    link = zipfile.ZipInfo("more.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(given, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(PackError, match="leads out of"):
        install(given, folder, sound)


def test_a_zip_that_swells_is_stopped(source: Path, folder: Path, tmp_path: Path) -> None:
    given = zipped(source, tmp_path / "beat.zip")
    with zipfile.ZipFile(given, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(65 << 20))
    assert given.stat().st_size < 2 << 20
    with pytest.raises(PackError, match=r"bomb\.png is too large"):
        install(given, folder, sound)


def test_two_folders_or_two_files_of_one_name_are_refused(source: Path, folder: Path, tmp_path: Path) -> None:
    given = zipped(source, tmp_path / "two.zip", "beat/")
    with zipfile.ZipFile(given, "a") as archive:
        archive.writestr("other/x.png", b"")
    with pytest.raises(PackError, match="more than one folder"):
        install(given, folder, sound)
    with (
        zipfile.ZipFile(zipped(source, tmp_path / "same.zip"), "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("CARD.md", b"again")
    with pytest.raises(PackError, match=r"'CARD\.md' twice"):
        install(tmp_path / "same.zip", folder, sound)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_zip_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "beat.zip").write_bytes(content)
    with pytest.raises(PackError, match=r"is not a zip file|missing"):
        install(tmp_path / "beat.zip", folder, sound)
    with pytest.raises(PackError, match="no such file or folder"):
        install(tmp_path / "nothing.zip", folder, sound)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_every_cut_and_flipped_byte_of_a_zip_is_refused_or_harmless(
    source: Path, folder: Path, tmp_path: Path, compression: int
) -> None:
    whole = zipped(source, tmp_path / "beat.zip", compression=compression).read_bytes()
    for place in range(0, len(whole), len(whole) // 10):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :]):
            (tmp_path / "bad.zip").write_bytes(damaged)
            with suppress(PackError):
                install(tmp_path / "bad.zip", folder, sound)
    found = live("beat", folder)
    assert found.pack.version in {"0.9.0", load(BEAT).version}
    assert verify(found.pack) <= found.pack.manifest.golden.tolerance


def test_a_check_that_refuses_is_heard(source: Path, folder: Path) -> None:
    def refuse(pack: ModelPack) -> None:
        raise PackError(pack.path, "not for this house")

    with pytest.raises(PackError, match="not for this house"):
        install(source, folder, refuse)
    assert not live("beat", folder).installed


def test_an_installed_pack_that_is_damaged_later_gives_way_to_the_shipped_one(source: Path, folder: Path) -> None:
    pack = install(source, folder, sound)
    (folder / "beat" / pack.manifest.golden.file).write_bytes(b"")
    found = live("beat", folder)
    assert (found.installed, found.pack.version) == (False, load(BEAT).version)
    assert "golden.npz" in found.passed_over
    install(version_of(source.parent / "repair" / "beat", "0.9.0"), folder, sound)
    assert live("beat", folder).installed


def test_a_link_to_nowhere_gives_way_too(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "beat").symlink_to("versions/gone/beat")
    found = live("beat", folder)
    assert not found.installed
    assert "no such folder" in found.passed_over
    with pytest.raises(PackError, match="no pack is shipped under this id"):
        live("oracle", folder)


def test_killed_at_any_moment_there_is_a_whole_pack_or_the_one_before(tmp_path: Path, folder: Path) -> None:
    """An installation in another process, killed after more and more of its steps."""
    install(version_of(tmp_path / "first" / "beat", "1.0.0"), folder, sound)
    version_of(tmp_path / "second" / "beat", "2.0.0")
    program = (
        "import os, sys, pathlib\n"
        "left = int(sys.argv[1])\n"
        "def count(event, args):\n"
        "    global left\n"
        "    if event in {'os.rename', 'os.symlink', 'os.remove', 'os.rmdir', 'os.chmod', 'os.mkdir'}:\n"
        "        left -= 1\n"
        "        if left < 0: os._exit(9)\n"
        "from models.pack import verify\n"
        "from models.store import install\n"
        "import tempfile, shutil, models.backends.onnx_runtime, onnxruntime\n"
        "sys.addaudithook(count)\n"
        "install(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), verify)\n"
    )
    seen = set()
    for steps in range(200):
        arguments = [sys.executable, "-c", program, str(steps), str(tmp_path / "second" / "beat"), str(folder)]
        done = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
        found = live("beat", folder)
        assert found.installed
        assert not found.passed_over
        seen.add(found.pack.version)
        if done.returncode == 0:
            break
        assert done.returncode == 9
    assert seen == {"1.0.0", "2.0.0"}
    assert done.returncode == 0
