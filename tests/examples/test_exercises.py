"""The exercises: solutions pass, every hint answers a wrong try of its own, and the notebooks are nbgrader's."""

import importlib.util
import json
import pathlib
import random
import re
import shutil
import sys

import nbformat
import numpy as np
import pytest
import torch

from examples import make_exercises
from tests.examples.wrong_tries import WRONG_TRIES

FOLDER = make_exercises.FOLDER
sys.path[:0] = [str(FOLDER)]

import check  # noqa: E402
from graders import GRADERS, Mistake  # noqa: E402
from hints import HINTS, MESSAGES, words  # noqa: E402


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOLUTIONS, BLANKS = load(make_exercises.SOLUTIONS), load(make_exercises.FILES["en"])


@pytest.mark.parametrize("exercise", GRADERS)
def test_the_solution_is_right(exercise):
    for _ in range(3):  # not by chance
        assert check.grade(exercise, getattr(SOLUTIONS, exercise)) is None


@pytest.mark.parametrize(("exercise", "key", "function"), WRONG_TRIES)
def test_a_wrong_try_gets_the_hint_that_fits(exercise, key, function):
    random.seed(0)
    mistake = check.grade(exercise, function)
    assert mistake is not None, "taken for right"
    assert mistake.key == key
    for language in ("en", "ko"):
        text = check.hint(language, exercise, mistake)
        assert "{" not in text
        assert bool(re.search("[가-힣]", text)) == (language == "ko")


def test_every_hint_has_a_wrong_try():
    tried = {(exercise, key) for exercise, key, _ in WRONG_TRIES if key not in MESSAGES}
    assert tried == {(exercise, key) for exercise, hints in HINTS.items() for key in hints}
    assert HINTS.keys() == GRADERS.keys()
    assert all(len(hints) >= 2 for hints in HINTS.values())


@pytest.mark.parametrize("exercise", GRADERS)
@pytest.mark.parametrize(("language", "told"), [("en", "not filled in yet"), ("ko", "아직 채우지 않았습니다")])
def test_a_blank_is_told_kindly(exercise, language, told):
    with pytest.raises(check.NotYet, match=rf"^✘ {exercise}: {told}") as caught:
        check.checker(language)(getattr(BLANKS, exercise))
    assert caught.value._render_traceback_() == [str(caught.value)]


def test_pytorchs_own_not_implemented_is_no_blank():
    mistake = check.grade("target_value", lambda *args: torch.nn.Module()(args[0]))
    assert mistake.key == "crash"


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(SystemExit, match="there is no file"):
        check._load(tmp_path / "mine.py")


@pytest.mark.parametrize("exercise", [name for name in GRADERS if name not in ("store", "sgd_step", "renew_target")])
def test_a_forgotten_return_is_told(exercise):
    assert check.grade(exercise, lambda *args: None).key == "nothing"


@pytest.mark.parametrize("exercise", GRADERS)
def test_an_error_is_told_with_its_line(exercise):
    def fails(*args):
        return args[99]

    mistake = check.grade(exercise, fails)
    told = "the function fails with IndexError: tuple index out of range, at"
    assert check.hint("en", exercise, mistake).startswith(told)
    assert "`return args[99]`" in check.hint("ko", exercise, mistake)


@pytest.mark.parametrize("exercise", GRADERS)
def test_an_error_inside_a_library_is_told_with_the_line_of_the_student(exercise):
    def fails(*args):
        return json.loads("no JSON")

    assert check.grade(exercise, fails).details["line"] == 'return json.loads("no JSON")'


@pytest.mark.parametrize("exercise", [name for name in GRADERS if name not in ("store", "sgd_step", "renew_target")])
@pytest.mark.parametrize(
    "answer", ["a word", (), 3.5, [1, 2, 3, 4], {}, torch.eye(6), torch.zeros(6, 1), np.zeros(5), [np.zeros(2)] * 4]
)
def test_an_answer_of_any_kind_gets_a_hint(exercise, answer):
    mistake = check.grade(exercise, lambda *args: answer)
    assert isinstance(mistake, Mistake)
    assert check.hint("en", exercise, mistake)


def test_another_mistake_is_told_with_what_was_given_and_what_is_right():
    mistake = check.grade("epsilon", lambda episode, total_steps, decay, minimum: 0.5)
    assert check.hint("en", "epsilon", mistake) == "not right yet. For (1, 37, 0.99, 0.1) it gives 0.5; right is 0.99."


