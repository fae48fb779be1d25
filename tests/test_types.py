"""The type checker refuses an estimate where a bound is required and accepts an exact value; see ``typing_cases``."""

import re
from pathlib import Path

import pytest
from mypy import api

FOLDER = Path(__file__).parent / "typing_cases"
MARK = re.compile(r"#\s*E:\s*([\w-]+)")
ERROR = re.compile(r"^.*?([\w]+\.py):(\d+): error: .*\[([\w-]+)\]$")


def marked(path: Path) -> set[tuple[str, int, str]]:
    """Lines that must be refused, and for what."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return {
        (path.name, number, found[1]) for number, line in lines if not line.startswith('"""') and (found := MARK.search(line))
    }


@pytest.fixture(scope="module")
def refused() -> set[tuple[str, int, str]]:
    """What the checker refuses, in one run over all cases, with the package's own strict settings and cache."""
    root = FOLDER.parent.parent
    out, err, _ = api.run([f"--config-file={root / 'pyproject.toml'}", f"--cache-dir={root / '.mypy_cache'}", str(FOLDER)])
    assert not err, err
    found = [ERROR.match(line) for line in out.splitlines() if "typing_cases" in line and ": error: " in line]
    assert all(found), out
    return {(m[1], int(m[2]), m[3]) for m in found if m}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_the_checker_refuses_the_marked_lines_and_no_others(refused, path):
    expected = marked(path)
    assert expected, "a file of cases without a refused line checks nothing"
    assert {r for r in refused if r[0] == path.name} == expected
