"""
Files that try to harm whoever loads them. As a script, it loads them all in a process with little memory:
``python tests/hostile_files.py <folder>`` writes ``results.json`` there: what came of each.
"""

import base64
import io
import json
import os
import pickle
import resource
import struct
import sys
import warnings
import zipfile
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_lecture_dqn import LectureDQN, UnsafeFileError
from sb3_lecture_dqn.common.save_util import DESCRIPTION, MEMORY

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


def with_checksums(members):
    """The archive with the checksums that its own `save` would have written."""
    described = json.loads(members[DESCRIPTION])
    described["members"] = {
        name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in members.items()
        if name != DESCRIPTION
    }
    return archive_of({**members, DESCRIPTION: json.dumps(described).encode()})


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
    data = json.loads(members["data"])
    for key in ("policy_class", "observation_space", "lr_schedule"):
        serialized = base64.b64encode(raw).decode()
        changed = json.dumps({**data, key: {":type:": "x", ":serialized:": serialized}}).encode()
        yield f"pickle in data[{key}]", archive_of({**members, "data": changed})
        yield f"pickle in data[{key}], right checksums", with_checksums({**members, "data": changed})


def weights(good):
    members = members_of(good)
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
    for name, wrong in {"exp_avg": th.zeros(3), "step": th.zeros(3), "exp_avg_sq": 3}.items():
        moments = {**optimizer, "state": {0: {**optimizer["state"][0], name: wrong}}}
        yield f"{name} of another shape", swapped("policy.optimizer.pth", torch_file(moments))
    yield "weights of another shape", swapped("policy.pth", torch_file({**policy, first: th.zeros(2)}))
    yield "weights under another name", swapped("policy.pth", torch_file({"x": th.zeros(2)}))
    yield "no weights", swapped("policy.pth", torch_file([1, 2]))
    yield "a text for a weight", swapped("policy.pth", torch_file({**policy, first: "x"}))
    yield "weights of another module", archive_of({**members, "__class__.pth": members["policy.pth"]})
    yield "weights of another module, right", with_checksums({**members, "__class__.pth": members["policy.pth"]})
    one = [struct.pack("<f", 1.0)]
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
        return {"dtype": dtype, "shape": shape, **(content or {"all": "AAAAAA=="})}

    def space(**content):
        return {"$": "space", **content}

    def kind(name):
        return {"$": "class", "name": name}

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
        "a huge MultiDiscrete": {
            "observation_space": space(kind="MultiDiscrete", nvec=array([HUGE], "<i8"), start=array([1], "<i8"))
        },
        "bytes that are too few": {"_last_obs": {"$": "array", **array([9], bytes="AAAA")}},
        "no base64": {"_last_obs": {"$": "array", **array([1], bytes="!!!")}},
        "many environments": {"n_envs": HUGE, "replay_buffer_class": kind(f"{ReplayBuffer.__module__}.ReplayBuffer")},
        "a huge memory": {"buffer_size": HUGE, "replay_buffer_class": kind(f"{ReplayBuffer.__module__}.ReplayBuffer")},
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
        "a huge window": {"ep_info_buffer": {"$": "deque", "maxlen": -1, "items": []}},
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
    for step in range(20):
        yield f"truncated at {step}/20", good[: len(good) * step // 20]
    for step in range(1, 20):
        at = len(good) * step // 20
        yield f"flipped at {step}/20", good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]


def limit_memory(more):
    """Let this process take only so many more bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    limit = int(line.split()[1]) * 1024 + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def outcome(load):
    try:
        load()
    except UnsafeFileError as error:
        return "refused", str(error)
    except BaseException as error:
        return type(error).__name__, str(error)
    return "loaded", ""


def main(folder):
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
        "archives": archives(good),
        "descriptions": descriptions(good),
        "memories": memories(good_memory),
    }
    limit_memory(2**30)
    results = {}
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
