"""Loading a model whose algorithm is known to its file only."""

import pathlib

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.common.stock import stock_algorithm
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.saving.model_file import read_summary

_CLASSES: dict[str, type[LectureDQN] | type[LectureQRDQN]] = {
    stock_algorithm(cls).__name__: cls for cls in (LectureDQN, LectureQRDQN)
}


def load_model(path: str | pathlib.Path) -> LectureDQN | LectureQRDQN:
    """
    Load a model of whichever algorithm of this package a file holds, without running anything that it says.

    :param path: A file that ``save`` wrote
    :return: The model
    :raises UnsafeFileError: If the file is damaged, or holds no model of this package
    """
    algorithm = read_summary(path).algorithm
    if algorithm not in _CLASSES:
        raise UnsafeFileError(f"path={str(path)!r}: it is of a {algorithm!r}, and {', '.join(_CLASSES)} are known")
    return _CLASSES[algorithm].load(path)
