"""The notebooks agree with their source, and run in a clean kernel."""

import ast
import importlib.util
import pathlib
import re

import nbformat
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
PRINTED = {
    "en": (
        "best mean reward: 7.93",
        "the same policy: True",
        "without a target network: the targets moved in 100.0% of",
        "100.0% of the starts solved, reward 7.93",
    ),
    "ko": ("최적 평균 보상: 7.93", "같은 정책인가: True", "시작 상태의 100.0% 해결, 보상 7.93"),
}


@pytest.fixture(scope="module")
def maker():
    """``examples/make_notebooks.py``."""
    spec = importlib.util.spec_from_file_location("make_notebooks", EXAMPLES / "make_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(maker, language):
    notebook = nbformat.read(maker.NOTEBOOKS[language], as_version=4)
    nbformat.validate(notebook)
    return notebook


def sources(cells):
    return [cell.source for cell in cells]


def has_picture(cell):
    return any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {}))


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_notebook_agrees_with_its_source_and_has_outputs(maker, language):
    notebook = committed(maker, language)
    assert sources(notebook.cells) == sources(maker.build(language).cells)
    counts = [cell.execution_count for cell in maker.code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in maker.code_cells(notebook) for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"stream", "display_data", "execute_result"}
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}
    assert sum(map(has_picture, maker.code_cells(notebook))) == 8
    assert not any("Glyph" in output.get("text", "") for output in outputs)  # a font without Korean letters
    assert maker.NOTEBOOKS[language].stat().st_size < 1.5e6


def test_both_languages_have_the_same_code_and_as_much_text(maker):
    english, korean = (committed(maker, language) for language in ("en", "ko"))
    assert [cell.cell_type for cell in english.cells] == [cell.cell_type for cell in korean.cells]
    for one, other in zip(english.cells, korean.cells, strict=True):
        if one.cell_type == "markdown":
            assert any("가" <= letter <= "힣" for letter in other.source)
            assert not any("가" <= letter <= "힣" for letter in one.source)
            assert one.source.count("#") == other.source.count("#")
            assert one.source.count("$") == other.source.count("$")
        else:
            assert without_texts(one.source) == without_texts(other.source)


def without_texts(code):
    """The names, operators and kinds of literals of a cell but its texts, also those in f-strings."""
    nodes = [node for node in ast.walk(ast.parse(code)) if not isinstance(getattr(node, "value", None), str)]
    return sorted(type(node).__name__ + getattr(node, "id", getattr(node, "attr", "")) for node in nodes)


def test_every_word_of_the_korean_notebook_replaces_one_of_the_english(maker):
    english, korean = ("\n".join(sources(maker.code_cells(maker.build(language)))) for language in ("en", "ko"))
    words = maker.SOURCE.read_text(encoding="utf-8").partition("# %% words\n")[2].splitlines()
    assert words != []
    for line in words:
        one, other = line.removeprefix("# ").split(" => ")
        assert one in english
        assert one not in korean
        assert other in korean


# nbclient and its dependencies warn about pipes to the kernel and about the event loop
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("as_it_stands", "language"),
    # By default one: the tests above show that the other has the same code.
    [
        (False, "en"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(False, "ko"), (True, "en"), (True, "ko")]),
    ],
)
def test_it_runs_from_a_clean_kernel(as_it_stands, language, maker, tmp_path, monkeypatch):
    """Every cell, with short trainings or as it stands."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    notebook = maker.build(language)
    if not as_it_stands:
        for cell in maker.code_cells(notebook):
            cell.source = re.sub(r"total_episodes=\d+", "total_episodes=5", cell.source)
            cell.source = cell.source.replace(
                "seeds=3, timesteps=300_000, test_freq=10_000", "seeds=1, timesteps=300, test_freq=100"
            )
            cell.source = cell.source.replace("progress=False)", "progress=False, processes=1)")
            cell.source = cell.source.replace("range(1, 1001)", "range(1, 101)")
    maker.execute(notebook, tmp_path)  # raises an error if a cell does
    as_committed = [has_picture(cell) for cell in maker.code_cells(committed(maker, language))]
    assert [has_picture(cell) for cell in maker.code_cells(notebook)] == as_committed
    printed = "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )
    for expected in PRINTED[language]:
        assert expected in printed
