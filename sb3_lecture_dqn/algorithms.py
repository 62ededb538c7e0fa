"""The table of algorithms. The command line, the RL Zoo and the studies take theirs from here."""

import pathlib
from typing import NamedTuple

from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.saving.model_file import read_summary


class Algorithm(NamedTuple):
    """
    An algorithm of this package.

    :param cls: The class
    :param stock: The class of SB3 or sb3-contrib that it extends, its peer in studies
    """

    cls: type[LectureDQN] | type[LectureQRDQN]
    stock: type[OffPolicyAlgorithm]

    @property
    def settings_file(self) -> str:
        """Name of the file of recommended settings in ``hyperparams``, without ``.yml``."""
        return self.cls.hyperparams


#: By the word for the algorithm on the command line, in the RL Zoo and in plans of studies
ALGORITHMS = {
    "lecture_dqn": Algorithm(LectureDQN, DQN),
    "lecture_qrdqn": Algorithm(LectureQRDQN, QRDQN),
}
#: The stock algorithms by their words in plans of studies
STOCK_ALGORITHMS = {algorithm.stock.__name__.lower(): algorithm.stock for algorithm in ALGORITHMS.values()}


def load_model(path: str | pathlib.Path) -> LectureDQN | LectureQRDQN:
    """
    Load a model of any algorithm of this package, without unpickling.

    :param path: A file that ``save`` wrote
    :return: The model
    :raises UnsafeFileError: If the file is damaged, or holds no model of this package
    """
    name = read_summary(path).algorithm
    for algorithm in ALGORITHMS.values():
        if algorithm.cls.word_in_files == name:
            return algorithm.cls.load(path)
    known = ", ".join(algorithm.cls.word_in_files for algorithm in ALGORITHMS.values())
    raise UnsafeFileError(f"path={str(path)!r}: its algorithm is {name!r}; known are {known}")
