"""diagnose: models that were made to fail in known ways, and oracles for what it says of episodes and memories."""

import copy
import json
import math
import re

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture_dqn import (
    DivergedError,
    LectureDQN,
    LectureQRDQN,
    NotTabularError,
    SuccessFailReplayBuffer,
    TabularModel,
    TabularVecEnv,
    diagnose,
    exact_test,
)
from sb3_lecture_dqn.envs.grids import grid_layout
from sb3_lecture_dqn.evaluation import causes, diagnosis_words
from sb3_lecture_dqn.evaluation.failures import find_failures
from sb3_lecture_dqn.evaluation.loop_drawing import draw_loop
from sb3_lecture_dqn.evaluation.training_record import read_record

# How models fail


def too_few_episodes(seed):
    return LectureDQN("Taxi-v3", seed=seed).learn(total_episodes=10)


def learning_rate_of_the_slide(seed):
    model = LectureDQN("Taxi-v3", seed=seed, learning_rate=0.01)
    with pytest.raises(DivergedError):
        model.learn(total_episodes=5)
    return model


def epsilon_gone(seed):
    schedule = {"exploration_decay": 0.5, "exploration_final_eps": 0.0}
    return LectureDQN("FrozenLakeNotSlippery-v1", seed=seed, **schedule).learn(total_episodes=100)


def gamma_too_small(seed):
    return LectureDQN.tuned("Taxi-v3", seed=seed, gamma=0.2, use_masking=True).learn(10_000)


def memory_too_small(seed):
    small = {"buffer_size": 50, "replay_buffer_kwargs": {}}
    return LectureDQN.tuned("Taxi-v3", seed=seed, use_masking=True, **small).learn(5000)


def no_replay(seed):
    return LectureDQN("CliffWalking-v1", seed=seed, loss="huber", store_and_replay=False).learn(3000)


def maximisation_bias(seed):
    """Sutton and Barto's example 6.7: the maximum over many noisy values of little worth looks better than 0."""
    n = 8
    noisy = [(0.5, 2, 0.9, True), (0.5, 2, -1.1, True)]
    first = {a: [(1.0, 1, 0.0, False)] if a else [(1.0, 2, 0.0, True)] for a in range(n)}
    P = {0: first, 1: dict.fromkeys(range(n), noisy), 2: {a: [(1.0, 2, 0.0, True)] for a in range(n)}}
    env = TabularVecEnv(TabularModel(P, [1, 0, 0], max_episode_steps=10))
    memory = {"buffer_size": 5000, "replay_buffer_kwargs": {"deduplicate": False, "success_capacity": 5000}}
    settings = {"learning_rate": 0.05, "gamma": 0.95, "double_dqn": False, "gradient_steps": 1}
    return LectureDQN("TablePolicy", env, seed=seed, **settings, **memory).learn(2000)


def rare_outcome_stored_once(seed):
    """A bet that is lost 19 times of 20, in a memory that stores equal transitions once."""
    bet = [(0.05, 1, 5.0, True), (0.95, 1, -1.0, True)]
    P = {0: {0: [(1.0, 1, 0.0, True)], 1: bet}, 1: {a: [(1.0, 1, 0.0, True)] for a in (0, 1)}}
    env = TabularVecEnv(TabularModel(P, [1, 0], max_episode_steps=10))
    return LectureDQN("TablePolicy", env, seed=seed, learning_rate=0.02).learn(2000)


def too_short_episodes(seed):
    return LectureDQN("FrozenLake8x8NotSlippery-v1", seed=seed, max_episode_steps=10).learn(200)


def better_action_never_tried(seed):
    P = {0: {0: [(1.0, 1, 1.0, True)], 1: [(1.0, 1, 9.0, True)]}, 1: {a: [(1.0, 1, 0.0, True)] for a in (0, 1)}}
    env = TabularVecEnv(TabularModel(P, [1, 0], max_episode_steps=10))
    greedy = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    return LectureDQN("TablePolicy", env, seed=seed, **greedy).learn(200)


