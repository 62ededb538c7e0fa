"""DiscreteEmbeddingExtractor: against one embedding per number, by itself, in SB3's algorithms and in ours."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import nn

from sb3_lecture_dqn import DiscreteEmbeddingExtractor, TupleToDictWrapper

MIXED = spaces.Dict(
    {
        "bits": spaces.MultiBinary((2, 3)),
        "cell.of.the.map": spaces.Discrete(7),
        "hand": spaces.MultiDiscrete([3, 1, 4]),
        "image": spaces.Box(0, 255, (1, 3, 3), np.uint8),
        "speed": spaces.Box(-1, 1, (2,)),
    }
)


def parts_of(space):
    return space.spaces if isinstance(space, spaces.Dict) else {None: space}


def draw(space, n):
    """A batch of observations as SB3 gives them to a policy."""

    def batch(part):
        return th.as_tensor(np.stack([np.asarray(part.sample()) for _ in range(n)]))

    return {key: batch(part) for key, part in space.spaces.items()} if isinstance(space, spaces.Dict) else batch(space)


class OneEmbeddingEach(nn.Module):
    """The same features as somebody would write them who has only their description; takes the weights of ours."""

    def __init__(self, extractor, space, dim):
        super().__init__()
        self.space, self.tables, first = space, nn.ModuleList(), 0
        for part in parts_of(space).values():
            for n in self.sizes(part):
                table = nn.Embedding(n, dim)
                table.weight.data.copy_(extractor.embedding.weight[first : first + n])
                self.tables.append(table)
                first += n
        assert first == (len(extractor.embedding.weight) if self.tables else 0)

    @staticmethod
    def sizes(part):
        if isinstance(part, spaces.Discrete):
            return [part.n]
        if isinstance(part, spaces.MultiDiscrete):
            return part.nvec
        return [2] * int(np.prod(part.n)) if isinstance(part, spaces.MultiBinary) else []

    def forward(self, obs):
        tables, embedded, rest = iter(self.tables), [], []
        for key, part in parts_of(self.space).items():
            flat = (
                (obs if key is None else obs[key]).flatten(1)
                if part.shape
                else (obs if key is None else obs[key])[:, None]
            )
            if isinstance(part, spaces.Box):
                rest.append(flat.float() / (255 if flat.dtype == th.uint8 else 1))
            else:
                embedded += [next(tables)(column.long()) for column in flat.T]
        return th.cat(embedded + rest, dim=1)


PARTS = st.one_of(
    st.integers(1, 9).map(spaces.Discrete),
    st.lists(st.integers(1, 5), min_size=1, max_size=4).map(spaces.MultiDiscrete),
    st.sampled_from([1, 4, (2, 3)]).map(spaces.MultiBinary),
    st.sampled_from([(), (3,), (2, 2)]).map(lambda shape: spaces.Box(-1, 1, shape)),
)
SPACES = PARTS | st.dictionaries(st.text("abc.", min_size=1), PARTS, min_size=1, max_size=4).map(spaces.Dict)


@given(space=SPACES, dim=st.integers(1, 5), seed=st.integers(0, 1000))
def test_features_and_gradients_are_those_of_one_embedding_per_number(space, dim, seed):
    """Through SB3's one-hot vectors; exactly, not nearly."""
    space.seed(seed)
    th.manual_seed(seed)
    extractor = DiscreteEmbeddingExtractor(space, dim)
    oracle = OneEmbeddingEach(extractor, space, dim)
    obs = draw(space, 6)
    features, expected = extractor(preprocess_obs(obs, space)), oracle(obs)
    assert features.shape == (6, extractor.features_dim)
    assert features.dtype == th.float32
    assert th.equal(features, expected)
    if extractor.embedding is not None:
        weights = th.randn_like(features)
        (features * weights).sum().backward()
        (expected * weights).sum().backward()
        assert th.equal(extractor.embedding.weight.grad, th.cat([table.weight.grad for table in oracle.tables]))


