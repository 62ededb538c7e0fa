"""What a user has changed since the compiled loops took a model over, and when there was a user's code to do it."""

import enum
import signal
import threading
from collections.abc import Iterator
from functools import partial
from itertools import chain
from operator import attrgetter, is_, itemgetter
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv
from torch import nn

from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.engine.known import (
    EMBEDDING_OPTIONS,
    GLOBAL_HOOKS,
    HOOKS,
    KNOWN_PACKAGES,
    OPTIMIZER_HOOKS,
    autocasts,
    from_known_package,
    moment_names,
    of_settings,
    shadowed,
)

_Tensor: Any = th._C.TensorBase  # the methods of C, without what Python puts around them
_data_ptr, _is_contiguous, _numel = _Tensor.data_ptr, _Tensor.is_contiguous, _Tensor.numel
_requires_grad = attrgetter("requires_grad")
_hooks, _grad_hooks = _Tensor._backward_hooks.__get__, _Tensor._post_accumulate_grad_hooks.__get__
_of_model = itemgetter(
    "engine", "policy", "q_net", "q_net_target", "replay_buffer", "_vec_normalize_env", "observation_space", "device"
)
_embedding_options = attrgetter(*EMBEDDING_OPTIONS)
# Threads of these run nothing of the user's.
_KNOWN_THREADS = KNOWN_PACKAGES | {"tensorboard", "tqdm", "ipykernel", "IPython"}


