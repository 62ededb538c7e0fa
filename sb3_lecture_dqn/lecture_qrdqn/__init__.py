"""The lecture's QR-DQN and its policy."""

from sb3_lecture_dqn.lecture_qrdqn.lecture_qrdqn import LectureQRDQN
from sb3_lecture_dqn.lecture_qrdqn.policies import LectureQuantilePolicy

__all__ = ["LectureQRDQN", "LectureQuantilePolicy"]
