"""The table of algorithms. The command line, the RL Zoo and the studies take theirs from here."""

import pathlib
from typing import NamedTuple

from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.common.run_files import MODEL
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.saving.checkpoint_file import checkpoint_algorithm
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in, newest_whole
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
    return _class_of(read_summary(path).algorithm, path).load(path)


def _class_of(word: str, path: str | pathlib.Path) -> type[LectureDQN] | type[LectureQRDQN]:
    """Return the algorithm of this package that a file names."""
    classes = {algorithm.cls.word_in_files: algorithm.cls for algorithm in ALGORITHMS.values()}
    if word not in classes:
        raise UnsafeFileError(
            f"path={str(path)!r}: its algorithm is {shown(repr(word))}; known are {', '.join(classes)}"
        )
    return classes[word]


def load_run(path: str | pathlib.Path) -> LectureDQN | LectureQRDQN:
    """
    Load the last model of a run together with its replay memory, without unpickling.

    The memory is that of the newest checkpoint. If the run's ``model.zip`` was trained for longer, it comes without a
    memory, because an older one would not tell what happened since.

    :param path: The folder of a run, a checkpoint, or a file that ``save`` wrote, which has no memory
    :return: The model, to be looked at, not to be trained
    :raises UnsafeFileError: If a file is damaged, or holds no model of this package
    :raises FileNotFoundError: If there is neither a model nor a checkpoint
    """
    path = pathlib.Path(path)
    if path.is_dir():
        has_checkpoints = checkpoints_in(path) or checkpoints_in(path / "checkpoints")
        if not has_checkpoints and not (path / MODEL).is_file():
            raise FileNotFoundError(f"{str(path)!r} is not the folder of a run: it has no checkpoint and no {MODEL}")
        file = newest_whole(path) if has_checkpoints else path / MODEL
    else:
        file = path
    word = checkpoint_algorithm(file)
    if word is None:
        return load_model(file)
    at_checkpoint = _class_of(word, path).resume(file, exact=False)
    if path.is_dir() and (path / MODEL).is_file():
        model = load_model(path / MODEL)
        if type(model) is type(at_checkpoint) and model.num_timesteps > at_checkpoint.num_timesteps:
            return model
    return at_checkpoint
