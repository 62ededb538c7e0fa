"""The test during training, what it logs and triggers, and the progress bar over episodes."""

import dataclasses
import gc
import re
import time

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from sb3_lecture_dqn import (
    EpisodeProgressBarCallback,
    LectureCheckpointCallback,
    LectureDQN,
    LectureTestCallback,
    exact_test,
    run_test,
)
from sb3_lecture_dqn.training.callbacks import StepProgressBarCallback
from sb3_lecture_dqn.training.goal import MAX_BUDGETS
from tests.pairs import every


def taxi(**kwargs):
    """The lecture's run with episodes that are cut early."""
    return LectureDQN("Taxi-v3", **{"max_episode_steps": 3, "seed": 0, "gradient_steps": 1, **kwargs})


def quick_test(**kwargs):
    return LectureTestCallback(**{"n_test_episodes": 2, "max_episode_steps": 4, "verbose": 0, **kwargs})


def episodes_tested(callback):
    return [n_episodes for n_episodes, _ in callback.results]


# When


def test_there_is_a_test_after_the_first_and_every_50th_episode():
    test = quick_test()
    taxi(gradient_steps=0).learn(total_episodes=151, callback=test)
    assert episodes_tested(test) == [1, 50, 100, 150]


def test_results_are_kept_by_the_names_of_their_figures():
    test = quick_test(test_freq=(2, "episode"))
    taxi().learn(total_episodes=4, callback=test)
    kept = test.get_state()
    assert [entry[0] for entry in kept["results"]] == [1, 2, 4]
    kept["results"] = [[episode, dict(reversed(figures.items()))] for episode, figures in kept["results"]]
    other = quick_test()
    other.set_state(kept)
    assert other.results == test.results
    assert [vars(one) for _, one in other.results] == [vars(one) for _, one in test.results]


def test_a_figure_that_an_older_version_did_not_compute_is_nan_and_an_unknown_one_is_refused(monkeypatch):
    test = quick_test()
    taxi().learn(total_episodes=1, callback=test)
    kept = test.get_state()
    kind = type(test.results[0][1])
    later = dataclasses.make_dataclass("Later", [("median", float)], bases=(kind,), frozen=True, kw_only=True)
    monkeypatch.setattr("sb3_lecture_dqn.training.callbacks.TestResult", later)
    test.set_state(kept)
    assert np.isnan(test.results[0][1].median)
    assert test.results[0][1].n_episodes == 2
    test.results = [(1, later(**{**vars(test.results[0][1]), "median": 3.0}))]
    kept = test.get_state()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="median: this version does not know these figures of a test"):
        test.set_state(kept)


@pytest.mark.parametrize("figure", [np.nan, -np.inf, np.float32(np.nan)])
def test_every_figure_of_a_test_is_taken_back(figure):
    test = quick_test()
    taxi().learn(total_episodes=1, callback=test)
    test.results = [(1, dataclasses.replace(test.results[0][1], mean_reward=figure, success_rate=figure))]
    test.best_mean_reward = test.last_mean_reward = figure
    other = quick_test()
    other.set_state(test.get_state())
    for name in ("results", "best_mean_reward", "last_mean_reward"):
        assert repr(getattr(other, name)) == repr(getattr(test, name))


@pytest.mark.parametrize("wrong", [[["x", {}]], [[1, "text"]], [[1, {"mean_steps": "1"}]], [[1, 2.0]], [[1, {"n": 1}]]])
def test_what_is_no_result_is_refused(wrong):
    test = quick_test()
    before = repr(test.get_state())
    with pytest.raises((ValueError, TypeError)):
        test.set_state({**test.get_state(), "results": wrong})
    assert repr(test.get_state()) == before


def test_the_test_of_the_last_episode_is_not_left_out():
    test = quick_test(test_freq=(4, "episode"))
    taxi().learn(total_episodes=8, callback=test)
    assert episodes_tested(test) == [1, 4, 8]


def test_an_integer_frequency_counts_environment_steps():
    test = quick_test(test_freq=10)
    steps = []
    test.callback = At(lambda child: steps.append(child.model.num_timesteps), parent=test)
    taxi().learn(total_timesteps=35, callback=test)
    assert steps == [10, 20, 30]
    assert episodes_tested(test) == [3, 6, 10]


class At(BaseCallback):
    """A child callback that calls a function when it is triggered."""

    def __init__(self, function, parent=None):
        super().__init__()
        self.function = function
        self.parent = parent

    def _on_step(self):
        return self.function(self) is not False


