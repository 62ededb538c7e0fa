"""Description of a measurement: the machine, the versions and the command."""

import importlib.util
import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("stable-baselines3", "sb3-contrib", "torch", "gymnasium", "numpy", "numba", "sbx-rl", "jax", "cleanrl")


def cpu_name() -> str:
    """Return the model of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def load() -> str:
    """Return the load of the machine: the average number of running processes in the last minute."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def describe_machine(script: str) -> dict[str, Any]:
    """
    Describe how the figures are measured.

    :param script: Name of the script in this folder that measures
    :return: The facts by name
    """
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if importlib.util.find_spec(package) is not None:  # a folder on the path
                packages[package] = "from source"
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", f"examples/benchmarks/{script}", *sys.argv[1:]]),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": packages,
        "load": load(),
    }


def sentence(machine: dict[str, Any], used: str = "one was") -> str:
    """
    Describe the same in sentences.

    :param machine: The result of :func:`describe_machine`
    :param used: Number of cores used
    :return: Sentences that end with the command
    """
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cores']} cores of which {used} used, "
        f"{machine['system']}, Python {machine['python']}, {packages}. Load average at the start: {machine['load']}. "
        f"Command: `{machine['command']}`."
    )
