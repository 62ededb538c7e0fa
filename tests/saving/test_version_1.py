import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule

from sb3_lecture_dqn.common.seeding import global_generators, set_global_generators
from sb3_lecture_dqn.saving import version_1
from sb3_lecture_dqn.saving.codec import decode, encode
from sb3_lecture_dqn.saving.words import CLASSES


def without_inner_tags(description):
    """As version 1 wrote spaces and schedules: only the outermost had a tag."""

    def inner(value):
        if isinstance(value, list):
            return [inner(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {key: inner(item) for key, item in value.items() if key != "$"}

    return {"$": description["$"], **inner(description)}


@pytest.mark.parametrize(
    "value",
    [
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([2, 3], start=[1, 0]),
        spaces.MultiBinary([2, 3]),
        spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32)),
        spaces.Dict({"b": spaces.Box(-1, 1, (2,)), "a": spaces.Dict({"c": spaces.MultiDiscrete([2])})}),
        FloatSchedule(FloatSchedule(LinearSchedule(1.0, 0.1, 0.5))),
    ],
    ids=str,
)
def test_spaces_and_schedules_of_version_1_are_read(value):
    old = json.loads(json.dumps(without_inner_tags(encode(value, {}))))
    described = version_1.model_description({"settings": {"x": old}, "version": 1})
    read = decode(described["settings"]["x"], {})
    assert read == value if isinstance(value, gym.Space) else repr(read) == repr(value)


def test_every_word_of_version_1_is_a_word_of_today():
    words = {word for kinds in CLASSES.values() for word in kinds}
    classes = {word for old, word in version_1.OLD_WORDS.items() if "callbacks" not in old and "study" not in old}
    assert classes - words == {"LectureTensorBoardCallback"}


def test_the_generator_of_numpy_of_version_1_is_read():
    state = global_generators()
    expected = np.random.rand(700)  # noqa: NPY002
    numpy = state["numpy"]
    old = encode(state, {})
    rest = [numpy["state"]["pos"], numpy["has_gauss"], numpy["gauss"]]
    old["numpy"] = {"name": numpy["bit_generator"], "words": old["numpy"]["state"]["key"], "rest": rest}
    described = {"settings": {}, "state": {"generators": old}, "callbacks": [], "weights": ["dict", []]}
    set_global_generators(decode(version_1.checkpoint_state(described)["state"]["generators"], {}))
    assert (np.random.rand(700) == expected).all()  # noqa: NPY002
