"""Run by test_package.py in a process of its own: what importing the package changes in it, which is to be nothing."""

import contextlib
import gc
import importlib
import json
import logging
import multiprocessing
import os
import pkgutil
import random
import signal
import sys
import types
import warnings

import gymnasium as gym
import numpy as np
import torch as th

PACKAGES = ("gymnasium", "stable_baselines3", "sb3_contrib", "rl_zoo3")
#: Scripts, which run when they are imported
SCRIPTS = ("rl_zoo3.benchmark", "rl_zoo3.cli")


def import_all(package: str) -> None:
    """All modules of a package that can be imported here, so that none is first imported by ours."""
    try:
        top = importlib.import_module(package)
    except ImportError:
        return
    for module in pkgutil.walk_packages(top.__path__, f"{package}.", onerror=lambda _: None):
        if module.name not in SCRIPTS and not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError, gym.error.Error, AttributeError):  # an extra that is not installed
                importlib.import_module(module.name)


def attributes() -> dict[str, object]:
    """Every global, and every attribute of a class, of the modules of other packages."""
    found: dict[str, object] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in PACKAGES or not isinstance(module, types.ModuleType):
            continue
        for key, value in list(vars(module).items()):
            found[f"{name}:{key}"] = value
            if isinstance(value, type) and value.__module__.partition(".")[0] in PACKAGES:
                for part, inner in list(vars(value).items()):
                    found[f"{value.__module__}.{value.__qualname__}.{part}"] = inner
                    if callable(function := getattr(inner, "__func__", inner)):
                        found[f"{value.__module__}.{value.__qualname__}.{part} code"] = getattr(
                            function, "__code__", None
                        )
            elif isinstance(value, types.FunctionType):
                found[f"{name}:{key} code"] = value.__code__
            elif isinstance(value, dict | list | set) and key != "registry" and not key.startswith("__"):
                found[f"{name}:{key} content"] = [id(part) for part in value]
    return found


def process() -> dict[str, object]:
    """What belongs to the whole process."""
    loggers = [
        logging.root,
        *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)),
    ]
    import matplotlib

    return {
        "environment": dict(os.environ),
        "warnings": [repr(entry) for entry in warnings.filters],
        "showwarning": warnings.showwarning,
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, sys.displayhook, sys.unraisablehook, sys.stdout, sys.stderr),
        "path": list(sys.path),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.get_threshold(), gc.isenabled()),
        "loggers": {one.name: (one.level, one.disabled, one.propagate, list(one.handlers)) for one in loggers},
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "errors": np.geterr(),
        "printing": repr(np.get_printoptions()),
        "torch": th.get_rng_state().numpy().tobytes(),
        "defaults": (
            th.get_default_dtype(),
            th.get_default_device(),
            th.get_num_threads(),
            th.get_num_interop_threads(),
            th.is_grad_enabled(),
            th.are_deterministic_algorithms_enabled(),
            th.get_float32_matmul_precision(),
            th.backends.cudnn.benchmark,
        ),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "directory": os.getcwd(),
        "matplotlib": (matplotlib.get_backend(auto_select=False), dict(matplotlib.rcParams)),
    }


for package in PACKAGES:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_all(package)
before, state, specs = attributes(), process(), dict(gym.registry)
import sb3_lecture_dqn  # noqa: E402, F401

after, state_after = attributes(), process()
replaced = [name for name, value in before.items() if name.endswith(" content") and after.get(name) != value]
replaced += [n for n, value in before.items() if not n.endswith(" content") and after.get(n, gc) is not value]
added = [
    name for name in after if name not in before and name.rpartition(":")[0] in {n.rpartition(":")[0] for n in before}
]
print(
    json.dumps(
        {
            "replaced": replaced,
            "added": added,
            "process": [name for name, value in state.items() if state_after[name] != value],
            "registry": [env_id for env_id, spec in specs.items() if gym.registry.get(env_id) is not spec],
            "ids": sorted(gym.registry.keys() - specs.keys()),
            "n": len(before),
        }
    )
)
