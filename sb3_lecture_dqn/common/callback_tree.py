"""A callback and all that it calls."""

from collections.abc import Iterator

from stable_baselines3.common.callbacks import BaseCallback, CallbackList


def callback_tree(callback: BaseCallback) -> Iterator[BaseCallback]:
    """
    Go through a callback and all that it calls.

    :param callback: The callback
    :return: Itself, then its children, each before its own, and each once
    """
    left, seen = [callback], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        children = one.callbacks if isinstance(one, CallbackList) else vars(one).values()
        left.extend(reversed([child for child in children if isinstance(child, BaseCallback)]))
