"""Every alarm has its row in the risk table, and every row names tests that there are."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

import agent.alarms
from agent.alarms.states import PHYSIOLOGICAL, TECHNICAL

HERE = Path(__file__).resolve().parent
TABLE = tomllib.loads((Path(agent.alarms.__file__).parent / "risks.toml").read_text())


@cache
def running_tests(file: Path) -> frozenset[str]:
    """Names of the test functions of a file that are not skipped or expected to fail, whatever happens."""
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    shunned = {"skip", "xfail"}
    return frozenset(
        node.name
        for node in functions
        if not any(isinstance(part, ast.Attribute) and part.attr in shunned for one in node.decorator_list
                   for part in ast.walk(one))
    )  # fmt: skip


def test_every_alarm_has_a_row_and_no_row_is_about_none() -> None:
    assert set(TABLE) == {*PHYSIOLOGICAL, *TECHNICAL}


@pytest.mark.parametrize("rule", TABLE)
def test_a_row_says_what_may_happen_what_is_done_what_is_left_and_where_it_is_shown(rule: str) -> None:
    row = TABLE[rule]
    assert set(row) == {"hazard", "control", "left", "tests"}
    assert all(row[key].endswith(".") for key in ("hazard", "control", "left"))
    assert row["tests"]
    for test in row["tests"]:
        file, _, name = test.partition("::")
        assert name in running_tests((HERE / file).resolve()), f"{test} is no test that runs"
