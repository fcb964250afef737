"""A runtime is tried where it may die, and whatever it does there costs nothing but itself."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.backends import CPU, RUNTIMES, Runtime, open_backend, tflite
from models.backends.probe import QUARANTINE_FILE, QUARANTINE_NS, Choice, Reason, Refusal, choose, probe
from models.pack import ModelPack, PackError, golden, load, shipped, verify
from tests.models import fake_runtimes

FAKES = "tests.models.fake_runtimes"
NOW_NS = 1_800_000_000_000_000_000


@pytest.fixture(scope="module")
def pack() -> ModelPack:
    return load(shipped("beat"))


def fake(name: str, **changes: object) -> Runtime:
    return replace(Runtime(name, FAKES, "onnx"), **changes)  # type: ignore[arg-type]


def chosen(pack: ModelPack, runtime: Runtime, state_dir: Path | None, now_ns: int = NOW_NS) -> Choice:
    (choice,) = choose([pack], runtime.name, state_dir, now_ns, {runtime.name: runtime, "cpu": CPU})
    return choice


def test_a_runtime_that_works_is_chosen_and_nothing_is_refused(pack: ModelPack, tmp_path: Path) -> None:
    choice = chosen(pack, fake("good"), tmp_path)
    assert (choice.runtime, choice.refused) == ("good", ())
    assert not (tmp_path / QUARANTINE_FILE).exists()


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("segfaults", Reason.CRASHED, "SIGSEGV"),
        ("killed", Reason.CRASHED, "SIGKILL"),
        ("raises", Reason.FAILED, "the compiler does not like this network"),
        ("answers nothing", Reason.GARBAGE, "cannot be read"),
        ("objects", Reason.GARBAGE, "cannot be read"),
        ("too few", Reason.GARBAGE, r"float32 \(64, 3\)"),
        ("other type", Reason.GARBAGE, "float64"),
        ("nan", Reason.GARBAGE, "non-finite"),
        ("wrong", Reason.WRONG, "probabilities differ by"),
        ("minds its company", Reason.WRONG, "depends on the batch"),
    ],
)
def test_each_way_to_fail_is_told_and_the_cpu_takes_over(
    pack: ModelPack, tmp_path: Path, name: str, reason: Reason, detail: str
) -> None:
    choice = chosen(pack, fake(name), tmp_path)
    (refusal,) = choice.refused
    assert (choice.runtime, refusal.runtime, refusal.reason) == ("cpu", name, reason)
    assert re.search(detail, refusal.detail)
    assert choice.backend is not None
    assert verify(pack, choice.backend) <= pack.manifest.golden.tolerance


def test_one_that_hangs_is_ended_with_all_it_started(pack: ModelPack, tmp_path: Path) -> None:
    start = time.monotonic()
    choice = chosen(pack, fake("hangs", timeout_s=3.0), tmp_path)
    assert time.monotonic() - start < 10
    assert [one.reason for one in choice.refused] == [Reason.TIMED_OUT]
    assert _children() == []


def _children() -> list[str]:
    """Command lines of processes still running in a session that this test's children began."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
            command = (status.parent / "cmdline").read_text(encoding="utf-8").replace("\0", " ")
        except OSError:
            continue
        if "time.sleep(600)" in command and fields[0] not in "ZX":
            found.append(command)
    return found


def test_what_is_absent_is_not_even_started(pack: ModelPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fake_runtimes.OPENED, str(tmp_path / "opened"))
    choice = chosen(pack, fake("absent"), tmp_path)
    assert choice.refused == (Refusal("absent", Reason.ABSENT, "there is no such board"),)
    assert not (tmp_path / "opened").exists()
    assert not (tmp_path / QUARANTINE_FILE).exists()


def test_a_pack_without_the_weights_is_told(pack: ModelPack, tmp_path: Path) -> None:
    choice = chosen(pack, fake("good", weights="tflite-edgetpu"), tmp_path)
    assert [one.reason for one in choice.refused] == [Reason.NO_WEIGHTS]
    assert choice.runtime == "cpu"


