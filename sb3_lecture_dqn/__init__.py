"""
The deep Q-network of a university lecture as an extension of Stable-Baselines3.

The map of the package, from top to bottom. Imports run one way: a file imports from its own folder and from entries
further down.

============================  =============================================================================
``cli.py``, ``__main__.py``   the command ``sb3-lecture-dqn``
``commands/``                 its commands, one file each: train, test, diagnose, watch, …
``public.py``                 the names that the package exports
``zoo/``                      the plugin for RL Zoo, which trains and loads the algorithms by its own commands
``study/``                    studies: many tasks × settings × seeds, their tables and statistics
``show/``                     pictures, films, plots, TensorBoard and the page of a run
``algorithms.py``             the table of algorithms; loading a file whose algorithm is unknown
``lecture_dqn/``              ``LectureDQN``: its settings, its equation ``compute_loss``, its policies
``lecture_qrdqn/``            ``LectureQRDQN``: the same for quantiles
``training/``                 the training loop, exploration, settings, tuned settings (``hyperparams/``), callbacks
``saving/``                   files of models, replay memories and checkpoints
``evaluation/``               tests of models, and the environments for tests
``engine/``                   gradient updates: by PyTorch for every model, by compiled loops for all but images
``envs/``                     environments: made by id, as tables, with action masks
``common/``                   replay memory, network layers, wrappers, checks of input, random generators
``kernels/``                  the loops compiled by numba
``registration.py``           the environment ids of this package
============================  =============================================================================
"""

import importlib
from typing import TYPE_CHECKING, Any

from sb3_lecture_dqn.registration import register_ids

__version__ = "2.0.0"

register_ids()

# Importing PyTorch and Stable-Baselines3 takes seconds, so the exported names are imported when one of them is used.
if TYPE_CHECKING:
    from sb3_lecture_dqn.public import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """Import the exported names, and return the one asked for, or a room of the package that came with them."""
        if name == "__all__" or not name.startswith("_"):
            public = importlib.import_module("sb3_lecture_dqn.public")
            globals().update({"__all__": public.__all__}, **{each: getattr(public, each) for each in public.__all__})
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """List the exported names too."""
        __getattr__("__all__")
        return sorted(globals())
