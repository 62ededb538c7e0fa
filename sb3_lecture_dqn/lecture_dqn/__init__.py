"""The lecture's DQN and its policies."""

from sb3_lecture_dqn.lecture_dqn.lecture_dqn import LectureDQN
from sb3_lecture_dqn.lecture_dqn.policies import ActionInPolicy, LecturePolicy, TablePolicy

__all__ = ["ActionInPolicy", "LectureDQN", "LecturePolicy", "TablePolicy"]
