"""The replay memory against a literal model of the lecture's two lists, and one by one."""

import copy
import math
import pickle
import time

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer
from sb3_lecture_dqn.common.transition_row import (
    ACTION_WORD,
    DISCRETE_ROW,
    DONE_FLOAT,
    NEXT_STATE_WORD,
    REWARD_FLOAT,
    STATE_WORD,
)
from sb3_lecture_dqn.kernels import available

ACTIONS = spaces.Discrete(2)

# A few observations of every kind of space: so few that transitions repeat all the time.
SPACES = {
    "discrete": (spaces.Discrete(3, start=5), [5, 6, 7]),
    "multi_discrete": (spaces.MultiDiscrete([2, 3]), [[0, 0], [1, 0], [1, 2]]),
    "box": (spaces.Box(-1, 1, (2,), np.float32), [[0.0, 0.5], [-0.0, 0.5], [-1.0, 0.1]]),
    "image": (spaces.Box(0, 255, (1, 9, 9), np.uint8), [np.zeros((1, 9, 9)), np.eye(9)[None], np.ones((1, 9, 9))]),
    "dict": (
        spaces.Dict({"cell": spaces.Discrete(2), "speed": spaces.Box(-1, 1, (1,), np.float64)}),
        [{"cell": 0, "speed": [0.25]}, {"cell": 1, "speed": [0.0]}, {"cell": 1, "speed": [-0.0]}],
    ),
}


def is_costly(reward, terminal, info):
    """A success criterion of the user's own."""
    return reward < -5


def batched(space, observations):
    """Observations of several environments as SB3's vectorised environments give them."""
    if isinstance(space, spaces.Dict):
        return {key: batched(part, [obs[key] for obs in observations]) for key, part in space.spaces.items()}
    return np.array(observations, dtype=space.dtype)


def plain(space, observation):
    """An observation as (nested) tuples of Python numbers, in the precision of its space."""
    if isinstance(space, spaces.Dict):
        return tuple((key, plain(part, observation[key])) for key, part in space.spaces.items())

    def tuples(value):
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return tuples(np.asarray(observation, dtype=space.dtype).reshape(space.shape or (1,)).tolist())


def rows(space, observations, actions, next_observations, rewards, dones):
    """Transitions out of arrays (or tensors) with one row each, as tuples of plain numbers."""

    def row(obs, i):
        return {key: part[i] for key, part in obs.items()} if isinstance(obs, dict) else obs[i]

    return [
        (
            plain(space, row(observations, i)),
            int(actions[i]),
            plain(space, row(next_observations, i)),
            float(rewards[i]),
            bool(dones[i]),
        )
        for i in range(len(rewards))
    ]


def contents(buffer):
    """(successes, failures), each in stored order, as tuples."""
    stored = rows(
        buffer.observation_space,
        {key: part[:, 0] for key, part in buffer.observations.items()}
        if isinstance(buffer.observation_space, spaces.Dict)
        else buffer.observations[:, 0],
        buffer.actions[:, 0, 0],
        {key: part[:, 0] for key, part in buffer.next_observations.items()}
        if isinstance(buffer.observation_space, spaces.Dict)
        else buffer.next_observations[:, 0],
        buffer.rewards[:, 0],
        buffer.dones[:, 0],
    )
    return stored[: buffer.success_size], stored[buffer.success_size :]


def add_one(buffer, state, action=0, next_state=0, reward=-1.0, done=False, info=None):
    """One step of one environment with numbered states."""
    buffer.add(
        np.array([state]),
        np.array([next_state]),
        np.array([action]),
        np.array([reward]),
        np.array([done]),
        [info or {}],
    )


def numbered(n_success, n_fail, **kwargs):
    """A memory over 1000 numbered states, with so many successes (from state 0 on) and failures (from 500 on)."""
    kwargs = {"success_capacity": math.inf, **kwargs}  # the lecture's
    buffer = SuccessFailReplayBuffer(kwargs.pop("buffer_size", 1000), spaces.Discrete(1000), ACTIONS, seed=0, **kwargs)
    for state in range(n_success):
        add_one(buffer, state, reward=20.0, done=True)
    for state in range(500, 500 + n_fail):
        add_one(buffer, state)
    return buffer


