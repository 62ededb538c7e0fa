"""Training by compiled stretches is training step by step, bit by bit, wherever the stretches are cut."""

import copy
import math
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import event, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from sb3_lecture_dqn import LectureDQN, TabularVecEnv
from sb3_lecture_dqn.training.compiled_loop import CompiledLoop, Limits
from sb3_lecture_dqn.training.stretches import Stretches
from tests.pairs import every
from tests.training.two_loops import (
    AT_BEGINNING,
    CHANGES,
    CHANGES_OF_LOCALS,
    Case,
    Table,
    bits,
    compare,
    differences,
    env_of,
    model_of,
    state_of,
)

STOCK_TABLES = ("Taxi-v3", "FrozenLake-v1", "CliffWalking-v1")
HUGE = "huge"
CHANGES_IN_TESTS = [change for change in CHANGES if change not in AT_BEGINNING]

tables = st.sampled_from(STOCK_TABLES) | st.builds(
    Table,
    seed=st.integers(0, 999),
    n_states=st.integers(1, 20),
    n_actions=st.integers(1, 7) | st.sampled_from([63, 64, 65, 130]),
    n_outcomes=st.integers(1, 4),
    rewards=st.sampled_from(["few", "few", "odd", "odd", HUGE]),
    has_masks=st.booleans(),
    share_of_ends=st.sampled_from([0.0, 0.02, 0.2, 1.0]),
)
rates = st.sampled_from([1e-3, 1e-2, 0.3]) | st.builds(
    LinearSchedule, st.sampled_from([1e-2, 1e-3]), st.sampled_from([0.0, 1e-4]), st.sampled_from([0.1, 0.5, 1.0])
)
intervals = st.integers(5, 40) | st.tuples(st.integers(5, 40), st.just("step")) | st.tuples(
    st.integers(1, 6), st.just("episode")
)  # fmt: skip
optimizers: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"optimizer_kwargs": {"momentum": 0.9}},
    "adam": {"optimizer_class": th.optim.Adam},
    "adam, other betas": {"optimizer_class": th.optim.Adam, "optimizer_kwargs": {"betas": (0.5, 0.9), "eps": 1e-3}},
}


@st.composite
def memories(draw) -> dict[str, Any]:
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "success_fraction": st.sampled_from([0.0, 0.1, 0.5, 0.77, 1.0]),
                "deduplicate": st.booleans(),
                "success_capacity": st.sampled_from([None, 1, 3, 20, math.inf]),
                "success_criterion": st.sampled_from(["terminal", "positive_reward", "is_success"]),
                "handle_timeout_termination": st.booleans(),
                "seed": st.integers(0, 9),
            },
        )
    )


@st.composite
def callbacks(draw, masked: bool, has_limit: bool) -> list[tuple[Any, ...]]:
    calls = st.dictionaries(
        st.integers(1, 150), st.sampled_from([*CHANGES, *CHANGES_OF_LOCALS, "stop", "raise"]), min_size=1, max_size=5
    )
    in_tests = st.dictionaries(st.integers(1, 4), st.sampled_from([*CHANGES_IN_TESTS, "stop"]), max_size=3)
    kinds = [
        st.tuples(st.just("sometimes"), calls),
        st.tuples(st.just("sometimes"), calls),
        st.tuples(st.just("always"), calls),
        st.tuples(st.just("log"), st.integers(1, 200)),
        st.tuples(st.just("bar")),
        st.tuples(st.just("bar of episodes")),
        st.tuples(st.just("every"), st.integers(1, 120)),
        st.tuples(st.just("max episodes"), st.integers(1, 20)),
        st.tuples(st.just("checkpoints"), (st.integers(40, 300) | st.tuples(st.integers(5, 20), st.just("episode")))),
        st.tuples(st.just("stock checkpoints"), st.integers(40, 300)),
    ]
    if has_limit:
        evaluation = st.tuples(
            st.just("maskable eval" if masked else "eval"),
            st.integers(10, 200),
            st.integers(1, 2),
            st.booleans(),
            st.booleans(),
        )
        every = st.integers(1, 200) | st.tuples(st.integers(2, 20), st.just("episode"))
        kinds += [
            evaluation,
            st.tuples(st.just("test"), every, st.integers(1, 3), st.booleans(), st.just({}) | in_tests),
        ]
    drawn = draw(st.lists(st.one_of(kinds), max_size=4, unique_by=lambda described: described[0]))
    if len(drawn) > 1 and draw(st.booleans()):
        return [("list", *drawn[1:]), drawn[0]]
    return drawn


