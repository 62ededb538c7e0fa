"""A callback and all callbacks inside it."""

from collections.abc import Iterator

from stable_baselines3.common.callbacks import BaseCallback, CallbackList


def callback_tree(callback: BaseCallback) -> Iterator[BaseCallback]:
    """
    Go through a callback and all callbacks inside it, depth first.

    :param callback: The callback
    :return: The callback itself, then those inside it, each once
    """
    stack, seen = [callback], set[int]()
    while stack:
        current = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        children = current.callbacks if isinstance(current, CallbackList) else vars(current).values()
        stack.extend(reversed([child for child in children if isinstance(child, BaseCallback)]))
