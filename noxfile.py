"""`nox` runs everything that has to hold; `nox -l` lists it."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")
GROUPS = {
    name: nox.project.dependency_groups(PROJECT, name) for name in PROJECT["dependency-groups"]
}


@nox.session
def lint(session: nox.Session) -> None:
    session.install(*GROUPS["lint"])
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    session.install(
        *GROUPS["types"], *GROUPS["tests"], *GROUPS["benchmarks"], "nox", "rich", "-e", ".[demo]"
    )
    session.run("mypy")


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Fuzz every kind of input, led by coverage: ``nox -s fuzz -- [--seconds N] [TARGET …]``."""
    session.install(*GROUPS["tests"], *GROUPS["fuzz"], "-e", ".")
    session.run("python", "tests/fuzz/campaign.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests against the built wheel: a file that it lacks is missed here."""
    session.install("build")
    directory = Path(session.create_tmp())
    session.run("python", "-m", "build", "--wheel", "--outdir", str(directory), silent=True)
    wheel = max(directory.glob("*.whl"), key=lambda file: file.stat().st_mtime)
    session.install(*GROUPS["tests"])
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(f"aiohaul[demo] @ {wheel.resolve().as_uri()}")
    # Side by side: most of them wait for servers.
    session.run("pytest", *(session.posargs or ["-n", "2", "-m", "slow or not slow"]))