def nothing_learnt(seed):
    return LectureDQN("TablePolicy", "FrozenLakeNotSlippery-v1", seed=seed, learning_starts=9000).learn(3000)


def learnt_too_little(seed):
    return LectureDQN("TablePolicy", "FrozenLakeNotSlippery-v1", seed=seed, learning_starts=2990).learn(3000)


def gamma_of_one(seed):
    settings = {"gamma": 1.0, "exploration_final_eps": 1.0}  # at random, so that it meets the success
    return LectureDQN("FrozenLakeNotSlippery-v1", seed=seed, **settings).learn(total_episodes=600)


def untrained(seed):
    return LectureDQN("Taxi-v3", seed=seed)


#: The kind of the first finding, and a word of its advice: the setting with its present value
FAILURES = {
    too_few_episodes: ("never_seen", "10 episodes"),
    learning_rate_of_the_slide: ("diverged", "learning_rate, such as 0.001 (it is 0.01)"),
    epsilon_gone: ("epsilon_gone", "exploration_decay nearer to 1 (it is 0.5)"),
    gamma_too_small: ("gamma_small", "(it is 0.2)"),
    memory_too_small: ("memory_small", "buffer_size (it is 50)"),
    no_replay: ("no_replay", "store_and_replay=True (it is False)"),
    maximisation_bias: ("overestimated", "double_q=True, van Hasselt's Double DQN (it is False)"),
    rare_outcome_stored_once: ("memory_distorts", "deduplicate=False"),
    too_short_episodes: ("time_limit", "max_episode_steps (it is 10)"),
    better_action_never_tried: ("never_tried", "exploration_final_eps (it is 0)"),
    nothing_learnt: ("no_update", "a smaller learning_starts"),
    learnt_too_little: ("ties", "3000 steps"),
    gamma_of_one: ("gamma_one", "gamma=0.99 (it is 1)"),
    untrained: ("untrained", "model.learn()"),
}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
def test_the_cause_of_a_failure_comes_first(failure):
    diagnosis = diagnose(failure(seed=0))
    first = diagnosis.findings[0]
    kind, advice = FAILURES[failure]
    assert first.kind == kind
    assert advice in first.advice
    check_texts(diagnosis)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
def test_the_cause_of_a_failure_comes_first_with_other_seeds(failure, seed):
    assert diagnose(failure(seed)).findings[0].kind == FAILURES[failure][0]


def check_texts(diagnosis):
    """Both languages say the same findings, fit into a terminal, and are JSON."""
    for language in diagnosis_words.LANGUAGES:
        translated = diagnosis.in_language(language)
        assert [f.kind for f in translated.findings] == [f.kind for f in diagnosis.findings]
        for line in str(translated).splitlines():
            assert diagnosis_words.columns(line) <= 80, line
        assert not re.search(r"\bNone\b|\{|\}", str(translated))
        data = json.loads(json.dumps(translated.to_dict(), allow_nan=False))
        assert data["findings"] == json.loads(json.dumps([f.to_dict() for f in translated.findings]))
        assert data["summary"] == translated.summary
    assert re.search("[가-힣]", diagnosis.in_language("ko").summary)


def test_the_advice_against_a_small_gamma_helps():
    advised = diagnose(gamma_too_small(seed=0)).findings[0].numbers["better_gamma"]
    model = LectureDQN.tuned("Taxi-v3", seed=0, gamma=advised, use_masking=True).learn()
    diagnosis = diagnose(model)
    assert diagnosis.is_optimal
    assert diagnosis.findings == ()
    assert str(diagnosis) == (
        "The policy is optimal: it solves 100% of the starts, and its mean reward is\n7.930, the highest possible."
    )
    assert exact_test(model).success_rate == 1


