"""The house rules that a machine can check: floors, public names, what an import pulls in."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import aiohaul

ROOT = Path(inspect.getfile(aiohaul)).parent
#: From the ground up: a room imports from its own floor and those below.
FLOORS = [
    {"hidden", "installed", "pickling", "version"},
    {"errors", "progress", "report", "concurrency", "looking", "logs", "telemetry"}
    | {"cancellation", "shortage", "threads", "user_code"},
    {"settings"},
    {"aws"},
    {"s3", "compute", "parameters"},
    {"session"},
    {"tasks", "blocking"},
    {"demo", "screen", "display", "display_batch", "display_watch", "timeline"},
    {"running"},
    {"cli", "airflow", "dask"},
    {"__main__"},
]
PUBLIC = """
AccessDeniedError Acted Action ActionReport BatchBusyError BatchEnded BatchError BatchReport
BatchStarted BatchStateError BatchTaskReport BatchTimeoutError BucketNotFoundError Change
ClusterNotFoundError CollisionError Conditions ConflictError Copied CredentialsError CursorError
DefinitionError Destination DestinationReport DurableExecution DurableExecutionError
DurableTimeoutError EndpointError Event Failed Failure FargateHandler FargateReport Flagged Found
FunctionError FunctionNameError FunctionNotFoundError HaulError Hidden Invocation InvocationReport
JournalBusyError JournalError LambdaHandler LocalDestination LocalFile LocalFileError
LocalFileExistsError LogGroupNotFoundError LogLine LogsHandler MissingExtraError NothingFoundError
ObjectExistsError ObjectNotFoundError OutcomeUnknownError Parameter ParameterNotFoundError
PayloadError PayloadTooLargeError PlanError PlannedTask PreconditionFailedError QueueNotFoundError
Rename S3Handler S3Object SSMHandler Secret SecretNotFoundError SecretValueError SecretsHandler
ServiceError Session SessionError Settings SettingsError Stream StreamError TaskEnded TaskError
TaskFailedError TaskQueued
TaskResult TaskStartError TaskStarted TaskTimeoutError TaskTold ThrottledError
TouchReport TransferError TransferReport UnreachableError UnsupportedError VerificationError Watch
WatchTimeoutError Watching clean run validate
"""


def floor(module: str) -> int:
    room = module.split(".")[1]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports(file: Path) -> set[str]:
    """What a module imports when it is imported; not what only types or functions need."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


modules = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", modules, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down(file: Path) -> None:
    name = "aiohaul." + ".".join(file.relative_to(ROOT).with_suffix("").parts)
    if name == "aiohaul.__init__":
        return
    for imported in imports(file):
        if imported.startswith("aiohaul."):
            assert floor(imported) <= floor(name), f"{name} climbs to {imported}"
        top = imported.split(".")[0]
        assert top != "opentaskpy"
        if top in {"botocore", "aiobotocore", "aiohttp"}:
            assert name.startswith("aiohaul.aws."), f"{name} knows {top}"


@pytest.mark.parametrize("file", modules, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_thread_of_the_applications_is_waited_for(file: Path) -> None:
    """Those of anyio's limiter, and of asyncio's executor, may all wait for this library."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = {node.attr} if isinstance(node, ast.Attribute) else set()
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names} | set((node.module or "").split("."))
        assert not names & {"to_thread", "from_thread", "run_in_executor"}, file


@pytest.mark.parametrize("file", modules, ids=lambda file: str(file.relative_to(ROOT)))
def test_module_stays_readable(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400


def test_public_names() -> None:
    assert sorted(aiohaul.__all__) == sorted(PUBLIC.split())
    assert sorted(aiohaul.__all__) == aiohaul.__all__


def test_public_names_are_documented() -> None:
    for name in aiohaul.__all__:
        value = getattr(aiohaul, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_import_pulls_in_no_extra() -> None:
    extras = {"rich", "moto", "opentaskpy", "boto3", "airflow", "distributed"}
    code = f"import sys; from aiohaul import *; print(sorted({extras} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_loads_its_own_room_alone() -> None:
    code = "import sys; from aiohaul import S3Handler; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {each.split(".")[1] for each in done.stdout.split() if each.startswith("aiohaul.")}
    assert "s3" in rooms
    assert not rooms & {"compute", "parameters", "session", "tasks"}


def test_a_room_with_public_names_of_its_own() -> None:
    assert inspect.isclass(aiohaul.logs.JsonFormatter)  # type checkers know it
    code = "import aiohaul; aiohaul.logs.JsonFormatter(); aiohaul.blocking.call"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_what_type_checkers_see() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom) and node.module != "aiohaul"
        for alias in node.names
    }
    assert seen == aiohaul._HOMES
    assert sorted(seen) == aiohaul.__all__
    assert set(aiohaul.__all__) <= set(dir(aiohaul))
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        aiohaul.Sesion  # type: ignore[attr-defined]  # noqa: B018  # a slip


def test_tests_run_against_the_installed_package() -> None:
    """The schemas are part of it, and the marker of its types."""
    assert (ROOT / "py.typed").exists()
    assert len(list((ROOT / "tasks" / "schemas").rglob("*.json"))) > 10


def test_version_is_that_of_the_changelog() -> None:
    changelog = Path(__file__).parent.parent / "CHANGELOG.md"
    assert f"## {version('aiohaul')}" in changelog.read_text()
