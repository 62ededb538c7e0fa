"""Whatever a user changes between two steps, the compiled engine gives the results of PyTorch."""

import itertools
import threading
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_lecture_dqn import LectureDQN, LecturePolicy, SuccessFailReplayBuffer, make_env
from sb3_lecture_dqn.common.torch_layers import LectureNetwork
from sb3_lecture_dqn.engine.changes import UserCode, user_code

pytest.importorskip("numba")

OPTIMIZERS = {
    "sgd": {},
    "momentum": {"optimizer_kwargs": {"momentum": 0.9}},
    "adam": {"optimizer_class": th.optim.Adam},
}
LEARNING_RATES = {"sgd": 1e-2, "momentum": 1e-2, "adam": 1e-3}
MOMENTS = [1, 30]  # before the first update, and in the middle
STEPS_AFTER = 50  # with these rates, a change that has an effect is seen in the weights by then


def layers(model):
    return model.q_net.layers


def parameter(model, i=1, net="q_net"):
    return list(getattr(model, net).parameters())[i]


def with_data(i, net, make):
    def change(model):
        p = parameter(model, i, net)
        p.data = make(p.data)

    return change


def with_option(name, value):
    def change(model):
        model.policy.optimizer.param_groups[0][name] = value

    return change


def with_setting(name, value):
    return lambda model: setattr(model, name, value)


def halve(module, inputs, output):
    return output / 2


def halved(model, **kwargs):
    return lambda *args: type(model).forward(model, *args) / 2


class Halving(nn.Linear):
    def forward(self, x):
        return super().forward(x) / 2


class OtherNetwork(LectureNetwork):
    def forward(self, obs):
        return super().forward(obs) / 2


def replace_class(model):
    layers(model)[-1].__class__ = Halving


def replace_layer(model):
    layers(model)[1] = nn.Linear(16, 16)


def replace_layer_in_the_optimizer_too(model):
    replace_layer(model)
    model.policy.optimizer.param_groups[0]["params"][1:3] = list(layers(model)[1].parameters())


def replace_parameter(model):
    layers(model)[3].weight = nn.Parameter(layers(model)[3].weight.data * 1.5)


def replace_parameter_on_the_same_memory(model):
    layers(model)[2].weight = nn.Parameter(layers(model)[2].weight.data)


def remove_bias(model):
    layers(model)[1].bias = None


def add_group(model):
    model.policy.optimizer.add_param_group({"params": [parameter(model, 0, "q_net_target").requires_grad_()]})


def freeze_one(model):
    parameter(model, 3).requires_grad_(False)


def freeze_embedding(model):
    layers(model)[0].requires_grad_(False)


def new_optimizer(model):
    kind = type(model.policy.optimizer)
    model.policy.optimizer = kind(model.q_net.parameters(), **{**model.policy.optimizer.defaults, "lr": 1e-3})


def another_optimizer(model):
    model.policy.optimizer = th.optim.RMSprop(model.q_net.parameters(), lr=1e-3)


def new_state(model):
    for state in model.policy.optimizer.state.values():
        for name, moment in state.items():
            state[name] = th.ones_like(moment)


def no_state(model):
    model.policy.optimizer.state.clear()


def one_step_back(model):
    for state in [*model.policy.optimizer.state.values()][:1]:
        if "step" in state:
            state["step"] = th.tensor(1.0)


def load_optimizer(model):
    model.policy.optimizer.load_state_dict(model.policy.optimizer.state_dict())


def new_target(model):
    other = model.policy.make_q_net()
    model.policy.q_net_target = model.q_net_target = other.train(False)


def target_of_another_kind(model):
    model.policy.q_net_target = model.q_net_target = OtherNetwork(model.observation_space, model.action_space, 8)


def wider_target(model):
    model.policy.q_net_target = model.q_net_target = LectureNetwork(model.observation_space, model.action_space, 16)


def target_is_online(model):
    model.q_net_target = model.q_net


def target_on_the_memory_of_online(model):
    for own, other in zip(model.q_net.parameters(), model.q_net_target.parameters(), strict=True):
        other.data = own.data


def target_on_some_memory_of_online(model):
    parameter(model, 1, "q_net_target").data = parameter(model, 1).data


def only_the_models_network(model):
    model.q_net = model.policy.make_q_net()


def share_a_layer(model):
    model.q_net_target.layers[3] = layers(model)[3]


def own_memory(model):
    model.kept = th.full_like(parameter(model), 0.25)
    parameter(model).data = model.kept


