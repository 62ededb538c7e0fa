"""
The model: its construction from settings, its parts, its engine and its predictions.

The training loop is in :mod:`algorithm`.
"""

import copy
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, ReplayBufferSamples
from stable_baselines3.common.utils import get_parameters_by_name
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import Observation, UnsupportedSpaceError, check_number, parse_frequency
from sb3_lecture_dqn.common.masks import given_masks, predict_greedily
from sb3_lecture_dqn.common.observations import as_model_takes, batch_of_one, check_inside
from sb3_lecture_dqn.common.seeding import make_rng
from sb3_lecture_dqn.common.wrappers import check_observation_space
from sb3_lecture_dqn.engine.changes import UserAccess
from sb3_lecture_dqn.engine.choice import Engine, make_engine
from sb3_lecture_dqn.engine.known import also_compiled
from sb3_lecture_dqn.envs.make import check_is_env, id_step_limit
from sb3_lecture_dqn.saving.env_state import make_resumable
from sb3_lecture_dqn.saving.model_env import announce_env, make_model_env, take_step_limit
from sb3_lecture_dqn.saving.saveable import Saveable
from sb3_lecture_dqn.training.exploration import ANYWHERE, Exploration, lecture_epsilon
from sb3_lecture_dqn.training.goal import Goal
from sb3_lecture_dqn.training.keywords import check_constructor_keywords
from sb3_lecture_dqn.training.sb3_defaults import stock_model
from sb3_lecture_dqn.training.schedule import Budget, Every
from sb3_lecture_dqn.training.settings import (
    check_parts,
    check_settings,
    device_for,
    memory_class,
    memory_kwargs,
    split_policy_and_env,
)
from sb3_lecture_dqn.training.transitions import Transitions
from sb3_lecture_dqn.training.tuned import tuned_model

SelfModel = TypeVar("SelfModel", bound="LectureModel")

_UNMASKED = (
    "use_masking=True, but predict() was called without action_masks: the values of invalid actions were never "
    "trained. SB3's evaluate_policy and EvalCallback pass no masks: use those of sb3_contrib.common.maskable, "
    "evaluation.evaluate_policy and callbacks.MaskableEvalCallback, or this package's run_test and LectureTestCallback"
)


