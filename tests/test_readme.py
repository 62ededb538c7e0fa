"""What the README and the guide tell a reader to type works as it stands, and their links lead somewhere."""

import pathlib
import re
import shlex
import subprocess

import pytest

from examples import lecture_loop
from sb3_lecture_dqn import cli
from sb3_lecture_dqn.study import Plan
from sb3_lecture_dqn.study.trial import check_trials
from sb3_lecture_dqn.training import schedule

ROOT = pathlib.Path(__file__).parent.parent
README, CONTRIBUTING, GUIDE = ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "guide"
INDEX = GUIDE / "README.md"
# Raw tables, which are linked to from a page
PAGES = [page for page in sorted(GUIDE.glob("*.md")) if not page.name.endswith("_results.md")]
TEXTS = [README, CONTRIBUTING, *PAGES]


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def lines_to_type(page):
    """The commands of a page's blocks for the shell, without comments."""
    lines = "".join(blocks(page, "bash")).splitlines()
    return [part.strip() for line in lines for part in line.split(" #")[0].split("&&") if part.strip()]


def commands(page):
    """The words of every call of the command line in a page."""
    words = map(shlex.split, lines_to_type(page))
    return [rest for program, *rest in words if pathlib.PurePath(program).name == "sb3-lecture-dqn"]


def prose(page):
    """A page without its blocks, which may have links of their own language."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(page):
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(next(name for n in range(100) if (name := f"{slug}-{n}" if n else slug) not in found))
    return found


def test_there_are_pages_code_and_commands():
    """Else the tests below would test nothing."""
    assert len(PAGES) > 15
    assert blocks(README, "python")
    assert commands(README)
    assert sum(len(blocks(page, "python")) for page in PAGES) > 20
    assert all(len(links(page)) > 10 for page in (README, INDEX))


@pytest.mark.parametrize(
    ("page", "i"), [pytest.param(p, i, id=f"{name_of(p)}-{i}") for p in TEXTS for i in range(len(blocks(p, "python")))]
)
def test_the_code_runs(page, i, tmp_path, monkeypatch):
    """But for the lecture's budget of episodes, as it stands, and each block by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedule, "DEFAULT_TOTAL_EPISODES", 2)
    exec(compile(blocks(page, "python")[i], f"{name_of(page)}, block {i + 1}", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", [p for p in TEXTS if blocks(p, "yaml")], ids=name_of)
def test_the_plan_of_a_study_can_be_run(page, tmp_path):
    for plan in blocks(page, "yaml"):
        (tmp_path / "plan.yaml").write_text(plan)
        check_trials(Plan.from_yaml(tmp_path / "plan.yaml"))


@pytest.mark.parametrize("page", [p for p in TEXTS if commands(p)], ids=name_of)
def test_the_commands_are_understood(page):
    for words in commands(page):
        assert callable(cli.parser().parse_args(words).run)


SMALL = {
    "train": ["--episodes", "3", "--test-episodes", "2", "--quiet"],
    "watch": ["--episodes", "1", "--max-episode-steps", "5"],
    "ablate": ["--seeds", "1", "--processes", "1", "--quiet"],
}


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in TEXTS if commands(p)], ids=name_of)
def test_the_commands_run(page, tmp_path, monkeypatch):
    """In the order of the page, with small sizes, after the runs that it takes for granted; but for a cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedule, "DEFAULT_TOTAL_EPISODES", 2)
    for plan in blocks(page, "yaml"):
        (tmp_path / "plan.yaml").write_text(plan.replace("timesteps: 100000", "timesteps: 60").replace("5000", "30"))
    for switch in ("--double-dqn", "--no-double-dqn"):
        assert cli.main(["train", switch, "--seed", "0", *SMALL["train"]]) == 0
    runs = {
        name: str(run)
        for name, switch in (("runs/RUN", "True"), ("runs/OTHER", "False"))
        for run in pathlib.Path("runs").glob(f"*DD_{switch}*")
    }
    for words in commands(page):
        if "--ray-address" in words:
            continue
        command, *rest = (re.sub(r"runs/(RUN|OTHER)", lambda name: runs[name[0]], word) for word in words)
        small = [] if {"--resume", "--report"} & set(rest) else SMALL.get(command, [])
        if command == "ablate" and small and "plan.yaml" not in rest:
            small = [*small, "--episodes", "1"]
        may_diverge = "--no-double-dqn" in words  # with exit code 3
        assert cli.main([command, *rest, *small]) in ((0, 3) if may_diverge else (0,)), words


def test_the_scripts_are_there_and_have_the_options():
    """Wherever a page names a call of an example."""
    found = 0
    for page in TEXTS:
        text = page.read_text(encoding="utf-8")
        for script, rest in re.findall(r"python ((?:examples|tests)/[\w/]+\.py)([^`#]*)", text):
            folder = (ROOT / script).parent
            assert (ROOT / script).is_file(), (name_of(page), script)
            source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
            for option in re.findall(r"--[\w-]+", rest.partition("\n\n")[0]):
                assert f'"{option}"' in source, (name_of(page), script, option)
            found += 1
    assert found > 10


def test_the_places_of_changes_are_there():
    """In the package, unless a place says where it begins."""
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|$", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    places = [place for row in rows for place in re.findall(r"`([\w/]+(?:\.py|/))`", row)]
    assert len(places) > 20
    there = [(ROOT / place).exists() or (ROOT / "sb3_lecture_dqn" / place).exists() for place in places]
    assert [place for place, exists in zip(places, there, strict=True) if not exists] == []


def test_make_has_the_targets():
    targets = [line.split()[1] for line in lines_to_type(CONTRIBUTING) if line.startswith("make ")]
    assert targets
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_the_links_lead_somewhere(page):
    """Within the repository; what is on the web is not asked for."""
    for link in links(page):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.is_relative_to(ROOT), link
        assert there.exists(), link
        if anchor:
            assert anchor in anchors(there), link


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", [p for p in PAGES if p != INDEX], ids=name_of)
def test_a_page_is_in_the_index_and_begins_with_an_example(page):
    assert page.name in {link.partition("#")[0] for link in links(INDEX)}
    beginning, _, _ = page.read_text(encoding="utf-8").partition("\n## ")
    assert re.search(r"^```(python|bash)\n", beginning, re.MULTILINE)


def test_the_table_of_words_has_all_names_of_the_lectures_settings():
    table = (GUIDE / "lecture_words.md").read_text(encoding="utf-8").rpartition("```")[2]
    not_the_lectures = {"epsilon_decay", "updates_per_step", "test_freq", "num_tests"}
    names = vars(lecture_loop.Config)["__dataclass_fields__"].keys() - not_the_lectures
    assert len(names) == 10
    for name in [*names, "prev_success", "QNet", "train_episode", "replay", "test", "Steps", "Penalty", "Reward"]:
        assert re.search(rf"\b{name}\b", table), name
