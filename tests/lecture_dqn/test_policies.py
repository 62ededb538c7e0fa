"""The lecture's networks: their weights' names, their values, and what they refuse."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from torch import nn

from sb3_lecture_dqn import ActionInPolicy, LectureDQN, LecturePolicy, TablePolicy, run_test

TAXI = spaces.Discrete(500), spaces.Discrete(6)
POLICIES = [LecturePolicy, ActionInPolicy, TablePolicy]


def make(policy, observation_space=TAXI[0], action_space=TAXI[1], **kwargs):
    th.manual_seed(0)
    return policy(observation_space, action_space, lambda _: 1e-3, **kwargs)


class LectureFile(nn.Module):
    """The network as somebody would write it who has only the lecture's description."""

    def __init__(self, n_states, n_actions, h):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Embedding(n_states, 2 * h),
            nn.Linear(2 * h, 2 * h),
            nn.PReLU(),
            nn.Linear(2 * h, h),
            nn.PReLU(),
            nn.Linear(h, n_actions),
        )

    def forward(self, states):
        return self.layers(states)


@pytest.mark.parametrize("h", [1, 8, 32])
def test_the_state_dict_has_the_lectures_names_and_shapes_and_no_others(h):
    kwargs = {} if h == 32 else {"policy_kwargs": {"hidden_dim": h}}
    model = LectureDQN("Taxi-v3", **kwargs)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.q_net.state_dict().items()}
    assert shapes == {
        "layers.0.weight": (500, 2 * h),
        "layers.1.weight": (2 * h, 2 * h),
        "layers.1.bias": (2 * h,),
        "layers.2.weight": (1,),
        "layers.3.weight": (h, 2 * h),
        "layers.3.bias": (h,),
        "layers.4.weight": (1,),
        "layers.5.weight": (6, h),
        "layers.5.bias": (6,),
    }
    assert list(shapes) == list(LectureFile(500, 6, h).state_dict())


@pytest.mark.parametrize("algorithm", [LectureDQN, DQN])
def test_weights_are_exchanged_with_the_lectures_files_both_ways(algorithm, tmp_path):
    """Strictly, through `torch.save` and `torch.load`, with equal values on all states."""
    model, lecture = algorithm(LecturePolicy, "Taxi-v3"), LectureFile(500, 6, 32)
    states = th.arange(500)
    assert not th.equal(model.q_net(states), lecture(states))

    th.save(model.q_net.state_dict(), tmp_path / "ours.pt")
    lecture.load_state_dict(th.load(tmp_path / "ours.pt"), strict=True)
    assert th.equal(model.q_net(states), lecture(states))

    other = LectureFile(500, 6, 32)
    th.save(other.state_dict(), tmp_path / "theirs.pt")
    model.q_net.load_state_dict(th.load(tmp_path / "theirs.pt"), strict=True)
    assert th.equal(model.q_net(states), other(states))
    assert np.array_equal(model.predict(states.numpy(), deterministic=True)[0], other(states).argmax(1).numpy())


def test_fresh_weights_are_pytorchs_defaults():
    """The same draws in the same order: a network that PyTorch made from the same seed has the same weights."""
    policy = make(LecturePolicy)
    th.manual_seed(0)
    for name, weight in LectureFile(500, 6, 32).state_dict().items():
        assert th.equal(policy.q_net.state_dict()[name], weight), name


def test_fresh_weights_have_the_distributions_of_pytorchs_defaults():
    layers = make(LecturePolicy).q_net.layers.requires_grad_(False)
    embedding = layers[0].weight
    assert abs(embedding.mean()) < 0.03
    assert embedding.std().item() == pytest.approx(1, abs=0.03)
    for layer in (layers[1], layers[3], layers[5]):
        bound = layer.in_features**-0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert layer.bias.abs().max() <= bound


def test_each_prelu_has_one_slope_of_a_quarter():
    layers = make(LecturePolicy).q_net.layers
    assert [layers[i].weight.tolist() for i in (2, 4)] == [[0.25], [0.25]]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_target_network_starts_as_a_copy_of_its_own(policy):
    made = make(policy)
    assert made.q_net.state_dict().keys() == made.q_net_target.state_dict().keys()
    for online, target in zip(made.q_net.parameters(), made.q_net_target.parameters(), strict=True):
        assert th.equal(online, target)
        assert online.data_ptr() != target.data_ptr()
    optimized = {id(p) for group in made.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in made.q_net.parameters()}


def test_a_table_is_zero_at_first_and_its_rows_are_the_states_values():
    q_net = make(TablePolicy).q_net
    assert {name: tuple(w.shape) for name, w in q_net.state_dict().items()} == {"layers.0.weight": (500, 6)}
    assert (q_net.layers[0].weight == 0).all()
    with th.no_grad():
        q_net.layers[0].weight.copy_(th.arange(3000).reshape(500, 6))
    assert q_net(th.tensor([7])).tolist() == [[42, 43, 44, 45, 46, 47]]


