"""The lecture's deep Q-network as a DQN of Stable-Baselines3."""

from typing import Any, ClassVar, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.dqn.dqn import DQN
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import UnsupportedSpaceError, check_choice, check_number
from sb3_lecture_dqn.common.envs import LECTURE_MAX_EPISODE_STEPS
from sb3_lecture_dqn.common.episodic import EpisodicMixin
from sb3_lecture_dqn.common.learners import ENGINES, LOSSES, make_learner
from sb3_lecture_dqn.lecture_dqn.policies import ActionInPolicy, LecturePolicy, TablePolicy

SelfLectureDQN = TypeVar("SelfLectureDQN", bound="LectureDQN")


class LectureDQN(EpisodicMixin, DQN):
    """
    Deep Q-network of the lecture: embedding + PReLU network, memory of successes and failures, schedule by episodes.

    It is SB3's :class:`DQN` with other defaults and a few more settings; every setting of SB3's works as there. One
    positional argument is the environment (``LectureDQN("Taxi-v3")``), two are policy and environment as in SB3.

    :param policy: The policy model to use (LecturePolicy, TablePolicy, ActionInPolicy, MlpPolicy, CnnPolicy,
        MultiInputPolicy), "LecturePolicy" by default
    :param env: The environment to learn from; an id gets a limit of ``max_episode_steps`` in place of its own
    :param learning_rate: The learning rate, it can be a function of the current progress remaining (from 1 to 0)
    :param buffer_size: Size of the replay buffer; of :class:`SuccessFailReplayBuffer`, the most failures
    :param learning_starts: How many steps to collect with random actions before learning starts
    :param batch_size: Minibatch size for each gradient update
    :param tau: The soft update coefficient ("Polyak update", between 0 and 1), 1 for hard update
    :param gamma: The discount factor
    :param train_freq: Update the model every ``train_freq`` steps, or a tuple such as ``(2, "episode")``
    :param gradient_steps: How many gradient steps to do after each rollout (see ``train_freq``), ``-1`` for as many as
        steps done in the environment
    :param replay_buffer_class: Replay buffer class to use. ``None``: :class:`SuccessFailReplayBuffer`, or as in SB3
        where that one has not what was asked for (``n_steps > 1``, ``optimize_memory_usage``)
    :param replay_buffer_kwargs: Keyword arguments to pass to the replay buffer on creation
    :param optimize_memory_usage: Enable the memory efficient variant of SB3's replay buffer
    :param n_steps: When above 1, use n-step returns (SB3's NStepReplayBuffer)
    :param target_update_interval: Copy the target network every that many environment steps, or by episodes with a
        tuple such as ``(20, "episode")``: then after the updates that follow the episode's last step
    :param exploration_fraction: With ``exploration_decay=None``, fraction of the training over which ε falls
    :param exploration_initial_eps: ε before the first episode
    :param exploration_final_eps: Lowest ε
    :param max_grad_norm: The maximum value for the gradient clipping, ``None`` for no clipping
    :param stats_window_size: Window size for the rollout logging, in episodes
    :param tensorboard_log: The log location for tensorboard (if None, no logging)
    :param policy_kwargs: Additional arguments to be passed to the policy on creation, such as ``hidden_dim``
    :param verbose: Verbosity level: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run
    :param exploration_decay: ε of episode i is ``max(exploration_final_eps, exploration_initial_eps * decay**i)``.
        ``None``: SB3's schedule, linear in timesteps
    :param store_and_replay: ``False``: no memory, every update uses the transition just seen
    :param double_dqn: The lecture's word for a separate target network. ``False``: the target is the online network
    :param double_q: Double DQN of van Hasselt et al. (2016): the online network chooses the action that the target
        network values
    :param loss: ``"mse"`` or ``"huber"``
    :param max_episode_steps: Step limit of an environment given by id, ``None`` for that of its id
    :param engine: What computes the updates: ``"torch"``, any network and optimiser; ``"numba"``, the same by compiled
        loops, for the policies of this package with SGD or Adam on the CPU; ``"auto"``, the compiled one where it can
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: If a setting is out of range or contradicts another; the message names it
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "LecturePolicy": LecturePolicy,
        "TablePolicy": TablePolicy,
        "ActionInPolicy": ActionInPolicy,
        **DQN.policy_aliases,
    }

    def __init__(
        self,
        policy: str | type[DQNPolicy] | GymEnv = "LecturePolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 1e-3,
        buffer_size: int = 1000,
        learning_starts: int = 0,
        batch_size: int = 1,
        tau: float = 1.0,
        gamma: float = 0.75,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 5,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int | tuple[int, str] = (20, "episode"),
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.1,
        max_grad_norm: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        exploration_decay: float | None = 0.99,
        store_and_replay: bool = True,
        double_dqn: bool = True,
        double_q: bool = False,
        loss: str = "mse",
        max_episode_steps: int | None = LECTURE_MAX_EPISODE_STEPS,
        engine: str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        policy_, env = self._split_policy_and_env(policy, env)
        if replay_buffer_class is not None and not store_and_replay:
            raise ValueError(
                f"replay_buffer_class={replay_buffer_class.__name__} and store_and_replay=False, which means no replay "
                "memory: give one of them"
            )
        if env is None and _init_setup_model:
            raise ValueError("env=None: give an environment or its id, as in LectureDQN('Taxi-v3')")
        self.env_id = env if isinstance(env, str) else None
        self.max_episode_steps = max_episode_steps
        if max_episode_steps is not None:
            check_number("max_episode_steps", max_episode_steps, 1, integer=True)
        made: Any = self._make_env() if isinstance(env, str) else env
        if made is not None and not isinstance(made.action_space, spaces.Discrete):
            raise UnsupportedSpaceError(f"action_space={made.action_space} must be Discrete")
        super().__init__(
            policy_,  # type: ignore[arg-type]
            made,
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            replay_buffer_class,
            replay_buffer_kwargs,
            optimize_memory_usage,
            n_steps,
            target_update_interval,  # type: ignore[arg-type]
            exploration_fraction,
            exploration_initial_eps,
            exploration_final_eps,
            max_grad_norm,  # type: ignore[arg-type]
            stats_window_size,
            tensorboard_log,
            policy_kwargs,
            verbose,
            seed,
            device,
            _init_setup_model=False,
        )
        self.exploration_decay = exploration_decay
        self.store_and_replay = store_and_replay
        self.double_dqn = double_dqn
        self.double_q = double_q
        self.loss = loss
        self.engine = engine
        if _init_setup_model:
            self._setup_model()

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice("loss", self.loss, tuple(LOSSES))
        check_choice("engine", self.engine, ENGINES)
        if self.max_grad_norm is not None:
            check_number("max_grad_norm", self.max_grad_norm, 0, open_low=True)
        if self.double_q and not self.double_dqn:
            raise ValueError("double_q=True needs a target network, which double_dqn=False leaves out")

    def _setup_model(self) -> None:
        ours = SuccessFailReplayBuffer if self.store_and_replay else LatestTransitionBuffer
        if self.replay_buffer_class in (SuccessFailReplayBuffer, LatestTransitionBuffer) or not self.store_and_replay:
            self.replay_buffer_class = ours  # after `load(path, store_and_replay=...)` too
        elif self.replay_buffer_class is None and self.n_steps == 1 and not self.optimize_memory_usage:
            self.replay_buffer_class = ours
        super()._setup_model()
        self._make_learner(announce=self.verbose >= 1)

    def _make_learner(self, announce: bool = False) -> None:
        self._learner = make_learner(self, announce)

    def _create_aliases(self) -> None:
        if not self.double_dqn:
            self.policy.q_net_target = self.policy.q_net
        super()._create_aliases()

    @property
    def _networks(self) -> tuple[th.nn.Module, th.nn.Module]:
        return self.q_net, self.q_net_target

    def train(self, gradient_steps: int, batch_size: int = 1) -> None:
        """
        Update the online network.

        :param gradient_steps: Number of updates
        :param batch_size: Transitions in each minibatch
        """
        self._update_learning_rate(self.policy.optimizer)
        self._refresh_learner()
        loss = self._learner.train(gradient_steps, batch_size)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", loss)

    def _run_name(self) -> str:
        return f"SR_{self.store_and_replay}_DD_{self.double_dqn}"

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_learner"]
