"""What the algorithms of this package do by episode: exploration, target copies and budgets."""

import contextlib
import copy
import math
import pathlib
import sys
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, EvalCallback
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    PyTorchObs,
    ReplayBufferSamples,
    RolloutReturn,
    Schedule,
    TrainFreq,
    TrainFrequencyUnit,
)
from stable_baselines3.common.utils import (
    get_parameters_by_name,
    polyak_update,
    update_learning_rate,
)
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, is_vecenv_wrapped

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.common.checks import (
    Observation,
    UnsupportedSpaceError,
    check_choice,
    check_number,
    check_observations,
    check_outcomes,
    check_rewards,
    checked_dones,
    parse_frequency,
)
from sb3_lecture_dqn.common.hindsight import waits_for_episode
from sb3_lecture_dqn.common.masks import draw_allowed, given_masks, predict_greedily
from sb3_lecture_dqn.common.observations import as_model_takes
from sb3_lecture_dqn.common.seeding import draw_indices, make_rng
from sb3_lecture_dqn.common.step_checks import WrongStepError
from sb3_lecture_dqn.common.torch_layers import check_counts_from_zero
from sb3_lecture_dqn.common.wrappers import TupleToDictWrapper, check_not_nested, needs_flattening
from sb3_lecture_dqn.engine.changes import UserCode, user_code
from sb3_lecture_dqn.engine.choice import ENGINES, Engine, make_engine
from sb3_lecture_dqn.engine.divergence import check_weights
from sb3_lecture_dqn.engine.known import also_compiled
from sb3_lecture_dqn.envs.env_processes import naming_dead_processes
from sb3_lecture_dqn.envs.make import check_is_env, id_step_limit, make_training_env
from sb3_lecture_dqn.envs.masks import MaskReader, give_mask_infos
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.saving.callback_state import callback_numbers
from sb3_lecture_dqn.saving.env_state import gives_new_arrays, make_resumable
from sb3_lecture_dqn.saving.logs import outliving_full_disks
from sb3_lecture_dqn.saving.saveable import PersistenceMixin
from sb3_lecture_dqn.saving.stop_signals import StopSignals
from sb3_lecture_dqn.training.callbacks import EpisodeProgressBarCallback, LectureCheckpointCallback
from sb3_lecture_dqn.training.keywords import check_keywords, check_memory_keywords, check_policy_keywords
from sb3_lecture_dqn.training.stock import stock_algorithm, stock_memory, stock_settings
from sb3_lecture_dqn.training.tuned import about_default, default_settings, has_settings, tuned_settings

SelfEpisodic = TypeVar("SelfEpisodic", bound="EpisodicMixin")

DEFAULT_TOTAL_EPISODES = 5000
_BOOL = np.dtype(bool)
# Attributes that are of one process and one call
_OF_ENGINE = ("_user_code", "_may_be_changed", "_handed_out", "_escaped", "_said")
_OF_ENV = ("_copies_obs", "_states", "_warned_of_bounds", "_warned_of_missing_masks")
_PASSING = ("_engine", "_mask_reader", "_env_raised", "_is_stacked", *_OF_ENGINE, *_OF_ENV)
_UNMASKED = (
    "use_masking=True, and predict() has no action_masks: what a model says of actions that it never took is "
    "worthless. SB3's evaluate_policy and EvalCallback give none: use those of sb3_contrib.common.maskable, "
    "evaluation.evaluate_policy and callbacks.MaskableEvalCallback, or this package's run_test and LectureTestCallback"
)


