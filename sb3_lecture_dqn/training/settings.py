"""Settings of a model: their checks, and the classes and keywords that follow from them."""

import math
from typing import Any

import gymnasium as gym
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import check_choice, check_number, check_switch, parse_frequency
from sb3_lecture_dqn.common.state_numbers import MAX_STATES, n_states_of
from sb3_lecture_dqn.common.stock import stock_algorithm, stock_memory
from sb3_lecture_dqn.common.torch_layers import check_counts_from_zero
from sb3_lecture_dqn.engine.choice import ENGINES
from sb3_lecture_dqn.training.exploration import ANYWHERE, MAX_COUNTS
from sb3_lecture_dqn.training.keywords import check_memory_keywords, check_policy_keywords


def split_policy_and_env(cls: Any, policy: Any, env: Any) -> tuple[Any, Any]:
    """
    Sort the positional arguments: a single one is the environment, two are policy and environment.

    :param cls: The algorithm
    :param policy: The first positional argument
    :param env: The second one, or ``None``
    :return: The policy and the environment
    :raises ValueError: If there are two and the first is not a policy
    """
    if isinstance(policy, str):
        is_policy = policy in cls.policy_aliases
    else:
        is_policy = isinstance(policy, type) and issubclass(policy, BasePolicy)
    if is_policy:
        return policy, env
    if env is None:
        return "LecturePolicy", policy
    raise ValueError(
        f"policy={policy!r} must be a policy class or one of {sorted(cls.policy_aliases)}; "
        "two positional arguments are (policy, env)"
    )


def device_for(cls: Any, device: th.device | str, policy: Any, observation_space: Any, engine: Any) -> Any:
    """
    Choose the device: for ``"auto"``, the CPU if the compiled engine supports the policy and the observations.

    :param cls: The algorithm
    :param device: The argument ``device`` of the algorithm
    :param policy: The policy, or its name
    :param observation_space: The observation space
    :param engine: The argument ``engine`` of the algorithm
    :return: The device; ``"auto"`` if SB3 shall choose
    """
    kind = cls.policy_aliases.get(policy, policy) if isinstance(policy, str) else policy
    parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else [observation_space]
    compiled = engine != "torch" and kind in cls.compiled_policies and not any(map(is_image_space, parts))
    return "cpu" if device == "auto" and compiled else device


def check_settings(model: Any) -> None:
    """
    Check all settings of a model. The constructor does not check them, because ``load`` changes them afterwards.

    :param model: The model, before its networks and its memory are made
    :raises ValueError: If a setting is out of range or contradicts another; the message names it
    """
    for name in ("store_and_replay", "double_dqn", "double_q", "use_masking", "optimize_memory_usage"):
        check_switch(name, getattr(model, name))
    if model.seed is not None:
        check_number("seed", model.seed, 0, 2**32 - 1, integer=True)
    lr = model.learning_rate
    check_number("learning_rate", lr(1.0) if callable(lr) else lr, 0)
    check_number("buffer_size", model.buffer_size, 1, integer=True)
    check_number("batch_size", model.batch_size, 1, integer=True)
    if isinstance(model.learning_starts, float) and model.learning_starts % 1 == 0:  # 1e4, as many write for SB3
        model.learning_starts = int(model.learning_starts)
    check_number("learning_starts", model.learning_starts, 0, integer=True)
    check_number("gradient_steps", model.gradient_steps, -1, integer=True)
    check_number("n_steps", model.n_steps, 1, integer=True)
    check_number("tau", model.tau, 0, 1)
    if model.max_grad_norm is not None:
        check_number("max_grad_norm", model.max_grad_norm, 0, open_low=True)
    check_number("gamma", model.gamma, 0, 1)
    if model.max_episode_steps is not None:
        check_number("max_episode_steps", model.max_episode_steps, 1, integer=True)
    for name in ("exploration_initial_eps", "exploration_final_eps", "exploration_fraction"):
        check_number(name, getattr(model, name), 0, 1)
    if model.exploration_decay is not None:
        check_number("exploration_decay", model.exploration_decay, 0, 1)
    wrapper = model.env_wrapper
    if wrapper is not None and not (isinstance(wrapper, type) and issubclass(wrapper, gym.Wrapper)):
        raise ValueError(f"env_wrapper={wrapper!r} must be None or a class of gymnasium wrappers")
    check_choice("engine", model.engine, ENGINES)
    if not model.store_and_replay and (model.n_steps > 1 or model.optimize_memory_usage):
        setting = f"n_steps={model.n_steps}" if model.n_steps > 1 else "optimize_memory_usage=True"
        raise ValueError(f"{setting} needs a replay memory, but store_and_replay=False")
    if model.double_q and not model.double_dqn:
        raise ValueError("double_q=True needs a target network, but double_dqn=False")
    parse_frequency("target_update_interval", model.target_update_interval)
    if not isinstance(model.train_freq, tuple) or type(model.train_freq) is tuple:  # SB3 has not parsed it yet
        model.train_freq = parse_frequency("train_freq", model.train_freq)
    wanted = model.explore_least_tried
    check_choice("explore_least_tried", wanted, (False, True, ANYWHERE))
    if wanted and not can_count(model.observation_space, model.action_space.n):
        raise ValueError(
            f"explore_least_tried={wanted!r} counts actions by state, which needs a Discrete observation space, or "
            f"discrete parts with at most {MAX_STATES:,} states together and {MAX_COUNTS:,} of states times actions, "
            f"not {model.observation_space}"
        )
    if model.action_space.start != 0:
        raise ValueError(f"action_space={model.action_space} must start at 0, as SB3's DQN numbers actions from 0")


