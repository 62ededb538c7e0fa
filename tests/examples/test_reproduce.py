"""The figures of the pages: those of the stored tables, and what is not is found."""

import importlib
import pathlib
import re

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(scope="module")
def scripts():
    """The modules ``reproduce`` and ``figures``, which scripts import as their neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("reproduce"), importlib.import_module("figures")


def test_the_figures_hold_by_the_quick_check(scripts, capsys):
    """A page, or a stored table, has been changed without the other if this fails. The output says which."""
    reproduce, _ = scripts
    code = reproduce.main(["--quick"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert printed.endswith("All figures hold.\n")
    assert re.search(r"4 short runs: 4 hold, \d took as many steps", printed)


@pytest.mark.parametrize(
    ("shown", "measured", "holds"),
    [
        ("0.5", 0.549, True),
        ("0.5", 0.56, False),
        ("10,000", 10_000, True),
        ("10,000", 10_001, False),
        ("2.9 M", 2_917_469, True),
        ("2.9 M", 2_971_469, False),
        ("82 k", 81_962, True),
        ("-139.53", -139.53, True),
        ("−2.39", -2.39, True),
        ("2.39", -2.39, False),
        ("85.3 %", 85.3333, True),
    ],
)
def test_a_number_holds_if_the_measured_one_rounds_to_it(shown, measured, holds, scripts):
    (number,) = scripts[1].numbers_in(shown)
    assert number.holds(measured) == holds


def test_numbers_are_found_where_they_are(scripts):
    found = scripts[1].numbers_in("724× (683 – 793), Taxi-v3, 10,000 (7,752 – 15,504), 3.9 MB, x86")
    assert [number.value for number in found] == [724, 683, 793, 10_000, 7752, 15_504, 3.9]


def test_every_number_of_a_compared_table_is_looked_at(scripts):
    """Each is changed in turn, by ten units of its last digit."""
    _, figures = scripts
    n_changed = 0
    for listed in figures.TABLES:
        if listed.rows is None:
            continue
        rows = listed.rows()
        tables = figures.tables_of(listed.page, figures.PAGES[listed.page].read_text(encoding="utf-8"))
        (table,) = (table for table in tables if figures._is_header(table.header, listed.header))
        assert figures.compare_table(table, rows) == []
        for cells, (label, measured) in zip(table.rows, rows, strict=True):
            for i in range(len(measured or [])):
                changed = list(measured)
                changed[i] += 10 * abs(changed[i]) + 10
                (line,) = figures.compare_table(figures.PageTable("page", "", [cells]), [(label, changed)])
                assert f"{changed[i]:,.6g}" in line
                n_changed += 1
    assert n_changed > 300


def test_a_table_that_nobody_has_listed_and_one_that_is_gone_are_told(scripts, tmp_path, monkeypatch):
    _, figures = scripts
    page = figures.PAGES["large_world.md"].read_text(encoding="utf-8")
    (tmp_path / "more.md").write_text(f"{page}\n| new | figure |\n|---|---|\n| a | 3 |\n", encoding="utf-8")
    monkeypatch.setitem(figures.PAGES, "large_world.md", tmp_path / "more.md")
    wrong, _, _ = figures.compare_pages()
    assert wrong == ["large_world.md: the table | new | figure | is not listed in examples/figures.py"]
    (tmp_path / "less.md").write_text(re.sub(r"(?m)^\|.*\n", "", page).replace("160,000", "170,000"), encoding="utf-8")
    monkeypatch.setitem(figures.PAGES, "large_world.md", tmp_path / "less.md")
    wrong, _, _ = figures.compare_pages()
    assert wrong[0] == "large_world.md: there is no table | contestant |, which is listed"
    assert wrong[1].endswith("170,000 is 160,000")
    assert len(wrong) == 2


def written(text):
    """The command that writes a table of one benchmark and one run."""
    code = "import pathlib, sys; pathlib.Path(sys.argv[2], 'table.txt').write_text(sys.argv[1])"
    return lambda out: [["-c", code, text, str(out)]]


def read(folder):
    solved, ratio, _ = (folder / "table.txt").read_text().split()
    return {("a task", "solved"): float(solved), ("a peer", "ratio"): float(ratio)}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("1.0 50 7", []),
        ("0.999 31 8", []),
        ("1.0 500 7", []),  # faster is fine
        ("0.9 50 7", ["tiny: a task: 0.9, stored 1"]),
        ("1.0 20 7", ["tiny: a peer: 20, stored 50"]),
    ],
)
def test_a_run_is_repeated_and_compared_by_the_rules(text, wrong, scripts, tmp_path, capsys):
    reproduce, _ = scripts
    (tmp_path / "table.txt").write_text("1.0 50 7")
    run = reproduce.Run(
        "tiny", 1, written(text), read, tmp_path, lambda folder: (folder / "table.txt").read_text()[-1:]
    )
    assert reproduce.repeat(run) == wrong
    n_equal = int(text.endswith("7"))
    assert capsys.readouterr().out == (
        f"tiny: {2 - len(wrong)} of 2 figures hold, and {n_equal} of 1 runs are equal to the last digit.\n"
    )


def test_a_script_that_fails_is_a_figure_that_does_not_hold(scripts, tmp_path, monkeypatch, capsys):
    reproduce, _ = scripts
    run = reproduce.Run("tiny", 1, lambda out: [["-c", "raise SystemExit('no memory left')"]], read, tmp_path)
    monkeypatch.setattr(reproduce, "RUNS", [run])
    assert reproduce.main(["--only", "tiny", "--out", str(tmp_path)]) == 1
    assert "no memory left" in capsys.readouterr().out
    (row,) = reproduce.read_rows(tmp_path / "reproduce.csv")
    assert "no memory left" in row["does not hold"]


def test_parts_are_repeated_one_by_one_and_the_report_has_the_last_of_each(scripts, tmp_path, monkeypatch):
    reproduce, _ = scripts
    (tmp_path / "table.txt").write_text("1.0 50 7")
    runs = [reproduce.Run(name, 1, written("0.9 50 7"), read, tmp_path) for name in ("one", "two", "three")]
    monkeypatch.setattr(reproduce, "RUNS", runs)
    reproduce.main(["--only", "two", "--out", str(tmp_path)])
    reproduce.main(["--only", "one", "--out", str(tmp_path)])
    runs[1] = reproduce.Run("two", 1, written("1.0 50 7"), read, tmp_path)
    reproduce.main(["--only", "two", "--out", str(tmp_path)])
    rows = reproduce.read_rows(tmp_path / "reproduce.csv")
    assert [(row["what"], row["does not hold"]) for row in rows] == [
        ("one", "one: a task: 0.9, stored 1"),
        ("two", "nothing"),
    ]
    table = (tmp_path / "reproduce.md").read_text(encoding="utf-8")
    assert "| one | " in table
    assert "- Not repeated yet: three\n" in table


def test_stored_figures_of_every_run_can_be_read_and_are_like_themselves(scripts):
    reproduce, _ = scripts
    for run in reproduce.RUNS:
        figures_of_run = run.read(run.stored)
        assert figures_of_run, run.name
        assert reproduce.compare(run.name, figures_of_run, figures_of_run) == []
        assert all(command[0].endswith(".py") for command in run.commands(pathlib.Path("out")))
