"""What was said is written down once, in order, whatever stops the process; and no byte of it changes unseen."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.audit import Audit, check
from agent.cli import main
from agent.uplink.outbox import Outbox

ROOT = Path(__file__).resolve().parent.parent.parent


def numbers(path: Path) -> list[int]:
    return [json.loads(line.partition(" ")[2])["n"] for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of thirty entries."""
    path = tmp_path_factory.mktemp("audit") / "audit.log"
    audit = Audit(path)
    for number in range(30):
        audit.note("test", {"text": f"entry {number}: 60 µs"}, number)
        assert audit.unsaved
        audit.saved()
        audit.write()
    return path


def test_a_file_as_it_was_written_has_no_fault(written: Path) -> None:
    checked = check(written)
    assert (checked.entries, checked.faults) == (30, ())
    assert numbers(written) == list(range(1, 31))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.data())
def test_one_changed_byte_is_found_in_its_line(written: Path, tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(written.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    changed = tmp_path / "changed.log"
    changed.write_bytes(raw)
    line = written.read_bytes()[:at].count(b"\n") + 1
    faults = [fault.line for fault in check(changed).faults]
    assert faults
    assert faults[0] in {line, line + 1}, "a changed line end shows in the line after at the latest"


def test_a_line_that_was_taken_out_or_moved_is_missed(written: Path, tmp_path: Path) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    without, swapped = tmp_path / "without", tmp_path / "swapped"
    without.write_bytes(b"".join(lines[:10] + lines[11:]))
    swapped.write_bytes(b"".join([*lines[:10], lines[11], lines[10], *lines[12:]]))
    assert [fault.line for fault in check(without).faults] == [11]
    assert check(swapped).faults[0].line == 11


def test_lines_cut_off_at_the_end_are_missed_by_the_next_start(
    written: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite")
    audit = Audit(tmp_path / "audit.log")
    for number in range(5):
        audit.note("test", {}, number)
        outbox.commit(alarms=audit.unsaved)
        audit.saved()
        audit.write()
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    again = Audit(path)
    again.resume(outbox.recover().alarms)
    assert "ends at entry 2 of 5" in caplog.text
    again.note("test", {}, 9)
    outbox.commit(alarms=again.unsaved)
    again.saved()
    again.write()
    outbox.close()
    assert [fault.line for fault in check(path).faults] == [3]


def test_with_a_full_disk_entries_wait_and_are_all_written_in_the_end(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "folder" / "audit.log")  # the folder is not there
    for number in range(3):
        audit.note("test", {}, number)
        audit.saved()
        audit.write()
    assert "cannot be written" in audit.trouble
    (tmp_path / "folder").mkdir()
    audit.write()
    assert audit.trouble == ""
    assert check(tmp_path / "folder" / "audit.log").entries == 3


WRITING_PROGRAM = """
import sys
from pathlib import Path
from agent.audit import Audit
from agent.uplink.outbox import Outbox
folder = Path(sys.argv[1])
box, audit = Outbox(folder / "outbox.sqlite"), Audit(folder / "audit.log")
audit.resume(box.recover().alarms)
print("open", flush=True)
while True:
    audit.note("test", {"text": "x" * 200}, 1)
    number = audit._number
    box.commit(alarms=audit.unsaved)
    audit.saved()
    print(number, flush=True)
    if number % 3 == 0:
        audit.write()
"""


def test_kill_minus_nine_at_any_instant_loses_nothing_and_writes_nothing_twice(tmp_path: Path) -> None:
    pick, told = random.Random(1), 0
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITING_PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"open\n"
            time.sleep(pick.uniform(0.0, 0.1))
            os.kill(program.pid, signal.SIGKILL)
            told = max([told, *(int(line) for line in program.stdout.read().split(b"\n")[:-1])])
    outbox = Outbox(tmp_path / "outbox.sqlite")
    audit = Audit(tmp_path / "audit.log")
    audit.resume(outbox.recover().alarms)
    outbox.close()
    audit.write()
    checked = check(tmp_path / "audit.log")
    assert told > 0
    assert checked.faults == ()
    assert checked.entries >= told
    assert numbers(tmp_path / "audit.log") == list(range(1, checked.entries + 1))


def test_the_command_says_which_line_was_changed(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--state", str(written.parent)]) == 0
    assert "30 entries, each as it was written" in capsys.readouterr().out
    raw = written.read_bytes()
    try:
        written.write_bytes(raw.replace(b"entry 20", b"entry 21"))
        assert main(["audit", "--state", str(written.parent), "--json"]) == 1
        assert [fault["line"] for fault in json.loads(capsys.readouterr().out)["faults"]] == [21]
    finally:
        written.write_bytes(raw)
    assert main(["audit", "--state", str(written.parent / "nowhere")]) == 1
