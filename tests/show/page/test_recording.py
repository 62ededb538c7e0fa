"""A training is recorded as it is, at little cost, and goes on with its recording when it is resumed."""

import dataclasses
import pathlib
import warnings
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import (
    DivergedError,
    LectureCheckpointCallback,
    LectureDQN,
    LecturePageCallback,
    LectureTestCallback,
    NotTabularError,
    SuccessFailReplayBuffer,
)
from sb3_lecture_dqn.show.page import callback as page_callback
from sb3_lecture_dqn.show.page.moment import Taker, last_draws
from sb3_lecture_dqn.show.page.record_file import RecordFile
from sb3_lecture_dqn.show.page.recording import Recording
from sb3_lecture_dqn.training import stretches
from sb3_lecture_dqn.training.compiled_loop import CompiledLoop
from tests.training.two_loops import bits, state_of

LAKE = {"env": "FrozenLake-v1", "seed": 1, "target_update_interval": (4, "episode"), "gradient_steps": 2}


class EveryStep(BaseCallback):
    """Says nothing of when it is due, so it is called at every step."""

    def _on_step(self) -> bool:
        return True


class Abort(BaseCallback):
    """Ends a training as a crash does."""

    def __init__(self, episode: int) -> None:
        super().__init__()
        self.episode = episode

    def _on_step(self) -> bool:
        if self.model._episode_num == self.episode:
            raise InterruptedError
        return True


def learn(folder: pathlib.Path, *callbacks: BaseCallback, n: int = 30, **settings: Any) -> Any:
    model = LectureDQN(**{**LAKE, **settings})
    model.learn(total_episodes=n, callback=[LecturePageCallback(folder, (5, "episode")), *callbacks])
    return model


def same(one: Any, other: Any) -> bool:
    """Compare two moments bit by bit."""
    return bits(dataclasses.asdict(one)) == bits(dataclasses.asdict(other))


def moments_in(folder: pathlib.Path) -> list[Any]:
    return Recording(folder / "recording").moments()


def test_a_moment_is_taken_at_the_start_every_test_every_copy_and_the_end(tmp_path: pathlib.Path) -> None:
    learn(tmp_path, n=11)
    taken = {moment.episode: moment.why for moment in moments_in(tmp_path)}
    copy, test = "target_copy", "test"
    assert taken == {0: ["start"], 1: [test], 4: [copy], 5: [test], 8: [copy], 10: [test], 11: ["end"]}


def test_tests_are_those_of_the_test_callback_beside_it(tmp_path: pathlib.Path) -> None:
    model = LectureDQN(**LAKE, tensorboard_log=str(tmp_path))
    model.learn(
        total_episodes=7, callback=[LectureTestCallback(test_freq=(3, "episode"), verbose=0), LecturePageCallback()]
    )
    tests = [m.episode for m in moments_in(pathlib.Path(model.logger.dir)) if "test" in m.why]
    assert tests == [1, 3, 6]


@pytest.mark.parametrize("settings", [{}, {"double_dqn": False}, {"engine": "torch"}, {"learning_starts": 40}])
def test_a_moment_has_the_weights_the_memory_and_the_counters(tmp_path: pathlib.Path, settings: Any) -> None:
    model = learn(tmp_path, **settings)
    last = moments_in(tmp_path)[-1]
    assert (last.step, last.episode) == (model.num_timesteps, 30)
    assert last.epsilon == model.epsilon(31)
    for name, array in model.q_net.state_dict().items():
        assert np.array_equal(last.online[name], array)
    target = last.online if last.target is None else last.target
    for name, array in model.q_net_target.state_dict().items():
        assert np.array_equal(target[name], array)
    memory = model.replay_buffer
    assert (last.n_successes, last.n_failures) == (memory.success_size, memory.fail_size)
    held = np.unpackbits(last.held, bitorder="little")[: 16 * 4].reshape(16, 4).astype(bool)
    expected = np.zeros((16, 4), bool)
    expected[memory.observations.ravel(), memory.actions.ravel()] = True
    assert np.array_equal(held, expected)
    assert len(last.sample) == memory.size()