def test_a_policy_that_loses_a_step_from_one_start_is_nearly_optimal():
    model = LectureDQN("TablePolicy", "Taxi-v3", seed=0)
    table = TabularModel.from_env("Taxi-v3")
    values = table.optimal_action_values(0.9)
    start = int(table.start_states[7])
    values[start, table.optimum(1000).actions[start]] = -100
    valid = [a for a in range(4) if table.next_states[start, a, 0] != start]
    values[start, valid[-1] if valid[-1] != table.optimum(1000).actions[start] else valid[0]] = 100
    with th.no_grad():
        model.q_net.layers[0].weight.copy_(th.as_tensor(values))
    model.num_timesteps = 1
    diagnosis = diagnose(model)
    assert diagnosis.is_optimal is False
    assert "nearly optimal" in diagnosis.summary
    assert {finding.kind for finding in diagnosis.findings} <= {"detour", "not_learned"}


def random_table(rng, n_outcomes):
    n_states, n_actions = 12, 2
    P = {}
    for s in range(n_states):
        P[s] = {}
        for a in range(n_actions):
            chances = rng.dirichlet(np.ones(n_outcomes)) if n_outcomes > 1 else [1.0]
            P[s][a] = [
                (float(p), int(rng.integers(n_states)), float(rng.integers(-1, 2)), bool(rng.random() < 0.15))
                for p in chances
            ]
    return TabularModel(P, rng.dirichlet(np.ones(n_states)))


def walk(table, actions, start, limit):
    """One certain episode: how it ends, and the states of its loop."""
    state, seen = start, []
    for _ in range(limit):
        if state in seen:
            return "loop", frozenset(seen[seen.index(state) :])
        seen.append(state)
        a = actions[state]
        if table.terminated[state, a, 0]:
            return ("success" if table.successes[state, a, 0] else "bad_end"), frozenset()
        state = int(table.next_states[state, a, 0])
    return "cut", frozenset()


@pytest.mark.parametrize("seed", range(30))
def test_failures_of_certain_episodes_are_those_of_a_walk(seed):
    rng = np.random.default_rng(seed)
    table = random_table(rng, 1)
    actions = rng.integers(0, 2, table.n_states)
    limit = 50
    failures = find_failures(table, actions, limit, -10)
    ends = {s: walk(table, actions, s, limit) for s in table.start_states.tolist()}
    can_succeed = failures.best_successes > 0
    for kind in ("loop", "bad_end", "cut"):
        expected = [s for s, (end, _) in ends.items() if end == kind and can_succeed[s]]
        assert failures.by_kind[kind].tolist() == expected
    loops = {frozenset(loop.states): loop.n_starts for loop in failures.loops}
    walked = [states for s, (end, states) in ends.items() if end == "loop" and can_succeed[s]]
    assert loops == {states: walked.count(states) for states in set(walked)}
    for loop in failures.loops:
        for state, following in zip(loop.states, (*loop.states[1:], loop.states[0]), strict=True):
            assert table.next_states[state, actions[state], 0] == following


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_of_random_episodes_agree_with_linear_algebra(seed):
    rng = np.random.default_rng(seed)
    table = random_table(rng, 3)
    actions = rng.integers(0, 2, table.n_states)
    failures = find_failures(table, actions, 5000, -10)
    every = np.arange(table.n_states)
    goes_on = np.zeros((table.n_states, table.n_states))
    p, ends = table.probabilities[every, actions], table.terminated[every, actions]
    np.add.at(goes_on, (every[:, None], table.next_states[every, actions]), p * ~ends)
    can_end = np.linalg.matrix_power(goes_on, 4096).sum(axis=1) < 1e-9
    solved = np.linalg.lstsq(np.eye(len(every)) - goes_on, (p * ends).sum(axis=1), rcond=None)[0]
    np.testing.assert_allclose(failures.ended[can_end], solved[can_end], atol=1e-6)
    assert (failures.figures.successes <= failures.best_successes + 1e-9).all()
    in_loops = {state for loop in failures.loops for state in loop.states}
    assert not any(failures.ended[list(in_loops)])


def test_an_illegal_action_for_ever_is_no_loop_of_moves():
    table = TabularModel.from_env("Taxi-v3")
    failures = find_failures(table, np.full(500, 5), 200, -10)
    assert len(failures.by_kind["illegal"]) == 300
    assert len(find_failures(table, np.full(500, 0), 200, -10).by_kind["loop"]) == 300