class TwoLists:
    """The lecture's memory, word for word; without ``success_capacity``, ``fail_capacity`` bounds both lists."""

    def __init__(self, fail_capacity, success_capacity, deduplicate, rng):
        self.bound = fail_capacity if success_capacity is None else math.inf
        self.capacities = {True: success_capacity, False: fail_capacity}
        self.deduplicate = deduplicate
        self.rng = rng
        self.lists = {True: [], False: []}

    def store(self, transition, success):
        memory, capacity = self.lists[success], self.capacities[success]
        if self.deduplicate and transition in memory:
            return
        if len(self.lists[True]) + len(self.lists[False]) == self.bound:
            larger = max(memory, self.lists[not success], key=len)  # the first, if they are equal
            at = int(self.rng.random() * len(larger))
            larger[at] = larger[-1]
            larger.pop()
        if len(memory) == capacity:
            memory[int(self.rng.random() * capacity)] = transition
        else:
            memory.append(transition)

    def draw(self, batch_size, success_fraction):
        successes, failures = self.lists[True], self.lists[False]
        if success_fraction is None or not successes or not failures:
            union = successes + failures
            return [union[int(self.rng.random() * len(union))] for _ in range(batch_size)]
        from_success = math.floor(batch_size * success_fraction + self.rng.random())
        drawn = [successes[int(self.rng.random() * len(successes))] for _ in range(from_success)]
        return drawn + [failures[int(self.rng.random() * len(failures))] for _ in range(batch_size - from_success)]


class MemoryMachine(RuleBasedStateMachine):
    """Any order of operations, on the memory and on the two lists."""

    def __init__(self, kind, n_envs):
        super().__init__()
        self.space, self.pool = SPACES[kind]
        self.n_envs = n_envs

    def make_buffer(self, seed):
        return SuccessFailReplayBuffer(
            observation_space=self.space, action_space=ACTIONS, n_envs=self.n_envs, seed=seed, **self.kwargs
        )

    @initialize(
        buffer_size=st.integers(1, 6),
        success_capacity=st.one_of(st.none(), st.integers(1, 3), st.just(math.inf)),
        deduplicate=st.booleans(),
        success_criterion=st.sampled_from(["terminal", "is_success", "positive_reward", is_costly]),
        success_fraction=st.one_of(st.none(), st.floats(0, 1)),
        handle_timeout_termination=st.booleans(),
    )
    def start(self, **kwargs):
        self.kwargs = kwargs
        self.buffer = self.make_buffer(seed=0)
        self.model = TwoLists(
            kwargs["buffer_size"],
            kwargs["success_capacity"],
            kwargs["deduplicate"],
            # To know the random slots and draws beforehand.
            copy.deepcopy(self.buffer.rng),
        )

    @rule(data=st.data())
    def add(self, data):
        pool = st.sampled_from(self.pool)
        step = [
            data.draw(
                st.fixed_dictionaries(
                    {
                        "obs": pool,
                        "next_obs": pool,
                        "action": st.sampled_from([0, 1]),
                        "reward": st.sampled_from([-10.0, -1.0, -0.0, 0.0, 0.1, 20.0]),
                        "done": st.booleans(),
                        "truncated": st.booleans(),
                        "info": st.sampled_from([{}, {"is_success": True}, {"is_success": False}]),
                    }
                )
            )
            for _ in range(self.n_envs)
        ]
        infos = [dict(env["info"]) for env in step]
        for env, info in zip(step, infos, strict=True):
            if env["done"]:
                info["TimeLimit.truncated"] = env["truncated"]
        self.buffer.add(
            batched(self.space, [env["obs"] for env in step]),
            batched(self.space, [env["next_obs"] for env in step]),
            np.array([env["action"] for env in step]),
            np.array([env["reward"] for env in step], dtype=np.float32),
            np.array([env["done"] for env in step]),
            infos,
        )
        criterion = self.kwargs["success_criterion"]
        for env in step:
            terminal = env["done"] and not (env["truncated"] and self.kwargs["handle_timeout_termination"])
            transition = (
                plain(self.space, env["obs"]),
                env["action"],
                plain(self.space, env["next_obs"]),
                float(np.float32(env["reward"])),
                terminal,
            )
            if criterion == "terminal":
                success = terminal
            elif criterion == "is_success":
                success = env["info"].get("is_success", False)
            elif criterion == "positive_reward":
                success = env["reward"] > 0
            else:
                success = env["reward"] < -5
            self.model.store(transition, success)

    @rule(batch_size=st.integers(1, 5))
    def sample(self, batch_size):
        if self.buffer.size() == 0:
            with pytest.raises(ValueError, match="empty"):
                self.buffer.sample(batch_size)
            return
        batch = self.buffer.sample(batch_size)
        drawn = rows(
            self.space,
            batch.observations,
            batch.actions[:, 0],
            batch.next_observations,
            batch.rewards[:, 0],
            batch.dones[:, 0],
        )
        assert drawn == self.model.draw(batch_size, self.kwargs["success_fraction"])

    @rule()
    def move_to_a_new_buffer(self):
        state = copy.deepcopy(self.buffer.get_state())
        self.buffer = self.make_buffer(seed=1)
        self.buffer.set_state(state)

    @rule()
    def pickle_and_unpickle(self):
        self.buffer = pickle.loads(pickle.dumps(self.buffer))

    @rule()
    def reset(self):
        self.buffer.reset()
        self.model.lists = {True: [], False: []}

    @invariant()
    def is_valid_and_equal_to_the_lists(self):
        self.buffer.check_valid()
        successes, failures = contents(self.buffer)
        assert successes == self.model.lists[True]
        assert failures == self.model.lists[False]
        assert self.buffer.size() == len(successes) + len(failures)
        assert (self.buffer.success_size, self.buffer.fail_size) == (len(successes), len(failures))
        # A memory of one part without a name shows a Discrete state as a number, not as a tuple of one.
        states = {obs[0] if isinstance(self.space, spaces.Discrete) else obs for obs, *_ in successes}
        assert self.buffer.success_states == states


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("kind", SPACES)
def test_any_order_of_operations_agrees_with_the_lectures_two_lists(kind, n_envs):
    run_state_machine_as_test(
        lambda: MemoryMachine(kind, n_envs),
        settings=settings(max_examples=30 if n_envs == 1 else 15, stateful_step_count=25),
    )


