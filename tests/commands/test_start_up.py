"""Help, versions and mistakes are answered at once: no heavy module is imported for them."""

import json
import subprocess
import sys

import pytest

from sb3_lecture_dqn import cli
from sb3_lecture_dqn.algorithms import ALGORITHMS
from sb3_lecture_dqn.commands import COMMANDS, train

HEAVY = ["gymnasium", "matplotlib", "numba", "numpy", "rich", "sb3_contrib", "scipy", "stable_baselines3"]
HEAVY += ["tensorboard", "torch", "tqdm"]
PROGRAM = f"""
import contextlib, io, json, sys
from sb3_lecture_dqn.cli import main

answers = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
    loaded = {{name.partition(".")[0] for name in sys.modules}}
    answers.append([code, out.getvalue(), err.getvalue(), sorted(loaded.intersection({HEAVY}))])
print(json.dumps(answers))
"""
MISTAKES = [
    [],
    ["trian"],
    ["train", "--episods", "3"],
    ["train", "--episodes", "0"],
    ["train", "--episodes", "many"],
    ["train", "--algo", "lecture_dnq"],
    ["train", "--policy", "LinearPolicy"],
    ["train", "--set", "gamma"],
    ["train", "--resume", "nowhere"],
    ["train", "--config", "nowhere.yaml"],
    ["test", "nowhere"],
    ["test", "."],
    ["watch", "nowhere", "--fps", "0"],
    ["plot"],
    ["ablate", "--report", "study", "--seeds", "3"],
]


def answers(argvs, folder):
    """Run commands in a new process. Return the exit code, output, errors and heavy modules so far after each."""
    words = [sys.executable, "-c", PROGRAM, json.dumps(argvs)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    return zip(argvs, json.loads(done.stdout), strict=True)


def test_help_and_version_import_no_heavy_module(tmp_path):
    argvs = [["--version"], ["--help"], *([name, "--help"] for name in COMMANDS)]
    for argv, (code, out, err, heavy) in answers(argvs, tmp_path):
        assert (code, err, heavy) == (0, "", []), argv
        assert out.startswith("sb3-lecture-dqn " if argv == ["--version"] else "usage: sb3-lecture-dqn")


def test_a_mistake_is_answered_by_one_line_and_imports_no_heavy_module(tmp_path):
    for argv, (code, out, err, heavy) in answers(MISTAKES, tmp_path):
        assert (code, out, heavy) == (2, "", []), argv
        assert len(err.splitlines()) == 1
        assert err.startswith("sb3-lecture-dqn")


def test_the_words_of_algorithms_and_policies_are_all_of_them():
    """They are written out in a file that imports none of them."""
    assert sorted(ALGORITHMS) == train.ALGORITHM_WORDS
    policies = set().union(*(algorithm.cls.policy_aliases for algorithm in ALGORITHMS.values()))
    assert sorted(policies) == train.POLICY_WORDS


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian"], "did you mean train?"),
        (["train", "--episods", "3"], "did you mean --episodes?"),
        (["train", "--episods=3"], "did you mean --episodes?"),
        (["train", "--use-mask", "--quite"], "did you mean --quiet?"),
        (["train", "--tunde", "--sede", "3"], "did you mean --tuned? did you mean --seed?"),
        (["train", "--algo", "lecture_dnq"], "did you mean lecture_dqn?"),
        (["train", "--policy", "MlpPolcy"], "did you mean MlpPolicy?"),
        (["train", "--engine", "nubma"], "did you mean numba?"),
        (["train", "--engine", "gpu"], "choose from auto, torch, numba"),
        (["train", "--gamma", "0.9"], "a setting of the algorithm is --set gamma=VALUE"),
        (["train", "--double_q"], "a setting of the algorithm is --set double_q=VALUE"),
        (["train", "--loss", "huber"], "a setting of the algorithm is --set loss=VALUE"),
        (["train", "--learning-rate=1"], "a setting of the algorithm is --set learning_rate=VALUE"),
        (["train", "runs"], "unrecognized arguments: runs; see `sb3-lecture-dqn train --help`"),
        (["test", "model", "--episods", "3"], "did you mean --episodes?"),
        (["watch", "model", "--fsp", "3"], "did you mean --fps?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_misspelt_word_is_answered_by_the_nearest_one(words, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(f"{hint}\n")


def test_a_misspelt_setting_is_answered_by_the_nearest_one(capsys):
    assert cli.main(["train", "--set", "gama=0.9"]) == 2
    assert capsys.readouterr().err.endswith("'gama' is not a setting of lecture_dqn; did you mean gamma?\n")
