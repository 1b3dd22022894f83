"""The pages of the site: every guide under a short name, and the reference of all public names.

    python tests/support/website/gather.py FOLDER [--airflow]

writes them into a folder, from which Sphinx builds the site. ``--check FOLDER`` makes sure that
every public name is in the reference of a site. ``nox -s docs`` does both.
"""

from __future__ import annotations

import argparse
import ast
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Page:
    """A Markdown file of the project, and the name of its page."""

    name: str
    file: str


#: The navigation: the parts, and the pages in each. The site opens with the README.
PARTS: dict[str, tuple[Page, ...]] = {
    "Guides": (
        Page("copies", "src/aiohaul/s3/copying/README.md"),
        Page("watches", "src/aiohaul/s3/watching/README.md"),
        Page("objects", "src/aiohaul/s3/README.md"),
        Page("object-io", "src/aiohaul/s3/object_io/README.md"),
        Page("compute", "src/aiohaul/compute/README.md"),
        Page("parameters", "src/aiohaul/parameters/README.md"),
        Page("endpoints", "src/aiohaul/aws/README.md"),
        Page("command-line", "src/aiohaul/cli/README.md"),
        Page("doctor", "src/aiohaul/doctor/README.md"),
        Page("definitions", "src/aiohaul/tasks/README.md"),
        Page("batches", "src/aiohaul/tasks/BATCHES.md"),
        Page("observability", "src/aiohaul/telemetry/README.md"),
    ),
    "In other software": (
        Page("applications", "tests/apps/README.md"),
        Page("airflow", "src/aiohaul/airflow/README.md"),
        Page("prefect", "tests/orchestrators/README.md"),
        Page("dask", "src/aiohaul/dask/README.md"),
        Page("otf", "src/opentaskpy/README.md"),
    ),
    "Trust": (
        Page("security", "SECURITY.md"),
        Page("tried", "tests/README.md"),
        Page("stores", "tests/stores/README.md"),
        Page("faults", "tests/faults/README.md"),
        Page("fuzzing", "tests/fuzz/README.md"),
        Page("benchmarks", "benchmarks/README.md"),
        Page("results", "benchmarks/RESULTS.md"),
    ),
    "The project": (
        Page("architecture", "src/aiohaul/README.md"),
        Page("direct", "src/aiohaul/aws/direct/README.md"),
        Page("streaming", "src/aiohaul/s3/streaming/README.md"),
        Page("journal", "src/aiohaul/s3/JOURNAL.md"),
        Page("contributing", "CONTRIBUTING.md"),
        Page("changelog", "CHANGELOG.md"),
    ),
}
#: Modules whose ``__all__`` is public.
MODULES = ("aiohaul", "aiohaul.blocking", "aiohaul.logs", "aiohaul.dask")
#: Pages of the reference for the names of ``aiohaul``: the title, and which names are there, by
#: the name itself and the module that defines it.
_GROUPS: tuple[tuple[str, str, Callable[[str, str], bool]], ...] = (
    ("session", "Sessions, handlers and functions", lambda name, _: _is_a_start(name)),
    ("errors", "Errors", lambda _, home: home == "aiohaul.errors"),
    ("events", "Events", lambda _, home: home == "aiohaul.progress"),
    ("reports", "Reports", lambda _, home: home == "aiohaul.report"),
    ("values", "Objects, destinations and other values", lambda _, __: True),
)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^([ >]*)(`{3,}|~{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)


def write_pages(folder: Path) -> None:
    """Write the guides: links lead from page to page, and pictures lie beside the pages."""
    names = {page.file: page.name for part in PARTS.values() for page in part}
    names["README.md"] = "index"
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in names.items():
        text = (PROJECT / file).read_text(encoding="utf-8")
        move = partial(_moved, file=file, names=names, folder=folder)
        moved = "".join(
            each if is_block else _LINK.sub(move, each) for is_block, each in _pieces(text)
        )
        if name == "index":
            moved = f"{moved}\n{_navigation()}"
        (folder / f"{name}.md").write_text(moved, encoding="utf-8")


def _moved(link: re.Match[str], *, file: str, names: dict[str, str], folder: Path) -> str:
    """A link of a document as it stands on the site."""
    bang, text, target = link.groups()
    path, hash_, anchor = target.partition("#")
    if "://" in target or not path:
        return link[0]
    there = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
    if there in names:
        return f"[{text}]({names[there]}.md{hash_}{anchor})"
    if bang:
        copy = folder / there
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / there, copy)
        return f"![{text}]({there})"
    return text  # a file of the code: it has no page


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """The blocks of a text, and what stands between them."""
    end = 0
    for block in _BLOCK.finditer(text):
        yield False, text[end : block.start()]
        yield True, block[0]
        end = block.end()
    yield False, text[end:]


def without_blocks(text: str) -> str:
    """A text without its blocks."""
    return "".join(each for is_block, each in _pieces(text) if not is_block)


def _navigation() -> str:
    parts = {title: [page.name for page in pages] for title, pages in PARTS.items()}
    parts["Reference"] = ["reference/index"]
    return "\n".join(
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])
        for title, pages in parts.items()
    )


def write_reference(folder: Path, *, airflow: bool = False) -> None:
    """Write the pages of the reference: one for each kind of name, and one for each module."""
    folder.mkdir(parents=True, exist_ok=True)
    pages: dict[str, str] = {}
    homes = _homes()
    left = public_names("aiohaul")
    for name, title, belongs in _GROUPS:
        taken = [each for each in left if belongs(each, homes.get(each, ""))]
        left = [each for each in left if each not in taken]
        # A Session first: everything else begins there.
        pages[name] = _page(title, "aiohaul", sorted(taken, key="Session".__ne__))
    for module in (*MODULES[1:], *(["aiohaul.airflow"] if airflow else [])):
        pages[module.partition(".")[2]] = _page(module, module, public_names(module))
    tree = "\n".join(["```{toctree}", ":maxdepth: 1", "", *pages, "```", ""])
    (folder / "index.md").write_text(
        "# Reference\n\nAll public names, from their docstrings. Everything else may change in any"
        f" release.\n\n{tree}",
        encoding="utf-8",
    )
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def _page(title: str, module: str, names: list[str]) -> str:
    head = f"# {title}\n\n"
    if title == "Errors":
        head += "```{literalinclude} tree.txt\n:language: text\n```\n\n"
    # Errors show where they stand in the tree, operators nothing of Airflow's own.
    options = {"Errors": ":show-inheritance:", "aiohaul.airflow": ":no-inherited-members:"}
    more = [f"   {options[title]}"] if title in options else []
    entries = [
        "\n".join(["```{eval-rst}", f".. auto{_kind(each)}:: {module}.{each}", *more, "```", ""])
        for each in names
    ]
    return head + "\n".join(entries)


def _is_a_start(name: str) -> bool:
    """True for functions, and for classes that a user begins with."""
    return name[0].islower() or name in {"Session", "Settings"} or name.endswith("Handler")


def _kind(name: str) -> str:
    if name[0].isupper():
        return "data" if name == "Event" else "class"
    return "function"


def _file(module: str) -> Path:
    place = PROJECT.joinpath("src", *module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def public_names(module: str) -> list[str]:
    """The names in ``__all__``, which a module has to have to be in the reference."""
    for node in ast.parse(_file(module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    raise ValueError(f"{module} promises nothing")


def _homes() -> dict[str, str]:
    """The module in which each name of ``aiohaul`` is defined."""
    return {
        alias.name: node.module or ""
        for node in ast.walk(ast.parse(_file("aiohaul").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def write(folder: Path, *, airflow: bool = False) -> None:
    """Write all pages of the site into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    write_pages(folder)
    write_reference(folder / "reference", airflow=airflow)
    docstring = ast.get_docstring(ast.parse(_file("aiohaul.errors").read_text(encoding="utf-8")))
    tree = str(docstring).partition("\n\n")[2]
    (folder / "reference" / "tree.txt").write_text(f"{tree}\n", encoding="utf-8")


def missing(site: Path, *, airflow: bool = False) -> list[str]:
    """The public names that the reference of a built site lacks."""
    written = "".join(
        each.read_text(encoding="utf-8") for each in (site / "reference").glob("*.html")
    )
    return [
        f"{module}.{name}"
        for module in (*MODULES, *(["aiohaul.airflow"] if airflow else []))
        for name in public_names(module)
        if f'id="{module}.{name}"' not in written
    ]


def main() -> None:
    """Write the pages, or check the site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--airflow", action="store_true", help="the operators of Airflow too")
    parser.add_argument("--check", action="store_true", help="check a built site instead")
    chosen = parser.parse_args()
    if not chosen.check:
        write(chosen.folder, airflow=chosen.airflow)
    elif lacking := missing(chosen.folder, airflow=chosen.airflow):
        raise SystemExit(f"the reference lacks {', '.join(lacking)}")


if __name__ == "__main__":
    main()
