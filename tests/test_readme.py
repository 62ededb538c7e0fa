"""What the README tells a reader to type works as it stands."""

import pathlib
import re
import shlex

import pytest

from sb3_lecture_dqn import cli
from sb3_lecture_dqn.study import Plan
from sb3_lecture_dqn.study.trial import check_trials
from sb3_lecture_dqn.training import schedule

README = pathlib.Path(__file__).parent.parent / "README.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands():
    """The words of every call of the command line, without comments."""
    found = []
    for line in "".join(blocks("bash")).splitlines():
        for part in line.split(" #")[0].split("&&"):
            program, *words = shlex.split(part) or [""]
            if pathlib.PurePath(program).name == "sb3-lecture-dqn":
                found.append(words)
    return found


def test_the_readme_has_code_and_commands():
    """Else the tests below would test nothing."""
    assert len(blocks("python")) >= 3
    assert len(commands()) >= 4


@pytest.mark.parametrize("i", range(len(blocks("python"))))
def test_the_code_runs(i, tmp_path, monkeypatch):
    """But for the lecture's budget of episodes, as it stands, and each block by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedule, "DEFAULT_TOTAL_EPISODES", 2)
    exec(compile(blocks("python")[i], f"README.md, block {i + 1}", "exec"), {"__name__": "__main__"})


def test_the_plan_of_a_study_can_be_run(tmp_path):
    (plan,) = blocks("yaml")
    (tmp_path / "plan.yaml").write_text(plan)
    check_trials(Plan.from_yaml(tmp_path / "plan.yaml"))


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_commands_are_understood(words):
    assert callable(cli.parser().parse_args(words).run)


def test_the_files_that_it_links_to_are_there():
    text = README.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (README.parent / target).exists()] == []
