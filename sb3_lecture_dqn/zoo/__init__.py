"""The RL Zoo with the algorithms of this package. Needs the extra ``zoo``."""

from sb3_lecture_dqn.zoo.registration import ALGOS, hyperparams_files, register
from sb3_lecture_dqn.zoo.scripts import main
from sb3_lecture_dqn.zoo.search import convert_params, sample_params
from sb3_lecture_dqn.zoo.with_masks import masked_evaluation

__all__ = ["ALGOS", "convert_params", "hyperparams_files", "main", "masked_evaluation", "register", "sample_params"]
