"""What the tests of files share."""

import contextlib
import hashlib
import io
import json
import resource
import signal
import sys
import zipfile

import torch as th
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.utils import LinearSchedule

from sb3_lecture_dqn import LectureDQN, LectureQRDQN

_unpickled: list[str] = []
sys.addaudithook(lambda event, args: _unpickled.append(".".join(args)) if event == "pickle.find_class" else None)


@contextlib.contextmanager
def no_unpickling():
    """Python itself says of every name that is looked up for a pickle."""
    before = len(_unpickled)
    yield
    names = _unpickled[before:]
    assert names == [], names


@contextlib.contextmanager
def files_of_at_most(n_bytes):
    """
    Within this context the system refuses to write more to a file of this process, as on a full disk.

    Output of pytest may be such a file too: leave the context before the test ends.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def same_state(a, b):
    return str(a.get_parameters()) == str(b.get_parameters())


class Own(th.nn.ReLU):
    pass


MODELS = {
    "lecture": lambda: LectureDQN("Taxi-v3", seed=0),
    "adam": lambda: LectureDQN("Taxi-v3", seed=0, engine="torch", policy_kwargs={"optimizer_class": th.optim.Adam}),
    "masks": lambda: LectureDQN("Taxi-v3", seed=0, use_masking=True),
    "quantiles": lambda: LectureQRDQN("Taxi-v3", seed=0, policy_kwargs={"n_quantiles": 5}),
    "mlp": lambda: LectureDQN(
        "MlpPolicy", "CartPole-v1", seed=0, policy_kwargs={"net_arch": [8], "activation_fn": th.nn.Tanh}
    ),
    "blackjack": lambda: LectureDQN("Blackjack-v1", seed=0),
    "linear": lambda: LectureDQN(
        "Taxi-v3", seed=0, exploration_decay=None, learning_rate=LinearSchedule(1e-3, 1e-4, 0.5), train_freq=(2, "step")
    ),
    "memory of SB3": lambda: LectureDQN("Taxi-v3", seed=0, replay_buffer_class=ReplayBuffer, buffer_size=20),
    "efficient memory of SB3": lambda: LectureDQN(
        "MlpPolicy",
        "CartPole-v1",
        seed=0,
        buffer_size=20,
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
    ),
    "n steps": lambda: LectureDQN("Taxi-v3", seed=0, n_steps=3, buffer_size=50),
    "dict memory of SB3": lambda: LectureDQN(
        "MultiInputPolicy", "Blackjack-v1", seed=0, replay_buffer_class=DictReplayBuffer, buffer_size=50
    ),
    "recommended settings": lambda: LectureDQN.tuned("Taxi-v3", seed=0),
    "one transition": lambda: LectureDQN("Taxi-v3", seed=0, store_and_replay=False),
}


def poisoned(path, change):
    """The model's file with other weights, and right checksums of them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = th.load(io.BytesIO(members["policy.pth"]))
    change(weights)
    file = io.BytesIO()
    th.save(weights, file)
    members["policy.pth"] = file.getvalue()
    description = json.loads(members.pop("sb3_lecture_dqn.json"))
    description["version"] = 1  # whose weights are read from the pickle
    del description["weights"]
    description["members"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "sb3_lecture_dqn.json": json.dumps(description)}.items():
            archive.writestr(name, content)


class OwnBuffer(ReplayBuffer):
    pass
