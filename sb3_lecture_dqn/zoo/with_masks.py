"""Evaluating models with ``use_masking=True`` by SB3 and by the RL Zoo, which do not pass masks themselves."""

import contextlib
import functools
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from stable_baselines3.common import callbacks
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_lecture_dqn.envs.masks import MaskReader
from sb3_lecture_dqn.zoo.patching import replaced
from sb3_lecture_dqn.zoo.registration import ALGOS


@contextlib.contextmanager
def masked_evaluation() -> Iterator[None]:
    """
    Within this context, SB3's ``EvalCallback`` passes masks to models with ``use_masking=True``.

    The zoo evaluates by that callback.

    :return: A context. After it, SB3 is as before
    """
    with replaced(callbacks, "evaluate_policy", _evaluate_policy):  # where EvalCallback looks it up
        yield


class _MaskFollower(VecEnvWrapper):
    """
    Keeps the masks of the current states of environments.

    :param venv: The environments
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self._reader: MaskReader | None = None

    def masked(self, model: Any) -> Any:
        """
        Make a model choose valid actions only, from the next reset on.

        :param model: The model
        :return: An object that predicts like the model, with masks; the model itself if it was trained without masks
        """
        if not getattr(model, "use_masking", False):
            return model
        self._reader = MaskReader(self.venv)
        return _Masked(model, self)

    def reset(self) -> VecEnvObs:
        obs = self.venv.reset()
        if self._reader is not None:
            self.masks = self._reader.at_start()
        return obs

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        if self._reader is not None:
            self.masks, _ = self._reader.after_step(dones, infos)
        return obs, rewards, dones, infos


class _Masked:
    """A model that predicts with the masks of a follower. All other attributes are the model's."""

    def __init__(self, model: Any, follower: _MaskFollower) -> None:
        self._model, self._follower = model, follower

    def predict(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        return self._model.predict(obs, *args, action_masks=self._follower.masks, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _evaluate_policy(model: Any, env: VecEnv, *args: Any, **kwargs: Any) -> Any:
    """Call SB3's ``evaluate_policy``, with masks for a model that was trained with masks."""
    follower = _MaskFollower(env)
    return evaluate_policy(follower.masked(model), follower, *args, **kwargs)


@contextlib.contextmanager
def masked_episodes() -> Iterator[None]:
    """
    Within this context, the zoo's own loops use masks too.

    Its scripts ``enjoy``, ``record_video`` and ``push_to_hub`` make environments, load a model, and step themselves.
    Leaves other classes in the zoo's ``ALGOS``; the caller puts that table back.
    """
    import rl_zoo3

    followers: list[_MaskFollower] = []
    create = rl_zoo3.create_test_env

    def create_test_env(*args: Any, **kwargs: Any) -> VecEnv:
        followers.append(_MaskFollower(create(*args, **kwargs)))
        return followers[-1]

    def load(algorithm: type[BaseAlgorithm], *args: Any, **kwargs: Any) -> Any:
        return followers[-1].masked(algorithm.load(*args, **kwargs))

    with contextlib.ExitStack() as stack:
        for name in ("rl_zoo3", "rl_zoo3.utils", "rl_zoo3.enjoy"):
            stack.enter_context(replaced(import_module(name), "create_test_env", create_test_env))
        for name, algorithm in ALGOS.items():
            entry: Any = SimpleNamespace(load=functools.partial(load, algorithm), __name__=algorithm.__name__)
            rl_zoo3.ALGOS[name] = entry
        yield