def right_targets():
    def where(reward, terminated, truncated, next_values, gamma):
        return torch.where(terminated, reward, reward + gamma * torch.amax(next_values, 1))

    def double(reward, terminated, truncated, next_values, gamma):
        return reward.double() + gamma * next_values.double().max(1)[0] * (1 - terminated.double())

    def in_place(reward, terminated, truncated, next_values, gamma):
        reward += gamma * next_values.max(dim=1).values.masked_fill_(terminated, 0)
        return reward

    def masked(reward, terminated, truncated, next_values, gamma):
        y = reward.clone()
        y[~terminated] += gamma * next_values[~terminated].max(dim=1).values
        return y

    def zeroed(reward, terminated, truncated, next_values, gamma):
        next_values[terminated] = 0
        return reward + gamma * next_values.sort(dim=1).values[:, -1]

    def squeezed(reward, terminated, truncated, next_values, gamma):
        best = next_values.max(dim=1, keepdim=True).values
        return (reward[:, None] + gamma * best * terminated.logical_not()[:, None]).squeeze(1)

    def looped(reward, terminated, truncated, next_values, gamma):
        rows = zip(reward, terminated, next_values, strict=True)
        return torch.tensor([float(r) if end else float(r + gamma * max(row)) for r, end, row in rows])

    return [where, double, in_place, masked, zeroed, squeezed, looped]


@pytest.mark.parametrize("function", right_targets(), ids=lambda function: function.__name__)
def test_all_right_targets_are_right(function):
    assert check.grade("target_value", function) is None


def test_an_epsilon_in_float32_is_right():
    def multiplied(episode, total_steps, decay, minimum):
        value = np.float32(1)
        for _ in range(episode):
            value *= np.float32(decay)
        return max(np.float32(minimum), value)

    def a_tensor(episode, total_steps, decay, minimum):
        return torch.clamp(torch.tensor(decay) ** episode, min=minimum)

    for function in (multiplied, a_tensor):
        assert check.grade("epsilon", function) is None


