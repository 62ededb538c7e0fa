"""
Export a trained policy for use without SB3: to ONNX for onnxruntime, and to TorchScript for PyTorch, also in C++.
(PyTorch 2.13 still writes TorchScript, but calls it deprecated.)

    pip install onnx onnxscript onnxruntime
    python examples/recipes/export.py
"""

import numpy as np
import onnxruntime
import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_lecture_dqn import LectureDQN


class GreedyActions(th.nn.Module):
    """
    The greedy actions of a policy of `LectureDQN` and SB3's `DQN`.

    :param q_net: The network
    """

    def __init__(self, q_net: BasePolicy) -> None:
        super().__init__()
        self.q_net = q_net

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.q_net(observations).argmax(dim=1)


def export(model: LectureDQN, observations: np.ndarray, path: str) -> None:
    """
    Write `path`.onnx and `path`.pt, and compare their actions with the model's.

    :param model: The model
    :param observations: Observations to compare on; the files take any number of them
    :param path: Path without extension
    """
    greedy = GreedyActions(model.policy.q_net).cpu().eval()
    example = (th.as_tensor(observations[:2]),)
    th.onnx.export(
        greedy,
        example,
        f"{path}.onnx",
        input_names=["observations"],
        output_names=["actions"],
        dynamic_shapes=({0: th.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
    )
    th.jit.trace(greedy, example).save(f"{path}.pt")

    expected, _ = model.predict(observations, deterministic=True)
    session = onnxruntime.InferenceSession(f"{path}.onnx")
    (by_onnx,) = session.run(None, {"observations": observations})
    by_torchscript = th.jit.load(f"{path}.pt")(th.as_tensor(observations)).numpy()
    assert (by_onnx == expected).all()
    assert (by_torchscript == expected).all()
    print(f"{path}: {len(expected)} equal actions")


if __name__ == "__main__":
    model = LectureDQN("Taxi-v3", seed=0).learn(2000)
    export(model, np.arange(500), "taxi")  # int64: the numbers of all states
    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0).learn(500)
    draws = np.random.default_rng(0).normal(size=(100, 4))
    export(model, draws.astype(np.float32), "cartpole")