@pytest.mark.parametrize("kind", ["discrete", "dict", "image"])
def test_any_order_of_operations_agrees_with_the_two_lists_where_numba_is_not_installed(kind, monkeypatch):
    monkeypatch.setattr(available, "find_spec", lambda module: None)
    run_state_machine_as_test(
        lambda: MemoryMachine(kind, n_envs=4), settings=settings(max_examples=12, stateful_step_count=25)
    )


def test_a_truncated_episode_is_stored_as_not_done_and_as_a_failure():
    buffer = numbered(0, 0)
    add_one(buffer, 3, done=True, info={"TimeLimit.truncated": True})
    assert (buffer.success_size, buffer.fail_size) == (0, 1)
    assert buffer.sample(1).dones.item() == 0


def test_without_timeout_handling_a_truncated_episode_is_done_and_a_success():
    buffer = numbered(0, 0, handle_timeout_termination=False)
    add_one(buffer, 3, done=True, info={"TimeLimit.truncated": True})
    assert (buffer.success_size, buffer.fail_size) == (1, 0)
    assert buffer.sample(1).dones.item() == 1


def test_the_same_state_fails_and_succeeds_in_lists_of_their_own():
    """Duplicates are looked for in one list only."""
    buffer = numbered(0, 0)
    for _ in range(2):
        add_one(buffer, 1, reward=0.5, done=True)
        add_one(buffer, 1, reward=0.5, done=False)
    assert (buffer.success_size, buffer.fail_size) == (1, 1)


@pytest.mark.parametrize("field", ["state", "action", "next_state", "reward"])
def test_transitions_that_differ_in_one_field_are_both_stored(field):
    buffer = numbered(0, 0)
    add_one(buffer, 1)
    add_one(buffer, **{"state": 1, field: 1})
    assert buffer.fail_size == (1 if field == "state" else 2)
    add_one(buffer, **{"state": 1, field: 2 if field != "action" else 1})
    assert buffer.fail_size == (3 if field not in ("state", "action") else 2)


def test_minus_zero_equals_zero():
    """`-0.0 == 0.0`, so the lecture's `in` finds it; a comparison of bytes would not."""
    box = SuccessFailReplayBuffer(10, spaces.Box(-1, 1, (2,)), ACTIONS, seed=0)
    for zero in (0.0, -0.0):
        obs = np.array([[zero, 1.0]], dtype=np.float32)
        box.add(obs, -obs, np.array([0]), np.array([zero]), np.array([False]), [{}])
    assert box.size() == 1
    box.check_valid()


def test_a_reward_of_minus_zero_equals_one_of_zero():
    buffer = SuccessFailReplayBuffer(10, spaces.Discrete(9), ACTIONS, seed=0)
    for zero in (0.0, -0.0):
        add_one(buffer, 1, reward=zero)
    assert buffer.size() == 1