def policy_of(env_id, actions):
    """A Q-table that chooses these actions."""
    model = LectureDQN("TablePolicy", env_id, seed=0)
    values = th.nn.functional.one_hot(th.as_tensor(actions), model.action_space.n).float()
    model.q_net.load_state_dict({"layers.0.weight": values})
    return model


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        ({}, "standing still, as at a wall: its action changes nothing"),  # left
        ({0: 2}, "walks in a circle until"),  # right, left, right
    ],
)
def test_a_policy_that_stands_at_a_wall_does_not_walk_in_a_circle(actions, said):
    policy = [actions.get(state, 0) for state in range(16)]
    (loop,) = (f for f in diagnose(policy_of("FrozenLakeNotSlippery-v1", policy)).findings if f.kind == "loop")
    assert said in loop.text


def test_detours_have_advice():
    up, right, down = 0, 1, 2
    policy = [right] * 48
    policy[36], policy[24] = up, up  # along the row that is farthest from the cliff
    policy[12] = up
    policy[11] = policy[23] = policy[35] = down
    found = {finding.kind: finding for finding in diagnose(policy_of("CliffWalking-v1", policy)).findings}
    assert "loses 4 of the best reward" in found["detour"].text
    assert "a longer training" in found["detour"].advice


def test_a_loop_is_drawn_on_its_grid():
    env = gym.make("Taxi-v3").unwrapped
    layout = grid_layout(env)
    states = [env.encode(0, 1, 0, 1), env.encode(1, 1, 0, 1)]
    actions = np.zeros(500, dtype=int)
    actions[states[1]] = 1
    assert draw_loop(states, actions, layout).splitlines() == [
        "R → G",
        "R ↓|. . G",
        ". ↑|. . .",
        ". . . . .",
        ".|. .|. .",
        "Y|. .|B .",
    ]
    actions[states[0]] = 5
    assert draw_loop(states[:1], actions, layout).splitlines()[1] == "R D|. . G"
    assert draw_loop([3, 4], np.arange(9), None) == "3 -(3)-> 4 -(4)-> 3"


def everything(model):
    """The weights, all random generators, and the positions of the environments."""
    memory = model.replay_buffer
    return [
        *[p.detach().numpy().tobytes() for p in model.policy.parameters()],
        model._exploration.rng.bit_generator.state,
        memory.rng.bit_generator.state,
        memory.success.filled().tobytes(),
        np.random.get_state()[1].tobytes(),  # noqa: NPY002
        th.get_rng_state().numpy().tobytes(),
        model.get_env().rng.bit_generator.state,
        np.asarray(model._last_obs).tobytes(),
    ]


def test_nothing_changes():
    model = LectureDQN("Taxi-v3", seed=0).learn(300)
    before = everything(model)
    diagnose(model)
    assert everything(model) == before
    other = LectureDQN("Taxi-v3", seed=0).learn(300)
    for each in (model, other):
        each.learn(200, reset_num_timesteps=False)
    assert everything(model)[:4] == everything(other)[:4]


def of_stock(env, algorithm=DQN, steps=400, policy="MlpPolicy", **settings):
    settings = {"seed": 0, "learning_starts": 50, "buffer_size": 1000, "train_freq": 50, **settings}
    return algorithm(policy, env, **settings).learn(steps)


def test_stock_algorithms_are_diagnosed_as_ours():
    assert diagnose(of_stock("FrozenLake-v1")).findings[0].kind in ("epsilon_gone", "never_seen")
    quantiles = of_stock("FrozenLake-v1", QRDQN, policy_kwargs={"n_quantiles": 3})
    assert diagnose(quantiles).findings[0].kind in ("epsilon_gone", "never_seen")
    masked = LectureQRDQN("Taxi-v3", seed=0, use_masking=True, policy_kwargs={"n_quantiles": 3}).learn(1500)
    assert diagnose(masked).findings[0].kind == "never_seen"
    check_texts(diagnose(masked))


