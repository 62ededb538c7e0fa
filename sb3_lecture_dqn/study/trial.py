"""One trial of a study: a training run that can be stopped anywhere, and the row that comes of it."""

import hashlib
import inspect
import json
import pathlib
import shutil
import traceback
import uuid
from typing import Any

import torch as th
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn.common.seeding import make_rng
from sb3_lecture_dqn.engine.divergence import DivergedError
from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.envs.tabular import NotTabularError
from sb3_lecture_dqn.evaluation.result import TestResult
from sb3_lecture_dqn.evaluation.run import exact_test, run_test
from sb3_lecture_dqn.evaluation.test_env import tabular_env
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.saving.files import written_whole
from sb3_lecture_dqn.study.plan import LECTURE_ALGORITHMS, Plan, Trial
from sb3_lecture_dqn.training.callbacks import LectureCheckpointCallback, LectureTestCallback

_CLASSES: dict[str, type[BaseAlgorithm]] = {
    "lecture_dqn": LectureDQN,
    "lecture_qrdqn": LectureQRDQN,
    "dqn": DQN,
    "qrdqn": QRDQN,
}
# What the trial says itself, and what would let its result depend on more than the trial
_NOT_IN_PLANS = {"self", "env", "seed", "device", "tensorboard_log", "verbose", "_init_setup_model"}
_NOT_IN_PLANS |= {"max_episode_steps", "replay_buffer_class"}
RESULT = "result.json"
#: What of a :class:`TestResult` is in a row
FIGURES = ("mean_reward", "mean_steps", "mean_penalties", "success_rate", "optimality")

Row = dict[str, Any]


class CurveCallback(LectureTestCallback):
    """
    Tests, and remembers after how many environment steps each of them was.

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
    """The same trial has been begun anew elsewhere, because this attempt was held to be lost."""


class _Claim:
    """
    Whose the folder of a trial is: the attempt's that began last. One that only seemed lost, as on a node that was cut
    off from its cluster for a while, writes nothing there any more.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._file = folder / "attempt"
        self._name = uuid.uuid4().hex
        self._file.write_text(self._name, encoding="utf-8")

    def check(self) -> None:
        if not self._file.exists() or self._file.read_text(encoding="utf-8") != self._name:
            raise TakenOverError(f"{self._file.parent}: this trial has been begun anew by another process")