def test_other_right_ways_are_right():
    def target_value(reward, terminated, truncated, next_values, gamma):
        return torch.where(terminated, reward, reward + gamma * torch.amax(next_values, 1))

    def sgd_step(net, target, optimizer, batch, gamma):
        states, actions, rewards, next_states, dones = batch
        y = target_value(rewards, dones, dones, target(next_states), gamma).detach()
        loss = sum((net(s[None])[0, a] - yi) ** 2 for s, a, yi in zip(states, actions, y, strict=True)) / len(y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def renew_target(net, target, episode, every):
        if not episode % every:
            for ours, theirs in zip(target.parameters(), net.parameters(), strict=True):
                ours.data.copy_(theirs.data)

    def store(transition, success, fail, fail_size, rng):
        if transition[4]:
            if transition not in success:
                success += [transition]
        elif transition not in fail:
            if len(fail) == fail_size:
                fail[int(rng.random() * len(fail))] = transition
            else:
                fail.insert(len(fail), transition)

    def draw(success, fail, rng):
        return [*success, *fail][int(rng.random() * len([*success, *fail]))]

    for function in (target_value, sgd_step, renew_target, store, draw):
        assert check.grade(function.__name__, function) is None, function.__name__


def test_clearing_the_gradients_last_is_right():
    def sgd_step(net, target, optimizer, batch, gamma):
        states, actions, rewards, next_states, dones = batch
        with torch.no_grad():
            y = rewards + gamma * target(next_states).amax(1) * ~dones
        loss = torch.nn.functional.mse_loss(net(states)[torch.arange(len(y)), actions], y)
        loss.backward()
        optimizer.step()
        net.zero_grad()

    assert check.grade("sgd_step", sgd_step) is None


def test_a_table_and_a_reset_after_the_last_episode_are_right():
    def test(net, env, n_episodes, max_steps):
        policy = net(torch.arange(8)).argmax(dim=1)
        rewards, n_solved = [], 0
        state, _ = env.reset(seed=1)
        while len(rewards) < n_episodes:
            rewards.append([])
            terminated = False
            while not terminated and len(rewards[-1]) < max_steps:
                state, reward, terminated, *_ = env.step(policy[state])
                rewards[-1].append(reward)
            n_solved += terminated
            state, _ = env.reset()  # once too often, but no episode follows it
        penalties, total = (np.mean([function(rs) for rs in rewards]) for function in (lambda rs: rs.count(-10), sum))
        return torch.tensor([np.mean([*map(len, rewards)]), penalties, total, n_solved / n_episodes])

    assert check.grade("test", test) is None


def test_all_words_are_there_in_both_languages():
    for texts in (MESSAGES, *HINTS.values()):
        for english, korean in texts.values():
            assert not re.search("[가-힣]", english)
            assert set(re.findall(r"{(\w+)", english)) == set(re.findall(r"{(\w+)", korean))
    with pytest.raises(ValueError, match="language='fr' must be"):
        words("fr", "blank")


def test_a_function_of_another_name_is_told():
    def eps():
        pass

    with pytest.raises(check.NotYet, match=r"no exercise eps; the exercises are epsilon, store, draw"):
        check.checker("en")(eps)


def test_the_command_grades_a_file(tmp_path, monkeypatch, capsys):
    answers = tmp_path / "mine.py"
    text = make_exercises.SOLUTIONS.read_text(encoding="utf-8")
    answers.write_text(text.replace("max(minimum", "min(minimum").replace("def draw", "def drawn"), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["check.py", str(answers), "--language", "ko"])
    assert check.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("✘ epsilon: 둘 중 작은 값을")
    assert lines[1] == "✔ store: 정답입니다 (2점)"
    assert lines[2] == "mine.py에 draw 함수가 없습니다."
    assert lines[-1] == "14점 중 10점"


def test_the_files_agree_with_their_source():
    for path, text in make_exercises.made_files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run examples/make_exercises.py"


@pytest.mark.parametrize("fill", [make_exercises.blank, make_exercises.as_it_is])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_cells_are_as_nbgrader_wants_them(language, fill):
    """After the rules of nbgrader's schema, version 3, and of its validation of cells."""
    book = make_exercises.notebook(language, fill)
    nbformat.validate(book)
    marks = [cell.metadata.nbgrader for cell in book.cells]
    ids = [mark.grade_id for mark in marks]
    assert len(set(ids)) == len(ids)
    for cell, mark in zip(book.cells, marks, strict=True):
        required = {"grade", "grade_id", "locked", "schema_version", "solution", "task"}
        assert mark.keys() - {"points"} == required
        assert ("points" in mark) == mark.grade
        assert re.fullmatch(r"[a-zA-Z0-9_\-]+", mark.grade_id)
        assert mark.schema_version == 3
        assert not (mark.grade and mark.solution)
        assert mark.locked == (not mark.solution)
        assert cell.cell_type == "code" or not mark.grade
        if mark.solution:
            assert ("# YOUR CODE HERE" if fill is make_exercises.blank else "### BEGIN SOLUTION") in cell.source
    assert sum(mark.get("points", 0) for mark in marks) == check.POINTS * len(GRADERS)
    assert [mark.grade_id for mark in marks if mark.solution] == list(GRADERS)


def test_both_languages_have_the_same_code():
    english, korean = (make_exercises.notebook(language) for language in ("en", "ko"))
    assert [cell.cell_type for cell in english.cells] == [cell.cell_type for cell in korean.cells]
    for one, other in zip(english.cells, korean.cells, strict=True):
        if one.cell_type == "code":
            assert one.source == other.source.replace('checker("ko")', 'checker("en")')
        else:
            assert re.search("[가-힣]", other.source)
            assert not re.search("[가-힣]", one.source)
            assert one.source.count("$") == other.source.count("$")


# nbclient and its dependencies warn about pipes to the kernel and about the event loop
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("language", ["en", pytest.param("ko", marks=pytest.mark.slow)])
def test_the_notebook_runs_with_the_solutions_and_stops_at_a_blank(language, tmp_path, monkeypatch):
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    shutil.copytree(FOLDER, tmp_path / "exercises")
    shutil.copy(FOLDER.parent / "lecture_loop.py", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)  # the folder is enough
    book = make_exercises.notebook(language, make_exercises.solved)
    blank = make_exercises.notebook(language).cells
    book.cells += [cell for cell in blank if cell.id in ("epsilon", "check_epsilon")]  # the kernel is the same
    for number, cell in enumerate(book.cells):
        cell.id = str(number)
    client = NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path / "exercises")}})
    with pytest.raises(CellExecutionError):
        client.execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert printed.count("✔") == len(GRADERS)
    (failure,) = [output for output in outputs if output.output_type == "error"]
    assert failure.ename == "NotYet"
    assert failure.traceback == [words(language, "not_yet", "epsilon", hint=words(language, "blank"))]


def test_the_notebooks_are_plain_json_without_outputs():
    for path in make_exercises.NOTEBOOKS.values():
        book = json.loads(path.read_text(encoding="utf-8"))
        assert all(not cell.get("outputs") for cell in book["cells"])
        assert pathlib.Path(path).stat().st_size < 30_000
