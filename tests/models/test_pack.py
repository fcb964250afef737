"""A pack is refused unless every byte is what its manifest says, and what it refuses, it names."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.backends import open_backend
from models.manifest import MANIFEST_NAME, read_manifest
from models.pack import PackError, available_packs, load, probabilities, shipped, sigmoid, verify

BEAT = shipped("beat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BEAT, tmp_path / "beat"))


def edit(folder: Path, change: Callable[[str], str]) -> None:
    manifest = folder / MANIFEST_NAME
    manifest.write_text(change(manifest.read_text(encoding="utf-8")), encoding="utf-8")


def replace_file(folder: Path, file: str, content: bytes) -> None:
    """Put other bytes in place of `file` and let the manifest agree: what is left to find is inside."""
    before = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / file).write_bytes(content)
    edit(folder, lambda text: text.replace(before, hashlib.sha256(content).hexdigest()))


def test_every_shipped_pack_loads_and_gives_its_golden_answers() -> None:
    for path in available_packs():
        pack = load(path)
        assert verify(pack) <= pack.manifest.golden.tolerance
        assert pack.hash == hashlib.sha256(pack.weights["onnx"]).hexdigest()
        assert sum(file.stat().st_size for file in path.iterdir()) < 1 << 20
        assert (path / "CARD.md").read_text(encoding="utf-8").count("Not a medical device")


def test_shipped_names_what_there_is() -> None:
    with pytest.raises(PackError, match=r"no pack is shipped under this id \(there are: .*beat"):
        shipped("glucose-oracle")


def test_one_changed_byte_of_the_weights_is_refused_by_name(folder: Path) -> None:
    weights = folder / "beat.int8.onnx"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PackError, match=r"beat\.int8\.onnx: has sha256 .*truncated or changed"):
        load(folder)


@pytest.mark.parametrize("file", ["beat.int8.onnx", "beat.float.onnx", "golden.npz"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(PackError, match=re.escape(f"{file}: missing")):
        load(folder)


@pytest.mark.parametrize("file", ["beat.int8.onnx", "beat.float.onnx", "golden.npz"])
def test_a_truncated_file_is_named(folder: Path, file: str) -> None:
    (folder / file).write_bytes((folder / file).read_bytes()[:-1])
    with pytest.raises(PackError, match=re.escape(file)):
        load(folder)


def test_a_manifest_cut_anywhere_is_refused_with_its_name(folder: Path) -> None:
    whole = (folder / MANIFEST_NAME).read_bytes()
    for size in range(0, len(whole) - 200, 97):
        (folder / MANIFEST_NAME).write_bytes(whole[:size])
        with pytest.raises(PackError, match=r"manifest\.toml"):
            load(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 2", "schema = 1", "schema: "),
        ('kind = "ecg"', 'kind = "ecg"\ncolour = "red"', r"input\.colour: Extra inputs"),
        ('kind = "ecg"', 'kind = "eeg"', r"input\.kind"),
        ("rate_hz = 250", "rate_hz = 360", r"input\.rate_hz"),
        ('"median_baseline"', '"wavelets"', r"input\.prepare\.0"),
        ('"rr_absolute"', '"shoe_size"', "unknown feature shoe_size"),
        ('"rr_absolute"', '"rr_vs_q10"', "named twice"),
        ('labels = ["N", "S", "V", "Q"]', 'labels = ["N", "S", "V", "X"]', "each of the labels"),
        ('labels = ["N", "S", "V", "Q"]', 'labels = ["N", "S", "V", "F"]', "F is also in labels"),
        ("temperature = ", "steps = 4\ntemperature = ", "several with a softmax, or one with steps"),
        ("\nQ = ", "\nX = ", "each of the labels"),
        ('\nF = "', '\nX = "', "'beat' has no label X"),
        ('task = "beat"', 'task = "horoscope"', "task: "),
        ('task = "beat"', 'task = "vf"', "unknown feature rr_absolute"),
        ("rate_hz = 250", "rate_hz = 250\nhop_s = 1.0", r"input\.hop_s: beats and readings have none"),
        ("latency_s = 1.2", "latency_s = 9.0", r"budget\.latency_s"),
        ("band_hz = [0.05, 40.0]", "band_hz = [0.05, 400.0]", "does not fit a rate"),
        ('file = "beat.int8.onnx"', 'file = "../beat/beat.int8.onnx"', r"weights\.onnx\.file"),
        ('id = "beat"', 'id = "heartbeat"', "is not the name of its folder"),
        ("[weights.onnx]", "[weights.tensorrt]", r"weights\.tensorrt"),
    ],
)
def test_a_wrong_manifest_names_file_and_key(folder: Path, old: str, new: str, message: str) -> None:
    edit(folder, lambda text: text.replace(old, new, 1))
    with pytest.raises(PackError, match=rf"manifest\.toml: .*{message}"):
        load(folder)


def test_all_faults_of_a_manifest_are_named_at_once(folder: Path) -> None:
    edit(folder, lambda text: text.replace("rate_hz = 250", "rate_hz = 1").replace("seed = ", "sed = "))
    with pytest.raises(PackError) as caught:
        read_manifest(folder / MANIFEST_NAME)
    assert all(key in caught.value.reason for key in ("input.rate_hz", "training.seed", "training.sed:"))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no such folder"):
        load(tmp_path / "beat")


def test_a_network_with_fewer_labels_than_the_manifest_is_refused(folder: Path) -> None:
    fewer = {'labels = ["N", "S", "V", "Q"]': 'labels = ["N", "S", "V"]', "\nQ = ": "\n# "}
    for old, new in fewer.items():
        edit(folder, lambda text, old=old, new=new: text.replace(old, new))
    with pytest.raises(PackError, match="names 3 outputs"):
        open_backend(load(folder))


def test_a_network_that_takes_another_context_is_refused(folder: Path) -> None:
    edit(folder, lambda text: text.replace('"rr_absolute", ', "", 1))
    with pytest.raises(PackError, match="the network takes"):
        open_backend(load(folder))


def test_weights_that_are_not_a_network_are_refused(folder: Path) -> None:
    replace_file(folder, "beat.int8.onnx", b"not a network")
    with pytest.raises(PackError, match="cannot load the network"):
        open_backend(load(folder))


def test_golden_answers_that_differ_are_refused(folder: Path) -> None:
    with np.load(folder / "golden.npz") as arrays:
        changed = dict(arrays)
    changed["logits"] = changed["logits"][:, ::-1]
    replace_file(folder, "golden.npz", _npz(changed))
    with pytest.raises(PackError, match=r"golden\.npz: golden vectors differ by"):
        verify(load(folder))


@pytest.mark.parametrize("broken", ["signal", "context", "logits"])
def test_golden_vectors_of_another_shape_or_missing_are_refused(folder: Path, broken: str) -> None:
    with np.load(folder / "golden.npz") as arrays:
        whole = dict(arrays)
    replace_file(folder, "golden.npz", _npz({**whole, broken: whole[broken][:, :-1]}))
    with pytest.raises(PackError, match=f"{broken} has shape"):
        verify(load(folder))
    replace_file(folder, "golden.npz", _npz({name: array for name, array in whole.items() if name != broken}))
    with pytest.raises(PackError, match="is not a golden file"):
        verify(load(folder))


def test_a_pack_keeps_the_bytes_it_checked(folder: Path) -> None:
    pack = load(folder)
    (folder / "beat.int8.onnx").write_bytes(b"changed after loading")
    assert verify(pack) <= pack.manifest.golden.tolerance


def test_probabilities_are_calibrated_per_row() -> None:
    logits = np.array([[2.0, 0.0], [-800.0, 800.0]], dtype=np.float32)
    assert probabilities(logits, 2.0)[0] == pytest.approx([0.731, 0.269], abs=1e-3)
    assert probabilities(logits, 2.0)[1].tolist() == [0.0, 1.0]


def test_an_answer_is_unsure_unless_just_one_label_is_likely_enough(folder: Path) -> None:
    for label, share in {"N": 0.8, "S": 0.2, "V": 0.5, "Q": 0.9}.items():
        edit(folder, lambda text, label=label, share=share: re.sub(rf"\n{label} = .*", f"\n{label} = {share}", text))
    answers = np.array([[0.85, 0.1, 0.05, 0.0], [0.75, 0.1, 0.1, 0.05], [0.0, 0.3, 0.7, 0.0]], dtype=np.float32)
    assert load(folder).unsure(answers).tolist() == [False, True, True]


def test_steps_are_judged_one_by_one() -> None:
    assert sigmoid(np.array([[0.0, 2.0, -900.0]], dtype=np.float32), 2.0)[0] == pytest.approx(
        [0.5, 0.731, 0.0], abs=1e-3
    )


def test_reading_a_pack_imports_no_runtime() -> None:
    program = (
        "import sys, models.pack as p; p.load(p.shipped('beat')); "
        "sys.exit(any(m in sys.modules for m in ('onnxruntime', 'torch', 'scipy', 'agent')))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=BEAT.parents[2], check=False).returncode == 0


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()
