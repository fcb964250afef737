"""Two versions side by side in a root of their own: kept when well, back when not, and whole after any cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the extra [update]")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.update.bundle import Device, Manifest, Target, Trust, make
from agent.update.switch import Layout, Outcome, Steps, apply, recover, roll_back

KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
TRUST = Trust([KEY.public_key()])
DEVICE = Device("agent", "vagus", "", 0, "x86_64", "ward", now_ns=1_800_000_000 * 10**9)


def bundled(folder: Path, version: str, sequence: int, words: str = "") -> Path:
    payload = folder / f"payload-{version}-{sequence}"
    (payload / "bin").mkdir(parents=True)
    program = payload / "bin/vagus"
    program.write_text(f"#!/bin/sh\necho {words or version}\n")
    program.chmod(0o755)
    about = Manifest(
        kind="agent",
        name="vagus",
        version=version,
        sequence=sequence,
        expires="2030-01-01T00:00:00.000000000Z",
        arch="x86_64",
        files={"x": Target(length=0, sha256="0" * 64)},
    )
    make(payload, folder / f"{version}-{sequence}.tar", about, [KEY])
    return folder / f"{version}-{sequence}.tar"


def says(layout: Layout) -> str:
    """What the version that is current says, run for real."""
    return subprocess.run([layout.current / "bin/vagus"], capture_output=True, text=True, check=True).stdout.strip()


def says_its_version(version: Path) -> str:
    """A gate: the program in the new version, run for real."""
    said = subprocess.run([version / "bin/vagus"], capture_output=True, text=True, check=True).stdout.strip()
    return "" if said == version.name else f"it says {said}"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "opt")
    program = made.versions / "0.1.0/bin/vagus"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 0.1.0\n")
    program.chmod(0o755)
    made.switch("0.1.0")
    return made


def steps(layout: Layout, healthy: Callable[[], str] = lambda: "") -> tuple[Steps, list[str]]:
    started: list[str] = []
    return Steps(says_its_version, lambda: started.append(says(layout)), healthy), started


def test_a_good_version_is_kept(tmp_path: Path, layout: Layout) -> None:
    how, started = steps(layout)

    assert apply(bundled(tmp_path, "0.2.0", 1), layout, TRUST, DEVICE, how) == Outcome("done", "0.2.0")
    assert (says(layout), started, layout.journal().sequence) == ("0.2.0", ["0.2.0"], 1)


def test_one_that_fails_the_gate_never_runs(tmp_path: Path, layout: Layout) -> None:
    how, started = steps(layout)

    outcome = apply(bundled(tmp_path, "0.2.0", 1, "nonsense"), layout, TRUST, DEVICE, how)

    assert outcome == Outcome("refused", "0.1.0", "gate: it says nonsense")
    assert (says(layout), started) == ("0.1.0", [])


def unwell() -> str:
    return "no answer in 20 s"


def broken() -> str:
    raise OSError("no such unit")


@pytest.mark.parametrize(("healthy", "why"), [(unwell, "no answer in 20 s"), (broken, "OSError: no such unit")])
def test_one_that_is_not_well_goes_back(tmp_path: Path, layout: Layout, healthy: Callable[[], str], why: str) -> None:
    how, started = steps(layout, healthy)

    assert apply(bundled(tmp_path, "0.2.0", 1), layout, TRUST, DEVICE, how) == Outcome("rolled_back", "0.1.0", why)
    assert started == ["0.2.0", "0.1.0"]
    assert layout.journal().why == f"0.2.0: {why}"


def test_a_bundle_that_failed_may_be_tried_again_and_one_that_was_kept_may_not(tmp_path: Path, layout: Layout) -> None:
    file = bundled(tmp_path, "0.2.0", 1)
    apply(file, layout, TRUST, DEVICE, steps(layout, unwell)[0])

    assert apply(file, layout, TRUST, DEVICE, steps(layout)[0]).result == "done"
    assert apply(file, layout, TRUST, DEVICE, steps(layout)[0]).why.startswith("replayed")


def test_the_version_that_runs_is_never_written_over(tmp_path: Path, layout: Layout) -> None:
    outcome = apply(bundled(tmp_path, "0.1.0", 9, "other"), layout, TRUST, DEVICE, steps(layout)[0])

    assert outcome.why.startswith("replayed")
    assert says(layout) == "0.1.0"


def test_back_by_hand_and_no_way_to_the_same_bundle_again(tmp_path: Path, layout: Layout) -> None:
    file = bundled(tmp_path, "0.2.0", 1)
    apply(file, layout, TRUST, DEVICE, steps(layout)[0])

    assert roll_back(layout, steps(layout)[0]).version == "0.1.0"
    assert roll_back(layout, steps(layout)[0]).result == "refused"
    assert apply(file, layout, TRUST, DEVICE, steps(layout)[0]).why.startswith("replayed")


def test_a_journal_that_cannot_be_read_lets_nothing_through(tmp_path: Path, layout: Layout) -> None:
    (layout.root / "update.json").write_text("{")

    with pytest.raises(ValueError, match="Expecting"):
        apply(bundled(tmp_path, "0.2.0", 1), layout, TRUST, DEVICE, steps(layout)[0])
    assert says(layout) == "0.1.0"


CUT = """
import os, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[4])
import test_update_switch as t

left = int(sys.argv[3])
WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.symlink", "os.rmdir", "shutil.rmtree"}

def hook(event, args):
    global left
    if event in WATCHED and sys.argv[1] in str(args):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

layout = t.Layout(Path(sys.argv[1]))
sys.addaudithook(hook)
outcome = t.apply(Path(sys.argv[2]), layout, t.TRUST, t.DEVICE, t.steps(layout)[0])
sys.stdout.write(outcome.result)
"""


def test_cut_before_each_of_its_steps(tmp_path: Path, layout: Layout) -> None:
    """kill -9 before every call that touches the layout: afterwards a whole version starts, and the update can be
    done again."""
    file = bundled(tmp_path, "0.2.0", 1)
    original = tmp_path / "original"
    layout.root.rename(original)
    cuts, ends = 0, set()
    while True:
        root = tmp_path / f"cut-{cuts}"
        subprocess.run(["cp", "-a", original, root], check=True)
        cut = Layout(root)
        ran = subprocess.run(
            [sys.executable, "-c", CUT, root, file, str(cuts), Path(__file__).parent],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode == 0:
            break
        assert ran.returncode == -9, ran.stderr
        assert says(cut) in ("0.1.0", "0.2.0")
        tried = recover(cut)
        kept = cut.journal().sequence == 1
        assert says(cut) == ("0.2.0" if kept else "0.1.0")
        again = apply(file, cut, TRUST, DEVICE, steps(cut)[0])
        assert again.result == ("refused" if kept else "done")
        assert says(cut) == "0.2.0"
        ends.add((bool(tried), kept))
        cuts += 1

    assert ran.stdout == "done"
    assert {(False, False), (True, False)} <= ends
    assert cuts > 10
