"""
Write the API reference, ``api.md`` beside this file, from the docstrings of everything that the package exports.

    python examples/api.py
"""

import functools
import inspect
import re
from pathlib import Path
from typing import Any

import sb3_lecture_dqn
from sb3_lecture_dqn import study, zoo

PROPERTIES = (property, functools.cached_property)

API = Path(__file__).with_name("api.md")
HEAD = """\
# API reference

Everything that `sb3_lecture_dqn`, its `zoo` and its `study` export. Written by `python examples/api.py` from the
docstrings; what a class has from Stable-Baselines3, sb3-contrib or gymnasium is documented there.
"""
FIELD = re.compile(r"^:(param|return|raises)\s?([^:]*): ?", re.MULTILINE)


def to_markdown(docstring: str) -> str:
    """
    Convert a docstring to Markdown.

    :param docstring: In reST, as in Stable-Baselines3
    :return: In Markdown, with its fields as a list
    """
    text = re.sub(r":(?:class|meth|func|data|attr|mod):`~?([^`]+)`", r"`\1`", inspect.cleandoc(docstring))
    text = re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL).replace("::\n", ":\n")
    names = {"param": "- `{}`: ", "return": "- returns: ", "raises": "- raises `{}`: "}
    body, *fields = re.split(r"(?=^:(?:param|return|raises))", text, flags=re.MULTILINE)
    listed = [FIELD.sub(lambda match: names[match[1]].format(match[2].strip()), field.strip(), 1) for field in fields]
    return "\n".join([body.strip(), "", *(re.sub(r"\n\s*", "\n  ", field) for field in listed)]).strip()


def signature(thing: Any) -> str:
    """
    Format the parameters of a function.

    :param thing: The function, or a class for its constructor
    :return: Names and defaults, without types
    """
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return "(message)"
    given = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in inspect.signature(thing).parameters.items()
        if name not in ("self", "cls", "_init_setup_model")
    ]
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", str(inspect.Signature(given)))


def members(kind: type) -> list[tuple[str, Any]]:
    """
    Find the members that a class adds to its bases.

    :param kind: The class
    :return: Its documented public methods and properties from this package, by name
    """
    found = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("sb3_lecture_dqn"):
            found.update({name: getattr(kind, name) for name in vars(base) if not name.startswith("_")})
    documented = {name: one for name, one in found.items() if (inspect.getdoc(one) or "See").split()[0] != "See"}
    return [(n, one) for n, one in documented.items() if inspect.isroutine(one) or isinstance(one, PROPERTIES)]


def describe(name: str, thing: Any) -> str:
    """
    Write the section of one name.

    :param name: The name
    :param thing: The function or class
    :return: Heading, signature and docstring, and those of the members of a class
    """
    parts = [f"## {name}", f"```text\n{name.split('.')[-1]}{signature(thing)}\n```", to_markdown(thing.__doc__)]
    if inspect.isclass(thing):
        for member, one in members(thing):
            call = "" if isinstance(one, PROPERTIES) else signature(one)
            parts += [f"### {name}.{member}", f"```text\n{member}{call}\n```", to_markdown(inspect.getdoc(one) or "")]
    return "\n\n".join(parts)


def reference() -> str:
    """
    Write the whole page.

    :return: Its text
    """
    exported = {name: getattr(sb3_lecture_dqn, name) for name in sb3_lecture_dqn.__all__}
    public = (zoo.main, zoo.register, zoo.hyperparams_files, zoo.sample_params, zoo.convert_params)
    exported |= {f"zoo.{function.__name__}": function for function in public}
    exported |= {f"study.{name}": getattr(study, name) for name in study.__all__}
    links = "\n".join(f"- [{name}](#{name.lower().replace('.', '')})" for name in exported)
    return "\n\n".join([HEAD.strip(), links, *(describe(*item) for item in exported.items())]) + "\n"


if __name__ == "__main__":
    API.write_text(reference(), encoding="utf-8")
    print(f"{reference().count(chr(10) + '## ')} names are in {API}")