def from_numpy(model):
    model.kept = np.full(tuple(parameter(model).shape), 0.25, np.float32)
    parameter(model).data = th.from_numpy(model.kept)


def in_double(model):
    model.q_net.double()
    model.q_net_target.double()


def there_and_back(model):
    model.policy.double()
    model.policy.float()


def new_memory(model):
    old = model.replay_buffer
    model.replay_buffer = SuccessFailReplayBuffer(20, old.observation_space, old.action_space, "cpu", seed=1)
    model.replay_buffer.set_state({**old.get_state(), "fail": old.fail.filled()[:20]})


def memory_of_sb3(model):
    model.replay_buffer = ReplayBuffer(50, model.observation_space, model.action_space, "cpu")
    add_some(model.replay_buffer)


def add_some(buffer):
    for s in range(4):
        args = (np.array([s]), np.array([s + 1]), np.array([[1]]), np.array([0.5], np.float32), np.array([False]))
        buffer.add(*args, [{}])


class Doubling(ReplayBuffer):
    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(rewards=2 * batch.rewards + 1)


def memory_of_the_users(model):
    model.replay_buffer = Doubling(50, model.observation_space, model.action_space, "cpu")
    add_some(model.replay_buffer)


def own_sample(model):
    sample = model.replay_buffer.sample

    def doubled(*args, **kwargs):
        batch = sample(*args, **kwargs)
        return batch._replace(rewards=2 * batch.rewards + 1)

    model.replay_buffer.sample = doubled


def own_predict(model):
    predict = model.policy.predict
    model.policy.predict = lambda obs, **kwargs: (0 * predict(obs, **kwargs)[0], None)


class NoFuture(LectureDQN):
    def compute_loss(self, batch):
        return super().compute_loss(batch._replace(dones=batch.dones * 0 + 1))


def another_loss(model):
    model.compute_loss = partial(NoFuture.compute_loss, model)


def set_from_a_thread(model):
    weights = {"policy": {name: w * 0.5 for name, w in model.policy.state_dict().items()}}
    thread = threading.Thread(target=partial(model.set_parameters, weights, exact_match=False))
    thread.start()
    thread.join()


def prune(model):
    nn.utils.prune.l1_unstructured(layers(model)[1], "weight", amount=0.5)


def step_is_halved(model):
    optimizer, step = model.policy.optimizer, model.policy.optimizer.step

    def half(*args, **kwargs):
        optimizer.param_groups[0]["lr"] *= 0.5
        return step(*args, **kwargs)

    optimizer.step = half


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


def parametrize(model):
    for network in (model.q_net, model.q_net_target):
        nn.utils.parametrize.register_parametrization(network.layers[1], "weight", Half())