def test_action_in_values_are_those_of_one_state_and_one_action_at_a_time():
    q_net = make(ActionInPolicy, hidden_dim=4).q_net
    states = th.tensor([0, 3, 499, 3])
    values = q_net(states)
    assert values.shape == (4, 6)
    for row, state in enumerate(states):
        for action in range(6):
            pair = th.cat([q_net.state_embedding.weight[state], q_net.action_embedding.weight[action]])
            th.testing.assert_close(q_net.layers(pair), values[row, action : action + 1])
    assert len(values.unique()) > 12


@pytest.mark.parametrize("policy", POLICIES)
def test_states_are_counted_from_the_start_of_their_space(policy):
    """The first state of `Discrete(4, start=5)` is 5 and has the first row of the embedding."""
    shifted, plain = make(policy, spaces.Discrete(4, start=5)), make(policy, spaces.Discrete(4))
    if policy is TablePolicy:
        for made in (shifted, plain):
            nn.init.normal_(made.q_net.layers[0].weight, generator=th.Generator().manual_seed(0))
    assert th.equal(shifted.q_net(th.arange(5, 9)), plain.q_net(th.arange(4)))
    actions, _ = shifted.predict(np.arange(5, 9), deterministic=True)
    assert np.array_equal(actions, plain.predict(np.arange(4), deterministic=True)[0])


class Corridor(gym.Env):
    """Four states from 5 on; the rightmost is the goal."""

    observation_space = spaces.Discrete(4, start=5)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 5
        return self.state, {}

    def step(self, action):
        self.state = max(5, self.state + (1 if action == 1 else -1))
        goal = self.state == 8
        return self.state, float(goal), goal, False, {}


@pytest.mark.parametrize("policy", POLICIES)
def test_an_environment_whose_states_do_not_start_at_zero_is_learned(policy):
    model = LectureDQN(policy, Corridor(), learning_rate=0.1, target_update_interval=(2, "episode"), seed=0).learn(250)
    actions, _ = model.predict(np.array([5, 6, 7]), deterministic=True)
    assert actions.tolist() == [1, 1, 1]
    assert model.replay_buffer.success_states == {7}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_observations_may_come_with_or_without_a_last_dimension(policy, shape):
    """SB3's memory gives (batch, 1), its environments (batch,)."""
    q_net = make(policy).q_net
    assert th.equal(q_net(th.tensor([1, 2, 3]).reshape(shape)), q_net(th.tensor([1, 2, 3])))


@pytest.mark.parametrize("policy", POLICIES)
def test_sgd_is_the_default_and_any_optimizer_can_take_its_place(policy):
    sgd = make(policy).optimizer
    assert type(sgd) is th.optim.SGD
    assert sgd.param_groups[0]["lr"] == 1e-3
    assert sgd.param_groups[0]["momentum"] == 0
    momentum = make(policy, optimizer_kwargs={"momentum": 0.9}).optimizer
    assert momentum.param_groups[0]["momentum"] == 0.9
    adam = make(policy, optimizer_class=th.optim.Adam, optimizer_kwargs={"eps": 1e-3}).optimizer
    assert type(adam) is th.optim.Adam
    assert adam.param_groups[0]["eps"] == 1e-3
    model = LectureDQN(policy, "Taxi-v3", policy_kwargs={"optimizer_class": th.optim.RMSprop})
    assert type(model.policy.optimizer) is th.optim.RMSprop


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_saves_and_loads_itself_as_sb3s_do(policy, tmp_path):
    made = make(policy, **({} if policy is TablePolicy else {"hidden_dim": 3}))
    with th.no_grad():
        for parameter in made.parameters():
            parameter.add_(th.randn_like(parameter))
    made.save(tmp_path / "policy.pt")
    loaded = policy.load(tmp_path / "policy.pt")
    states = th.arange(500)
    assert th.equal(loaded.q_net(states), made.q_net(states))


@pytest.mark.parametrize("policy", [LecturePolicy, ActionInPolicy])
@pytest.mark.parametrize("hidden_dim", [0, -1, 1.5, "32", True, None])
def test_hidden_dim_must_be_a_whole_number_of_at_least_one(policy, hidden_dim):
    with pytest.raises(ValueError, match=r"hidden_dim=.* at least 1"):
        make(policy, hidden_dim=hidden_dim)


MIXED = spaces.Dict(
    {
        "bits": spaces.MultiBinary(2),
        "cell": spaces.Discrete(4, start=-3),
        "hand": spaces.MultiDiscrete([2, 3], start=[1, 5]),
        "speed": spaces.Box(-1, 1, (2,)),
    }
)
OTHER_SPACES = {
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(3),
    "vector": spaces.Box(-1, 1, (3,)),
    "image": spaces.Box(0, 255, (1, 36, 36), np.uint8),
    "Dict": spaces.Dict({"a": spaces.Discrete(2)}),
    "mixed": MIXED,
}