def can_count(space: spaces.Space[Any], n_actions: int) -> bool:
    """
    Decide whether ``explore_least_tried`` can count the actions in every state.

    :param space: Observation space
    :param n_actions: Number of actions
    :return: Whether it can
    """
    if isinstance(space, spaces.Discrete):
        return True
    n_states = n_states_of(space)
    return n_states is not None and n_states <= MAX_STATES and n_states * n_actions <= MAX_COUNTS


def memory_class(model: Any) -> Any:
    """
    Choose the class of the replay memory.

    :param model: A model with checked settings
    :return: The class; ``None`` if SB3 shall choose, for n-step returns and ``optimize_memory_usage``
    """
    chosen = model.replay_buffer_class
    own_memory = SuccessFailReplayBuffer if model.store_and_replay else LatestTransitionBuffer
    if not model.store_and_replay or chosen in (SuccessFailReplayBuffer, LatestTransitionBuffer):
        return own_memory  # also if `load(path, store_and_replay=...)` has changed the setting
    if chosen is None and model.n_steps == 1 and not model.optimize_memory_usage:
        return own_memory
    return chosen


def memory_kwargs(model: Any) -> dict[str, Any]:
    """
    Collect the keywords of the replay memory: those of the user, and for a memory of this package those that other
    settings imply.

    :param model: A model with checked settings
    :return: The keywords
    """
    memory: Any = model.replay_buffer_class
    user_kwargs: dict[str, Any] = model.replay_buffer_kwargs
    if memory is None or not issubclass(memory, SuccessFailReplayBuffer):
        return user_kwargs  # the same dictionary, since SB3 adds to it
    kwargs = {**user_kwargs, "use_masking": True} if model.use_masking else dict(user_kwargs)
    # As in the lecture, all successes are kept. They are few, because equal ones are stored once.
    are_few = isinstance(model.observation_space, spaces.Discrete) and user_kwargs.get("deduplicate", True)
    if user_kwargs.get("success_capacity") is None and (are_few or model._version_1_memory):
        kwargs["success_capacity"] = math.inf
    return kwargs


def check_parts(model: Any) -> None:
    """
    Check the keywords of the policy and of the replay memory before both are made.

    :param model: A model with checked settings
    :raises ValueError: If a keyword is unknown, if masks are used and the memory does not store them, or if the policy
        does not support the observation space
    """
    if model.use_masking:
        _check_stores_masks(model)
    stock = stock_algorithm(type(model))
    name = "MultiInputPolicy" if isinstance(model.observation_space, spaces.Dict) else "MlpPolicy"
    check_policy_keywords(model.policy_class, model.policy_kwargs, name, stock.policy_aliases[name])
    memory = model.replay_buffer_class
    if memory is None:
        memory = NStepReplayBuffer if model.n_steps > 1 else stock_memory(model.observation_space)
    check_memory_keywords(memory, model.replay_buffer_kwargs)
    if model.policy_class in stock.policy_aliases.values():
        check_counts_from_zero(model.observation_space)


def _check_stores_masks(model: Any) -> None:
    chosen = model.replay_buffer_class
    if chosen is None:
        setting = f"n_steps={model.n_steps}" if model.n_steps > 1 else "optimize_memory_usage=True"
        raise ValueError(f"use_masking=True and {setting}, but replay buffers with {setting} store no masks")
    if not issubclass(chosen, SuccessFailReplayBuffer):
        raise ValueError(
            f"use_masking=True needs a replay buffer that stores masks, but {chosen.__name__} does not: leave "
            "replay_buffer_class out, or pass SuccessFailReplayBuffer"
        )