CHANGES = {
    "requires_grad of one": freeze_one,
    "requires_grad of a layer": freeze_embedding,
    **{f"data of {net}'s {i}": with_data(i, net, lambda x: x * 0 + 0.05 * th.arange(x.numel()).view(x.shape).sin())
       for net in ("q_net", "q_net_target") for i in range(9)},
    "data transposed in place": with_data(1, "q_net", lambda x: x.T),
    "data with gaps": with_data(2, "q_net", lambda x: th.ones(2 * len(x))[::2]),
    "data expanded in place": with_data(2, "q_net", lambda x: x[:1].expand(16)),
    "data of another": own_memory,
    "data of NumPy": from_numpy,
    "double": in_double,
    "double and float": there_and_back,
    "shared memory": lambda model: model.q_net.share_memory(),
    "set_parameters": set_from_a_thread,
    "a layer": replace_layer,
    "a layer, also in the optimiser": replace_layer_in_the_optimizer_too,
    "a parameter": replace_parameter,
    "a parameter on the same memory": replace_parameter_on_the_same_memory,
    "no bias": remove_bias,
    "class of a layer": replace_class,
    "forward": lambda model: setattr(model.q_net, "forward", halved(model.q_net)),
    "forward of a layer": lambda model: setattr(layers(model)[5], "forward", halved(layers(model)[5])),
    "padding_idx": lambda model: setattr(layers(model)[0], "padding_idx", 0),
    "max_norm": lambda model: setattr(layers(model)[0], "max_norm", 0.5),
    "eval": lambda model: model.policy.set_training_mode(False),
    "train": lambda model: model.policy.train(True),
    "pruning": prune,
    "parametrization": parametrize,
    "forward hook": lambda model: layers(model)[5].register_forward_hook(halve),
    "forward hook of the network": lambda model: model.q_net.register_forward_hook(halve),
    "forward hook of the target": lambda model: model.q_net_target.layers[5].register_forward_hook(halve),
    "forward pre-hook": lambda model: layers(model)[1].register_forward_pre_hook(lambda m, x: (x[0] / 2,)),
    "backward hook": lambda model: layers(model)[5].register_full_backward_hook(lambda m, gi, go: (gi[0] / 2,)),
    "backward pre-hook": lambda model: layers(model)[5].register_full_backward_pre_hook(lambda m, go: (go[0] / 2,)),
    "tensor hook": lambda model: parameter(model).register_hook(lambda g: g / 2),
    "hook after accumulation": lambda model: parameter(model).register_post_accumulate_grad_hook(
        lambda p: p.grad.mul_(0.5)
    ),
    "step pre-hook": lambda model: model.policy.optimizer.register_step_pre_hook(
        lambda o, *_: o.param_groups[0].update(lr=0.02)
    ),
    "step post-hook": lambda model: model.policy.optimizer.register_step_post_hook(
        lambda o, *_: [p.data.mul_(0.999) for p in o.param_groups[0]["params"]]
    ),
    **{f"{name}={value!r}": with_option(name, value) for name, value in (
        ("lr", 0.5), ("momentum", 0.5), ("momentum", 0), ("dampening", 0.5), ("nesterov", True), ("weight_decay", 0.1),
        ("maximize", True), ("betas", (0.5, 0.9)), ("betas", (1.0, 0.9)), ("eps", 1e-2), ("amsgrad", True),
        ("foreach", True), ("fused", True), ("capturable", True), ("differentiable", True),
        ("decoupled_weight_decay", True), ("a note", "of the user's"),
    )},
    "a group": add_group,
    "an optimiser": new_optimizer,
    "another optimiser": another_optimizer,
    "step of the optimiser": step_is_halved,
    "state": new_state,
    "no state": no_state,
    "one step back": one_step_back,
    "state loaded": load_optimizer,
    "target": new_target,
    "target of another kind": target_of_another_kind,
    "wider target": wider_target,
    "target is online": target_is_online,
    "target on online's memory": target_on_the_memory_of_online,
    "target on some of online's memory": target_on_some_memory_of_online,
    "a shared layer": share_a_layer,
    "q_net of the model alone": only_the_models_network,
    **{f"{name}={value!r}": with_setting(name, value) for name, value in (
        ("gamma", 0.1), ("gamma", 1), ("gamma", np.float32(0.5)), ("gamma", th.tensor(0.5)), ("max_grad_norm", 0.01),
        ("max_grad_norm", 0), ("max_grad_norm", -0.01), ("loss", "huber"), ("loss", "l1"), ("double_q", True),
        ("double_dqn", False), ("batch_size", 3), ("gradient_steps", 2), ("tau", 0.5), ("target_update_interval", 7),
        ("engine", "torch"),
    )},
    "lr_schedule": with_setting("lr_schedule", lambda remaining: 0.01 * remaining),
    "another loss": another_loss,
    "memory": new_memory,
    "memory of SB3": memory_of_sb3,
    "memory of the user's": memory_of_the_users,
    "sample": own_sample,
    "predict": own_predict,
}  # fmt: skip


class Once(BaseCallback):
    """Change the model at one step."""

    def __init__(self, change, at):
        super().__init__()
        self.change, self.at = change, at

    def _on_step(self):
        if self.n_calls == self.at:
            self.change(self.model)
        return True


def make(engine, optimizer="sgd", **kwargs):
    policy_kwargs = {"hidden_dim": 8, **OPTIMIZERS[optimizer]}
    settings = {"gradient_steps": 1, "batch_size": 2, "target_update_interval": 25}
    settings["learning_rate"] = LEARNING_RATES[optimizer]
    return LectureDQN("FrozenLake-v1", engine=engine, seed=0, policy_kwargs=policy_kwargs, **{**settings, **kwargs})


def result(change, at, optimizer, engine):
    """The weights of both networks after a run in which a change was made, or the kind of error that it ended with."""
    model = make(engine, optimizer)
    th.manual_seed(1)
    try:
        model.learn(at + STEPS_AFTER, Once(change, at))
    except Exception as error:
        return model, f"{type(error).__name__}: {error}"
    networks = (model.q_net, model.q_net_target)
    return model, [p.detach().double().clone() for net in networks for p in net.parameters()]