@pytest.mark.parametrize(
    "settings",
    [
        {"replay_buffer_kwargs": {"deduplicate": False}, "buffer_size": 60},  # forgets
        {"replay_buffer_kwargs": {"deduplicate": False}, "buffer_size": 5000},  # only grows
        {"replay_buffer_class": ReplayBuffer, "buffer_size": 50},
        {"store_and_replay": False},
    ],
)
def test_held_pairs_are_those_of_the_memory_at_every_moment(tmp_path: pathlib.Path, settings: Any) -> None:
    held_by_model: dict[int, np.ndarray] = {}

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            memory: Any = self.model.replay_buffer  # type: ignore[attr-defined]
            n = memory.size()
            expected = np.zeros((16, 4), bool)
            expected[memory.observations[:n].ravel(), memory.actions[:n].ravel()] = True
            held_by_model[self.num_timesteps] = expected

    learn(tmp_path, Look(), **settings)
    checked = 0
    for moment in moments_in(tmp_path)[1:-1]:
        held = np.unpackbits(moment.held, bitorder="little")[: 16 * 4].reshape(16, 4).astype(bool)
        assert np.array_equal(held, held_by_model[moment.step])
        checked += 1
    assert checked > 8


@pytest.mark.parametrize("settings", [{}, {"gradient_steps": 7}, {"batch_size": 8, "gradient_steps": 1}])
@pytest.mark.parametrize("fraction", [None, 0.5])
def test_the_transitions_drawn_last_are_exactly_those(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, settings: Any, fraction: float | None
) -> None:
    drawn: list[np.ndarray] = []
    draw = SuccessFailReplayBuffer.draw_minibatches

    def noted(memory: Any, n_batches: int, batch_size: int) -> np.ndarray:
        positions = draw(memory, n_batches, batch_size)
        words = np.concatenate([memory.success.words[: memory.success.size], memory.fail.words[: memory.fail.size]])
        drawn.extend(words[positions.ravel()])
        return positions

    seen: dict[int, np.ndarray] = {}
    take = Taker.take

    def note_and_take(taker: Taker, why: list[str], has_updated: bool = True) -> Any:
        seen[taker.model.num_timesteps] = np.array(drawn[-min(5, len(drawn)) :])
        monkeypatch.setattr(SuccessFailReplayBuffer, "draw_minibatches", draw)
        moment = take(taker, why, has_updated)
        monkeypatch.setattr(SuccessFailReplayBuffer, "draw_minibatches", noted)
        return moment

    monkeypatch.setattr(Taker, "take", note_and_take)
    monkeypatch.setattr(SuccessFailReplayBuffer, "draw_minibatches", noted)
    memory_kwargs = {"success_fraction": fraction, "deduplicate": False}
    learn(tmp_path, EveryStep(), replay_buffer_kwargs=memory_kwargs, buffer_size=100, **settings)
    moments = moments_in(tmp_path)
    assert moments[0].drawn is None
    assert len(moments[0].drawn_rows) == 0
    n = 2 if not settings else 5
    for moment in moments[1:]:
        assert moment.drawn == "last"
        assert np.array_equal(moment.drawn_rows, seen[moment.step][-n:])


def test_the_draws_cannot_be_known_of_another_generator() -> None:
    model = LectureDQN(**LAKE).learn(total_episodes=3)
    model.replay_buffer.rng = np.random.Generator(np.random.SFC64(0))
    assert last_draws(model.replay_buffer, 1, 5, np.random.PCG64(0)) is None
    taker = Taker(model, model.env.model, 0)
    assert taker.take(["end"]).drawn == "sample"


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("beside", [[], [EveryStep]])
def test_recording_does_not_change_the_training(tmp_path: pathlib.Path, engine: str, beside: list[Any]) -> None:
    states = []
    for recorded in (False, True):
        model = LectureDQN(**LAKE, engine=engine)
        callbacks = [cls() for cls in beside] + ([LecturePageCallback(tmp_path)] if recorded else [])
        model.learn(total_episodes=25, callback=callbacks)
        states.append(bits(state_of(model)))
    assert states[0] == states[1]


