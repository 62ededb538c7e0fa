"""Checkpoints that try to harm whoever resumes from them."""

import base64
import copy
import functools
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

from sb3_lecture_dqn.saving.checkpoint_file import ARRAYS, STATE
from sb3_lecture_dqn.saving.files import MANIFEST
from tests.saving.hostile_parts import (
    HUGE,
    Payload,
    archive_of,
    checkpoint_of,
    members_of,
    shifted,
    torch_file,
    torch_file_of,
    with_arrays_in_json,
)


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
    generator = described["state"]["exploration"]["rng"]
    wrong_generators = {
        "of another kind": {**generator, "bit_generator": "MT19937"},
        "that is text": "x",
        "of nothing": {**generator, "state": {}},
        "too large": {**generator, "state": {"state": 2**200, "inc": 1}},
        "negative": {**generator, "state": {"state": -1, "inc": 1}},
    }
    for name, wrong in wrong_generators.items():
        yield f"a generator {name}", saying(tabular, "state exploration rng", wrong)
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
        "masks of seven": ("state transitions", one("|u1", *[7] * 4) | {"dtype": "|b1", "shape": [1, 4]}),
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
        "masks of another shape": ("state transitions", array("|b1", [2**23])),
        "counts of another shape": ("state exploration counts", array("<i8", [2**23])),
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
        "episodes that are text": ("state budget until_episode", "many"),
        "episodes that are NaN": ("state budget until_episode", {"$": "float", "value": "nan"}),
        "episodes of a version before 2.0 that are text": ("settings _total_episodes", "many"),
        "another budget": ("state budget", {"until_steps": 1}),
        "a default budget that is text": ("settings _default_timesteps", "many"),
        "a beginning that is text": ("settings _began_at", "xy"),
        "a keyword of tuned that is none": ("settings _tuned_with", [["gamma"]]),
        "keywords of tuned that are none": ("settings _tuned_with", 5),
        "a beginning of three": ("settings _began_at", {"$": "tuple", "items": [0, 0, 0]}),
        "counted updates that are text": ("settings _n_updates", "x"),
        "noise": ("settings action_noise", 1),
        "windows of text": (infos, ["x"]),
        "windows of other numbers": (infos, [{"r": "x", "l": 1}]),
        "a window that is a number": ("settings ep_info_buffer", 5),
        "a window that is a list": ("settings ep_info_buffer", []),
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
    yield "a bomb", lambda: archive_of({**members, "bomb": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    bomb = {**memory, "0.npy": bytes(2**28)}
    yield (
        "a bomb in the memory",
        lambda: checkpoint_of({**members, "memory.npz": archive_of(bomb, zipfile.ZIP_DEFLATED)}),
    )
    yield "deep JSON", checkpoint_of({**members, STATE: b"[" * 10**6})
    yield "many lists", checkpoint_of({**members, STATE: b"[" + b"[]," * 2**24 + b"[]]"})
    yield "a list for a state", checkpoint_of({**members, STATE: b"[]"})
    yield "100,000 more", lambda: checkpoint_of({**members, **{f"{i}": b"" for i in range(100_000)}})
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
