"""Who may import whom, read from the syntax of every file: imports inside functions and for types count as well.

    core < nn | prob | solve < models | data | train | evaluate | plot < run < compare | testing < cli | lab < sixfold itself

A module sees the layers to its left, never a sibling; a model file sees its family's ``_family.py`` and no other model file; and
no two modules need each other. The version alone is taken from the package's root, where packaging keeps it.
"""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "sixfold"
ORDER = (
    {"core"},
    {"nn", "prob", "solve"},
    {"models", "data", "train", "evaluate", "plot"},
    {"run"},
    {"compare", "testing"},
    {"cli", "lab"},
    {"sixfold", "__main__"},
)
RANK = {part: rank for rank, layer in enumerate(ORDER) for part in layer}

Graph = dict[str, set[str]]


def read(root: Path) -> dict[str, ast.Module]:
    """Every module of the package by its full name."""
    paths = sorted(root.rglob("*.py"))
    parts = {path: [root.name, *path.relative_to(root).with_suffix("").parts] for path in paths}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): ast.parse(path.read_text("utf-8")) for path, p in parts.items()}


def named(node: ast.AST, module: str) -> Iterator[str]:
    """Full names of what one node imports; ``from a import b`` names both a and a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = ".".join([*module.split(".")[: -node.level], node.module or ""]).strip(".") if node.level else node.module or ""
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(first := node.args[0], ast.Constant):
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if function in ("import_module", "__import__"):
            yield str(first.value)


def resolve(name: str, modules: set[str]) -> str | None:
    """The longest leading part of a name that is a module of the package."""
    parts = name.split(".")
    known = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((candidate for candidate in known if candidate in modules), None)


def graph(modules: dict[str, ast.Module]) -> Graph:
    """Which modules of the package each one imports."""
    found: Graph = {}
    for module, tree in modules.items():
        names = {name for node in ast.walk(tree) for name in named(node, module)} - {"sixfold.__version__"}
        found[module] = {target for name in names if (target := resolve(name, set(modules))) not in (None, module)}
    return found


def part(module: str) -> str:
    """The layer's member that a module belongs to: ``sixfold.nn.mlp`` to nn, ``sixfold`` to itself."""
    return module.split(".")[1] if "." in module else module


def is_model(module: str) -> bool:
    """Whether a module is a model file, rather than a package or what a family shares."""
    return module.startswith("sixfold.models.") and module.count(".") == 3 and not module.rpartition(".")[2].startswith("_")


def breach(module: str, target: str) -> str | None:
    """Why one module may not import another; ``None`` when it may."""
    a, b = part(module), part(target)
    if a not in RANK or b not in RANK:
        return f"{a if a not in RANK else b} belongs to no layer"
    if is_model(target) and is_model(module):
        return "a model file imports another"
    if a == "models" == b and not target.startswith(module.rpartition(".")[0]):
        return "a model file imports another family"
    if a != b and RANK[a] == RANK[b] and a not in ("__main__", "sixfold"):
        return "siblings do not see each other"
    return f"{a} stands left of {b}" if RANK[a] < RANK[b] else None


def breaches(edges: Graph) -> list[str]:
    """Every import that the rule forbids, one line each."""
    found = [(module, target, breach(module, target)) for module, targets in edges.items() for target in sorted(targets)]
    return [f"{module} -> {target}: {why}" for module, target, why in found if why]


def test_every_import_points_to_the_left():
    assert breaches(graph(read(ROOT))) == []


def test_no_two_modules_need_each_other():
    tuple(graphlib.TopologicalSorter(graph(read(ROOT))).static_order())  # raises CycleError with the cycle


def test_every_part_of_the_package_has_a_layer():
    parts = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} <= set(RANK)


# --- the rule itself, seen to fail ---------------------------------------------------------------------------------------


def written(folder: Path, files: dict[str, str]) -> Graph:
    """The graph of a small package of that text, with all its folders."""
    for name, text in files.items():
        path = folder / "sixfold" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for above in path.relative_to(folder).parents[:-1]:
            (folder / above / "__init__.py").touch()
    return graph(read(folder / "sixfold"))


@pytest.mark.parametrize(
    ("importer", "text", "imported", "says"),
    [
        ("core/spec.py", "from sixfold.nn.mlp import MLP", "nn/mlp.py", "core stands left of nn"),
        ("core/spec.py", "import sixfold.nn.mlp", "nn/mlp.py", "core stands left of nn"),
        ("core/spec.py", "from ..nn import mlp", "nn/mlp.py", "core stands left of nn"),
        ("core/spec.py", "def f():\n    from sixfold.nn.mlp import MLP", "nn/mlp.py", "core stands left of nn"),
        ("core/spec.py", "import importlib\nimportlib.import_module('sixfold.nn.mlp')", "nn/mlp.py", "core stands left of nn"),
        (
            "core/spec.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sixfold.nn import mlp",
            "nn/mlp.py",
            "core",
        ),
        ("nn/mlp.py", "from sixfold.prob.codecs import Codec", "prob/codecs.py", "siblings"),
        ("data/toys.py", "from sixfold.models.flow import realnvp", "models/flow/realnvp.py", "siblings"),
        ("compare/table.py", "import sixfold.testing", "testing.py", "siblings"),
        ("run/fit.py", "from sixfold import fit", "core/spec.py", "run stands left of sixfold"),
        ("run/fit.py", "import sixfold", "core/spec.py", "run stands left of sixfold"),
        (
            "models/vae/vae.py",
            "from sixfold.models.vae.other import Other",
            "models/vae/other.py",
            "a model file imports another",
        ),
        ("models/vae/vae.py", "from sixfold.models.flow._family import f", "models/flow/_family.py", "imports another family"),
        ("extras/new.py", "import sixfold.core.spec", "core/spec.py", "belongs to no layer"),
    ],
)
def test_breaches_are_found(tmp_path, importer, text, imported, says):
    found = breaches(written(tmp_path, {imported: "", importer: text}))
    assert len(found) == 1
    assert says in found[0]


@pytest.mark.parametrize(
    ("importer", "text", "imported"),
    [
        ("nn/mlp.py", "from sixfold.core.spec import DataSpec", "core/spec.py"),
        ("models/vae/vae.py", "from sixfold.models.vae._family import f", "models/vae/_family.py"),
        ("cli/main.py", "import sixfold.compare.table", "compare/table.py"),
        ("nn/mlp.py", "import torch\nfrom collections import deque", "core/spec.py"),
        ("run/fit.py", "from sixfold import __version__", "core/spec.py"),
    ],
)
def test_what_is_allowed_is_left_alone(tmp_path, importer, text, imported):
    assert breaches(written(tmp_path, {imported: "", importer: text})) == []


def test_circles_are_found(tmp_path):
    edges = written(tmp_path, {"core/a.py": "def f():\n    from sixfold.core import b", "core/b.py": "import sixfold.core.a"})
    with pytest.raises(graphlib.CycleError):
        tuple(graphlib.TopologicalSorter(edges).static_order())
