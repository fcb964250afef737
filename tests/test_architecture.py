"""The house keeps its shape: which room may import which, no clocks on the way through, heavy imports stay lazy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for room in ("agent", "firmware_bridge", "models")
    for path in (ROOT / room).rglob("*.py")
    if "training" not in path.parts
)
MAY_IMPORT = {
    "firmware_bridge": {"firmware_bridge"},
    "models": {"models"},
    "agent": {"agent", "models", "firmware_bridge"},
}
ROOMS = {"agent", "models", "firmware_bridge", "tests", "deploy"}
STAGES = [
    *sorted((ROOT / "agent" / "signal").glob("*.py")),
    *sorted((ROOT / "agent" / "alarms").glob("*.py")),
    ROOT / "agent" / "engine.py",
    ROOT / "agent" / "ecg_flow.py",
    ROOT / "agent" / "patient.py",
    ROOT / "agent" / "inference.py",
]
CLOCKS = {"time", "datetime", "asyncio", "socket", "sqlite3", "paho", "random", "threading"}
"""Modules no stage may import: a stage that reads a clock, the net or chance would replay differently."""
FLOORS = ["signal", "alarms", "inference", "patient", "engine", "supervisor", "cli"]


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def floor_of(path: Path) -> str:
    """The floor of the agent that a file is on; "" where it is on none of the named ones."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "agent" and parts[1] in FLOORS else ""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_rooms_import_only_from_below(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    used = {module.split(".")[0] for module in imports(path)} & ROOMS
    assert used <= MAY_IMPORT[room]
    assert not any(module.startswith("models.training") for module in imports(path))


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_no_stage_reads_a_clock_or_does_io(path: Path) -> None:
    assert {module.split(".")[0] for module in imports(path)} & CLOCKS == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if floor_of(path)], ids=name_of)
def test_floors_of_the_agent_import_one_way(path: Path) -> None:
    above = {f"agent.{floor}" for floor in FLOORS[FLOORS.index(floor_of(path)) + 1 :]}
    assert {".".join(module.split(".")[:2]) for module in imports(path)} & above == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_has_one_job(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450


def test_no_two_files_of_tests_have_one_name() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = "('numpy','scipy','onnxruntime','pydantic','rich','bleak','paho','torch','neurokit2')"
    code = f"import sys, agent.cli; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_deciding_needs_no_runtime_until_a_pack_is_opened() -> None:
    code = "import sys, agent.engine; print('onnxruntime' in sys.modules, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "False False"


def test_the_engine_filters_without_the_whole_of_scipy_signal() -> None:
    code = (
        "import sys, numpy, agent.supervisor; from agent.signal.filters import EcgFilters\n"
        "from agent.signal.pulse import PulseDetector; PulseDetector(100.0)\n"
        "filters = EcgFilters(50); filters.push([filters.new_state()], numpy.zeros((1, 250)))\n"
        "print([m for m in ('scipy.signal', 'scipy.stats', 'scipy.special', 'numpy.f2py') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