class Watch:
    """
    Notices what changes the results of PyTorch, and not those of compiled loops that took a model over before.

    Numbers that are changed in place are not among it: the loops work on the same memory. A change that matters not is
    now and then taken for one that does; then the model is only taken over once more.

    :param model: The model, as it was taken over
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        policy, optimizer = model.policy, model.policy.optimizer
        networks = [*dict.fromkeys(model._networks)]
        modules = self.modules = [module for network in networks for module in network.modules()]
        self.types = [*map(type, modules)]
        # An attribute of an object may stand before a method of its class, and is one more.
        self.attributes = [*map(vars, (*modules, policy, optimizer))]
        self.n_attributes = [*map(len, self.attributes)]
        self.of_buffer = vars(model.replay_buffer)
        self.n_of_buffer, self.n_of_model = len(self.of_buffer), len(vars(model))
        self.of_model = _of_model(vars(model))
        self.children = [module._modules for module in (*modules, policy) if module._modules]
        self.known_children = [*map(dict, self.children)]
        self.hooks = [
            *(getattr(module, name) for module in modules for name in HOOKS),
            *(getattr(optimizer, name) for name in OPTIMIZER_HOOKS),
        ]
        self.embeddings = [module for module in modules if isinstance(module, nn.Embedding)]
        self.embedding_options = [*map(_embedding_options, self.embeddings)]
        self.parameter_dicts = [module._parameters for module in modules if module._parameters]
        self.parameters = [*chain.from_iterable(map(dict.values, self.parameter_dicts))]
        self.online = [*networks[0].parameters()]
        self.addresses = [*map(_data_ptr, self.parameters)]
        # Only a view of the same memory has the same address. One that is shorter leaves no matrix as it was.
        self.matrices = [parameter for parameter in self.parameters if parameter.ndim == 2]
        self.sizes = [*map(_numel, self.matrices)]
        self.optimizer, self.groups, self.group = optimizer, optimizer.param_groups, optimizer.param_groups[0]
        self.n_options = len(self.group)
        self.read_options = itemgetter(*(name for name in self.group if name not in ("params", "lr")))
        self.options = self.read_options(self.group)
        self.trained = [*self.group["params"]]
        self.state, self.states = optimizer.state, [*optimizer.state.values()]
        names = moment_names(optimizer)
        complete = all(state.get(name) is not None for state in self.states for name in names)
        self.in_state = [itemgetter(name) for name in names] if self.states and complete else []
        self.moments = [[*map(_data_ptr, map(read, self.states))] for read in self.in_state]
        self.steps = [state["step"] for state in self.states] if "exp_avg" in names and self.in_state else []

    def is_unchanged(self, networks: bool = True) -> bool:
        """
        Compare all with what it was.

        :param networks: Whether to look at the networks and the optimiser too, which takes ten times as long
        :return: Whether it is the same
        """
        try:
            return self._is_same_model() and (not networks or self._are_same_networks())
        except Exception:  # what is compared is the user's, and may be gone
            return False

    # Loops of C over lists: those of Python would take as long as an update. Objects are compared one by one and by
    # identity, as tensors are equal if their numbers are.

    def _is_same_model(self) -> bool:
        model = self.model
        attributes = vars(model)
        return (
            _of_model(attributes) == self.of_model  # no tensors
            and len(attributes) == self.n_of_model
            and len(self.of_buffer) == self.n_of_buffer
            and next(of_settings(model), None) is None
            and not any(GLOBAL_HOOKS)
            and th.is_grad_enabled()
            and not autocasts()
        )

    def _are_same_networks(self) -> bool:
        policy, group, optimizer = self.of_model[1], self.group, self.optimizer
        return (
            not any(self.hooks)
            and [*map(len, self.attributes)] == self.n_attributes
            and [*map(type, self.modules)] == self.types
            and self.children == self.known_children
            and [*map(_embedding_options, self.embeddings)] == self.embedding_options
            and all(map(is_, chain.from_iterable(map(dict.values, self.parameter_dicts)), self.parameters))
            and [*map(_data_ptr, self.parameters)] == self.addresses
            and [*map(_numel, self.matrices)] == self.sizes
            and all(map(_is_contiguous, self.parameters))
            and all(map(_requires_grad, self.online))
            and not any(map(_hooks, self.online))
            and not any(map(_grad_hooks, self.online))
            and vars(policy)["optimizer"] is optimizer
            and optimizer.param_groups is self.groups
            and len(self.groups) == 1
            and self.groups[0] is group
            and len(group) == self.n_options
            and self.read_options(group) == self.options
            and len(group["params"]) == len(self.trained)
            and all(map(is_, group["params"], self.trained))
            and optimizer.state is self.state
            and self._has_same_state()
        )

    def _has_same_state(self) -> bool:
        if not self.states:
            return not self.state
        if len(self.state) != len(self.states) or not all(map(is_, self.state.values(), self.states)):
            return False
        for read, addresses in zip(self.in_state, self.moments, strict=True):
            if [*map(_data_ptr, map(read, self.states))] != addresses:
                return False
        steps = [state["step"] for state in self.states] if self.steps else []
        return all(map(is_, steps, self.steps)) and len({*map(float, steps)}) <= 1


class UserCode(enum.Enum):
    """When code of the user's runs that might change a model."""

    NEVER = enum.auto()
    IN_STEPS = enum.auto()  #: in the environment and in callbacks, while they are called for a step
    BETWEEN_STEPS = enum.auto()  #: as well after these, but before the updates
    ALWAYS = enum.auto()  #: as well in other threads, or after the updates


class UserAccess:
    """
    Says when code of the user's may have changed a model, so that an engine has to look.

    Outside of ``learn``, as where ``train`` is called by hand, that is always.
    """

    def __init__(self) -> None:
        self.code = UserCode.ALWAYS
        #: Whether such code has run since the last look
        self.has_run = True
        #: Whether somebody has asked for the networks since this was last set to ``False``
        self.handed_out = True
        #: Whether somebody may hold the networks
        self.has_networks = True

    def begin(self, model: Any, callback: BaseCallback) -> None:
        """
        Begin a call of ``learn``.

        :param model: The model, set up for training
        :param callback: The callback of the call
        """
        self.note()
        self.code = user_code(model, callback)
        self.handed_out = False

    def note(self) -> None:
        """Note after code of the user's has run whether it was given the networks."""
        if self.handed_out:
            self.has_networks = True

    def after_step(self) -> None:
        """Note that environments and callbacks were called for a step."""
        self.has_run = self.code is not UserCode.NEVER
        self.note()

    def after_look(self) -> None:
        """Note that an engine has looked at the model."""
        self.has_run = self.code is UserCode.ALWAYS

    def may_change_networks(self) -> bool:
        """
        Look whether code that has run can have changed the networks: steps cannot if nobody was given one.

        :return: Whether it can
        """
        return self.code is not UserCode.IN_STEPS or self.has_networks

    def end(self, failed: bool) -> None:
        """
        End a call of ``learn``.

        :param failed: Whether an error ended it, perhaps in a step, before it was noted who was given the networks
        """
        if failed:
            self.has_networks = True
        self.code, self.has_run, self.handed_out = UserCode.ALWAYS, True, False


