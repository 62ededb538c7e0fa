"""One trial of a study: a training run that can be stopped anywhere, and its row of results."""

import copy
import hashlib
import inspect
import json
import pathlib
import shutil
import traceback
import uuid
import warnings
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn.algorithms import ALGORITHMS, STOCK_ALGORITHMS
from sb3_lecture_dqn.common.checks import OtherArithmeticError
from sb3_lecture_dqn.common.seeding import make_rng
from sb3_lecture_dqn.engine.divergence import DivergedError
from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.envs.tabular import NotTabularError
from sb3_lecture_dqn.evaluation.environment import tabular_env
from sb3_lecture_dqn.evaluation.result import TestResult
from sb3_lecture_dqn.evaluation.run import exact_test, run_test
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.saving.files import written_whole
from sb3_lecture_dqn.study.plan import Plan, Trial
from sb3_lecture_dqn.training.callbacks import LectureCheckpointCallback, LectureTestCallback

#: Keywords that a plan may not set: fields of the trial, and keywords that do not belong to its definition
_NOT_IN_PLANS = {"self", "env", "seed", "device", "tensorboard_log", "verbose", "_init_setup_model"}
_NOT_IN_PLANS |= {"max_episode_steps", "replay_buffer_class"}
RESULT = "result.json"
#: Fields of :class:`TestResult` that a row and its curve have, each with the version of the table that added it.
#: ``study.table`` makes its columns from them; ``study.report.METRICS`` says which are reported
TEST_FIELDS = {"mean_reward": 1, "mean_steps": 1, "mean_penalties": 1, "success_rate": 1, "optimality": 1}

Row = dict[str, Any]


class CurveCallback(LectureTestCallback):
    """
    Tests the agent, and keeps the number of environment steps before each test.

    :param kwargs: See :class:`LectureTestCallback`
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(verbose=0, **kwargs)
        self.timesteps: list[int] = []

    def _test(self) -> None:
        super()._test()
        self.timesteps.append(self.num_timesteps)

    def get_state(self) -> dict[str, Any]:
        """See :class:`LectureTestCallback`."""
        return {**super().get_state(), "timesteps": self.timesteps}

    def set_state(self, state: dict[str, Any]) -> None:
        """See :class:`LectureTestCallback`."""
        super().set_state(state)
        self.timesteps = state["timesteps"]


class TakenOverError(RuntimeError):
    """Another process has begun the same trial again, because this attempt seemed lost."""


class _Claim:
    """
    A lock file: only the attempt that began last may write to a trial's folder.

    An attempt may seem lost and still run, as on a node that was cut off from its cluster for a while.

    :param folder: The trial's folder
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._file = folder / "attempt"
        self._name = uuid.uuid4().hex
        self._file.write_text(self._name, encoding="utf-8")

    def check(self) -> None:
        if not self._file.exists() or self._file.read_text(encoding="utf-8") != self._name:
            if (self._folder / RESULT).exists():  # a checkpoint of this attempt may have been on its way meanwhile
                shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)
            raise TakenOverError(f"{self._folder}: another process has begun this trial again")


