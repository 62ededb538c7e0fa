"""Weights and moments of a file, checked before a model takes them."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch as th
from torch.utils._python_dispatch import TorchDispatchMode

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown


def fitting(
    name: str, state: Mapping[str, Any], module: th.nn.Module, exact_match: bool, *, from_file: bool
) -> "OrderedDict[str, Any]":
    """
    Check that weights are of the kind that a module has, so that PyTorch copies them into it and changes nothing else.

    Notes of PyTorch beside the weights can make it replace the module's tensors by the given ones, which the optimizer
    does not know; only the versions in these notes are kept.

    :param name: What messages call the module
    :param state: Its state dictionary
    :param module: The module
    :param exact_match: Whether the weights must be those of the module, all of them and no others
    :param from_file: Whether the weights come from a file: then dtypes and shapes must be the same. Otherwise
        floating-point numbers may be rounded, and all else is left to PyTorch
    :return: The same weights, for ``module.load_state_dict``
    :raises UnsafeFileError: If they come from a file and do not fit
    :raises ValueError: If they do not fit; the message names the weight, its kind and the kind that is needed
    """
    error = UnsafeFileError if from_file else ValueError
    weights = module.state_dict()
    if from_file and exact_match and (unknown := [key for key in state if key not in weights]):
        raise error(f"{name} has no {', '.join(shown(repr(key)) for key in unknown[:10])}")
    for key, weight in weights.items():
        if key not in state or not isinstance(weight, th.Tensor) or th.nn.parameter.is_lazy(weight):
            continue
        value = state[key]
        if from_file and (not isinstance(value, th.Tensor) or value.shape != weight.shape):
            raise error(f"{name}.{shown(key)} does not fit: it is {_kind(value)}, and {_kind(weight)} is expected")
        if isinstance(value, th.Tensor) and not _can_take(weight, value, exactly=from_file):
            raise error(f"{name}.{shown(key)} is {_kind(value)}, and {_kind(weight)} is expected: {_ADVICE}")
    same = OrderedDict(state)
    versions = getattr(state, "_metadata", None) or {}
    same._metadata = {  # type: ignore[attr-defined]
        at: {"version": noted["version"]} for at, noted in versions.items() if "version" in noted
    }
    return same


_ADVICE = "convert it, as with .float(), if these numbers are meant"


def _can_take(weight: th.Tensor, given: th.Tensor, *, exactly: bool) -> bool:
    """Whether a weight can have the given numbers, exactly or rounded."""
    if given.dtype == weight.dtype:
        return True
    if exactly or not (given.is_floating_point() and weight.is_floating_point()):
        return False
    with th.no_grad():
        return bool((given.to(weight.dtype).isfinite() | ~given.isfinite()).all())


def _kind(value: Any) -> str:
    if not isinstance(value, th.Tensor):
        return f"of type {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def check_optimizer_state(state: Any, optimizer: th.optim.Optimizer) -> None:
    """
    Check that options and moments fit an optimizer. PyTorch does not check it, and the compiled loops rely on it.

    :param state: Of ``optimizer.state_dict()``
    :param optimizer: The optimizer that is to take it over
    :raises UnsafeFileError: If a moment is no number and no tensor, or has another shape than its parameter; or if an
        option is of another kind
    """
    for group, own_group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        if not all(type(number) is int for number in group["params"]):
            raise UnsafeFileError("policy.optimizer: params are not all integers")
        for name in own_group.keys() & group.keys() - {"params"}:
            value = group[name]
            if not _is_option(value, own_group[name]):
                what = repr(value) if isinstance(value, int | float) else type(value).__name__
                raise UnsafeFileError(f"policy.optimizer: {name}={what} is no value for it")
    check_moments(state["state"], optimizer, exactly=True)


def check_moments(moments: Any, optimizer: th.optim.Optimizer, *, exactly: bool) -> None:
    """
    Check that moments are of the kind that an optimizer keeps.

    :param moments: Under ``"state"`` in ``optimizer.state_dict()``
    :param optimizer: The optimizer that is to take them over
    :param exactly: Whether they have the dtype of their parameter; otherwise PyTorch rounds floating-point numbers
    :raises UnsafeFileError: If a moment is no number and no tensor, or has another shape or dtype than its parameter
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for at, entries in moments.items():
        if exactly and not (type(at) is int and at >= 0):
            raise UnsafeFileError(f"policy.optimizer: there is no parameter {shown(repr(at))}")
        parameter = parameters[at]
        for name, moment in entries.items():
            is_number, is_tensor = isinstance(moment, int | float), isinstance(moment, th.Tensor)
            if name in _LIKE_PARAMETERS:
                rounded = is_tensor and not exactly and moment.is_floating_point()
                fits = moment is None or (
                    is_tensor and moment.shape == parameter.shape and (rounded or moment.dtype == parameter.dtype)
                )
            elif name in _OF_ONE_NUMBER:
                fits = is_number or (is_tensor and moment.dtype == th.float32 and moment.numel() == 1)
            else:
                fits = moment is None or is_number or is_tensor
            if not fits:
                raise UnsafeFileError(f"policy.optimizer: {shown(name)} of parameter {shown(at)} does not fit it")


# Moments of the optimizers of PyTorch and SB3: those that have the shape of their parameter, and single numbers
_LIKE_PARAMETERS = {
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "acc_delta"),
    *("sum", "prev", "step_size", "ax"),
}

_OF_ONE_NUMBER = {"step", "mu_product", "eta", "mu"}


def _is_option(value: Any, own: Any) -> bool:
    if isinstance(own, tuple):
        return isinstance(value, tuple) and len(value) == len(own) and all(map(_is_option, value, own))
    if isinstance(own, int | float) and not isinstance(own, bool):
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return bool(value == own)  # a switch


class AllocationLimit(TorchDispatchMode):
    """
    Within this context PyTorch makes only so many numbers, so that a file cannot ask for a larger network than it has.

    :param n_numbers: Most numbers of all new tensors together
    """

    #: Every tensor counts for so many numbers at least: with its module, it takes thousands of bytes. This surcharge
    #: for small tensors has its own limit, independent of the file's size
    LEAST, MAX_SMALL = 2**10, 2**23

    def __init__(self, n_numbers: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left, self.left_for_small = n_numbers, self.MAX_SMALL

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the numbers that a call makes; before they are made, if the first argument is a size."""
        arguments = func._schema.arguments
        by_size = bool(arguments) and arguments[0].name == "size" and bool(args)
        if by_size:
            self._count(args[0])
        made = func(*args, **(kwargs or {}))
        if not by_size:
            results = made if isinstance(made, list | tuple) else (made,)
            for result, declared in zip(results, func._schema.returns, strict=False):
                if isinstance(result, th.Tensor) and declared.alias_info is None:  # such as a copy, and no view
                    self._count(result.shape)
        return made

    def _count(self, size: Any) -> None:
        n = math.prod(size)
        self.left -= n
        self.left_for_small -= max(self.LEAST - n, 0)
        if min(self.left, self.left_for_small) < 0:
            raise UnsafeFileError(f"a tensor of shape {tuple(size)} is declared, for which there are no weights")


def n_numbers(parameters: Mapping[str, Any]) -> int:
    """
    Count the weights of a file.

    :param parameters: See :func:`read_parameters`
    :return: Their number
    """
    return sum(tensor.numel() for tensor in parameters["policy"].values())
