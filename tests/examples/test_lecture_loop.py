"""The lecture's loop is short, needs nothing of the package, and links to the functions that do the same there."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
LOOP = ROOT / "examples" / "lecture_loop.py"
SOURCE = LOOP.read_text(encoding="utf-8")
LECTURES_NAMES = {"Config", "QNet", "train", "train_episode", "replay", "test", "main"}

ALONE = """
import runpy, sys
for name in ("sb3_lecture_dqn", "stable_baselines3", "sb3_contrib", "numba", "matplotlib", "pandas", "tqdm"):
    sys.modules[name] = None  # an import of it is an ImportError
sys.argv = ["lecture_loop.py", "--episodes", "1", "--tests", "1", "--no-double-dqn"]
runpy.run_path({loop!r}, run_name="__main__")
"""


def names_in(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def links():
    """(name in the loop, file of the package, name there) of every line ``# Package:``."""
    found = []
    for text, name in re.findall(r"^# Package: (.*)\n(?:@dataclass\n)?(?:class|def) (\w+)", SOURCE, re.MULTILINE):
        found += [(name, *link.split(", ")) for link in text.split("; ")]
    return found


def test_it_is_short_and_has_the_lectures_names():
    assert SOURCE.count("\n") <= 250
    top = {node.name: node for node in ast.parse(SOURCE).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert top.keys() >= LECTURES_NAMES
    assert max(node.end_lineno - node.lineno for node in top.values()) < 40, "more than a page"


def test_it_imports_only_what_it_says():
    roots = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.split(".")[0])
    assert roots - sys.stdlib_module_names == {"torch", "gymnasium", "numpy"}  # numpy comes with both


def test_it_runs_without_the_package_and_prints_the_lectures_lines(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", ALONE.format(loop=str(LOOP))], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(
        r"Action Space Discrete\(6\)\nState Space Discrete\(500\)\nStore & replay: True\nDouble DQN: False\n"
        r"Episode 1: [\d.]+ steps, [\d.]+ penalties, -[\d.]+ reward\nTraining finished\.\nResults after 1 episodes:\n"
        r"Average timesteps per episode: [\d.]+\nAverage penalty per episode: [\d.]+\n"
        r"Average reward per episode: -[\d.]+\n",
        run.stdout,
    )
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"SR_True_DD_False_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    assert list(folder.iterdir())


def test_every_part_of_the_algorithm_has_a_link():
    linked = {name for name, *_ in links()}
    assert linked >= LECTURES_NAMES | {"epsilon", "greedy_action", "ReplayMemory", "update"}


@pytest.mark.parametrize(("name", "file", "there"), links())
def test_a_link_leads_to_a_function(name, file, there):
    assert there in names_in(ROOT / file)
