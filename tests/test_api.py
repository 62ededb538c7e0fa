"""The API reference: ``make api`` makes it from the docstrings, and a page of the guide lists the names."""

import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

import sb3_lecture_dqn
from sb3_lecture_dqn import study, zoo

ROOT = pathlib.Path(__file__).parent.parent
PUBLIC = [(module, name) for module in (sb3_lecture_dqn, study, zoo) for name in module.__all__]


def own_members(kind):
    """The public methods and properties that a class has from this package, by name."""
    own = [base for base in kind.__mro__ if base.__module__.startswith("sb3_lecture_dqn")]
    return {name: getattr(kind, name) for base in own for name in vars(base) if not name.startswith("_")}


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[f"{module.__name__}.{name}" for module, name in PUBLIC])
def test_a_public_name_is_documented(module, name):
    """And so are the methods and properties of a class, be it by a base class."""
    thing = getattr(module, name)
    if not callable(thing):
        return
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        documented = {k: m for k, m in own_members(thing).items() if inspect.isroutine(m) or isinstance(m, property)}
        assert [member for member, it in documented.items() if not inspect.getdoc(it)] == []


def test_the_page_of_the_guide_has_every_name():
    page = (ROOT / "examples" / "guide" / "api.md").read_text(encoding="utf-8")
    assert set(sb3_lecture_dqn.__all__) <= set(re.findall(r"`(\w+)`", page))


def test_pdoc_makes_the_reference_without_a_warning(tmp_path):
    """By the command of the Makefile, in another folder."""
    rule = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\napi:\n\t")[2].partition("\n")[0]
    command = rule.replace("--output-directory api", f"--output-directory {tmp_path}")
    command = command.replace("python", sys.executable, 1)
    done = subprocess.run(command, shell=True, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=True)
    assert "warn" not in done.stderr.lower(), done.stderr
    pages = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    assert pages == {"index.html", "sb3_lecture_dqn.html", "sb3_lecture_dqn/study.html", "sb3_lecture_dqn/zoo.html"}
    page = (tmp_path / "sb3_lecture_dqn.html").read_text(encoding="utf-8")
    assert [name for name in sb3_lecture_dqn.__all__ if f'id="{name}"' not in page] == []
    assert 'id="LectureDQN.learn"' in page
    assert "total_episodes" in page, "a member from a base class of this package"
    assert "Setter for for logger object" in page, "a member from SB3"
