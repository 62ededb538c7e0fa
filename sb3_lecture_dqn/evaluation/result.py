"""What a test of a model found."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TestResult:
    """
    Averages over the episodes of a test.

    :param mean_steps: Steps per episode
    :param mean_penalties: Steps per episode whose reward was the penalty (-10 in Taxi: an illegal pick-up or drop-off)
    :param mean_reward: Undiscounted return per episode
    :param success_rate: Share of episodes that succeeded, in [0, 1]: ``info["is_success"]`` of the last step where the
        environment gives it; else whether the episode ended well in a tabular environment (see
        :attr:`TabularModel.successes`), and in others whether it ended other than by a step limit
    :param n_episodes: Number of episodes
    :param optimality: Where the reward stands between the random policy (0) and the best possible (1), see
        :func:`optimal_values`: ``(reward - random) / (optimal - random)``, both expected from the starts of the test.
        Above 1 is only a sample of random outcomes; below 0 is a policy worse than the random one. ``None`` where the
        test did not run on arrays (see :func:`run_test`), or where no policy is better than another. Not considered in
        comparisons of results, as it follows from the rest. Printed only where most episodes succeed: an agent that
        never succeeds can be far better than the random policy and still have learnt nothing of the task
    :param knows_success: Whether ``success_rate`` tells successes. Where an end may be good or bad, and the environment
        does not say which, it is printed as the share of episodes that ``terminated``. Not considered in comparisons
    """

    __test__ = False  # not a test class of pytest's

    mean_steps: float
    mean_penalties: float
    mean_reward: float
    success_rate: float
    n_episodes: int
    optimality: float | None = field(default=None, compare=False)
    knows_success: bool = field(default=True, compare=False)

    def __str__(self) -> str:
        text = (
            f"{self.n_episodes} test episodes: {self.mean_steps:.2f} steps, {self.mean_penalties:.2f} penalties, "
            f"{self.mean_reward:.2f} reward, {self.success_rate:.1%} {'solved' if self.knows_success else 'terminated'}"
        )
        if self.optimality is None or (self.knows_success and not tells_optimality(self.success_rate)):
            return text
        return f"{text}, optimality {self.optimality:.4f}"


def tells_optimality(success_rate: float) -> bool:
    """
    Whether an agent is good enough for its optimality to mean what a reader takes it for.

    :param success_rate: Share of episodes that succeeded
    :return: Whether most did
    """
    return success_rate > 0.5