def test_recording_computes_nothing_and_cuts_the_loop_only_where_a_moment_is(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"linear": 0, "take": 0}
    ends: list[tuple[int, int]] = []  # steps and episodes after each stretch

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    def go_on(loop: Any, *args: Any) -> Any:
        result = original_go_on(loop, *args)
        ends.append((loop.model.num_timesteps, loop.model._episode_num))
        return result

    original_go_on = CompiledLoop.go_on
    monkeypatch.setattr(CompiledLoop, "go_on", go_on)
    monkeypatch.setattr(stretches, "_SECONDS", 1e9)  # so that the clock does not count
    count(th.nn.functional, "linear")
    count(Taker, "take")
    LectureDQN(**LAKE).learn(total_episodes=200)
    alone, n_passes = set(ends), calls.pop("linear")  # which measure how the values grow
    ends.clear()
    calls["linear"] = 0
    learn(tmp_path, n=200)
    assert calls["linear"] == n_passes
    assert calls["take"] == 1 + 1 + 50 + 40 - 10  # start, first episode, copies, tests, both at once; the end is one
    # About one moment in fifteen costs a stretch more, mostly the last episode before it.
    moments = {1, *range(4, 201, 4), *range(5, 201, 5)}
    assert len(ends) <= len(alone) + len(moments) + len(moments) // 10


def test_a_stopped_run_goes_on_with_its_recording(tmp_path: pathlib.Path) -> None:
    def callbacks(folder: pathlib.Path) -> list[BaseCallback]:
        return [
            LecturePageCallback(folder),
            LectureCheckpointCallback((10, "episode"), folder / "checkpoints", verbose=0),
        ]

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    LectureDQN(**LAKE).learn(total_episodes=60, callback=callbacks(whole))
    with pytest.raises(InterruptedError):
        LectureDQN(**LAKE).learn(total_episodes=60, callback=[*callbacks(stopped), Abort(39)])
    with (stopped / "recording/moments.bin").open("ab") as file:
        file.write(bytes(1000))  # the last moment, half written
    with pytest.warns(UserWarning, match="left out: the file ends within it"):
        later = moments_in(stopped)
    model = LectureDQN.resume(stopped)
    assert model.num_timesteps < later[-1].step  # moments that are to be taken again
    model.learn(callback=callbacks(stopped))
    expected, found = (folder / "recording/moments.bin" for folder in (whole, stopped))
    assert found.read_bytes() == expected.read_bytes()


def test_a_training_that_is_continued_goes_on_with_its_recording(tmp_path: pathlib.Path) -> None:
    model = learn(tmp_path, n=10)
    model.learn(total_episodes=5, reset_num_timesteps=False, callback=LecturePageCallback(tmp_path, (5, "episode")))
    moments = moments_in(tmp_path)
    assert [m.episode for m in moments] == [0, 1, 4, 5, 8, 10, 12, 15]
    assert [m.why for m in moments][-3:] == [["test", "end"], ["target_copy"], ["test", "end"]]


def test_another_run_in_the_same_folder_is_refused(tmp_path: pathlib.Path) -> None:
    learn(tmp_path, n=2)
    with pytest.raises(ValueError, match=r"has the recording of another run"):
        learn(tmp_path, n=2)