def test_a_strange_environment_is_described_by_its_memory():
    models = [
        of_stock("CartPole-v1"),
        of_stock("MountainCar-v0"),
        of_stock(VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2))),
        of_stock(SimpleMultiObsEnv(random_start=False), policy="MultiInputPolicy"),
        LectureDQN("Blackjack-v1", seed=0).learn(200),
        LectureDQN("MlpPolicy", "CartPole-v1", seed=0).learn(200),
    ]
    for model in models:
        diagnosis = diagnose(model)
        assert diagnosis.is_optimal is None
        assert "no table of transitions" in diagnosis.summary
        assert "values" in [finding.kind for finding in diagnosis.findings]
        check_texts(diagnosis)
    assert diagnose(models[1]).findings[0].kind == "epsilon_gone"


def test_values_beyond_all_returns_are_found_without_a_table():
    model = of_stock("CartPole-v1")
    with th.no_grad():
        model.q_net.q_net[-1].bias += 150  # no return is beyond 1 / (1 - 0.99) = 100
    finding = diagnose(model).findings[0]
    assert finding.kind == "diverged"
    assert finding.numbers["bound"] == pytest.approx(100)
    with th.no_grad():
        model.q_net.q_net[-1].bias += math.nan
    assert diagnose(model).findings[0].kind == "diverged"


def test_a_file_without_a_memory_says_so(tmp_path):
    too_few_episodes(0).save(tmp_path / "model")
    diagnosis = diagnose(LectureDQN.load(tmp_path / "model"))
    assert diagnosis.findings[0].kind == "no_memory"
    check_texts(diagnosis)
    of_stock("FrozenLake-v1", steps=60).save(tmp_path / "stock")
    stock = DQN.load(tmp_path / "stock")
    assert diagnose(stock).is_optimal is None
    assert "given as env" in diagnose(stock).summary
    assert diagnose(stock, "FrozenLake-v1").is_optimal is False


def test_wrong_arguments_are_named():
    model = LectureDQN("FrozenLake-v1", seed=0)
    with pytest.raises(ValueError, match="language"):
        diagnose(model, language="de")
    with pytest.raises(ValueError, match="has no action values"):
        diagnose(PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8))
    with pytest.raises(ValueError, match="env has 500 states"):
        diagnose(model, "Taxi-v3")
    with pytest.raises(NotTabularError):
        diagnose(model, "CartPole-v1")


@pytest.mark.parametrize(("decay", "floor"), [(0.99, 0.1), (0.5, 0.05), (0.9, 0.0), (0.0, 0.1)])
def test_epsilon_reached_its_lowest_value_at_the_first_such_episode(decay, floor):
    model = LectureDQN("FrozenLake-v1", seed=0, exploration_decay=decay, exploration_final_eps=floor)
    model._episode_num = 1000
    epsilon = read_record(model, None).epsilon
    lowest = max(floor, 0.01)
    assert epsilon.floor_since == next(i for i in range(1, 1000) if model.epsilon(i) <= lowest)
    assert epsilon.share_at_floor == pytest.approx(1 - epsilon.floor_since / 1000)


def test_epsilon_by_steps_reached_its_lowest_value_after_the_fraction():
    model = of_stock("FrozenLake-v1", exploration_fraction=0.25)
    epsilon = read_record(model, None).epsilon
    assert (epsilon.unit, epsilon.floor_since, epsilon.share_at_floor) == ("step", 100, 0.75)


def test_the_first_solved_test_is_compared_with_epsilon():
    model = epsilon_gone(seed=1)
    record = read_record(model, {50: 0.0, 60: 0.1, 70: 0.0})
    assert record.first_solved == 60
    late = causes.late_first_success(record)
    assert (late.kind, late.numbers["since"]) == ("epsilon_late", 7)
    assert causes.late_first_success(read_record(model, {5: 0.2})) is None
    assert causes.late_first_success(read_record(model, None)) is None


