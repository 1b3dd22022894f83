"""The house rules that a machine can check: floors, public names, what imports what."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from tests.support.package import ROOT, floor, modules

TESTS = Path(__file__).parents[1]
PUBLIC = """
AccessDeniedError Action ActionReport BatchBusyError BatchEnded BatchError BatchReport BatchStarted
BatchStateError BatchTaskReport BatchTimeoutError BucketNotFoundError Change ClusterNotFoundError
CollisionError Conditions ConflictError Copied CredentialsError CursorError DefinitionError
Destination DestinationReport DirectoryListing DurableExecution DurableExecutionError
DurableTimeoutError EndpointError Event Failed Failure FargateHandler FargateReport FargateTaskError
FargateTaskFailedError FargateTaskStartError FargateTaskTimeoutError FlagWritten Found FunctionError
FunctionNameError FunctionNotFoundError HaulError Invocation InvocationReport JournalBusyError
JournalError LambdaHandler LocalDestination LocalFile LocalFileError LocalFileExistsError
LogGroupNotFoundError LogLine LogsHandler MissingExtraError NothingFoundError ObjectData
ObjectDetails ObjectExistsError ObjectFile ObjectNotFoundError ObjectVersion OutcomeUnknownError
Parameter ParameterNotFoundError PayloadError PayloadTooLargeError PlanError PlannedTask
PreconditionFailedError QueueNotFoundError RegexLimitError Rename S3Handler S3Object SSMHandler
Secret SecretNotFoundError SecretValueError SecretsHandler Sensitive ServiceError Session
SessionError Settings SettingsError SourceActionDone SourceOptions StorageFullError Stream
StreamError TaskEnded TaskProgress TaskQueued TaskResult TaskResumed TaskStarted ThrottledError
TouchReport TransferError TransferReport UnreachableError UnsupportedError VerificationError Watch
WatchPolled WatchTimeoutError WriteOptions WriteResult clean run validate
"""


def name_of(file: Path) -> str:
    return ".".join(("aiohaul", *file.relative_to(ROOT).with_suffix("").parts))


names = {name_of(file) for file in modules}
folders = sorted({name.rpartition(".")[0] for name in names})


def imports(file: Path) -> set[str]:
    """What a module imports, anywhere in it: for its types and in functions, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{each.name}" for each in node.names}
            found |= {each if each in names else node.module for each in inner}
        elif isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
    return {f"{each}.__init__" if f"{each}.__init__" in names else each for each in found}


IMPORTS = {name_of(file): imports(file) for file in modules}
del IMPORTS["aiohaul.__init__"]  # public names, each of which is imported when it is asked for


@pytest.mark.parametrize("name", IMPORTS)
def test_imports_go_down(name: str) -> None:
    for imported in IMPORTS[name]:
        top, _, inner = imported.partition(".")
        if top == "aiohaul" and inner != "__init__":
            rooms = [each.split(".")[1] for each in (name, imported)]
            assert rooms[0] == rooms[1] or floor(rooms[0]) >= floor(rooms[1]), imported
        assert top != "opentaskpy"
        if top in {"botocore", "aiobotocore", "aiohttp"}:
            assert name.startswith("aiohaul.aws."), f"{name} knows {top}"


@pytest.mark.parametrize("folder", folders)
def test_no_circle_of_imports(folder: str) -> None:
    """Between the modules and folders that a folder holds, whatever they import each other for."""

    def child(name: str) -> str:
        return name.removeprefix(f"{folder}.").split(".")[0]

    below = {
        name: {each for each in imported if each.startswith(f"{folder}.")}
        for name, imported in IMPORTS.items()
        if name.startswith(f"{folder}.")
    }
    graph: dict[str, set[str]] = {}
    for name, imported in below.items():
        graph.setdefault(child(name), set()).update(map(child, imported))
    for node, found in graph.items():
        found.discard(node)
    TopologicalSorter(graph).prepare()  # raises for a circle, and names it


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
    assert len(file.read_text().splitlines()) <= 600