def assert_is_pytorchs(name, at, optimizer):
    compiled, own = result(CHANGES[name], at, optimizer, "auto")
    _, expected = result(CHANGES[name], at, optimizer, "torch")
    if isinstance(expected, str) or isinstance(own, str):
        assert own == expected
        return
    assert len(own) == len(expected)
    for i, (one, other) in enumerate(zip(own, expected, strict=True)):
        assert one.shape == other.shape
        distance = float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))
        assert distance <= 1e-4, (i, distance, compiled.engine_in_use)


CASES = list(itertools.product(CHANGES, MOMENTS, OPTIMIZERS))
# What the other optimisers do not have, and nothing before the first update.
OF_MOMENTUM = ("momentum", "dampening", "nesterov")
OF_ADAM = ("betas", "eps", "amsgrad", "fused", "capturable", "differentiable", "state", "no state", "one step back")


def one_case_of_each():
    """Every change once; those that any optimiser feels at each moment and with each optimiser in turn."""
    for i, name in enumerate(CHANGES):
        option = name.split("=")[0]
        if option in OF_MOMENTUM:
            yield name, MOMENTS[1], "momentum"
        elif option in OF_ADAM:
            yield name, MOMENTS[1], "adam"
        else:
            yield name, MOMENTS[i % 2], list(OPTIMIZERS)[i // 2 % 3]


@pytest.mark.filterwarnings("ignore:For backward hooks to be called")
@pytest.mark.parametrize(("name", "at", "optimizer"), [*one_case_of_each()])
def test_a_change_between_two_steps_has_the_effect_that_it_has_in_pytorch(name, at, optimizer):
    assert_is_pytorchs(name, at, optimizer)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at", "optimizer"), CASES)
def test_every_change_at_every_moment_has_the_effect_that_it_has_in_pytorch(name, at, optimizer):
    assert_is_pytorchs(name, at, optimizer)


class Holding(BaseCallback):
    """Freezes a parameter, in one step, that it was given at another moment."""

    def __init__(self, when):
        super().__init__()
        self.when, self.kept = when, None

    def take(self, when):
        if when == self.when:
            self.kept = self.model.policy.optimizer.param_groups

    def _init_callback(self):
        self.take("init")

    def _on_training_start(self):
        self.take("start")

    def _on_training_end(self):
        self.take("end")

    def _on_step(self):
        if self.n_calls == 10:
            self.take("step")
        if self.n_calls == 50 and self.kept is not None:
            self.kept[0]["params"][3].requires_grad_(False)
            self.frozen = self.kept[0]["params"][3].detach().clone()
        return True


class Interrupted(Holding):
    def _on_step(self):
        if self.n_calls == 10:
            self.take("interrupt")
            raise KeyboardInterrupt
        return self.n_calls < 10


@pytest.mark.parametrize("when", ["before", "init", "start", "step", "end", "interrupt"])
def test_who_was_given_the_networks_at_any_moment_may_change_them_at_another(when):
    model = make("auto")
    assert not model._access.has_networks
    callback = Holding(when)
    if when == "before":
        callback.kept = model.policy.optimizer.param_groups
    if when == "end":
        model.learn(5, callback)
    if when == "interrupt":
        interrupted = Interrupted(when)
        with pytest.raises(KeyboardInterrupt):
            model.learn(20, interrupted)
        callback.kept = interrupted.kept
    model.learn(100, callback)
    assert model.engine_in_use == "torch"
    assert th.equal(parameter(model, 3), callback.frozen)


def test_an_environment_may_be_given_the_model():
    class Knowing(gym.Wrapper):
        def step(self, action):
            if model.num_timesteps == 50:
                model.q_net.requires_grad_(False)
                model.frozen = parameter(model).clone()
            return super().step(action)

    env = Knowing(gym.make("FrozenLake-v1"))
    model = LectureDQN(env, seed=0, policy_kwargs={"hidden_dim": 8})
    with pytest.raises(RuntimeError, match="does not require grad"):  # as PyTorch says of a loss without parameters
        model.learn(100)
    assert model.num_timesteps == 51
    assert th.equal(parameter(model), model.frozen)


def test_a_callback_that_asks_for_no_network_is_not_looked_after_closely():
    class Usual(BaseCallback):
        def _on_step(self):
            self.model.predict(0)
            self.logger.record("a/b", self.locals["rewards"][0])
            return True

    model = make("auto")
    model.learn(50, Usual())
    assert not model._access.has_networks


def test_what_it_cannot_follow_is_an_error_by_name_if_it_was_asked_for():
    for name, reason in (
        ("requires_grad of one", "q_net.layers.2.weight does not require a gradient"),
        ("maximize=True", "maximize=True"),
        ("forward hook", "q_net.layers.5 has one"),
        ("forward", "q_net.forward was replaced"),
        ("sample", "the replay buffer's sample was replaced"),
        (f"gamma={np.float32(0.5)!r}", f"gamma={np.float32(0.5)!r}"),
        ("data of another", "memory was replaced"),
        ("another loss", "LectureDQN.compute_loss, which was replaced"),
    ):
        model, error = result(CHANGES[name], 5, "sgd", "numba")
        assert "engine='numba' cannot be used" in error, name
        assert reason in error
        assert model.num_timesteps == 5  # nothing was trained after the change


def test_pytorch_takes_over_and_hands_back_and_each_is_said_once(capsys):
    class Thawing(BaseCallback):
        def _on_step(self):
            parameter(self.model, 3).requires_grad_(self.n_calls % 20 < 10)
            used.append(self.model.engine_in_use)
            return True

    used = []
    make("auto", verbose=1).learn(100, Thawing(), log_interval=None)
    lines = [line for line in capsys.readouterr().out.splitlines() if "engine" in line]
    assert lines == [
        "Using the numba engine",
        "Using the torch engine (engine='numba' cannot be used: it trains all parameters, and q_net.layers.2.weight "
        "does not require a gradient)",
    ]
    # A callback sees what made the last updates.
    assert used == [("torch" if n > 1 and (n - 1) % 20 >= 10 else "numba") for n in range(1, 101)]


def test_what_a_callback_leaves_alone_makes_no_other_learner():
    class Recording(BaseCallback):
        def _on_step(self):
            learners.append(self.model._engine)
            self.model.predict(0)
            self.model.gamma *= 0.999
            with th.no_grad():
                parameter(self.model).mul_(0.999)
            return True

    learners = []
    for optimizer in OPTIMIZERS:
        make("auto", optimizer).learn(100, Recording())
        assert len({*map(id, learners[-50:])}) == 1


@pytest.mark.parametrize("kept", [lambda model: parameter(model).data, lambda model: parameter(model).detach().numpy()])
def test_memory_that_somebody_else_holds_stays_where_it_is(kept):
    """Here the weights are exchanged for a while, as for a test with averaged ones, and then put back."""

    def exchange(model):
        model.backup = parameter(model).data
        model.view = kept(model)
        parameter(model).data = th.full_like(model.backup, 0.25)
        model.before = model.backup.clone()

    class ThereAndBack(Once):
        def _on_step(self):
            if self.n_calls == 80:
                assert th.equal(self.model.backup, self.model.before)
                parameter(self.model).data = self.model.backup
            return super()._on_step()

    runs = []
    for engine in ("auto", "torch"):
        model = make(engine)
        model.learn(150, ThereAndBack(exchange, 30))
        assert np.shares_memory(np.asarray(model.view), parameter(model).detach().numpy())
        runs.append(parameter(model).detach().clone())
    th.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)