class EpisodicMixin(PersistenceMixin):
    """
    The lecture's schedule for a DQN of SB3 or sb3-contrib: everything that is counted in episodes.

    - ε of episode i = 1, 2, … is ``max(exploration_final_eps, exploration_initial_eps * exploration_decay**i)``. With
      several environments, i is one more than the number of episodes that have ended in all of them.
    - The target network is copied after the updates that follow the last step of every n-th episode.
    - The budget of :meth:`learn` may be a number of episodes.

    Besides these, all that does not depend on what the networks learn: the memory, the choice of a learner, updates.
    Exploration draws from :attr:`exploration_rng`, a generator of the model's own. Use it as the first base class.

    :param policy: The policy, or the environment if no ``env`` is given
    :param env: The environment to learn from, or its id
    :param exploration_decay: See :class:`LectureDQN`, as for the following
    :param store_and_replay: Whether there is a replay memory
    :param double_dqn: Whether there is a target network
    :param double_q: Whether the online network chooses the next action
    :param max_episode_steps: See :class:`LectureDQN`
    :param engine: What computes the updates
    :param use_masking: Whether only valid actions are chosen
    :param explore_least_tried: Whether to explore by the actions tried least often
    :param settings: Arguments of the constructor of SB3's or sb3-contrib's algorithm
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: If a setting is out of range or contradicts another; the message names it
    """

    #: Name of the file of recommended settings, see :meth:`tuned`
    hyperparams: ClassVar[str]
    #: Policies whose networks the compiled loops know, where observations are ``Discrete``
    compiled_policies: ClassVar[tuple[type[BasePolicy], ...]] = ()

    exploration_initial_eps: float
    exploration_final_eps: float
    exploration_schedule: Schedule
    exploration_rate: float
    exploration_rng: np.random.Generator
    action_counts: np.ndarray
    target_update_interval: Any
    max_grad_norm: Any
    batch_norm_stats: list[th.Tensor]
    batch_norm_stats_target: list[th.Tensor]
    _engine: Engine
    _user_code = UserCode.ALWAYS  # as when `train` is called by hand
    _may_be_changed = True
    _handed_out = True  # whether somebody has asked for the networks since this was last set to False
    _escaped = True  # whether somebody may hold them
    _said: tuple[str, ...] = ()
    _n_calls: int
    _total_episodes: int | None = None
    _began_at: tuple[int, int] = (0, 0)  # steps and episodes when `learn` was called
    _env_raised = False
    _is_stacked = False  # in VecFrameStack, whose space has the bounds of vectors in another order than the numbers
    _copies_obs = True  # because the environment may write the next ones into the same memory
    _warned_of_bounds = False
    _states = range(0)  # of a Discrete observation space
    _run_folder: str | None = None
    _default_timesteps: int | None = None
    _mask_reader: MaskReader | None = None
    _warned_of_missing_masks = False

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
        explore_least_tried: bool,
        _init_setup_model: bool,
        **settings: Any,
    ) -> None:
        policy_, env = self._split_policy_and_env(policy, env)
        if settings["replay_buffer_class"] is not None and not store_and_replay:
            raise ValueError(
                f"replay_buffer_class={settings['replay_buffer_class'].__name__} and store_and_replay=False, which "
                "means no replay memory: give one of them"
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
        # A number from here on, so that files say which it was.
        limit = id_step_limit(env) if max_episode_steps is None and isinstance(env, str) else max_episode_steps
        self.max_episode_steps = limit
        if isinstance(env, str):
            _announce(env, settings["verbose"])
        made: Any = self._make_env() if isinstance(env, str) else env
        if made is not None:
            check_is_env(made)
        if made is not None and not isinstance(made.action_space, spaces.Discrete):
            raise UnsupportedSpaceError(f"action_space={made.action_space} must be Discrete")
        if made is not None:
            settings["device"] = self._device_for(settings["device"], policy_, made.observation_space, engine)
        settings["_init_setup_model"] = False  # which not every constructor on the way has
        super().__init__(policy_, made, **settings)
        if self.env is not None:
            self._set_own_step_limit(self.env, None if isinstance(env, str) else max_episode_steps)
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
    def _split_policy_and_env(
        cls, policy: str | type[BasePolicy] | GymEnv, env: GymEnv | str | None
    ) -> tuple[str | type[BasePolicy], GymEnv | str | None]:
        """One positional argument is the environment, two are (policy, env)."""
        is_policy = policy in cls.policy_aliases if isinstance(policy, str) else _is_policy(policy)
        if env is None and not is_policy:
            return "LecturePolicy", policy  # type: ignore[return-value]
        if not is_policy:
            raise ValueError(
                f"policy={policy!r} must be a policy class or one of {sorted(cls.policy_aliases)}; "
                "two positional arguments are (policy, env)"
            )
        return policy, env  # type: ignore[return-value]

    @classmethod
    def _device_for(cls, device: th.device | str, policy: Any, observation_space: Any, engine: Any) -> th.device | str:
        """Where to compute, if that is left open: on the CPU what the compiled engine knows, else where SB3 would."""
        kind = cls.policy_aliases.get(policy, policy) if isinstance(policy, str) else policy
        on_cpu = engine != "torch" and kind in cls.compiled_policies and isinstance(observation_space, spaces.Discrete)
        return "cpu" if device == "auto" and on_cpu else device

    def _for_own_networks(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The same parameters; where the target is the online network, without those of another target."""
        if self.double_dqn or "policy" not in parameters:
            return parameters
        policy = dict(parameters["policy"])
        for name in policy:
            policy[name] = policy.get(name.replace("_target.", ".", 1), policy[name])
        return {**parameters, "policy": policy}

    @property
    def engine_in_use(self) -> str:
        """What computes the updates: ``"torch"`` or ``"numba"``."""
        return self._engine.name

    def _refresh_engine(self) -> None:
        """Before the engine is used: make another one if the user may have changed, and has, what it was made for."""
        if self._may_be_changed:
            # Steps change no network if nobody in them asks for one, or did before.
            networks = self._user_code is not UserCode.IN_STEPS or self._escaped
            if not self._engine.is_current(networks):
                self._make_engine()
            self._may_be_changed = self._user_code is UserCode.ALWAYS

    def _call_at_step(self, callback: BaseCallback) -> bool:
        goes_on = callback.on_step()
        self._may_be_changed = self._user_code is not UserCode.NEVER
        self._note_escape()
        return goes_on

    def _note_escape(self) -> None:
        if self._handed_out:
            self._escaped = True

    def __getstate__(self) -> dict[str, Any]:
        self._handed_out = True
        not_copied = ("_engine", "_callback", "_callback_start", "_log_mark", "_learning_since", *_OF_ENGINE)
        return {name: value for name, value in self.__dict__.items() if name not in not_copied}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_engine()  # for the networks of this copy

    def _make_engine(self) -> None:
        """Set ``_engine`` for the model as it is now; each that it has, and why, is said once."""
        self._engine = make_engine(self, self._say_once)

    def _say_once(self, line: str) -> None:
        if self.verbose >= 1 and line not in self._said:
            print(line)
            self._said = (*self._said, line)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        check_is_env(env)
        check_not_nested(env.observation_space)
        wrapped = OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)
        make_resumable(wrapped)
        return wrapped

    @classmethod
    def tuned(
        cls: type[SelfEpisodic], env: GymEnv | str | None = None, use_masking: bool = False, **overrides: Any
    ) -> SelfEpisodic:
        """
        A model with recommended settings and a budget: :meth:`learn` without one trains for that many timesteps.

        For the ids in ``hyperparams/lecture_dqn.yml`` (with ``use_masking``, ``lecture_dqn_masked.yml``), in RL Zoo's
        format, the settings were found by a search; for another algorithm, the file has its name. Step limits are
        theirs too.

        Every other environment, and every environment object, gets the default for its observations, see
        :func:`default_settings`: a table for ``Discrete`` ones, networks for others, with a memory of the whole
        training, a target network and Adam. It is a start that does not diverge, not a tuned result; with ``verbose=1``
        a line says what it is. If the environment offers action masks, ``use_masking=True`` helps most.

        :param env: The environment, or its id
        :param use_masking: Whether to learn with action masks, and by the settings for that
        :param overrides: Arguments of the constructor that take the place of recommended ones
        :return: A new model
        :raises ValueError: If gymnasium does not know the id; the message names the nearest ones
        """
        env = overrides.pop("env_id", env)  # its name in 1.0
        if env is None:
            raise ValueError(f"env=None: give an environment or its id, as in {cls.__name__}.tuned('Taxi-v3')")
        file = f"{cls.hyperparams}_masked" if use_masking else cls.hyperparams
        if not isinstance(env, str) or not has_settings(file, env):
            return cls._with_default_settings(env, {"use_masking": use_masking, **overrides})
        settings = tuned_settings(file, env)
        keywords = {"max_episode_steps": settings.max_episode_steps, **settings.keywords, **overrides}
        _announce(env, keywords.get("verbose", 0))
        made = make_training_env(env, keywords["max_episode_steps"], settings.n_envs, settings.env_wrapper)
        model = cls(env=made, **keywords)
        model.env_id = env
        model.env_wrapper = settings.env_wrapper
        model._default_timesteps = settings.n_timesteps
        return model

    @classmethod
    def _with_default_settings(cls: type[SelfEpisodic], env: GymEnv | str, overrides: dict[str, Any]) -> SelfEpisodic:
        overrides = {"max_episode_steps": None, **overrides}
        made: Any = make_training_env(env, overrides["max_episode_steps"]) if isinstance(env, str) else env
        if not isinstance(made, VecEnv) and needs_flattening(made.observation_space):
            made = TupleToDictWrapper(made)
        n_actions, n_envs = getattr(made.action_space, "n", 1), getattr(made, "num_envs", 1)
        settings = default_settings(
            cls.hyperparams, made.observation_space, n_actions, n_envs, cls.policy_aliases, overrides.get("policy")
        )
        model = cls(env=made, **{**settings.keywords, **overrides})
        model._default_timesteps = settings.n_timesteps
        if isinstance(env, str):
            model.env_id = env
        if model.verbose >= 1:
            print(about_default(model, repr(env) if isinstance(env, str) else "an environment object"))
        return model

    @classmethod
    def with_sb3_defaults(
        cls: type[SelfEpisodic], policy: str | type[BasePolicy], env: GymEnv | str, **overrides: Any
    ) -> SelfEpisodic:
        """
        A model that does what the stock algorithm (SB3's ``DQN``, sb3-contrib's ``QRDQN``) does with its own defaults.

        It has their value for every keyword of their constructor, their replay memory, and what they do without a
        keyword: ε falls by timesteps, an id has its registered step limit, the loss of DQN is Huber's. What is left of
        ours is what was asked for by name, the generators that exploration draws from, and faster steps::

            LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", learning_rate=2.3e-3, double_q=True)

        :param policy: The policy model to use
        :param env: The environment to learn from, or its id
        :param overrides: Arguments of the constructor, of theirs or ours, that take the place of these defaults
        :return: A new model
        :raises ValueError: If there is no such argument, or as by the constructor
        """
        check_keywords(f"{cls.__name__}.with_sb3_defaults", overrides, cls, filled=("policy", "env"))
        keywords = {**stock_settings(cls, env), **overrides}
        set_up = keywords.pop("_init_setup_model")
        model = cls(policy, env, **keywords, _init_setup_model=False)
        if model.env is None and set_up:
            raise ValueError("env=None: give an environment or its id")
        ours_is_meant = model.use_masking or not model.store_and_replay
        other_is_meant = model.replay_buffer_class is not None or model.n_steps > 1
        if model.env is not None and not ours_is_meant and not other_is_meant:
            model.replay_buffer_class = stock_memory(model.observation_space)
        if set_up:
            model._setup_model()
        return model

    def _make_env(self) -> GymEnv:
        assert self.env_id is not None
        return make_training_env(self.env_id, self.max_episode_steps, getattr(self, "n_envs", 1), self.env_wrapper)

    @property
    def _networks(self) -> tuple[th.nn.Module, th.nn.Module]:
        """The online network and its target, which may be one and the same."""
        raise NotImplementedError

    @also_compiled
    def _action_values(self, obs: PyTorchObs) -> th.Tensor:
        """The values of all actions by the online network, float32 of shape ``(batch, n_actions)``."""
        values: th.Tensor = self._networks[0](obs)
        return values

    def compute_loss(self, batch: ReplayBufferSamples) -> th.Tensor:
        """
        Compute the loss of a minibatch, which updates make smaller.

        :param batch: A minibatch
        :return: A scalar
        """
        raise NotImplementedError

    def _discounts(self, batch: ReplayBufferSamples) -> float | th.Tensor:
        """γ, or for n-step returns ``gamma**n``, each transition its own."""
        return self.gamma if batch.discounts is None else batch.discounts

    def _check_settings(self) -> None:
        """Check all settings; here rather than in a constructor, because ``load`` may change them after it."""
        lr = self.learning_rate
        check_number("learning_rate", lr(1.0) if callable(lr) else lr, 0)
        check_number("buffer_size", self.buffer_size, 1, integer=True)
        check_number("batch_size", self.batch_size, 1, integer=True)
        if isinstance(self.learning_starts, float) and self.learning_starts % 1 == 0:  # 1e4, as many write for SB3
            self.learning_starts = int(self.learning_starts)
        check_number("learning_starts", self.learning_starts, 0, integer=True)
        check_number("gradient_steps", self.gradient_steps, -1, integer=True)
        check_number("n_steps", self.n_steps, 1, integer=True)
        check_number("tau", self.tau, 0, 1)
        if self.max_grad_norm is not None:
            check_number("max_grad_norm", self.max_grad_norm, 0, open_low=True)
        check_number("gamma", self.gamma, 0, 1)
        if self.max_episode_steps is not None:
            check_number("max_episode_steps", self.max_episode_steps, 1, integer=True)
        for name in ("exploration_initial_eps", "exploration_final_eps", "exploration_fraction"):
            check_number(name, getattr(self, name), 0, 1)
        if self.exploration_decay is not None:
            check_number("exploration_decay", self.exploration_decay, 0, 1)
        wrapper = self.env_wrapper
        if wrapper is not None and not (isinstance(wrapper, type) and issubclass(wrapper, gym.Wrapper)):
            raise ValueError(f"env_wrapper={wrapper!r} must be None or a class of gymnasium wrappers")
        check_choice("engine", self.engine, ENGINES)
        if not self.store_and_replay and (self.n_steps > 1 or self.optimize_memory_usage):
            setting = f"n_steps={self.n_steps}" if self.n_steps > 1 else "optimize_memory_usage=True"
            raise ValueError(f"{setting} needs a replay memory, which store_and_replay=False leaves out")
        if self.double_q and not self.double_dqn:
            raise ValueError("double_q=True needs a target network, which double_dqn=False leaves out")
        parse_frequency("target_update_interval", self.target_update_interval)
        if not isinstance(self.train_freq, tuple) or type(self.train_freq) is tuple:  # SB3 has not parsed it yet
            parse_frequency("train_freq", self.train_freq)
        if self.explore_least_tried and not isinstance(self.observation_space, spaces.Discrete):
            raise ValueError(
                "explore_least_tried=True counts actions by state, which needs a Discrete observation space, not "
                f"{self.observation_space}"
            )
        if self.action_space.start != 0:  # type: ignore[attr-defined]
            raise ValueError(f"action_space={self.action_space} must start at 0, as SB3's DQN numbers actions from 0")

    def _setup_model(self) -> None:
        self._check_settings()
        ours = SuccessFailReplayBuffer if self.store_and_replay else LatestTransitionBuffer
        if self.replay_buffer_class in (SuccessFailReplayBuffer, LatestTransitionBuffer) or not self.store_and_replay:
            self.replay_buffer_class = ours  # after `load(path, store_and_replay=...)` too
        elif self.replay_buffer_class is None and self.n_steps == 1 and not self.optimize_memory_usage:
            self.replay_buffer_class = ours
        if self.use_masking:
            self._check_stores_masks()
        self._check_parts()
        given_kwargs = self.replay_buffer_kwargs
        self.replay_buffer_kwargs = self._memory_kwargs()
        count, unit = parse_frequency("target_update_interval", self.target_update_interval)
        # SB3 compares an int with the number of environments.
        self.target_update_interval = count if unit == "step" else sys.maxsize
        super()._setup_model()
        self.replay_buffer_kwargs = given_kwargs
        if self.explore_least_tried:
            n_states, n_actions = self.observation_space.n, self.action_space.n  # type: ignore[attr-defined]
            self.action_counts = np.zeros((n_states, n_actions), np.int64)
        if unit == "episode":
            self.target_update_interval = (count, unit)
        if self.seed is not None and "seed" not in self.replay_buffer_kwargs:
            self._seed_memory(self.seed)
        self.batch_norm_stats_target = get_parameters_by_name(self._networks[1], ["running_"])
        self._make_engine()
        self._handed_out = self._escaped = False

    def _memory_kwargs(self) -> dict[str, Any]:
        """Keywords of the replay memory: those given, and for one of ours what follows from other settings."""
        kind, given = self.replay_buffer_class, self.replay_buffer_kwargs
        if kind is None or not issubclass(kind, SuccessFailReplayBuffer):
            return given
        kwargs = {**given, "use_masking": True} if self.use_masking else dict(given)
        # The lecture keeps all successes, which are so many at most only where they repeat and are not stored again.
        repeat = isinstance(self.observation_space, spaces.Discrete) and given.get("deduplicate", True)
        if given.get("success_capacity") is None and (repeat or self._version_1_memory):
            kwargs["success_capacity"] = math.inf
        return kwargs

    def _check_parts(self) -> None:
        """Check what policy and memory are to be made of, before anything is made."""
        stock = stock_algorithm(type(self))
        name = "MultiInputPolicy" if isinstance(self.observation_space, spaces.Dict) else "MlpPolicy"
        check_policy_keywords(self.policy_class, self.policy_kwargs, name, stock.policy_aliases[name])
        memory = self.replay_buffer_class
        if memory is None:
            memory = NStepReplayBuffer if self.n_steps > 1 else stock_memory(self.observation_space)
        check_memory_keywords(memory, self.replay_buffer_kwargs)
        if self.policy_class in stock.policy_aliases.values():
            check_counts_from_zero(self.observation_space)

    def _check_stores_masks(self) -> None:
        """Check before there is a memory that it will store masks."""
        chosen = self.replay_buffer_class
        if chosen is None:
            setting = f"n_steps={self.n_steps}" if self.n_steps > 1 else "optimize_memory_usage=True"
            raise ValueError(f"use_masking=True and {setting}, which takes a replay buffer that stores no masks")
        if not issubclass(chosen, SuccessFailReplayBuffer):
            raise ValueError(
                f"use_masking=True needs a replay buffer that stores masks, which {chosen.__name__} does not: leave "
                "replay_buffer_class out, or give SuccessFailReplayBuffer"
            )

    def _read_first_masks(self, was_reset: bool) -> None:
        """Find the source of masks, and those of the states in which training begins."""
        if not self.use_masking:
            self._mask_reader = self._last_masks = None
            return
        buffer = self.replay_buffer
        if not isinstance(buffer, SuccessFailReplayBuffer) or not buffer.use_masking:
            raise ValueError(f"use_masking=True and the replay memory, a {type(buffer).__name__}, stores no masks")
        assert self.env is not None
        give_mask_infos(self.env)
        self._mask_reader = MaskReader(self.env)
        if was_reset or self._last_masks is None:
            self._last_masks = self._mask_reader.at_start(was_reset)

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed everything random: what SB3 seeds, and the generators of exploration and of the replay memory.

        :param seed: A non-negative integer; ``None`` leaves all as it is
        """
        super().set_random_seed(seed)
        if seed is not None or not hasattr(self, "exploration_rng"):
            self.exploration_rng = make_rng(seed, "exploration")
        if seed is not None:
            self._seed_memory(seed)

    def _seed_memory(self, seed: int) -> None:
        if isinstance(self.replay_buffer, SuccessFailReplayBuffer):
            self.replay_buffer.seed(seed)

    def epsilon(self, episode: int) -> float:
        """
        The exploration rate of an episode.

        :param episode: Its number, counted from 1
        :return: Probability of a random action
        :raises ValueError: If ``exploration_decay`` is ``None``: ε then falls by timesteps
        """
        if self.exploration_decay is None:
            raise ValueError("exploration_decay=None: the exploration rate does not depend on the episode")
        return max(self.exploration_final_eps, self.exploration_initial_eps * self.exploration_decay**episode)

    def learn(
        self: SelfEpisodic,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        *,
        total_episodes: int | None = None,
    ) -> SelfEpisodic:
        """
        Train for a budget of environment steps or of episodes.

        Both are lower bounds, as in SB3: training stops after the rollout (see ``train_freq``) that reaches them, with
        the default ``train_freq=1`` after exactly that episode.

        :param total_timesteps: Budget in environment steps; 0 as in SB3: sets the logger up, and trains nothing
        :param callback: Callback(s) called at every step with the state of the algorithm
        :param log_interval: Episodes between two logs
        :param tb_log_name: Name of the TensorBoard run, to which SB3 adds a number. ``None``: the lecture's,
            ``SR_<store_and_replay>_DD_<double_dqn>_<date-time>``
        :param reset_num_timesteps: Whether to start counting steps and episodes anew
        :param progress_bar: Show a bar, over episodes if the budget is in episodes
        :param total_episodes: Budget in episodes; 5000 if no budget is given, unless the model is :meth:`tuned`
        :return: The trained model
        :raises DivergedError: If a loss or weights are NaN or infinite; the message says what helps. After such a loss
            the model has the weights from before that update
        :raises ValueError: If both budgets are given, one is below 0, or the environment misbehaves: a reward that is
            no finite number, an episode's end that is neither true nor false, an observation of another shape, NaN, or
            none of the numbers of a discrete space. Finite numbers outside a ``Box`` are warned of once
        """
        goes_on = self._resumed is not None  # with the call that was stopped
        self._in_rollout = self._env_raised = False
        reset_num_timesteps = reset_num_timesteps and not goes_on
        budget = self._set_budget(total_timesteps, total_episodes, reset_num_timesteps, goes_on)
        if self.env is None and self.env_id is not None:  # a loaded model
            self._set_made_env()
            if self.seed is not None:
                self.get_env().seed(self.seed)  # type: ignore[union-attr]
        if self.env is None:
            raise ValueError(
                "env=None: the model has no environment, and its file knows none by an id; give one by set_env(...) or "
                "load(path, env=...)"
            )
        total_timesteps, callback = self._reset_for_training(
            budget, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        self._note_escape()
        self._make_engine()  # settings may have been changed since the last time
        self._user_code = user_code(self, callback)
        self._handed_out = False
        callback_made = callback_numbers(callback) if goes_on else []
        callback.on_training_start(locals(), globals())
        self._note_escape()
        checkpoints = [one for one in callback_tree(callback) if isinstance(one, LectureCheckpointCallback)]
        self._begin_or_go_on(callback, bool(checkpoints), callback_made)
        with (
            naming_dead_processes(self.env, lambda: self._way_on(checkpoints)),
            StopSignals() if checkpoints else contextlib.nullcontext() as signals,
        ):
            try:
                for checkpoint in checkpoints:
                    checkpoint.save_if_due()
                while self.num_timesteps < total_timesteps and not self._episodes_done():
                    proceeds = self._learn_from_a_rollout(callback, log_interval)
                    for checkpoint in checkpoints if proceeds else []:
                        checkpoint.save_if_due()
                    if signals is not None and signals.received:
                        for checkpoint in checkpoints:
                            checkpoint.save_as_last(stopped=True)
                        signals.stop()
                    if not proceeds:
                        break
            except Exception:
                if self._env_raised:
                    for checkpoint in checkpoints:
                        checkpoint.save_as_last(stopped=True)
                raise
            finally:
                self._user_code, self._may_be_changed, self._handed_out = UserCode.ALWAYS, True, False
                if sys.exc_info()[0] is not None:  # perhaps in a step, before it was noted who was given the networks
                    self._escaped = True
        check_weights(self)
        callback.on_training_end()
        for checkpoint in checkpoints:
            checkpoint.save_as_last()
        return self

    def _way_on(self, checkpoints: list[LectureCheckpointCallback]) -> str:
        """How a training goes on that the environment has ended."""
        last = next((one.last_path for one in checkpoints if one.last_path is not None), None)
        at, kind = f"this was at environment step {self.num_timesteps}", type(self).__name__
        if last is None:
            return f"{at}, and there is no checkpoint: give learn() a LectureCheckpointCallback to be able to go on"
        return f"{at}. The last checkpoint is kept; go on with {kind}.resume({str(last)!r}, env=...).learn(...)"

    def _reset_for_training(
        self, budget: int, callback: MaybeCallback, from_zero: bool, tb_log_name: str | None, progress_bar: bool
    ) -> tuple[int, BaseCallback]:
        """SB3's :meth:`_setup_learn`, and a look at what the environment says at the start."""
        assert self.env is not None
        will_be_reset = from_zero or self._last_obs is None
        try:
            with naming_dead_processes(self.env):
                total_timesteps, made = self._setup_learn(budget, callback, from_zero, tb_log_name, progress_bar)
                assert self._last_obs is not None
                self._take_first_obs(self.env, self._last_obs)
                self._read_first_masks(will_be_reset)
        except WrongStepError as error:
            error.step = self.num_timesteps
            raise
        return total_timesteps, made

    def _set_budget(
        self, total_timesteps: int | None, total_episodes: int | None, from_zero: bool, goes_on: bool
    ) -> int:
        """Check and keep the budget of :meth:`learn`; returns it as SB3 counts it, in timesteps from now on."""
        if total_timesteps is not None and total_episodes is not None:
            raise ValueError(
                f"total_timesteps={total_timesteps} and total_episodes={total_episodes}: give one budget, not both"
            )
        if not goes_on:
            self._began_at = (0, 0) if from_zero else (self.num_timesteps, self._episode_num)
        steps_before, episodes_before = self._began_at
        if total_timesteps is not None:
            if isinstance(total_timesteps, float) and total_timesteps % 1 == 0:  # 1e5 is what many write for SB3
                total_timesteps = int(total_timesteps)
            check_number("total_timesteps", total_timesteps, 0, integer=True)
            self._total_episodes = None
        elif total_episodes is None and goes_on:
            return min(self._total_timesteps, sys.maxsize) - self.num_timesteps
        elif total_episodes is None and self._default_timesteps is not None:
            total_timesteps, self._total_episodes = self._default_timesteps, None
        else:
            total_episodes = DEFAULT_TOTAL_EPISODES if total_episodes is None else total_episodes
            check_number("total_episodes", total_episodes, 0, integer=True)
            self._total_episodes = total_episodes + episodes_before
            # SB3 adds the steps that were taken before, and the sum is in the files of models, where it is an int64.
            return sys.maxsize - (0 if from_zero else self.num_timesteps)
        return total_timesteps - (self.num_timesteps - steps_before if goes_on else 0)

    def _learn_from_a_rollout(self, callback: BaseCallback, log_interval: int) -> bool:
        """Collect a rollout, update, copy the target network if that is due. ``False`` if a callback ends training."""
        assert self.env is not None
        episodes_before = self._episode_num
        self._in_rollout = True
        rollout = self.collect_rollouts(
            self.env,
            train_freq=self.train_freq,  # type: ignore[arg-type]
            action_noise=self.action_noise,
            callback=callback,
            learning_starts=self.learning_starts,
            replay_buffer=self.replay_buffer,  # type: ignore[arg-type]
            log_interval=log_interval,
        )
        if not rollout.continue_training:
            return False
        if self.num_timesteps > self.learning_starts and not waits_for_episode(self.replay_buffer):
            gradient_steps = self.gradient_steps if self.gradient_steps >= 0 else rollout.episode_timesteps
            if gradient_steps > 0:
                self.train(batch_size=self.batch_size, gradient_steps=gradient_steps)
        interval = self.target_update_interval
        if not isinstance(interval, int) and self._episode_num // interval[0] > episodes_before // interval[0]:
            self._copy_target()
        self._in_rollout = False
        return True

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """
        Step the environments and store the transitions; SB3's, without what does not concern a DQN.

        Callbacks see the same local variables at the same moments.

        :param env: The training environment
        :param callback: Called at the beginning, at every step and at the end
        :param train_freq: How many steps or episodes to collect
        :param replay_buffer: Takes the transitions
        :param action_noise: Is reset at the end of an episode
        :param learning_starts: Steps with random actions before learning starts
        :param log_interval: Episodes between two logs
        :return: How many steps and episodes there were, and whether to go on
        """
        self.policy.set_training_mode(False)
        num_collected_steps, num_collected_episodes = 0, 0
        by_step = train_freq.unit == TrainFrequencyUnit.STEP
        assert by_step or env.num_envs == 1, "You must use only one env when doing episodic training."
        callback.on_rollout_start()
        continue_training = True
        while (num_collected_steps if by_step else num_collected_episodes) < train_freq.frequency:
            actions, buffer_actions = self._sample_action(learning_starts, action_noise, env.num_envs)
            self._handed_out = False
            try:
                new_obs, rewards, dones, infos = env.step(actions)
            except WrongStepError as error:
                self.num_timesteps += env.num_envs
                error.step = self.num_timesteps
                raise
            except Exception:
                self._env_raised = True
                raise
            self.num_timesteps += env.num_envs
            num_collected_steps += 1

            callback.update_locals(locals())
            if not self._call_at_step(callback):
                return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, False)
            self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)  # type: ignore[arg-type]
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()

            for idx, done in enumerate(dones.tolist()):
                if done:
                    num_collected_episodes += 1
                    self._episode_num += 1
                    if action_noise is not None:
                        action_noise.reset(**({"indices": [idx]} if env.num_envs > 1 else {}))
                    if log_interval is not None and self._episode_num % log_interval == 0:
                        self.dump_logs()
        callback.on_rollout_end()
        return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, continue_training)

    def predict(
        self,
        observation: Observation,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose actions: greedy, or ε-greedy with :attr:`exploration_rate`, drawn for every observation on its own.

        :param observation: The observation(s), also ``Tuple`` and nested ones as the environment itself gives them
        :param state: Not used, as no policy here is recurrent
        :param episode_start: Not used
        :param deterministic: Whether to be greedy
        :param action_masks: Which actions are valid, bool of shape ``(n_actions,)``, with a leading dimension for
            several observations. ``None``: all; a model that was trained with masks warns once, unless it is given
            masks that allow all
        :return: The action(s), and ``state`` as it was given
        :raises ValueError: If the observation has other parts than the model's space, the masks are of another shape,
            or one allows nothing
        """
        observation = as_model_takes(observation, self.observation_space)
        if action_masks is None and self.use_masking and not self._warned_of_missing_masks:
            self._warned_of_missing_masks = True
            warnings.warn(_UNMASKED, stacklevel=2)
        if deterministic:
            return self._predict_greedily(observation, action_masks), state
        vectorized = vars(self)["policy"].is_vectorized_observation(observation)
        batch = observation if vectorized else add_batch_dimension(observation)
        if action_masks is not None:
            n = len(next(iter(batch.values())) if isinstance(batch, dict) else batch)
            action_masks = given_masks(action_masks, n, self.action_space.n)  # type: ignore[attr-defined]
        actions = self._explore(batch, self._predict_greedily, action_masks)
        return actions if vectorized else actions.reshape(()), state

    def _predict_greedily(self, obs: Observation, action_masks: np.ndarray | None = None) -> np.ndarray:
        if action_masks is not None:
            return predict_greedily(self.policy, self._action_values, obs, action_masks)
        actions: np.ndarray = vars(self)["policy"].predict(obs, deterministic=True)[0]  # which hands it to nobody
        return actions

    def _explore(
        self, obs: Observation, greedy: Callable[..., np.ndarray], action_masks: np.ndarray | None = None
    ) -> np.ndarray:
        """ε-greedy actions, int64 of shape ``(n_envs,)``, for observations with that leading dimension."""
        n = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        if n == 1:  # nearly all of training, and the same draws as below
            if self.exploration_rng.random() < self.exploration_rate:
                return self._random_actions(1, obs, action_masks)
            return greedy(obs) if action_masks is None else greedy(obs, action_masks)
        explore = self.exploration_rng.random(n) < self.exploration_rate
        actions = greedy(obs) if action_masks is None else greedy(obs, action_masks)
        masks = None if action_masks is None else action_masks[explore]
        exploring = obs[explore] if self.explore_least_tried else obs  # type: ignore[index]
        actions[explore] = self._random_actions(int(explore.sum()), exploring, masks)
        return actions

    def _random_actions(self, n: int, obs: Observation, action_masks: np.ndarray | None = None) -> np.ndarray:
        """Random actions, int64 of shape ``(n,)``; observations matter only with ``explore_least_tried``."""
        if self.explore_least_tried:
            states = np.asarray(obs, np.int64) - self.observation_space.start  # type: ignore[attr-defined]
            tries = self.action_counts[states]
            if action_masks is not None:
                tries = np.where(action_masks, tries, np.iinfo(tries.dtype).max)
            return draw_allowed(self.exploration_rng, tries == tries.min(axis=1, keepdims=True))
        if action_masks is not None:
            return draw_allowed(self.exploration_rng, action_masks)
        return draw_indices(self.exploration_rng, 0, self.action_space.n, n)  # type: ignore[attr-defined]

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.exploration_decay is not None:
            self.exploration_rate = self.epsilon(self._episode_num + 1)
        assert self._last_obs is not None
        if self.num_timesteps < learning_starts:
            actions = self._random_actions(n_envs, self._last_obs, self._last_masks)
        else:
            self._refresh_engine()
            actions = self._explore(self._last_obs, self._engine.greedy_actions, self._last_masks)
        return actions, actions

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: Observation,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        check_rewards(reward, self.num_timesteps)
        if dones.dtype is not _BOOL:
            dones = checked_dones(dones, self.num_timesteps)
        self._check_obs(new_obs)
        any_done = dones.item() if self.n_envs == 1 else dones.any()
        if any_done:
            check_outcomes(infos, dones, self.num_timesteps)
            self._check_terminal_obs(infos)
        normalize = self._vec_normalize_env
        if normalize is None:
            self._last_original_obs, original_obs = self._last_obs, new_obs
        else:
            original_obs, reward = normalize.get_original_obs(), normalize.get_original_reward()
        next_obs = self._with_terminal_obs(original_obs, infos) if any_done else original_obs
        if isinstance(next_obs, dict):
            next_obs = dict(next_obs)  # SB3's DictReplayBuffer puts parts of other shapes into the one it is given
        if self.explore_least_tried:
            states = self._last_obs - self.observation_space.start  # type: ignore[attr-defined]
            np.add.at(self.action_counts, (states, buffer_action), 1)
        if self._mask_reader is None:
            replay_buffer.add(self._last_original_obs, next_obs, buffer_action, reward, dones, infos)  # type: ignore[arg-type]
        else:
            assert isinstance(replay_buffer, SuccessFailReplayBuffer)
            self._last_masks, next_masks = self._mask_reader.after_step(dones, infos)
            replay_buffer.add(self._last_original_obs, next_obs, buffer_action, reward, dones, infos, next_masks)  # type: ignore[arg-type]
        self._last_obs = self._kept(new_obs) if self._copies_obs else new_obs
        if normalize is not None:
            self._last_original_obs = original_obs

    def _take_first_obs(self, env: VecEnv, obs: Observation) -> None:
        """Check the observations with which training begins; how, and how they are kept, depends on the environment."""
        self._is_stacked = is_vecenv_wrapped(env, VecFrameStack)
        self._copies_obs = not gives_new_arrays(env)
        if isinstance(self.observation_space, spaces.Discrete):
            first = int(self.observation_space.start)
            self._states = range(first, first + int(self.observation_space.n))
        self._check_obs(obs)
        if self._copies_obs:
            self._last_obs = self._kept(obs)

    def _kept(self, obs: Any) -> Any:
        """Observations as they have to be kept until the next step, states as whole numbers."""
        if isinstance(self.observation_space, spaces.Discrete):
            return np.array(obs, np.int64)
        return copy.deepcopy(obs)

    def _with_terminal_obs(self, obs: Observation, infos: list[dict[str, Any]]) -> Observation:
        """What was observed at the end of episodes, in place of the first observation of the next ones."""
        obs = copy.deepcopy(obs)
        for i, info in enumerate(infos):
            if (terminal := info.get("terminal_observation")) is None:
                continue
            if self._vec_normalize_env is not None:
                terminal = terminal if isinstance(terminal, dict) else np.asarray(terminal)
                terminal = self._vec_normalize_env.unnormalize_obs(terminal)
            if isinstance(obs, dict):
                for key in obs:
                    obs[key][i] = terminal[key]
            else:
                obs[i] = terminal
        return obs

    def _check_obs(self, obs: Observation) -> None:
        """Check observations as the environments gave them: normalised ones have no bounds."""
        if type(obs) is np.ndarray and obs.shape == (1,) and type(state := obs.item()) is int and state in self._states:
            return  # nearly all of training, in a fraction of the time
        normalize, space = self._vec_normalize_env, self.observation_space
        if normalize is not None:
            obs, space = normalize.get_original_obs(), normalize.venv.observation_space
        beyond = check_observations(obs, space, self.num_timesteps, ignore_bounds=self._is_stacked)
        if beyond is not None:
            self._warn_of_bounds(beyond)

    def _check_terminal_obs(self, infos: list[dict[str, Any]]) -> None:
        normalized = self._vec_normalize_env is not None or self._is_stacked
        space = self.observation_space
        for i, info in enumerate(infos):
            if (obs := info.get("terminal_observation")) is not None:
                batch = one_of_space(obs, space)
                beyond = check_observations(batch, space, self.num_timesteps, i, ignore_bounds=normalized)
                if beyond is not None:
                    self._warn_of_bounds(beyond)

    def _warn_of_bounds(self, beyond: str) -> None:
        if not self._warned_of_bounds:
            self._warned_of_bounds = True
            warnings.warn(
                f"{beyond}; training goes on, as in SB3, and this is said once: give the environment the bounds that "
                "its observations have, or clip them, if it matters"
            )

    def train(self, gradient_steps: int, batch_size: int = 1) -> None:
        """
        Update the online network.

        :param gradient_steps: Number of updates
        :param batch_size: Transitions in each minibatch
        """
        self._update_learning_rate(self.policy.optimizer)
        self._refresh_engine()
        loss = self._engine.train(gradient_steps, batch_size)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", loss)

    def _on_step(self) -> None:
        self._n_calls += 1
        interval = self.target_update_interval
        if isinstance(interval, int) and self._n_calls % max(interval // self.n_envs, 1) == 0:
            self._copy_target()
        if self.exploration_decay is None:
            self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _copy_target(self) -> None:
        online, target = self._networks
        if target is not online:
            polyak_update(online.parameters(), target.parameters(), self.tau)
            # Running statistics of batch normalisation are copied whole, as in SB3.
            polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)

    def _update_learning_rate(self, optimizers: list[th.optim.Optimizer] | th.optim.Optimizer) -> None:
        """As in SB3, with one look at the schedule in place of two."""
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", learning_rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            update_learning_rate(optimizer, learning_rate)

    def dump_logs(self) -> None:
        """Write the log, as in SB3; where it cannot be written, training goes on without."""
        with outliving_full_disks(self.logger):
            super().dump_logs()

    def _episodes_done(self) -> bool:
        return self._total_episodes is not None and self._episode_num >= self._total_episodes

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        if self._total_episodes is None:
            super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        else:
            # More episodes than wanted may end in one rollout.
            self._current_progress_remaining = max(0.0, 1.0 - self._episode_num / self._total_episodes)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str | None = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        goes_on = self._resumed is not None and self._run_folder is not None
        if (tb_log_name is not None and not goes_on) or self.tensorboard_log is None or self._custom_logger:
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, str(tb_log_name), progress_bar)
        # SB3 would add a number to the lecture's name of the run; it leaves a logger alone that is the user's own.
        self.set_logger(self._lecture_logger(reset_num_timesteps))
        try:
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, "", progress_bar)
        finally:
            self._custom_logger = False

    def make_run_folder(self) -> pathlib.Path:
        """
        Make the folder of a new run, named as in the lecture from its two switches and the time.

        :return: ``<tensorboard_log>/SR_<store_and_replay>_DD_<double_dqn>_<date-time>``
        """
        return new_folder(self._runs, f"{self._run_name()}_{datetime.now():%Y-%m-%d_%H-%M-%S}")

    @property
    def _runs(self) -> pathlib.Path:
        return pathlib.Path(self.tensorboard_log or "runs")

    def _lecture_logger(self, new_run: bool) -> Logger:
        if new_run or self._run_folder is None or pathlib.Path(self._run_folder).parent != self._runs:
            self._run_folder = str(self.make_run_folder())
        return configure(self._run_folder, ["stdout", "tensorboard"] if self.verbose else ["tensorboard"])

    def _run_name(self) -> str:
        return f"SR_{self.store_and_replay}_DD_{self.double_dqn}"

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        if progress_bar and self._total_episodes is not None:
            callbacks = callback if isinstance(callback, list) else [callback]
            callback = CallbackList([as_callback(one) for one in callbacks] + [EpisodeProgressBarCallback()])
            progress_bar = False
        with warnings.catch_warnings():
            if type(self.env) is TabularVecEnv and _all_evaluate_on(callback, DummyVecEnv):
                # SB3 compares the types, and both step gymnasium's environment without wrappers around.
                warnings.filterwarnings("ignore", "Training and eval env are not of the same type")
            return super()._init_callback(callback, progress_bar)

    def _make_replay_buffer(self) -> None:
        assert self.replay_buffer_class is not None
        self.replay_buffer = self.replay_buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            **self._memory_kwargs(),
        )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *_PASSING]


def _announce(env_id: str, verbose: int) -> None:
    if verbose >= 1:
        print(f"Creating environment from the given name '{env_id}'")  # SB3's words


def _is_policy(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BasePolicy)


def add_batch_dimension(obs: Any) -> Observation:
    """
    Make one observation a batch of one.

    :param obs: An observation: a number, an array, or a dictionary of them.
    :return: The same with a leading dimension of 1 (each part of a Dict).
    """
    if isinstance(obs, dict):
        return {key: np.asarray(part)[None] for key, part in obs.items()}
    return np.asarray(obs)[None]


def one_of_space(obs: Any, space: spaces.Space[Any]) -> Observation:
    """
    Make one observation a batch of one, as an array of several would hold it.

    :param obs: An observation; one number may stand for an array of one.
    :param space: Its space.
    :return: The same with a leading dimension of 1 (each part of a Dict).
    """
    if isinstance(obs, dict) and isinstance(space, spaces.Dict):
        parts = {key: one_of_space(obs[key], part) for key, part in space.items() if key in obs}
        return parts  # type: ignore[return-value]
    array = np.asarray(obs)
    return (
        array.reshape(1, *(space.shape or ())) if array.shape == () and np.prod(space.shape or ()) == 1 else array[None]
    )


def as_callback(callback: BaseCallback | Callable[..., bool] | None) -> BaseCallback:
    """
    A callback object for whatever SB3 takes as one callback.

    :param callback: An object, a function of (locals, globals), or ``None``.
    :return: The object itself, or one that calls the function.
    """
    return callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)


def _all_evaluate_on(callback: MaybeCallback, kind: type[VecEnv]) -> bool:
    """Whether every ``EvalCallback`` has environments of exactly this kind."""
    callbacks = callback if isinstance(callback, list) else [callback]
    found = [one for given in callbacks if isinstance(given, BaseCallback) for one in callback_tree(given)]
    return all(type(one.eval_env) is kind for one in found if isinstance(one, EvalCallback))


def new_folder(root: pathlib.Path, name: str) -> pathlib.Path:
    """
    Make a folder that did not exist, also when several processes want one of the same name.

    :param root: Parent folder, made if necessary.
    :param name: Wanted name; ``_2``, ``_3``, … is added if it is taken.
    :return: The new folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        folder = root / (name if attempt == 1 else f"{name}_{attempt}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            attempt += 1
