"""The end of a training whose budget the user leaves to the model: a solved test or a plateau, and the best model."""

from typing import Any

import gymnasium as gym
import torch as th

from sb3_lecture_dqn.common.checks import UnsafeFileError, check_number
from sb3_lecture_dqn.common.seeding import make_rng
from sb3_lecture_dqn.envs.tabular import NotTabularError
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError, may_change_rewards
from sb3_lecture_dqn.evaluation.environment import is_own_to_close, make_test_env, tabular_env
from sb3_lecture_dqn.evaluation.result import TestResult
from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD, exact_test_on, run_test_on
from sb3_lecture_dqn.training.best_weights import check_weights_of_test, set_weights, weights_of
from sb3_lecture_dqn.training.callbacks import result_of
from sb3_lecture_dqn.training.due import Due
from sb3_lecture_dqn.training.plateau import Plateau, mean_return_since
from sb3_lecture_dqn.training.schedule import Budget, Every
from sb3_lecture_dqn.training.tuned import has_own_settings

#: Lowest optimality of an exact test that counts as solved: if outcomes are certain, if they are not, and if they are
#: not and the budget is spent
CERTAIN, UNCERTAIN, UNCERTAIN_AT_END = 1 - 1e-9, 0.9999, 0.998
#: Number of tests in a row that must reach the environment's reward threshold, if there are no exact tests
STABLE = 3
#: Training ends after so many budgets, solved or not
MAX_BUDGETS = 10
# Number of tests in a budget. Exact ones take milliseconds
_EXACT_TESTS, _TESTS = 80, 20
# Episodes of another test: as few as have the steps between two tests, for tests should not take longer than the
# training; but fewer than five tell nothing
_FEWEST_EPISODES, _EPISODES = 5, 20
_COUNTERS = ("n_timesteps", "tested_at", "n_tests", "in_a_row", "best_step")