@pytest.mark.parametrize("double_dqn", [True, False])
def test_the_test_comes_after_the_updates_of_the_episodes_last_step_and_after_the_target_copy(double_dqn):
    model = taxi(target_update_interval=(2, "episode"), gradient_steps=5, double_dqn=double_dqn)
    seen = []

    def look(child):
        equal = all(map(th.equal, model.q_net.state_dict().values(), model.q_net_target.state_dict().values()))
        seen.append((model.num_timesteps, model._n_updates, equal))

    model.learn(total_episodes=4, callback=quick_test(test_freq=(1, "episode"), callback_after_test=At(look)))
    copied = [not double_dqn, True, not double_dqn, True]
    assert seen == [(3 * i, 15 * i, copied[i - 1]) for i in range(1, 5)]


def test_several_environments_are_tested_when_together_they_pass_the_frequency():
    model = LectureDQN(make_vec_env("Taxi-v3", 4, env_kwargs={"max_episode_steps": 3}), gradient_steps=0, seed=0)
    test = quick_test(test_freq=(6, "episode"), test_env="Taxi-v3")
    model.learn(total_episodes=24, callback=test)
    assert episodes_tested(test) == [4, 8, 12, 20, 24]


def test_continued_training_goes_on_counting_and_does_not_test_after_its_first_episode_again():
    test, model = quick_test(test_freq=(5, "episode")), taxi()
    model.learn(total_episodes=4, callback=test)
    model.learn(total_episodes=7, callback=test, reset_num_timesteps=False)
    assert episodes_tested(test) == [1, 5, 10]


def test_training_anew_tests_anew():
    test, model = quick_test(test_freq=(5, "episode")), taxi()
    model.learn(total_episodes=6, callback=test)
    model.learn(total_episodes=6, callback=test)
    assert episodes_tested(test) == [1, 5, 1, 5]


# What


def test_the_test_is_that_of_run_test_and_a_seeded_one_starts_alike():
    results = []
    test = quick_test(test_freq=(3, "episode"), n_test_episodes=5, max_episode_steps=30, seed=7)

    def compare(child):
        if len(test.results) == 1:
            results.append(run_test(child.model, n_episodes=5, max_episode_steps=30, seed=7))

    test.callback_on_new_best = At(compare, parent=test)
    taxi().learn(total_episodes=3, callback=test)
    assert results == [test.results[0][1]]


def test_test_episodes_can_be_as_long_as_those_of_the_training():
    test = LectureTestCallback(n_test_episodes=2, max_episode_steps=None, verbose=0)
    taxi().learn(total_episodes=1, callback=test)
    assert test.results[0][1].mean_steps == 3


def test_a_callback_of_two_models_tests_each_on_an_environment_like_its_own():
    test, closed = quick_test(exact=True), []
    for is_slippery in (True, False):
        env = gym.make("FrozenLake-v1", is_slippery=is_slippery)
        model = LectureDQN("TablePolicy", env, gradient_steps=0, seed=0)  # goes to the left for ever
        model.learn(total_episodes=1, callback=test)
        assert test.results[-1][1] == exact_test(model, max_episode_steps=4)
        made = test.test_env
        model.learn(total_episodes=1, callback=test)
        assert test.test_env is made
        made.close = lambda: closed.append(True)
    assert test.results[0] != test.results[-1]
    assert closed == [True]


def test_an_environment_that_was_given_serves_two_models_and_stays_open():
    env = make_vec_env("Taxi-v3")
    env.close = lambda: pytest.fail("it was closed")
    test = quick_test(test_env=env)
    for _ in range(2):
        taxi().learn(total_episodes=1, callback=test)
    assert episodes_tested(test) == [1, 1]


def test_the_models_seed_makes_the_tests_reproducible():
    def run():
        test = quick_test(test_freq=(2, "episode"), n_test_episodes=12, max_episode_steps=10)
        taxi(max_episode_steps=10).learn(total_episodes=6, callback=test)
        return test.results

    assert run() == run()


def test_testing_does_not_change_the_training():
    def weights(callback):
        model = taxi(gradient_steps=5).learn(total_episodes=12, callback=callback)
        return model.q_net.state_dict()

    alone, tested = weights(None), weights(quick_test(test_freq=(1, "episode")))
    assert all(th.equal(alone[name], tested[name]) for name in alone)


def test_the_test_is_printed_unless_asked_not_to(capsys):
    taxi().learn(total_episodes=1, callback=quick_test(verbose=1))
    printed = capsys.readouterr()
    line = r"Episode 1, step 3: 2 test episodes: 4\.00 steps, \d\.\d\d penalties, -\d+\.\d\d reward, 0\.0% solved"
    assert re.search(line, printed.out + printed.err)
    taxi().learn(total_episodes=1, callback=quick_test(verbose=0))
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


