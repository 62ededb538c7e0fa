import io
import json
import zipfile

import pytest
import torch as th

from sb3_lecture_dqn import LectureDQN, UnsafeFileError
from sb3_lecture_dqn.saving import torch_file
from sb3_lecture_dqn.saving.weights import describe_weights, read_weights
from tests.saving.helpers import MODELS, same_state


def saved(value):
    file = io.BytesIO()
    th.save(value, file)
    return file.getvalue()


def of_one_memory():
    """As the compiled engine has them: a few tensors that are one flat array."""
    flat = th.arange(10.0)
    return {"a": flat[:4].view(2, 2), "b": flat[4:], "c": th.tensor([True]), "d": th.zeros(0), "lr": 0.5}


@pytest.mark.parametrize("value", [of_one_memory(), th.nn.BatchNorm1d(3).state_dict(), {}, [(th.zeros(()),)]], ids=str)
def test_weights_are_found_beside_the_pickle(value):
    content = saved(value)
    description = json.loads(json.dumps(describe_weights(content)))
    assert str(read_weights(content, description)) == str(value)


@pytest.mark.parametrize(
    "value",
    [{"a": th.zeros(4, 2).T}, [th.zeros(9)] * 2, {"a": th.zeros(9)[2:5]}, {"a": th.zeros(9), "b": len}],
    ids=["strided", "shared", "a part", "code"],
)
def test_where_only_the_pickle_says_which_they_are_they_are_not_described(value):
    with pytest.raises(UnsafeFileError):
        describe_weights(saved(value))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"at": ["0", 16]}, "numbers in common"),
        ({"at": ["0", 4]}, "numbers in common"),
        ({"at": ["0", 36]}, "declared beyond its numbers"),
        ({"at": ["1", 0]}, "declared beyond its numbers"),
        ({"shape": [3]}, "of no tensor"),
        ({"shape": [10]}, "again and again"),
        ({"shape": [11]}, "declared beyond its numbers"),
        ({"dtype": "float64"}, "again and again"),
        ({"dtype": "float16"}, "of no tensor"),
        ({"bytes": "AAAAAAAAAAAAAAAAAAAAAA=="}, "of no tensor"),
    ],
)
def test_numbers_belong_to_one_tensor_each(changes, reason):
    content = saved(of_one_memory())
    description = describe_weights(content)
    assert description["a"] == {"$": "tensor", "dtype": "float32", "shape": [2, 2], "at": ["0", 0]}
    description["a"] |= changes
    with pytest.raises(UnsafeFileError, match=reason):
        read_weights(content, description)


@pytest.mark.parametrize("make", [MODELS["lecture"], MODELS["adam"], MODELS["quantiles"]])
def test_a_models_pickles_are_not_looked_at(make, tmp_path, monkeypatch):
    model = make().learn(total_timesteps=20)
    model.save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        weights = json.loads(archive.read("sb3_lecture_dqn.json"))["weights"]
    assert len(json.dumps(weights)) < 0.1 * sizes["policy.pth"]  # and their numbers are not there twice
    monkeypatch.setattr(torch_file, "_TorchMachine", None)
    assert same_state(type(model).load(tmp_path / "model"), model)
    other = make()
    other.set_parameters(tmp_path / "model")
    assert same_state(other, model)


def test_weights_that_are_shared_or_strided_are_written_so_that_they_can_be_found(tmp_path):
    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0, engine="torch", policy_kwargs={"net_arch": [4, 4]})
    first, second = (
        module for module in model.q_net.modules() if isinstance(module, th.nn.Linear) and module.out_features == 4
    )
    with th.no_grad():
        second.bias = first.bias
        second.weight.data = second.weight.data.T
    model.save(tmp_path / "model")
    assert same_state(LectureDQN.load(tmp_path / "model"), model)