class Goal:
    """
    Train until a test is solved or tests no longer improve, and keep the model of the best test.

    ``learn`` follows a goal if the model is :meth:`tuned` and the user gives no budget:

    - In a tabular environment, exact tests look at all starts. A test is solved if no policy is better; if outcomes are
      uncertain, with an optimality of at least ``UNCERTAIN``, or ``UNCERTAIN_AT_END`` when a budget is spent. In
      another environment whose registration has a reward threshold, for these rewards and this step limit, the last of
      ``STABLE`` tests in a row that reach the threshold is solved. Training ends at the first solved test.
    - In all others, no test is solved. Training ends with a budget at whose end tests no longer improve, see
      :class:`Plateau`. A test plays episodes that no test played before; if the environment cannot be copied, or has no
      known step limit, the training's own episodes since the last test stand in for them. An environment with settings
      of its own, such as Blackjack, has one budget and no tests.
    - If a budget is spent and training has not ended, it is extended by as many steps again, up to ``MAX_BUDGETS``
      budgets in all; schedules, such as that of the learning rate, stretch to the new end.
    - At the end, the model gets the weights of the best test.

    :param n_timesteps: The budget in environment steps; ``None`` for no goal
    :param steps: Environment steps of the model before the call of ``learn``
    :param episodes: Episodes of the model before the call of ``learn``
    """

    def __init__(self, n_timesteps: int | None = None, steps: int = 0, episodes: int = 0) -> None:
        self.n_timesteps = n_timesteps
        self.is_solved = False
        #: What has come of it, in words; empty as long as training goes on
        self.summary = ""
        self._every = Every(1, "step")
        self._every.start(steps, episodes)
        self._n_tests = self._in_a_row = self._best_step = 0
        self._best: TestResult | None = None
        self._weights: dict[str, th.Tensor] = {}
        #: Of tests that cannot be solved; ``None`` if they can
        self._plateau: Plateau | None = None
        self._plays = True  # whether tests are episodes of their own
        self._n_episodes = episodes  # that had ended at the last test

    def begin(self, model: Any) -> None:
        """
        Find out which tests there are. Without any, there is no goal.

        :param model: The model, set up for training
        :raises UnsafeFileError: If the weights of a resumed run do not fit the model
        """
        if self.n_timesteps is None:
            return
        is_exact = _table_of(model) is not None
        can_be_solved = is_exact or (_threshold_of(model) is not None and _can_be_copied(model))
        if not can_be_solved and has_own_settings(model):
            self.n_timesteps = None
            return
        if not can_be_solved:
            self._plateau = self._plateau or Plateau()
            self._plays = model.max_episode_steps is not None and _can_be_copied(model)
        self._every.n = max(self.n_timesteps // (_EXACT_TESTS if is_exact else _TESTS), 1)
        shapes = {name: value.shape for name, value in weights_of(model).items()}
        for weights in [self._weights] if self._plateau is None else self._plateau.kept:
            if weights and {name: value.shape for name, value in weights.items()} != shapes:
                raise UnsafeFileError("the weights of the best test do not fit the model")

    def goes_on(self, model: Any, budget: Budget) -> bool:
        """
        Decide whether training goes on. Test if a test is due; extend the budget if it is spent and no test is solved.

        :param model: The model, between two rollouts
        :param budget: The budget of this call of ``learn``
        :return: Whether training goes on
        """
        steps, is_spent = model.num_timesteps, budget.is_spent(model.num_timesteps, model._episode_num)
        if self.n_timesteps is None:
            return not is_spent
        if self._plateau is not None:
            if self._every.due(steps, 0):
                self._test_for_plateau(model)
            if not is_spent or not self._plateau.improves:
                return not is_spent
            return self._extend(model, budget, str(self._plateau))
        if self._every.due(steps, 0) or is_spent:
            self._test(model)
            self.is_solved |= is_spent and self._is_enough(model)
        if self.is_solved or not is_spent:
            return not self.is_solved
        return self._extend(model, budget, f"best test: {self._best}")

    def _extend(self, model: Any, budget: Budget, reason: str) -> bool:
        """Extend a spent budget by as many steps again; return ``False`` if there were ``MAX_BUDGETS``."""
        assert self.n_timesteps is not None
        if self._is_last(budget):
            return False
        budget.until_steps += self.n_timesteps
        model._total_timesteps = budget.until_steps
        if model.verbose >= 1:
            words = "Not solved" if self._plateau is None else "Still better"
            print(f"{words} at step {model.num_timesteps:,} ({reason}): {self.n_timesteps:,} steps more")
        return True

    def _is_last(self, budget: Budget) -> bool:
        return budget.until_steps - budget.steps_before >= MAX_BUDGETS * (self.n_timesteps or 0)

    def is_over(self, model: Any, budget: Budget) -> bool:
        """
        Tell whether a run has ended, so that nothing is left to train.

        :param model: The resumed model
        :param budget: Its budget
        :return: Whether :meth:`goes_on` was ``False`` at the last checkpoint
        """
        is_spent = budget.is_spent(model.num_timesteps, model._episode_num)
        if self.n_timesteps is None or not is_spent:
            return is_spent or self.is_solved
        at_plateau = self._plateau is not None and not self._plateau.improves
        return self.is_solved or at_plateau or self._is_last(budget)

    def next_due(self, steps: int) -> Due:
        """
        Compute when the next test is due.

        :param steps: Environment steps so far
        :return: Steps from now
        """
        return Due() if self.n_timesteps is None else self._every.from_now(steps, 0)

    def end(self, model: Any) -> None:
        """
        Give the model the weights of the best test. Call this when :meth:`goes_on` has ended training.

        :param model: The model
        """
        if self._plateau is not None:
            if self._plateau.weights:
                set_weights(model, self._plateau.weights)
            verdict = "Stopped with the last budget" if self._plateau.improves else "Stopped at a plateau"
            kind = "tests of new episodes" if self._plays else "means of training episodes"
            self.summary = f"{verdict} at step {model.num_timesteps:,} ({kind}): {self._plateau}"
        elif self._best is not None:
            set_weights(model, self._weights)
            verdict = "Solved" if self.is_solved else "Not solved, so the best model is kept"
            steps = f"{self._best_step:,} of {model.num_timesteps:,}"
            self.summary = f"{verdict}: the test at step {steps} had {self._best}"
        else:
            return
        if model.verbose >= 1:
            print(self.summary)

    def _test(self, model: Any) -> None:
        try:
            result, is_good = self._exact_test(model) or self._stepped_test(model)
        except CannotCopyError:  # a missing test must not end the training
            return
        self._n_tests += 1
        self._in_a_row = self._in_a_row + 1 if is_good else 0
        self.is_solved = self._in_a_row >= (1 if result.optimality is not None else STABLE)
        if self._best is None or result.mean_reward >= self._best.mean_reward:
            self._best, self._best_step = result, model.num_timesteps
            self._weights = weights_of(model)

    def _test_for_plateau(self, model: Any) -> None:
        assert self._plateau is not None
        score: float | None = None
        if self._plays:
            try:
                score = self._stepped_test(model)[0].mean_reward
            except CannotCopyError:
                self._plays = False
        if score is None:
            score = mean_return_since(model, self._n_episodes)
        if score is not None:
            self._n_tests, self._n_episodes = self._n_tests + 1, model._episode_num
            self._plateau.note(score, model.num_timesteps, weights_of(model))

    def _exact_test(self, model: Any) -> tuple[TestResult, bool] | None:
        """Test exactly, and return the result and whether it is solved; ``None`` if the model has no table."""
        table = _table_of(model)
        if table is None:
            return None
        result = exact_test_on(model, table, None, PENALTY_REWARD)
        least = CERTAIN if table.model.deterministic else UNCERTAIN
        return result, result.optimality is not None and result.optimality >= least

    def _is_enough(self, model: Any) -> bool:
        """Whether the best test of a spent budget is good enough, as no later one may be better."""
        table, best = _table_of(model), self._best
        if table is None or table.model.deterministic or best is None or best.optimality is None:
            return False
        return best.optimality >= UNCERTAIN_AT_END

    def _stepped_test(self, model: Any) -> tuple[TestResult, bool]:
        """
        Test by episodes, and return the result and whether it is good.

        They are the same ones every time if a test can be solved, else new ones, so that tests differ by chance alone
        where the model is the same. Of long episodes there are few, and all of them only if these reach the threshold.
        """
        threshold = _threshold_of(model) if self._plateau is None else None
        result = self._play(model, self._n_episodes_of_test(model))
        if threshold is None or result.mean_reward < threshold:
            return result, False
        if result.n_episodes < _EPISODES:
            result = self._play(model, _EPISODES)
        return result, result.mean_reward >= threshold

    def _n_episodes_of_test(self, model: Any) -> int:
        n_steps = model.max_episode_steps or 1
        return min(max(self._every.n // n_steps, _FEWEST_EPISODES), _EPISODES)

    def _play(self, model: Any, n_episodes: int) -> TestResult:
        copies = make_test_env(model, None, None, n_episodes)
        seed = int(make_rng(model.seed or 0, "test").integers(2**31 - 1))
        copies.seed(seed if self._plateau is None else seed + self._n_tests * _EPISODES)
        try:
            return run_test_on(model, copies, n_episodes, None, PENALTY_REWARD)
        finally:
            if is_own_to_close(copies, model, None):
                copies.close()

    def get_state(self) -> dict[str, Any] | None:
        """
        Return the state for a checkpoint.

        :return: The state, as data without code; ``None`` if there is no goal
        """
        if self.n_timesteps is None:
            return None
        numbers = (self.n_timesteps, self._every.counted, self._n_tests, self._in_a_row, self._best_step)
        best = None if self._best is None else dict(vars(self._best))
        counters = dict(zip(_COUNTERS, numbers, strict=True))
        plateau = None if self._plateau is None else self._plateau.get_state()
        more = {"plateau": plateau, "n_episodes": self._n_episodes}
        return {**counters, "is_solved": self.is_solved, "best": best, "weights": self._weights, **more}

    def set_state(self, state: Any) -> None:
        """
        Restore the state of another object.

        :param state: Return value of its :meth:`get_state`
        :raises ValueError: If the state is not valid
        """
        if state is None:
            self.__init__()  # type: ignore[misc]
            return
        for name in _COUNTERS:
            check_number(f"goal: {name}", state[name], 0, integer=True)
        check_weights_of_test(weights := state["weights"])
        check_number("goal: n_episodes", n_episodes := state.get("n_episodes", 0), 0, integer=True)
        if (plateau := state.get("plateau")) is not None:
            self._plateau = Plateau()
            self._plateau.set_state(plateau)
        self._n_episodes = n_episodes
        self.n_timesteps, self._every.counted, self._n_tests, self._in_a_row, self._best_step = (
            state[name] for name in _COUNTERS
        )
        self.is_solved, self._weights = bool(state["is_solved"]), dict(weights)
        self._best = None if state["best"] is None else result_of(0, state["best"])[1]


def _table_of(model: Any) -> Any:
    """The model's environment as a table with a step limit; ``None`` if there is none."""
    try:
        table = tabular_env(model, None, None)
        table.tightest_limit(None)
    except CannotCopyError:
        raise
    except (NotTabularError, ValueError):
        return None
    return table


def _threshold_of(model: Any) -> float | None:
    """
    The mean reward from which on the environment counts as solved; ``None`` if its registration has none.

    It does not apply if a wrapper may change the rewards, or if the step limit is not the registered one.
    """
    envs = getattr(model.env.unwrapped, "envs", ())
    spec = envs[0].spec if envs else None
    if spec is None or spec.reward_threshold is None or may_change_rewards(model.env):
        return None
    has_its_limit = model.max_episode_steps == gym.registry.get(spec.id, spec).max_episode_steps
    return float(spec.reward_threshold) if has_its_limit else None


def _can_be_copied(model: Any) -> bool:
    try:
        make_test_env(model, None, None, 1)
    except ValueError:
        return False
    return True
