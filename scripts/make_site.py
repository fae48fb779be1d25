"""Gathers the sources of the site in a folder, for mkdocs or zensical to build: written pages, and pages made from the code.

Written ones are those of ``docs/``; made are a page for each model and each family, and that of the command line. In written
pages the name of a model becomes a link to its page, and a link to a file outside ``docs/`` one to a copy. The navigation is that
of ``mkdocs.yml``, in which ``models`` stands for the pages of models, and pages that do not exist are left out.

Run: python scripts/make_site.py build/site        (then mkdocs build --strict -f build/site/mkdocs.yml; `make docs` does both)
"""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import command_page  # noqa: E402
import measured  # noqa: E402
import model_page  # noqa: E402
import notebook_page  # noqa: E402
from model_page import Case, plain, prose  # noqa: E402

from sixfold.core.registry import FAMILIES, MODELS, Entry, entries, split_name  # noqa: E402

DOCS = ROOT / "docs"
COURSE = ROOT / "notebooks"
TITLES = {
    "autoregressive": "Autoregressive models",
    "vae": "Variational autoencoders",
    "flow": "Normalizing flows",
    "gan": "Adversarial networks",
    "energy": "Energy-based models",
    "diffusion": "Diffusion models",
    "latent": "Models of codes",
}
NAME = re.compile(r"(?<!\[)`([a-z]+/[a-z0-9]+(?::[\w-]+)?)`")


@cache
def cases() -> dict[str, list[Case]]:
    """What every model is checked on, by model without preset."""
    found: dict[str, list[Case]] = {}
    for case in import_module("cases").CASES:
        found.setdefault(split_name(case.name)[0], []).append(case)
    return found


def families() -> dict[str, list[Entry]]:
    """Models by family, in the order of the registry."""
    found = {family: [e for e in entries().values() if e.family == family] for family in FAMILIES}
    return {family: models for family, models in found.items() if models}


def _doc(module: str) -> str:
    return inspect.getdoc(import_module(module)) or ""


def family_page(family: str, models: Sequence[Entry]) -> str:
    """What a family shares, and its models."""
    shared = MODELS / family / "_family.py"
    lines = [f"# {TITLES[family]}", prose(_doc(f"sixfold.models.{family}"))]
    lines += [f"- [{e.name}]({e.name.partition('/')[2]}.md): {plain(e.summary)}" for e in models]
    if shared.exists():
        found = model_page.parts(_doc(f"sixfold.models.{family}._family"))
        code = model_page.fenced(shared.read_text(encoding="utf-8"), "python", f"sixfold/models/{family}/_family.py")
        lines += ["## What they share", prose(found.text), plain(found.source), code]
    return "\n\n".join([*lines[:2], "\n".join(lines[2 : 2 + len(models)]), *filter(None, lines[2 + len(models) :]), ""])


def models_page() -> str:
    """All models by what they can do."""
    return "\n\n".join([
        "# Models",
        "Every model is one file. Its page answers six questions: what it is, what it is good and bad at, how it is trained and"
        " whether it has a latent, how it samples, how it gives the probability of a new datum, and where it comes from.",
        model_page.overview(cases()),
        "Likelihoods: `=` exact, `>=` a lower bound, `≈` numerical, `~` an estimate, `∝` known up to a constant; where there are"
        " several, it depends on the data. [How to read them](../likelihood.md). A GAN's codes are decoded and not encoded.",
        "",
    ])  # fmt: skip


