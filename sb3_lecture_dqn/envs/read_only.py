"""Dictionaries and lists that refuse changes, because a change would have no effect."""

import copy
from typing import Any, NoReturn


def _refuse(container: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError(
        f"{container.name} cannot be changed: a TabularVecEnv steps on arrays of the same numbers. Change a "
        "copy.deepcopy of it and train on TabularVecEnv(TabularModel(...)), or train on an environment that "
        "gymnasium.make makes"
    )


class ReadOnlyDict(dict[Any, Any]):
    """
    A dictionary that refuses changes; its copies are plain dictionaries.

    :param name: Its name, for the message
    :param items: Its items
    """

    def __init__(self, name: str, items: dict[Any, Any]) -> None:
        super().__init__(items)
        self.name = name

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return copy.deepcopy(dict(self), memo)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class ReadOnlyList(list[Any]):
    """
    A list that refuses changes; its copies are plain lists.

    :param name: Its name, for the message
    :param items: Its items
    """

    def __init__(self, name: str, items: list[Any]) -> None:
        super().__init__(items)
        self.name = name

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return copy.deepcopy(list(self), memo)

    def __reduce__(self) -> Any:
        return list, (list(self),)
