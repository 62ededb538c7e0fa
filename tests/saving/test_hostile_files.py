import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.saving.fuzz_loaders import Fuzzer

SEEDS = Path(__file__).with_name("seeds")


# Files that are always loaded, and what is said of them
REASONS = {
    "payloads: os.system in policy.pth of version 1": "it calls os.system, which is code",
    "payloads: os.system in policy.pth, right checksums": r"policy.pth: .*no 'tensor'",
    "payloads: pickle in sb3_lecture_dqn.json": "damaged",
    "weights: nan in weights": "policy.pth: .*NaN or infinite",
    "weights: inf in a moment": "policy.optimizer.pth: .*NaN or infinite",
    "weights: a huge tensor of one number": r"shape \(1099511627776,\) is declared, and there are 1 numbers",
    "weights: shared tuples in a moment": "a container in several places",
    "weights: shared tuples in an option": "a container in several places",
    "weights: a key of shared tuples": "a container in several places",
    "weights: a storage of shared tuples": "a container in several places",
    "weights: many views of weights": "the same numbers again and again",
    "weights: a weight many times": "the same numbers again and again",
    "weights: evil of another shape": "evil of parameter 0 does not fit it",
    "weights: step of another shape": "step of parameter 0 does not fit it",
    "weights: a bomb in the weights": "'archive/data.pkl' is compressed",
    "archives: a bomb": "'data' is compressed",
    "archives: a member ../../escaped.pth": r"'../../escaped.pth' is no file in the archive's own folder",
    "archives: 100,000 more": "declares 100007 members",
    "archives: 100,000 more that are not declared": "declares .* members in .* bytes",
    "archives: 100,000 tensors more": "policy.pth: it declares 100024 members",
    "archives: one more, 'evil.json', right checksums": "the members 'evil.json' besides",
    "archives: a comment": "does not end as an archive does",
    "archives: something before, with right places": "something before its first member",
    "memories: something before": "something before or behind",
    "memories: one array more": "the members '2.npy' besides",
    "weights: weights of torch.float64": r"is float64 of shape .*, and float32 of shape \(16, 8\) is expected",
    "weights: a moment of torch.float64": "exp_avg of parameter 0 does not fit it",
    "descriptions: TransformerEncoder for an extractor of much": "file may name only FlattenExtractor, NatureCNN",
    "descriptions: Softmax for an activation": "custom_objects={'activation_fn': ...}",
    "descriptions: a policy for an extractor": "'MlpPolicy', where a file may name none|only FlattenExtractor",
    "descriptions: a dictionary for each of many transitions": "buffer_size=1000000000, .* 4194304 at most",
    "descriptions: successes of more than there are": "success_capacity=.*custom_objects={'replay_buffer_kwargs'",
    "descriptions: a Box of long doubles": "numbers are declared in arrays|numbers of float128",
    "archives: policy.pth renamed": "no member 'policy.pth'",
    "archives: policy.pth twice": "more than one member 'policy.pth'",
    "descriptions: version 999": "version 999, and this package reads version 1 and 2",
    "descriptions: a constant of the class": "'word_in_files' is not a setting",
    "descriptions: a function": r"learning_rate \(__main__.<lambda>\).*custom_objects=.*trust=True",
    "descriptions: a huge network": "tensor of shape .* is declared, for which there are no weights",
    "descriptions: many MultiBinary": "numbers are declared in arrays",
    "descriptions: a negative MultiBinary": r"this is no shape: \[-1\]",
    "descriptions: a shape of many large numbers": "numbers are declared in arrays",
    "descriptions: masks of a huge action space": "16777216 actions at most",
    "descriptions: another Discrete": "does not fit",
    "descriptions: a setting out of range": "gamma=7",
    "descriptions: an id that imports": "env_id .*this is code",
    "memories: a pickle": "no file of arrays.*trust=True",
    "memories: a huge array": "declares an array of shape",
    "memories: an observation outside its space": r"1152921504606846976 is outside the space Discrete\(16\)",
    "memories: version: 999": "version 999",
    "checkpoints: arrays.bin renamed, right checksums": "not those that were saved",
    "checkpoints: arrays.bin empty, right checksums": r"is declared, and there are 0 bytes left",
    "checkpoints: too many numbers": "4 bytes more than its arrays have",
    "checkpoints: a huge shape in weights": "is declared, and there are .* bytes left",
    "checkpoints: an unknown kind in weights": "'call' is no kind of value",
    "checkpoints: code in weights": r"policy.q_net.layers.0.weight \(os.system\): this is code",
    "checkpoints: keys that are chosen in moments": "keys are chosen so that Python looks for each",
    "checkpoints: version 4": "version 4, and this package reads version 2 and 3",
    "checkpoints: version 1.0: an unknown kind in weights": "'call' is no part of weights",
    "checkpoints: version 1.0: a huge shape in weights": "is declared, and there are .* bytes left",
    "checkpoints: version 1.0: a generator that reads elsewhere": "position in MT19937=10000000 must be .* 624",
    "described weights: a tensor far beyond the end": "is declared beyond its numbers",
    "described weights: a tensor before the beginning": "is declared beyond its numbers",
    "described weights: a tensor of int8": "bytes of no tensor",
    "described weights: a tensor many times": "the same numbers again and again",
    "described weights: a tensor too few": "512 bytes of no tensor",
    "described weights: too few numbers": "is declared beyond its numbers",
    "described weights: numbers that are NaN": "NaN or infinite",
    "described weights: one weights": r"its weights are those of \['policy'\]",
    "described weights: null weights": "damaged",
    "checkpoints: algorithm QRDQN": "it is of a QRDQN, not of a DQN",
    "checkpoints: nan in weights": "NaN or infinite",
    "checkpoints: a generator that reads elsewhere": "position in MT19937=10000000 must be .* at most 624",
    "checkpoints: a generator of another kind": "not the state of a MT19937",
    "checkpoints: a generator of PyTorch that reads after": "left in PyTorch's generator=624 must be .* at most 1",
    "checkpoints: masks of seven": "truth values that are neither 0 nor 1",
    "checkpoints: a mark of logs that is a path": "'../../victim/' is no mark",
    "checkpoints: a state outside": "states .*16.* are not all in 0, …, 15",
    "checkpoints: a negative length": "lengths .* are not all in 0",
    "checkpoints: an observation outside": "is 16 at environment step 60, outside its space",
    "checkpoints: a negative length of logs": "the length of events.*=-5 must be",
    "checkpoints: logs far above": "levels_up=3 must be",
    "checkpoints: a budget that is text": "_total_timesteps='many' must be a number",
    "checkpoints: stepped: many layers": "is declared, for which there are no weights",
    "checkpoints: many large arrays": "numbers are declared in arrays",
    "checkpoints: many large arrays after a negative one": "this is no shape",
    "checkpoints: a callback's children": "'callbacks' is no state of .*CallbackList",
    "checkpoints: stepped: an action outside": r"action 1000000000 is outside the space Discrete\(2\)",
}


