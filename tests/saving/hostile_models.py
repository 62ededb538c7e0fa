"""Files of models and memories that try to harm whoever loads them."""

import base64
import io
import json
import pickle
import struct
import zipfile

import numpy as np
import torch as th

from sb3_lecture_dqn.saving.files import DESCRIPTION, MEMORY
from tests.saving.hostile_parts import (
    HUGE,
    Payload,
    archive_of,
    as_version_1,
    members_of,
    shifted,
    tensor_program,
    torch_file,
    torch_file_of,
    with_checksums,
)


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
    yield "many weights of nothing", lambda: swapped("policy.pth", torch_file({**policy, **many_names}))
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
        "a constant of the class": {"word_in_files": "SAC"},
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
    yield "a bomb", lambda: archive_of({**members, "1.npy": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    yield "one array more", archive_of({**members, "2.npy": members["1.npy"]})
    yield "100,000 arrays more", lambda: archive_of({**members, **{f"{i}.npy": b"" for i in range(2, 100_000)}})
    yield "something behind", good + b"evil"
    yield "something before", b"evil" + good
    yield "something before, with right places", shifted(good)
    yield "an escape sequence in a header", header("'\\\x1b'")
    for step in range(20):
        yield f"truncated at {step}/20", good[: len(good) * step // 20]
    for step in range(1, 20):
        at = len(good) * step // 20
        yield f"flipped at {step}/20", good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]
