"""Detection of changes that user code makes to a model while the compiled engine trains it."""

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
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
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
    counts_steps,
    from_known_package,
    moment_names,
    overridden,
    setting_reasons,
    shadowed,
)

_Tensor: Any = th._C.TensorBase  # its methods in C are faster than PyTorch's Python wrappers around them
_data_ptr, _is_contiguous, _numel = _Tensor.data_ptr, _Tensor.is_contiguous, _Tensor.numel
_requires_grad = attrgetter("requires_grad")
_hooks, _grad_hooks = _Tensor._backward_hooks.__get__, _Tensor._post_accumulate_grad_hooks.__get__
_ATTRIBUTES = ("engine", "policy", "replay_buffer", "_vec_normalize_env", "observation_space", "device")
_embedding_options = attrgetter(*EMBEDDING_OPTIONS)
# Packages whose classes of threads run no user code, and modules whose functions run none in a plain thread. Known
# packages are not among the latter: a thread may call a method of a model.
_KNOWN_THREADS = KNOWN_PACKAGES | {"tensorboard", "tqdm", "ipykernel", "IPython", "ray"}
_KNOWN_IN_THREADS = ("sb3_lecture_dqn.study.", "multiprocessing.queues", "ray.")


def _slope_of(activation: Any) -> Any:
    return activation.negative_slope if isinstance(activation, nn.LeakyReLU) else activation.alpha


def _network_options(network: Any) -> tuple[Any, ...]:
    attributes = vars(network)
    return attributes.get("normalize_images"), attributes.get("n_quantiles"), id(attributes["observation_space"])