@pytest.mark.parametrize("budget", [{"total_episodes": 300}, {"total_timesteps": 3000}])
def test_too_many_moments_are_thinned_evenly_and_tests_stay(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, budget: Any
) -> None:
    monkeypatch.setattr(page_callback, "MAX_MOMENTS", 40)
    model = LectureDQN(**{**LAKE, "target_update_interval": (2, "episode")})
    model.learn(**budget, callback=LecturePageCallback(tmp_path, (20, "episode")))
    moments = moments_in(tmp_path)
    assert 20 <= len(moments) <= 40
    tests = [m.episode for m in moments if "test" in m.why]
    assert tests == [1, *range(20, model._episode_num + 1, 20)]
    copies = [m.episode for m in moments if m.why == ["target_copy"]]
    step = 2 * round(np.diff(copies).min() / 2)
    assert {*range(step, model._episode_num + 1, step)} - {*tests} <= {*copies}  # evenly
    assert all(episode % step == 0 for episode in copies)


def test_a_copy_in_every_step_is_not_recorded_in_every_step(tmp_path: pathlib.Path) -> None:
    model = LectureDQN(**{**LAKE, "target_update_interval": 1, "tau": 0.01})
    model.learn(total_episodes=150, callback=LecturePageCallback(tmp_path))
    copies = [m.step for m in moments_in(tmp_path) if "target_copy" in m.why]
    assert copies == list(range(200, model.num_timesteps + 1, 200))
    moment = moments_in(tmp_path)[-1]
    assert moment.target is not None
    assert np.array_equal(moment.target["layers.1.bias"], model.q_net_target.state_dict()["layers.1.bias"])


def test_a_diverged_training_keeps_its_last_moment(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DivergedError):
        learn(tmp_path, n=200, learning_rate=50.0)
    last = moments_in(tmp_path)[-1]
    assert last.why[-1] == "diverged"


def test_a_full_disk_does_not_end_the_training(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Recording.add

    def full(recording: Recording, moment: Any) -> None:
        if moment.episode >= 5:
            raise OSError(28, "No space left on device")
        add(recording, moment)

    monkeypatch.setattr(Recording, "add", full)
    with pytest.warns(UserWarning, match="recording stops, and training goes on"):
        model = learn(tmp_path, n=10)
    assert model._episode_num == 10
    assert [m.episode for m in moments_in(tmp_path)] == [0, 1, 4]


def test_a_damaged_moment_is_left_out_with_a_warning(tmp_path: pathlib.Path) -> None:
    learn(tmp_path, n=10)
    file = tmp_path / "recording/moments.bin"
    whole, content = moments_in(tmp_path), bytearray(file.read_bytes())
    content[len(content) // 5] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="a damaged moment is left out: its checksum is wrong"):
        moments = {moment.step: moment for moment in moments_in(tmp_path)}
    assert len(moments) == len(whole) - 1
    assert all(same(moment, moments[moment.step]) for moment in whole if moment.step in moments)


@pytest.mark.parametrize(
    "described", [[], {"version": 1, "removed": 5, "step": 1}, {"version": 1, "episode": 1, "why": []}]
)
def test_a_record_that_nobody_has_written_is_left_out(tmp_path: pathlib.Path, described: Any) -> None:
    learn(tmp_path, n=2)
    whole = moments_in(tmp_path)
    RecordFile(tmp_path / "recording/moments.bin").append(described, None, {})
    with pytest.warns(UserWarning, match="a damaged moment is left out"):
        assert len(moments_in(tmp_path)) == len(whole)
    Recording(tmp_path / "recording").go_on(1e9)


def test_what_cannot_be_recorded_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="LectureDQN and LectureQRDQN, not DQN"):
        DQN("MlpPolicy", "FrozenLake-v1").learn(5, callback=LecturePageCallback(tmp_path))
    with pytest.raises(NotTabularError, match="tabular environments only: CartPoleEnv"):
        LectureDQN("MlpPolicy", "CartPole-v1").learn(5, callback=LecturePageCallback(tmp_path))
    with pytest.raises(ValueError, match="logs to no folder: set save_path"):
        LectureDQN(**LAKE).learn(5, callback=LecturePageCallback())
    with pytest.raises(ValueError, match="test_freq"):
        LecturePageCallback(tmp_path, test_freq=0)
    assert not (tmp_path / "recording").exists()


def test_nothing_is_warned_of(tmp_path: pathlib.Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn(tmp_path, n=3)
