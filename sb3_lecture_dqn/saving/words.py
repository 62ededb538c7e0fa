"""
The words by which files name classes: the one table of word and class.

A word stays when the source moves. Those of PyTorch's classes are the public names that PyTorch documents.
"""

from typing import Any

import torch as th
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.torch_layers import DiscreteEmbeddingExtractor
from sb3_lecture_dqn.common.wrappers import DiscreteObservationWrapper, TupleToDictWrapper

_ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU"),
    *("LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink"),
    *("Softsign", "Tanh", "Tanhshrink"),
)
_OPTIMIZERS = (
    *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"),
    "SGD",
)


def _of_torch(prefix: str, namespace: Any, names: tuple[str, ...]) -> dict[str, type]:
    return {f"{prefix}.{name}": getattr(namespace, name) for name in names if hasattr(namespace, name)}


#: Where a file may name a class, and which ones there. A class is called with the arguments of its place, so any other
#: class would take them for something else: a module of PyTorch would take the size of a features extractor for the
#: number of layers that it has to make.
CLASSES: dict[tuple[Any, ...], dict[str, type]] = {
    ("policy_kwargs", "features_extractor_class"): {
        "FlattenExtractor": FlattenExtractor,
        "NatureCNN": NatureCNN,
        "CombinedExtractor": CombinedExtractor,
        "DiscreteEmbeddingExtractor": DiscreteEmbeddingExtractor,
    },
    ("policy_kwargs", "activation_fn"): _of_torch("torch.nn", th.nn, _ACTIVATIONS),
    ("policy_kwargs", "optimizer_class"): {
        **_of_torch("torch.optim", th.optim, _OPTIMIZERS),
        "RMSpropTFLike": RMSpropTFLike,
    },
    ("replay_buffer_class",): {
        "ReplayBuffer": ReplayBuffer,
        "DictReplayBuffer": DictReplayBuffer,
        "NStepReplayBuffer": NStepReplayBuffer,
        "HerReplayBuffer": HerReplayBuffer,
        "SuccessFailReplayBuffer": SuccessFailReplayBuffer,
        "LatestTransitionBuffer": LatestTransitionBuffer,
    },
    ("env_wrapper",): {
        "DiscreteObservationWrapper": DiscreteObservationWrapper,
        "TupleToDictWrapper": TupleToDictWrapper,
    },
}
#: Where a file names a policy, by a word of the algorithm's ``policy_aliases``
POLICY = ("policy_class",)

_WORDS = {kind: word for kinds in CLASSES.values() for word, kind in kinds.items()}


def word_of_class(kind: type) -> str | None:
    """
    Find the word for a class that files may name.

    :param kind: The class
    :return: Its word, ``None`` if files may not name it
    """
    return _WORDS.get(kind)


def word_of_callback(kind: type) -> str:
    """
    Find the word for a class of callbacks.

    :param kind: The class
    :return: The name of one of this package, which stays when the source moves; of others, the path of their source
    """
    ours = kind.__module__.partition(".")[0] == "sb3_lecture_dqn"
    return kind.__qualname__ if ours else f"{kind.__module__}.{kind.__qualname__}"