class Greedy(LecturePolicy):
    """Acts in its own way."""

    def _predict(self, observation, deterministic=True):
        return super()._predict(observation, deterministic) * 0


class OwnValues(LectureDQN):
    def _action_values(self, obs):
        return -super()._action_values(obs)


@pytest.mark.parametrize(
    ("cls", "policy", "reason"),
    [
        (LectureDQN, Greedy, "Greedy._predict"),
        (OwnValues, "LecturePolicy", "OwnValues._action_values"),
        (NoFuture, "LecturePolicy", "NoFuture.compute_loss"),
    ],
)
def test_a_subclass_that_overrides_what_the_loops_stand_for_is_not_passed_over(cls, policy, reason, capsys):
    assert cls(policy, "FrozenLake-v1", verbose=1).engine_in_use == "torch"
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize("context", [th.autocast("cpu", dtype=th.bfloat16), th.no_grad()], ids=["autocast", "no_grad"])
def test_a_mode_of_pytorch_around_learn_is_pytorchs(context):
    model = make("auto")
    with context:
        try:
            model.learn(5)
        except RuntimeError as error:
            assert "does not require grad" in str(error)  # noqa: PT017
    assert model.engine_in_use == "torch"


def test_a_registered_global_hook_is_called():
    calls = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: calls.append(module))
    try:
        assert make("auto").learn(5).engine_in_use == "torch"
    finally:
        handle.remove()
    assert calls