# Logs


def scalars(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_the_event_files_hold_the_lectures_scalars_by_episode_and_sb3s_by_timestep(tmp_path):
    test = quick_test(n_test_episodes=3, max_episode_steps=6)
    taxi(tensorboard_log=str(tmp_path)).learn(total_episodes=101, callback=test)
    (folder,) = tmp_path.iterdir()
    logged = scalars(folder)

    def figures(name):
        return [pytest.approx(getattr(result, name)) for _, result in test.results]

    episodes, steps = [1, 50, 100], [3, 150, 300]
    for tag, name in [("Steps", "mean_steps"), ("Penalty", "mean_penalties"), ("Reward", "mean_reward")]:
        assert logged[tag] == list(zip(episodes, figures(name), strict=True)), tag
    for tag, name in [
        ("eval/mean_reward", "mean_reward"),
        ("eval/mean_ep_length", "mean_steps"),
        ("eval/mean_penalties", "mean_penalties"),
        ("eval/success_rate", "success_rate"),
        ("eval/optimality", "optimality"),
    ]:
        assert logged[tag] == list(zip(steps, figures(name), strict=True)), tag
    assert "time/total_timesteps" not in logged
    # The training's own scalars stay, at its timesteps.
    assert "rollout/exploration_rate" in logged
    assert {step % 3 for step, _ in logged["rollout/ep_rew_mean"]} == {0}


def test_without_tensorboard_there_is_nothing_to_write():
    test = quick_test()
    model = taxi().learn(total_episodes=1, callback=test)
    assert episodes_tested(test) == [1]
    assert model.logger.output_formats == []


# Best model and children


def script_table(model, good):
    """Let a Q-table always pick up, which is a penalty nearly everywhere, or never."""
    table = model.q_net.layers[0].weight.data
    table.zero_()
    table[:, 4] = -1.0 if good else 1.0


def test_the_best_model_is_kept_and_children_are_told_of_it(tmp_path):
    model = LectureDQN("TablePolicy", "Taxi-v3", max_episode_steps=2, gradient_steps=0, seed=0)
    script = iter([False, True, False, True])
    new_best, after_test = [], []
    test = quick_test(
        test_freq=(1, "episode"),
        best_model_save_path=str(tmp_path / "a" / "b"),
        callback_on_new_best=At(lambda child: new_best.append(child.parent.n_episodes)),
        callback_after_test=At(
            lambda child: after_test.append((child.parent.n_episodes, child.parent.last_mean_reward))
        ),
    )

    class ChangeTable(BaseCallback):
        def _on_step(self):
            if self.locals["dones"][0]:
                script_table(self.model, good=next(script))
            return True

    model.learn(total_episodes=4, callback=[ChangeTable(), test])
    assert new_best == [1, 2]
    assert [n for n, _ in after_test] == [1, 2, 3, 4]
    rewards = [reward for _, reward in after_test]
    assert rewards[0] < rewards[1] == -4
    assert rewards[2] < -4
    assert test.best_mean_reward == -4
    best = LectureDQN.load(tmp_path / "a" / "b" / "best_model")
    assert (best.q_net.layers[0].weight[:, 4] == -1).all()


def test_children_are_initialised_and_see_the_local_variables_of_the_training():
    seen = []

    def look(child):
        seen.append((child.model.num_timesteps, "dones" in child.locals, child.num_timesteps))

    test = quick_test(callback_on_new_best=At(look), callback_after_test=At(look))
    taxi().learn(total_episodes=1, callback=test)
    assert seen == [(3, True, 3)] * 2


@pytest.mark.parametrize("child", ["callback_on_new_best", "callback_after_test"])
def test_a_child_ends_the_training(child):
    test = quick_test(test_freq=(2, "episode"), **{child: At(lambda callback: False)})
    model = taxi().learn(total_episodes=30, callback=test)
    assert episodes_tested(test) == [1]
    assert model.num_timesteps == 4  # the step after the test


def test_sb3s_reward_threshold_and_its_opposite_work_as_children():
    threshold = StopTrainingOnRewardThreshold(reward_threshold=-1000)
    model = taxi().learn(total_episodes=30, callback=quick_test(callback_on_new_best=threshold))
    assert model._episode_num == 1
    threshold = StopTrainingOnRewardThreshold(reward_threshold=1000)
    model = taxi().learn(total_episodes=6, callback=quick_test(callback_on_new_best=threshold))
    assert model._episode_num == 6
    patience = StopTrainingOnNoModelImprovement(max_no_improvement_evals=2)
    test = quick_test(callback_after_test=patience, test_freq=(1, "episode"))
    table = LectureDQN("TablePolicy", "Taxi-v3", max_episode_steps=2, gradient_steps=0, seed=0)
    table.learn(total_episodes=30, callback=test)
    assert episodes_tested(test) == [1, 2, 3, 4]


def test_a_callback_that_ended_one_training_does_not_end_the_next_at_once():
    answers = iter([False, True, True])
    test = quick_test(callback_after_test=At(lambda child: next(answers)), test_freq=(2, "episode"))
    model = taxi()
    model.learn(total_episodes=5, callback=test)
    model.learn(total_episodes=3, callback=test)
    assert model._episode_num == 3


# Other algorithms


SMALL = {
    "dqn": lambda env: DQN("MlpPolicy", env, learning_starts=10, buffer_size=500, seed=0),
    "qrdqn": lambda env: QRDQN(
        "MlpPolicy",
        env,
        learning_starts=10,
        buffer_size=500,
        seed=0,
        policy_kwargs={"n_quantiles": 5, "net_arch": [16]},
    ),
    "ppo": lambda env: PPO("MlpPolicy", env, n_steps=128, batch_size=32, n_epochs=1, seed=0),
}


@pytest.mark.parametrize(("name", "test_env"), every(2, SMALL, [None, "CartPole-v1"]))
def test_the_test_works_with_other_algorithms_of_sb3(name, test_env, tmp_path):
    model = SMALL[name]("CartPole-v1")
    model.tensorboard_log = str(tmp_path)
    test = quick_test(test_env=test_env, test_freq=(3, "episode"), n_test_episodes=3, max_episode_steps=50)
    model.learn(256, callback=test)
    assert len(test.results) >= 2
    if name != "ppo":
        assert episodes_tested(test) == [1, *range(3, model._episode_num + 1, 3)]
    assert all(result.mean_steps == result.mean_reward > 5 for _, result in test.results)
    (folder,) = tmp_path.iterdir()
    assert [step for step, _ in scalars(folder)["Steps"]] == episodes_tested(test)


def test_with_long_rollouts_there_is_one_test_for_all_episodes_of_a_rollout():
    """PPO learns after 128 steps: a test within them would test the same network again."""
    model, test = SMALL["ppo"]("CartPole-v1"), quick_test(test_env="CartPole-v1", test_freq=(1, "episode"))
    ended = []
    count = At(lambda child: ended.append(int(child.locals["dones"].sum())))
    model.learn(256, callback=[count, test])
    totals = np.cumsum(ended)[[127, 255]].tolist()
    assert episodes_tested(test) == totals
    assert totals[0] > 1


def test_a_test_environment_of_any_kind_is_taken():
    for test_env in ("CartPole-v1", gym.make("CartPole-v1"), make_vec_env("CartPole-v1", 2)):
        test = quick_test(test_env=test_env)
        LectureDQN("MlpPolicy", "CartPole-v1", seed=0, gradient_steps=0).learn(total_episodes=1, callback=test)
        assert episodes_tested(test) == [1]


def test_vecnormalize_is_synchronised_at_every_test():
    train = VecNormalize(make_vec_env("CartPole-v1", seed=0))
    model = LectureDQN("MlpPolicy", train, seed=0)
    means = []
    test = quick_test(test_env="CartPole-v1", test_freq=(2, "episode"))
    test.callback = At(
        lambda child: means.append((child.parent.test_env.obs_rms.mean.copy(), train.obs_rms.mean.copy())), parent=test
    )
    model.learn(total_episodes=4, callback=test)
    assert len(means) == 3
    for own, trained in means:
        assert np.array_equal(own, trained)
    assert not np.array_equal(means[0][0], means[1][0])


# Progress bar


def bar_text(capsys):
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_the_bar_counts_episodes_if_the_budget_is_in_episodes(capsys):
    taxi().learn(total_episodes=7, progress_bar=True)
    text = bar_text(capsys)
    assert "7/7" in text
    assert "episode" in text


def test_the_bar_counts_timesteps_if_the_budget_is_in_timesteps(capsys):
    taxi().learn(total_timesteps=23, progress_bar=True)
    text = bar_text(capsys)
    assert "23/23" in text
    assert "episode" not in text


def test_the_bar_goes_on_where_a_continued_training_does(capsys):
    model = taxi().learn(total_episodes=3)
    model.learn(total_episodes=4, reset_num_timesteps=False, progress_bar=True)
    assert "7/7" in bar_text(capsys)


@pytest.mark.parametrize(
    "callback",
    [
        None,
        lambda locals_, globals_: True,
        quick_test(),
        [quick_test(), quick_test()],
        [quick_test(), lambda locals_, globals_: True],
        CallbackList([quick_test()]),
    ],
    ids=["none", "function", "object", "list", "list with a function", "CallbackList"],
)
def test_the_bar_goes_with_every_kind_of_callback(callback, capsys):
    taxi().learn(total_episodes=2, callback=callback, progress_bar=True)
    assert "2/2" in bar_text(capsys)


def test_the_bar_is_closed_when_a_callback_ends_the_training(capsys):
    model = taxi()
    bar = EpisodeProgressBarCallback()
    model.learn(total_episodes=9, callback=[bar, At(lambda callback: callback.num_timesteps < 4)])
    assert bar.bar.disable  # what tqdm sets on closing
    assert "1/9" in bar_text(capsys)


@pytest.mark.parametrize("name", SMALL)
def test_the_bar_counts_the_episodes_of_stock_algorithms(name, capsys):
    bar, ended = EpisodeProgressBarCallback(), []
    count = At(lambda child: ended.append(int(child.locals["dones"].sum())))
    SMALL[name]("CartPole-v1").learn(100, callback=[bar, count])
    assert bar.bar.n == sum(ended) > 0
    assert "episode" in bar_text(capsys)


def test_the_bar_counts_the_episodes_of_all_environments(capsys):
    env = make_vec_env("Taxi-v3", 4, env_kwargs={"max_episode_steps": 3})
    LectureDQN(env, gradient_steps=0, seed=0).learn(total_episodes=8, progress_bar=True)
    assert "8/8" in bar_text(capsys)


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_the_bar_of_a_budget_in_steps_counts_steps(engine, capsys):
    model = LectureDQN("Taxi-v3", seed=0, engine=engine, gradient_steps=0)
    model.learn(40, progress_bar=True)
    text = bar_text(capsys)
    assert "40/40" in text
    assert "step" in text
    model.learn(10, progress_bar=True, reset_num_timesteps=False)
    assert "50/50" in bar_text(capsys)


def test_the_bar_grows_with_a_budget_that_a_goal_extends(capsys):
    model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0, gradient_steps=0)
    model._default_timesteps = 80
    model.learn(progress_bar=True)
    assert model.num_timesteps == 80 * MAX_BUDGETS
    assert f"{80 * MAX_BUDGETS}/{80 * MAX_BUDGETS}" in bar_text(capsys)