@st.composite
def cases(draw) -> Case:
    table = draw(tables)
    n_envs = draw(st.integers(1, 5))
    limit = draw(st.integers(1, 40) | st.just(None) if table != "CliffWalking-v1" else st.integers(1, 40))
    if table in ("Taxi-v3", "FrozenLake-v1"):
        limit = limit or 60
    masked = draw(st.booleans()) and (table == "Taxi-v3" or (isinstance(table, Table) and table.has_masks))
    policy = draw(st.sampled_from(["LecturePolicy", "LecturePolicy", "TablePolicy", "ActionInPolicy"]))
    n_actions = table.n_actions if isinstance(table, Table) else 6
    width = {} if policy == "TablePolicy" else {"hidden_dim": draw(st.integers(1, 40 if n_actions < 10 else 9))}
    double_dqn = draw(st.booleans())
    train_freq = draw(st.sampled_from([1, 1, 1, 2, 3, 12]))
    by_episode = n_envs == 1 and limit is not None and draw(st.booleans())
    kwargs = {
        "seed": draw(st.integers(0, 99)),
        "policy_kwargs": {**optimizers[draw(st.sampled_from([*optimizers]))], **width},
        "learning_rate": draw(rates),
        "max_grad_norm": draw(st.sampled_from([None, None, 0.1, 10.0])),
        "loss": draw(st.sampled_from(["mse", "huber"])),
        "gamma": draw(st.sampled_from([0.0, 0.75, 0.99, 1.0])),
        "double_dqn": double_dqn,
        "double_q": double_dqn and draw(st.booleans()),
        "tau": draw(st.sampled_from([1.0, 0.2])),
        "target_update_interval": draw(intervals),
        "train_freq": (min(train_freq, 4), "episode") if by_episode else train_freq,
        "gradient_steps": draw(st.sampled_from([1, 5, -1, 0, 70])),
        "batch_size": draw(st.sampled_from([1, 1, 2, 8, 33])),
        "learning_starts": draw(st.sampled_from([0, 0, 10, 150])),
        "exploration_decay": draw(st.sampled_from([None, 0.9, 0.99])),
        "exploration_initial_eps": draw(st.sampled_from([1.0, 0.5])),
        "exploration_final_eps": draw(st.sampled_from([0.05, 0.2])),
        "exploration_fraction": draw(st.sampled_from([0.1, 0.5, 1.0])),
        "explore_least_tried": draw(st.sampled_from([False, True, "anywhere"])),
        "use_masking": masked,
        "buffer_size": draw(st.sampled_from([1, 7, 60, 10_000])),
        "store_and_replay": draw(st.sampled_from([True, True, True, False])),
        "replay_buffer_kwargs": draw(memories()),
    }
    learns = []
    for is_first in (True, False)[: draw(st.integers(1, 2))]:
        kind = "total_episodes" if limit is not None and draw(st.booleans()) else "total_timesteps"
        most = min(40, 800 // limit) if kind == "total_episodes" and limit is not None else 600
        learns.append({kind: draw(st.integers(1, most)), "log_interval": draw(st.sampled_from([1, 2, 5, 1000, None]))})
        if not is_first:
            learns[-1]["reset_num_timesteps"] = draw(st.booleans())
    chosen = draw(callbacks(masked, limit is not None))
    if "checkpoints" in str(chosen):
        for kwargs_of_learn in learns[1:]:
            kwargs_of_learn["reset_num_timesteps"] = False
    cuts = draw(st.none() | st.tuples(st.integers(0, 99), st.sampled_from([1, 3, 20])))
    logs = draw(st.sampled_from(["json", "json", "json", "json", "tensorboard"]))
    if logs == "tensorboard" and draw(st.integers(0, 9)) == 9:
        chosen.append(("tensorboard", draw(st.integers(50, 300))))
    return Case(table, n_envs, limit, policy, kwargs, learns, chosen, cuts, logs)


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        n_stretches = compare(case, Path(folder))
    event("stretches" if n_stretches else "no stretches")


@settings(max_examples=12)
@given(cases())
def test_stretches_come_to_what_steps_come_to(case):
    check(case)


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("STRETCHES_EXAMPLES", "2000")))
@given(cases())
def test_stretches_come_to_what_steps_come_to_often(case):
    check(case)