def test_images_that_differ_in_one_pixel_are_both_stored_and_equal_ones_once():
    space = spaces.Box(0, 255, (1, 84, 84), np.uint8)
    buffer = SuccessFailReplayBuffer(10, space, ACTIONS, seed=0)
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 84, 84), dtype=np.uint8)
    other = image.copy()
    other[0, 0, 83, 83] ^= 1
    for obs in (image, other, image.copy()):
        buffer.add(obs, obs, np.array([0]), np.array([0.0]), np.array([False]), [{}])
    assert buffer.size() == 2
    assert np.array_equal(buffer.observations[:, 0], np.concatenate([image, other]))


def test_the_memory_grows_in_order_and_failures_stop_at_buffer_size():
    buffer = numbered(300, 400, buffer_size=350)
    assert (buffer.success_size, buffer.fail_size) == (300, 350)
    assert buffer.full
    buffer.check_valid()
    assert buffer.observations[:300, 0, 0].tolist() == list(range(300))
    kept = set(buffer.observations[300:, 0, 0].tolist())
    assert len(kept) == 350
    assert kept <= set(range(500, 900))


BOUNDED = {
    "box": lambda **kw: LectureDQN("MlpPolicy", "CartPole-v1", **kw),
    "dict": lambda **kw: LectureQRDQN("Blackjack-v1", **kw),
    "discrete with repetitions": lambda **kw: LectureDQN("FrozenLake-v1", **memory_kwargs(kw, deduplicate=False)),
    "several": lambda **kw: LectureDQN("MlpPolicy", make_vec_env("CartPole-v1", 3, seed=0), **kw),
    "stock": lambda **kw: DQN("MlpPolicy", "CartPole-v1", replay_buffer_class=SuccessFailReplayBuffer, **kw),
    "stock and tabular": lambda **kw: DQN(
        "MlpPolicy",
        "FrozenLake-v1",
        replay_buffer_class=SuccessFailReplayBuffer,
        **memory_kwargs(kw, deduplicate=False),
    ),
    "stock sac": lambda **kw: SAC(
        "MlpPolicy",
        "Pendulum-v1",
        replay_buffer_class=SuccessFailReplayBuffer,
        **memory_kwargs(kw, success_criterion=lambda reward, terminal, info: reward > -5),
    ),
}


def memory_kwargs(kwargs, **more):
    return {**kwargs, "replay_buffer_kwargs": more}


@pytest.mark.parametrize("make", BOUNDED.values(), ids=BOUNDED)
def test_buffer_size_bounds_the_whole_memory_of_an_algorithm_and_is_used_up(make):
    model = make(buffer_size=30, gradient_steps=0, seed=0)
    sizes = []
    model.learn(400, callback=lambda *_: sizes.append(model.replay_buffer.size()) or True)
    assert max(sizes) == sizes[-1] == 30
    assert model.replay_buffer.success_size > 0
    assert model.replay_buffer.full
    model.replay_buffer.check_valid()


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_the_lectures_memory_of_a_tabular_task_keeps_all_successes(algorithm):
    model = algorithm("FrozenLake-v1", buffer_size=5, gradient_steps=0, seed=0).learn(2000)
    assert (model.replay_buffer.fail_size, model.replay_buffer.success.capacity) == (5, None)
    assert model.replay_buffer.success_size > 5
    assert model.replay_buffer_kwargs == {}


@given(
    kind=st.sampled_from(sorted(SPACES)),
    buffer_size=st.integers(1, 9),
    deduplicate=st.booleans(),
    n_envs=st.integers(1, 3),
    steps=st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=40),
    split=st.integers(0, 40),
)
def test_no_more_than_buffer_size_transitions_are_ever_held(kind, buffer_size, deduplicate, n_envs, steps, split):
    """Whatever comes, also through the state of the memory; what is held is what came, and nothing is lost early."""
    space, pool = SPACES[kind]
    made = [
        SuccessFailReplayBuffer(buffer_size, space, ACTIONS, n_envs=n_envs, deduplicate=deduplicate, seed=0)
        for _ in range(2)
    ]
    buffer, came = made[0], 0
    for step, (number, success) in enumerate(steps):
        if step == split:
            made[1].set_state(buffer.get_state())
            buffer = made[1]
        obs = batched(space, [pool[(number + i) % len(pool)] for i in range(n_envs)])
        reward, done = np.full(n_envs, float(number)), np.full(n_envs, success)
        buffer.add(obs, obs, np.full((n_envs, 1), number % 2), reward, done, [{}] * n_envs)
        came += n_envs
        assert buffer.size() == buffer.pos <= buffer_size
        assert buffer.full == (buffer.size() == buffer_size)
        assert deduplicate or buffer.size() == min(came, buffer_size)
        buffer.check_valid()
    rewards = {float(np.float32(number)) for number, _ in steps}
    assert {float(reward) for reward in buffer.rewards.ravel()} <= rewards


