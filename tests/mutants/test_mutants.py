"""The list of mutants is one of this version: each can be made, and names tests that there are."""

import ast
from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_can_be_made(name):
    mutant = MUTANTS[name]
    source = (ROOT / "sb3_lecture_dqn" / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1
    assert mutant.new != mutant.old
    ast.parse(source.replace(mutant.old, mutant.new))


@pytest.mark.parametrize("test", sorted({test for mutant in MUTANTS.values() for test in mutant.tests}))
def test_a_test_that_is_named_is_there(test):
    path, _, function = test.partition("::")
    defined = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    assert not function or function in {node.name for node in defined if isinstance(node, ast.FunctionDef)}