def test_the_features_of_a_mixed_observation_have_their_order_and_widths():
    """Bits, cell and hand have 6 + 1 + 3 embeddings of 12 + 7 + 8 values; image and speed are 9 + 2 numbers."""
    extractor = DiscreteEmbeddingExtractor(MIXED, embedding_dim=5)
    assert {name: tuple(w.shape) for name, w in extractor.state_dict().items()} == {"embedding.weight": (27, 5)}
    assert extractor.features_dim == 10 * 5 + 11
    MIXED.seed(0)
    obs = draw(MIXED, 4)
    features = extractor(preprocess_obs(obs, MIXED))
    assert th.equal(features, OneEmbeddingEach(extractor, MIXED, 5)(obs))
    assert th.equal(features[:, 50:59], obs["image"].flatten(1) / 255)
    assert th.equal(features[:, 59:], obs["speed"])


def test_a_broken_row_stays_in_its_row():
    """The product of one-hot vectors and the table would make every observation's features NaN."""
    space = spaces.Discrete(4)
    extractor = DiscreteEmbeddingExtractor(space)
    extractor.embedding.weight.data[2] = th.inf
    assert extractor(preprocess_obs(th.tensor([0, 1, 3]), space)).isfinite().all()


def test_numbers_are_taken_as_well_as_one_hot_vectors():
    space = spaces.Dict({"cell": spaces.Discrete(7), "hand": spaces.MultiDiscrete([3, 4])})
    extractor = DiscreteEmbeddingExtractor(space)
    obs = draw(space, 5)
    assert th.equal(extractor(obs), extractor(preprocess_obs(obs, space)))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Discrete(3, start=1), r"Discrete\(3, start=1\) starts at 1.*TransformObservation"),
        (spaces.MultiDiscrete([2, 2], start=[0, -1]), r"starts at \[ 0 -1\].*TransformObservation"),
        (spaces.Dict({"a": spaces.Discrete(2, start=-1)}), r"Discrete\(2, start=-1\) starts at -1"),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), "MultiDiscrete of one dimension"),
        (spaces.Tuple([spaces.Discrete(2)]), "TupleToDictWrapper"),
        (spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)})}), "TupleToDictWrapper"),
        (spaces.Text(3), r"Text.*must be Discrete"),
    ],
)
def test_spaces_it_cannot_take_are_refused(space, message):
    with pytest.raises(ValueError, match=message):
        DiscreteEmbeddingExtractor(space)


@pytest.mark.parametrize("embedding_dim", [0, -1, 1.5, "8", None])
def test_the_width_must_be_a_whole_number_of_at_least_one(embedding_dim):
    with pytest.raises(ValueError, match=r"embedding_dim=.* at least 1"):
        DiscreteEmbeddingExtractor(spaces.Discrete(2), embedding_dim)


def blackjack():
    return TupleToDictWrapper(gym.make("Blackjack-v1"))


@pytest.mark.parametrize(
    ("policy", "make_env"), [("MlpPolicy", lambda: gym.make("Taxi-v3")), ("MultiInputPolicy", blackjack)]
)
@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (PPO, {"n_steps": 16, "batch_size": 8, "n_epochs": 2}),
        (A2C, {}),
        (DQN, {"learning_starts": 8, "buffer_size": 100}),
        (QRDQN, {"learning_starts": 8, "buffer_size": 100}),
    ],
)
def test_sb3s_algorithms_learn_the_embeddings_and_keep_them_in_their_files(
    algorithm, settings, policy, make_env, tmp_path
):
    kwargs = {"features_extractor_class": DiscreteEmbeddingExtractor, "features_extractor_kwargs": {"embedding_dim": 4}}
    model = algorithm(policy, make_env(), policy_kwargs=kwargs, seed=0, device="cpu", **settings)
    before = {name: weight.clone() for name, weight in model.policy.state_dict().items()}
    model.learn(32)
    trained = {name for name, weight in model.policy.state_dict().items() if not th.equal(weight, before[name])}
    assert any(name.endswith("features_extractor.embedding.weight") for name in trained)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    obs = [make_env().observation_space.sample() for _ in range(20)]
    assert [loaded.predict(o, deterministic=True)[0] for o in obs] == [
        model.predict(o, deterministic=True)[0] for o in obs
    ]