class LectureModel(Saveable):
    """
    Base class that adds the settings and the parts of this package to a DQN of SB3 or sb3-contrib.

    :param policy: The policy, or the environment if ``env`` is ``None``
    :param env: The environment to learn from, or its id
    :param exploration_decay: See :class:`LectureDQN`, also for the following arguments
    :param store_and_replay: Whether to store transitions and replay them
    :param double_dqn: Whether to use a separate target network
    :param double_q: Whether the online network selects the next action
    :param max_episode_steps: Step limit of an environment that is given by its id
    :param engine: Which engine computes the updates
    :param use_masking: Whether to choose only valid actions
    :param explore_least_tried: Whether to explore only by the actions tried least often
    :param settings: Arguments for the constructor of SB3's or sb3-contrib's algorithm
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: If a setting is out of range or contradicts another; the message names it
    """

    #: Name of the file of recommended settings, see :meth:`tuned`
    hyperparams: ClassVar[str]
    #: Names of the online and the target network
    network_names: ClassVar[tuple[str, str]]
    #: Policies whose networks the compiled engine supports, for all observations but images
    compiled_policies: ClassVar[tuple[type[BasePolicy], ...]] = ()

    exploration_initial_eps: float
    exploration_final_eps: float
    exploration_rate: float
    target_update_interval: Any
    max_grad_norm: Any
    _engine: Engine
    _exploration: Exploration
    _transitions: Transitions
    _default_timesteps: int | None = None  # the budget of `learn` if none is given
    _tuned_with: Sequence[str] = ()  # the arguments of `tuned` that replace recommended ones
    _warned_of_missing_masks = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "torch_learner_class" in vars(cls):  # 1.0 took the loss from there; without this, it would be ignored
            raise TypeError(f"{cls.__name__}.torch_learner_class: override compute_loss(batch) instead, since 2.0")

    def __new__(cls: type[SelfModel], *args: Any, **keywords: Any) -> SelfModel:
        """Name what was meant by an unknown keyword, which Python's own error does not."""
        check_constructor_keywords(cls, keywords)
        return super().__new__(cls)

    def __init__(
        self,
        policy: str | type[BasePolicy] | GymEnv,
        env: GymEnv | str | None,
        *,
        exploration_decay: float | None,
        store_and_replay: bool,
        double_dqn: bool,
        double_q: bool,
        max_episode_steps: int | None,
        engine: str,
        use_masking: bool,
        explore_least_tried: bool | str,
        _init_setup_model: bool,
        **settings: Any,
    ) -> None:
        self._access = UserAccess()
        policy_, env = split_policy_and_env(type(self), policy, env)
        if settings["replay_buffer_class"] is not None and not store_and_replay:
            raise ValueError(
                f"replay_buffer_class={settings['replay_buffer_class'].__name__} contradicts store_and_replay=False, "
                "which means no replay memory: give only one of the two"
            )
        if settings["replay_buffer_class"] is SuccessFailReplayBuffer and settings["n_steps"] != 1:
            raise ValueError(
                f"n_steps={settings['n_steps']} contradicts replay_buffer_class=SuccessFailReplayBuffer, which stores "
                "single steps: leave the class out, and SB3's is used"
            )
        for name in ("policy_kwargs", "replay_buffer_kwargs"):
            if not isinstance(settings[name], dict | None):
                raise ValueError(f"{name}={settings[name]!r} must be a dictionary of keyword arguments, or None")
        if env is None and _init_setup_model:
            raise ValueError(f"env=None: give an environment or its id, as in {type(self).__name__}('Taxi-v3')")
        self.env_id = env if isinstance(env, str) else None
        self.env_wrapper: type[gym.Wrapper] | None = None
        if max_episode_steps is not None:
            check_number("max_episode_steps", max_episode_steps, 1, integer=True)
        # Replace None by the limit of the id, so that files contain the number.
        limit = id_step_limit(env) if max_episode_steps is None and isinstance(env, str) else max_episode_steps
        self.max_episode_steps = limit
        if isinstance(env, str):
            announce_env(env, settings["verbose"])
        train_env: Any = make_model_env(self) if isinstance(env, str) else env
        if train_env is not None:
            check_is_env(train_env)
        if train_env is not None and not isinstance(train_env.action_space, spaces.Discrete):
            raise UnsupportedSpaceError(f"action_space={train_env.action_space} must be Discrete")
        if train_env is not None:
            settings["device"] = self._device_for(settings["device"], policy_, train_env.observation_space, engine)
        settings["_init_setup_model"] = False  # this constructor calls _setup_model itself, after its own settings
        super().__init__(policy_, train_env, **settings)
        if self.env is not None:
            take_step_limit(self, self.env, None if isinstance(env, str) else max_episode_steps)
        self.exploration_decay = exploration_decay
        self.store_and_replay = store_and_replay
        self.double_dqn = double_dqn
        self.double_q = double_q
        self.engine = engine
        self.use_masking = use_masking
        self.explore_least_tried = explore_least_tried
        self._version_1_memory = False
        if _init_setup_model:
            self._setup_model()

    @classmethod
    def tuned(
        cls: type[SelfModel], env: GymEnv | str | None = None, use_masking: bool = False, **overrides: Any
    ) -> SelfModel:
        """
        Make a model with recommended settings and a default budget, which :meth:`learn` uses if it is given none.

        For the ids in ``hyperparams/lecture_dqn.yml`` (with ``use_masking``, in ``lecture_dqn_masked.yml``), the
        settings and the step limits were found by a search. The files have the format of RL Zoo; each algorithm has a
        file with its own name.

        Other ids and environment objects get default settings that depend on the observation space, see
        :func:`default_settings`: a table for discrete observations and networks for others, with a replay memory
        of one budget, a target network and Adam. A table cannot diverge, networks may. These settings are not tuned;
        with ``verbose=1``, they are printed. If the environment has action masks, ``use_masking=True`` improves them
        most.

        :param env: The environment, or its id
        :param use_masking: Whether to train with action masks and the settings for masks
        :param overrides: Arguments of the constructor that replace recommended ones
        :return: A new model
        :raises ValueError: If gymnasium does not know the id; the message names similar ids
        """
        return tuned_model(cls, env, use_masking, overrides)  # type: ignore[no-any-return]

    @classmethod
    def with_sb3_defaults(
        cls: type[SelfModel], policy: str | type[BasePolicy], env: GymEnv | str, **overrides: Any
    ) -> SelfModel:
        """
        Make a model that behaves like the stock algorithm, SB3's ``DQN`` or sb3-contrib's ``QRDQN``, with its defaults.

        The model has the stock default for every keyword of the stock constructor, and the stock replay memory. Where
        the stock algorithm has no keyword, the model behaves in the same way: ε falls over timesteps, an id has its
        registered step limit, and the loss of DQN is Huber's. What differs: exploration has random generators of its
        own; the arrays of a tabular id draw no numbers for steps with certain outcomes, so later starts are others; the
        compiled engine is faster and rounds otherwise (``engine="torch"`` updates bit by bit as the stock algorithm),
        and every setting of this package can be turned on by its keyword::

            LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", learning_rate=2.3e-3, double_q=True)

        :param policy: The policy model to use
        :param env: The environment to learn from, or its id
        :param overrides: Arguments of the constructor, also additional ones of this package, that replace the defaults
        :return: A new model
        :raises ValueError: If an argument is unknown, out of range or contradicts another
        """
        return stock_model(cls, policy, env, overrides)  # type: ignore[no-any-return]

    # The parts

    def _check_settings(self) -> None:
        check_settings(self)

    def _check_keywords(self, names: Iterable[str]) -> None:
        """Check names of settings that ``load`` shall replace."""
        check_constructor_keywords(type(self), [name for name in names if not hasattr(self, name)])

    def _setup_model(self) -> None:
        self._check_settings()
        self.replay_buffer_class = memory_class(self)
        check_parts(self)
        states: Any = self.observation_space if self.explore_least_tried else None
        n_actions = int(self.action_space.n)  # type: ignore[attr-defined]
        anywhere = self.explore_least_tried == ANYWHERE
        self._exploration = Exploration(make_rng(None, "exploration"), n_actions, states, anywhere)
        self._transitions = Transitions(self.n_envs, n_actions)
        self._budget, self._goal = Budget(), Goal()
        self._target_copies = Every.parse("target_update_interval", self.target_update_interval)
        self._setup_as_sb3()
        if self.seed is not None and "seed" not in self.replay_buffer_kwargs:
            self._seed_memory(self.seed)
        self.batch_norm_stats_target = get_parameters_by_name(self._networks[1], ["running_"])
        self._make_engine()
        self._access.handed_out = self._access.has_networks = False

    def _setup_as_sb3(self) -> None:
        """Call SB3's ``_setup_model`` with settings that it accepts, among them an interval in steps."""
        own_kwargs, own_interval = self.replay_buffer_kwargs, self.target_update_interval
        count, unit = parse_frequency("target_update_interval", own_interval)
        self.replay_buffer_kwargs = memory_kwargs(self)
        self.target_update_interval = count if unit == "step" else sys.maxsize
        super()._setup_model()
        self.replay_buffer_kwargs = own_kwargs
        if unit == "episode":
            self.target_update_interval = (count, unit)

    def _make_replay_buffer(self) -> None:
        assert self.replay_buffer_class is not None
        self.replay_buffer = self.replay_buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            **memory_kwargs(self),
        )

    def _parts(self) -> dict[str, Any]:
        """
        Return the parts of a run that a checkpoint stores. Each has ``get_state`` and ``set_state``.

        Checkpoints of before have no state of a new part: raise ``CHECKPOINT_VERSION``, and give them one in
        :mod:`version_1`.
        """
        parts = {"exploration": self._exploration, "transitions": self._transitions}
        return {**parts, "budget": self._budget, "goal": self._goal}

    def _excluded_save_params(self) -> list[str]:
        made_anew = [
            "_exploration",
            "_transitions",
            "_budget",
            "_goal",
            "_target_copies",
            "_engine",
            "_access",
            "_said",
        ]
        return [*super()._excluded_save_params(), *made_anew, "_env_raised", "_warned_of_missing_masks"]

    def __getstate__(self) -> dict[str, Any]:
        self._access.handed_out = True
        not_copied = ("_engine", "_access", "_said", "_callback", "_callback_start", "_log_mark", "_learning_since")
        return {name: value for name, value in self.__dict__.items() if name not in not_copied}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _access=UserAccess())
        for name in ("_exploration", "_transitions", "_target_copies"):  # a shallow copy must not share them
            if name in state:
                setattr(self, name, copy.copy(state[name]))
        self._make_engine()  # the old engine works on the networks of the original

    @classmethod
    def _device_for(cls, device: th.device | str, policy: Any, observation_space: Any, engine: Any) -> th.device | str:
        chosen: th.device | str = device_for(cls, device, policy, observation_space, engine)
        return chosen

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        check_is_env(env)
        check_observation_space(env.observation_space)
        wrapped = OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)
        make_resumable(wrapped)
        return wrapped

    # Networks and engines

    @property
    def _networks(self) -> tuple[th.nn.Module, th.nn.Module]:
        """The online network and the target network, which may be the same object."""
        raise NotImplementedError

    @also_compiled
    def _action_values(self, obs: PyTorchObs) -> th.Tensor:
        """Compute the action values of the online network, float32 of shape ``(batch, n_actions)``."""
        values: th.Tensor = self._networks[0](obs)
        return values

    def compute_loss(self, batch: ReplayBufferSamples) -> th.Tensor:
        """
        Compute the loss that updates minimise.

        :param batch: Minibatch of transitions
        :return: Mean loss, a scalar tensor
        """
        raise NotImplementedError

    def _discounts(self, batch: ReplayBufferSamples) -> float | th.Tensor:
        """Return γ, or for n-step returns ``γ**n`` of each transition, of shape ``(batch, 1)``."""
        return self.gamma if batch.discounts is None else batch.discounts

    @property
    def engine_in_use(self) -> str:
        """Name of the engine that computes the updates, ``"torch"`` or ``"numba"``."""
        return self._engine.name

    def _make_engine(self) -> None:
        """Make the engine for the current state of the model, and print once which one it is and why."""
        self._engine = make_engine(self, self._say_once)

    def _say_once(self, line: str) -> None:
        printed_lines = self.__dict__.setdefault("_said", set())
        if self.verbose >= 1 and line not in printed_lines:
            print(line)
            printed_lines.add(line)

    def _refresh_engine(self) -> None:
        """Make a new engine if user code has changed the model in a way that the current engine does not follow."""
        access = self._access
        if access.has_run:
            if not self._engine.is_current(access.may_change_networks()):
                self._make_engine()
            access.after_look()

    @property
    def goal_summary(self) -> str:
        """What came of the last training of a tuned model without a given budget, in one line; else empty."""
        return self._goal.summary

    # Seeds

    @property
    def exploration_rng(self) -> np.random.Generator:
        """The model's own random generator for exploration."""
        return self._exploration.rng

    @exploration_rng.setter
    def exploration_rng(self, rng: np.random.Generator) -> None:
        self._exploration.rng = rng

    @property
    def action_counts(self) -> np.ndarray:
        """Number of times each action was tried in each state, int64 of shape ``(n_states, n_actions)``."""
        if self._exploration.counts is None:
            raise AttributeError("explore_least_tried=False: actions are not counted")
        return self._exploration.counts

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed the random generators of SB3, of exploration and of the replay memory.

        :param seed: A non-negative integer; ``None`` changes nothing
        """
        super().set_random_seed(seed)
        if seed is not None:
            self._exploration.rng = make_rng(seed, "exploration")
            self._seed_memory(seed)

    def _seed_memory(self, seed: int) -> None:
        if isinstance(self.replay_buffer, SuccessFailReplayBuffer):
            self.replay_buffer.seed(seed)

    # Predictions

    def epsilon(self, episode: int) -> float:
        """
        Compute the exploration rate of an episode.

        :param episode: Number of the episode, counted from 1
        :return: Probability of a random action
        :raises ValueError: If ``exploration_decay`` is ``None``, since ε then depends on timesteps
        """
        if self.exploration_decay is None:
            raise ValueError("exploration_decay=None: the exploration rate does not depend on the episode")
        return lecture_epsilon(
            episode, self.exploration_initial_eps, self.exploration_decay, self.exploration_final_eps
        )

    def predict(
        self,
        observation: Observation,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose greedy actions, or ε-greedy ones with :attr:`exploration_rate`.

        :param observation: One observation or a batch. ``Tuple`` and nested observations may be passed as the
            environment returns them
        :param state: Not used, as no policy of this package is recurrent
        :param episode_start: Not used
        :param deterministic: Whether to choose greedy actions; otherwise ε-greedy ones, drawn separately for every
            observation
        :param action_masks: Valid actions, bool of shape ``(n_actions,)``, or ``(n, n_actions)`` for a batch. ``None``
            if all are valid; a model with ``use_masking`` then warns once
        :return: The action or a batch of actions, and the argument ``state``
        :raises ValueError: If the observation does not have the keys of the observation space, if a discrete part is
            not in its space, if the masks have the
            wrong shape, or if a mask allows no action
        """
        observation = as_model_takes(observation, self.observation_space)
        check_inside(observation, self.observation_space)
        if action_masks is None and self.use_masking and not self._warned_of_missing_masks:
            self._warned_of_missing_masks = True
            warnings.warn(_UNMASKED, stacklevel=2)
        if deterministic:
            return self._predict_greedily(observation, action_masks), state
        vectorized = vars(self)["policy"].is_vectorized_observation(observation)
        batch = observation if vectorized else batch_of_one(observation)
        if action_masks is not None:
            n = len(next(iter(batch.values())) if isinstance(batch, dict) else batch)
            action_masks = given_masks(action_masks, n, self.action_space.n)  # type: ignore[attr-defined]
        actions = self._exploration.choose(self.exploration_rate, batch, self._predict_greedily, action_masks)
        return actions if vectorized else actions.reshape(()), state

    def _predict_greedily(self, obs: Observation, action_masks: np.ndarray | None = None) -> np.ndarray:
        if action_masks is not None:
            return predict_greedily(self.policy, self._action_values, obs, action_masks)
        # Read through vars(), so that this access does not count as one by user code, see HandedOut.
        actions: np.ndarray = vars(self)["policy"].predict(obs, deterministic=True)[0]
        return actions
