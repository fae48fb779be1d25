"""The page of a comparison: everything that was found stands on it, it needs no network, and it fits a phone."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import outcomes
import pytest
import torch
from PIL import Image

from sixfold.compare.exhibit import SIDE
from sixfold.compare.graphs import pairs, paretos
from sixfold.compare.judge import distrust
from sixfold.compare.looks import error_limit
from sixfold.compare.meaning import REAL, meaning
from sixfold.compare.pictures import DPI, write_pictures
from sixfold.compare.report import write_report
from sixfold.compare.table import views
from sixfold.plot.plane import Window

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """What a browser would make of the page: text, attributes, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.said: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.said).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.said.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def found():
    return [outcomes.outcome("moons"), outcomes.outcome("digits", seeds=1, labels=("made", "vae", "gan"))]


@pytest.fixture(scope="module")
def tables(found):
    return [views(outcome) for outcome in found]


@pytest.fixture(scope="module")
def note():
    return outcomes.note("moons", "digits")


@pytest.fixture(scope="module")
def path(found, tables, note, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_report(found, [t for t, _ in tables], [t for _, t in tables], note, folder, title="Six < seven & more")


@pytest.fixture(scope="module")
def page(path):
    return Page(path.read_text(encoding="utf-8"))


def test_every_tag_is_closed_in_order(page):
    assert page.open == []
    assert len(page.all("h1")) == 1
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"] for a in page.all("a")} <= {f"#{i}" for i in ids}
    assert {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= set(ids)


def test_every_sentence_of_the_note_stands_on_the_page(page, note):
    assert "Six < seven & more" in page.text
    for line in (*note.setting, *sum(note.findings.values(), ()), *note.not_comparable, *note.threats, *note.commands):
        assert plain(line) in page.text


def test_every_number_with_its_detail_and_every_reason_stands_on_the_page(page, tables):
    titles = {a["title"] for _, a in page.tags if "title" in a}
    for view in (v for both in tables for v in both):
        for column in view.columns:
            assert plain(column.head) in page.text
            assert plain(column.says) in page.text
            assert plain(column.distrust) in page.text
        for row in view.rows:
            assert row.label in page.text
            for cell in row.cells:
                assert plain(cell.text) in page.text
                assert not cell.detail or cell.detail in titles


def test_the_cells_of_a_row_stand_in_the_order_of_the_columns(path, tables):
    text = path.read_text(encoding="utf-8")
    short = tables[0][0]
    body = text[text.index('aria-label="Scores on moons"') :].partition("</table>")[0]
    for row in short.rows:
        line = re.search(rf'<th scope="row"[^>]*>(?:<span.*?</span>)?{html.escape(row.label)}</th>(.*?)</tr>', body, re.S)
        assert line is not None
        cells = re.findall(r'<td class="(\w+)".*?>(.*?)</td>', line[1], re.S)
        assert [state for state, _ in cells] == [cell.state for cell in row.cells]
        assert [plain(Page(text).text) for _, text in cells] == [plain(cell.text) for cell in row.cells]


def test_a_column_that_is_not_believed_is_grey_with_its_reason_beneath(path, tables):
    text = path.read_text(encoding="utf-8")
    column = next(c for c in tables[0][0].columns if c.distrust)
    assert column.key == "class_shift@points"
    assert re.search(rf'class="grey">{re.escape(column.head)}&nbsp;↓<sup>1</sup>', text)
    assert f"<li>{html.escape(column.head)}: {html.escape(column.distrust)}.</li>" in text


def test_references_stand_above_models_and_lost_trainings_are_told(page):
    assert page.text.index("references real data") < page.text.index("models made")
    assert f"gan, seed 1: {outcomes.REASON}" in page.text


def test_the_page_needs_no_network_and_no_other_file(path, page):
    text = path.read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert not page.all("script")
    assert not page.all("link")
    for name in ("src", "href", "srcset"):
        for value in (a[name] for _, a in page.tags if name in a):
            assert value.startswith(("data:image/png;base64,", "#")), value[:60]


def test_every_picture_and_table_can_be_read_without_eyes(page):
    images = page.all("img")
    assert all(len(a["alt"]) > 20 for a in images)
    assert all(int(a["width"]) > 0 and int(a["height"]) > 0 for a in images)
    assert all(a.get("scope") in ("row", "col", "rowgroup") for a in page.all("th"))


def test_the_pictures_lie_beside_the_page(path, found):
    names = {p.name for p in (path.parent / "pictures").iterdir()}
    for outcome in found:
        data = outcome.dataset.name
        kinds = ["overview", "references", "latent", *(f"pareto-{name}" for name in pairs(outcome))]
        kinds += [f"curve-{label}" for label in outcome.labels] + ["score-coverage", "score-class_shift"]
        assert {f"{data}-{kind}.png" for kind in kinds} <= names
    assert len(Page(path.read_text(encoding="utf-8")).all("img")) == len(names)


def test_pictures_have_the_size_that_the_page_is_told(found, tmp_path):
    small = replace(found[0], curves={}, records=[r for r in found[0].records if r.label in (REAL, "made")])
    written = write_pictures(small, tmp_path)
    # One model makes no Pareto plot, and none has curves.
    assert {p.topic for p in written} == {"overview", "references", "scores"}
    for p in written:
        with Image.open(p.path) as image:
            size = image.size
        assert size == pytest.approx((p.width * DPI / 100, p.height * DPI / 100), abs=2)


def test_pareto_plots_take_believed_scores_and_qualities_that_differ(found):
    for outcome in found:
        chosen = pairs(outcome)
        assert set(chosen) == {"likelihood-quality", "fidelity-coverage", "cost-quality", "novelty-fidelity"}
        for x, y in chosen.values():
            assert meaning(x).axis != meaning(y).axis
            assert not distrust(x, outcome.references)
            assert not distrust(y, outcome.references)


def test_a_refuted_score_is_left_out_of_pareto_plots(found):
    """Where real data are no better covered than data with modes dropped, coverage has no plot."""
    records = [
        replace(r, scores={**r.scores, "coverage@points": outcomes.noisy(0.5, 0.1, 1)}) if r.is_reference else r
        for r in found[0].records
    ]
    assert "fidelity-coverage" not in pairs(replace(found[0], records=records))


def test_a_front_among_bounds_is_refused(found, page):
    captions = [p.caption for p in paretos(found[0])]
    (likelihood,) = [c for c in captions if "negative log-likelihood" in c]
    assert "No front" in likelihood
    assert "gan and ebm" in likelihood
    exact = [
        r if r.is_reference or r.label in ("made", "realnvp") else replace(r, failed="lost", scores={}) for r in found[0].records
    ]
    (alone,) = [d.caption for d in paretos(replace(found[0], records=exact)) if "negative log-likelihood" in d.caption]
    assert "No front" not in alone
    assert "made" in alone


def test_errors_share_the_scale_of_the_worst_model(found):
    truth = found[0].dataset.truth
    real = truth.log_prob(Window.around(found[0].dataset.test.rows()).grid(SIDE))
    assert error_limit([real], real) == pytest.approx(0.1 * float(real.exp().max()))
    # Half the density everywhere: the largest error is half of the peak, and a few pixels in a thousand may be cut.
    half = real - torch.log(torch.tensor(2.0))
    assert error_limit([real, half], real) == pytest.approx(0.5 * float(real.exp().max()), rel=0.1)


def test_data_without_truth_or_classes_or_exhibits_still_make_a_page(found, tmp_path):
    """Points of a file: no truth, models that failed, nothing kept of them."""
    bare = replace(found[0], dataset=replace(found[0].dataset, truth=None, classes=()), exhibits={}, curves={})
    bare = replace(bare, records=[r if r.is_reference else replace(r, scores={}, failed="lost") for r in bare.records])
    short, whole = views(bare)
    page = Page(write_report([bare], [short], [whole], outcomes.note("moons"), tmp_path, title="t").read_text(encoding="utf-8"))
    assert page.text.count("lost") >= 12
    assert not page.open


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to lay the page out")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(path, tmp_path, width):
    # Headless Chromium has no windows narrower than 500 pixels, but frames.
    inner = html.escape(path.read_text(encoding="utf-8").replace("<details>", "<details open>"), quote=True)
    script = "const d = f.contentDocument.documentElement; document.title = `${d.scrollWidth} of ${d.clientWidth}`"
    style = f"width: {width}px; height: 900px; border: 0"
    frame = f'<iframe id="f" style="{style}" srcdoc="{inner}" onload="{html.escape(script)}"></iframe>'
    wrapper = tmp_path / "frame.html"
    wrapper.write_text(f"<!doctype html><title>no layout</title>{frame}", encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]
    command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", wrapper.as_uri()]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.search(r"<title>(.*?)</title>", made)[1] == f"{width} of {width}"