def made(out: Path) -> Iterator[tuple[str, str]]:
    """Every page that comes from the code; pictures are written beside."""
    results, drawn = measured.measured(sorted(DOCS.glob("*.md"))), measured.pictures(DOCS)
    yield "models/index.md", models_page()
    for family, models in families().items():
        yield f"models/{family}/index.md", family_page(family, models)
        for e in models:
            stem, picture = e.name.partition("/")[2], ""
            if e.name in drawn:
                image, caption = drawn[e.name]
                (out / "models" / family).mkdir(parents=True, exist_ok=True)
                image.save(out / "models" / family / f"{stem}.png")
                picture = f"![{caption.replace('`', '')}]({stem}.png)\n\n*{caption}*"
            code = (MODELS / f"{e.name}.py").read_text(encoding="utf-8")
            yield f"models/{e.name}.md", model_page.page(e, cases()[e.name], results.get(e.name, ()), picture, code)
    yield "commands.md", command_page.page()
    for book in sorted(COURSE.glob("*.ipynb")):
        yield f"course/{book.stem}.md", linked(notebook_page.page(book, out / "course"), 1)


# Written pages.


def linked(text: str, depth: int = 0) -> str:
    """The text with the names of models as links, but in code blocks, headings and where they are links already."""

    def link(match: re.Match[str]) -> str:
        model = split_name(match[1])[0]
        return f"[{match[0]}]({'../' * depth}models/{model}.md)" if model in entries() else match[0]

    pieces = re.split(r"(^```.*?^```|^#.*?$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(p if p.startswith(("```", "#")) else NAME.sub(link, p) for p in pieces)


def _carried(text: str, page: Path, out: Path) -> str:
    """Links to files outside ``docs/`` lead to copies in the site, to the README its first page, to notebooks theirs."""
    text = text.replace("](../README.md", "](index.md")
    text = re.sub(r"\]\(\.\./notebooks/(\w+)\.ipynb", r"](course/\1.md", text)
    for target in re.findall(r"\]\((\.\./[^)#]+)", text):
        source = (page.parent / target).resolve()
        if source.is_file() and not source.is_relative_to(DOCS):
            copy = out / "files" / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            text = text.replace(f"]({target}", f"](files/{source.relative_to(ROOT)}")
    return text


def navigation(nav: list[Any], pages: set[str]) -> list[Any]:
    """The navigation with ``models`` spelt out, without pages that do not exist, and with those that it forgot at its end."""
    models = [
        {"All models": "models/index.md"},
        *(
            {TITLES[family]: [f"models/{family}/index.md", *({e.name: f"models/{e.name}.md"} for e in found)]}
            for family, found in families().items()
        ),
    ]

    def kept(item: Any) -> Any:
        if isinstance(item, list):
            return [k for k in map(kept, item) if k]
        if isinstance(item, dict):
            ((title, inner),) = item.items()
            found = models if inner == "models" else kept(inner)
            return {title: found} if found else None
        return item if item in pages else None

    spelt = kept(nav)
    rest = sorted(page for page in pages if f"'{page}'" not in repr(spelt))
    return [*spelt, *([{"More": rest}] if rest else [])]


def make(out: Path) -> None:
    """Write pages, their assets and the configuration into a folder, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    docs = out / "docs"
    shutil.copytree(DOCS, docs)
    for page in sorted(DOCS.rglob("*.md")):
        if "assets" not in page.relative_to(DOCS).parts:
            place = page.relative_to(DOCS)
            text = linked(_carried(page.read_text(encoding="utf-8"), page, docs), len(place.parts) - 1)
            (docs / place).write_text(text, encoding="utf-8")
    for name, text in made(docs):
        place = docs / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = {str(p.relative_to(docs)) for p in docs.rglob("*.md") if p.relative_to(docs).parts[0] not in ("assets", "files")}
    (code,) = (plugin["mkdocstrings"] for plugin in config["plugins"] if "mkdocstrings" in plugin)
    code["handlers"]["python"]["paths"] = [str(ROOT)]
    config |= {"nav": navigation(config["nav"], pages), "docs_dir": "docs", "site_dir": str(ROOT / "site")}
    (out / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    shutil.copyfile(ROOT / "scripts" / "roles.py", out / "roles.py")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Gather the sources of the site.")
    parser.add_argument("out", type=Path, help="folder to write, emptied first")
    make(parser.parse_args().out)
