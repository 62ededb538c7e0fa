"""What the kernels have to know of a network: how observations go into it, and where its parameters stand."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QuantileNetwork
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.dqn.policies import QNetwork
from torch import nn

from sb3_lecture_dqn.common.torch_layers import (
    ActionInNetwork,
    DiscreteEmbeddingExtractor,
    LectureNetwork,
    TableNetwork,
)
from sb3_lecture_dqn.kernels.kinds import (
    ACTION_IN,
    ELU,
    EMBEDDED,
    LEAKY_RELU,
    LINEAR,
    NUMBERS,
    ONE_HOT,
    PARTS_IN,
    PRELU,
    STATE_IN,
    TABLE,
    TANH,
)

#: Header of the kernels' description: see the table in :mod:`kernels.networks`
_N_HEADER, _PER_LAYER = 10, 6


class UnknownNetworkError(Exception):
    """The kernels do not know a network; the message names the part that they do not know."""


class _Part(NamedTuple):
    """
    A part of an observation.

    :param key: Its name in a ``Dict`` observation, else ``None``
    :param kind: See :mod:`kernels.kinds`
    :param sizes: Number of values of each of its codes; of numbers, how many there are
    :param starts: What its codes count from, ``None`` for 0
    :param first: Number of its first code, or of its first number, in an observation
    """

    key: str | None
    kind: int
    sizes: list[int]
    starts: np.ndarray | None = None
    first: int = 0


class OnlyPart(NamedTuple):
    """
    An observation of one part that goes into the kernels as it is stored.

    :param dtype: int64 for codes, float32 for numbers
    :param length: Number of codes or numbers
    """

    dtype: np.dtype
    length: int


class _Anatomy(NamedTuple):
    """
    The modules of a network in the order in which they compute.

    :param extractor: What makes a vector of an observation
    :param embeds: Whether codes are embedded, else they are one-hot
    :param from_start: Whether codes are counted from the start of their space
    :param actions: Embedding of the actions, if the network takes them
    :param layers: The dense layers and their activations
    :param known: All modules
    """

    extractor: nn.Module
    embeds: bool
    from_start: bool
    actions: nn.Embedding | None
    layers: list[nn.Module]
    known: list[nn.Module]


class Layout:
    """
    What the kernels have to know of a network.

    :param network: The network
    :raises UnknownNetworkError: If the kernels do not know it
    """

    def __init__(self, network: Any) -> None:
        anatomy = _anatomy(network)
        for module in network.modules():
            if not any(module is known for known in anatomy.known):
                raise UnknownNetworkError(f"a network of type {type(network).__name__} whose layers were changed")
        self.n_actions = int(network.action_space.n)
        self.n_quantiles = int(network.n_quantiles) if isinstance(network, QuantileNetwork) else 1
        self.parts: list[_Part] = []
        self.n_codes = self.n_numbers = 0
        for part in _parts_of(network, anatomy):
            is_number = part.kind == NUMBERS
            self.parts.append(part._replace(first=self.n_numbers if is_number else self.n_codes))
            self.n_numbers += sum(part.sizes) if is_number else 0
            self.n_codes += 0 if is_number else len(part.sizes)
        # Of a table for several parts, the factors that make one code, the number of a row, of the parts' codes
        numbers = network.numbers if isinstance(network, TableNetwork) else None
        self._strides = None if numbers is None or numbers.is_one else numbers.strides
        self._embeds = any(part.kind == EMBEDDED for part in self.parts)
        #: The part if there is only one, and its codes count from 0
        self.only_part: OnlyPart | None = None
        is_plain = len(self.parts) == 1 and self.parts[0].key is None and self.parts[0].starts is None
        if is_plain and self._strides is None:
            dtype, length = (np.int64, self.n_codes) if self.n_codes else (np.float32, self.n_numbers)
            self.only_part = OnlyPart(np.dtype(dtype), length)
        #: ``net`` of :mod:`kernels.networks`, int64
        self.net = self._describe(network, anatomy)
        #: Whether the network embeds a state, or is a table of states
        self.embeds_state = bool(self.net[0] != PARTS_IN)
        self.is_table = bool(self.net[0] == TABLE)
        has_prelus = len(anatomy.layers) > 1 and all(type(module) in (nn.Linear, nn.PReLU) for module in anatomy.layers)
        #: Whether plain SGD trains it transition by transition
        self.is_plain = self.n_quantiles == 1 and (has_prelus or self.is_table)

    def _describe(self, network: Any, anatomy: _Anatomy) -> np.ndarray:
        places, at = {}, 0
        for parameter in network.parameters():
            places[id(parameter)], at = at, at + parameter.numel()
        table = _table_of(anatomy.extractor)
        width = 0 if table is None else int(table.weight.shape[1])
        if anatomy.actions is not None:
            width = int(anatomy.actions.weight.shape[1])
        parts, n_in, n_rows = self._describe_parts(width)
        if self._strides is not None:  # the kernels are given one code
            n_rows, n_in = int(network.numbers.n), width
            parts = [EMBEDDED, 0, n_rows, 0, 0]
        tables = [embedding for embedding in (table, anatomy.actions) if embedding is not None]
        n_embedded = sum(embedding.weight.numel() for embedding in tables)
        fits = table is None or (places[id(table.weight)] == 0 and tuple(table.weight.shape) == (n_rows, width))
        if anatomy.actions is not None:
            n_in += width
            fits = fits and tuple(anatomy.actions.weight.shape) == (self.n_actions, width)
            fits = fits and places[id(anatomy.actions.weight)] == n_rows * width
        layers, end = self._describe_layers(anatomy, places, n_in, n_embedded)
        #: Products of the dense layers for one observation
        self.n_products = sum(n_out * n_in for n_out, n_in, *_ in layers)
        self.n_products *= 1 if anatomy.actions is None else self.n_actions
        if not fits or end != at:
            raise UnknownNetworkError(f"a network of type {type(network).__name__} whose layers have other shapes")
        is_one_code = self._strides is not None or (self.n_codes == 1 and self.n_numbers == 0)
        kind = PARTS_IN
        if isinstance(network, TableNetwork):
            kind = TABLE
        elif isinstance(anatomy.extractor, nn.Embedding) and self.n_quantiles == 1:
            kind = STATE_IN if anatomy.actions is None else ACTION_IN
        stride = (max((layer[0] for layer in layers), default=0) + 7) & ~7
        described = [number for layer in layers for number in layer] or [0] * _PER_LAYER
        header = [
            kind,
            parts[2] if is_one_code else 0,
            self.n_actions,
            self.n_quantiles,
            -1 if anatomy.actions is None else n_rows,
            width,
            len(layers),
            stride,
            len(parts) // 5,
            _N_HEADER + len(described),
        ]
        return np.array([*header, *described, *parts], np.int64)

    def _describe_parts(self, width: int) -> tuple[list[int], int, int]:
        """Return the description of the parts, the length of the vector that they make, and the embeddings' rows."""
        described: list[int] = []
        place = row = 0
        # Embeddings stand before all numbers.
        for part in sorted(self.parts, key=lambda part: part.kind == NUMBERS and self._embeds):
            for k, size in enumerate(part.sizes):
                is_embedded = part.kind == EMBEDDED
                described += [part.kind, part.first + k, size, row if is_embedded else 0, place]
                place += width if is_embedded else size
                row += size if is_embedded else 0
        return described, place, row

    def _describe_layers(
        self, anatomy: _Anatomy, places: dict[int, int], n_in: int, begin: int
    ) -> tuple[list[list[int]], int]:
        """Return the description of the layers, and where their parameters end."""
        layers: list[list[int]] = []
        modules, end = anatomy.layers, begin
        while modules:
            linear, *modules = modules
            if type(linear) is not nn.Linear or linear.bias is None:
                raise UnknownNetworkError(f"the layer {type(linear).__name__}")
            activation, slope = LINEAR, 0
            slopes: nn.Parameter | None = None
            if modules:
                function, *modules = modules
                activation, slope, slopes = _activation(function, places)
            n_out = linear.out_features
            w_at, b_at = places[id(linear.weight)], places[id(linear.bias)]
            fits = tuple(linear.weight.shape) == (n_out, n_in) and w_at == end and b_at == end + n_out * n_in
            end = b_at + n_out
            if slopes is not None:
                fits, end = fits and slope == end, end + 1
            if not fits or (activation == LINEAR) != (not modules):
                raise UnknownNetworkError(f"the layer {linear}, which has other shapes or no activation")
            layers.append([n_out, n_in, w_at, b_at, activation, slope])
            n_in = n_out
        n_outputs = 1 if anatomy.actions is not None else self.n_actions * self.n_quantiles
        if n_in != n_outputs:
            raise UnknownNetworkError(f"a network of {n_in} outputs")
        return layers, end

    def encode(self, obs: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Convert observations to the input of the kernels.

        :param obs: Observations of the network's space, an array or a dictionary of arrays
        :param n: How many there are
        :return: Codes, int64 of shape ``(n, n_codes)``, see :meth:`joined`, and numbers, float32 of shape
            ``(n, n_numbers)``
        """
        codes, numbers = np.empty((n, self.n_codes), np.int64), np.empty((n, self.n_numbers), np.float32)
        for key, kind, sizes, starts, first in self.parts:
            value = (obs if key is None else obs[key]).reshape(n, -1)
            if kind == NUMBERS:
                numbers[:, first : first + sizes[0]] = value
            else:
                codes[:, first : first + len(sizes)] = value
                if starts is not None:
                    codes[:, first : first + len(sizes)] -= starts
        return self.joined(codes), numbers

    def joined(self, codes: np.ndarray) -> np.ndarray:
        """
        Make one code of the codes of an observation, if the network is a table for several parts.

        :param codes: int64 of shape ``(n, n_codes)``, each from 0 on
        :return: The codes for the kernels, int64 of shape ``(n, 1)`` or as they were
        """
        return codes if self._strides is None else (codes @ self._strides)[:, None]


def _anatomy(network: Any) -> _Anatomy:
    """Take a network apart. No ``isinstance``, since a subclass may compute something else."""
    kind: Any = type(network)
    known: list[nn.Module] = [network]
    if kind is QNetwork or kind is QuantileNetwork:
        stack = network.q_net if kind is QNetwork else network.quantile_net
        extractor = network.features_extractor
        known += [*extractor.modules(), *stack.modules()]
        if type(stack) is not nn.Sequential:
            raise UnknownNetworkError(f"layers of type {type(stack).__name__}")
        if type(extractor) not in (FlattenExtractor, CombinedExtractor, DiscreteEmbeddingExtractor):
            raise UnknownNetworkError(f"the features extractor {type(extractor).__name__}")
        for child in extractor.children():
            for module in child.modules():
                if type(module) not in (nn.Flatten, nn.Embedding, nn.ModuleDict):
                    raise UnknownNetworkError(f"the {type(module).__name__} of the features extractor")
        embeds = type(extractor) is DiscreteEmbeddingExtractor
        return _Anatomy(extractor, embeds, False, None, [*stack], known)
    inner: Any = getattr(network, "quantile_net", None)
    if isinstance(network, QuantileNetwork) and type(inner) is LectureNetwork:
        if not kind.__module__.startswith("sb3_lecture_dqn."):
            raise UnknownNetworkError(f"a network of type {kind.__name__}")
        network = inner
        kind, known = LectureNetwork, [*known, network]
    if kind is ActionInNetwork:
        extractor, actions, layers = network.state_embedding, network.action_embedding, [*network.layers]
        known += [actions, network.layers, *layers, *extractor.modules()]
        return _Anatomy(extractor, True, True, actions, layers, known)
    if kind is LectureNetwork or kind is TableNetwork:
        extractor, *layers = network.layers
        known += [network.layers, *layers, *extractor.modules()]
        return _Anatomy(extractor, True, True, None, layers, known)
    raise UnknownNetworkError(f"a network of type {kind.__name__}")


def _table_of(extractor: nn.Module) -> nn.Embedding | None:
    table = extractor if isinstance(extractor, nn.Embedding) else getattr(extractor, "embedding", None)
    if table is not None and type(table) is not nn.Embedding:
        raise UnknownNetworkError(f"the {type(table).__name__} of the features extractor")
    return table


def _activation(module: nn.Module, places: dict[int, int]) -> tuple[int, int, nn.Parameter | None]:
    """Return the kind of an activation, its slope as the kernels read it, and its parameter if it has one."""
    kind = type(module)
    if kind is nn.PReLU and module.weight.numel() == 1:  # type: ignore[operator]
        return PRELU, places[id(module.weight)], module.weight  # type: ignore[return-value]
    slopes: dict[type, tuple[int, Any]] = {
        nn.ReLU: (LEAKY_RELU, 0.0),
        nn.LeakyReLU: (LEAKY_RELU, getattr(module, "negative_slope", 0.0)),
        nn.Tanh: (TANH, 0.0),
        nn.ELU: (ELU, getattr(module, "alpha", 0.0)),
    }
    if kind not in slopes:
        raise UnknownNetworkError(f"the activation {module}")
    number, slope = slopes[kind]
    return number, int(np.float32(slope).view(np.int32)), None


def _parts_of(network: Any, anatomy: _Anatomy) -> Iterator[_Part]:
    space, codes = network.observation_space, EMBEDDED if anatomy.embeds else ONE_HOT
    normalizes = anatomy.from_start or network.normalize_images  # our networks take images as SB3 does by default
    plain = {None: space}
    for key, part in (space.spaces if isinstance(space, spaces.Dict) else plain).items():
        if isinstance(part, spaces.Box):
            if normalizes and is_image_space(part):
                raise UnknownNetworkError("images")
            yield _Part(key, NUMBERS, [int(np.prod(part.shape))])
        elif isinstance(part, spaces.MultiBinary):
            n = int(np.prod(part.shape))
            yield _Part(key, codes, [2] * n) if anatomy.embeds else _Part(key, NUMBERS, [n])
        elif isinstance(part, spaces.Discrete):
            yield _Part(key, codes, [int(part.n)], _starts(part.start, anatomy))
        elif isinstance(part, spaces.MultiDiscrete) and part.nvec.ndim == 1:
            yield _Part(key, codes, [int(size) for size in part.nvec], _starts(part.start, anatomy))
        else:
            raise UnknownNetworkError(f"observations in {part}")


def _starts(start: Any, anatomy: _Anatomy) -> np.ndarray | None:
    starts = np.atleast_1d(np.asarray(start, np.int64))
    if not starts.any():
        return None
    if not anatomy.from_start:
        raise UnknownNetworkError("one-hot vectors of numbers that do not start at 0")
    return starts
