"""The weights of the best test: copied from a model, checked, and given back to it."""

from typing import Any

import torch as th
from stable_baselines3.common.running_mean_std import RunningMeanStd

from sb3_lecture_dqn.common.checks import UnsafeFileError


def weights_of(model: Any) -> dict[str, th.Tensor]:
    """
    Copy what a test of a model depends on: the weights, and the moments by which ``VecNormalize`` scales observations.

    :param model: The model
    :return: Tensors on the CPU, by name
    """
    weights = {name: value.detach().to("cpu", copy=True) for name, value in model._networks[0].state_dict().items()}
    for key, moments in _moments_of(model).items():
        weights |= {f"{key}{name}": th.tensor(getattr(moments, name), dtype=th.float64) for name in _MOMENTS}
    return weights


def set_weights(model: Any, weights: dict[str, th.Tensor]) -> None:
    """
    Give a model what :func:`weights_of` has copied.

    :param model: The same model
    :param weights: Tensors by name
    """
    weights = dict(weights)
    for key, moments in _moments_of(model).items():
        for name in _MOMENTS:
            value = weights.pop(f"{key}{name}").numpy().copy()
            setattr(moments, name, value.item() if name == "count" else value)
    model._networks[0].load_state_dict(weights)


_MOMENTS = ("mean", "var", "count")


def _moments_of(model: Any) -> dict[str, RunningMeanStd]:
    """The moments of the observations in ``VecNormalize``, by a name that no weight has."""
    normalize = model.get_vec_normalize_env()
    moments = getattr(normalize, "obs_rms", None)  # there are none with norm_obs=False
    if moments is None:
        return {}
    parts = moments if isinstance(moments, dict) else {"": moments}
    return {f"VecNormalize {key}/": part for key, part in parts.items()}


def check_weights_of_test(weights: Any) -> None:
    """
    Check weights in a checkpoint that a test has kept.

    :param weights: Tensors by name
    :raises UnsafeFileError: If they are not finite tensors
    """
    for name, value in weights.items():
        if not isinstance(value, th.Tensor) or not th.isfinite(value).all():
            raise UnsafeFileError(f"the weights of the best test: {name!r} must be finite numbers")
