"""What `train` prints in the words of the lecture, and how it tells that a training has diverged."""

import textwrap
from typing import Any

from sb3_lecture_dqn.engine.divergence import DivergedError
from sb3_lecture_dqn.evaluation.result import TestResult, tells_optimality

#: Columns of a terminal
WIDTH = 80


def introduction(model: Any) -> str:
    """
    Return the lines that the lecture prints before the training.

    :param model: The model
    :return: The spaces and the two switches
    """
    return (
        f"Action Space {model.action_space}\n"
        f"State Space {model.observation_space}\n"
        f"Store & replay: {model.store_and_replay}\n"
        f"Double DQN: {model.double_dqn}"
    )


def results(result: TestResult) -> str:
    """
    Return the lines that the lecture prints after the training, and two more: the share of solved episodes, and the
    optimality, if it is known and means something.

    :param result: The last test
    :return: The lines
    """
    lines = [
        f"Results after {result.n_episodes} episodes:",
        f"Average timesteps per episode: {round(result.mean_steps, 2)}",
        f"Average penalty per episode: {round(result.mean_penalties, 2)}",
        f"Average reward per episode: {round(result.mean_reward, 2)}",
        f"{'Solved' if result.knows_success else 'Terminated'} episodes: {result.success_rate:.1%}",
    ]
    if result.optimality is not None and (tells_optimality(result.success_rate) or not result.knows_success):
        lines.append(f"Optimality: {result.optimality:.4f} (0: as the random policy, 1: the best possible)")
    return "\n".join(lines)


def divergence(error: DivergedError) -> str:
    """
    Return the message of a training that has diverged: what happened, how the values grew, and what helps.

    :param error: The error
    :return: Paragraphs of at most 80 columns
    """
    parts = [f"sb3-lecture-dqn: {error.fact}", error.growth, error.advice]
    return "\n".join(textwrap.fill(part, WIDTH, subsequent_indent="  ") for part in parts if part)