# Every part by itself

LAKE: dict[str, Any] = {
    "seed": 0,
    "policy_kwargs": {"hidden_dim": 6, "optimizer_class": th.optim.Adam},
    "train_freq": 2,
    "gradient_steps": 2,
    "batch_size": 4,
    "target_update_interval": (3, "episode"),
    "exploration_decay": 0.95,
}


def lake(n_envs: int = 2, **kwargs: Any) -> Case:
    settings_of_case = kwargs.pop("settings", {})
    case = Case("FrozenLake-v1", n_envs, 9, "LecturePolicy", LAKE | settings_of_case, [{"total_timesteps": 300}])
    return case._replace(**kwargs)


ENDING = Table(5, 9, 4, 3, "odd", True, 0.3)
LARGE = Table(6, 12, 130, 2, "few", True, 0.1)
ONE_WORD = Table(8, 10, 64, 2, "few", True, 0.2)  # of masks
MORE_THAN_A_SWEEP = Table(9, 1300, 2, 2, "few", False, 0.1)  # of the ways to untried actions
ONLY_SUCCESSES = Table(7, 6, 3, 2, "few", False, 1.0)
MIXED = {"success_fraction": 0.3, "deduplicate": False}
ADAM = {"optimizer_class": th.optim.Adam, "hidden_dim": 6}
LINEAR = {"exploration_decay": None, "learning_rate": LinearSchedule(1e-2, 1e-4, 0.6), "exploration_fraction": 0.4}


SETTINGS = [
    ("Taxi-v3", "LecturePolicy", {"use_masking": True, "explore_least_tried": True}),
    ("Taxi-v3", "LecturePolicy", {"use_masking": True, "explore_least_tried": "anywhere"}),
    (ENDING, "TablePolicy", {"policy_kwargs": {}, "explore_least_tried": "anywhere"}),
    (MORE_THAN_A_SWEEP, "TablePolicy", {"policy_kwargs": {}, "explore_least_tried": "anywhere"}),
    ("Taxi-v3", "LecturePolicy", {"store_and_replay": False, "use_masking": True, "batch_size": 1}),
    ("FrozenLake-v1", "TablePolicy", {"policy_kwargs": {}, "explore_least_tried": True}),
    ("CliffWalking-v1", "ActionInPolicy", {"gradient_steps": -1, "batch_size": 1, "max_grad_norm": 0.1}),
    (ENDING, "LecturePolicy", {"replay_buffer_kwargs": MIXED, "batch_size": 7}),
    (ENDING, "LecturePolicy", {"replay_buffer_kwargs": {**MIXED, "success_capacity": 5}, "buffer_size": 9}),
    (ENDING, "LecturePolicy", {"replay_buffer_kwargs": {**MIXED, "success_capacity": None}, "buffer_size": 40}),
    (ENDING, "LecturePolicy", {"replay_buffer_kwargs": {"success_capacity": None}, "buffer_size": 12}),
    (ENDING, "LecturePolicy", {"replay_buffer_kwargs": {"success_criterion": "positive_reward"}}),
    (ENDING, "LecturePolicy", {"replay_buffer_kwargs": {"success_criterion": "is_success"}, "buffer_size": 9}),
    (ENDING, "LecturePolicy", {"replay_buffer_kwargs": {"handle_timeout_termination": False}}),
    (ENDING, "ActionInPolicy", {"policy_kwargs": ADAM, "double_q": True, "loss": "huber", "tau": 0.3}),
    (ENDING, "ActionInPolicy", {**LINEAR, "double_dqn": False, "max_grad_norm": 1.0}),
    (ENDING, "TablePolicy", {"policy_kwargs": {"optimizer_kwargs": {"momentum": 0.9}}, "tau": 0.3}),
    (ENDING, "TablePolicy", {"policy_kwargs": {}, "target_update_interval": 7, "batch_size": 1, "train_freq": 3}),
    (ENDING, "TablePolicy", {"policy_kwargs": {}, "learning_starts": 200, **LINEAR}),
    (ENDING, "TablePolicy", {"policy_kwargs": {}, "train_freq": 12, **LINEAR}),
    (LARGE, "LecturePolicy", {"use_masking": True, "policy_kwargs": ADAM}),
    (ONE_WORD, "LecturePolicy", {"use_masking": True}),
    (ONLY_SUCCESSES, "LecturePolicy", {"replay_buffer_kwargs": MIXED, "batch_size": 7}),
    (LARGE, "TablePolicy", {"use_masking": True, "explore_least_tried": True, "policy_kwargs": {}, **LINEAR}),
]


