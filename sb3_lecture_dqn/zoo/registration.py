"""The algorithms of this package in the tables of the RL Zoo, and their files of settings."""

import functools
from typing import Any

from sb3_contrib import QRDQN
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_lecture_dqn.algorithms import ALGORITHMS
from sb3_lecture_dqn.training.tuned import FOLDER
from sb3_lecture_dqn.zoo.search import convert_params, sample_for_zoo

#: The algorithms that :func:`register` adds, by name. Add your own here
ALGOS: dict[str, type[BaseAlgorithm]] = {name: algorithm.cls for name, algorithm in ALGORITHMS.items()}


def register(env_id: str | None = None) -> None:
    """
    Add the algorithms of this package and their search spaces to the tables of the zoo.

    Scripts call this before ``rl_zoo3.train.train()`` or any other function of the zoo. For models with
    ``use_masking=True``, call those functions within :func:`masked_evaluation`.

    :param env_id: Id of the training environment. If it offers action masks, the search tries training with and without
        them. If it offers none, or the id is ``None``, the search leaves ``use_masking`` alone
    """
    from rl_zoo3 import ALGOS as ZOO_ALGOS
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    samplers: dict[str, Any] = HYPERPARAMS_SAMPLER
    converters: dict[str, Any] = HYPERPARAMS_CONVERTER
    for name, algorithm in ALGOS.items():
        ZOO_ALGOS[name] = algorithm
        samplers[name] = functools.partial(sample_for_zoo, issubclass(algorithm, QRDQN), env_id)
        converters[name] = convert_params


def hyperparams_files() -> dict[str, str]:
    """
    List the files of settings in this package, for the zoo's ``--conf-file``.

    :return: Their paths by name: ``lecture_dqn``, ``lecture_dqn_masked`` and ``lecture_qrdqn`` have the settings of
        ``tuned``, ``lecture`` has the lecture's, for every environment
    """
    return {file.name.removesuffix(".yml"): str(file) for file in FOLDER.iterdir() if file.name.endswith(".yml")}
