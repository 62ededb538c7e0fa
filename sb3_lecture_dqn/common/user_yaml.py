"""YAML of users and of others, read as data: plain values, in bounded time and memory, with mistakes named."""

import os
import pathlib
import re
import stat
from typing import IO, Any

import yaml

from sb3_lecture_dqn.common.checks import shown

#: Most bytes of a file, most entries that it may have, and how deep they may lie in each other
MAX_BYTES, MAX_ENTRIES, MAX_DEPTH = 2**20, 20_000, 32
_CORE = "tag:yaml.org,2002:"
#: YAML 1.2 has ``1e-3`` as a number; in YAML 1.1, which PyYAML reads, it is text
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")


class NotPlainError(yaml.YAMLError):
    """
    YAML that is not read.

    :param problem: What it has.
    :param place: Where, a node or an event.
    """

    def __init__(self, problem: str, place: Any) -> None:
        super().__init__(f"{problem} (line {place.start_mark.line + 1}, column {place.start_mark.column + 1})")


class PlainLoader(yaml.SafeLoader):
    """
    Reads tables, lists, text, numbers, true, false and null.

    Aliases are refused: a few lines of them stand for gigabytes. So are keys that are there twice, of which PyYAML
    takes the last, and tags, by which YAML has dates, sets and Python's objects.
    """

    def __init__(self, stream: str | bytes | IO[Any]) -> None:
        super().__init__(stream)
        self._depth = self._n_entries = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, and more than the limits."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise NotPlainError(f"it has an anchor or alias, {event.anchor!r}: write out what it stands for", event)
        self._n_entries += 1
        if self._n_entries > MAX_ENTRIES or self._depth >= MAX_DEPTH:
            problem = f"it has more than {MAX_ENTRIES} entries"
            if self._depth >= MAX_DEPTH:
                problem = f"its entries lie more than {MAX_DEPTH} deep in each other"
            raise NotPlainError(problem, event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse keys that are there twice."""
        keys = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            # Of others, Python may have to look for each where all others are
            if not isinstance(key, str) and not (type(key) is int and abs(key) < 2**31):
                raise NotPlainError("it has a key that is no text and no small number", key_node)
            if key in keys:
                raise NotPlainError(f"it has {key!r} twice", key_node)
            keys.add(key)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Read an integer of at most 64 bits: Python takes very long over the digits of long ones."""
        number = self.construct_yaml_int(node) if len(node.value) <= 100 else 2**64
        if abs(number) >= 2**64:
            raise NotPlainError("it has an integer of more than 64 bits", node)
        return number

    def refuse(self, node: yaml.Node) -> Any:
        """Refuse a tag."""
        raise NotPlainError(f"it has the tag {node.tag!r}, which is no plain data", node)


PlainLoader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is not None and tag.removeprefix(_CORE) in ("null", "bool", "int", "float", "str", "seq", "map")
}
PlainLoader.add_constructor(f"{_CORE}int", PlainLoader.construct_int)
PlainLoader.add_constructor(None, PlainLoader.refuse)
# Neither dates nor keys that merge tables: both are text here.
PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_CORE) in ("null", "bool", "int", "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
PlainLoader.add_implicit_resolver(f"{_CORE}float", _FLOAT, list("-+.0123456789"))


def read_yaml(source: str | pathlib.Path, text: str | bytes, loader: type[PlainLoader] = PlainLoader) -> Any:
    """
    Read YAML that a user, or somebody else, has written.

    :param source: Where it comes from, for the message.
    :param text: The YAML.
    :param loader: What of YAML is read.
    :return: Plain data.
    :raises ValueError: If it is none, or more than is read.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{shown(source, 1000)} is longer than the {MAX_BYTES} bytes that are read")
    try:
        return yaml.load(text, Loader=loader)
    except NotPlainError as error:
        raise ValueError(f"{shown(source, 1000)}: {shown(error, 2000)}") from error
    except (yaml.YAMLError, ValueError) as error:  # the second: "!!int x"
        raise ValueError(f"{shown(source, 1000)} is no YAML: {shown(' '.join(str(error).split()), 2000)}") from error


def read_yaml_file(path: str | pathlib.Path, loader: type[PlainLoader] = PlainLoader) -> Any:
    """
    Read a file of YAML.

    :param path: The file.
    :param loader: See :func:`read_yaml`.
    :return: Plain data.
    :raises ValueError: See :func:`read_yaml`; also if it is no regular file.
    :raises OSError: If it cannot be read.
    """
    with open_regular(path) as file:
        return read_yaml(path, file.read(MAX_BYTES + 1), loader)


def open_regular(path: str | pathlib.Path) -> IO[bytes]:
    """
    Open a file to read it, but no pipe or device: reading one may never end.

    :param path: The file, or a symbolic link to one.
    :return: Binary file.
    :raises ValueError: If it is none.
    :raises OSError: If it cannot be opened.
    """
    # A pipe without a writer would not even open
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{shown(path, 1000)} is no regular file")
    return os.fdopen(descriptor, "rb")