@pytest.mark.parametrize(("table", "policy", "kwargs", "n_envs", "cuts"), every(2, SETTINGS, [(1, None), (3, (0, 40))]))
def test_every_setting(table, policy, kwargs, n_envs, cuts, tmp_path):
    learns = [{"total_timesteps": 900, "log_interval": 3}, {"total_episodes": 9, "reset_num_timesteps": False}]
    plain = {"policy_kwargs": {"hidden_dim": 5}, "train_freq": 1, "replay_buffer_kwargs": {"success_fraction": 0.5}}
    case = lake(n_envs, table=table, policy=policy, settings={**plain, **kwargs}, learns=learns, cuts=cuts)
    assert compare(case, tmp_path) > 0


@pytest.mark.parametrize(("deduplicate", "n_envs"), every(2, [True, False], [1, 5]))
def test_the_memory_grows_in_stretches_and_between_them(deduplicate, n_envs, tmp_path):
    kwargs = {
        "policy_kwargs": {"hidden_dim": 1},
        "gradient_steps": 1,
        "train_freq": 1,
        "exploration_decay": 1.0,  # so that many transitions are met
        "buffer_size": 30_000,
        "replay_buffer_kwargs": {"deduplicate": deduplicate, "success_criterion": "positive_reward"},
    }
    table = Table(0, 200, 9, 3, "few", False, 0.1)
    case = lake(n_envs, table=table, settings=kwargs, learns=[{"total_timesteps": 4000 * n_envs, "log_interval": None}])
    for name, cuts in (("long", (0, 3000)), ("short", (1, 300))):
        assert compare(case._replace(cuts=cuts), tmp_path / name) > 0


def changed_by_a_callback(tmp_path: Path, name: str, callback: tuple[Any, ...], train_freq: int) -> None:
    masks = name != "explore_least_tried"
    settings_of_case = {
        "use_masking": masks,
        "exploration_decay": None if "schedule" in name else 0.9,
        "train_freq": train_freq,
    }
    table = Table(3, 7, 5, 3, "odd", masks, 0.1)
    case = lake(table=table, settings=settings_of_case, callbacks=[callback], policy="ActionInPolicy")
    assert compare(case._replace(learns=[{"total_timesteps": 180}]), tmp_path) > 0


# Changes are seen in the last call, and come in the middle of a rollout and at its end.
CALLS = (20, 41, 80)


@pytest.mark.parametrize("name", [*CHANGES, *CHANGES_OF_LOCALS])
def test_what_a_callback_changes_is_followed(name, tmp_path):
    changed_by_a_callback(tmp_path, name, ("sometimes", dict(zip(CALLS, (name, name, "nothing"), strict=True))), 2)


@pytest.mark.parametrize("name", every(2, [*CHANGES, *CHANGES_OF_LOCALS]))
def test_what_a_callback_changes_that_is_called_at_every_step_is_followed(name, tmp_path):
    changed_by_a_callback(tmp_path, name, ("always", dict(zip(CALLS, (name, name, "nothing"), strict=True))), 1)


@pytest.mark.parametrize(("callback", "train_freq"), [("sometimes", 2), ("always", 1)])
def test_training_goes_on_after_a_callback_has_raised(callback, train_freq, tmp_path):
    learns = [{"total_timesteps": 300}, {"total_timesteps": 100, "reset_num_timesteps": False}]
    calls = {30: "nothing", 51: "raise", 90: "raise", 120: "nothing"}
    case = lake(settings={"train_freq": train_freq}, callbacks=[(callback, calls)], learns=[*learns, *learns[1:]])
    assert compare(case, tmp_path) > 0


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("callback", ["sometimes", "always"])
def test_weights_of_before_may_come_back(callback, batch_size, tmp_path):
    """The target's values that are kept are then those of later weights."""
    calls = {30: "remember", 61: "restore", 91: "restore", 120: "nothing"}
    settings_of_case = {
        "batch_size": batch_size,
        "train_freq": 1,
        "target_update_interval": 10,
        "learning_rate": 0.1,
        "policy_kwargs": {"hidden_dim": 6},
    }
    assert compare(lake(settings=settings_of_case, callbacks=[(callback, calls)]), tmp_path) > 0


