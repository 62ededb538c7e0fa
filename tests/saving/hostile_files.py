"""
Files that try to harm whoever loads them. As a script, it loads them in a process with little memory:
``python -m tests.saving.hostile_files <folder> <stride>`` writes ``results.json`` there: what came of each file that is
named in a JSON list on stdin, and of every ``stride``-th file of the others.
"""

import io
import json
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path

from sb3_lecture_dqn import LectureDQN, UnsafeFileError
from tests.saving.hostile_checkpoints import checkpoints
from tests.saving.hostile_models import archives, described_weights, descriptions, memories, payloads, weights
from tests.saving.hostile_parts import (
    Payload,
    go_on,
    make_model,
    make_run,
)


def contents(folder):
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def others(folder, runs):
    """:return: All files that are in no folder of one of the runs, with their content."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not any(run in path.parents for run in runs)
    }


def sample(group, files, stride, named):
    """:return: The files of a group that are loaded, each with its full name; a large one is made only then."""
    for i, (name, content) in enumerate(files):
        if i % stride == 0 or f"{group}: {name}" in named:
            yield f"{group}: {name}", name, content() if callable(content) else content


def load_checkpoints(folder, stride, named):
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
    for full_name, name, content in sample("checkpoints", checkpoints(good, logs[0].name, str(victim)), stride, named):
        at = int(name.startswith("stepped"))
        for path in (*paths[at].parent.iterdir(), *runs[at].glob("events.*")):
            if not path.is_symlink():
                path.unlink()
        logs[at].write_bytes(logged[at])
        paths[at].write_bytes(content)
        results[full_name] = outcome(lambda path=paths[at]: go_on(path))
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


def main(folder, stride, named):
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
    results = load_checkpoints(files, stride, named)
    for group, files in cases.items():
        for full_name, name, content in sample(group, files, stride, named):
            path = folder / "file.zip"
            path.write_bytes(content)

            def load(path=path, group=group):
                if group == "memories":
                    model.load_replay_buffer(path)
                    assert str(model.replay_buffer.get_state()) == memory, "loaded, and not the same"
                    return
                loaded = LectureDQN.load(path, device="cpu").get_parameters()
                assert str(loaded) == str(parameters), "loaded, and not the same"

            results[full_name] = outcome(load)
            if group == "payloads" or "weights" in name:
                results[f"{full_name}: set_parameters"] = outcome(lambda path=path: model.set_parameters(path))
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), set(json.load(sys.stdin)))
