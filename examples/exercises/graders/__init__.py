"""
The graders of the exercises: each compares a function with the right one, and recognises common mistakes.

A grader calls the function on a few cases. If an answer is wrong, it looks for a mistake that gives exactly these
answers in all cases. So a hint is only given if it fits. The right answers come from ``lecture_loop.py`` or from a
closed form.
"""

from graders.acting import grade_epsilon, grade_test
from graders.common import Function, Mistake
from graders.learning import grade_renew_target, grade_sgd_step, grade_target_value
from graders.memory import grade_draw, grade_store

__all__ = ["GRADERS", "Mistake"]

GRADERS: dict[str, Function] = {
    "epsilon": grade_epsilon,
    "store": grade_store,
    "draw": grade_draw,
    "target_value": grade_target_value,
    "sgd_step": grade_sgd_step,
    "renew_target": grade_renew_target,
    "test": grade_test,
}
