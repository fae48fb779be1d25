"""The site: a page for everything in the registry, links that lead somewhere, and nothing fetched from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from sixfold.core.registry import MODELS, entries
from sixfold.core.signature import options

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "scripts"))

import make_site  # noqa: E402
import measured  # noqa: E402
import model_page  # noqa: E402

QUESTIONS = (
    "What it is",
    "Strengths and weaknesses",
    "How it is trained, and whether it has a latent",
    "How it samples",
    "How it gives the probability of a new datum",
    "Source and code",
)


@pytest.fixture(scope="module")
def pages():
    """Every page of a model, without the rest of the site."""
    results = measured.measured(sorted(make_site.DOCS.glob("*.md")))
    return {
        e.name: model_page.page(e, make_site.cases()[e.name], results.get(e.name, ()), code=(MODELS / f"{e.name}.py").read_text())
        for e in entries().values()
    }


def section(page: str, title: str) -> str:
    """What stands between a heading and the next, outside of code."""
    return re.split(r"^## ", page.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0].strip()


@pytest.mark.parametrize("name", entries())
def test_the_page_of_a_model_answers_six_questions(pages, name):
    page, e = pages[name], entries()[name]
    assert all(len(section(page, question)) > 40 for question in QUESTIONS)
    strengths = section(page, "Strengths and weaknesses")
    assert "**Can** " in strengths, f"the docstring of {name} has no paragraph `Can: ... Cannot: ...`"
    assert "**Cannot** " in strengths
    for preset in e.presets:
        assert f"`{name}:{preset}`" in section(page, "Presets")
    for o in options(model_page.model_class(name).__init__):
        assert f"\n| `{o.name}` | " in section(page, "Options")
        assert o.doc, f"{name} does not document {o.name}"


@pytest.mark.parametrize(
    ("name", "kinds"), [("gan/gan", []), ("flow/realnvp", ["Exact", "Lower"]), ("energy/ebm", ["Numerical", "Unnormalised"])]
)
def test_the_page_states_the_kinds_that_are_checked(pages, name, kinds):
    rows = re.findall(r"^\| (\w+) `\S+` \|", section(pages[name], QUESTIONS[4]), re.MULTILINE)
    assert rows == kinds


def test_a_docstring_comes_apart():
    found = model_page.parts(
        "A coin.\n\nIt lands.\n\nCan: land on\nits edge. Cannot: fly.\n\nSource:  X (1713).\nDiffers: it\n is round."
    )
    assert found == model_page.Parts("A coin.\n\nIt lands.", "land on its edge.", "fly.", "X (1713).", "it is round.")


def test_indented_lines_of_a_docstring_stay_as_they_are():
    found = model_page.prose("Text a_b *c*:\n\n    x_1 * y\n      z\n\n    w\n\nmore")
    assert found == "Text a\\_b \\*c\\*:\n\n```text\nx_1 * y\n  z\n\nw\n```\n\nmore"


def test_results_are_those_of_their_page(tmp_path):
    page = tmp_path / "mine.md"
    page.write_text("| moons | score |\n| --- | ---: |\n| *real data* | 1 |\n| `vae/vae:beta` | **2 ± 1** |\n| other | 3 |\n")
    assert measured.measured([page]) == {"vae/vae": [model_page.Measured("beta", "moons", "score", "2 ± 1", "1", "mine.md")]}


def test_results_of_a_suite_are_found_by_its_labels():
    found = measured.measured([make_site.DOCS / "demo.md"])
    assert {m.preset for m in found["vae/iwae"]} == {"points"}
    assert {m.data for m in found["vae/vae"]} == {"digits"}


@pytest.mark.parametrize("data", ["moons", "digits"])
def test_panels_of_a_model_are_cut_at_their_frames(data):
    panels = 1 if data == "digits" else 3
    drawn = measured.column(make_site.DOCS / f"demo-{data}.png", measured.family_colour("flow/realnvp"))
    assert panels - 0.1 < drawn.width / drawn.height < panels + 0.3


def test_names_of_models_become_links():
    text = "# `vae/vae`\n`vae/vae:beta` [`gan/gan`](x) `no/model`\n```sh\n`vae/vae`\n```\n"
    assert make_site.linked(text) == text.replace("`vae/vae:beta`", "[`vae/vae:beta`](models/vae/vae.md)")


def test_links_to_notebooks_lead_to_their_pages(tmp_path):
    page = ROOT / "docs" / "course.md"
    assert make_site._carried("[a](../notebooks/stage1_energy.ipynb)", page, tmp_path) == "[a](course/stage1_energy.md)"


def test_the_navigation_leaves_out_what_is_missing_and_forgets_nothing():
    nav = make_site.navigation(["a.md", {"B": ["b.md", "gone.md"]}, {"C": "gone.md"}], {"a.md", "b.md", "new.md"})
    assert nav == ["a.md", {"B": ["b.md"]}, {"More": ["new.md"]}]


def test_equations_are_set_by_what_lies_here():
    katex = ROOT / "docs" / "assets" / "katex"
    assert "MIT" in (katex / "LICENSE").read_text()
    fonts = set(re.findall(r"url\(([^)]+)\)", (katex / "katex.min.css").read_text()))
    assert {p.relative_to(katex).as_posix() for p in (katex / "fonts").iterdir()} == fonts
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    for file in (*config["extra_css"], *config["extra_javascript"], *config["extra"]["polyfills"]):
        assert (ROOT / "docs" / file).is_file()


class Page(HTMLParser):
    """Links, anchors, and what a browser fetches to show the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[k] for k in ("id", "name") if given.get(k)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(given["href"])
        elif tag in ("script", "img", "iframe", "source", "video") and given.get("src"):
            self.fetched.append(given["src"])


@pytest.mark.slow
def test_the_site_is_built_whole_and_of_its_own(tmp_path):
    make_site.make(tmp_path / "source")
    config = tmp_path / "source" / "mkdocs.yml"
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", config, "-d", site], check=True)
    pages = {p.relative_to(site).as_posix(): Page(p.read_text()) for p in site.rglob("*.html")}
    assert {f"models/{name}.html" for name in entries()} | {"commands.html", "index.html"} <= pages.keys()
    for name, page in pages.items():
        if name == "404.html":
            continue
        for target in page.fetched:
            assert not re.match(r"(\w+:)?//", target), f"{name} fetches {target}"
            assert (site / name).parent.joinpath(unquote(target.partition("?")[0])).is_file(), f"{name} fetches {target}"
        for target in (t for t in page.links if not re.match(r"\w+:", t)):
            path, _, anchor = unquote(target).partition("#")
            place = (site / name).parent.joinpath(path).resolve() if path else site / name
            assert place.is_file(), f"{name} links to {target}"
            if anchor and place.suffix == ".html":
                assert anchor in pages[place.relative_to(site).as_posix()].ids, f"{name} links to {target}"
    for style in site.rglob("*.css"):
        for target in re.findall(r"url\(['\"]?([^'\")]+)", style.read_text()):
            assert target.startswith("data:") or (style.parent / target).is_file(), f"{style.name} fetches {target}"
