"""
The environment ids of this package. Importing the package registers them in gymnasium.

Importing the package alone does not import gymnasium, because the command line shall answer at once. So the ids are
registered when gymnasium is imported: at once if it is imported already.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

TAXI_V3 = "Taxi-v3"
#: The lecture's task by both ids, which have the same table and, for a seed, the same start
TAXI_IDS = (TAXI_V3, "Taxi-v4")
# Tasks with other settings, which need other ids: the new id, the original id and its settings
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "TaxiRainy-v3": (TAXI_V3, {"is_rainy": True}),
    "FrozenLakeNotSlippery-v1": ("FrozenLake-v1", {"is_slippery": False}),
    "FrozenLake8x8NotSlippery-v1": ("FrozenLake8x8-v1", {"is_slippery": False}),
}
_GYMNASIUM = "gymnasium"


def register_taxi_v3() -> None:
    """
    Make ``gym.make("Taxi-v3")`` work if gymnasium registers only ``Taxi-v4`` (gymnasium >= 1.3).

    With default arguments both versions have the same transition table, so the id is an alias. gymnasium still advises
    an upgrade if a user makes an environment by the older id. This package avoids that advice by :func:`registered`.
    """
    import gymnasium as gym

    if TAXI_V3 in gym.registry:
        return
    gym.register(
        id=TAXI_V3,
        entry_point="gymnasium.envs.toy_text.taxi:TaxiEnv",
        reward_threshold=8,
        max_episode_steps=200,
    )


def register_variants() -> None:
    """Register :data:`VARIANTS`, except ids that another package has registered."""
    import gymnasium as gym

    for env_id, (original, kwargs) in VARIANTS.items():
        if env_id not in gym.registry:
            spec = gym.spec(original)
            gym.register(
                id=env_id,
                entry_point=spec.entry_point,
                max_episode_steps=spec.max_episode_steps,
                kwargs={**spec.kwargs, **kwargs},
            )


def registered(env_id: str) -> "str | EnvSpec":
    """
    Return the argument of ``gymnasium.make`` for an id.

    :param env_id: A registered environment id
    :return: The id; for ``Taxi-v3`` its specification, because gymnasium advises an upgrade if it is made by the id,
        see :func:`register_taxi_v3`
    """
    import gymnasium as gym

    is_alias = env_id.removeprefix("sb3_lecture_dqn:") == TAXI_V3
    return gym.registry[TAXI_V3] if is_alias and TAXI_V3 in gym.registry else env_id


def register_ids() -> None:
    """Register the ids now if gymnasium is imported, otherwise when it is imported for the first time."""
    if hasattr(sys.modules.get(_GYMNASIUM), "registry"):
        register_taxi_v3()
        register_variants()
    elif not any(isinstance(finder, _GymnasiumFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _GymnasiumFinder())


class _GymnasiumFinder(MetaPathFinder):
    """Finds gymnasium as the other finders do, and has the ids registered once it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of gymnasium; ``None`` for all other modules."""
        if name != _GYMNASIUM:
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, _GymnasiumFinder))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _GymnasiumLoader(spec.loader, self)
        return spec


class _GymnasiumLoader(Loader):
    """Loads gymnasium by its own loader, removes the finder, and registers the ids."""

    def __init__(self, own: Loader, finder: MetaPathFinder) -> None:
        self.own, self.finder = own, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, whose loader is its own from now on, and register the ids."""
        module.__loader__ = self.own
        if module.__spec__ is not None:
            module.__spec__.loader = self.own
        self.own.exec_module(module)
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
        register_taxi_v3()
        register_variants()