def test_public_names() -> None:
    assert sorted(aiohaul.__all__) == sorted(PUBLIC.split())
    assert sorted(aiohaul.__all__) == aiohaul.__all__


def types_in(hint: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield hint
    for each in typing.get_args(hint):
        for inner in each if isinstance(each, list) else (each,):  # those of a Callable
            yield from types_in(inner)
    if isinstance(hint, typing.TypeVar) and hint.__bound__ is not None:
        yield from types_in(hint.__bound__)


@pytest.mark.parametrize("name", aiohaul.__all__)
def test_public_calls_take_and_return_public_types(name: str) -> None:
    """But for protocols and dicts with types, and for what a Session gives its handlers."""
    value = getattr(aiohaul, name)
    public = {getattr(aiohaul, each) for each in aiohaul.__all__}
    members = dict(inspect.getmembers(value)) if inspect.isclass(value) else {name: value}
    if name.endswith("Handler") or name in {"ObjectFile", "Watch"}:  # made by others
        del members["__init__"]
    for member, call in members.items():
        function = call.fget if isinstance(call, property) else inspect.unwrap(call)
        if (member.startswith("_") and member != "__init__") or not inspect.isfunction(function):
            continue
        # What only type checkers import is public too.
        names = {each: getattr(aiohaul, each) for each in aiohaul.__all__}
        for hint in typing.get_type_hints(function, localns=names).values():
            for each in types_in(hint):
                own = inspect.isclass(each) and each.__module__.startswith("aiohaul.")
                structural = getattr(each, "_is_protocol", False) or typing.is_typeddict(each)
                assert not own or structural or each in public, (member, each)


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
    changelog = TESTS.parent / "CHANGELOG.md"
    assert f"## {version('aiohaul')}" in changelog.read_text()


def test_what_tests_share_is_in_support() -> None:
    """No test imports another one, nor anything from a room that is not its own."""
    for file in TESTS.rglob("*.py"):
        own = file.relative_to(TESTS).parts[0]
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file} imports by its place"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for parts in (name.split(".") for name in names):
                assert not any(part.startswith("test_") for part in parts), f"{file}: {parts}"
                assert parts[0] != "tests" or parts[1] in {"support", own}, f"{file}: {parts}"


#: Modules outside aws that use Any, by reason. To use object, JsonValue, a TypeVar or a Protocol
#: instead is better: the list may only shrink.
USES_OF_ANY = {
    "parameters and responses of AWS operations, which botocore leaves untyped": """
        compute/fargate compute/invocation compute/lambda_handler compute/log_watch
        compute/logs compute/task_poller compute/task_run compute/task_starter doctor/access
        doctor/bench doctor/conditions doctor/workspace parameters/secrets_manager
        parameters/ssm s3/copying/server_side s3/listings/pages s3/object_io/details
        s3/object_io/versions s3/streaming/checksums
        s3/streaming/description s3/streaming/incomplete_uploads s3/streaming/readers
        s3/streaming/stream s3/streaming/tags s3/streaming/target s3/streaming/uploads
        s3/streaming/verification s3/streaming/writers tasks/compute_definition
    """,
    "JSON of applications and files": "results s3/journal",
    "objects of Airflow, which is not installed for the checks, and JSON in its database": """
        airflow/attempts airflow/connection airflow/operators airflow/sensors airflow/timing
        airflow/triggers airflow/xcom
    """,
    "the untyped interfaces of Open Task Framework": "tasks/lookups tasks/otf_steps",
}


def test_any_is_the_exception() -> None:
    allowed = {name for names in USES_OF_ANY.values() for name in names.split()}
    used = {
        str(file.relative_to(ROOT).with_suffix(""))
        for file in modules
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr == "Any")
        or (isinstance(node, ast.ImportFrom) and "Any" in [alias.name for alias in node.names])
    }
    used = {name for name in used if not name.startswith("aws/")}
    assert sorted(used - allowed) == [], "uses Any: use object, JsonValue, a TypeVar or a Protocol"
    assert sorted(allowed - used) == [], "no longer uses Any: remove it from USES_OF_ANY"