def test_the_layers_of_a_mixed_observation_by_hand():
    """The rows of every number, counted from its own start, then the vector, then the lecture's layers."""
    q_net = make(LecturePolicy, MIXED, hidden_dim=3).q_net
    table, *rest = q_net.layers[0].embedding.weight, *q_net.layers[1:]
    assert table.shape == (2 * 2 + 4 + 2 + 3, 6)
    assert [type(layer) for layer in rest] == [nn.Linear, nn.PReLU, nn.Linear, nn.PReLU, nn.Linear]
    assert [(layer.in_features, layer.out_features) for layer in rest[::2]] == [(5 * 6 + 2, 6), (6, 3), (3, 6)]
    obs = {
        "bits": th.tensor([[0, 1], [1, 1]], dtype=th.int8),
        "cell": th.tensor([-3, 0]),
        "hand": th.tensor([[1, 7], [2, 5]]),
        "speed": th.tensor([[0.5, -0.5], [1.0, 0.0]]),
    }
    rows = [[0, 2 + 1, 4 + 0, 8 + 0, 10 + 2], [1, 2 + 1, 4 + 3, 8 + 1, 10 + 0]]
    features = th.cat([table[th.tensor(rows)].flatten(1), obs["speed"]], dim=1)
    assert th.equal(q_net(obs), nn.Sequential(*rest)(features))
    from_a_memory = {**obs, "cell": obs["cell"][:, None]}
    assert th.equal(q_net(from_a_memory), q_net(obs))


@pytest.mark.parametrize("space", OTHER_SPACES.values(), ids=OTHER_SPACES)
@pytest.mark.parametrize("policy", [LecturePolicy, ActionInPolicy])
def test_every_observation_space_is_learned_saved_and_loaded(policy, space, tmp_path):
    env = Anything(space)
    model = LectureDQN(policy, env, gradient_steps=1, policy_kwargs={"hidden_dim": 4}, seed=0)
    before = model.q_net.layers[-1].weight.clone()
    model.learn(20)
    assert model.engine_in_use == ("torch" if space == OTHER_SPACES["image"] else "numba")
    assert not th.equal(model.q_net.layers[-1].weight, before)
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy")
    loaded, policy_alone = LectureDQN.load(tmp_path / "model"), policy.load(tmp_path / "policy")
    for _ in range(10):
        obs = env.observation_space.sample()
        action, _ = model.predict(obs, deterministic=True)
        assert action.shape == ()
        assert loaded.predict(obs, deterministic=True)[0] == action == policy_alone.predict(obs, deterministic=True)[0]


class Anything(gym.Env):
    """Observes anything of a space."""

    action_space = spaces.Discrete(3)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action), bool(self.np_random.random() < 0.2), False, {}


@pytest.mark.parametrize("discrete", [False, True], ids=["bits", "numbers"])
def test_goals_are_reached_with_hindsight_replay(discrete):
    """SB3's bit flipping: 4 bits from any start to all ones, each action flips one."""
    adam = {"optimizer_class": th.optim.Adam}
    model = LectureDQN(
        BitFlippingEnv(n_bits=4, discrete_obs_space=discrete),
        learning_rate=1e-2,
        batch_size=32,
        gradient_steps=1,
        gamma=0.9,
        exploration_decay=0.98,
        learning_starts=50,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        buffer_size=5000,
        policy_kwargs={"hidden_dim": 16, **adam},
        seed=0,
    ).learn(700)
    result = run_test(model, BitFlippingEnv(n_bits=4, discrete_obs_space=discrete), n_episodes=40, seed=0)
    assert result.success_rate == 1


@pytest.mark.parametrize(("name", "n_states"), [("MultiDiscrete", 6), ("MultiBinary", 8), ("Dict", 2)])
def test_a_table_has_a_row_for_every_state_of_discrete_parts(name, n_states):
    (table,) = make(TablePolicy, OTHER_SPACES[name]).q_net.parameters()
    assert table.shape[0] == n_states


@pytest.mark.parametrize("name", ["vector", "image", "mixed"])
def test_a_table_is_for_discrete_observations(name):
    space = OTHER_SPACES[name]
    with pytest.raises(ValueError, match=r"TablePolicy needs a Discrete observation space.*LecturePolicy"):
        make(TablePolicy, space)


@pytest.mark.parametrize("policy", [LecturePolicy, ActionInPolicy])
@pytest.mark.parametrize("space", [spaces.Tuple([spaces.Discrete(2)]), spaces.Text(3), spaces.MultiDiscrete([[2, 2]])])
def test_observations_that_no_network_takes_are_refused(policy, space):
    with pytest.raises(ValueError, match=r"observation space .* must be Discrete.*TupleToDictWrapper"):
        make(policy, space)