class _CheckpointsOfClaim(LectureCheckpointCallback):
    """Checkpoints, as long as the folder is the attempt's own."""

    def __init__(self, claim: _Claim, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claim = claim

    def _before_save(self) -> None:
        self._claim.check()


def make_model(trial: Trial) -> BaseAlgorithm:
    """
    Make the model of a trial, on the CPU.

    :param trial: The trial
    :return: A model that has not learned anything yet
    :raises ValueError: If a keyword is not one of the algorithm's, or is for the plan to say
    """
    kind: Any = _CLASSES[trial.algorithm]
    known = sorted(set(inspect.signature(kind.__init__).parameters) - _NOT_IN_PLANS)
    for name in trial.keywords:
        if name not in known:
            raise ValueError(f"{name!r} is no keyword of {trial.algorithm} in a plan; there are {', '.join(known)}")
    # JSON has no tuples, as in train_freq=(1, "episode")
    keywords = {name: tuple(value) if isinstance(value, list) else value for name, value in trial.keywords.items()}
    keywords |= {"seed": trial.seed, "device": "cpu"}
    if trial.algorithm in LECTURE_ALGORITHMS:
        model = kind(env=trial.task, max_episode_steps=trial.max_episode_steps, **keywords)
    else:
        model = kind(env=make_env(trial.task, trial.max_episode_steps), **{"policy": "MlpPolicy", **keywords})
    assert isinstance(model, BaseAlgorithm)
    return model


def check_trials(plan: Plan) -> None:
    """
    Check that every setting can be made on every task, before anything runs.

    :param plan: The plan
    :raises ValueError: If one cannot; the message names it
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
    Run a trial, or go on with it, or read what came of it.

    Runs of this package's algorithms go on from their last checkpoint and end as if they had not been stopped; stock
    ones have no checkpoints, and begin again. PyTorch is set to one thread, so that a trial ends the same wherever it
    runs.

    :param trial: The trial
    :param folder: Folder of all trials of the study, in which this one has a folder of its own
    :param checkpoint_freq: Environment steps between two checkpoints
    :return: Its row: ``timesteps``, ``episodes``; :data:`FIGURES` of the final test, its ``n_test_episodes``, and
        whether it was ``exact``; ``weights_sha256``, the checksum of the trained parameters; and ``curve``, columns of
        all tests while training. The same bit by bit for the same trial
    :raises TakenOverError: If the same trial was begun in the same folder by another process meanwhile; what is in the
        folder is that one's
    """
    th.set_num_threads(1)
    own = pathlib.Path(folder) / trial.folder_name
    if (own / RESULT).exists():
        row: Row = json.loads((own / RESULT).read_text(encoding="utf-8"))
        return row
    checkpoints = own / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    claim = _Claim(own)
    model: Any
    if checkpoints_in(checkpoints):
        model = _CLASSES[trial.algorithm].resume(checkpoints, device="cpu")  # type: ignore[attr-defined]
    else:
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
        if trial.algorithm in LECTURE_ALGORITHMS:
            callbacks: list[BaseCallback] = [curve]
            callbacks.append(_CheckpointsOfClaim(claim, checkpoint_freq, checkpoints, keep=2, verbose=0))
            model.learn(trial.timesteps, callbacks, total_episodes=trial.episodes)
        else:
            model.learn(trial.timesteps, curve)
        row = _row(model, trial, curve, exact)
    except Exception:
        claim.check()
        if getattr(model, "_env_raised", False):  # the checkpoint of that moment would go on with new episodes
            shutil.rmtree(checkpoints, ignore_errors=True)
        raise
    finally:
        model.get_env().close()
    claim.check()
    model.save(own / "model")
    with written_whole(own / RESULT, "json") as file:
        file.write(json.dumps(row, allow_nan=False).encode())
    shutil.rmtree(checkpoints, ignore_errors=True)
    return row


def attempt(trial: Trial, folder: str | pathlib.Path, checkpoint_freq: int) -> Row:
    """
    :func:`run_trial`, with an error as a result.

    The files of a trial that failed are removed: after an error it is not known how to go on exactly. But after an
    ``OSError``, as where the disk is full, its checkpoints are as good as after a stop, and the next attempt goes on.

    :param trial: See :func:`run_trial`
    :param folder: See :func:`run_trial`
    :param checkpoint_freq: See :func:`run_trial`
    :return: Its row, or ``{"error": traceback}``
    """
    try:
        return run_trial(trial, folder, checkpoint_freq)
    except (TakenOverError, OSError):  # of the first nobody waits for the error
        return {"error": traceback.format_exc()}
    except Exception:
        shutil.rmtree(pathlib.Path(folder) / trial.folder_name, ignore_errors=True)
        return {"error": traceback.format_exc()}


def reason(error: str) -> str:
    """
    Say in a line why a trial failed.

    :param error: The traceback that :func:`attempt` returned
    :return: Its last line; of a training that diverged, when that was, without what helps against it
    """
    last = (error.strip().splitlines() or ["(it does not say why)"])[-1]
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
        seed = int(make_rng(trial.seed, "test").integers(2**31 - 1, size=2)[1])  # the first is that of the curve's
        final = run_test(model, trial.task, trial.n_test_episodes, trial.max_episode_steps, seed=seed)
    tests = [_figures(result) for _, result in curve.results]
    return {
        "timesteps": model.num_timesteps,
        "episodes": model._episode_num,
        **_figures(final),
        "n_test_episodes": final.n_episodes,
        "exact": exact,
        "weights_sha256": _checksum(model.policy),
        "curve": {
            "episodes": [episode for episode, _ in curve.results],
            "timesteps": curve.timesteps,
            **{name: [test[name] for test in tests] for name in FIGURES},
        },
    }


def _figures(result: TestResult) -> dict[str, float | None]:
    values = [(name, getattr(result, name)) for name in FIGURES]
    return {name: None if value is None else float(value) for name, value in values}


def _checksum(policy: th.nn.Module) -> str:
    """The SHA-256 of all parameters, in the order of their names."""
    checksum = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        checksum.update(name.encode())
        checksum.update(tensor.cpu().numpy().tobytes())
    return checksum.hexdigest()