def test_a_record_is_complete_only_if_nothing_was_forgotten():
    def record(**settings):
        model = LectureDQN("FrozenLake-v1", seed=0, **settings).learn(300)
        return read_record(model, None)

    once = record()
    assert (once.is_complete, once.keeps_ends) == (True, True)
    assert record(replay_buffer_kwargs={"deduplicate": False, "success_capacity": 500}, buffer_size=500).is_complete
    assert record(replay_buffer_kwargs={"deduplicate": False, "success_capacity": None}, buffer_size=301).is_complete
    small = record(buffer_size=5)
    assert (small.is_complete, small.forgets, small.keeps_ends) == (False, True, True)
    bounded = record(buffer_size=20, replay_buffer_kwargs={"deduplicate": False, "success_capacity": 2})
    assert (bounded.is_complete, bounded.keeps_ends) == (False, False)
    odd = LectureDQN("FrozenLake-v1", seed=0, buffer_size=5)
    odd.learn(1)
    memory = odd.replay_buffer = SuccessFailReplayBuffer(5, odd.observation_space, odd.action_space)
    for state in range(10):  # five successes, of which the failures after them leave two
        memory.add(*(np.array([x]) for x in (state, state, 0, float(state < 5), state < 5)), [{}])
    assert (memory.success_size, read_record(odd, None).keeps_ends) == (2, False)
    assert not record(store_and_replay=False).has_replay
    counted = LectureDQN("FrozenLake-v1", seed=0, buffer_size=5, explore_least_tried=True).learn(300)
    tried = read_record(counted, None).tried(TabularModel.from_env("FrozenLake-v1"))
    np.testing.assert_array_equal(tried, counted._exploration.counts > 0)


@pytest.mark.parametrize("algorithm", [LectureDQN, DQN])
def test_a_memory_of_several_calls_of_learn_is_not_complete(algorithm):
    """Though the steps, which are counted anew, are fewer than it holds."""
    settings = {"policy": "MlpPolicy", "env": "FrozenLake-v1", "buffer_size": 100, "seed": 0}
    more = {"replay_buffer_kwargs": {"deduplicate": False}} if algorithm is LectureDQN else {}
    model = algorithm(**settings, **more).learn(300).learn(50)
    record = read_record(model, None)
    assert (record.forgets, record.is_complete) == (True, False)


def test_without_a_table_a_training_without_updates_is_named_too():
    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0, learning_starts=200).learn(100)
    first = diagnose(model).findings[0]
    assert (first.kind, "learning_starts=200" in first.text) == ("no_update", True)


def test_advice_against_a_learning_rate_names_the_one_that_training_began_with():
    model = LectureDQN("Taxi-v3", seed=0, learning_rate=lambda left: 0.02 * left)
    with pytest.raises(DivergedError):
        model.learn(total_timesteps=100)
    assert "a lower learning_rate, such as 0.002 (it is 0.02)" in diagnose(model).findings[0].advice


def test_dropout_and_running_statistics_stay_as_they_are():
    class Extractor(FlattenExtractor):
        def __init__(self, space):
            super().__init__(space)
            self.more = th.nn.Sequential(th.nn.BatchNorm1d(self.features_dim), th.nn.Dropout())

        def forward(self, observations):
            return self.more(super().forward(observations))

    settings = {"batch_size": 8, "learning_starts": 20, "policy_kwargs": {"features_extractor_class": Extractor}}
    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0, **settings).learn(60)
    before = copy.deepcopy(model.q_net.state_dict())
    assert model.q_net.training
    assert str(diagnose(model)) == str(diagnose(model))
    assert model.q_net.training
    th.testing.assert_close(model.q_net.state_dict(), before, rtol=0, atol=0)


def test_every_finding_has_words_in_both_languages():
    for table in (
        diagnosis_words.SUMMARIES,
        diagnosis_words.TITLES,
        diagnosis_words.SENTENCES,
        diagnosis_words.ADVICE,
    ):
        for key, (english, korean) in table.items():
            assert not re.search("[가-힣]", english), key
            assert re.search("[가-힣]", korean) or key in ("huber", "clip", "gamma"), key
            fields = [sorted(re.findall(r"\{(\w+)[^}]*\}", text)) for text in (english, korean)]
            assert fields[0] == fields[1], key
