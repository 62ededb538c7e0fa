"""The guide's page on `diagnose`: its code runs, and prints what the page shows."""

import pathlib
import re

from sb3_lecture_dqn.evaluation import diagnosis_words

PAGE = pathlib.Path(__file__).parents[2] / "examples" / "guide" / "diagnose.md"


def test_the_page_shows_what_its_code_prints(capsys):
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    names = {}
    for language, code in blocks:
        if language == "python":
            exec(code, names)
    out = capsys.readouterr().out
    (shown,) = (text for language, text in blocks if language == "")
    assert out.startswith(shown)
    assert out[len(shown) :].startswith("never_seen 2 (")


def test_the_page_explains_every_kind_of_finding_on_tables():
    kinds = set(re.findall(r"`(\w+)`", re.search(r"\| kind .*?\n\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]))
    without_table = {"no_rewards", "one_action", "returns", "values", "no_memory"}
    assert set(diagnosis_words.TITLES) <= kinds | without_table
