"""The lecture's deep Q-network as a DQN of Stable-Baselines3."""

from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, ReplayBufferSamples, Schedule
from stable_baselines3.dqn.dqn import DQN
from stable_baselines3.dqn.policies import DQNPolicy
from torch.nn import functional as F

from sb3_lecture_dqn.common.checks import check_choice
from sb3_lecture_dqn.common.masks import best_allowed
from sb3_lecture_dqn.engine.changes import HandedOut
from sb3_lecture_dqn.engine.known import also_compiled
from sb3_lecture_dqn.lecture_dqn.policies import ActionInPolicy, LecturePolicy, TablePolicy
from sb3_lecture_dqn.training.algorithm import LectureAlgorithm

#: What the keyword ``loss`` may be; a loss takes values and targets, and returns a scalar
LOSSES = {"mse": F.mse_loss, "huber": F.smooth_l1_loss}


class LectureDQN(LectureAlgorithm, DQN):
    """
    Deep Q-network of the lecture: embedding + PReLU network, memory of successes and failures, schedule by episodes.

    It is SB3's :class:`DQN` with other defaults and a few more settings; every setting of SB3's works as there. One
    positional argument is the environment (``LectureDQN("Taxi-v3")``), two are policy and environment as in SB3.

    :param policy: The policy model to use (LecturePolicy, TablePolicy, ActionInPolicy, MlpPolicy, CnnPolicy,
        MultiInputPolicy), "LecturePolicy" by default
    :param env: The environment to learn from, or its id
    :param learning_rate: The learning rate, it can be a function of the current progress remaining (from 1 to 0). The
        default is that of the lecture's optimiser; the 0.01 of its ``Config`` is never used there, and diverges
    :param buffer_size: Most transitions in the replay buffer. In the lecture's, for ``Discrete`` observations, most
        failures: successes, which repeat there, are all kept, see :class:`SuccessFailReplayBuffer`
    :param learning_starts: How many steps to collect with random actions before learning starts; with
        ``HerReplayBuffer``, not before an episode has ended
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
    :param device: Device (cpu, cuda, ...) on which the code should be run. ``"auto"``: the CPU for what the compiled
        engine knows, unless ``engine="torch"``; else as in SB3
    :param exploration_decay: ε of episode i is ``max(exploration_final_eps, exploration_initial_eps * decay**i)``.
        ``None``: SB3's schedule, linear in timesteps
    :param store_and_replay: ``False``: no memory, every update uses the transition just seen
    :param double_dqn: The lecture's word for a separate target network. ``False``: the target is the online network
    :param double_q: Double DQN of van Hasselt et al. (2016): the online network chooses the action that the target
        network values
    :param loss: ``"mse"`` or ``"huber"``
    :param max_episode_steps: Step limit of an environment given by id. ``None``: that of its id, which of the lecture's
        tasks (``Taxi-v3``, ``Taxi-v4`` and their variants) is the lecture's 1000. An environment object keeps its own
    :param engine: What computes the updates: ``"torch"``, any network and optimiser; ``"numba"``, the same by compiled
        loops, for the policies of this package with SGD or Adam on the CPU; ``"auto"``, the compiled one where it can.
        That one leaves no ``grad`` at the parameters. What it cannot follow, such as a hook, a frozen layer or an
        option of the optimiser set in a callback, PyTorch computes from that step on; with ``"numba"`` it is an error
    :param use_masking: Whether only valid actions are chosen, in training, in the targets and in tests. Which ones are,
        the environment says by ``action_masks()``, as for sb3-contrib's MaskablePPO, or else by
        ``info["action_mask"]``. Not with ``n_steps > 1`` or replay buffers of SB3's
    :param explore_least_tried: Explore by the actions that have been tried least often in the state, at random among
        those, instead of by any; so those never tried come first. Only for ``Discrete`` observations
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
    compiled_policies = (LecturePolicy, TablePolicy, ActionInPolicy)

    policy: Any = HandedOut()
    q_net: Any = HandedOut()
    q_net_target: Any = HandedOut()

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
        max_episode_steps: int | None = None,
        engine: str = "auto",
        use_masking: bool = False,
        explore_least_tried: bool = False,
        _init_setup_model: bool = True,
    ) -> None:
        self.loss = loss
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            target_update_interval=target_update_interval,
            exploration_fraction=exploration_fraction,
            exploration_initial_eps=exploration_initial_eps,
            exploration_final_eps=exploration_final_eps,
            max_grad_norm=max_grad_norm,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            exploration_decay=exploration_decay,
            store_and_replay=store_and_replay,
            double_dqn=double_dqn,
            double_q=double_q,
            max_episode_steps=max_episode_steps,
            engine=engine,
            use_masking=use_masking,
            explore_least_tried=explore_least_tried,
            _init_setup_model=_init_setup_model,
        )

    @also_compiled
    def compute_loss(self, batch: ReplayBufferSamples) -> th.Tensor:
        """
        Compute the loss between ``Q(s, a)`` and ``y = r + γ · max_a' Q_target(s', a')``, where the second term is left
        out for a terminal ``s'`` (Mnih et al. 2015).

        With ``double_q`` the online network chooses a' and the target network values it (van Hasselt et al. 2016). With
        masks, a' is one of the valid actions.

        :param batch: A minibatch
        :return: A scalar
        """
        online, target = self._networks
        with th.no_grad():
            next_q_values = target(batch.next_observations)
            choosing = online(batch.next_observations) if self.double_q else next_q_values
            next_actions = best_allowed(choosing, getattr(batch, "next_action_masks", None))
            next_values = next_q_values.gather(1, next_actions[:, None])
            targets = batch.rewards + (1 - batch.dones) * self._discounts(batch) * next_values

        values = online(batch.observations).gather(1, batch.actions.long())
        return LOSSES[self.loss](values, targets)

    @property
    def loss_function(self) -> Any:
        """The loss that the keyword ``loss`` names; ``None`` if there is none of that name."""
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