class OnRolloutEnd(BaseCallback):
    def _on_rollout_end(self):
        pass

    def _on_step(self):
        return True


def code_in(callback=None, env=None, **kwargs):
    model = LectureDQN(env="FrozenLake-v1" if env is None else env, **kwargs)
    _, callback = model._setup_learn(10, callback)
    return user_code(model, callback)


class OnRolloutStart(BaseCallback):
    def _on_rollout_start(self):
        pass

    def _on_step(self):
        return True


@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
def test_no_time_is_spent_to_look_where_no_code_but_known_code_runs(tmp_path):
    env = DummyVecEnv([lambda: make_env("Taxi-v3")])
    for callback in (None, [], CheckpointCallback(10, str(tmp_path)), CallbackList([EvalCallback(env)])):
        assert code_in(callback) is UserCode.NEVER
        assert code_in(callback, env=env) is UserCode.NEVER
        assert code_in(callback, tensorboard_log=str(tmp_path)) is UserCode.NEVER


class UsersEnv(gym.Env):
    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return 0, {}


@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
def test_code_of_the_users_is_noticed():
    once = Once(None, 1)
    eval_of_the_users = EvalCallback(DummyVecEnv([UsersEnv]))
    stepping = (
        once,
        lambda *_: True,
        [once],
        CallbackList([EvalCallback(make_env("Taxi-v3"), once)]),
        eval_of_the_users,
    )
    for callback in stepping:
        assert code_in(callback) is UserCode.IN_STEPS
    wrapped = gym.wrappers.TransformReward(make_env("Taxi-v3"), lambda reward: reward)
    for env in (UsersEnv(), gym.Wrapper(UsersEnv()), DummyVecEnv([UsersEnv]), wrapped):
        assert code_in(env=env) is UserCode.IN_STEPS
    assert code_in(OnRolloutEnd()) is UserCode.BETWEEN_STEPS
    assert code_in(learning_rate=lambda remaining: 1e-3) is UserCode.BETWEEN_STEPS
    kwargs = {"success_criterion": lambda reward, terminal, info: terminal}
    assert code_in(replay_buffer_kwargs=kwargs) is UserCode.BETWEEN_STEPS

    assert code_in([OnRolloutStart()]) is UserCode.ALWAYS
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert code_in() is UserCode.ALWAYS
    finally:
        stop.set()
        thread.join()


def test_another_thread_may_change_what_it_likes():
    """The change is made at some step, so the frozen weights are compared with what they were when they were frozen."""
    model, frozen = make("auto"), []

    def freeze():
        while model._n_updates < 20 and training.is_set():
            pass
        parameter(model, 3).requires_grad_(False)

    training = threading.Event()
    training.set()
    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        model.learn(500)
    finally:
        training.clear()
        thread.join()
    frozen.append(parameter(model, 3).detach().clone())
    model.learn(50)
    assert th.equal(parameter(model, 3), frozen[0])
    assert model.engine_in_use == "torch"


def test_numbers_outside_the_spaces_are_refused_and_no_memory_of_others_is_touched():
    def add_wrong(model, state=0, next_state=0, action=0):
        row = (np.array([state]), np.array([next_state]), np.array([[action]]), np.array([1.0], np.float32))
        model.replay_buffer.add(*row, np.array([False]), [{}])

    for wrong in ({"state": 10**6}, {"next_state": -1}, {"action": 4}):
        for batch_size in (1, 4):
            model = make("auto", batch_size=batch_size)
            model.learn(20)
            add_wrong(model, **wrong)
            with pytest.raises(IndexError, match=r"a transition of the replay memory .* outside Discrete\(16\)"):
                model.train(500, batch_size)
    for wrong in (16, -1, 10**9):
        with pytest.raises(IndexError, match="is outside Discrete"):
            make("auto")._engine.greedy_actions(np.array([wrong]))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float32, np.float64])
def test_observations_of_any_type_are_acted_on_as_pytorch_does(dtype):
    states = np.arange(16)
    compiled, torch = make("auto"), make("torch")
    expected = torch._engine.greedy_actions(states)
    assert np.array_equal(compiled._engine.greedy_actions(states.astype(dtype)), expected)
    assert np.array_equal(compiled._engine.greedy_actions(states.astype(dtype)[:, None]), expected)
