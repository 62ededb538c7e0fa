import copy
import hashlib
import io
import json
import math
import tracemalloc
import zipfile

import pytest
import torch as th

from sb3_lecture_dqn import LectureDQN, UnsafeFileError
from sb3_lecture_dqn.common.checks import check_finite
from sb3_lecture_dqn.saving.codec import encoded
from sb3_lecture_dqn.saving.torch_file import read_tensors
from sb3_lecture_dqn.saving.weights_checks import AllocationLimit, check_optimizer_state, n_numbers
from tests.saving.helpers import poisoned


def test_paths_of_weights_are_made_for_messages_only():
    state = {"x" * 10**5: {i: float(i) for i in range(10_000)}}
    tracemalloc.start()
    try:
        check_finite(state)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
    with pytest.raises(UnsafeFileError, match=r"^a\[1\]\.b has weights that are NaN"):
        check_finite({"a": [1, {"b": th.tensor([1.0, math.nan])}]})


def test_a_few_weights_do_not_count_for_many():
    many = th.zeros(50_000)
    for again in ([many.view(-1) for _ in range(100)], [many] * 100):
        file = io.BytesIO()
        th.save(again, file)
        with pytest.raises(UnsafeFileError, match="the same numbers again and again"):
            read_tensors(file.getvalue())
    assert n_numbers({"policy": {"a": th.zeros(0), "b": th.zeros(3)}}) == 3
    with AllocationLimit(100):
        th.empty(60)
        th.empty(40)
        with pytest.raises(UnsafeFileError, match="for which there are no weights"):
            th.empty(1)
    with AllocationLimit(10**9), pytest.raises(UnsafeFileError, match="for which there are no weights"):
        [th.empty(1) for _ in range(20_000)]


@pytest.mark.parametrize("wrong", [{"step": [1]}, {"evil": [1]}, {"evil": "x"}, {"evil": {}}], ids=str)
def test_moments_are_tensors_or_numbers(wrong):
    parameter = th.nn.Parameter(th.zeros(2))
    optimizer = th.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0] |= {"more": th.zeros(3), "count": 3, "nothing": None}
    check_optimizer_state(state, optimizer)
    state["state"][0] |= wrong
    with pytest.raises((UnsafeFileError, AttributeError), match=r"does not fit it|no attribute 'dtype'"):
        check_optimizer_state(state, optimizer)


def learns(model):
    """Whether training changes its weights, which are those that its optimizer has."""
    before = copy.deepcopy(model.q_net.state_dict())
    parameters = {id(parameter) for parameter in model.q_net.parameters()}
    model.learn(total_timesteps=60)
    assert {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]} == parameters
    assert {id(parameter) for parameter in model.q_net.parameters()} == parameters
    assert all(parameter.dtype == th.float32 for parameter in model.policy.parameters())
    return any((before[name] != weight).any() for name, weight in model.q_net.state_dict().items())


SWITCHES = {"assign_to_params_buffers": True, "version": 1, "evil": [1]}


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_what_is_noted_beside_weights_does_not_reach_pytorch(engine, tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0, engine=engine)
    model.save(tmp_path / "model")

    def switch(weights):
        weights._metadata = {name: copy.deepcopy(SWITCHES) for name in weights._metadata}

    poisoned(tmp_path / "model.zip", switch)
    expected = copy.deepcopy(model.q_net.state_dict())
    loaded = LectureDQN.load(tmp_path / "model")
    by_file, by_dict = (LectureDQN("FrozenLake-v1", seed=1, engine=engine) for _ in range(2))
    by_file.set_parameters(tmp_path / "model")
    given = model.get_parameters()
    switch(given["policy"])
    by_dict.set_parameters(given)
    for other in (loaded, by_file, by_dict):
        assert all(other.q_net.state_dict()[name].equal(weight) for name, weight in expected.items())
        assert learns(other)
    assert given["policy"]._metadata[""] == SWITCHES  # the caller's own is as it was


