"""The names that ``from sb3_lecture_dqn import ...`` offers. A new one is imported here, and added to ``__all__``."""

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import OtherArithmeticError, UnsafeFileError
from sb3_lecture_dqn.common.torch_layers import DiscreteEmbeddingExtractor
from sb3_lecture_dqn.common.wrappers import DiscreteObservationWrapper, ResumableEnv, TupleToDictWrapper
from sb3_lecture_dqn.engine.divergence import DivergedError
from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.envs.masks import ActionMaskInfo
from sb3_lecture_dqn.envs.tabular import NotTabularError, OptimalValues, TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.evaluation.diagnosis import Diagnosis, Finding, diagnose
from sb3_lecture_dqn.evaluation.result import TestResult
from sb3_lecture_dqn.evaluation.run import exact_test, run_test
from sb3_lecture_dqn.evaluation.values import optimal_values
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_dqn.policies import ActionInPolicy, LecturePolicy, TablePolicy
from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.lecture_qrdqn.policies import LectureQuantilePolicy
from sb3_lecture_dqn.saving.env_state import EpisodeNotReplayedError
from sb3_lecture_dqn.show.page.callback import LecturePageCallback
from sb3_lecture_dqn.show.tensorboard import LectureTensorBoardCallback
from sb3_lecture_dqn.training.callbacks import (
    EpisodeProgressBarCallback,
    LectureCheckpointCallback,
    LectureTestCallback,
)
from sb3_lecture_dqn.training.due import Due

__all__ = [
    "ActionInPolicy",
    "ActionMaskInfo",
    "Diagnosis",
    "DiscreteEmbeddingExtractor",
    "DiscreteObservationWrapper",
    "DivergedError",
    "Due",
    "EpisodeNotReplayedError",
    "EpisodeProgressBarCallback",
    "Finding",
    "LectureCheckpointCallback",
    "LectureDQN",
    "LecturePageCallback",
    "LecturePolicy",
    "LectureQRDQN",
    "LectureQuantilePolicy",
    "LectureTensorBoardCallback",
    "LectureTestCallback",
    "NotTabularError",
    "OptimalValues",
    "OtherArithmeticError",
    "ResumableEnv",
    "SuccessFailReplayBuffer",
    "TablePolicy",
    "TabularModel",
    "TabularVecEnv",
    "TestResult",
    "TupleToDictWrapper",
    "UnsafeFileError",
    "diagnose",
    "exact_test",
    "make_env",
    "optimal_values",
    "run_test",
]
