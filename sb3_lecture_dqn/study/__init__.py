"""Studies: many tasks × settings × seeds, run here or on a Ray cluster, and what can fairly be said of the results."""

from sb3_lecture_dqn.study.plan import Plan, Trial, lecture_plan
from sb3_lecture_dqn.study.runner import run_plan
from sb3_lecture_dqn.study.table import read_rows
from sb3_lecture_dqn.study.trial import run_trial

__all__ = ["Plan", "Trial", "lecture_plan", "read_rows", "run_plan", "run_trial"]
