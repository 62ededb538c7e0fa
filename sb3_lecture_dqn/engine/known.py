"""
What the compiled engine knows, and whether that is all that PyTorch would do with a model as it is now.

The tables come first: networks, losses, optimisers, memories. For whatever is in none of them,
:func:`why_not_compiled` says so by name, and PyTorch trains the model.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_modules
from torch.optim import optimizer as torch_optimizer

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import UnsupportedSpaceError
from sb3_lecture_dqn.common.partition import Partition
from sb3_lecture_dqn.common.torch_layers import ActionInNetwork, LectureNetwork, TableNetwork
from sb3_lecture_dqn.common.wrappers import DiscreteObservationWrapper
from sb3_lecture_dqn.kernels.available import why_no_numba
from sb3_lecture_dqn.kernels.kinds import ACTION_IN, ADAM, HUBER, MSE, SGD, STATE_IN, TABLE

_Method = TypeVar("_Method", bound=Callable[..., Any])

_HIDDEN_LAYERS = [nn.Linear, nn.PReLU, nn.Linear, nn.PReLU, nn.Linear]
#: Networks: the number of each in the kernels, and all its modules in the order of ``modules()``
COMPILED_NETWORKS: dict[type, tuple[int, list[type]]] = {
    TableNetwork: (TABLE, [TableNetwork, nn.Sequential, nn.Embedding]),
    LectureNetwork: (STATE_IN, [LectureNetwork, nn.Sequential, nn.Embedding, *_HIDDEN_LAYERS]),
    ActionInNetwork: (
        ACTION_IN,
        [ActionInNetwork, nn.Embedding, nn.Embedding, nn.Sequential, *_HIDDEN_LAYERS],
    ),
}
#: Losses of minibatches: the number of each in the kernels
COMPILED_LOSSES: dict[Any, int] = {F.mse_loss: MSE, F.smooth_l1_loss: HUBER}
#: Optimisers: the number of each in the kernels
COMPILED_OPTIMIZERS: dict[type, int] = {th.optim.SGD: SGD, th.optim.Adam: ADAM}
#: Replay memories
COMPILED_MEMORIES = (SuccessFailReplayBuffer, LatestTransitionBuffer, ReplayBuffer, NStepReplayBuffer)

#: Where code comes from that is known to change no network behind the back of the loops
KNOWN_PACKAGES = frozenset({"sb3_lecture_dqn", "stable_baselines3", "sb3_contrib", "gymnasium", "torch", "builtins"})

_KNOWN = "LecturePolicy, TablePolicy and ActionInPolicy of LectureDQN"
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
GLOBAL_HOOKS = (
    *(getattr(torch_modules, "_global" + name) for name in HOOKS),
    torch_optimizer._global_optimizer_pre_hooks,
    torch_optimizer._global_optimizer_post_hooks,
)
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
#: What an embedding may do beside looking rows up
EMBEDDING_OPTIONS = ("padding_idx", "max_norm", "scale_grad_by_freq", "sparse")
# Options of the optimisers that the loops follow, or that only say how PyTorch does the same
_FOLLOWED = ("params", "lr", "momentum", "betas", "eps", "foreach", "fused")
# What PyTorch calls to choose actions and to compute losses, and the loops do not
_POLICY_METHODS = ("__call__", "predict", "_predict", "obs_to_tensor", "set_training_mode", "train", "parameters")


def _which_autocasts() -> Callable[[], bool]:
    try:
        th.is_autocast_enabled("cpu")
    except TypeError:  # torch < 2.4, where the question has no argument, and is that for a GPU
        return th.is_autocast_cpu_enabled
    return partial(th.is_autocast_enabled, "cpu")


#: Whether ``torch.autocast`` is in force on the CPU
autocasts = _which_autocasts()


def also_compiled(method: _Method) -> _Method:
    """
    Mark a method of an algorithm as one that the kernels compute too; a method that overrides it is not marked.

    :param method: The method
    :return: The same
    """
    method.also_compiled = True  # type: ignore[attr-defined]
    return method


def why_not_compiled(model: Any) -> str | None:
    """
    Say why the compiled engine cannot train a model as PyTorch would.

    :param model: A model that is set up but for its engine
    :return: The first reason found, ``None`` if the engine can
    """
    return next(_reasons(model), None) or why_no_numba()


def layout_of(network: Any) -> np.ndarray | None:
    """
    How the compiled loops see a network.

    :param network: The network
    :return: Its layout, see :mod:`kernels`; ``None`` if they do not know it
    """
    # Not isinstance: a subclass may compute something else.
    kind, modules = COMPILED_NETWORKS.get(type(network), (None, []))
    if kind is None or [*map(type, network.modules())] != modules:
        return None
    if not isinstance(network.observation_space, spaces.Discrete):
        return None
    expected: list[tuple[int, ...]] = []
    weights = [parameter for parameter in network.parameters() if parameter.ndim == 2]
    n_states, width = weights[0].shape
    if kind == TABLE:
        layout = [kind, n_states, width, 0, 0, 0]
    else:
        d1, d2, n_out = (len(weight) for weight in weights[-3:])
        n_actions, d_in = (n_out, width) if kind == STATE_IN else (len(weights[1]), 2 * width)
        layout = [kind, n_states, n_actions, width, d1, d2]
        expected = [(n_actions, width)] if kind == ACTION_IN else []
        expected += [(d1, d_in), (d1,), (1,), (d2, d1), (d2,), (1,), (n_out, d2), (n_out,)]
        if kind == ACTION_IN and n_out != 1:
            return None
    if [tuple(parameter.shape) for parameter in network.parameters()] != [(n_states, width), *expected]:
        return None
    if (n_states, layout[2]) != (network.observation_space.n, network.n_actions):
        return None
    return np.array(layout)


def _reasons(model: Any) -> Iterator[str]:
    online, target = model._networks
    yield from _of_networks(model, online, target)
    yield from _of_what_acts(model, online)
    yield from _of_parameters(online, target)
    yield from _of_addresses(model, online, target)
    yield from _of_optimizer(model.policy.optimizer, online)
    yield from _of_memory(model)
    yield from of_settings(model)
    if any(GLOBAL_HOOKS):
        yield "it does not call hooks, and a global one of torch is registered"
    if not th.is_grad_enabled() or autocasts():
        yield "it does not follow torch.no_grad and torch.autocast"


def _of_networks(model: Any, online: nn.Module, target: nn.Module) -> Iterator[str]:
    layout = layout_of(online)
    if layout is None:
        space = getattr(online, "observation_space", None)
        if type(online) in COMPILED_NETWORKS and not isinstance(space, spaces.Discrete):
            yield f"it knows Discrete observations, not {type(space).__name__}{_wrapper_for(space)}"
        changed = " whose layers were changed" if type(online) in COMPILED_NETWORKS else ""
        yield f"it knows the networks of {_KNOWN}, not a network of type {type(online).__name__}{changed}"
    elif (of_target := layout_of(target)) is None or not np.array_equal(of_target, layout):
        yield f"the target network, a {type(target).__name__}, is not made as the online network is"
    if model.device.type != "cpu":
        yield f"it works on the cpu, not on device {model.device}"
    for network, what in ((online, "q_net"), (target, "q_net_target")):
        if not _same_numbers(network.observation_space, model.observation_space):
            yield f"{what}.observation_space={network.observation_space} is not the model's"
        for name, module in network.named_modules(prefix=what):
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


def _wrapper_for(space: Any) -> str:
    """The way on, where there is one."""
    env: gym.Env = gym.Env()
    env.observation_space = space
    try:
        DiscreteObservationWrapper(env)
    except UnsupportedSpaceError:
        return ""
    return "; sb3_lecture_dqn.DiscreteObservationWrapper(env) makes them Discrete"


def _same_numbers(space: Any, other: Any) -> bool:
    return isinstance(space, spaces.Discrete) and (space.n, space.start) == (other.n, other.start)


def shadowed(thing: Any) -> str | None:
    """
    A method that an attribute of the object itself stands before.

    :param thing: Any object with a ``__dict__``
    :return: Its name, ``None`` if there is none
    """
    cls = type(thing)
    return next((name for name in vars(thing) if callable(getattr(cls, name, None))), None)


def overridden(cls: type, names: Iterable[str]) -> str | None:
    """
    A method that a class from outside has put in the place of a known one.

    :param cls: The class
    :param names: The methods to look at
    :return: The name of the first, ``None`` if there is none
    """
    methods = ((name, getattr(cls, name, None)) for name in names)
    return next((name for name, method in methods if method is not None and not from_known_package(method)), None)


def from_known_package(thing: Any) -> bool:
    """
    Whether a class or a function is from one of :data:`KNOWN_PACKAGES`.

    :param thing: A class or a function
    :return: Whether it is
    """
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in KNOWN_PACKAGES


def _of_what_acts(model: Any, online: nn.Module) -> Iterator[str]:
    """What chooses greedy actions, and what an update calls besides the networks."""
    policy = model.policy
    if getattr(policy, "q_net", None) is not online:
        yield "the model's q_net is not its policy's"
    if not isinstance(policy, model.compiled_policies):
        yield f"it knows {_KNOWN}, not the policy {type(policy).__name__}"
    if (method := shadowed(policy) or overridden(type(policy), _POLICY_METHODS)) is not None:
        yield f"it would not call {type(policy).__name__}.{method}, which was replaced"
    for method in ("compute_loss", "_action_values"):
        if method in vars(model) or not hasattr(getattr(type(model), method), "also_compiled"):
            yield f"it would not call {type(model).__name__}.{method}, which was replaced"


def _of_parameters(online: nn.Module, target: nn.Module) -> Iterator[str]:
    networks = {"q_net": online} if target is online else {"q_net": online, "q_net_target": target}
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
    for name, parameter in online.named_parameters(prefix="q_net"):
        if not parameter.requires_grad:
            yield f"it trains all parameters, and {name} does not require a gradient"
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            yield f"it does not call hooks, and {name} has one"


def is_flat(tensors: Sequence[th.Tensor]) -> bool:
    """
    Whether tensors lie one after the other in the same storage.

    :param tensors: float32 tensors
    :return: Whether they do
    """
    starts = accumulate((4 * tensor.numel() for tensor in tensors), initial=tensors[0].data_ptr())
    storage = tensors[0].untyped_storage().data_ptr()
    return all(
        tensor.is_contiguous() and tensor.data_ptr() == start and tensor.untyped_storage().data_ptr() == storage
        for tensor, start in zip(tensors, starts, strict=False)
    )


def _of_addresses(model: Any, online: nn.Module, target: nn.Module) -> Iterator[str]:
    """Whether parameters must stay where they are in memory, as somebody else reads or writes it there."""
    networks = [[*network.parameters()] for network in dict.fromkeys((online, target))]
    if all(map(is_flat, networks)):
        return
    parameters = [parameter for network in networks for parameter in network]
    if not all(one.is_contiguous() or one.mT.is_contiguous() for one in parameters if one.ndim == 2) or not all(
        one.is_contiguous() for one in parameters if one.ndim < 2
    ):
        yield "numbers of a parameter share their memory, or have some between them"
    spans = sorted((one.data_ptr(), one.data_ptr() + one.nbytes) for one in parameters)
    if any(start < end for (_, end), (start, _) in pairwise(spans)):
        yield "parameters of the networks share their memory"
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in parameters}
    held: Sequence[int] = getattr(getattr(model, "_engine", None), "addresses", ())
    for address, storage in storages.items():
        inside = [one for one in parameters if one.untyped_storage().data_ptr() == address]
        known = len(inside) + sum(address <= own < address + storage.nbytes() for own in held)
        # A storage that has no allocator is that of a NumPy array or a file.
        foreign = len(inside) == 1 and not storage.resizable()
        if foreign or _n_users(storage) > known:
            yield "a parameter's memory was replaced by that of another tensor"


def _n_users(storage: th.UntypedStorage) -> int:
    """How many tensors there are in a storage; 0 where PyTorch does not tell."""
    count = getattr(th._C, "_storage_Use_Count", None)
    return 0 if count is None else count(storage._cdata) - 1  # ``storage`` is one of them


def _of_optimizer(optimizer: Any, online: nn.Module) -> Iterator[str]:
    kind = type(optimizer).__name__
    if type(optimizer) not in COMPILED_OPTIMIZERS:
        yield f"it knows the optimisers SGD and Adam, not {kind}"
    groups = optimizer.param_groups
    parameters = [*online.parameters()]
    if len(groups) != 1 or [*map(id, groups[0]["params"])] != [*map(id, parameters)]:
        yield "it knows optimisers of all parameters of the network, in one group"
    for name in OPTIMIZER_HOOKS:
        if getattr(optimizer, name):
            yield "it does not call hooks, and the optimiser has one"
    if (method := shadowed(optimizer)) is not None:
        yield f"the optimiser's {method} was replaced"
    options = groups[0]
    for option in optimizer.defaults:
        if option not in _FOLLOWED and option in options and _is_on(options[option]):
            yield f"it does not know the optimiser's option {option}={options[option]}"
    numbers = (options["momentum"],) if "momentum" in options else (*options["betas"], options["eps"])
    if not all(isinstance(number, float | int) for number in numbers):
        yield f"it knows options of the optimiser that are plain numbers, not {numbers}"
    if "betas" in options and not all(0 <= beta < 1 for beta in options["betas"]):
        yield f"it does not know the optimiser's option betas={options['betas']}"
    yield from _of_state(optimizer, parameters)


def _is_on(option: Any) -> bool:
    return option is not None and bool(option)


def moment_names(optimizer: th.optim.Optimizer) -> list[str]:
    """
    The moments that an optimiser keeps.

    :param optimizer: SGD or Adam
    :return: Their names in its state
    """
    if isinstance(optimizer, th.optim.Adam):
        return ["exp_avg", "exp_avg_sq"]
    return ["momentum_buffer"] if optimizer.param_groups[0]["momentum"] else []


def _of_state(optimizer: th.optim.Optimizer, parameters: list[nn.Parameter]) -> Iterator[str]:
    names, states = moment_names(optimizer), [optimizer.state.get(parameter, {}) for parameter in parameters]
    for parameter, state in zip(parameters, states, strict=True):
        for name in names:
            moment = state.get(name)
            if moment is not None and not (moment.dtype == th.float32 and moment.shape == parameter.shape):
                yield f"the optimiser's {name} is not like the parameter that it belongs to"
    if "exp_avg" in names:
        steps = [state.get("step") for state in states]
        moments = [state.get(name) for name in names for state in states]
        if any((step is None) != (moment is None) for step, moment in zip(steps * 2, moments, strict=True)):
            yield "the optimiser's state is incomplete"
        known = [step for step in steps if step is not None]
        if known and not all(isinstance(step, th.Tensor) and step.dtype == th.float32 for step in known):
            yield "it knows steps of the optimiser that are float32"
        if known and (len(known) < len(steps) or len({float(step) for step in known}) > 1):
            yield "the optimiser has not done the same steps for all parameters"


def _of_memory(model: Any) -> Iterator[str]:
    buffer, normalize = model.replay_buffer, model._vec_normalize_env
    if type(buffer) not in COMPILED_MEMORIES:  # a subclass may sample in another way
        yield f"it does not know replay buffers of type {type(buffer).__name__}"
    if (method := shadowed(buffer)) is not None:
        yield f"the replay buffer's {method} was replaced"
    if isinstance(buffer, SuccessFailReplayBuffer) and not type(buffer.success) is type(buffer.fail) is Partition:
        yield "it does not know the partitions of the replay buffer"
    if not _same_numbers(buffer.observation_space, model.observation_space):
        yield f"the replay buffer is made for {buffer.observation_space}, not for {model.observation_space}"
    if buffer.device.type != "cpu":
        yield f"it works on the cpu, and the replay buffer gives tensors on {buffer.device}"
    if normalize is not None and (type(normalize) is not VecNormalize or shadowed(normalize)):
        yield f"it does not know how a {type(normalize).__name__} normalises"


def of_settings(model: Any) -> Iterator[str]:
    """
    Why the loops cannot take the settings that are read anew at every update.

    :param model: The model
    :return: Every reason
    """
    if model.loss_function not in COMPILED_LOSSES:
        yield f"it does not know the loss {model.loss!r}"
    if not isinstance(model.gamma, float | int):
        yield f"it knows gamma as a plain number, not gamma={model.gamma!r}"
    norm = model.max_grad_norm
    if norm is not None and not (isinstance(norm, float | int) and not math.isnan(norm)):
        yield f"it knows max_grad_norm as a plain number, not max_grad_norm={norm!r}"
