"""Good models and runs, and archives of changed parts of them."""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from hashlib import sha256

import torch as th
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTestCallback
from sb3_lecture_dqn.saving.checkpoint_file import ARRAYS, STATE
from sb3_lecture_dqn.saving.codec import decode, encode
from sb3_lecture_dqn.saving.files import DESCRIPTION, MANIFEST

HUGE = 2**60


class Payload:
    """What a pickle of it does when it is loaded: make the canary file."""

    canary = ""

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


def make_model():
    kwargs = {"optimizer_class": th.optim.Adam, "hidden_dim": 4}
    return LectureDQN("FrozenLake-v1", seed=0, device="cpu", engine="torch", policy_kwargs=kwargs).learn(
        total_timesteps=60
    )


def make_run(folder, env_id):
    """:return: The last checkpoint of a run in a folder of `<folder>/runs`, which has its logs."""
    policy = {"FrozenLake-v1": "LecturePolicy", "CartPole-v1": "MlpPolicy"}[env_id]
    kwargs = {"hidden_dim": 4} if policy == "LecturePolicy" else {"net_arch": [4]}
    model = LectureDQN(
        policy,
        env_id,
        seed=0,
        device="cpu",
        engine="torch",
        policy_kwargs={"optimizer_class": th.optim.Adam, **kwargs},
        tensorboard_log=str(folder / "runs"),
    )
    saving = LectureCheckpointCallback(30, keep=1, verbose=0)
    model.learn(total_timesteps=60, callback=[saving, *callbacks_of(env_id)])
    return saving.last_path


def callbacks_of(env_id):
    return [LectureTestCallback(test_freq=50, n_test_episodes=1, max_episode_steps=20, verbose=0)]


def go_on(path):
    """Resume and train for a few steps; what is declared to be much work is not done."""
    model = LectureDQN.resume(path, device="cpu", exact=False)
    work = model.gradient_steps * model.batch_size * model.train_freq.frequency * model.n_envs
    if work > 10**4 or model.train_freq.unit != TrainFrequencyUnit.STEP:
        return model
    end = model.num_timesteps + 3
    stop = ConvertCallback(lambda local, _: local["self"].num_timesteps < end)
    saving = LectureCheckpointCallback(10**9, path.parent, keep=1, verbose=0)
    try:
        model.learn(callback=[saving, *callbacks_of(model.env_id), stop])
    finally:
        model.logger.close()  # and its threads
    return model


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(members, compression=zipfile.ZIP_STORED):
    """:param members: A dictionary, or pairs where a name occurs twice."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, content in members.items() if isinstance(members, dict) else members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, content)
    return file.getvalue()


def shifted(content):
    """The archive behind something else, in a file in which the places of all members are right."""
    file = io.BytesIO()
    file.write(b"evil")
    with zipfile.ZipFile(file, "a") as archive:
        for name, member in members_of(content).items():
            archive.writestr(name, member)
    return file.getvalue()


def with_checksums(members):
    """The archive with the checksums that its own `save` would have written."""
    described = json.loads(members[DESCRIPTION])
    described["members"] = {
        name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in members.items()
        if name != DESCRIPTION
    }
    return archive_of({**members, DESCRIPTION: json.dumps(described).encode()})


def checkpoint_of(members):
    """The same for a checkpoint."""
    manifest = json.loads(members[MANIFEST])
    manifest["parts"] = {
        name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in members.items()
        if name != MANIFEST
    }
    return archive_of({**members, MANIFEST: json.dumps(manifest).encode()})


def as_version_1(members):
    """The model as 1.0 wrote it, whose weights are read from the pickles."""
    described = json.loads(members[DESCRIPTION])
    del described["weights"]
    return {**members, DESCRIPTION: json.dumps({**described, "version": 1}).encode()}


class _FromFront:
    def __init__(self, content):
        self.content = io.BytesIO(content)

    def take(self, described, n_bytes):
        return self.content.read(n_bytes)


def with_arrays_in_json(members):
    """The checkpoint with the numbers of its arrays in its JSON, which may then be changed."""
    described, arrays = json.loads(members[STATE]), _FromFront(members[ARRAYS])

    def inlined(value):
        if isinstance(value, list):
            return [inlined(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "dtype" in value and "shape" in value and not value.keys() & {"all", "bytes"}:
            return encode(decode(value, {}, take=arrays.take), {})
        return {key: inlined(item) for key, item in value.items()}

    parts = {part: inlined(described[part]) for part in ("state", "callbacks", "parameters")}
    assert arrays.content.read() == b""
    return {**members, STATE: json.dumps({**described, **parts}).encode(), ARRAYS: b""}


def torch_file(content, **how):
    file = io.BytesIO()
    th.save(content, file, **how)
    return file.getvalue()


def torch_file_of(program, storages=()):
    """A file of ``torch.save`` with another program in it."""
    members = {"archive/data.pkl": program, "archive/byteorder": b"little", "archive/version": b"3\n"}
    return archive_of({**members, **{f"archive/data/{i}": content for i, content in enumerate(storages)}})


def tensor_program(length, size, stride, offset=0, dtype="FloatStorage"):
    """The pickle of ``{"x": tensor}`` that declares whatever it likes."""

    class _Storage:
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, obj):
            return ("storage", getattr(th, dtype), "0", "cpu", length) if isinstance(obj, _Storage) else None

    class Tensor:
        def __reduce__(self):
            return th._utils._rebuild_tensor_v2, (_Storage(), offset, size, stride, False, OrderedDict())

    file = io.BytesIO()
    Pickler(file, 2).dump({"x": Tensor()})
    return file.getvalue()
