"""The result of the Deep RL course: its seeds, its loop, its numbers."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_lecture_dqn import LectureDQN, TabularModel
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.evaluation.course import BEST_RESULT, MAX_STEPS, SEEDS, course_test


def model_of(action_values):
    """A model that acts by a table."""
    model = LectureDQN("TablePolicy", "Taxi-v3")
    model.q_net.layers[0].weight.data[:] = th.as_tensor(action_values)
    return model


@pytest.fixture(scope="module")
def optimal():
    return TabularModel.from_env("Taxi-v3").optimal_action_values(0.99)


def evaluate_agent(q_table):
    """The course's function, on its environment."""
    env, returns = gym.make("Taxi-v3"), []
    for seed in SEEDS:
        state, _ = env.reset(seed=seed)
        returns.append(0)
        for _ in range(MAX_STEPS):
            state, reward, terminated, truncated, _ = env.step(int(q_table[state].argmax()))
            returns[-1] += reward
            if terminated or truncated:
                break
    return np.mean(returns), np.std(returns)


def test_an_optimal_agent_has_the_best_result(optimal, tmp_path, capsys):
    model_of(optimal).save(tmp_path / "model")
    assert main(["test", str(tmp_path / "model.zip"), "--course"]) == 0
    assert capsys.readouterr().out == (
        "Deep RL course, unit 2: result 4.85 = mean reward 7.56 - standard deviation 2.71 over the course's 100 seeds; "
        "best possible: 4.85, to pass: 4.50\n"
    )
    mean, std = evaluate_agent(optimal)
    assert (mean, std) == (7.56, pytest.approx(2.7067, abs=1e-4))
    assert mean - std == pytest.approx(BEST_RESULT, abs=0.005)


def test_the_result_is_that_of_the_courses_loop(optimal):
    """Also of an agent that never arrives from some starts."""
    spoilt = optimal.copy()
    spoilt[np.random.default_rng(0).random(len(spoilt)) < 0.05] = 0.0  # it goes south there
    score = course_test(model_of(spoilt))
    assert (score.mean_reward, score.std_reward) == pytest.approx(evaluate_agent(spoilt))
    assert score.mean_reward < 0


def test_the_seeds_are_the_courses():
    """By the sums that its list has."""
    assert (len(SEEDS), len(set(SEEDS)), sum(SEEDS)) == (100, 76, 8859)
    assert sum(i * seed for i, seed in enumerate(SEEDS)) == 403_242


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--env", "FrozenLake-v1"], "env='FrozenLake-v1': the course's score is that of Taxi-v3"),
        (["--env", "TaxiRainy-v3"], "env='TaxiRainy-v3': the course's score is that of Taxi-v3"),
        (["--episodes", "5", "--seed", "0"], "leave out --episodes 5, --seed 0"),
        (["--max-episode-steps", "5"], "leave out --max-episode-steps 5"),
    ],
)
def test_what_is_not_the_courses_is_refused(options, message, optimal, tmp_path, capsys):
    model_of(optimal).save(tmp_path / "model")
    assert main(["test", str(tmp_path / "model"), "--course", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_model_of_another_environment_is_refused():
    with pytest.raises(ValueError, match="env='FrozenLake-v1': the course's score is that of Taxi-v3"):
        course_test(LectureDQN("FrozenLake-v1"))
    with pytest.raises(ValueError, match=r"the model needs Discrete\(16\)"):
        course_test(LectureDQN("FrozenLake-v1"), "Taxi-v3")
