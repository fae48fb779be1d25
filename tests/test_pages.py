"""What the written pages say is run: their code, their commands, and the numbers that they copy."""

from __future__ import annotations

import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from sixfold.cli.fit import settings_of
from sixfold.cli.main import main
from sixfold.compare.suite import read_suite, shipped
from sixfold.core.registry import entries, split_name

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FAMILIES = {e.family for e in entries().values()}
PAGES = ("index.md", "start.md", "data.md", pytest.param("choose.md", marks=pytest.mark.slow), "likelihood.md", "traps.md")
QUICK = {  # what a reader waits for and a test does not
    r"minutes=[\d.]+": "steps=2, width=8",
    r"steps=[25]00\b": "steps=2, width=8",
    r"minutes: 1\b": "steps: 2",
    r"seeds: 3": "seeds: 1",
}
FLAGS = {
    "fit": ["--steps", "2", "--width", "8", "--quiet"],
    "evaluate": ["--rows", "40", "--metrics", "likelihood"],
    "score": ["--effort", "2"],
    "compare": ["--rows", "40", "--metrics", "cost"],
}


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def quick(text: str) -> str:
    for long, short in QUICK.items():
        text = re.sub(long, short, text)
    return text


def stated(code: str) -> list[str]:
    """What the comments behind ``print`` say: one line each, or several divided by a bar."""
    found = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
    return [line for text in found for line in text.split(" | ")]


def command(line: str) -> int:
    words = shlex.split(line.partition("#")[0])
    extra = FLAGS.get(words[1], [])
    for flag in (word for word in extra if word.startswith("--")):
        if flag in words:  # a later one would win as well, but for those that take several values
            at = words.index(flag)
            del words[at : at + 2]
    words = [w for at, w in enumerate(words) if w != "--minutes" and words[at - 1] != "--minutes"]
    return main([*words[1:], *extra])


@pytest.mark.parametrize("page", PAGES)
def test_code_commands_and_what_they_print(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "python":
            out = StringIO()
            with redirect_stdout(out):
                exec(compile(quick(text), page, "exec"), names)
            if "mean log p(x)" not in text and page != "index.md":
                assert out.getvalue().splitlines() == stated(text)
        elif language == "yaml":
            (tmp_path / "mine.yaml").write_text(quick(text))
        else:
            assert language == "sh"
            for line in text.splitlines():
                assert command(line) == 0, line


def test_the_suite_of_the_page_can_be_read(tmp_path):
    (suite,) = (text for language, text in blocks("choose.md") if language == "yaml")
    (tmp_path / "mine.yaml").write_text(suite)
    assert {split_name(row.models["*"])[0].partition("/")[0] for row in read_suite(tmp_path / "mine.yaml").models} == FAMILIES


def test_numbers_are_copied_from_the_page_of_the_demo():
    demo = (DOCS / "demo.md").read_text(encoding="utf-8").replace("*", "")
    rows = {tuple(c.strip() for c in line.strip("|\n").split("|")) for line in demo.splitlines() if line.startswith("|")}
    tables = (DOCS / "choose.md").read_text(encoding="utf-8").split("| two moons |")[1].split("\n\n")[:2]
    for table, likelihood in zip(tables, ("nats", "bits/dim"), strict=True):
        for line in table.splitlines()[2:]:
            name, *values = (c.strip() for c in line.strip("|").split("|"))
            assert any(row[0] == name and set(values) <= set(row) for row in rows), (likelihood, line)


def test_commands_that_make_the_numbers_exist():
    text = (DOCS / "reproduce.md").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for program, first, *rest in (shlex.split(c) for c in re.findall(r"`((?:make|sixfold|python) [^`]+)`", text)):
        if program == "make":
            assert first in targets
        elif program == "python":
            assert (ROOT / first).is_file()
        elif "--suite" in rest:
            assert rest[-1] in shipped()
        else:
            assert main([first, *rest]) == 0
    assert {p.name for p in (ROOT / "benchmarks").glob("*.py")} == set(re.findall(r"benchmarks/(\w+\.py)", text))


@pytest.mark.parametrize(
    "line", [line for language, text in blocks("mnist.md") if language == "sh" for line in text.splitlines()]
)
def test_long_commands_say_what_the_programs_understand(line):
    program, first, *rest = shlex.split(line)
    if program == "sixfold" and first == "fit":
        assert settings_of(rest)
    elif program == "sixfold":
        assert (first, rest[:1]) == ("compare", ["--suite"])
        assert rest[1] in shipped()
    else:
        text = (ROOT / first).read_text(encoding="utf-8")
        assert program == "python"
        assert all(f'"{word}"' in text for word in rest if word.startswith("--"))