class _CheckpointsOfClaim(LectureCheckpointCallback):
    """Writes checkpoints as long as the attempt holds the claim on the trial's folder, which another may take over."""

    _locks = False

    def __init__(self, claim: _Claim, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claim = claim

    def _before_save(self) -> None:
        self._claim.check()


def make_model(trial: Trial) -> BaseAlgorithm:
    """
    Make the model of a trial, on the CPU.

    :param trial: The trial
    :return: An untrained model
    :raises ValueError: If the algorithm does not know a keyword, or a plan may not set it
    """
    cls: Any = STOCK_ALGORITHMS.get(trial.algorithm) or ALGORITHMS[trial.algorithm].cls
    known = sorted(set(inspect.signature(cls.__init__).parameters) - _NOT_IN_PLANS)
    for name in trial.keywords:
        if name not in known:
            raise ValueError(f"{name!r} is not a keyword of {trial.algorithm} in a plan; known are {', '.join(known)}")
    # sb3-contrib's QRDQN writes into its policy_kwargs; JSON has no tuples, as in train_freq=(1, "episode")
    given = copy.deepcopy(trial.keywords)
    keywords = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    keywords |= {"seed": trial.seed, "device": "cpu"}
    if trial.algorithm in ALGORITHMS:
        model = cls(env=trial.task, max_episode_steps=trial.max_episode_steps, **keywords)
    else:
        model = cls(env=make_env(trial.task, trial.max_episode_steps), **{"policy": "MlpPolicy", **keywords})
    assert isinstance(model, BaseAlgorithm)
    return model


def check_trials(plan: Plan) -> None:
    """
    Check that every setting makes a model on every task, before anything runs.

    :param plan: The plan
    :raises ValueError: If a setting does not; the message names setting and task
    """
    for trial in plan.trials():
        if trial.seed == plan.seeds[0]:
            try:
                env = make_model(trial).get_env()
            except Exception as error:
                raise ValueError(f"settings: {trial.setting!r} on {trial.task}: {error}") from error
            assert env is not None
            env.close()


def run_trial(trial: Trial, folder: str | pathlib.Path, checkpoint_freq: int = 10_000) -> Row:
    """
    Run a trial, continue it, or read its result if it is done.

    A trial of this package's algorithms continues from its last checkpoint, and ends as if it had not been stopped.
    Stock algorithms have no checkpoints, and begin again. PyTorch is set to one thread, so that the result is the same
    on every machine.

    :param trial: The trial
    :param folder: Folder of all trials of the study, in which each trial has its own folder
    :param checkpoint_freq: Environment steps between two checkpoints
    :return: The row of the trial, equal bit by bit for equal trials: ``timesteps``, ``episodes``; ``mean_reward``,
        ``mean_steps``, ``mean_penalties``, ``success_rate`` and ``optimality`` of the final test, its
        ``n_test_episodes``, and whether it was ``exact``; ``weights_sha256``, the checksum of the trained parameters;
        and ``curve``, the columns of all tests during training
    :raises TakenOverError: If another process has begun the same trial in the same folder meanwhile. The files in the
        folder then belong to that process
    """
    th.set_num_threads(1)
    trial_folder = pathlib.Path(folder) / trial.folder_name
    if (trial_folder / RESULT).exists():
        row: Row = json.loads((trial_folder / RESULT).read_text(encoding="utf-8"))
        return row
    checkpoints = trial_folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    claim = _Claim(trial_folder)
    model: Any = None
    if checkpoints_in(checkpoints):
        try:
            model = ALGORITHMS[trial.algorithm].cls.resume(checkpoints, device="cpu")
        except OtherArithmeticError as error:
            warnings.warn(f"the trial begins again: {error}")
            shutil.rmtree(checkpoints)
            checkpoints.mkdir()
    if model is None:
        model = make_model(trial)
    try:
        exact = _is_tabular(model, trial)
        curve = CurveCallback(
            test_env=trial.task,
            n_test_episodes=trial.n_test_episodes,
            test_freq=trial.test_freq,
            max_episode_steps=trial.max_episode_steps,
            exact=exact,
        )
        if trial.algorithm in ALGORITHMS:
            callbacks: list[BaseCallback] = [curve]
            callbacks.append(_CheckpointsOfClaim(claim, checkpoint_freq, checkpoints, keep=2, verbose=0))
            model.learn(trial.timesteps, callbacks, total_episodes=trial.episodes)
        else:
            model.learn(trial.timesteps, curve)
        row = _row(model, trial, curve, exact)
    except Exception:
        claim.check()
        if getattr(model, "_env_raised", False):  # the last checkpoint would continue with new episodes
            shutil.rmtree(checkpoints, ignore_errors=True)
        raise
    finally:
        model.get_env().close()
    claim.check()
    model.save(trial_folder / "model")
    with written_whole(trial_folder / RESULT, "json") as file:
        file.write(json.dumps(row, allow_nan=False).encode())
    shutil.rmtree(checkpoints, ignore_errors=True)
    return row


def attempt(trial: Trial, folder: str | pathlib.Path, checkpoint_freq: int) -> Row:
    """
    Call :func:`run_trial`, and return an error as a result.

    Remove the files of a trial that failed, because it could not continue exactly. But keep them after an ``OSError``,
    such as a full disk: the next attempt continues from the last checkpoint.

    :param trial: See :func:`run_trial`
    :param folder: See :func:`run_trial`
    :param checkpoint_freq: See :func:`run_trial`
    :return: The row of the trial, or ``{"error": traceback}``
    """
    try:
        return run_trial(trial, folder, checkpoint_freq)
    except (TakenOverError, OSError):
        return {"error": traceback.format_exc()}
    except Exception as error:
        shutil.rmtree(pathlib.Path(folder) / trial.folder_name, ignore_errors=True)
        if isinstance(error, DivergedError):
            error.growth = ""  # a trial that was stopped has measured less, and its row must be the same
        return {"error": traceback.format_exc()}


def reason(error: str) -> str:
    """
    Say in one line why a trial failed.

    :param error: The traceback that :func:`attempt` returned
    :return: Its last line. For a training that diverged, only when it diverged, without the advice
    """
    last = (error.strip().splitlines() or ["(no reason given)"])[-1]
    _, _, diverged = last.partition(f"{DivergedError.__name__}: ")
    return f"diverged: {diverged.partition(': training has diverged')[0]}" if diverged else last


def _is_tabular(model: BaseAlgorithm, trial: Trial) -> bool:
    try:
        tabular_env(model, trial.task, trial.max_episode_steps)
    except NotTabularError:
        return False
    return True


def _row(model: Any, trial: Trial, curve: CurveCallback, exact: bool) -> Row:
    if exact:
        final = exact_test(model, trial.task, trial.max_episode_steps)
    else:
        seed = int(make_rng(trial.seed, "test").integers(2**31 - 1, size=2)[1])  # the curve's tests have the first
        final = run_test(model, trial.task, trial.n_test_episodes, trial.max_episode_steps, seed=seed)
    tests = [_test_fields(result) for _, result in curve.results]
    return {
        "timesteps": model.num_timesteps,
        "episodes": model._episode_num,
        **_test_fields(final),
        "n_test_episodes": final.n_episodes,
        "exact": exact,
        "weights_sha256": _checksum(model.policy),
        "curve": {
            "episodes": [episode for episode, _ in curve.results],
            "timesteps": curve.timesteps,
            **{name: [test[name] for test in tests] for name in TEST_FIELDS},
        },
    }


def _test_fields(result: TestResult) -> dict[str, float | None]:
    values = [(name, getattr(result, name)) for name in TEST_FIELDS]
    return {name: None if value is None else float(value) for name, value in values}


def _checksum(policy: th.nn.Module) -> str:
    """Return the SHA-256 of all parameters, in the order of their names."""
    checksum = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        checksum.update(name.encode())
        checksum.update(tensor.cpu().numpy().tobytes())
    return checksum.hexdigest()