class HandedOut:
    """
    An attribute for networks, whose use is noted in the model's :class:`UserAccess`, its ``_access``.

    Code that was not given a network, or an object that holds it, does not change it.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        attributes = vars(instance)
        if "_access" in attributes:
            attributes["_access"].handed_out = True
        try:
            return attributes[self.name]
        except KeyError:
            raise AttributeError(f"{type(instance).__name__!r} object has no attribute {self.name!r}") from None

    def __set__(self, instance: Any, value: Any) -> None:
        attributes = vars(instance)
        attributes[self.name] = value
        if "_access" in attributes:
            attributes["_access"].handed_out = True


def user_code(model: Any, callback: BaseCallback) -> UserCode:
    """
    Find out when code runs in training that is not known.

    :param model: The model, set up for training
    :param callback: What will be called
    :return: When
    """
    callbacks = [*callback_tree(callback)]
    threads = [one for one in threading.enumerate() if one is not threading.current_thread()]
    handlers = [handler for handler in map(signal.getsignal, signal.valid_signals()) if callable(handler)]
    if (
        not from_known_package(type(model))
        or shadowed(model) is not None
        or not all(type(one).__module__.partition(".")[0] in _KNOWN_THREADS for one in threads)
        or any(isinstance(handler, FunctionType | MethodType) and not _is_known(handler) for handler in handlers)
        or _overrides(callbacks, "on_rollout_start", "_on_rollout_start")
    ):
        return UserCode.ALWAYS
    others = [model.replay_buffer, model.lr_schedule, model.exploration_schedule]
    others += [model.logger, *model.logger.output_formats]
    if not all(map(_is_known, others)) or _overrides(callbacks, "on_rollout_end", "_on_rollout_end"):
        return UserCode.BETWEEN_STEPS
    things = [*callbacks, *_layers_of(model.env)]
    for one in callbacks:  # those that they test on
        things += [
            layer for env in vars(one).values() if isinstance(env, VecEnv | gym.Env) for layer in _layers_of(env)
        ]
    return UserCode.NEVER if all(map(_is_known, things)) else UserCode.IN_STEPS


def _overrides(callbacks: list[BaseCallback], *methods: str) -> bool:
    """Whether one of the user's callbacks does something at another moment than a step."""
    unknown = [type(one) for one in callbacks if not _is_known(one)]
    return any(getattr(one, method) is not getattr(BaseCallback, method) for one in unknown for method in methods)


def _layers_of(env: Any) -> Iterator[Any]:
    """An environment and all that it is put around, as far as that is in this process."""
    yield env
    if isinstance(env, SubprocVecEnv):
        return
    inner = vars(env).get("venv", vars(env).get("env"))
    for one in [inner, *vars(env).get("envs", ())]:
        if one is not None:
            yield from _layers_of(one)


def _is_known(thing: Any) -> bool:
    """Whether no code of the user's runs in it: its class is known, and so is all that it was given to call."""
    if isinstance(thing, FunctionType | MethodType | BuiltinFunctionType | type):
        return from_known_package(thing)
    if isinstance(thing, partial):
        return _is_known(thing.func)
    if not from_known_package(type(thing)):
        return False
    given = vars(thing).values() if hasattr(thing, "__dict__") else ()
    return all(map(_is_known_part, given))


def _is_known_part(value: Any) -> bool:
    return not callable(value) or isinstance(value, nn.Module) or _is_known(value)