def test_successes_stay_until_they_are_half_of_a_full_memory():
    buffer = numbered(4, 300, buffer_size=10, success_capacity=None)
    assert buffer.success_states == {0, 1, 2, 3}
    for state in range(4, 200):
        add_one(buffer, state, reward=20.0, done=True)
    assert (buffer.success_size, buffer.fail_size) == (5, 5)
    add_one(buffer, 700)
    assert (buffer.success_size, buffer.fail_size) == (5, 5)
    assert 700 in buffer.observations.ravel().tolist()


def test_a_transition_that_is_held_makes_no_room():
    buffer = numbered(4, 6, buffer_size=10, success_capacity=None)
    before = contents(buffer)
    add_one(buffer, 500)
    assert contents(buffer) == before


def test_what_is_forgotten_is_a_uniformly_random_one_of_the_larger_part():
    counts = np.zeros(20)
    for seed in range(3000):
        buffer = numbered(0, 20, buffer_size=20, success_capacity=None)
        buffer.seed(seed)
        add_one(buffer, 0, reward=20.0, done=True)
        left = set(buffer.observations.ravel().tolist())
        (gone,) = set(range(500, 520)) - left
        counts[gone - 500] += 1
    assert abs(counts - 150).max() < 5 * math.sqrt(150)


def test_a_state_of_more_than_buffer_size_is_refused_and_the_way_on_is_named():
    buffer = numbered(0, 0, buffer_size=6, success_capacity=None)
    with pytest.raises(ValueError, match=r"7 transitions, .* buffer_size=6 .*success_capacity=math.inf"):
        buffer.set_state(numbered(3, 4, buffer_size=6).get_state())
    assert buffer.size() == 0


def test_a_memory_that_version_1_has_pickled_keeps_its_bounds():
    buffer = numbered(9, 3, buffer_size=4)
    del buffer.bounds_all
    restored = pickle.loads(pickle.dumps(buffer))
    for state in range(10, 30):
        add_one(restored, state, reward=20.0, done=True)
        add_one(restored, 500 + state)
    assert (restored.success_size, restored.fail_size) == (29, 4)


def test_arrays_have_the_layout_of_sb3s_buffers():
    """Code that reads SB3's buffers finds (rows, n_envs, ...)."""
    buffer = numbered(2, 3)
    assert buffer.observations.shape == buffer.next_observations.shape == buffer.actions.shape == (5, 1, 1)
    assert buffer.rewards.shape == buffer.dones.shape == buffer.timeouts.shape == (5, 1)
    assert buffer.dones[:, 0].tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("kind", ["discrete", "box", "dict"])
def test_samples_have_the_shapes_and_types_of_sb3s_buffers(kind):
    from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

    space, pool = SPACES[kind]
    ours = SuccessFailReplayBuffer(10, space, ACTIONS, seed=0)
    theirs = (DictReplayBuffer if kind == "dict" else ReplayBuffer)(10, space, ACTIONS)
    for buffer in (ours, theirs):
        buffer.add(
            batched(space, pool[:1]), batched(space, pool[1:2]), np.array([1]), np.array([0.5]), np.array([True]), [{}]
        )
    mine, stock = ours.sample(3), theirs.sample(3)
    assert type(mine) is type(stock)
    for own, other in zip(mine, stock, strict=True):
        if other is None:
            assert own is None
        elif isinstance(other, dict):
            assert own.keys() == other.keys()
            assert all(own[k].dtype == other[k].dtype and th.equal(own[k], other[k]) for k in other)
        else:
            assert own.dtype == other.dtype
            assert th.equal(own, other)


# Draws


def chi_square(counts):
    expected = np.sum(counts) / len(counts)
    return float(np.sum((np.asarray(counts) - expected) ** 2) / expected)


def test_draws_are_uniform_over_the_union_of_both_lists():
    buffer = numbered(2, 8)
    counts = np.bincount(buffer.draw(20_000), minlength=10)
    assert len(counts) == 10
    assert chi_square(counts) < 27.9  # 9 degrees of freedom, 99.9 %


