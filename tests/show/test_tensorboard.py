"""The events of LectureTensorBoardCallback, read from the files; and that it does not change the training."""

import inspect

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from google.protobuf import text_format
from PIL import Image
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from sb3_lecture_dqn import (
    LectureDQN,
    LectureQRDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    TabularModel,
    exact_test,
    make_env,
)
from sb3_lecture_dqn.envs.grids import grid_layout
from sb3_lecture_dqn.evaluation.values import action_values
from sb3_lecture_dqn.show.hparams import X_AXES, HParamsCallback, model_settings


def learn(folder, callback=None, total_episodes=6, env="Taxi-v3", **kwargs):
    """Train for a few episodes with logs in a folder."""
    model = LectureDQN(env, **{"max_episode_steps": 20, "seed": 0, "gradient_steps": 1, **kwargs})
    model.set_logger(configure(str(folder), ["tensorboard"]))
    model.learn(callback=callback or quick(), total_episodes=total_episodes)
    model.logger.close()
    return model


def quick(**kwargs):
    return LectureTensorBoardCallback(
        **{"histogram_freq": (2, "episode"), "image_freq": (3, "episode"), "batch_size": 16, **kwargs}
    )


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "scalars": 0}).Reload()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model and its folder."""
    folder = tmp_path_factory.mktemp("run")
    return learn(folder), folder


def test_the_graph_shows_the_network(run):
    graph = read(run[1]).Graph()
    assert isinstance(graph, GraphDef)
    names = [node.name for node in graph.node]
    for layer in ("Embedding[0]", "Linear[1]", "PReLU[2]", "Linear[5]"):
        assert any(layer in name for name in names), layer


def test_there_are_histograms_of_all_weights_and_gradients(run):
    model, folder = run
    events, names = read(folder), [name for name, _ in model.q_net.named_parameters()]
    assert sorted(events.Tags()["histograms"]) == sorted(
        [f"weights/{name}" for name in names] + [f"gradients/{name}" for name in names]
    )
    weights = events.Histograms("weights/layers.1.weight")
    assert len(weights) == 4  # at the start, after episodes 2 and 4, and at the end
    assert weights[-1].step == model.num_timesteps
    last = model.q_net.get_parameter("layers.1.weight").detach().numpy()
    value = weights[-1].histogram_value
    assert (value.min, value.max) == (float(last.min()), float(last.max()))
    assert value.num == last.size
    assert value.sum == pytest.approx(float(last.sum(dtype=np.float64)), abs=1e-4)


def test_the_gradient_belongs_to_the_loss(tmp_path):
    """A memory of one transition has only one minibatch; the test computes its gradient."""
    callback = quick(batch_size=4)
    model = LectureDQN("Taxi-v3", seed=0, store_and_replay=False, double_dqn=False)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(3, callback=callback)
    rows = model.replay_buffer
    state, next_state, action = (
        th.as_tensor(array.ravel()) for array in (rows.observations, rows.next_observations, rows.actions)
    )
    with th.no_grad():
        target = float(rows.rewards[0, 0]) + 0.75 * model.q_net(next_state).max()
    loss = (model.q_net(state)[0, action.item()] - target) ** 2
    expected = th.autograd.grad(loss, list(model.q_net.parameters()))
    for (name, gradient), other in zip(callback._gradients().items(), expected, strict=True):
        assert th.allclose(gradient, other, rtol=1e-4, atol=1e-7), name


def test_the_memory_is_counted(run):
    model, folder = run
    events, memory = read(folder), model.replay_buffer
    last = {name: events.Scalars(f"memory/{name}")[-1].value for name in ("successes", "failures", "fill")}
    assert last == {"successes": memory.success_size, "failures": memory.fail_size, "fill": pytest.approx(0.083, abs=1)}
    assert last["fill"] == pytest.approx(memory.fail_size / 1000)


@pytest.mark.parametrize(
    ("success_fraction", "successes", "failures", "share"),
    [(None, 1, 3, 0.25), (0.5, 1, 3, 0.5), (0.5, 0, 3, 0.0), (0.5, 2, 0, 1.0), (None, 0, 0, 0.0)],
)
def test_the_share_of_successes_drawn(success_fraction, successes, failures, share):
    kwargs = {"success_fraction": success_fraction}
    model = LectureDQN("Taxi-v3", seed=0, replay_buffer_kwargs=kwargs)
    memory = model.replay_buffer
    for i in range(successes + failures):
        number = np.array([i])
        memory.add(number, number, number * 0, np.array([1.0]), np.array([i < successes]), [{}])
    callback = quick()
    callback.model = model
    assert callback._memory_scalars()["share_of_successes_drawn"] == share
    if share not in (0, 1):
        drawn = memory.draw(40_000) < successes
        assert drawn.mean() == pytest.approx(share, abs=0.02)


def test_the_distance_from_the_optimum(run):
    """Compare with values from plain loops over gymnasium's table."""
    model, folder = run
    P = gym.make("Taxi-v3").unwrapped.P
    optimal = np.zeros((500, 6))
    for _ in range(300):
        best = optimal.max(axis=1)
        optimal = np.array([[sum(p * (r + 0.75 * (not t) * best[n]) for p, n, r, t in P[s][a]) for a in range(6)]
                            for s in range(500)])  # fmt: skip
    # Without the states with the passenger at the destination: no episode begins or continues there.
    acting = [s for s in range(500) if (s // 4) % 5 != s % 4]
    with th.no_grad():
        values = model.q_net(th.arange(500)).numpy()
    errors = np.abs(values - optimal)[acting]
    right = [optimal[s, values[s].argmax()] >= optimal[s].max() - 1e-9 for s in acting]
    events = read(folder)
    last = {name: events.Scalars(f"q_error/{name}")[-1].value for name in ("mean_abs", "max_abs", "optimal_actions")}
    assert last["mean_abs"] == pytest.approx(errors.mean(), rel=1e-5)
    assert last["max_abs"] == pytest.approx(errors.max(), rel=1e-5)
    assert last["optimal_actions"] == pytest.approx(np.mean(right), rel=1e-5)


def test_a_table_of_the_optimal_values_is_without_error(tmp_path):
    model = LectureDQN("TablePolicy", "FrozenLake-v1", seed=0, gamma=0.9, gradient_steps=0)
    optimal = TabularModel.from_env("FrozenLake-v1").optimal_action_values(0.9)
    model.q_net.load_state_dict({"layers.0.weight": th.as_tensor(optimal, dtype=th.float32)})
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(callback=quick(), total_episodes=2)
    events = read(tmp_path)
    assert events.Scalars("q_error/max_abs")[-1].value < 1e-6
    assert events.Scalars("q_error/optimal_actions")[-1].value == 1.0
    # The pictures of the learned and the optimal values differ only in their titles.
    learned, optimum = (picture(events.Images(f"values/{name}")[-1]) for name in ("learned", "optimal"))
    assert learned.shape == optimum.shape
    assert np.array_equal(learned[36:], optimum[36:])
    assert not np.array_equal(learned[:36], optimum[:36])


def picture(event):
    import io

    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def test_there_are_pictures_over_time(run):
    model, folder = run
    events = read(folder)
    assert sorted(events.Tags()["images"]) == ["memory/states", "values/close_up", "values/learned", "values/optimal"]
    images = events.Images("values/learned")
    assert len(images) == 3  # at the start, after episode 3, and at the end
    assert images[0].step == 0
    assert images[-1].step == model.num_timesteps
    assert picture(images[0]).shape == picture(images[-1]).shape
    assert not np.array_equal(picture(images[0]), picture(images[-1]))
    assert len(events.Images("values/optimal")) == 1


def projector(folder):
    """Return the rows of the only embedding, its header and its labels. It is there with coloured and plain points."""
    config = (folder / "projector_config.pbtxt").read_text(encoding="utf-8")
    assert config.count("tensor_name") == 2
    (tensors,) = (folder / "projector").rglob("tensors.tsv")
    header, *lines = (tensors.parent / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    return np.loadtxt(tensors, delimiter="\t"), header.split("\t"), [line.split("\t") for line in lines]


def test_the_projector_names_the_states_of_taxi(run):
    model, folder = run
    rows, header, lines = projector(folder)
    assert header == ["label", "taxi row", "taxi column", "passenger", "destination",
                      "optimal action", "greedy action", "optimal value", "value"]  # fmt: skip
    assert rows.shape == (400, 64)
    assert len(lines) == 400
    weights = model.q_net.layers[0].weight.detach().numpy()
    env = gym.make("Taxi-v3").unwrapped
    state = env.encode(2, 3, 4, 1)  # in row 2, column 3, passenger in the taxi, to go to the green place
    (line,) = [i for i, line in enumerate(lines) if line[1:5] == ["2", "3", "in taxi", "G"]]
    assert np.allclose(rows[line], weights[state], atol=1e-5)
    assert lines[line][0] == "taxi row 2, taxi column 3, passenger in taxi, destination G"
    assert lines[line][5] == "north"
    # three moves and the drop-off: 20 γ³ - (1 + γ + γ²)
    assert float(lines[line][7]) == pytest.approx(20 * 0.75**3 - 1 - 0.75 - 0.75**2, abs=1e-3)
    with th.no_grad():
        values = model.q_net(th.tensor([state]))[0]
    assert lines[line][6] == ["south", "north", "east", "west", "pick up", "drop off"][int(values.argmax())]
    assert float(lines[line][8]) == pytest.approx(float(values.max()), abs=1e-3)


def test_the_points_of_the_projector_are_coloured_by_the_optimal_action(run):
    config = text_format.Parse((run[1] / "projector_config.pbtxt").read_text(encoding="utf-8"), ProjectorConfig())
    coloured, plain = config.embeddings
    assert plain.tensor_name == "embedding of 400 states, plain points"
    assert coloured.tensor_name == "embedding of 400 states, by optimal action"
    assert coloured.tensor_name < plain.tensor_name, "the projector begins with the first name of the alphabet"
    assert not plain.HasField("sprite")
    assert coloured.tensor_path == plain.tensor_path
    width, height = coloured.sprite.single_image_dim
    points = np.asarray(Image.open(run[1] / coloured.sprite.image_path))
    n_columns = points.shape[1] // width
    _, header, lines = projector(run[1])
    actions = [line[header.index("optimal action")] for line in lines]
    colours = {}
    for place, action in enumerate(actions):
        row, column = divmod(place, n_columns)
        point = points[row * height : (row + 1) * height, column * width : (column + 1) * width]
        colours.setdefault(action, set()).add(tuple(point[height // 2, 4].tolist()))
    assert all(len(found) == 1 for found in colours.values()), "one colour for an action"
    assert len(set.union(*colours.values())) == len(colours) == 6, "and another for another"


def test_the_close_up_shows_learned_and_optimal_values_in_the_same_way(tmp_path):
    """A model whose greedy actions and highest values are optimal: both halves are equal."""
    model = LectureDQN("TablePolicy", "Taxi-v3", seed=0, learning_rate=0.0)
    optimal = TabularModel.from_env("Taxi-v3").optimal_action_values(model.gamma)
    model.q_net.layers[0].weight.data[:] = th.as_tensor(optimal, dtype=th.float32)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(1, quick())
    (first, *_) = read(tmp_path).Images("values/close_up")
    seen = picture(first)
    assert 320 <= first.width <= 640
    # Cells are 0.36 inches of 120 pixels, the margin 0.15, the title 0.5; the halves are 6 cells apart.
    cell, left, above = 0.36 * 120, 0.15 * 120, 0.5 * 120
    rows = slice(int(above + 0.1 * cell), int(above + 10.9 * cell))
    learned, right = (seen[rows, int(left + x * cell) : int(left + x * cell) + int(4.8 * cell)] for x in (0.1, 6.1))
    below_titles = slice(int(0.2 * cell), int(4.7 * cell))
    assert np.abs(learned[below_titles].astype(int) - right[below_titles]).mean() < 12
    assert not np.array_equal(learned, np.full_like(learned, 255))


@pytest.mark.parametrize(
    ("env_id", "size"), [("Taxi-v3", (11, 11)), ("FrozenLake-v1", (4, 9)), ("CliffWalking-v1", (9, 12))]
)
def test_both_sides_of_the_close_up_have_room(env_id, size):
    layout = grid_layout(make_env(env_id))
    both = layout.side_by_side(("a", "b"), [1, 18] if len(layout.cases) > 1 else [0])
    assert len(both.cells) == len(both.case_of) == 2 * len(layout.cells)
    assert len(both.cases) == 2 * len(layout.cases)
    rows, columns = np.array([case.at for case in both.cases]).max(axis=0) + 1
    height, width = layout.shape
    assert (rows * (height + 1) - 1, columns * (width + 1) - 1) == size


@pytest.mark.parametrize(
    "budget",
    [{"total_episodes": 40}, pytest.param({"total_timesteps": 200}, marks=pytest.mark.slow), {"total_episodes": 3}],
)
def test_there_are_about_ten_pictures_and_histograms_whatever_the_budget(budget, tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0, gradient_steps=0)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(**budget, callback=LectureTensorBoardCallback())
    events, few = read(tmp_path), budget == {"total_episodes": 3}
    assert len(events.Images("values/learned")) == (4 if few else 11)
    assert len(events.Histograms("weights/layers.0.weight")) == (4 if few else 11)
    model.learn(**budget, callback=LectureTensorBoardCallback(), reset_num_timesteps=False)
    assert 4 <= len(read(tmp_path).Images("values/learned")) <= (8 if few else 22)


def test_stock_algorithms_have_about_ten_pictures_too(tmp_path):
    model = DQN("MlpPolicy", "FrozenLake-v1", seed=0, learning_starts=1000)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(100, callback=LectureTensorBoardCallback())
    assert len(read(tmp_path).Images("values/learned")) == 11


def test_the_projector_names_the_parts_of_a_dict_observation(tmp_path):
    model = LectureDQN("Blackjack-v1", seed=0)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(callback=quick(), total_episodes=3)
    (labels,) = (tmp_path / "projector").rglob("metadata.tsv")
    lines = labels.read_text(encoding="utf-8").splitlines()
    embedding = next(module for module in model.q_net.modules() if isinstance(module, th.nn.Embedding))
    assert len(lines) == embedding.num_embeddings == 32 + 11 + 2
    assert lines[0].endswith(" = 0")
    assert lines[-1].endswith(" = 1")
    events = read(tmp_path)
    assert events.Tags()["images"] == []  # the environment is not tabular
    assert events.Scalars("final/steps")[-1].value >= 1


def test_the_settings_and_the_final_figures_are_in_hparams(run):
    model, folder = run
    events = read(folder)
    assert events.PluginTagToContent(hparams_metadata.PLUGIN_NAME).keys() == {
        hparams_metadata.EXPERIMENT_TAG,
        hparams_metadata.SESSION_START_INFO_TAG,
        hparams_metadata.SESSION_END_INFO_TAG,
    }
    content = events.PluginTagToContent(hparams_metadata.PLUGIN_NAME)[hparams_metadata.SESSION_START_INFO_TAG]
    settings = hparams_metadata.parse_session_start_info_plugin_data(content).hparams
    assert settings["gamma"].number_value == 0.75
    assert settings["env_id"].string_value == "Taxi-v3"
    assert settings["double_dqn"].string_value == "True"
    assert settings["learning_rate"].number_value == 0.001
    result = exact_test(model, max_episode_steps=20)
    for name in ("reward", "steps", "penalties", "success_rate", "optimality"):
        expected = getattr(result, name if name in ("success_rate", "optimality") else f"mean_{name}")
        assert events.Scalars(f"final/{name}")[-1].value == pytest.approx(expected, rel=1e-5)


def test_a_note_says_what_the_axes_count(run):
    (event,) = read(run[1]).Tensors("x axes of the curves/text_summary")
    assert event.tensor_proto.string_val[0].decode() == X_AXES


def test_the_callback_of_every_run_writes_settings_results_and_the_note_and_needs_no_matplotlib(tmp_path):
    with_pictures = learn(tmp_path / "a", quick())
    model = learn(tmp_path / "b", HParamsCallback())
    one, other = (read(tmp_path / name) for name in "ab")
    assert other.Tags()["tensors"] == ["x axes of the curves/text_summary"]
    assert other.Tags()["images"] == other.Tags()["histograms"] == []
    assert not other.Tags()["graph"]
    for name in ("reward", "steps", "penalties", "success_rate", "optimality"):
        assert one.Scalars(f"final/{name}")[-1].value == other.Scalars(f"final/{name}")[-1].value
    plugin = hparams_metadata.PLUGIN_NAME
    assert one.PluginTagToContent(plugin).keys() == other.PluginTagToContent(plugin).keys()
    assert all(map(th.equal, model.policy.parameters(), with_pictures.policy.parameters()))


def hparams_of(model):
    return {name: value for name, value in model_settings(model).items() if name not in ("algorithm", "policy")}


OTHER_SETTINGS = {
    "learning_rate": 0.5,
    "buffer_size": 7,
    "learning_starts": 3,
    "batch_size": 2,
    "tau": 0.5,
    "gamma": 0.9,
    "train_freq": (2, "episode"),
    "gradient_steps": 2,
    "replay_buffer_class": ReplayBuffer,
    "replay_buffer_kwargs": {"deduplicate": False},
    "n_steps": 2,
    "target_update_interval": 3,
    "exploration_fraction": 0.2,
    "exploration_initial_eps": 0.5,
    "exploration_final_eps": 0.2,
    "max_grad_norm": 1.0,
    "stats_window_size": 5,
    "policy_kwargs": {"hidden_dim": 8},
    "seed": 3,
    "exploration_decay": 0.5,
    "store_and_replay": False,
    "double_dqn": False,
    "double_q": True,
    "loss": "huber",
    "max_episode_steps": 7,
    "engine": "torch",
    "use_masking": True,
    "explore_least_tried": True,
}


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN, DQN, QRDQN])
def test_runs_that_differ_in_any_keyword_of_the_constructor_differ_in_hparams(algorithm):
    """Also every future keyword: the list comes from the constructor."""
    keywords = inspect.signature(algorithm).parameters
    default = hparams_of(algorithm("MlpPolicy", "FrozenLake-v1"))
    untried = {"policy", "env", "tensorboard_log", "verbose", "_init_setup_model", "optimize_memory_usage", "device"}
    untried |= {"replay_buffer_class"} if algorithm in (DQN, QRDQN) else set()
    for name in keywords.keys() - untried:
        if algorithm in (DQN, QRDQN) and name == "policy_kwargs":
            given = {"net_arch": [8]}
        elif algorithm in (DQN, QRDQN) and name == "replay_buffer_kwargs":
            given = {"handle_timeout_termination": False}
        else:
            given = OTHER_SETTINGS[name]
        if name == "use_masking" or (name == "policy_kwargs" and algorithm not in (DQN, QRDQN)):
            changed = hparams_of(algorithm("LecturePolicy", "Taxi-v3", **{name: given}))
            assert changed[name] != default[name]
            continue
        changed = hparams_of(algorithm("MlpPolicy", "FrozenLake-v1", **{name: given}))
        assert changed[name] != default[name], name


def test_every_entry_of_a_dictionary_of_settings_is_a_column_too():
    kwargs = {"optimizer_class": th.optim.Adam, "optimizer_kwargs": {"eps": 1e-3}, "hidden_dim": 8}
    model = LectureDQN(
        "FrozenLake-v1", policy_kwargs=kwargs, replay_buffer_kwargs={"success_fraction": 0.5}, learning_rate=lambda p: p
    )
    model.replay_buffer_kwargs = {**model.replay_buffer_kwargs, "gamma": 3}
    shown = model_settings(model)
    assert (shown["hidden_dim"], shown["eps"], shown["success_fraction"]) == (8, 1e-3, 0.5)
    assert shown["optimizer_class"] == "Adam"
    assert (shown["gamma"], shown["replay_buffer_kwargs.gamma"]) == (0.75, 3)
    # No addresses in memory, which differ in every run.
    assert shown["learning_rate"].endswith("<lambda>: 1, 0.5, 0")
    assert all(type(value) in (int, float, str) and "0x" not in str(value) for value in shown.values())


def test_keywords_of_a_class_of_ones_own_are_shown_with_those_it_hands_on():
    class Own(LectureDQN):
        def __init__(self, *args, courage=3, **kwargs):
            self.courage = courage
            super().__init__(*args, **kwargs)

    shown = model_settings(Own("FrozenLake-v1", gamma=0.5))
    assert (shown["courage"], shown["gamma"], shown["algorithm"]) == (3, 0.5, "Own")


SMALL = {"batch_size": 4, "engine": "torch", "env": "FrozenLake-v1"}


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "numba"},
        {**SMALL, "policy_kwargs": {"optimizer_class": th.optim.Adam}, "double_q": True},
        {**SMALL, "replay_buffer_kwargs": {"success_fraction": 0.5}},
        {**SMALL, "n_steps": 3},  # SB3's replay buffer draws from NumPy's global generator
    ],
    ids=["numba", "adam", "success_fraction", "n_steps"],
)
def test_training_is_the_same_to_the_last_bit(tmp_path, settings):
    with_callback = learn(tmp_path / "a", quick(histogram_freq=5, image_freq=100), **settings)
    after = np.random.random()  # noqa: NPY002
    without = learn(tmp_path / "b", LectureTestCallback(verbose=0, n_test_episodes=1), **settings)
    assert with_callback.num_timesteps == without.num_timesteps
    for name, weights in without.policy.state_dict().items():
        assert th.equal(weights, with_callback.policy.state_dict()[name]), name
    assert with_callback.exploration_rng.bit_generator.state == without.exploration_rng.bit_generator.state
    if "n_steps" not in settings:
        ours, theirs = with_callback.replay_buffer.get_state(), without.replay_buffer.get_state()
        assert ours["rng"] == theirs["rng"]
        assert np.array_equal(ours["fail"], theirs["fail"])
    assert after == np.random.random()  # noqa: NPY002


def test_a_run_that_continues_hides_the_events_that_it_overwrites(tmp_path):
    """A run that crashed after 200 steps continues from the model of step 100."""
    model = LectureDQN("FrozenLake-v1", seed=0, gradient_steps=0)
    for budget, anew in ((100, True), (100, False)):
        model.set_logger(configure(str(tmp_path), ["tensorboard"]))
        model.learn(budget, callback=quick(histogram_freq=20, image_freq=50), reset_num_timesteps=anew)
        model.logger.close()
        if anew:
            model.save(tmp_path / "model")
    crashed = read(tmp_path)
    assert crashed.Scalars("q_error/max_abs")[-1].step == 200
    model = LectureDQN.load(tmp_path / "model")
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(60, callback=quick(histogram_freq=30, image_freq=50), reset_num_timesteps=False)
    model.logger.close()
    resumed = read(tmp_path)
    steps = [event.step for event in resumed.Scalars("q_error/max_abs")]
    assert steps == [0, 20, 40, 60, 80, 100, 120, 150, 160]
    assert [event.step for event in resumed.Images("values/learned")][-2:] == [150, 160]
    assert [event.step for event in resumed.Histograms("weights/layers.0.weight")] == steps


@pytest.mark.parametrize("algorithm", [QRDQN, pytest.param(DQN, marks=pytest.mark.slow)])
def test_it_works_with_the_algorithms_of_sb3(tmp_path, algorithm):
    model = algorithm("MlpPolicy", "FrozenLake-v1", seed=0, learning_starts=10, buffer_size=100)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(150, callback=quick(histogram_freq=50, image_freq=50))
    tags = read(tmp_path).Tags()
    assert {"values/learned", "values/optimal", "memory/states"} <= set(tags["images"])
    assert any(tag.startswith("gradients/") for tag in tags["histograms"])
    assert {"q_error/mean_abs", "memory/fill", "final/reward"} <= set(tags["scalars"])
    assert tags["graph"]


@pytest.mark.parametrize("algorithm", [LectureDQN, pytest.param(LectureQRDQN, marks=pytest.mark.slow)])
def test_masks_count(tmp_path, algorithm):
    """All greedy actions are valid."""
    model = algorithm("Taxi-v3", seed=0, use_masking=True, max_episode_steps=20)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(40, callback=quick())
    _, header, lines = projector(tmp_path)
    env = gym.make("Taxi-v3").unwrapped
    names, greedy = ["south", "north", "east", "west", "pick up", "drop off"], header.index("greedy action")
    acting = np.flatnonzero(TabularModel.from_env(env).acting_states()).tolist()
    assert all(env.action_mask(s)[names.index(line[greedy])] for s, line in zip(acting, lines, strict=True))
    assert any(tag.startswith("gradients/") for tag in read(tmp_path).Tags()["histograms"])
    assert np.isfinite(read(tmp_path).Scalars("q_error/max_abs")[-1].value)


@pytest.mark.slow
def test_the_arrows_of_a_tuned_model_are_optimal():
    """Every action on the value map is optimal by the exact values."""
    model = LectureDQN.tuned("Taxi-v3", seed=0).learn()
    table = TabularModel.from_env("Taxi-v3")
    states, optimal = np.flatnonzero(table.acting_states()), table.optimal_action_values(model.gamma)
    arrows = action_values(model, np.arange(500)).argmax(axis=1)[states]
    best = optimal[states].max(axis=1)
    assert (optimal[states, arrows] >= best - 1e-9).all()


def test_a_logger_without_tensorboard_is_an_error():
    model = LectureDQN("Taxi-v3", seed=0)
    with pytest.raises(ValueError, match="does not write to TensorBoard; give the model a tensorboard_log"):
        model.learn(3, callback=quick())


def test_a_model_without_action_values_is_an_error(tmp_path):
    model = PPO("MlpPolicy", "FrozenLake-v1", n_steps=4, batch_size=4, tensorboard_log=str(tmp_path))
    with pytest.raises(ValueError, match="a PPO has no action values"):
        model.learn(4, callback=quick())


@pytest.mark.parametrize(("argument", "value"), [("histogram_freq", 0), ("image_freq", (3, "day")), ("batch_size", 0)])
def test_a_bad_argument_is_named(argument, value):
    with pytest.raises(ValueError, match=argument):
        LectureTensorBoardCallback(**{argument: value})
