"""Studies: tasks × settings × seeds, run on this machine or on a Ray cluster, and reported with intervals."""

from sb3_lecture_dqn.common.statistics import (
    Estimate,
    estimate_interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from sb3_lecture_dqn.study.on_ray import run_plan_on_ray
from sb3_lecture_dqn.study.plan import Plan, Trial, lecture_plan
from sb3_lecture_dqn.study.report import write_report
from sb3_lecture_dqn.study.runner import run_plan
from sb3_lecture_dqn.study.table import read_rows
from sb3_lecture_dqn.study.trial import run_trial

__all__ = [
    "Estimate",
    "Plan",
    "Trial",
    "estimate_interquartile_mean",
    "lecture_plan",
    "performance_profile",
    "probability_of_improvement",
    "read_rows",
    "run_plan",
    "run_plan_on_ray",
    "run_trial",
    "write_report",
]
