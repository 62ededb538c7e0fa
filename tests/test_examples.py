"""Every script of the examples runs as it stands, in a copy of its folder, the long ones with small sizes."""

import ast
import importlib
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import gymnasium as gym
import pytest

ROOT = pathlib.Path(__file__).parent.parent

# A row for every rung, of which the last has learnt it all
LADDER = (
    r"Q-table \| 200 \| 0 of 1 \|(.*\n){6}\| ours: .* [\d,]+ \| 0 of 1 \| 100\.0% \| .* 7\.93 \| [\d,]+ \|\n"
    r"Figure and table"
)

# A figure in every row, but for peers that are not installed; there is no git in the copy of the folder
FIGURE = r"(absent|[\d,.]+×.*)\n(.*\n)*?"
BENCHMARK = (
    rf"row 1: .* beside jitted JAX loop: {FIGURE}row 3: .* beside plain loop: {FIGURE}row 4: .* beside plain loop: "
    rf"{FIGURE}row 5: .* beside jitted JAX loop: {FIGURE}row 6: .* beside SB3 DQN: {FIGURE}row 7: .*: absent\n(.*\n)*?"
    rf"row 8: .* beside AVX2 C by hand: {FIGURE}row 11: RSS growth, .* MB(.*\n)*?"
    rf"row 16: .* beside SB3 DQN: {FIGURE}row 18: .* beside SB3 DQN: {FIGURE}row 19: .* beside ours, engine='torch': "
    rf"{FIGURE}row 20: .* beside sb3-contrib QRDQN: "
)

# What each is given, what it must print, and whether it is quick.
SCRIPTS = {
    "recipes/callbacks.py": ("", r"stopped after \d+ steps, best: 1\.0, going_on.num_timesteps=800", True),
    "recipes/custom_env.py": ("", r"(100\.0% solved.*\n)+.*optimality 1\.0000", True),
    "recipes/export.py": ("", r"taxi: 500 equal actions\n(.*\n)*cartpole: 100 equal actions", False),
    "recipes/loggers.py": ("", r"\d+ rows; successes held at the end: 1\b", True),
    "recipes/own_callback.py": ("", r"step 4000: gamma=0\.720", True),
    "recipes/rl_zoo.py": ("--env Taxi-v3 --n-timesteps 400 --eval-freq 200", r"Saving to logs/my_dqn/Taxi-v3_1", False),
    "recipes/wandb_sync.py": ("", r"Run summary:\n(.*\n)*.*eval/mean_reward 1", False),
    "recipes/wrappers.py": (
        "",
        r"VecNormalize: .*\nVecFrameStack: .*\(16,\)\nSubprocVecEnv: 200 .*\nMonitor: 20",
        False,
    ),
    "exercises/check.py": ("examples/exercises/solutions.py", r"✔ test: right \(2 points\)\n14 of 14 points", False),
    "ablation.py": ("--rows nothing --seeds 1 --processes 1", r"\| nothing \| 1 \| 0 \| 100", False),
    "large_world.py": (
        "--steps 320 --seeds 1 --size 4 --stops 3 --tests 2 --starts 3 --out .",
        r"\| embeddings, masks \|",
        False,
    ),
    "lecture_loop.py": ("--episodes 2 --tests 1", r"Episode 1: .*\n(.*\n)*Average reward per episode: -\d", False),
    "lecture_ladder.py": ("--timesteps 200 --tests 2 --seeds 1 --processes 1 --out .", LADDER, False),
    "lecture_statistics.py": ("--seeds 3 --episodes 20", r"\| 3 \|.*%", False),
    "make_exercises.py": ("--teacher made", r"made/exercises\.ipynb\nmade/exercises_ko\.ipynb", True),
    "make_page_pictures.py": ("--episodes 20 --out .", r"Picture: page_phone\.png(.*\n)*\d+ frames a second", False),
    "make_pictures.py": (
        "--only taxi curves --episodes 20 --seeds 2 --out .",
        r"Done: curves: images/curves\.png",
        False,
    ),
    "own_tasks.py": ("--tasks KeyAndDoor --seeds 1 --timesteps 400 --out .", r"'task': 'KeyAndDoor'", False),
    "reproduce.py": ("--only stored short", r"4 short runs: 4 hold.*\nAll figures hold", False),
    "resume_after_crash.py": ("--episodes 3", r"Beginning\n(.*\n)*.*Done after 3 episodes; SHA-256", False),
    "search_defaults.py": (
        "--tasks 1 --timesteps 300 --candidates network --out .",
        r"'candidate': 'network', 'task': 0",
        False,
    ),
    "search_hyperparams.py": ("FrozenLakeNotSlippery-v1 --trials 2 --seeds 1", r"(.*'score': .*\n){2}", False),
    "vector_tasks.py": ("--tasks Acrobot-v1 --seeds 1 --timesteps 600 --out .", r"'algo': 'tuned'", False),
    "tuned_results.py": ("--tasks FrozenLakeNotSlippery-v1 --seeds 1 --out .", r"FrozenLakeNotSlippery-v1", False),
    "benchmarks/profile_step.py": ("--steps 100 --repeats 1", r"\*\*the compiled loop\*\* \| [\d,]+ \|", False),
    "benchmarks/run.py": ("--quick --rows 1,3,4,5,6,7,8,11,16,18,19,20 --repeats 1", BENCHMARK, False),
    "benchmarks/callback_cost.py": ("checkpoint --episodes 5", r"\d", False),
    "benchmarks/studies.py": ("ceiling --trials 100", r"Ray Tune: 5 empty trials(.*\n)*table: 100 trials", False),
}
# These have no small size: torch.compile alone takes a minute, and stock SB3 two until it has solved Taxi.
TOO_LONG = {"benchmarks/engines.py", "benchmarks/stock_search.py", "benchmarks/time_to_optimal.py"}


