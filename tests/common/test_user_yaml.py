"""YAML of users and of others: plain data comes out, in bounded time and memory, and nothing else."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sb3_lecture_dqn.common.checks import shown
from sb3_lecture_dqn.common.user_yaml import MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, read_yaml, read_yaml_file, write_yaml

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda parts: (
        st.lists(parts, max_size=4) | st.dictionaries(st.text() | st.integers(-1000, 1000), parts, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
@example({"0E0": ["1e-3", "1.", ".5", "-1e3"]})
def test_plain_data_comes_back(data):
    assert read_yaml("here", write_yaml(data)) == data


BOMB = "a0: &a0 [x, x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "it has an anchor or alias, 'a0': write out what it stands for .line 1, column 5"),
        ("a: &here 1", "it has an anchor or alias, 'here'"),
        ("*here", "it has an anchor or alias, 'here'"),
        ("[" * 100_000, f"its entries lie more than {MAX_DEPTH} deep"),
        ("- " * 100_000, f"its entries lie more than {MAX_DEPTH} deep"),
        ("{a: " * 100_000, f"its entries lie more than {MAX_DEPTH} deep"),
        ("[" + "1, " * (MAX_ENTRIES + 1) + "]", f"it has more than {MAX_ENTRIES} entries"),
        ("#" * (MAX_BYTES + 1), f"has more than the {MAX_BYTES} bytes"),
        ("seed: 1\nenv: x\nseed: 2", "it has 'seed' twice .line 3"),
        ("? [a]\n: 1", "a key that is neither text nor a small number"),
        ("1.5: 1", "a key that is neither text nor a small number"),
        (f"{2**61 - 1}: 1", "a key that is neither text nor a small number"),
        ("a: 0x" + "f" * 100, "an integer of more than 64 bits"),
        ("a: " + "9" * 5000, "an integer of more than 64 bits"),
        ("!!python/object/apply:os.system [true]", "it has the tag .*os.system"),
        ("!!set {a}", "it has the tag"),
        ("!!timestamp 2026-01-01", "it has the tag"),
        ("!!int x", "is not YAML"),
        ("!!int ''", "is not YAML"),
        ("!!bool x", "is not YAML"),
        ("!!map [a]", "is not YAML"),
        ("a: " + "1:" * 300 + "1.0", "is not YAML"),
        ("'", "is not YAML: while scanning"),
        ("\x00", "is not YAML"),
        ("a\n---\nb", "is not YAML: expected a single document"),
        (b"\xff\xff", "is not YAML"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_plain_data_is_named(text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_yaml("my.yaml", text)
    assert str(error.value).startswith("my.yaml")
    assert len(str(error.value)) < 3000


def test_neither_dates_nor_merged_tables():
    assert read_yaml("here", "a: 2026-01-31\n<<: {b: 1}\n=: 3") == {"a": "2026-01-31", "<<": {"b": 1}, "=": 3}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_and_a_device_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(ValueError, match="is not a regular file"):
            read_yaml_file(path)


@given(st.text())
def test_what_is_shown_is_printable_and_in_one_line(text):
    assert shown(text).isprintable()
    assert shown(text) == text or not text.isprintable()
    assert len(shown(text, 3)) <= 31


def test_a_terminal_is_not_told_anything():
    assert shown("a\x1b]0;owned\x07\u202eb\n\udc80") == "a\\x1b]0;owned\\x07\\u202eb\\n\\udc80"
    assert shown("안녕 ü") == "안녕 ü"
