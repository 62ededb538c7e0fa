"""
The deep Q-network of a university lecture as an extension of Stable-Baselines3.

The map of the package, from top to bottom. Imports run one way: a file imports from its own folder and from entries
further down.

============================  =============================================================================
``cli.py``, ``__main__.py``   the command ``sb3-lecture-dqn``: train, test, watch, plot, ablate
``config_file.py``            the options of a run as ``config.yaml``
``zoo/``                      the plugin for RL Zoo, which trains and loads the algorithms by its own commands
``study/``                    studies: many tasks × settings × seeds, their tables and statistics
``show/``                     pictures, films, plots and TensorBoard
``algorithms.py``             the table of algorithms; loading a file whose algorithm is unknown
``lecture_dqn/``              ``LectureDQN``: its settings, its equation ``compute_loss``, its policies
``lecture_qrdqn/``            ``LectureQRDQN``: the same for quantiles
``training/``                 the training loop, exploration, settings, tuned settings (``hyperparams/``), callbacks
``saving/``                   files of models, replay memories and checkpoints
``evaluation/``               tests of models, and the environments for tests
``engine/``                   gradient updates: by PyTorch for every model, by compiled loops for the lecture's
``envs/``                     environments: made by id, as tables, with action masks
``common/``                   replay memory, network layers, wrappers, checks of input, random generators
``kernels/``                  the loops compiled by numba
============================  =============================================================================
"""

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import OtherArithmeticError, UnsafeFileError
from sb3_lecture_dqn.common.torch_layers import DiscreteEmbeddingExtractor
from sb3_lecture_dqn.common.wrappers import DiscreteObservationWrapper, ResumableEnv, TupleToDictWrapper
from sb3_lecture_dqn.engine.divergence import DivergedError
from sb3_lecture_dqn.envs.make import make_env, register_taxi_v3, register_variants
from sb3_lecture_dqn.envs.masks import ActionMaskInfo
from sb3_lecture_dqn.envs.tabular import NotTabularError, OptimalValues, TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.evaluation.result import TestResult
from sb3_lecture_dqn.evaluation.run import exact_test, run_test
from sb3_lecture_dqn.evaluation.values import optimal_values
from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_dqn.policies import ActionInPolicy, LecturePolicy, TablePolicy
from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.lecture_qrdqn.policies import LectureQuantilePolicy
from sb3_lecture_dqn.saving.env_state import EpisodeNotReplayedError
from sb3_lecture_dqn.show.tensorboard import LectureTensorBoardCallback
from sb3_lecture_dqn.training.callbacks import (
    EpisodeProgressBarCallback,
    LectureCheckpointCallback,
    LectureTestCallback,
)
from sb3_lecture_dqn.training.due import Due

__version__ = "1.0.0"

__all__ = [
    "ActionInPolicy",
    "ActionMaskInfo",
    "DiscreteEmbeddingExtractor",
    "DiscreteObservationWrapper",
    "DivergedError",
    "Due",
    "EpisodeNotReplayedError",
    "EpisodeProgressBarCallback",
    "LectureCheckpointCallback",
    "LectureDQN",
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
    "exact_test",
    "make_env",
    "optimal_values",
    "run_test",
]

register_taxi_v3()
register_variants()