def test_single_draws_are_uniform_too():
    """The lecture draws one transition at a time."""
    buffer = numbered(2, 8)
    counts = np.bincount([buffer.draw(1).item() for _ in range(5_000)], minlength=10)
    assert chi_square(counts) < 27.9


def test_the_overwritten_slot_is_uniform():
    buffer = numbered(0, 8, buffer_size=8)
    counts = np.zeros(8)
    for state in range(4_000):
        before = buffer.observations[:, 0, 0], buffer.actions[:, 0, 0], buffer.next_observations[:, 0, 0]
        add_one(buffer, state % 1000, action=state // 2000, next_state=state // 1000)
        after = buffer.observations[:, 0, 0], buffer.actions[:, 0, 0], buffer.next_observations[:, 0, 0]
        changed = np.flatnonzero(np.any([a != b for a, b in zip(before, after, strict=True)], axis=0))
        assert len(changed) == 1
        counts[changed] += 1
    assert chi_square(counts) < 24.4  # 7 degrees of freedom, 99.9 %


@given(batch_size=st.integers(1, 40), fraction=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_the_share_of_successes_is_rounded_at_random_and_exactly(batch_size, fraction, seed):
    buffer = numbered(3, 5, success_fraction=fraction)
    buffer.seed(seed)
    u = copy.deepcopy(buffer.rng).random()
    positions = buffer.draw(batch_size)
    assert len(positions) == batch_size
    assert np.sum(positions < 3) == math.floor(batch_size * fraction + u)
    assert positions.min() >= 0
    assert positions.max() < 8


@pytest.mark.parametrize("fraction", [None, 0.3])
def test_minibatches_drawn_at_once_are_those_drawn_one_after_the_other(fraction):
    buffer = numbered(3, 5, success_fraction=fraction)
    twin = copy.deepcopy(buffer)
    at_once = buffer.draw_minibatches(20, 3)
    assert at_once.shape == (20, 3)
    assert at_once.tolist() == [twin.draw(3).tolist() for _ in range(20)]
    assert buffer.rng.bit_generator.state == twin.rng.bit_generator.state


def test_the_mean_share_of_successes_is_the_fraction():
    """One-transition minibatches with a share of 0.3 are a success three times in ten, not never."""
    buffer = numbered(1, 9, success_fraction=0.3)
    share = np.mean([buffer.draw(1).item() < 1 for _ in range(4_000)])
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4_000))


@pytest.mark.parametrize(("n_success", "n_fail"), [(0, 4), (4, 0)])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_a_share_of_successes_does_not_stop_draws_while_one_side_is_empty(n_success, n_fail, fraction):
    buffer = numbered(n_success, n_fail, success_fraction=fraction)
    assert set(buffer.draw(200).tolist()) == {0, 1, 2, 3}


def test_the_memory_draws_from_its_own_generator_only():
    buffer = numbered(2, 8)
    twin = copy.deepcopy(buffer)
    np.random.seed(0)  # noqa: NPY002
    first = buffer.draw(20)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert np.array_equal(first, twin.draw(20))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_an_unseeded_memory_follows_numpys_global_seed():
    """What makes `DQN(..., seed=0, replay_buffer_class=SuccessFailReplayBuffer)` reproducible."""
    states = []
    for seed in (3, 3, 4):
        np.random.seed(seed)  # noqa: NPY002
        states.append(SuccessFailReplayBuffer(10, spaces.Discrete(2), ACTIONS).rng.bit_generator.state)
    assert states[0] == states[1] != states[2]


# VecNormalize


@pytest.mark.parametrize("env_id", ["CartPole-v1", SimpleMultiObsEnv])
def test_samples_are_normalised_by_vecnormalize_and_the_memory_is_not(env_id):
    keys = ["vec"] if env_id is SimpleMultiObsEnv else None
    env = VecNormalize(make_vec_env(env_id, seed=0), norm_obs_keys=keys, clip_reward=0.5)
    buffer = SuccessFailReplayBuffer(50, env.observation_space, env.action_space, seed=0)
    env.reset()
    for _ in range(30):
        obs = env.get_original_obs()
        action = np.array([env.action_space.sample()])
        _, _, dones, infos = env.step(action)
        buffer.add(obs, env.get_original_obs(), action, env.get_original_reward(), dones, infos)
    assert contents(buffer)[1]
    twin = copy.deepcopy(buffer)
    raw, normalised = twin.sample(20), buffer.sample(20, env=env)
    numpy = (lambda t: {k: v.numpy() for k, v in t.items()}) if keys else (lambda t: t.numpy())
    for field in ("observations", "next_observations"):
        given_, wanted = getattr(normalised, field), env.normalize_obs(numpy(getattr(raw, field)))
        for part in given_ if keys else [None]:
            own, other = (given_[part], wanted[part]) if keys else (given_, wanted)
            np.testing.assert_array_equal(own.numpy(), other)
    np.testing.assert_array_equal(
        normalised.rewards.numpy(), env.normalize_reward(raw.rewards.numpy()).astype(np.float32)
    )
    assert not th.equal(normalised.rewards, raw.rewards)


