r"""
A coverage-guided fuzz run of the loaders, by atheris (https://github.com/google/atheris)::

    pip install atheris
    python tests/saving/fuzz_loaders.py -max_total_time=600 -timeout=20 -rss_limit_mb=2048 -max_len=40000 -keep_seed=1 \
        corpus/ tests/saving/seeds/

An input is one byte, which says what part of what file it is, and that part; all checksums of the file are made right.
Or it is a whole file. ``--only=load``, ``--only=resume`` and ``--only=load_replay_buffer`` fuzz one loader alone.
Loading it must give an ``UnsafeFileError`` or succeed, must unpickle and run nothing, and must write nowhere but in its
own folder. Inputs that found something are kept in ``tests/saving/seeds``; `test_hostile_files.py` loads them all.
"""

import contextlib
import io
import json
import os
import random
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["sb3_lecture_dqn.saving", "zipfile"], enable_loader_override=False):
        from tests.saving import hostile_parts
else:
    from tests.saving import hostile_parts

from sb3_lecture_dqn import LectureDQN, UnsafeFileError
from sb3_lecture_dqn.saving.files import MEMORY

VALUES = [None, True, -1, 0, 1, 2**31, 2**63, 2**200, 0.5, 1e308, "", "x", [], [0], {}, {"$": "float", "value": "nan"}]
VALUES += ["\x1b[31m", 10**7, {"$": "name", "name": "MlpPolicy"}, {"$": "class", "name": "torch.nn.TransformerEncoder"}]
VALUES += [{"$": "class", "name": name} for name in ("ReplayBuffer", "Evil")]
VALUES += [{"$": "tensor", "dtype": "float32", "shape": [1], "at": ["0", 0]}, {"$": "dict", "keys": [0], "values": [1]}]
VALUES += [{"$": "numbers", "dtype": "<f8", "shape": [2], "all": "AAAAAAAAAAA="}]


LOADERS = {"load": ["model"], "load_replay_buffer": ["memory"], "resume": ["FrozenLake-v1", "CartPole-v1"]}


class Fuzzer:
    """
    Loads what it is given in place of one part of a good file, or of all of it.

    :param folder: For its files
    :param loaders: What loads them
    """

    def __init__(self, folder: Path, loaders=tuple(LOADERS)) -> None:
        self.paths = {name: hostile_parts.make_run(folder / name, name) for name in ("FrozenLake-v1", "CartPole-v1")}
        self.model, self.other = hostile_parts.make_model(), hostile_parts.make_model()
        model, memory = io.BytesIO(), io.BytesIO()
        self.model.save(model)
        self.model.save_replay_buffer(memory)
        self.files = {
            "model": (hostile_parts.members_of(model.getvalue()), hostile_parts.with_checksums),
            "memory": (hostile_parts.members_of(memory.getvalue()), hostile_parts.archive_of),
            **{
                name: (hostile_parts.members_of(path.read_bytes()), hostile_parts.checkpoint_of)
                for name, path in self.paths.items()
            },
        }
        # Of one checkpoint the arrays are in the JSON, so that changes of the JSON do not move the numbers of others.
        members, archive_of = self.files["CartPole-v1"]
        self.files["CartPole-v1"] = hostile_parts.with_arrays_in_json(members), archive_of
        files = {file: self.files[file][0] for loader in loaders for file in LOADERS[loader]}
        self.targets = [(file, part) for file, members in files.items() for part in sorted(members)]
        self.targets += [(file, None) for file in files]

    def seeds(self):
        """Every part of the good files, and these."""
        for i, (file, part) in enumerate(self.targets):
            members, archive_of = self.files[file]
            yield bytes([i]) + (archive_of(members) if part is None else members[part])

    def load(self, data: bytes) -> None:
        """
        Load an input.

        :param data: The input
        """
        file, part = self.targets[data[0] % len(self.targets)]
        members, archive_of = self.files[file]
        content = data[1:]
        if part is not None:
            changed = {**members, part: data[1:]}
            content = hostile_parts.archive_of(changed)
            with contextlib.suppress(ValueError, TypeError):  # a description that is none has no place for checksums
                content = archive_of(changed)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), contextlib.suppress(UnsafeFileError):
            warnings.simplefilter("ignore")
            if file == "model":
                with contextlib.suppress(UnsafeFileError):
                    self.other.set_parameters(io.BytesIO(content))
                LectureDQN.load(io.BytesIO(content), device="cpu")
            elif file == "memory":
                self.model.load_replay_buffer(io.BytesIO(content))
            else:
                self.paths[file].write_bytes(content)
                hostile_parts.go_on(self.paths[file])

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """
        Change one value of a part that is JSON, or some bytes.

        :param data: An input
        :param max_size: Largest size of an input
        :param seed: What decides
        :return: Another input
        """
        rng = random.Random(seed)
        part = self.targets[data[0] % len(self.targets)][1] if data else None
        if part is not None and (part.endswith(".json") or part == MEMORY) and rng.random() < 0.8:
            with contextlib.suppress(ValueError, RecursionError):
                changed = json.dumps(changed_value(json.loads(data[1:]), rng)).encode()
                if len(changed) < max_size:
                    return data[:1] + changed
        return atheris.Mutate(data, max_size)


def changed_value(value, rng):
    """The same JSON with one of its values replaced, left out or moved."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        if rng.random() < 0.05:
            return {**value, key: value[rng.choice(list(value))]}
        return {**value, key: changed_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:at] + value[at:] * rng.choice([0, 2])
        return [*value[:at], changed_value(value[at], rng), *value[at + 1 :]]
    if type(value) is int and rng.random() < 0.5:
        return rng.choice([-value, value + 1, value - 1, value * 1000, float(value), str(value)])
    return rng.choice(VALUES)


def forbid(folder: Path) -> None:
    """
    From now on let nothing be run, and nothing be written outside a folder.

    :param folder: The folder
    """

    def hook(event, args):
        if event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
            raise SystemError(f"{event} {args}")
        written = args[0] if event in ("os.remove", "os.truncate", "os.rename", "os.mkdir", "os.rmdir") else None
        if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            written = args[0]
        if isinstance(written, str | bytes | os.PathLike):
            path = Path(os.fsdecode(written)).absolute()
            if folder not in path.parents and "__pycache__" not in path.parts and path != Path("/dev/null"):
                raise SystemError(f"{event} {args}")

    sys.addaudithook(hook)


def main():
    folder = Path(tempfile.mkdtemp()).resolve()
    only = [word.removeprefix("--only=") for word in sys.argv if word.startswith("--only=")]
    sys.argv = [word for word in sys.argv if not word.startswith("--only=")]
    fuzzer = Fuzzer(folder, only or tuple(LOADERS))
    corpus = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), folder)
    corpus.mkdir(exist_ok=True)
    for i, seed in enumerate(fuzzer.seeds()):
        fuzzer.load(seed)  # so that all is imported that is going to be
        (corpus / f"part_{i}").write_bytes(seed)
    forbid(folder)
    atheris.Setup(sys.argv, lambda data: data and fuzzer.load(data), custom_mutator=fuzzer.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