class Watch:
    """
    A record of a model when a compiled engine was made for it. It detects changes that the loops would not follow.

    Changes of numbers in place need no detection, since the loops work on the same memory. The check is cautious: it
    may report a change that does not matter. In this case, a new engine is made without need.

    :param model: The model for which the engine was made
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        policy, optimizer = model.policy, model.policy.optimizer
        networks = [*dict.fromkeys(model._networks)]
        modules = self.modules = [module for network in networks for module in network.modules()]
        self.types = [*map(type, modules)]
        # An attribute that shadows a method of the class increases the number of attributes.
        self.attributes = [*map(vars, (*modules, policy, optimizer))]
        self.n_attributes = [*map(len, self.attributes)]
        self.of_buffer = vars(model.replay_buffer)
        self.n_of_buffer, self.n_of_model = len(self.of_buffer), len(vars(model))
        self._read_attributes = itemgetter(*_ATTRIBUTES, *model.network_names)
        self.of_model = self._read_attributes(vars(model))
        self.children = [module._modules for module in (*modules, policy) if module._modules]
        self.known_children = [*map(dict, self.children)]
        self.hooks = [
            *(getattr(module, name) for module in modules for name in HOOKS),
            *(getattr(optimizer, name) for name in OPTIMIZER_HOOKS),
        ]
        self.embeddings = [module for module in modules if isinstance(module, nn.Embedding)]
        self.embedding_options = [*map(_embedding_options, self.embeddings)]
        self.sloped = [module for module in modules if isinstance(module, nn.LeakyReLU | nn.ELU)]
        self.slopes = [*map(_slope_of, self.sloped)]
        self.networks, self.network_options = networks, [*map(_network_options, networks)]
        self.parameter_dicts = [module._parameters for module in modules if module._parameters]
        self.parameters = [*chain.from_iterable(map(dict.values, self.parameter_dicts))]
        self.online = [*networks[0].parameters()]
        self.addresses = [*map(_data_ptr, self.parameters)]
        # A tensor with the same address is a view of the same memory. A shorter view changes the size of a matrix.
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
        self.steps = [state["step"] for state in self.states] if counts_steps(optimizer) and self.in_state else []

    def is_unchanged(self, networks: bool = True) -> bool:
        """
        Compare the model with the record.

        :param networks: Whether to compare the networks and the optimiser too, which takes ten times as long
        :return: Whether nothing has changed
        """
        try:
            return self._is_same_model() and (not networks or self._are_same_networks())
        except Exception:  # user code may have removed attributes
            return False

    # The comparisons use `map`, since loops in Python would take as long as an update. They compare tensors by
    # identity, since `==` would compare their numbers.

    def _is_same_model(self) -> bool:
        model = self.model
        attributes = vars(model)
        return (
            self._read_attributes(attributes) == self.of_model  # these are not tensors
            and len(attributes) == self.n_of_model
            and len(self.of_buffer) == self.n_of_buffer
            and next(setting_reasons(model), None) is None
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
            and [*map(_slope_of, self.sloped)] == self.slopes
            and [*map(_network_options, self.networks)] == self.network_options
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
    """When user code that might change a model runs during ``learn``."""

    NEVER = enum.auto()
    IN_STEPS = enum.auto()  #: only in environments and callbacks, during a step
    BETWEEN_STEPS = enum.auto()  #: also between a step and the updates after it
    ALWAYS = enum.auto()  #: at any time, for example in other threads or after the updates


class UserAccess:
    """
    Record of when user code may have changed a model, so that the engine is checked only then.

    Outside of ``learn``, for example if the user calls ``train``, user code may always have changed the model.
    """

    def __init__(self) -> None:
        self.code = UserCode.ALWAYS
        #: Whether user code may have run since the last check of the engine
        self.has_run = True
        #: Whether the networks were read as attributes of the model since this was last set to ``False``
        self.handed_out = True
        #: Whether user code may hold a reference to the networks
        self.has_networks = True
        #: Whether callbacks of this package call user code at the start of rollouts
        self.at_rollout_start = False

    def begin(self, model: Any, callback: BaseCallback) -> None:
        """
        Start the record for a call of ``learn``.

        :param model: The model, set up for training
        :param callback: The callback of this call
        """
        self.code = user_code(model, callback)
        self.at_rollout_start = any(map(calls_user_code_at_rollout_start, callback_tree(callback)))
        self.handed_out = False

    def note(self) -> None:
        """Record, after user code has run, whether it has read the networks."""
        if self.handed_out:
            self.has_networks = True

    def after_step(self) -> None:
        """Record that environments and callbacks were called for a step."""
        self.has_run = self.code is not UserCode.NEVER
        self.note()

    def after_rollout_start(self) -> None:
        """Record that callbacks were called at the start of a rollout."""
        if self.at_rollout_start:
            self.after_step()

    def after_look(self) -> None:
        """Record that the engine was checked."""
        self.has_run = self.code is UserCode.ALWAYS

    def may_change_networks(self) -> bool:
        """
        Return whether user code may have changed the networks. In steps, it can only do so if it has read them.

        :return: Whether it may have
        """
        return self.code is not UserCode.IN_STEPS or self.has_networks

    def end(self, failed: bool) -> None:
        """
        End the record for a call of ``learn``.

        :param failed: Whether an error ended the call. The error may have come before :meth:`note` was called
        """
        if failed:
            self.has_networks = True
        self.code, self.has_run, self.handed_out = UserCode.ALWAYS, True, False


class HandedOut:
    """
    Descriptor for the networks of a model. It records every access in the model's :class:`UserAccess`, ``_access``.

    User code cannot change a network that it has not read, so without an access no check of the networks is needed.
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
    Determine when user code runs during training. All code from outside :data:`known.KNOWN_PACKAGES` is user code.

    :param model: The model, set up for training
    :param callback: The callback of the call of ``learn``
    :return: The times at which user code runs
    """
    callbacks = [*callback_tree(callback)]
    threads = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    handlers = [handler for handler in map(signal.getsignal, signal.valid_signals()) if callable(handler)]
    if (
        not from_known_package(type(model))
        or shadowed(model) is not None
        or not all(map(_is_known_thread, threads))
        or any(isinstance(handler, FunctionType | MethodType) and not _is_known(handler) for handler in handlers)
        or _overrides(callbacks, "on_rollout_start", "_on_rollout_start")
    ):
        return UserCode.ALWAYS
    called_between = [model.replay_buffer, model.lr_schedule, model.exploration_schedule]
    called_between += [model.logger, *model.logger.output_formats]
    if not all(map(_is_known, called_between)) or _overrides(callbacks, "on_rollout_end", "_on_rollout_end"):
        return UserCode.BETWEEN_STEPS
    called_in_steps = [*callbacks, *_layers_of(model.env)]
    for child in callbacks:  # callbacks may hold environments for tests
        called_in_steps += [
            layer for env in vars(child).values() if isinstance(env, VecEnv | gym.Env) for layer in _layers_of(env)
        ]
    return UserCode.NEVER if all(map(_is_known, called_in_steps)) else UserCode.IN_STEPS


def calls_user_code_at_rollout_start(callback: BaseCallback) -> bool:
    """
    Determine whether a callback of this package calls user code after the updates, as a test does with its children.

    :param callback: A callback
    :return: Whether it does
    """
    if type(callback) is CallbackList or type(callback)._on_rollout_start is BaseCallback._on_rollout_start:
        return False
    return not all(map(_is_known, callback_tree(callback)))


def _overrides(callbacks: list[BaseCallback], *methods: str) -> bool:
    """Return whether a callback has one of the methods from the user. A subclass may inherit it from this package."""
    return any(
        overridden(type(callback), methods) or not vars(callback).keys().isdisjoint(methods) for callback in callbacks
    )


def _layers_of(env: Any) -> Iterator[Any]:
    """Yield an environment and the environments that it wraps, if they are in this process."""
    yield env
    if isinstance(env, SubprocVecEnv):
        return
    wrapped = vars(env).get("venv", vars(env).get("env"))
    for inner_env in [wrapped, *vars(env).get("envs", ())]:
        if inner_env is not None:
            yield from _layers_of(inner_env)


def _is_known_thread(thread: Any) -> bool:
    """Return whether a thread runs no user code, by its class, or by its function if it is a plain ``Thread``."""
    if type(thread) is threading.Thread:
        return (getattr(vars(thread).get("_target"), "__module__", None) or "").startswith(_KNOWN_IN_THREADS)
    return type(thread).__module__.partition(".")[0] in _KNOWN_THREADS


def _is_known(thing: Any) -> bool:
    """Return whether an object runs no user code: its class is known, and so are all callables in its attributes."""
    if isinstance(thing, FunctionType | MethodType | BuiltinFunctionType | type):
        return from_known_package(thing)
    if isinstance(thing, partial):
        return _is_known(thing.func)
    if not from_known_package(type(thing)):
        return False
    attributes = vars(thing).values() if hasattr(thing, "__dict__") else ()
    return all(map(_is_known_attribute, attributes))


def _is_known_attribute(value: Any) -> bool:
    return not callable(value) or isinstance(value, nn.Module) or _is_known(value)
