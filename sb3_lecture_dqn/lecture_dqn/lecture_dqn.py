"""The lecture's deep Q-network as a DQN of Stable-Baselines3."""

from typing import Any, ClassVar

import gymnasium as gym
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples, Schedule
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.dqn import DQN
from stable_baselines3.dqn.policies import DQNPolicy, MlpPolicy, MultiInputPolicy
from torch.nn import functional as F

from sb3_lecture_dqn.common.checks import check_choice
from sb3_lecture_dqn.common.masks import best_allowed
from sb3_lecture_dqn.engine.changes import HandedOut
from sb3_lecture_dqn.engine.known import also_compiled
from sb3_lecture_dqn.lecture_dqn.policies import ActionInPolicy, LecturePolicy, TablePolicy
from sb3_lecture_dqn.training.algorithm import LectureAlgorithm

#: Loss functions by the value of the keyword ``loss``. A loss takes values and targets, and returns a scalar
LOSSES = {"mse": F.mse_loss, "huber": F.smooth_l1_loss}


class LectureDQN(LectureAlgorithm, DQN):
    """
    Deep Q-network of the lecture: embedding + PReLU network, memory of successes and failures, schedule by episodes.

    It is SB3's :class:`DQN` with other defaults and additional settings; the settings of SB3 work as in SB3. A single
    positional argument is the environment (``LectureDQN("Taxi-v3")``); two are policy and environment, as in SB3.

    :param policy: The policy model to use (LecturePolicy, TablePolicy, ActionInPolicy, MlpPolicy, CnnPolicy,
        MultiInputPolicy), "LecturePolicy" by default
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: The learning rate, it can be a function of the current progress remaining (from 1 to 0). The
        default is the one that the lecture's optimiser uses; the lecture's ``Config`` has 0.01, which is never used and
        would make training diverge
    :param buffer_size: Size of the replay buffer. For ``Discrete`` observations, it limits only the failures in
        :class:`SuccessFailReplayBuffer`: all successes are kept, since equal ones are stored once
    :param learning_starts: How many steps of the model to collect transitions for before learning starts, with random
        actions. With ``HerReplayBuffer``, learning also waits for the end of an episode
    :param batch_size: Minibatch size for each gradient update
    :param tau: The soft update coefficient ("Polyak update", between 0 and 1), 1 for hard update
    :param gamma: The discount factor
    :param train_freq: Update the model every ``train_freq`` steps. Alternatively pass a tuple of frequency and unit
        like ``(5, "step")`` or ``(2, "episode")``
    :param gradient_steps: How many gradient steps to do after each rollout (see ``train_freq``). ``-1`` means to do as
        many gradient steps as steps done in the environment during the rollout
    :param replay_buffer_class: Replay buffer class to use. If ``None``, :class:`SuccessFailReplayBuffer`; with
        ``n_steps > 1`` or ``optimize_memory_usage``, which it does not support, the class that SB3 selects
    :param replay_buffer_kwargs: Keyword arguments to pass to the replay buffer on creation
    :param optimize_memory_usage: Enable the memory efficient variant of SB3's replay buffer
    :param n_steps: When ``n_steps > 1``, uses n-step return (with SB3's NStepReplayBuffer)
    :param target_update_interval: Update the target network every ``target_update_interval`` environment steps. A tuple
        such as ``(20, "episode")`` counts episodes; the update then follows the gradient steps after the last step of
        the episode
    :param exploration_fraction: Fraction of entire training period over which the exploration rate is reduced, if
        ``exploration_decay`` is ``None``
    :param exploration_initial_eps: Initial value of random action probability ε
    :param exploration_final_eps: Final value of random action probability ε, and the lowest one
    :param max_grad_norm: The maximum value for the gradient clipping, ``None`` for no clipping
    :param stats_window_size: Window size for the rollout logging, in episodes
    :param tensorboard_log: The log location for tensorboard (if None, no logging)
    :param policy_kwargs: Additional arguments to be passed to the policy on creation, such as ``hidden_dim``
    :param verbose: Verbosity level: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run. Setting it to auto, the code will be run on
        the CPU if the compiled engine supports the policy and the observations, unless ``engine="torch"``; otherwise on
        the GPU if possible
    :param exploration_decay: ε of episode i = 1, 2, … is
        ``max(exploration_final_eps, exploration_initial_eps * exploration_decay**i)``. If ``None``, ε falls linearly
        over timesteps as in SB3
    :param store_and_replay: Whether to store transitions and replay them. If ``False``, every update uses the latest
        transition
    :param double_dqn: Whether to use a separate target network, which the lecture calls "double DQN". If ``False``, the
        online network computes the targets
    :param double_q: Whether to use Double DQN (van Hasselt et al. 2016): the online network selects the next action,
        and the target network evaluates it
    :param loss: Loss function of the gradient update, ``"mse"`` or ``"huber"``
    :param max_episode_steps: Step limit of an environment that is given by its id. If ``None``, the limit of its
        registration; for the lecture's tasks (``Taxi-v3``, ``Taxi-v4`` and their variants), the lecture's 1000. An
        environment object keeps its own limit
    :param engine: Which engine computes the updates. ``"torch"`` supports every network and optimiser; ``"numba"``
        computes the same by compiled loops on the CPU, for all networks but those on images, with SGD, Adam, AdamW or
        RMSprop; ``"auto"`` selects the compiled loops if they support the model and are not slower. The compiled loops
        do not set the ``grad`` of parameters. If a callback adds something that they do not support, such as a hook, a
        frozen layer or another option of the optimiser, PyTorch computes the updates from that step on; with
        ``"numba"`` this is an error
    :param use_masking: Whether to choose only valid actions, in training, in the targets and in tests. The environment
        names the valid actions by its method ``action_masks()``, as for sb3-contrib's MaskablePPO, or else by
        ``info["action_mask"]``. Cannot be combined with ``n_steps > 1`` or with SB3's replay buffers
    :param explore_least_tried: Whether to explore only by the actions that were tried least often in the state, with
        ties broken at random, instead of by all actions. ``"anywhere"``: to go, by the shortest way through the steps
        seen so far, to the nearest state with an action that was tried less often, see :class:`WayToUntried`. Only for
        ``Discrete`` observations, or such whose parts are all discrete, with at most ``MAX_STATES`` states together and
        ``MAX_COUNTS`` of states times actions
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: If a setting is out of range or contradicts another; the message names it
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "LecturePolicy": LecturePolicy,
        "TablePolicy": TablePolicy,
        "ActionInPolicy": ActionInPolicy,
        **DQN.policy_aliases,
    }
    hyperparams = "lecture_dqn"
    word_in_files = "DQN"
    compiled_policies = (LecturePolicy, TablePolicy, ActionInPolicy, MlpPolicy, MultiInputPolicy)
    network_names = ("q_net", "q_net_target")

    policy: Any = HandedOut()
    q_net: Any = HandedOut()
    q_net_target: Any = HandedOut()

    def __init__(
        self,
        policy: str | type[DQNPolicy] | gym.Env | VecEnv = "LecturePolicy",
        env: gym.Env | VecEnv | str | None = None,
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
        max_episode_steps: int | None = None,
        engine: str = "auto",
        use_masking: bool = False,
        explore_least_tried: bool | str = False,
        _init_setup_model: bool = True,
    ) -> None:
        # `super` adds "__class__" to the local variables.
        settings = {name: value for name, value in dict(locals()).items() if name not in ("self", "loss", "__class__")}
        self.loss = loss
        super().__init__(**settings)

    @also_compiled
    def compute_loss(self, batch: ReplayBufferSamples) -> th.Tensor:
        """
        Compute the loss between ``Q(s, a)`` and ``y = r + γ · max_a' Q_target(s', a')`` (Mnih et al. 2015).

        If s' is terminal, ``y = r``. With ``double_q``, the online network selects a' and the target network evaluates
        it (van Hasselt et al. 2016). With masks, a' is a valid action.

        :mod:`kernels.updates` and :mod:`kernels.minibatches` compute the same: change both, or remove the mark.

        :param batch: Minibatch of transitions
        :return: Mean loss, a scalar tensor
        """
        online, target = self._networks
        with th.no_grad():
            next_q_values = target(batch.next_observations)
            selecting = online(batch.next_observations) if self.double_q else next_q_values
            next_actions = best_allowed(selecting, getattr(batch, "next_action_masks", None))
            next_values = next_q_values.gather(1, next_actions[:, None])
            targets = batch.rewards + (1 - batch.dones) * self._discounts(batch) * next_values

        values = online(batch.observations).gather(1, batch.actions.long())
        return LOSSES[self.loss](values, targets)

    @property
    def loss_function(self) -> Any:
        """The loss function that the keyword ``loss`` names; ``None`` if the name is unknown."""
        return LOSSES.get(self.loss)

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice("loss", self.loss, tuple(LOSSES))

    def _create_aliases(self) -> None:
        if not self.double_dqn:
            self.policy.q_net_target = self.policy.q_net
        super()._create_aliases()

    @property
    def _networks(self) -> tuple[th.nn.Module, th.nn.Module]:
        return self.q_net, self.q_net_target
