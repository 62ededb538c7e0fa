"""Settings of the whole suite."""

import os

import torch as th
from hypothesis import settings

# The networks here are small: more threads would only cost, and would fight with pytest-xdist's processes.
th.set_num_threads(1)

# The same examples in every run, so that a failure is one everywhere; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