@pytest.mark.parametrize(("name", "kind"), every(2, CHANGES_IN_TESTS, ["test", "test of a user"]))
def test_what_a_callback_changes_after_a_test_is_followed(name, kind, tmp_path):
    changed_by_a_callback(tmp_path, name, (kind, 24, 1, True, {2: name, 6: "nothing"}), 2)


@pytest.mark.parametrize("interval", [9, (9, "step"), (4, "episode")])
@pytest.mark.parametrize("double_dqn", [True, False])
def test_a_failing_update_leaves_what_it_leaves_step_by_step(interval, double_dqn, tmp_path):
    table = Table(1, 5, 3, 1, HUGE, False, 0.1)
    diverging = {"target_update_interval": interval, "double_dqn": double_dqn, "learning_rate": 0.3}
    for i, rate in enumerate([0.3, 1e-3, 1e-30]):
        case = lake(table=table, settings=diverging | {"learning_rate": rate, "policy_kwargs": {"hidden_dim": 6}})
        compare(case, tmp_path / str(i))


@pytest.mark.parametrize(
    ("kwargs", "train_freq"),
    every(2, [{"learning_starts": 1000}, {"gradient_steps": 0}, {"learning_starts": 100}], [3, [2, "episode"]]),
)
def test_before_the_first_update_the_optimizer_has_no_state(kwargs, train_freq, tmp_path):
    checkpoints = ("checkpoints", 75)
    freq = tuple(train_freq) if isinstance(train_freq, list) else train_freq
    case = lake(1, settings={"train_freq": freq, **kwargs}, callbacks=[checkpoints], cuts=(0, 3))
    assert compare(case, tmp_path) > 0


def test_the_optimizer_counts_steps_as_pytorch_does_where_float32_ends(tmp_path):
    """From 2**24 on, adding 1 changes nothing. With such a large beta, the count matters there."""
    kwargs = {"optimizer_class": th.optim.Adam, "optimizer_kwargs": {"betas": (0.9, 1 - 1e-9)}}
    case = lake(settings={"policy_kwargs": kwargs}, callbacks=[("sometimes", {10: "many steps of the optimizer"})])
    assert compare(case, tmp_path) > 0


def test_a_schedule_that_ends_at_once_fails_as_it_does_step_by_step(tmp_path):
    """SB3 divides by the share of training after which it ends."""
    at_once = {"exploration_decay": None, "exploration_fraction": 0.0}
    case = lake(settings=at_once, learns=[{"total_episodes": 20}, {"total_timesteps": 50}])
    compare(case, tmp_path)


def test_several_environments_by_episodes_fail_as_they_do_step_by_step(tmp_path):
    case = lake(callbacks=[("sometimes", {40: "train_freq by episodes"})])
    compare(case, tmp_path)


@pytest.mark.parametrize(("callback", "train_freq"), [("sometimes", 2), ("always", 1)])
def test_an_environment_that_a_callback_sets_is_that_of_the_next_rollout(callback, train_freq, tmp_path):
    calls = {30: "another environment", 51: "another environment", 120: "nothing"}
    case = lake(settings={"train_freq": train_freq}, callbacks=[(callback, calls)])
    assert compare(case, tmp_path) > 0


def test_a_stretch_has_room_for_as_many_episodes_as_it_may_have(tmp_path):
    """A callback makes rollouts shorter, so that there is room for fewer episodes than before."""
    table = Table(0, 3, 2, 2, "few", False, 1.0)  # every step ends an episode
    settings_of_case = {"train_freq": 5000, "gradient_steps": 0, "exploration_decay": 0.9999}
    calls = {5001: "train_freq"}
    case = lake(1, table=table, settings=settings_of_case, callbacks=[("sometimes", calls)], cuts=(0, 20_000))
    assert compare(case._replace(learns=[{"total_timesteps": 25_000, "log_interval": None}]), tmp_path) > 0


