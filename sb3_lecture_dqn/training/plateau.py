"""Whether training still improves, where no test can tell that nothing is better; and the best model so far."""

import math
from typing import Any

import numpy as np
import torch as th

from sb3_lecture_dqn.common.checks import UnsafeFileError, check_number
from sb3_lecture_dqn.training.best_weights import check_weights_of_test

#: Tests in a block; blocks are compared
BLOCK = 5


def compare(scores: list[float]) -> tuple[float, float, float] | None:
    """
    Compare the last block of tests with the best block before it.

    Blocks are ``BLOCK`` tests that follow each other, counted from the first test. The noise is the standard error of
    the difference of their means, from the spread of the tests within the two blocks.

    :param scores: Mean rewards of all tests so far
    :return: Means of the last block and of the best one before, and the noise; ``None`` without two whole blocks
    """
    n_blocks = len(scores) // BLOCK
    if n_blocks < 2:
        return None
    blocks = np.reshape(scores[: n_blocks * BLOCK], (n_blocks, BLOCK))
    last, before = blocks[-1], max(blocks[:-1], key=np.mean)
    noise = math.sqrt((last.var(ddof=1) + before.var(ddof=1)) / BLOCK)
    return float(last.mean()), float(before.mean()), noise


class Plateau:
    """
    Notes the score of every test, and keeps the weights of the best model.

    That is the model of the best test in a block of tests, the later one of equals. The block is the last one that is
    not worse than the best block, by more than the noise, see :func:`compare`.
    """

    def __init__(self) -> None:
        self.scores: list[float] = []
        #: Environment steps at the test of the best model, and its weights
        self.step, self.weights = 0, dict[str, th.Tensor]()
        # Of the best test of the block that is not whole yet
        self._step_in_block, self._weights_in_block = 0, dict[str, th.Tensor]()

    def note(self, score: float, step: int, weights: dict[str, th.Tensor]) -> None:
        """
        Note a test.

        :param score: Its mean reward
        :param step: Environment steps so far
        :param weights: A copy of the model's, see :func:`weights_of`
        """
        block = self.scores[len(self.scores) // BLOCK * BLOCK :]
        self.scores.append(score)
        if not block or score >= max(block):
            self._step_in_block, self._weights_in_block = step, weights
        if len(block) + 1 == BLOCK:
            last, best, noise = compare(self.scores) or (0.0, 0.0, 0.0)
            if last >= best - noise:
                self.step, self.weights = self._step_in_block, self._weights_in_block

    @property
    def kept(self) -> list[dict[str, th.Tensor]]:
        """All weights that are kept, by name: of the best model, and of the best one in the block that is not whole."""
        return [self.weights, self._weights_in_block]

    @property
    def improves(self) -> bool:
        """Whether the last block of tests is better than the best one before, by more than the noise."""
        last, best, noise = compare(self.scores) or (0.0, 0.0, 0.0)
        return last - best > noise

    def __str__(self) -> str:
        compared = compare(self.scores)
        if compared is None:
            return f"{len(self.scores)} tests are too few to compare, so the model is the last one"
        last, best, noise = compared
        means = f"the last {BLOCK} had {last:.6g} reward, the best {BLOCK} before {best:.6g} (noise {noise:.2g})"
        return f"{means}; the model is that of step {self.step:,}"

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint.

        :return: The state, as data without code
        """
        return {**vars(self), "scores": list(self.scores)}

    def set_state(self, state: Any) -> None:
        """
        Restore the state of another object.

        :param state: Return value of its :meth:`get_state`
        :raises UnsafeFileError: If the state is not valid
        """
        if not isinstance(state, dict) or state.keys() != vars(self).keys():
            raise UnsafeFileError(f"the plateau must have {', '.join(vars(self))}")
        scores = state["scores"]
        if not isinstance(scores, list) or not all(type(score) is float and math.isfinite(score) for score in scores):
            raise UnsafeFileError("the scores of tests must be a list of finite numbers")
        for name in ("step", "_step_in_block"):
            check_number(f"the plateau's {name}", state[name], 0, integer=True)
        for name in ("weights", "_weights_in_block"):
            check_weights_of_test(state[name])
        self.__dict__.update(state)


def mean_return_since(model: Any, n_episodes_before: int) -> float | None:
    """
    Average the returns of training episodes. They stand in for a test where the environment cannot be copied.

    :param model: The model
    :param n_episodes_before: Number of episodes that had ended at the test before
    :return: The mean of the returns that SB3's ``ep_info_buffer`` has of the episodes since, at most 100; ``None``
        without any
    """
    n = model._episode_num - n_episodes_before
    ended = [float(episode["r"]) for episode in list(model.ep_info_buffer or ())[-n:]] if n > 0 else []
    return float(np.mean(ended)) if ended else None