def test_one_that_works_elsewhere_but_not_here_is_refused_too(
    pack: ModelPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAGUS_TEST_PARENT", str(os.getpid()))
    choice = chosen(pack, fake("fails only here"), tmp_path)
    assert choice.runtime == "cpu"
    assert choice.refused == (Refusal("fails only here", Reason.FAILED, "not in this process"),)


def test_what_failed_is_not_tried_again_until_a_day_is_over(
    pack: ModelPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fake_runtimes.OPENED, str(tmp_path / "opened"))

    def tried(now_ns: int) -> tuple[list[Reason], int]:
        choice = chosen(pack, fake("wrong"), tmp_path / "state", now_ns)
        assert choice.runtime == "cpu"
        return [one.reason for one in choice.refused], len((tmp_path / "opened").read_text().splitlines())

    assert tried(NOW_NS) == ([Reason.WRONG], 1)
    assert tried(NOW_NS + QUARANTINE_NS - 1) == ([Reason.QUARANTINED], 1)
    assert tried(NOW_NS + QUARANTINE_NS) == ([Reason.WRONG], 2)
    assert tried(NOW_NS + QUARANTINE_NS + 1) == ([Reason.QUARANTINED], 2)
    monkeypatch.setenv(fake_runtimes.VERSION, "driver 2")
    assert tried(NOW_NS + QUARANTINE_NS + 2) == ([Reason.WRONG], 3), "another driver may do better"
    assert tried(NOW_NS - QUARANTINE_NS) == ([Reason.WRONG], 4), "a clock that was set back holds nothing for ever"


def test_the_quarantine_says_what_failed_and_when_it_is_tried_again(pack: ModelPack, tmp_path: Path) -> None:
    chosen(pack, fake("segfaults"), tmp_path)
    (refusal,) = chosen(pack, fake("segfaults"), tmp_path, NOW_NS + 2 * 3_600_000_000_000).refused
    assert str(refusal) == "segfaults: quarantined (crashed: SIGSEGV; tried again in about 22 h)"
    (line,) = json.loads((tmp_path / QUARANTINE_FILE).read_text())
    assert (line["sha256"], line["version"]) == (pack.hash, "driver 1")


@pytest.mark.parametrize(
    "content", [b"", b"not json", b'[{"strange": 1}]', b"\xff\xfe", b"[1]", b"{}", b'[{"at_ns": "x"}]']
)
def test_a_damaged_quarantine_is_begun_anew(pack: ModelPack, tmp_path: Path, content: bytes) -> None:
    (tmp_path / QUARANTINE_FILE).write_bytes(content)
    assert chosen(pack, fake("raises"), tmp_path).runtime == "cpu"
    assert len(json.loads((tmp_path / QUARANTINE_FILE).read_text())) == 1


def test_without_a_place_for_state_it_goes_on(pack: ModelPack, tmp_path: Path) -> None:
    assert chosen(pack, fake("raises"), None).runtime == "cpu"
    (tmp_path / "file").write_text("")
    assert chosen(pack, fake("raises"), tmp_path / "file").runtime == "cpu"


def test_a_pack_that_fails_on_the_cpu_has_no_backend(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shipped("beat"), tmp_path / "beat"))
    pack = load(folder)
    broken = replace(pack, weights={**pack.weights, "onnx": b"not a network"})
    (choice,) = choose([broken], "auto", None, NOW_NS)
    assert choice.backend is choice.runtime is None
    assert [(one.runtime, one.reason) for one in choice.refused] == [("cpu", Reason.FAILED)]


def test_a_pack_changed_on_disk_after_it_was_loaded_is_not_probed(pack: ModelPack, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shipped("beat"), tmp_path / "beat"))
    loaded = load(folder)
    (folder / "golden.npz").write_bytes(b"")
    refusal = probe(loaded, fake("good"))
    assert refusal is not None
    assert refusal.reason is Reason.FAILED
    assert "golden.npz" in refusal.detail