def is_script(path):
    """Whether a file does something where it is run: others only define what scripts import."""
    defines = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    statements = ast.parse(path.read_text(encoding="utf-8")).body[1:]
    return any(not isinstance(statement, defines) for statement in statements)


def test_every_script_is_here():
    there = {str(path.relative_to(ROOT / "examples")) for path in (ROOT / "examples").rglob("*.py") if is_script(path)}
    called_by_others = {"benchmarks/probes.py", "benchmarks/rows.py"}
    # See test_notebooks.py and examples/test_exercises.py
    of_the_notebooks = {"lecture_walkthrough.py", "make_notebooks.py", "exercises/source.py"}
    assert there == {*SCRIPTS, *TOO_LONG, *called_by_others, *of_the_notebooks}


def test_one_command_makes_every_picture(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    made = {file for _, files in importlib.import_module("make_pictures").PICTURES.values() for file in files}
    pages = [ROOT / "README.md", *(ROOT / "examples").rglob("*.md")]
    shown = {
        (page.parent / link).resolve()
        for page in pages
        for link in re.findall(r"\]\((?!https?:)([^)\s]+\.(?:png|gif|jpg|svg))\)", page.read_text(encoding="utf-8"))
    }
    assert shown == {(ROOT / "examples" / file).resolve() for file in made}
    assert shown == {
        path for folder in ("images", "results", "guide") for path in pictures_in(ROOT / "examples" / folder)
    }


def pictures_in(folder):
    return [path.resolve() for path in folder.rglob("*") if path.suffix in (".png", ".gif", ".jpg", ".svg")]


def copied_examples(folder):
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("images", "*.pyc"))
    return folder / "examples"


@pytest.mark.parametrize("script", [name for name, (_, _, quick) in SCRIPTS.items() if quick])
def test_a_quick_one_runs(script, tmp_path, monkeypatch, capsys):
    """In this process, for a new one would mostly import."""
    words, expected, _ = SCRIPTS[script]
    path = copied_examples(tmp_path) / script
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setattr(sys, "argv", [str(path), *words.split()])
    ids = set(gym.registry)
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        for env_id in gym.registry.keys() - ids:
            del gym.registry[env_id]
    printed = "".join(capsys.readouterr())
    assert re.search(expected, printed), printed


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs(script, tmp_path):
    words, expected, _ = SCRIPTS[script]
    done = subprocess.run(
        [sys.executable, copied_examples(tmp_path) / script, *words.split()],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(expected, done.stdout + done.stderr), done.stdout + done.stderr