def load_files(folder, stride):
    """Load the files above and every ``stride``-th of the others with 1 GiB of memory. Return what came of each."""
    subprocess.run(
        [sys.executable, "-m", "tests.saving.hostile_files", folder, str(stride)],
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input=json.dumps([*REASONS]),
        text=True,
    )
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a tenth of the files has been loaded."""
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def results(folder):
    return load_files(folder, 10)


# What is wrong with these is in places that are not read, or nothing is wrong: they load, as the script checks, to what
# was saved.
HARMLESS = [
    r"payloads: .* in (data|data\[.*\]|system_info\.txt|_stable_baselines3_version|pytorch_variables\.pth), right "
    r"checksums(: set_parameters)?",
    r"described weights: (an empty memory more|a pickle that is none)",
    # dates and permissions of members
    r"(archives|memories|checkpoints): flipped .*",
    # what a setting is by default takes its place
    r"checkpoints: without settings .*",
    r"checkpoints: without state arithmetic",  # as of 1.0
    # a file may go without, or say what is not so: new episodes begin, with a warning
    r"checkpoints: ((no|another) environment|a wrapper|stepped: (a huge replay|a replay beyond the end|no episodes))",
    r"checkpoints: stepped: (many episodes|an episode of another (return|observation)|options that are text)",
    # a callback may make an attribute only at a later step
    r"checkpoints: a callback's attribute that it has not",
    # logs stay as they are, with a warning
    r"checkpoints: (logs of (others|nobody|no name)|a huge length of logs|logs elsewhere|logs by a link)",
    r"checkpoints: a (folder|root) of logs elsewhere",
    r"checkpoints: an escape sequence for (an environment|a wrapper|a callback|a state|a log|a (folder|root) of logs)",
]


def check_all_are_refused_with_a_reason(results):
    others = {name: result for name, result in results.items() if result[0] != "refused"}
    wrong = {
        name: (kind, message)
        for name, (kind, message) in others.items()
        if kind != "loaded" or not any(re.fullmatch(pattern, name) for pattern in HARMLESS)
    }
    assert wrong == {}
    reasons = [message for kind, message in results.values() if kind == "refused"]
    # A callback's state is looked at when training begins.
    assert all(
        re.search(r"path='.*\.zip'.*: .|the checkpoint's state does not fit: .|is no state of", m) for m in reasons
    )


def test_a_tenth_of_the_files_that_say_something_else_is_refused_with_a_reason(results):
    assert len(results) > 190
    assert sum(name.startswith("checkpoints: ") for name in results) > 70
    check_all_are_refused_with_a_reason(results)


@pytest.mark.slow
def test_every_file_that_says_something_else_is_refused_with_a_reason(tmp_path):
    results = load_files(tmp_path, 1)
    assert len(results) > 800
    assert sum(name.startswith("checkpoints: ") for name in results) > 300
    check_all_are_refused_with_a_reason(results)
    check_nothing_was_run(tmp_path)


def check_nothing_was_run(folder):
    assert not (folder / "canary").exists()
    assert {path.name for path in folder.iterdir()} == {"checkpoints", "file.zip", "results.json"}
    assert not Path("/tmp/escaped.pth").exists()


def test_nothing_is_run(folder, results):
    check_nothing_was_run(folder)


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
def test_the_reason_is_what_is_wrong(name, reason, results):
    kind, message = results[name]
    assert kind == "refused"
    assert re.search(reason, message)


def test_what_a_fuzz_run_found_is_refused_or_loaded(tmp_path):
    """See `fuzz_loaders.py`."""
    fuzzer = Fuzzer(tmp_path)
    seeds = [path.read_bytes() for path in sorted(SEEDS.iterdir())]
    assert len(seeds) >= 10
    for seed in (*seeds, *fuzzer.seeds()):
        fuzzer.load(seed)
