"""YAML from users and strangers: plain values only, read in bounded time and memory, with clear errors."""

import os
import pathlib
import re
import stat
from typing import IO, Any

import yaml

from sb3_lecture_dqn.common.checks import shown

#: Most bytes and entries of a file, and most levels of nesting
MAX_BYTES, MAX_ENTRIES, MAX_DEPTH = 2**20, 20_000, 32
_CORE = "tag:yaml.org,2002:"
#: ``1e-3`` is a number in YAML 1.2, but text in YAML 1.1, which PyYAML reads
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")


class NotPlainError(yaml.YAMLError):
    """
    YAML that this module refuses to read.

    :param problem: The reason
    :param place: The node or event where it is
    """

    def __init__(self, problem: str, place: Any) -> None:
        super().__init__(f"{problem} (line {place.start_mark.line + 1}, column {place.start_mark.column + 1})")


class PlainLoader(yaml.SafeLoader):
    """
    Reads tables, lists, text, numbers, true, false and null.

    It refuses aliases, because a few lines of them can stand for gigabytes; repeated keys, of which PyYAML takes the
    last; and tags, which stand for dates, sets and Python's objects.
    """

    def __init__(self, stream: str | bytes | IO[Any]) -> None:
        super().__init__(stream)
        self._depth = self._n_entries = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, and more entries or levels than allowed."""
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
        """Refuse repeated keys."""
        keys = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            # Other keys could be chosen to have equal hashes, which makes a dictionary very slow.
            if not isinstance(key, str) and not (type(key) is int and abs(key) < 2**31):
                raise NotPlainError("it has a key that is neither text nor a small number", key_node)
            if key in keys:
                raise NotPlainError(f"it has {key!r} twice", key_node)
            keys.add(key)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Read an integer of at most 64 bits: for long ones Python takes very long."""
        number = self.construct_yaml_int(node) if len(node.value) <= 100 else 2**64
        if abs(number) >= 2**64:
            raise NotPlainError("it has an integer of more than 64 bits", node)
        return number

    def refuse(self, node: yaml.Node) -> Any:
        """Refuse a tag."""
        raise NotPlainError(f"it has the tag {node.tag!r}, which is not plain data", node)


PlainLoader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is not None and tag.removeprefix(_CORE) in ("null", "bool", "int", "float", "str", "seq", "map")
}
PlainLoader.add_constructor(f"{_CORE}int", PlainLoader.construct_int)
PlainLoader.add_constructor(None, PlainLoader.refuse)
# Dates and merge keys are read as text.
PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_CORE) in ("null", "bool", "int", "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
PlainLoader.add_implicit_resolver(f"{_CORE}float", _FLOAT, list("-+.0123456789"))


class PlainDumper(yaml.SafeDumper):
    """Writes plain values so that :class:`PlainLoader` reads the same: text such as ``1e-3`` is quoted, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write a value in every place where it is."""
        return True


PlainDumper.add_implicit_resolver(f"{_CORE}float", _FLOAT, list("-+.0123456789"))


def write_yaml(data: Any) -> str:
    """
    Write plain values as YAML.

    :param data: Tables, lists, text, numbers, booleans and ``None``
    :return: YAML that :func:`read_yaml` reads, tables in their order
    """
    return yaml.dump(data, Dumper=PlainDumper, sort_keys=False)


def read_yaml(source: str | pathlib.Path, text: str | bytes, loader: type[PlainLoader] = PlainLoader) -> Any:
    """
    Read YAML from an untrusted source.

    :param source: Its origin, for messages
    :param text: The YAML
    :param loader: The class that reads it
    :return: Plain data
    :raises ValueError: If it is not YAML, is not plain data, or is too large
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{shown(source, 1000)} has more than the {MAX_BYTES} bytes allowed")
    try:
        return yaml.load(text, Loader=loader)
    except NotPlainError as error:
        raise ValueError(f"{shown(source, 1000)}: {shown(error, 2000)}") from error
    # The others are PyYAML's own for values that do not fit their tags, such as "!!int x" and "!!bool x".
    except (yaml.YAMLError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{shown(source, 1000)} is not YAML: {shown(' '.join(str(error).split()), 2000)}") from error


def read_yaml_file(path: str | pathlib.Path, loader: type[PlainLoader] = PlainLoader) -> Any:
    """
    Read a file of YAML.

    :param path: The file
    :param loader: See :func:`read_yaml`
    :return: Plain data
    :raises ValueError: See :func:`read_yaml`; also if it is not a regular file
    :raises OSError: If it cannot be read
    """
    with open_regular(path) as file:
        return read_yaml(path, file.read(MAX_BYTES + 1), loader)


def open_regular(path: str | pathlib.Path) -> IO[bytes]:
    """
    Open a regular file for reading. A pipe or device is refused, because reading it may never end.

    :param path: The file, or a symbolic link to it
    :return: The open binary file
    :raises ValueError: If it is not a regular file
    :raises OSError: If it cannot be opened
    """
    # With O_NONBLOCK, a pipe without a writer does not block.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{shown(path, 1000)} is not a regular file")
    return os.fdopen(descriptor, "rb")
