"""
Tables of everything that the compiled engine supports, and the check whether it supports a model.

The tables of losses, optimisers and memories come first; :mod:`layout` knows the networks. :func:`why_not_compiled`
names the first part of a model that is not known; PyTorch then trains the model.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np
import torch as th
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_modules
from torch.optim import optimizer as torch_optimizer

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.partition import Partition
from sb3_lecture_dqn.engine.layout import Layout, UnknownNetworkError
from sb3_lecture_dqn.kernels.available import why_no_numba
from sb3_lecture_dqn.kernels.kinds import ADAM, ADAMW, HUBER, MSE, NESTEROV, QUANTILE, RMSPROP, SGD

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: Losses: number of each function in the kernels
COMPILED_LOSSES: dict[Any, int] = {F.mse_loss: MSE, F.smooth_l1_loss: HUBER, quantile_huber_loss: QUANTILE}
#: Optimisers: the options that the kernels know. All other options must be off
COMPILED_OPTIMIZERS: dict[type, tuple[str, ...]] = {
    th.optim.SGD: ("momentum", "nesterov", "weight_decay"),
    th.optim.Adam: ("betas", "eps", "weight_decay", "decoupled_weight_decay"),
    th.optim.AdamW: ("betas", "eps", "weight_decay", "decoupled_weight_decay"),
    th.optim.RMSprop: ("alpha", "eps", "weight_decay", "momentum"),
}
#: Classes of replay memories
COMPILED_MEMORIES = (
    SuccessFailReplayBuffer, LatestTransitionBuffer, ReplayBuffer, DictReplayBuffer, NStepReplayBuffer,
)  # fmt: skip

#: Packages whose code changes no network without notice. Code from other packages is user code
KNOWN_PACKAGES = frozenset({"sb3_lecture_dqn", "stable_baselines3", "sb3_contrib", "gymnasium", "torch", "builtins"})

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
GLOBAL_HOOKS = (
    *(getattr(torch_modules, "_global" + name) for name in HOOKS),
    torch_optimizer._global_optimizer_pre_hooks,
    torch_optimizer._global_optimizer_post_hooks,
)
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
#: Options of an embedding that change more than the lookup of rows
EMBEDDING_OPTIONS = ("padding_idx", "max_norm", "scale_grad_by_freq", "sparse")
# Options of the optimisers that change only the speed of PyTorch
_OF_SPEED = ("params", "lr", "foreach", "fused")
# Products of weights and inputs in a forward pass of a minibatch from which PyTorch is faster
_MAX_PRODUCTS = 2**26
# Methods that PyTorch calls to choose actions and to compute losses, but the loops do not
_POLICY_METHODS = ("__call__", "predict", "_predict", "obs_to_tensor", "set_training_mode", "train", "parameters")


def autocasts() -> bool:
    """Return whether ``torch.autocast`` is active on the CPU."""
    return th.is_autocast_enabled("cpu")


def also_compiled(method: _Method) -> _Method:
    """
    Mark a method of an algorithm whose result the kernels compute too. Overriding methods are not marked.

    Whoever changes a marked method changes the kernels too, or removes the mark: PyTorch then trains the model.

    :param method: The method
    :return: The same method
    """
    method.also_compiled = True  # type: ignore[attr-defined]
    return method


def why_not_compiled(model: Any) -> str | None:
    """
    Explain why the compiled engine cannot train a model as PyTorch would, or with ``engine="auto"`` would be slower.

    :param model: A model that is set up except for its engine
    :return: The first reason found; ``None`` if the engine supports the model
    """
    reason = next(_reasons(model), None) or why_no_numba()
    if reason is None and model.engine == "auto":
        n_products = Layout(model._networks[0]).n_products * model.batch_size
        if n_products > _MAX_PRODUCTS:
            return f"PyTorch is faster with layers as wide as these and batches of {model.batch_size}"
    return reason


def _reasons(model: Any) -> Iterator[str]:
    online, target = model._networks
    yield from _network_reasons(model, online, target)
    yield from _policy_reasons(model, online)
    yield from _parameter_reasons(model.network_names, online, target)
    yield from _address_reasons(model, online, target)
    yield from _optimizer_reasons(model.policy.optimizer, online)
    yield from _memory_reasons(model)
    yield from setting_reasons(model)
    if any(GLOBAL_HOOKS):
        yield "it does not call hooks, and a global hook of torch is registered"
    if not th.is_grad_enabled() or autocasts():
        yield "it does not follow torch.no_grad and torch.autocast"


def _network_reasons(model: Any, online: nn.Module, target: nn.Module) -> Iterator[str]:
    try:
        layout = Layout(online)
        if not np.array_equal(Layout(target).net, layout.net):
            yield f"the target network, a {type(target).__name__}, is not made as the online network is"
    except UnknownNetworkError as error:
        yield f"it does not know {error}"
    if model.device.type != "cpu":
        yield f"it works on the cpu, not on device {model.device}"
    for network, attribute in zip((online, target), model.network_names, strict=True):
        if network.observation_space != model.observation_space:
            yield f"{attribute}.observation_space={network.observation_space} is not the model's"
        for name, module in network.named_modules(prefix=attribute):
            if any(getattr(module, hooks) for hooks in HOOKS):
                yield f"it does not call hooks, and {name} has one"
            if module._compiled_call_impl is not None:
                yield f"{name}.compile() was called"
            if (method := shadowed(module)) is not None:
                yield f"{name}.{method} was replaced"
            if isinstance(module, nn.Embedding):
                for option in EMBEDDING_OPTIONS:
                    if (value := getattr(module, option)) is not None and value is not False:
                        yield f"it does not know the embedding's option {option}={value}"


def shadowed(thing: Any) -> str | None:
    """
    Find a method that an attribute of the same object shadows.

    :param thing: Any object with a ``__dict__``
    :return: Name of the method, ``None`` if there is none
    """
    cls = type(thing)
    return next((name for name in vars(thing) if callable(getattr(cls, name, None))), None)


def overridden(cls: type, names: Iterable[str]) -> str | None:
    """
    Find a method whose implementation is not from :data:`KNOWN_PACKAGES`.

    :param cls: The class
    :param names: Names of the methods to check
    :return: Name of the first such method, ``None`` if there is none
    """
    methods = ((name, getattr(cls, name, None)) for name in names)
    return next((name for name, method in methods if method is not None and not from_known_package(method)), None)


def from_known_package(thing: Any) -> bool:
    """
    Check whether a class or a function is from one of :data:`KNOWN_PACKAGES`.

    :param thing: A class or a function
    :return: Whether it is
    """
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in KNOWN_PACKAGES


def _policy_reasons(model: Any, online: nn.Module) -> Iterator[str]:
    """Check the objects and methods that choose greedy actions, and those that an update calls besides the networks."""
    policy = model.policy
    name, _ = model.network_names
    if getattr(policy, name, None) is not online:
        yield f"the model's {name} is not the {name} of its policy"
    if (method := shadowed(policy) or overridden(type(policy), _POLICY_METHODS)) is not None:
        yield f"it would not call {type(policy).__name__}.{method}, which was replaced"
    for method in ("compute_loss", "_action_values"):
        if method in vars(model) or not hasattr(getattr(type(model), method), "also_compiled"):
            yield f"it would not call {type(model).__name__}.{method}, which was replaced"


def _parameter_reasons(names: tuple[str, str], online: nn.Module, target: nn.Module) -> Iterator[str]:
    own, other = names
    networks = {own: online} if target is online else {own: online, other: target}
    parameters = {
        f"{network}.{name}": parameter
        for network, module in networks.items()
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }
    if len({*map(id, parameters.values())}) < len(parameters):
        yield "a parameter is in the networks twice"
    for name, parameter in parameters.items():
        if type(parameter) is not nn.Parameter:
            yield f"it knows parameters of torch.nn, and {name} is a {type(parameter).__name__}"
        if parameter.dtype != th.float32 or parameter.device.type != "cpu":
            yield f"it knows float32 parameters on the cpu only, and {name} is {parameter.dtype} on {parameter.device}"
    for name, parameter in online.named_parameters(prefix=own):
        if not parameter.requires_grad:
            yield f"it trains all parameters, and {name} does not require a gradient"
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            yield f"it does not call hooks, and {name} has one"


def is_flat(tensors: Sequence[th.Tensor]) -> bool:
    """
    Check whether tensors lie one after the other in the same storage.

    :param tensors: float32 tensors
    :return: Whether they do
    """
    starts = accumulate((4 * tensor.numel() for tensor in tensors), initial=tensors[0].data_ptr())
    storage = tensors[0].untyped_storage().data_ptr()
    return all(
        tensor.is_contiguous() and tensor.data_ptr() == start and tensor.untyped_storage().data_ptr() == storage
        for tensor, start in zip(tensors, starts, strict=False)
    )


def _address_reasons(model: Any, online: nn.Module, target: nn.Module) -> Iterator[str]:
    """Check whether the parameters may move to other memory; they may not if something else uses their memory too."""
    networks = [[*network.parameters()] for network in dict.fromkeys((online, target))]
    if all(map(is_flat, networks)):
        return
    parameters = [parameter for network in networks for parameter in network]
    if not all(tensor.is_contiguous() or tensor.mT.is_contiguous() for tensor in parameters if tensor.ndim == 2) or any(
        not tensor.is_contiguous() for tensor in parameters if tensor.ndim < 2
    ):
        yield "the numbers of a parameter overlap or have gaps between them in memory"
    spans = sorted((tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes) for tensor in parameters)
    if any(start < end for (_, end), (start, _) in pairwise(spans)):
        yield "parameters of the networks share their memory"
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in parameters}
    engine_addresses: Sequence[int] = getattr(getattr(model, "_engine", None), "addresses", ())
    for address, storage in storages.items():
        inside = [tensor for tensor in parameters if tensor.untyped_storage().data_ptr() == address]
        n_known = len(inside) + sum(address <= start < address + storage.nbytes() for start in engine_addresses)
        # Storages without an allocator belong to NumPy arrays or files.
        is_foreign = len(inside) == 1 and not storage.resizable()
        if is_foreign or _n_users(storage) > n_known:
            yield "a parameter's memory was replaced by that of another tensor"


def _n_users(storage: th.UntypedStorage) -> int:
    """Return the number of tensors that use a storage; 0 if this version of PyTorch does not tell."""
    count = getattr(th._C, "_storage_Use_Count", None)
    return 0 if count is None else count(storage._cdata) - 1  # the count includes the object ``storage`` itself


def _optimizer_reasons(optimizer: Any, online: nn.Module) -> Iterator[str]:
    kind = type(optimizer).__name__
    if type(optimizer) not in COMPILED_OPTIMIZERS:
        yield f"it knows the optimisers SGD, Adam, AdamW and RMSprop, not {kind}"
        return
    groups = optimizer.param_groups
    parameters = [*online.parameters()]
    if len(groups) != 1 or [*map(id, groups[0]["params"])] != [*map(id, parameters)]:
        yield "it knows optimisers of all parameters of the network, in one group"
    for name in OPTIMIZER_HOOKS:
        if getattr(optimizer, name):
            yield "it does not call hooks, and the optimiser has one"
    if (method := shadowed(optimizer)) is not None:
        yield f"the optimiser's {method} was replaced"
    options, known = groups[0], COMPILED_OPTIMIZERS.get(type(optimizer), ())
    for option in optimizer.defaults:
        if option not in (*known, *_OF_SPEED) and option in options and _is_on(options[option]):
            yield f"it does not know the optimiser's option {option}={options[option]}"
    numbers = [options[name] for name in ("momentum", "alpha", "eps", "weight_decay") if name in options]
    if not all(isinstance(number, float | int) for number in (*numbers, *options.get("betas", ()))):
        yield f"it knows options of the optimiser that are plain numbers, not {numbers}"
    elif not all(0 <= beta < 1 for beta in options.get("betas", ())):
        yield f"it does not know the optimiser's option betas={options['betas']}"
    yield from _optimizer_state_reasons(optimizer, parameters)


def _is_on(option: Any) -> bool:
    return option is not None and bool(option)


def compiled_optimizer(optimizer: th.optim.Optimizer) -> tuple[int, float, float, float, float]:
    """
    Describe an optimiser to the kernels.

    :param optimizer: One of :data:`COMPILED_OPTIMIZERS`
    :return: Its kind, and its numbers after the learning rate, see :func:`kernels.updates.train_on`
    """
    options = optimizer.param_groups[0]
    decay = float(options["weight_decay"])
    if isinstance(optimizer, th.optim.SGD):
        return NESTEROV if options["nesterov"] else SGD, float(options["momentum"]), 0.0, 0.0, decay
    eps = float(options["eps"])
    if isinstance(optimizer, th.optim.RMSprop):
        return RMSPROP, float(options["alpha"]), float(options["momentum"]), eps, decay
    decoupled = isinstance(optimizer, th.optim.AdamW) or options.get("decoupled_weight_decay", False)
    beta1, beta2 = map(float, options["betas"])
    return ADAMW if decoupled else ADAM, beta1, beta2, eps, decay


def counts_steps(optimizer: th.optim.Optimizer) -> bool:
    """
    Look whether an optimiser counts its steps in its state.

    :param optimizer: One of :data:`COMPILED_OPTIMIZERS`
    :return: Whether it does
    """
    return not isinstance(optimizer, th.optim.SGD)


def moment_names(optimizer: th.optim.Optimizer) -> list[str]:
    """
    Return the names of the moments in the state of an optimiser.

    :param optimizer: One of :data:`COMPILED_OPTIMIZERS`
    :return: The names
    """
    momentum = ["momentum_buffer"] if optimizer.param_groups[0].get("momentum") else []
    if isinstance(optimizer, th.optim.SGD):
        return momentum
    if isinstance(optimizer, th.optim.RMSprop):
        return ["square_avg", *momentum]
    return ["exp_avg", "exp_avg_sq"]


def _optimizer_state_reasons(optimizer: th.optim.Optimizer, parameters: list[nn.Parameter]) -> Iterator[str]:
    names, states = moment_names(optimizer), [optimizer.state.get(parameter, {}) for parameter in parameters]
    for parameter, state in zip(parameters, states, strict=True):
        for name in names:
            moment = state.get(name)
            if moment is not None and not (moment.dtype == th.float32 and moment.shape == parameter.shape):
                yield f"the optimiser's {name} has another shape or dtype than its parameter"
    if counts_steps(optimizer):
        steps = [state.get("step") for state in states]
        moments = [state.get(name) for name in names for state in states]
        if any((step is None) != (moment is None) for step, moment in zip(steps * len(names), moments, strict=True)):
            yield "the optimiser's state is incomplete"
        known = [step for step in steps if step is not None]
        if known and not all(isinstance(step, th.Tensor) and step.dtype == th.float32 for step in known):
            yield "it knows float32 steps of the optimiser only"
        if known and (len(known) < len(steps) or len({float(step) for step in known}) > 1):
            yield "the optimiser has not done the same number of steps for all parameters"


def _memory_reasons(model: Any) -> Iterator[str]:
    buffer, normalize = model.replay_buffer, model._vec_normalize_env
    if type(buffer) not in COMPILED_MEMORIES:  # a subclass may sample in another way
        yield f"it does not know replay buffers of type {type(buffer).__name__}"
    if (method := shadowed(buffer)) is not None:
        yield f"the replay buffer's {method} was replaced"
    if isinstance(buffer, SuccessFailReplayBuffer) and not type(buffer.success) is type(buffer.fail) is Partition:
        yield "it does not know the partitions of the replay buffer"
    if buffer.observation_space != model.observation_space:
        yield f"the replay buffer is made for {buffer.observation_space}, not for {model.observation_space}"
    if buffer.device.type != "cpu":
        yield f"it works on the cpu, and the replay buffer gives tensors on {buffer.device}"
    if normalize is not None and (type(normalize) is not VecNormalize or shadowed(normalize)):
        yield f"it does not know how a {type(normalize).__name__} normalises"


def setting_reasons(model: Any) -> Iterator[str]:
    """
    Check the settings that are read at every update.

    :param model: The model
    :return: Iterator over the reasons why the loops do not support them
    """
    if model.loss_function not in COMPILED_LOSSES:
        yield f"it does not know the loss {model.loss!r}"
    if not isinstance(model.gamma, float | int):
        yield f"it knows gamma as a plain number, not gamma={model.gamma!r}"
    norm = model.max_grad_norm
    if norm is not None and not (isinstance(norm, float | int) and not math.isnan(norm)):
        yield f"it knows max_grad_norm as a plain number, not max_grad_norm={norm!r}"
