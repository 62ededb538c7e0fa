"""The result of a test of a model."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TestResult:
    """
    Averages over the episodes of a test.

    :param mean_steps: Steps per episode
    :param mean_penalties: Steps per episode whose reward was the penalty (-10 in Taxi: an illegal pick-up or drop-off)
    :param mean_reward: Undiscounted return per episode
    :param success_rate: Share of episodes that succeeded, in [0, 1]. An episode succeeds if ``info["is_success"]`` of
        its last step is true. Without that info, it succeeds in a tabular environment if it ends well (see
        :attr:`TabularModel.successes`), and in others if it ends, but not by a step limit
    :param n_episodes: Number of episodes
    :param optimality: ``(reward - random) / (optimal - random)``: 0 for the random policy, 1 for the best possible, see
        :func:`optimal_values`, both expected from the starts of the test. Values above 1 come from random outcomes.
        ``None`` if the test did not run on arrays, or if all policies are equally good. Ignored when results are
        compared, because it follows from the rest. Printed only if most episodes succeed: an agent that never succeeds
        can be far better than the random policy and still have learnt nothing of the task
    :param knows_success: Whether ``success_rate`` counts successes. It does not if an end may be good or bad and the
        environment does not say which; then it is printed as the share of episodes that ``terminated``. Ignored when
        results are compared
    :param is_exact: Whether these are expectations over all starts, which are counted by ``n_episodes``. Ignored when
        results are compared
    """

    __test__ = False  # pytest must not collect it

    mean_steps: float
    mean_penalties: float
    mean_reward: float
    success_rate: float
    n_episodes: int
    optimality: float | None = field(default=None, compare=False)
    knows_success: bool = field(default=True, compare=False)
    is_exact: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        n = self.n_episodes
        if self.is_exact:
            return f"{'the only start' if n == 1 else f'all {n} starts'}, exactly: {self.figures}"
        return f"{n} test episode{'s' if n > 1 else ''}: {self.figures}"

    @property
    def figures(self) -> str:
        """The averages as text."""
        text = (
            f"{self.mean_steps:.2f} steps, {self.mean_penalties:.2f} penalties, "
            f"{self.mean_reward:.2f} reward, {self.success_rate:.1%} {'solved' if self.knows_success else 'terminated'}"
        )
        if self.optimality is None or (self.knows_success and not tells_optimality(self.success_rate)):
            return text
        return f"{text}, optimality {self.optimality:.4f}"


def tells_optimality(success_rate: float) -> bool:
    """
    Decide whether the optimality of an agent is worth telling.

    :param success_rate: Share of episodes that succeeded
    :return: Whether most of them did
    """
    return success_rate > 0.5


#: Names and widths of the columns of a compact table; 63 columns in all
_COLUMNS = {"episode": 9, "step": 12, "steps": 11, "penalties": 11, "reward": 11, "solved": 9}


def compact_header(knows_success: bool) -> str:
    """
    Return the names above the lines of :func:`compact_line`.

    :param knows_success: See :class:`TestResult`
    :return: A line of 63 columns
    """
    names = [name if name != "solved" or knows_success else "ended" for name in _COLUMNS]
    return "".join(map(str.rjust, names, _COLUMNS.values()))


def compact_line(episode: int, step: int, result: TestResult) -> str:
    """
    Return a test as a line of a table.

    :param episode: Number of finished episodes
    :param step: Number of environment steps
    :param result: Result of the test
    :return: A line of 63 columns. A number that is too long for its column is rounded to three digits
    """
    texts = [str(episode), str(step)]
    texts += [f"{figure:.2f}" for figure in (result.mean_steps, result.mean_penalties, result.mean_reward)]
    figures = (episode, step, result.mean_steps, result.mean_penalties, result.mean_reward)
    widths = [*_COLUMNS.values()]
    texts = [
        text if len(text) < width else f"{figure:.3g}"
        for text, figure, width in zip(texts, figures, widths[:5], strict=True)
    ]
    return "".join(map(str.rjust, [*texts, f"{result.success_rate:.1%}"], widths))