@pytest.mark.parametrize("budget", [{"total_episodes": 9}, {"total_timesteps": 900}])
def test_the_bar_is_closed_when_an_error_ends_the_training(budget, capsys):
    """Else tqdm draws it again under whatever is printed later."""

    class Stop(BaseCallback):
        def _on_step(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taxi().learn(**budget, callback=Stop(), progress_bar=True)
    assert bar_text(capsys)
    tqdm.write("later")
    gc.collect()
    out, err = capsys.readouterr()
    assert (out, err) == ("later\n", "")


def test_each_call_of_learn_ends_with_a_test():
    """Also if its episodes, which are counted anew, are fewer than those of a call before."""
    tests, model = LectureTestCallback(test_freq=5000, exact=True, verbose=0, test_at_end=True), taxi()
    for n in (4, 2, 4):
        model.learn(total_episodes=n, callback=tests)
    model.learn(total_episodes=1, callback=tests, reset_num_timesteps=False)
    assert [episode for episode, _ in tests.results] == [4, 2, 4, 5]


# Checkpoints, more of which is in test_checkpoint.py


def test_a_checkpoint_callback_knows_the_timestep(tmp_path):
    saves, seen = LectureCheckpointCallback(save_path=tmp_path), []
    look = At(lambda child: seen.append((saves.num_timesteps, saves.n_calls)))
    taxi().learn(total_episodes=2, callback=[saves, look])
    assert seen == [(step, step) for step in range(1, 7)]


@pytest.mark.parametrize(
    ("make_bar", "budget"),
    [(EpisodeProgressBarCallback, "total_episodes"), (StepProgressBarCallback, "total_timesteps")],
)
def test_the_time_left_does_not_count_the_wait_for_the_compiler(make_bar, budget):
    class Wait(BaseCallback):
        """Takes as long as a compilation, after the bar has begun."""

        def _on_training_start(self):
            time.sleep(0.5)

        def _on_step(self):
            return True

    bar = make_bar()
    began = time.perf_counter()
    taxi().learn(callback=[bar, Wait()], **{budget: 20})
    assert bar.bar.n == 20
    assert bar.bar.format_dict["elapsed"] < time.perf_counter() - began - 0.45