# State


def test_a_restored_memory_goes_on_as_the_original():
    original, restored = numbered(3, 12, buffer_size=12), numbered(0, 0, buffer_size=12)
    restored.set_state(copy.deepcopy(original.get_state()))
    for buffer in (original, restored):
        for state in range(200, 210):
            add_one(buffer, state)
    assert contents(original) == contents(restored)
    assert np.array_equal(original.draw(50), restored.draw(50))
    assert (original.pos, original.full) == (restored.pos, restored.full)


def test_the_state_does_not_change_with_the_memory():
    buffer = numbered(1, 3, buffer_size=3)
    state = buffer.get_state()
    successes, failures, rng = state["success"].tobytes(), state["fail"].tobytes(), repr(state["rng"])
    add_one(buffer, 900)
    buffer.draw(3)
    assert (state["success"].tobytes(), state["fail"].tobytes(), repr(state["rng"])) == (successes, failures, rng)


def frozen(buffer):
    """Everything a state says, as something that can be compared."""
    state = buffer.get_state()
    return state["success"].tobytes(), state["fail"].tobytes(), repr(state["rng"])


def of_another_space():
    return SuccessFailReplayBuffer(10, spaces.Box(-1, 1, (2,)), ACTIONS, seed=0).get_state()["fail"]


# Every one made of the state of a memory with two successes and three failures.
WRONG_STATES = {
    "rows of another space": lambda s: s.update(fail=of_another_space()),
    "rows in two dimensions": lambda s: s.update(success=s["success"][:, None]),
    "more failures than it may hold": lambda s: s.update(fail=numbered(0, 5).get_state()["fail"]),
    "more successes than it may hold": lambda s: s.update(success=numbered(5, 0).get_state()["success"]),
    "duplicates": lambda s: s.update(success=np.repeat(s["success"][:1], 2)),
    "no successes": lambda s: s.pop("success"),
    "no failures": lambda s: s.pop("fail"),
    "no generator": lambda s: s.pop("rng"),
    "another generator": lambda s: s.update(rng=np.random.MT19937(0).state),
    "half a generator": lambda s: s.update(rng={"bit_generator": "PCG64"}),
}


@pytest.mark.parametrize("wrong", WRONG_STATES)
def test_a_wrong_state_is_refused_and_changes_nothing(wrong):
    """Else a checkpoint of another memory would leave half of it behind."""
    state = copy.deepcopy(numbered(2, 3).get_state())
    WRONG_STATES[wrong](state)
    buffer = numbered(1, 4, buffer_size=4, success_capacity=3)
    before = frozen(buffer)
    with pytest.raises((ValueError, KeyError), match=r"success|fail|rng|PCG64|state"):
        buffer.set_state(state)
    assert frozen(buffer) == before
    buffer.check_valid()


def forget_a_row(partition):
    partition.size -= 1


def invent_a_row(partition):
    partition.size += 1


def overfill(partition):
    partition.size = partition.capacity + 1


def negative_size(partition):
    partition.size = -1


def lose_rows(partition):
    partition.rows = partition.rows[:1]


def change_a_reward(partition):
    partition.rows["rewards"][1] += 1


def repeat_a_row(partition):
    partition.rows[1] = partition.rows[0]


def swap_two_rows(partition):
    partition.rows[[0, 1]] = partition.rows[[1, 0]]


@pytest.mark.parametrize("part", ["success", "fail"])
@pytest.mark.parametrize(
    "corrupt",
    [
        forget_a_row,
        invent_a_row,
        overfill,
        negative_size,
        lose_rows,
        change_a_reward,
        repeat_a_row,
        swap_two_rows,
    ],
)
def test_check_valid_finds_corruption_and_names_the_partition(corrupt, part):
    buffer = numbered(3, 3, buffer_size=10, success_capacity=10)
    buffer.check_valid()
    corrupt(getattr(buffer, part))
    with pytest.raises(ValueError, match=f"{part} partition"):
        buffer.check_valid()


