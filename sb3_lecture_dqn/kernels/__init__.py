"""
Loops compiled by numba. They take and return only arrays and numbers.

From the ground up: :mod:`compiling` and :mod:`simd`, vectors of eight numbers; :mod:`networks`, forward passes;
:mod:`minibatches`, updates on several transitions; :mod:`updates`, those on one transition, and loops over updates;
:mod:`rollouts`, the training loop on tabular environments. :mod:`index`, :mod:`draws` and :mod:`memories` serve the
memory.

:mod:`available` and :mod:`kinds` can be imported without numba.
"""