@pytest.mark.parametrize("dtype", [th.float64, th.float16, th.bfloat16, th.int64, th.int8, th.bool], ids=str)
@pytest.mark.parametrize("network", ["q_net", "q_net_target"])
def test_weights_of_another_dtype_are_refused_by_name(dtype, network, tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0)
    key = f"{network}.layers.1.weight"

    def convert(weights):
        weights[key] = weights[key].to(dtype)

    model.save(tmp_path / "model")
    poisoned(tmp_path / "model.zip", convert)
    name = str(dtype).removeprefix("torch.")
    message = rf"policy\.{key} .*is {name} of shape \(64, 64\), and float32 of shape \(64, 64\) is expected"
    for load in (LectureDQN.load, model.set_parameters):
        with pytest.raises(UnsafeFileError, match=message.replace(" .*is", ".*is")):
            load(tmp_path / "model")
    model.save_checkpoint(tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    state = json.loads(parts["state.json"])
    given = model.get_parameters()
    n_bytes = sum(len(numbers) for numbers in encoded(given).contents)
    convert(given["policy"])
    changed = encoded(given)
    state["parameters"] = changed.description
    parts["arrays.bin"] = parts["arrays.bin"][:-n_bytes] + b"".join(changed.contents)
    parts["state.json"] = json.dumps(state).encode()
    manifest = json.loads(parts.pop("manifest.json"))
    manifest["parts"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in parts.items()
    }
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        for part, content in {**parts, "manifest.json": json.dumps(manifest)}.items():
            archive.writestr(part, content)
    with pytest.raises(UnsafeFileError, match=message.replace(" .*is", ".*is")):
        LectureDQN.resume(tmp_path / "run.zip")
    given = model.get_parameters()
    convert(given["policy"])
    if dtype.is_floating_point:  # which PyTorch rounds
        model.set_parameters(given)
        assert learns(model)
    else:
        with pytest.raises(ValueError, match=message.replace(" .*is", ".*is")):
            model.set_parameters(given)


def test_weights_that_would_overflow_are_refused():
    model = LectureDQN("FrozenLake-v1", seed=0)
    given = model.get_parameters()
    given["policy"]["q_net.layers.1.weight"] = th.full((64, 64), 1e300, dtype=th.float64)
    with pytest.raises(ValueError, match=r"policy\.q_net\.layers\.1\.weight is float64"):
        model.set_parameters(given)


@pytest.mark.parametrize("wrong", [th.zeros(3), th.zeros(16, 64, dtype=th.int8), "x"], ids=["shape", "dtype", "text"])
def test_moments_that_are_given_fit_too(wrong):
    model = LectureDQN("FrozenLake-v1", seed=0, policy_kwargs={"optimizer_class": th.optim.Adam}).learn(20)
    given = model.get_parameters()
    given["policy.optimizer"]["state"][0]["exp_avg"] = wrong
    with pytest.raises(ValueError, match="exp_avg of parameter 0 does not fit it"):
        model.set_parameters(given)
    given["policy.optimizer"]["state"][0]["exp_avg"] = th.ones(16, 64, dtype=th.float64)
    model.set_parameters(given)
    assert model.policy.optimizer.state_dict()["state"][0]["exp_avg"].dtype == th.float32


def test_of_a_file_that_need_not_match_the_known_weights_are_taken(tmp_path):
    model, other = LectureDQN("FrozenLake-v1", seed=0), LectureDQN("FrozenLake-v1", seed=1)
    model.save(tmp_path / "model")

    def rename(weights):
        weights["q_net.more"] = weights.pop("q_net.layers.0.weight")

    poisoned(tmp_path / "model.zip", rename)
    with pytest.raises(UnsafeFileError, match=r"policy has no 'q_net\.more'"):
        other.set_parameters(tmp_path / "model")
    other.set_parameters(tmp_path / "model", exact_match=False)
    same = [weight.equal(model.q_net.state_dict()[name]) for name, weight in other.q_net.state_dict().items()]
    assert same == [False] + [True] * (len(same) - 1)