def test_a_pickled_memory_goes_on_as_the_original():
    """SB3's `save_replay_buffer` pickles it."""
    original = numbered(3, 12, buffer_size=12)
    restored = pickle.loads(pickle.dumps(original))
    for buffer in (original, restored):
        add_one(buffer, 600)
        add_one(buffer, 601)
    assert contents(original) == contents(restored)
    assert np.array_equal(original.draw(50), restored.draw(50))


# Cost


def seconds_per_insert(n_held, n_inserts=300):
    """Of a duplicate and of a replacement, in a full memory of that size."""
    buffer = SuccessFailReplayBuffer(n_held, spaces.Discrete(10**6), ACTIONS, seed=0)
    for state in range(n_held):
        add_one(buffer, state)
    start = time.perf_counter()
    for state in range(n_inserts):
        add_one(buffer, state)
        add_one(buffer, n_held + state)
        buffer.draw(1)
    return (time.perf_counter() - start) / n_inserts


def test_insert_duplicate_check_replacement_and_draw_do_not_slow_down_with_size():
    """The lecture's own search of the list takes a hundred times as long in a memory a hundred times as large."""
    small = min(seconds_per_insert(300) for _ in range(3))
    assert seconds_per_insert(30_000) < 20 * small


# The buffer of store_and_replay=False


def test_the_latest_transition_buffer_holds_the_last_step_of_all_environments_only():
    buffer = LatestTransitionBuffer(1000, spaces.Discrete(50), ACTIONS, n_envs=4)
    for first in (0, 10):
        states = np.arange(first, first + 4)
        buffer.add(states, states + 4, np.zeros(4), np.zeros(4), np.array([0, 0, 0, 1], dtype=bool), [{}] * 4)
    buffer.check_valid()
    assert sorted(buffer.observations.ravel().tolist()) == [10, 11, 12, 13]
    assert set(buffer.sample(200).observations.ravel().tolist()) == {10, 11, 12, 13}


# Bad arguments


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("buffer_size", 0),
        ("buffer_size", -1),
        ("success_fraction", -0.1),
        ("success_fraction", 1.1),
        ("success_fraction", math.nan),
        ("success_capacity", 0),
        ("success_capacity", 2.5),
        ("success_capacity", math.nan),
        ("success_criterion", "delivered"),
        ("optimize_memory_usage", True),
    ],
)
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=argument):
        SuccessFailReplayBuffer(
            **{"buffer_size": 10, "observation_space": spaces.Discrete(2), "action_space": ACTIONS, argument: value}
        )


def test_masks_of_more_actions_than_there_can_be_take_no_memory():
    with pytest.raises(ValueError, match=r"16777216 actions at most, not Discrete\(100000000000\)"):
        SuccessFailReplayBuffer(10, spaces.Discrete(2), spaces.Discrete(10**11), use_masking=True)


def test_a_real_truncation_reaches_the_memory_as_not_done():
    """Gymnasium's TimeLimit and SB3's DummyVecEnv say it in `info`; the terminal observation is what is stored."""
    from stable_baselines3 import DQN

    env = gym.make("CartPole-v1", max_episode_steps=5)
    model = DQN("MlpPolicy", env, replay_buffer_class=SuccessFailReplayBuffer, learning_starts=1000, seed=0)
    model.learn(20)
    buffer = model.replay_buffer
    assert (buffer.success_size, buffer.fail_size) == (0, 20)
    # In the memory every next observation but the last of an episode is the observation that follows.
    obs, next_obs = buffer.observations[:, 0], buffer.next_observations[:, 0]
    follows = [np.array_equal(next_obs[i], obs[i + 1]) for i in range(19)]
    assert [i for i in range(19) if not follows[i]] == [4, 9, 14]


def test_the_words_of_a_discrete_row_have_the_right_numbers():
    offsets = {name: offset for name, (_, offset, *_) in DISCRETE_ROW.fields.items()}
    assert offsets == {
        "observations": 8 * STATE_WORD,
        "next_observations": 8 * NEXT_STATE_WORD,
        "actions": 8 * ACTION_WORD,
        "rewards": 4 * REWARD_FLOAT,
        "dones": 4 * DONE_FLOAT,
    }