def test_nothing_is_tried_where_only_the_cpu_is_asked_for_or_there(pack: ModelPack) -> None:
    for wanted in ("cpu", "auto"):
        (choice,) = choose([pack], wanted, None, NOW_NS)
        assert choice.runtime in {"cpu", *RUNTIMES}
    assert choose([pack], "cpu", None, NOW_NS)[0].refused == ()


def test_an_unknown_runtime_is_an_error_by_name(pack: ModelPack) -> None:
    with pytest.raises(ValueError, match="no runtime is called 'abacus'"):
        choose([pack], "abacus", None, NOW_NS)


# -- runtimes that are here --------------------------------------------------------------------------------------------


def real(pack: ModelPack, name: str) -> Runtime:
    """A runtime of RUNTIMES; skips where it is not on this machine or the pack has no file for it."""
    runtime = RUNTIMES[name]
    if reason := runtime.code.missing(name):
        pytest.skip(f"{name}: {reason}")
    if runtime.weights not in pack.weights:
        pytest.skip(f"{name}: the beat pack has no {runtime.weights} weights")
    return runtime


@pytest.mark.parametrize("name", ["openvino", "tflite"])
def test_real_runtimes_pass_and_give_a_row_the_same_bits_in_any_batch(
    pack: ModelPack, tmp_path: Path, name: str
) -> None:
    runtime = real(pack, name)
    (choice,) = choose([pack], name, tmp_path, NOW_NS)
    assert (choice.runtime, choice.refused) == (name, ())
    assert choice.backend is not None
    inputs, _ = golden(pack)
    together = choice.backend.run(inputs)
    alone = [choice.backend.run({put: array[i : i + 1] for put, array in inputs.items()}) for i in range(len(together))]
    assert np.concatenate(alone).tobytes() == together.tobytes()
    assert choice.backend.run({put: array[:0] for put, array in inputs.items()}).shape == (0, pack.outputs)
    for value in (0.0, 1e30, -1e30, np.inf, np.nan) if name == "tflite" else (0.0, 1e30, -1e30):
        extreme = {put: np.full_like(array[:3], value) for put, array in inputs.items()}
        assert np.isfinite(choice.backend.run(extreme)).all()
    with pytest.raises(ValueError, match="inputs are"):
        choice.backend.run({})
    assert runtime.code.version(name)


def test_an_absent_provider_is_seen_though_onnx_runtime_only_warns(pack: ModelPack) -> None:
    import onnxruntime

    from models.backends.onnx_runtime import OnnxBackend

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a CUDA provider here")
    assert probe(pack, RUNTIMES["cuda"]) == Refusal(
        "cuda", Reason.ABSENT, "this build of onnxruntime has no CUDAExecutionProvider"
    )
    with pytest.raises(PackError, match=r"cuda is not there|cannot load"):
        OnnxBackend(pack, replace(RUNTIMES["cuda"], weights="onnx"))
    with pytest.raises(PackError, match="cuda cannot be used"):
        open_backend(pack, "cuda")


def test_uncompiled_weights_never_pass_for_the_edge_tpu(pack: ModelPack) -> None:
    given = replace(pack, weights={**pack.weights, "tflite-edgetpu": b"TFL3"})
    with pytest.raises(PackError, match="not compiled for the Edge TPU"):
        tflite.TfliteBackend(given, RUNTIMES["edgetpu"])


def test_an_interpreter_that_cannot_be_made_is_told_by_package(pack: ModelPack) -> None:
    if not any(importlib.util.find_spec(module) for module in tflite.PACKAGES):
        pytest.skip("no TFLite runtime is installed")
    with pytest.raises(PackError, match="no TFLite interpreter can be made"):
        tflite.TfliteBackend(replace(pack, weights={**pack.weights, "tflite": b"not a network"}), RUNTIMES["tflite"])
