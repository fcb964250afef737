"""The threat model names what is there: each control has a test, and each test that is named can be run."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[a-z_/0-9]+\.py::[a-z_0-9]+)`", PAGE)))
SURFACES = [
    *("BLE in", "MQTT in", "agent", "state on disk", "installation", "packs", "MQTT out", "webhook"),
    *("web endpoints", "site CA", "backups", "commands"),
]


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines[1:]]


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_is_there(named: str) -> None:
    path, _, name = named.partition("::")
    assert (ROOT / path).is_file()
    assert name in names_in(path)


def test_every_threat_has_a_letter_a_control_and_a_test() -> None:
    for row in rows("What could be done"):
        assert re.fullmatch(r"[STRIDE](, [STRIDE])*", row[1]), row
        assert all(row[:4]), row
        assert "::" in row[4], row


def test_every_way_in_and_out_is_looked_at() -> None:
    assert set(SURFACES) <= {row[0] for row in rows("What could be done")}


def test_each_kind_of_threat_is_thought_of() -> None:
    assert {letter for row in rows("What could be done") for letter in row[1].split(", ")} == set("STRIDE")


def test_every_reader_has_a_limit_and_a_test() -> None:
    found = rows("What reads foreign bytes, and how much")
    assert len(found) > 20
    assert all(all(row) and "::" in row[3] for row in found)
