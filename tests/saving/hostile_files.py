"""
Files that try to harm whoever loads them. As a script, it loads them all in a process with little memory:
``python tests/saving/hostile_files.py <folder>`` writes ``results.json`` there: what came of each.
"""

import base64
import copy
import functools
import io
import json
import os
import pickle
import resource
import signal
import struct
import sys
import traceback
import warnings
import zipfile
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTestCallback, UnsafeFileError
from sb3_lecture_dqn.saving.checkpoint_file import ARRAYS, STATE
from sb3_lecture_dqn.saving.codec import decode, encode
from sb3_lecture_dqn.saving.files import DESCRIPTION, MANIFEST, MEMORY

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
    model = LectureDQN.resume(path, device="cpu")
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
            return encode(decode(value, {}, arrays=arrays), {})
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


def payloads(good):
    """A pickle that runs something in every member, with the checksums of before and with right ones."""
    members = members_of(good)
    raw = pickle.dumps(Payload())
    state = {"state": {}, "param_groups": [{"lr": Payload(), "params": [0]}]}
    evil = {
        "pickle": raw,
        "torch": torch_file({"x": Payload()}),
        "legacy": torch_file({"x": Payload()}, _use_new_zipfile_serialization=False),
        "state": torch_file(state),
        "os.system": torch_file_of(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."),
    }
    for name in members:
        for kind, content in evil.items():
            yield f"{kind} in {name}", archive_of({**members, name: content})
            if name not in (DESCRIPTION, "data"):
                yield f"{kind} in {name}, right checksums", with_checksums({**members, name: content})
    for kind, content in evil.items():
        yield f"{kind} in policy.pth of version 1", with_checksums(as_version_1({**members, "policy.pth": content}))
    data = json.loads(members["data"])
    for key in ("policy_class", "observation_space", "lr_schedule"):
        serialized = base64.b64encode(raw).decode()
        changed = json.dumps({**data, key: {":type:": "x", ":serialized:": serialized}}).encode()
        yield f"pickle in data[{key}]", archive_of({**members, "data": changed})
        yield f"pickle in data[{key}], right checksums", with_checksums({**members, "data": changed})


def weights(good):
    """In pickles, which are read in files of version 1."""
    members = as_version_1(members_of(good))
    policy, optimizer = (th.load(io.BytesIO(members[name])) for name in ("policy.pth", "policy.optimizer.pth"))
    first = next(iter(policy))

    def swapped(name, content):
        return with_checksums({**members, name: content})

    for value in (np.nan, np.inf):
        poisoned = {**policy, first: th.full_like(policy[first], value)}
        yield f"{value} in weights", swapped("policy.pth", torch_file(poisoned))
        moments = {**optimizer, "state": {**optimizer["state"]}}
        moments["state"][0] = {**moments["state"][0], "exp_avg": th.full_like(policy[first], value)}
        yield f"{value} in a moment", swapped("policy.optimizer.pth", torch_file(moments))
    wrong_moments = {"exp_avg": th.zeros(3), "step": th.zeros(3), "exp_avg_sq": 3, "evil": [1, 2]}
    for name, wrong in wrong_moments.items():
        moments = {**optimizer, "state": {0: {**optimizer["state"][0], name: wrong}}}
        yield f"{name} of another shape", swapped("policy.optimizer.pth", torch_file(moments))
    for dtype in (th.float64, th.float16, th.bfloat16, th.int8, th.bool):
        converted = {**policy, first: policy[first].to(dtype)}
        yield f"weights of {dtype}", swapped("policy.pth", torch_file(converted))
        moments = {**optimizer["state"][0], "exp_avg": optimizer["state"][0]["exp_avg"].to(dtype)}
        changed = {**optimizer, "state": {**optimizer["state"], 0: moments}}
        yield f"a moment of {dtype}", swapped("policy.optimizer.pth", torch_file(changed))
    yield "a weight too many", swapped("policy.pth", torch_file({**policy, "\x1b[31mq_net.evil": policy[first]}))
    many_names = {f"{first}{i}": th.zeros(0) for i in range(30_000)}
    yield "many weights of nothing", swapped("policy.pth", torch_file({**policy, **many_names}))
    yield "weights of another shape", swapped("policy.pth", torch_file({**policy, first: th.zeros(2)}))
    yield "weights under another name", swapped("policy.pth", torch_file({"x": th.zeros(2)}))
    shared = ()
    for _ in range(60):
        shared = (shared, shared)  # written once each, and 2^60 for whoever does not know
    moments = {**optimizer, "state": {0: {**optimizer["state"][0], "evil": shared}}}
    yield "shared tuples in a moment", swapped("policy.optimizer.pth", torch_file(moments))
    options = {**optimizer, "param_groups": [{**group, "lr": shared} for group in optimizer["param_groups"]]}
    yield "shared tuples in an option", swapped("policy.optimizer.pth", torch_file(options))
    many = th.zeros(50_000)
    yield "many views of weights", swapped("policy.pth", torch_file({str(i): many.view(-1) for i in range(1000)}))
    yield "a weight many times", swapped("policy.pth", torch_file({str(i): many for i in range(1000)}))
    yield "no weights", swapped("policy.pth", torch_file([1, 2]))
    yield "a text for a weight", swapped("policy.pth", torch_file({**policy, first: "x"}))
    yield "weights of another module", archive_of({**members, "__class__.pth": members["policy.pth"]})
    yield "weights of another module, right", with_checksums({**members, "__class__.pth": members["policy.pth"]})
    one = [struct.pack("<f", 1.0)]
    doubling = b")q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(64))
    programs = {
        "a huge storage": tensor_program(HUGE, (HUGE,), (1,)),
        "a huge tensor of one number": tensor_program(1, (2**40,), (0,)),
        "a tensor beyond its storage": tensor_program(1, (1,), (1,), offset=5),
        "negative strides": tensor_program(1, (1,), (-1,)),
        "a huge memo": b"\x80\x02}r\xff\xff\xff\x7f.",
        "a huge text": b"\x80\x02X\xff\xff\xff\x7fabc.",
        "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b".",
        "a huge bytearray": b"\x80\x02c__builtin__\nbytearray\n\x8a\x08" + struct.pack("<q", 2**40) + b"\x85R.",
        "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "many marks": b"\x80\x02" + b"(t" * 300_000 + b".",
        "a key of shared tuples": b"\x80\x02}" + doubling + b"Ns.",
        "a storage of shared tuples": b"\x80\x02(" + doubling + b"NNNNtQ.",
        "a list in itself": b"\x80\x02]q\x00h\x00a.",
        "an instruction that builds objects": b"\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo.",
        "nothing": b"",
        "no end": b"\x80\x02}",
        "an empty stack": b"\x80\x02a.",
    }
    for name, program in programs.items():
        yield name, swapped("policy.pth", torch_file_of(program, one))
    bomb = {"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(2**26)}
    yield "a bomb in the weights", swapped("policy.pth", archive_of(bomb, zipfile.ZIP_DEFLATED))


def described_weights(good):
    """In the description, which says where the numbers are."""
    members = members_of(good)
    described = json.loads(members[DESCRIPTION])
    policy, optimizer = (described["weights"][name] for name in ("policy", "policy.optimizer"))

    def saying(**states):
        changed = {**described, "weights": {**described["weights"], **states}}
        return with_checksums({**members, DESCRIPTION: json.dumps(changed).encode()})

    first, second = list(policy["items"])[:2]

    def first_tensor(**changes):
        items = {**policy["items"], first: {**policy["items"][first], **changes}}
        return saying(policy={**policy, "items": items})

    key, begin = policy["items"][first]["at"]
    for name, at in {
        "nowhere": None,
        "a number": 3,
        "beyond the end": [key, 2**20],
        "far beyond the end": [key, HUGE],
        "before the beginning": [key, -4],
        "a little later": [key, begin + 4],
        "at a fraction": [key, 0.5],
        "at a switch": [key, False],
        "in a text": [key, "0"],
        "in another file": ["../../data", 0],
        "in no memory": ["", 0],
        "in a list": [[key], 0],
        "where another is": policy["items"][second]["at"],
        "in three places": [key, begin, 0],
    }.items():
        yield f"a tensor {name}", first_tensor(at=at)
    for dtype in ("float64", "float16", "int8", "bool", "complex64", "os.system", None, []):
        yield f"a tensor of {dtype}", first_tensor(dtype=dtype)
    for shape in (
        [1],
        [HUGE],
        [2**62, 0],
        [-1],
        [-1, -4],
        [2**31] * 4,
        [10**4000] * 2000,
        [1.5],
        "1",
        None,
        [1] * 10**5,
    ):
        yield f"a tensor of shape {str(shape)[:20]} {len(str(shape))}", first_tensor(shape=shape)
    same = {str(i): policy["items"][first] for i in range(10**4)}
    yield "a tensor many times", saying(policy={**policy, "items": {**policy["items"], **same}})
    yield "a tensor twice", saying(policy={**policy, "items": {**policy["items"], "more": policy["items"][first]}})
    yield (
        "a tensor of no numbers twice",
        saying(
            policy={**policy, "items": {**policy["items"], "more": {"$": "tensor", "dtype": "float32", "shape": [0]}}}
        ),
    )
    fewer = {name: tensor for name, tensor in policy["items"].items() if name != first}
    yield "a tensor too few", saying(policy={**policy, "items": fewer})
    numbers = {"all": "AAAAAA==", "dtype": "float32", "shape": [2**24 + 1]}
    yield "many numbers in the description", first_tensor(**numbers)
    yield "other numbers in the description", first_tensor(**{**numbers, "shape": policy["items"][first]["shape"]})
    yield "long doubles", first_tensor(**{"$": "array", "dtype": "<f16"})
    yield "an array for a tensor", first_tensor(**{"$": "array", "dtype": "<f4"})
    yield "code for a tensor", first_tensor(**{"$": "code", "what": "os.system"})
    yield "a class for a tensor", first_tensor(**{"$": "class", "name": "torch.nn.ReLU"})
    yield "an unknown tag for a tensor", first_tensor(**{"$": "call"})
    for name, state in {"none": None, "text": "x", "a list": [], "an empty dictionary": {}, "deep": [[[]]]}.items():
        yield f"{name} for weights", saying(policy=state)
        yield f"{name} for moments", saying(**{"policy.optimizer": state})
    yield "those of the optimizer for weights", saying(policy=optimizer)
    yield "weights of another module", saying(__class__=policy)
    keys = [2**61 - 1, *range(3)]
    yield (
        "keys that are chosen",
        saying(policy={"$": "dict", "keys": [(2**61 - 1) * i for i in range(10**5)], "values": [0] * 10**5}),
    )
    yield "more keys than values", saying(policy={"$": "dict", "keys": keys, "values": [0]})
    yield "keys that are lists", saying(policy={"$": "dict", "keys": [[]], "values": [0]})
    one = {name: state for name, state in described["weights"].items() if name == "policy"}
    for name, weights_ in {"one": one, "no": {}, "null": None, "a list of": [1]}.items():
        changed = json.dumps({**described, "weights": weights_}).encode()
        yield f"{name} weights", with_checksums({**members, DESCRIPTION: changed})
    parts = members_of(members["policy.pth"])
    folder = next(name for name in parts if name.endswith("data.pkl")).removesuffix("data.pkl")

    def holding(**changes):
        return with_checksums({**members, "policy.pth": archive_of({**parts, **changes})})

    data = f"{folder}data/{key}"
    yield "too few numbers", holding(**{data: parts[data][:-4]})
    yield "too many numbers", holding(**{data: parts[data] + bytes(4)})
    yield "one memory more", holding(**{f"{folder}data/evil": bytes(8)})
    yield "an empty memory more", holding(**{f"{folder}data/evil": b""})
    yield "numbers that are NaN", holding(**{data: b"\xff" * len(parts[data])})
    yield "numbers in big-endian order", holding(**{f"{folder}byteorder": b"big"})
    yield (
        "no pickle",
        with_checksums(
            {
                **members,
                "policy.pth": archive_of({name: part for name, part in parts.items() if "data.pkl" not in name}),
            }
        ),
    )
    yield "a pickle that is none", holding(**{f"{folder}data.pkl": b"evil"})
    yield "two pickles", holding(**{"other/data.pkl": b"evil"})
    yield (
        "a bomb",
        with_checksums({**members, "policy.pth": archive_of({**parts, data: bytes(2**26)}, zipfile.ZIP_DEFLATED)}),
    )


def archives(good):
    members = members_of(good)
    for step in range(20):
        yield f"truncated at {step}/20", good[: len(good) * step // 20]
    for step in range(1, 20):
        at = len(good) * step // 20
        yield f"flipped at {step}/20", good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]
    for back in range(1, 400, 17):
        at = len(good) - back
        yield f"flipped {back} before the end", good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]
    for name in members:
        yield f"without {name}", archive_of({key: content for key, content in members.items() if key != name})
        renamed = {f"x{key}" if key == name else key: content for key, content in members.items()}
        yield f"{name} renamed", archive_of(renamed)
        yield f"{name} twice", archive_of([*members.items(), (name, members[name])])
    for name in ("../../escaped.pth", "/tmp/escaped.pth", "..\\escaped.pth", "C:\\escaped.pth", "folder/"):
        yield f"a member {name}", archive_of({**members, name: b"x"})
    yield "a bomb", archive_of({**members, "bomb": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    for name in ("evil", "evil.json", "folder/evil.pth", "\x1b]0;evil\x07", "replay_buffer.pth"):
        yield f"one more, {name!a}, right checksums", with_checksums({**members, name: torch_file({})})
    many = {**members, **{f"{i}.pth": b"" for i in range(100_000)}}
    yield "100,000 more", with_checksums(many)
    tensors = {**members_of(members["policy.pth"]), **{f"archive/data/x{i}": b"" for i in range(100_000)}}
    yield "100,000 tensors more", with_checksums({**members, "policy.pth": archive_of(tensors)})
    few = bytearray(archive_of(many))
    few[-14:-10] = struct.pack("<HH", 7, 7)  # as its end says
    yield "100,000 more that are not declared", bytes(few)
    yield "a comment", good[:-2] + b"\x04\x00evil"
    yield "something behind", good + b"evil"
    yield "something before", b"evil" + good
    yield "something before, with right places", shifted(good)
    file = bytearray(good)
    central = file.rindex(b"PK\x01\x02")
    yield "encrypted", bytes(file[: central + 8]) + b"\x01" + bytes(file[central + 9 :])
    yield "a huge member", bytes(file[: central + 24]) + b"\xfe\xff\xff\xff" + bytes(file[central + 28 :])
    yield "not an archive", b"\x80\x04." * 100
    yield "empty", b""


def descriptions(good):
    members = members_of(good)
    described = json.loads(members[DESCRIPTION])

    def saying(changes, **top):
        changed = {**described, "settings": {**described["settings"], **changes}, **top}
        return archive_of({**members, DESCRIPTION: json.dumps(changed).encode()})

    def array(shape, dtype="<f4", **content):
        return {"$": "array", "dtype": dtype, "shape": shape, **(content or {"all": "AAAAAA=="})}

    def space(**content):
        return {"$": "space", **content}

    def kind(name):
        return {"$": "class", "name": name}

    mlp = {"$": "name", "name": "MlpPolicy"}

    for version in (0, 999, None, "1"):
        yield f"version {version}", saying({}, version=version)
    yield "a list for a description", archive_of({**members, DESCRIPTION: b"[1]"})
    yield "deep JSON", archive_of({**members, DESCRIPTION: b"[" * 10**6})
    yield "a long description", archive_of({**members, DESCRIPTION: b" " * 65 * 2**20})
    yield "a description of many lists", archive_of({**members, DESCRIPTION: b"[" + b"[]," * 2**24 + b"[]]"})
    yield "data of many lists", archive_of({**members, "data": b"[" + b"[]," * 2**24 + b"[]]"})
    yield "a huge integer", archive_of({**members, DESCRIPTION: b'{"version": 1' + b"0" * 10**5 + b"}"})
    settings = {
        "a function": {"learning_rate": {"$": "code", "what": "__main__.<lambda>"}},
        "a class of nowhere": {"policy_kwargs": {"optimizer_class": kind("os.system")}},
        "a module of torch": {"policy_kwargs": {"optimizer_class": kind("torch.nn.modules")}},
        "a private class": {"policy_kwargs": {"optimizer_class": kind("torch.optim._multi_tensor")}},
        "a path to a class": {"policy_kwargs": {"optimizer_class": kind("torch.nn.Module.__init__.__globals__")}},
        "a class of the wrong kind": {"policy_kwargs": {"optimizer_class": kind("torch.nn.ReLU")}},
        "an unknown policy": {"policy_class": {"$": "name", "name": "EvilPolicy"}},
        "a text for a policy": {"policy_class": "MlpPolicy"},
        "an unknown tag": {"gamma": {"$": "evil"}},
        "a tag that is a list": {"gamma": {"$": []}},
        "a huge network": {"policy_kwargs": {"hidden_dim": 2**40}},
        "a large network": {"policy_kwargs": {"hidden_dim": 2**13}},
        "an unknown argument": {"policy_kwargs": {"evil": 1}},
        "policy_kwargs that are none": {"policy_kwargs": 5},
        "a space that is none": {"observation_space": 5},
        "kwargs of the memory that are none": {"replay_buffer_kwargs": 5},
        "a huge Discrete": {"observation_space": space(kind="Discrete", n=HUGE, start=0)},
        "a negative Discrete": {"observation_space": space(kind="Discrete", n=-1, start=0)},
        "another Discrete": {"observation_space": space(kind="Discrete", n=7, start=0)},
        "a huge action space": {"action_space": space(kind="Discrete", n=HUGE, start=0)},
        "another action space": {"action_space": space(kind="Discrete", n=2, start=0)},
        "a huge Box": {"observation_space": space(kind="Box", low=array([HUGE]), high=array([HUGE]))},
        "a Box of objects": {"observation_space": space(kind="Box", low=array([1], "|O"), high=array([1], "|O"))},
        "a huge MultiBinary": {"observation_space": space(kind="MultiBinary", n=[HUGE], flat=True)},
        "many MultiBinary": {
            "observation_space": space(
                kind="Dict", parts=[[str(i), space(kind="MultiBinary", n=[2**22], flat=True)] for i in range(8)]
            )
        },
        "a negative MultiBinary": {"observation_space": space(kind="MultiBinary", n=[-1], flat=True)},
        "a shape of many large numbers": {"_last_obs": array([10**4000] * 2000)},
        "masks of a huge action space": {
            "action_space": space(kind="Discrete", n=10**10, start=0),
            "use_masking": True,
        },
        "a huge MultiDiscrete": {
            "observation_space": space(kind="MultiDiscrete", nvec=array([HUGE], "<i8"), start=array([1], "<i8"))
        },
        "bytes that are too few": {"_last_obs": array([9], bytes="AAAA")},
        "no base64": {"_last_obs": array([1], bytes="!!!")},
        "many environments": {"n_envs": HUGE, "replay_buffer_class": kind("ReplayBuffer")},
        "a huge memory": {"buffer_size": HUGE, "replay_buffer_class": kind("ReplayBuffer")},
        "a method": {"learn": 1},
        "a class attribute": {"__class__": 1},
        "a part of the model": {"replay_buffer": 3},
        "a setting out of range": {"gamma": 7},
        "a setting that is NaN": {"gamma": {"$": "float", "value": "nan"}},
        "a counter that is text": {"num_timesteps": "many"},
        "a rate that is a list": {"exploration_rate": [1]},
        "a switch that is a number": {"double_dqn": 1},
        "an id that imports": {"env_id": "antigravity:Evil-v0"},
        "a huge seed": {"seed": HUGE},
        "a memory of more than there is": {"buffer_size": 10**12},
        "a minibatch of more than there is": {"batch_size": 10**12},
        "returns of more than there is": {"n_steps": 10**12},
        "successes of more than there are": {"replay_buffer_kwargs": {"success_capacity": 10**12}},
        "a dictionary for each of many transitions": {
            "replay_buffer_class": kind("HerReplayBuffer"),
            "buffer_size": 10**9,
        },
        "many layers": {"policy_kwargs": {"net_arch": [1] * 10**5}, "policy_class": mlp},
        "an escape sequence for code": {"learning_rate": {"$": "code", "what": "\x1b]0;evil\x07\u202e"}},
        "an escape sequence for a setting": {"\x1b]0;evil\x07": {"$": "code", "what": "x"}},
        "an escape sequence for a tag": {"gamma": {"$": "\x1b]0;evil\x07"}},
        "an escape sequence for an id": {"env_id": "\x1b]0;evil\x07-v1"},
        "an escape sequence for a class": {"policy_kwargs": {"optimizer_class": kind("\x1b]0;evil\x07")}},
        "an escape sequence for a choice": {"engine": "\x1b]0;evil\x07"},
        "an escape sequence for a policy": {"policy_class": {"$": "name", "name": "\x1b]0;evil\x07"}},
        "an escape sequence for an argument": {"policy_kwargs": {"\x1b]0;evil\x07": 1}},
        "a run beside its folder": {"_run_folder": "runs/.."},
        "a huge window": {"ep_info_buffer": {"$": "deque", "maxlen": -1, "items": []}},
    }
    long_doubles = array([2**22], np.dtype(np.longdouble).str, all=base64.b64encode(bytes(16)).decode())
    settings["a Box of long doubles"] = {"observation_space": space(kind="Box", low=long_doubles, high=long_doubles)}
    doubles = array([2**22], "<f8", all=base64.b64encode(bytes(8)).decode())
    settings["a Box of many doubles"] = {"observation_space": space(kind="Box", low=doubles, high=doubles)}
    large = space(kind="Box", low=array([2**20]), high=array([2**20]))
    copying = {"TransformerEncoder": {"num_layers": 10**9}, "TransformerDecoder": {"num_layers": 10**9}}
    for name, kwargs in {**copying, "Linear": {"out_features": 4}, "ReLU": {}, "LSTM": {"hidden_size": 4}}.items():
        extractor = {"features_extractor_class": kind(f"torch.nn.{name}"), "features_extractor_kwargs": kwargs}
        settings[f"{name} for an extractor"] = {"policy_kwargs": extractor, "policy_class": mlp}
        settings[f"{name} for an extractor of much"] = {
            **settings[f"{name} for an extractor"],
            "observation_space": large,
        }
        settings[f"{name} for an optimizer"] = {"policy_kwargs": {"optimizer_class": kind(f"torch.nn.{name}")}}
        settings[f"{name} for a memory"] = {"replay_buffer_class": kind(f"torch.nn.{name}")}
        settings[f"{name} for a wrapper"] = {"env_wrapper": kind(f"torch.nn.{name}")}
        settings[f"{name} for a policy"] = {"policy_class": kind(f"torch.nn.{name}")}
    for name in ("TransformerEncoder", "Softmax", "Sequential", "Module", "Linear"):
        activation = {"activation_fn": kind(f"torch.nn.{name}")}
        settings[f"{name} for an activation"] = {"policy_kwargs": activation, "policy_class": mlp}
    extractor = {"features_extractor_class": {"$": "name", "name": "MlpPolicy"}}
    settings["a policy for an extractor"] = {"policy_kwargs": extractor, "policy_class": mlp}
    settings["a class for an argument"] = {"policy_kwargs": {"hidden_dim": kind("torch.nn.ReLU")}}
    image = {"$": "array", "dtype": "|u1", "shape": [1, 2**12, 2**10]}
    cnn = {"features_extractor_class": kind("NatureCNN")}
    settings["a huge image"] = {
        "observation_space": space(kind="Box", low={**image, "all": "AA=="}, high={**image, "all": "/w=="}),
        "policy_kwargs": cnn,
        "policy_class": mlp,
    }
    for name, changed in settings.items():
        yield name, saying(changed)
    yield "no settings", saying({}, settings=None)
    yield "no algorithm", saying({}, algorithm=None)


def memories(good):
    members = members_of(good)
    described = json.loads(members[MEMORY])

    def npy(array, **how):
        file = io.BytesIO()
        np.save(file, array, **how)
        return file.getvalue()

    rows = np.load(io.BytesIO(members["1.npy"]))

    def changed(at=0, **fields):
        other = rows.copy()
        for name, value in fields.items():
            other[name][at] = value
        return archive_of({**members, "1.npy": npy(other)})

    def header(text):
        text = text.encode() + b"\n"
        return archive_of({**members, "1.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text})

    yield "a pickle", pickle.dumps(Payload())
    yield "a pickle after an archive's end", pickle.dumps(Payload()) + good[:-30]
    yield "objects", archive_of({**members, "1.npy": npy(np.array([Payload()]), allow_pickle=True)})
    yield "a pickle for an array", archive_of({**members, "1.npy": pickle.dumps(Payload())})
    yield "a pickle for the description", archive_of({**members, MEMORY: pickle.dumps(Payload())})
    yield "a huge array", header(f"{{'descr': {rows.dtype.descr}, 'fortran_order': False, 'shape': ({HUGE},)}}")
    yield "a negative array", header(f"{{'descr': {rows.dtype.descr}, 'fortran_order': False, 'shape': (-1,)}}")
    yield "an array of nothing", header("{'descr': '|V0', 'fortran_order': False, 'shape': (1152921504606846976,)}")
    yield "code for a header", header("__import__('os').system('true')")
    yield "a header of objects", header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}")
    yield "a deep header", header("(" * 60_000)
    yield "an observation outside its space", changed(observations=HUGE)
    yield "a negative next observation", changed(next_observations=-1)
    yield "an action outside its space", changed(actions=6)
    yield "a reward that is NaN", changed(rewards=np.nan)
    yield "a flag that is 2", changed(dones=2)
    yield "a transition twice", archive_of({**members, "1.npy": npy(np.concatenate([rows, rows[:1]]))})
    yield "more than the memory holds", archive_of({**members, "1.npy": npy(np.repeat(rows, 1000))})
    yield "another dtype", archive_of({**members, "1.npy": npy(rows["rewards"])})
    for key, value in {
        "version": 999,
        "buffer": "HerReplayBuffer",
        "rng": {"bit_generator": "PCG64"},
        "arrays": ["success", "success"],
    }.items():
        yield f"{key}: {value}", archive_of({**members, MEMORY: json.dumps({**described, key: value}).encode()})
    for name, content in members.items():
        yield f"without {name}", archive_of({key: other for key, other in members.items() if key != name})
        yield f"{name} twice", archive_of([*members.items(), (name, content)])
    yield "a bomb", archive_of({**members, "1.npy": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    yield "one array more", archive_of({**members, "2.npy": members["1.npy"]})
    yield "100,000 arrays more", archive_of({**members, **{f"{i}.npy": b"" for i in range(2, 100_000)}})
    yield "something behind", good + b"evil"
    yield "something before", b"evil" + good
    yield "something before, with right places", shifted(good)
    yield "an escape sequence in a header", header("'\\\x1b'")
    for step in range(20):
        yield f"truncated at {step}/20", good[: len(good) * step // 20]
    for step in range(1, 20):
        at = len(good) * step // 20
        yield f"flipped at {step}/20", good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]


def checkpoints(good, own_log, victim):
    """Checkpoints that say what none says, with right checksums of it. :param good: Two of them."""
    yield from checkpoint_files(members_of(good[0]))
    yield from old_checkpoints()
    tabular, stepped = (with_arrays_in_json(members_of(content)) for content in good)

    def saying(members, where, value):
        """With another value at a place such as ``"state env base"``; ``...`` leaves it out."""
        described = json.loads(members[STATE])
        *folders, last = where.split()
        at = described
        for key in folders:
            at = at[int(key) if isinstance(at, list) else key]
        if value is ...:
            del at[last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
        return checkpoint_of({**members, STATE: json.dumps(described).encode()})

    def array(dtype, shape, value=0):
        return {"$": "array", "dtype": dtype, "shape": shape, "all": base64.b64encode(np.array(value, dtype)).decode()}

    def one(dtype, *values):
        content = base64.b64encode(np.array(values, dtype)).decode()
        return {"$": "array", "dtype": dtype, "shape": [len(values)], "bytes": content}

    described = json.loads(tabular[STATE])
    names = {"settings": described["settings"], "state": described["state"], "callbacks": described["callbacks"][1]}
    for group, entries in names.items():
        # The first says itself that an environment has to be given, and version 1.0.0 did not keep the others.
        for key in entries.keys() - {"env_id", "elapsed_ns", "log_mark"}:
            where = f"{group} 1 {key}" if group == "callbacks" else f"{group} {key}"
            yield f"without {where}", saying(tabular, where, ...)
    base, callback = "state env base state", "callbacks"
    generator = described["state"]["exploration_rng"]
    wrong_generators = {
        "of another kind": {**generator, "bit_generator": "MT19937"},
        "that is text": "x",
        "of nothing": {**generator, "state": {}},
        "too large": {**generator, "state": {"state": 2**200, "inc": 1}},
        "negative": {**generator, "state": {"state": -1, "inc": 1}},
    }
    for name, wrong in wrong_generators.items():
        yield f"a generator {name}", saying(tabular, "state exploration_rng", wrong)
        yield f"an environment's generator {name}", saying(tabular, f"{base} rng", wrong)
        yield f"an episode's generator {name}", saying(stepped, f"{base} episodes 0 start generator", wrong)
    last, infos = "settings _last_obs", "settings ep_info_buffer items"
    torch = {
        name: one("|u1", *struct.pack("<QiiQ", 1, left, 1, position), *bytes(5056 - 24))
        for name, (left, position) in {"after": (624, 624), "far after": (1, 2**63), "never": (0, 0)}.items()
    }
    changes = {
        # NumPy and PyTorch would read at the position that they are given
        "a generator that reads elsewhere": ("state generators numpy state pos", 10**7),
        "a generator that reads before": ("state generators numpy state pos", -(10**7)),
        "a generator of NumPy of another kind": ("state generators numpy", generator),
        **{f"a generator of PyTorch that reads {name}": ("state generators torch", it) for name, it in torch.items()},
        "a mark of logs that is a path": ("state logs mark", "../../victim/"),
        "a mark of logs that is empty": ("state logs mark", ""),
        "a time that is text": ("state elapsed_ns", "x"),
        "a negative time": ("state elapsed_ns", -1),
        "a mark that is a number": ("state log_mark", 1),
        "a mark that is a path": ("state log_mark", "../x"),
        "masks of seven": ("state last_masks", one("|u1", *[7] * 4) | {"dtype": "|b1", "shape": [1, 4]}),
        "what was to be logged, as code": ("state pending_logs", {"x": {"value": [1], "count": 0, "excluded": None}}),
        "a generator of text": ("state generators python gauss", "x"),
        "a generator of too few words": ("state generators python words", one("<u4", 1, 2)),
        "a generator of PyTorch of too few": ("state generators torch", one("|u1", 1, 2)),
        "a state outside": (f"{base} states", one("<i8", 16)),
        "a negative state": (f"{base} states", one("<i8", -1)),
        "a state that is no integer": (f"{base} states", one("<f8", 1.5)),
        "many states": (f"{base} states", array("<i8", [2**23])),
        "a negative length": (f"{base} lengths", one("<i8", -(2**62))),
        "a length beyond the limit": (f"{base} lengths", one("<i8", 10**6)),
        "a return that is NaN": (f"{base} returns", one("<f8", np.nan)),
        "a negative seed of an environment": (f"{base} seed", -1),
        "a seed that is text": (f"{base} seed", "x"),
        "no environment": ("state env", None),
        "an environment that is text": ("state env", "x"),
        "another environment": ("state env base kind", "EvilVecEnv"),
        "a wrapper": ("state env wrappers", [{"kind": "VecNormalize", "state": {}}]),
        "masks of another shape": ("state last_masks", array("|b1", [2**23])),
        "counts of another shape": ("state action_counts", array("<i8", [2**23])),
        "no logs in the description": ("state logs", {}),
        "logs far above": ("state logs levels_up", 3),
        "logs far below": ("state logs levels_up", -1),
        "logs above as text": ("state logs levels_up", "1"),
        "logs of others": ("state logs", {"levels_up": 2, "sizes": {"events.out.tfevents.1": 0}}),
        "logs of nobody": ("state logs", {"levels_up": 2, "sizes": {}}),
        "no lengths of logs": ("state logs sizes", [1]),
        "a negative length of logs": ("state logs sizes", {own_log: -5}),
        "a huge length of logs": ("state logs sizes", {own_log: HUGE}),
        "a length of logs as text": ("state logs sizes", {own_log: "1"}),
        "logs elsewhere": ("state logs sizes", {"../../victim/events.out.tfevents.0": 0}),
        "logs by a link": ("state logs sizes", {own_log: 10**6, "events.out.tfevents.link": 0}),
        "logs of no name": ("state logs sizes", {own_log: 10**6, "\0": 0}),
        "an observation of another shape": (last, array("<i8", [3])),
        "an observation outside": (last, one("<i8", 16)),
        "an observation that is text": (last, "x"),
        "an observation that is no integer": (last, one("<f8", 0.5)),
        "a budget that is text": ("settings _total_timesteps", "many"),
        "episodes that are text": ("settings _total_episodes", "many"),
        "episodes that are NaN": ("settings _total_episodes", {"$": "float", "value": "nan"}),
        "a default budget that is text": ("settings _default_timesteps", "many"),
        "a beginning that is text": ("settings _began_at", "xy"),
        "a beginning of three": ("settings _began_at", {"$": "tuple", "items": [0, 0, 0]}),
        "counted updates that are text": ("settings _n_updates", "x"),
        "noise": ("settings action_noise", 1),
        "windows of text": (infos, ["x"]),
        "windows of other numbers": (infos, [{"r": "x", "l": 1}]),
        "a window that is a number": ("settings ep_info_buffer", 5),
        "successes of text": ("settings ep_success_buffer items", ["x"]),
        "a folder of logs elsewhere": ("settings _run_folder", victim),
        "a folder of logs that is a number": ("settings _run_folder", 3),
        "a root of logs elsewhere": ("settings tensorboard_log", victim),
        "a root of logs that is a number": ("settings tensorboard_log", 3),
        "an id of nothing": ("settings env_id", "Evil-v0"),
        "an id that imports": ("settings env_id", "antigravity:Evil-v0"),
        "an id of another environment": ("settings env_id", "Taxi-v3"),
        "an id that is a number": ("settings env_id", 3),
        "a limit of steps that is none": ("settings max_episode_steps", -3),
        "many environments": ("settings n_envs", 2**16),
        "many large arrays": ("state x", [array("<f8", [2**22])] * 1000),
        "many large arrays after a negative one": (
            "state x",
            [{**array("<f8", [2**22]), "shape": [-HUGE]}] + [array("<f8", [2**22])] * 1000,
        ),
        "a large array by a float": ("state x", {**array("<f8", [1]), "shape": [2.0**23]}),
        "callbacks that are text": (callback, "x"),
        "a callback that is text": (f"{callback} 0", "x"),
        "a callback's state that is text": (f"{callback} 0 state", "x"),
        "a callback's attribute that it has not": (f"{callback} 0 state evil", 1),
        "a callback's attribute of text": (f"{callback} 0 state n_calls", "evil"),
        "a callback's model": (f"{callback} 0 state model", 1),
        "a callback's method": (f"{callback} 0 state on_step", 1),
        "a callback's class": (f"{callback} 0 state __class__", 1),
        "a callback's children": (f"{callback} 0 state callbacks", []),
        "own state that is none": (f"{callback} 2 state own", 5),
        "episodes of a test that are text": (f"{callback} 2 state own n_episodes", "x"),
        "a result that is text": (f"{callback} 2 state own best_mean_reward", "x"),
        "results of text": (f"{callback} 2 state own results", [["a"] * 7]),
        "results of too few": (f"{callback} 2 state own results", [[1]]),
        "a test elsewhere": (f"{callback} 2 state own test_env states", one("<i8", 99)),
        "an escape sequence for a folder of logs": ("settings _run_folder", "runs/\x1b]0;evil\x07"),
        "an escape sequence for a root of logs": ("settings tensorboard_log", "\x1b]0;evil\x07"),
        "an escape sequence for a log": ("state logs sizes", {own_log: 0, "events.out.tfevents.\x1b]0;evil\x07": 9}),
        "an escape sequence for an environment": ("state env base kind", "\x1b]0;evil\x07"),
        "an escape sequence for a wrapper": ("state env wrappers", [{"kind": "\x1b]0;evil\x07", "state": {}}]),
        "an escape sequence for a callback": (f"{callback} 1 class", "\x1b]0;evil\x07"),
        "an escape sequence for a state": (f"{callback} 0 state \x1b]0;evil\x07", 1),
        "an escape sequence for a log's number": ("state pending_logs", {"\x1b]0;evil\x07": 1}),
        "an escape sequence for code": ("settings learning_rate", {"$": "code", "what": "\x1b]0;evil\x07"}),
    }
    for name, (where, value) in changes.items():
        yield name, saying(tabular, where, value)
    episode = f"{base} episodes 0"
    changes = {
        "many layers": ("settings policy_kwargs", {"net_arch": [1] * 10**5}),
        "an action outside": (f"{episode} actions", one("<i8", 10**9)),
        "a negative action": (f"{episode} actions", one("<i8", -1)),
        "actions that are no integers": (f"{episode} actions", one("<f8", 0.5)),
        "actions of another shape": (f"{episode} actions", array("<i8", [2, 2])),
        "actions that are text": (f"{episode} actions", "x"),
        "a huge replay": (f"{episode} actions", array("<i8", [2**23])),
        "a replay of a huge declaration": (f"{episode} actions", array("<i8", [HUGE])),
        "a replay beyond the end": (f"{episode} actions", array("<i8", [1000])),
        "no episodes": (f"{base} episodes", []),
        "many episodes": (f"{base} episodes", [{}] * 10**5),
        "an episode that is text": (f"{episode}", "x"),
        "an episode of another return": (f"{episode} return", 1e300),
        "an episode of another observation": (f"{episode} observation", array("<f4", [2**22])),
        "a start that is text": (f"{episode} start", "x"),
        "an episode's negative seed": (f"{episode} start seed", -1),
        "an episode's seed of text": (f"{episode} start seed", "x"),
        "options that are text": (f"{episode} start options", "x"),
        "options out of range": (f"{episode} start options", {"low": "x", "high": []}),
        "many seeds": (f"{base} seeds", [None] * 10**5),
        "seeds of text": (f"{base} seeds", ["x"]),
        "an observation of NaN": (last, array("<f4", [1, 4], np.nan)),
        "a test's generators of another kind": (f"{callback} 2 state own test_env generators", ["x"]),
        "a test's seeds of text": (f"{callback} 2 state own test_env seeds", ["x"]),
    }
    for name, (where, value) in changes.items():
        yield f"stepped: {name}", saying(stepped, where, value)


def checkpoint_weights(members):
    state, arrays = json.loads(members[STATE]), members[ARRAYS]
    policy = state["parameters"]["policy"]["items"]
    first = next(iter(policy))
    n_bytes = 4 * sum(int(np.prod(tensor["shape"])) for tensor in policy.values())
    at = (
        len(arrays)
        - n_bytes
        - sum(
            4 * int(np.prod(tensor["shape"]))
            for moments in state["parameters"]["policy.optimizer"]["state"]["values"]
            for tensor in moments.values()
        )
    )
    for value in (np.nan, np.inf):
        poisoned = arrays[:at] + np.float32(value).tobytes() + arrays[at + 4 :]
        yield f"{value} in weights", checkpoint_of({**members, ARRAYS: poisoned})
    yield "too few numbers", checkpoint_of({**members, ARRAYS: arrays[:-4]})
    yield "too many numbers", checkpoint_of({**members, ARRAYS: arrays + bytes(4)})

    def saying(change):
        described = copy.deepcopy(state)
        change(described["parameters"])
        return checkpoint_of({**members, STATE: json.dumps(described).encode()})

    options = {"lr": "x", "betas": {"$": "tuple", "items": [0.9]}, "eps": None, "amsgrad": 1, "fused": True}
    for option, value in options.items():
        changed = {option: value}
        yield (
            f"{option}={value} of the optimizer",
            saying(lambda states, changed=changed: states["policy.optimizer"]["param_groups"][0].update(changed)),
        )

    def tensor(shape, dtype="float32"):
        return {"$": "tensor", "dtype": dtype, "shape": shape}

    wrong_tensors = {
        "a negative shape": tensor([-1]),
        "two negative sizes": tensor([-1, -4]),
        "a huge shape": tensor([2**60]),
        "a huge empty shape": tensor([2**62, 0]),
        "many dimensions": tensor([1] * 10**5),
        "a shape of text": tensor("1"),
        "a shape of fractions": tensor([1.5]),
        "no shape": {"$": "tensor", "dtype": "float32"},
        "another dtype": tensor([1], "float64"),
        "a dtype that is code": tensor([1], "os.system"),
        "no dtype": tensor([1], None),
        "a text for a tensor": "x",
        "an object": {"tensor": 1},
        "an unknown kind": {"$": "call", "what": "os.system"},
        "code": {"$": "code", "what": "os.system"},
        "many numbers of none": {**tensor([2**24 + 1]), "all": "AAAAAA=="},
        "a deep list": functools.reduce(lambda inner, _: [inner], range(400), 1),
    }
    for what, wrong in wrong_tensors.items():
        change = {first: wrong}
        yield f"{what} in weights", saying(lambda states, change=change: states["policy"]["items"].update(change))
    keys = {"a key that is a list": [[]], "a key that is negative": [-1], "a key that is true": [True]}
    keys |= {"keys that are chosen": [(2**61 - 1) * i for i in range(10**5)]}
    for what, wrong in keys.items():
        moments = {"$": "dict", "keys": wrong, "values": [{}] * len(wrong)}
        yield (
            f"{what} in moments",
            saying(lambda states, moments=moments: states["policy.optimizer"].update(state=moments)),
        )
    for name in ("__class__", "policy.q_net", "replay_buffer", "env"):
        yield f"weights of {name}", saying(lambda states, name=name: states.update({name: {}}))
    for what, wrong in {"none": None, "a list": [], "a number": 3, "an empty dictionary": {}}.items():
        changed = json.dumps({**state, "parameters": wrong}).encode()
        yield f"{what} for weights", checkpoint_of({**members, STATE: changed})


def old_checkpoints():
    """Of version 1.0."""
    golden = Path(__file__).with_name("golden") / "dqn-1.0.0.checkpoint.zip"
    for name, content in old_checkpoint_weights(members_of(golden.read_bytes())):
        yield f"version 1.0: {name}", content


def old_checkpoint_weights(members):
    state, weights = json.loads(members[STATE]), members["weights.bin"]
    for value in (np.nan, np.inf):
        poisoned = np.float32(value).tobytes() + weights[4:]
        yield f"{value} in weights", checkpoint_of({**members, "weights.bin": poisoned})
    yield "too few weights", checkpoint_of({**members, "weights.bin": weights[:-4]})
    yield "too many weights", checkpoint_of({**members, "weights.bin": weights + bytes(4)})

    def saying(change):
        described = copy.deepcopy(state)
        change(described["weights"])
        return checkpoint_of({**members, STATE: json.dumps(described).encode()})

    def policy(tree):
        return dict(tree[1])["policy"][1]

    def optimizer(tree):
        return dict(dict(tree[1])["policy.optimizer"][1])["param_groups"][1][0][1]

    options = {"lr": "x", "momentum": ["tuple", [0.9]], "nesterov": 1, "fused": True}
    for option, value in options.items():
        pair = [option, value]
        yield f"{option}={value} of the optimizer", saying(lambda tree, pair=pair: optimizer(tree).append(pair))
    wrong_tensors = {
        "a negative shape": ["tensor", "torch.float32", [-1]],
        "two negative sizes": ["tensor", "torch.float32", [-1, -4]],
        "a huge shape": ["tensor", "torch.float32", [2**60]],
        "a huge empty shape": ["tensor", "torch.float32", [2**62, 0]],
        "many dimensions": ["tensor", "torch.float32", [1] * 10**5],
        "a shape of text": ["tensor", "torch.float32", "1"],
        "a shape of fractions": ["tensor", "torch.float32", [1.5]],
        "no shape": ["tensor", "torch.float32"],
        "another dtype": ["tensor", "torch.float64", [1]],
        "a dtype that is code": ["tensor", "os.system", [1]],
        "no dtype": ["tensor", None, [1]],
        "a text for a tensor": "x",
        "an object": {"tensor": 1},
        "an unknown kind": ["call", "os.system"],
        "an empty branch": [],
        "a branch of branches": [["dict", []], []],
        "a list of no list": ["list", 3],
        "a deep tree": functools.reduce(lambda tree, _: ["list", [tree]], range(400), 1),
    }
    for what, wrong in wrong_tensors.items():
        yield f"{what} in weights", saying(lambda tree, wrong=wrong: policy(tree)[0].__setitem__(1, wrong))
    pairs = {"a key that is a list": [["list", []], 1], "a large key": [2**61, 1], "half a pair": ["x"]}
    for what, pair in pairs.items():
        yield f"{what} in weights", saying(lambda tree, pair=pair: policy(tree).append(pair))
    for name in ("__class__", "policy.q_net", "replay_buffer", "env", 3):
        yield f"weights of {name}", saying(lambda tree, name=name: tree[1].append([name, ["dict", []]]))
    for what, tree in {
        "none": None,
        "a list": ["list", []],
        "a number": 3,
        "an empty dictionary": ["dict", []],
    }.items():
        yield f"{what} for weights", checkpoint_of({**members, STATE: json.dumps({**state, "weights": tree}).encode()})

    def changed(where, value):
        described = copy.deepcopy(state)
        *folders, last = where.split()
        at = described
        for key in folders:
            at = at[int(key) if isinstance(at, list) else key]
        at[int(last) if isinstance(at, list) else last] = value
        return checkpoint_of({**members, STATE: json.dumps(described).encode()})

    words = state["state"]["generators"]["numpy"]["words"]
    numpy = {"name": "MT19937", "words": words}
    changes = {
        "a generator that reads elsewhere": ("state generators numpy", {**numpy, "rest": [10**7, 0, 0.0]}),
        "a generator of text": ("state generators numpy", {**numpy, "rest": "xyz"}),
        "a generator of too few": ("state generators numpy", {**numpy, "rest": [1]}),
        "no generator": ("state generators", None),
        "callbacks of text": ("callbacks", "x"),
        "a callback of text": ("callbacks 0", "x"),
        "a callback's state of text": ("callbacks 0 state", "x"),
        "a space of no parts": ("settings observation_space", {"$": "space", "kind": "Dict", "parts": [1]}),
        "a space of text": ("settings observation_space", {"$": "space", "kind": "Dict", "parts": "x"}),
        "a schedule of itself": ("settings learning_rate", {"$": "schedule", "kind": "FloatSchedule", "of": {}}),
        "a class that is a list": ("settings replay_buffer_class", {"$": "class", "name": ["x"]}),
    }
    for what, (where, value) in changes.items():
        yield what, changed(where, value)
    for what, value in {
        "numbers of nothing": {"numbers of a list": 3},
        "a tensor of text": {"a tensor": "x"},
        "a tensor of objects": {"a tensor": {"$": "array", "dtype": "|O", "shape": [1], "bytes": ""}},
        "keys of nothing": {"keys and values": [1]},
        "keys and no values": {"keys and values": [[1, 2], []]},
        "deep keys": functools.reduce(lambda inner, _: {"keys and values": [[1], [inner]]}, range(200), 1),
    }.items():
        yield f"{what} in a callback", changed("callbacks", [{"class": "x", "state": {"x": value}, "unchanged": []}])


def checkpoint_files(members):
    good = archive_of(members)
    manifest = json.loads(members[MANIFEST])

    def declaring(**changes):
        return archive_of({**members, MANIFEST: json.dumps({**manifest, **changes}).encode()})

    raw = pickle.dumps(Payload())
    memory = members_of(members["memory.npz"])
    call = torch_file_of(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    evil = {"pickle": raw, "torch": torch_file({"x": Payload()}), "os.system": call}
    for kind, content in evil.items():
        for name in members:
            yield f"{kind} in {name}", archive_of({**members, name: content})
            if name != MANIFEST:
                yield f"{kind} in {name}, right checksums", checkpoint_of({**members, name: content})
        for name in memory:
            changed = archive_of({**memory, name: content})
            yield f"{kind} in {name} of the memory", checkpoint_of({**members, "memory.npz": changed})
    yield from checkpoint_weights(members)
    for step in range(20):
        yield f"truncated at {step}/20", good[: len(good) * step // 20]
    for step in range(1, 40):
        at = len(good) * step // 40
        yield f"flipped at {step}/40", good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]
    for name in members:
        others = {key: content for key, content in members.items() if key != name}
        yield f"without {name}", archive_of(others)
        yield f"{name} renamed", archive_of({**others, f"x{name}": members[name]})
        yield f"{name} twice", archive_of([*members.items(), (name, members[name])])
        if name != MANIFEST:
            yield f"without {name}, right checksums", checkpoint_of(others)
            yield f"{name} renamed, right checksums", checkpoint_of({**others, f"x{name}": members[name]})
            yield f"{name} empty, right checksums", checkpoint_of({**members, name: b""})
    for name in ("../../escaped.pth", "/tmp/escaped.pth", "..\\escaped.pth", "C:\\escaped.pth", "folder/"):
        yield f"a part {name}", checkpoint_of({**members, name: b"x"})
    yield "a bomb", archive_of({**members, "bomb": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    bomb = archive_of({**memory, "0.npy": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    yield "a bomb in the memory", checkpoint_of({**members, "memory.npz": bomb})
    yield "deep JSON", checkpoint_of({**members, STATE: b"[" * 10**6})
    yield "many lists", checkpoint_of({**members, STATE: b"[" + b"[]," * 2**24 + b"[]]"})
    yield "a list for a state", checkpoint_of({**members, STATE: b"[]"})
    yield "100,000 more", checkpoint_of({**members, **{f"{i}": b"" for i in range(100_000)}})
    yield "something behind", good + b"evil"
    yield "something before", b"evil" + good
    yield "something before, with right places", shifted(good)
    for version in (0, 1, 4, None, "2", 3.0, "\x1b]0;evil\x07"):
        yield f"version {version!a}", declaring(version=version)
    for algorithm in ("QRDQN", None, ["DQN"]):
        yield f"algorithm {algorithm}", declaring(algorithm=algorithm)
    yield "an escape sequence for an algorithm", declaring(algorithm="\x1b]0;evil\x07")
    for parts in ({}, [], None, {**manifest["parts"], STATE: None}):
        yield f"parts {str(parts)[:9]}", declaring(parts=parts)


def contents(folder):
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def others(folder, runs):
    """:return: All files that are in no folder of one of the runs, with their content."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not any(run in path.parents for run in runs)
    }


def load_checkpoints(folder):
    """:return: What came of each."""
    paths = [make_run(folder / name, name) for name in ("FrozenLake-v1", "CartPole-v1")]
    good = [path.read_bytes() for path in paths]
    runs = [path.parent.parent for path in paths]
    logs = [next(run.glob("events.*")) for run in runs]
    logged = [log.read_bytes() for log in logs]
    victim = folder / "victim"
    victim.mkdir()
    for place in (victim, folder, runs[0].parent, runs[1].parent):
        (place / "events.out.tfevents.0").write_bytes(b"logs of others")
    (runs[0] / "events.out.tfevents.link").symlink_to(victim / "events.out.tfevents.0")
    before = others(folder, runs)
    for path in paths:  # so that all is imported that is going to be
        go_on(path)
    limit_memory(2**30)
    results = {}
    for name, content in checkpoints(good, logs[0].name, str(victim)):
        at = int(name.startswith("stepped"))
        for path in (*paths[at].parent.iterdir(), *runs[at].glob("events.*")):
            if not path.is_symlink():
                path.unlink()
        logs[at].write_bytes(logged[at])
        paths[at].write_bytes(content)
        results[name] = outcome(lambda path=paths[at]: go_on(path))
        assert (now := others(folder, runs)) == before, (name, now.keys() ^ before.keys())
    return results


def limit_memory(more):
    """Let this process take only so many more bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    limit = int(line.split()[1]) * 1024 + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def outcome(load):
    """What came of loading a file, for which there are 30 seconds of the processor's time."""
    signal.setitimer(signal.ITIMER_PROF, 30)
    result = "loaded", ""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            load()
        except UnsafeFileError as error:
            result = "refused", str(error)
            said = "".join(traceback.format_exception(error)).replace("\n", "")
            if not said.isprintable():
                result = "refused with text as it is", said
        except BaseException as error:
            result = type(error).__name__, str(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    raw = [str(warning.message) for warning in warned if not str(warning.message).isprintable()]
    return (f"{result[0]} with a warning as it is", raw[0]) if raw else result


def give_up(signum, frame):
    raise TimeoutError("it takes too long")


def main(folder):
    signal.signal(signal.SIGPROF, give_up)
    Payload.canary = str(folder / "canary")
    model = make_model()
    parameters, memory = model.get_parameters(), str(model.replay_buffer.get_state())
    good, good_memory = io.BytesIO(), io.BytesIO()
    model.save(good)
    model.save_replay_buffer(good_memory)
    LectureDQN.load(good)  # so that all is imported that is going to be
    good, good_memory = good.getvalue(), good_memory.getvalue()
    cases = {
        "payloads": payloads(good),
        "weights": weights(good),
        "described weights": described_weights(good),
        "archives": archives(good),
        "descriptions": descriptions(good),
        "memories": memories(good_memory),
    }
    files = folder / "checkpoints"
    files.mkdir()
    results = {f"checkpoints: {name}": result for name, result in load_checkpoints(files).items()}
    for group, files in cases.items():
        for name, content in files:
            path = folder / "file.zip"
            path.write_bytes(content)

            def load(path=path, group=group):
                if group == "memories":
                    model.load_replay_buffer(path)
                    assert str(model.replay_buffer.get_state()) == memory, "loaded, and not the same"
                    return
                loaded = LectureDQN.load(path, device="cpu").get_parameters()
                assert str(loaded) == str(parameters), "loaded, and not the same"

            results[f"{group}: {name}"] = outcome(load)
            if group == "payloads" or "weights" in name:
                results[f"{group}: {name}: set_parameters"] = outcome(lambda path=path: model.set_parameters(path))
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