def train_by_episodes(max_episode_steps: int, share_of_ends: float, n_steps: int) -> list[Limits]:
    """:return: The limits of all stretches of a training without updates, by rollouts of one episode."""
    limits = []
    begin = CompiledLoop.begin

    def noted(self, limits_of_stretch, pauses):
        limits.append(limits_of_stretch)
        begin(self, limits_of_stretch, pauses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledLoop, "begin", noted)
        model = model_of(Table(0, 3, 2, 2, "few", False, share_of_ends))
        env = TabularVecEnv(model, 1, max_episode_steps)
        LectureDQN(env, seed=0, train_freq=(1, "episode"), gradient_steps=0).learn(n_steps, log_interval=None)
    return limits


def test_stretches_begin_with_few_rollouts_and_have_a_bounded_number_of_steps():
    for max_episode_steps in (100, 20_000):
        n_rollouts = [limits.rollouts for limits in train_by_episodes(max_episode_steps, 0.5, 5_000)]
        assert n_rollouts[0] == 1
        assert all(later <= 8 * before for before, later in pairwise(n_rollouts))
        assert max(n_rollouts) * max_episode_steps <= 100_000


def test_a_rollout_that_may_take_long_is_done_step_by_step():
    """Ctrl-C would wait for its end, and memory would be reserved for all its steps."""
    assert train_by_episodes(20_001, 0.5, 50) == []
    assert train_by_episodes(10**15, 0.5, 50) == []


def look_at_the_beginning(case: Case, change: Any) -> list[Any]:
    """Train, change something, and go on; once by stretches and once step by step."""
    states = []
    for compiled in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            model = LectureDQN(case.policy, env_of(case), **case.settings).learn(100)
            change(model)
            if not compiled:
                patch.setattr(Stretches, "advance", lambda self: None)
            model.learn(100, reset_num_timesteps=False)
            states.append(bits(state_of(model)))
    return states


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.env.envs[0], "s", 5),
        lambda model: model.env.reset(),
        lambda model: model.set_env(TabularVecEnv("FrozenLake-v1", model.n_envs, 5, seed=3)),
        lambda model: setattr(model, "_last_obs", None),
    ],
    ids=["state", "reset", "other environments", "reset by learn"],
)
def test_what_a_user_changes_between_trainings_is_followed(n_envs, change):
    by_stretches, by_steps = look_at_the_beginning(lake(n_envs), change)
    assert differences(by_stretches, by_steps) == []


class OtherTarget(BaseCallback):
    """Gives the model another target network in a call."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call = call

    def _on_step(self) -> bool:
        if self.n_calls == self.call:
            model: Any = self.model
            model.q_net_target = model.policy.q_net_target = copy.deepcopy(model.q_net_target)
        return True


@pytest.mark.parametrize("train_freq", [1, 2])  # by the compiled loop, and step by step
@pytest.mark.parametrize("gradient_steps", [0, 1])
def test_a_copy_in_the_step_in_which_the_target_was_changed_is_not_lost(train_freq, gradient_steps):
    settings_of_case = {"train_freq": train_freq, "gradient_steps": gradient_steps, "target_update_interval": 20}
    case = lake(1, settings=settings_of_case)
    model = LectureDQN(case.policy, env_of(case), **case.settings)
    with th.no_grad():
        next(model.q_net_target.parameters()).fill_(3.0)
    model.learn(20, callback=OtherTarget(20))
    weights = model.q_net_target.state_dict()
    assert not (next(iter(weights.values())) == 3.0).any()
    if gradient_steps == 0:  # else the copy comes before the last update
        assert all(map(th.equal, weights.values(), model.q_net.state_dict().values()))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_of_equal_actions_the_first_valid_one_is_greedy(engine, masked):
    always_greedy = {"exploration_decay": None, "exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    kwargs = {"max_episode_steps": 5, "gradient_steps": 0, "use_masking": masked, "engine": engine, **always_greedy}
    model = LectureDQN("TablePolicy", "Taxi-v3", seed=0, **kwargs)
    with th.no_grad():
        model.q_net.layers[0].weight.zero_()
    memory = model.learn(600).replay_buffer
    states, actions = memory.observations[: memory.size()].ravel(), memory.actions[: memory.size()].ravel()
    masks = model.get_env().model.action_masks if masked else np.ones((500, 6), bool)
    assert len(states) > 50
    assert actions.tolist() == masks[states].argmax(axis=1).tolist()
