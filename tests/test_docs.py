"""What the README and the pages say is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sixfold.cli.catalogue import markdown
from sixfold.cli.main import main
from sixfold.testing import check_model

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_readme_lists_the_registry():
    assert "\n".join(markdown()) in (ROOT / "README.md").read_text(), "paste the output of `sixfold list --markdown`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("README.md", "python")
    quick = code.replace("minutes=1", "steps=3, width=8")
    assert quick != code
    exec(compile(quick, "README.md", "exec"), {})


def test_commands_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, commands = blocks("README.md", "sh")
    for line in commands.splitlines():
        words = line.split()[1:]
        quick = {
            "fit": ["--steps", "2", "--width", "8", "--quiet"],
            "compare": ["--rows", "40"],
            "evaluate": ["--rows", "40"],
            "score": ["--effort", "2"],
        }
        assert main([*words, *quick.get(words[0], [])]) == 0, line


def test_the_page_on_comparisons_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,), (suite,), (commands,) = (blocks("docs/compare.md", language) for language in ("python", "yaml", "sh"))
    exec(compile(code, "compare.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print.*  # (.*)$", code, re.MULTILINE)
    (tmp_path / "mine.yaml").write_text(suite.replace("steps: 200", "steps: 2"))
    for run in ("mine", "other"):
        assert main(["fit", "vae/vae", "--data", "moons", "--steps", "2", "--width", "8", "--quiet", "--out", f"runs/{run}"]) == 0
    for line in commands.splitlines():
        words = line.partition("#")[0].split()[1:]
        if "demo" in words:  # which `make demo` runs
            continue
        assert main([*words, "--rows", "40", "--metrics", "likelihood", *(["--seeds", "1"] if "--suite" in words else [])]) == 0


def test_the_model_of_the_page_keeps_the_contract(tmp_path, monkeypatch):
    (code,) = blocks("docs/add-a-model.md", "python")
    (tmp_path / "your").mkdir()
    (tmp_path / "your" / "__init__.py").write_text("")
    (tmp_path / "your" / "module.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    report = check_model("your.module:Normal")
    assert len(report.passed) > 20
    words = ["fit", "your.module:Normal:wide", "--data", "moons", "--steps", "3", "--out", "run", "--quiet"]
    assert main(words) == 0
    assert main(["score", "run"]) == 0


def test_the_page_of_the_course_checks_an_answer(capsys):
    (code,) = blocks("docs/course.md", "python")
    exec(compile(code, "course.md", "exec"), {})
    assert "bits per dimension: 0 of 4 facts hold" in capsys.readouterr().out
