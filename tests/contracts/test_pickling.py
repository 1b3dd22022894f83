"""Whatever an application is handed makes the journey to another process, and comes back equal."""

from __future__ import annotations

import asyncio
import copy
import copyreg
import multiprocessing
import pickle
import ssl
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import tblib.pickling_support
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, HTTPClientError

import aiohaul
from aiohaul import (
    DefinitionError,
    Destination,
    EndpointError,
    NothingFoundError,
    ObjectNotFoundError,
    Sensitive,
    ServiceError,
    Session,
    Settings,
    Stream,
    StreamError,
    TransferError,
)
from aiohaul.aws.direct.error_response import ErrorResponseError
from aiohaul.aws.http.errors import ConnectionClosedError, ProxyConnectionError, SSLError
from aiohaul.errors import HaulError
from aiohaul.pickling import ForeignCauseError, NotPicklable
from tests.support import jobs
from tests.support.public_classes import Chunks, classes, example
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

Way = Callable[[Any], Any]

# A fork of a process with threads, which pytest's is, is what happens to applications too.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def as_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask has tblib pickle exceptions of all classes that it knows, in its own way."""
    for cls in list(copyreg.dispatch_table):
        if issubclass(cls, BaseException):
            monkeypatch.delitem(copyreg.dispatch_table, cls)


def by_pickle(protocol: int) -> Way:
    return lambda value: pickle.loads(pickle.dumps(value, protocol))  # noqa: S301  # made here


WAYS: dict[str, Way] = {
    **{f"pickle {each}": by_pickle(each) for each in range(2, pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle twice": lambda value: by_pickle(4)(by_pickle(4)(value)),
}

PORTABLE = [each for each in classes() if not issubclass(each, NotPicklable)]
ERRORS = [each for each in PORTABLE if issubclass(each, HaulError)]
BOUND = [each for each in classes() if issubclass(each, NotPicklable)]


def assert_equal(one: Any, other: Any, where: str = "it") -> None:
    """Compare all there is of two values: not all of it counts for ``==``."""
    assert type(one) is type(other), where
    if isinstance(one, BaseException):
        assert_equal(one.args, other.args, f"{where}.args")
        assert str(one) == str(other), where
        assert_equal(vars(one), vars(other), f"{where}.__dict__")  # with its notes
        assert str(one.__cause__) == str(other.__cause__), where
    elif is_dataclass(one):
        for field in fields(one):
            name = field.name
            assert_equal(getattr(one, name), getattr(other, name), f"{where}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (each, its) in enumerate(zip(one, other, strict=True)):
            assert_equal(each, its, f"{where}[{number}]")
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, each in one.items():
            assert_equal(each, other[key], f"{where}[{key!r}]")
    elif "__eq__" not in vars(type(one)) and hasattr(one, "__dict__"):
        assert_equal(vars(one), vars(other), where)
    else:
        assert one == other, where


def test_values_and_errors_are_equal_afterwards() -> None:
    for cls in PORTABLE:
        made = example(cls)
        for name, way in WAYS.items():
            assert_equal(made, way(made), f"{cls.__name__} by {name}")


def test_it_finds_them() -> None:
    names = {each.__name__ for each in PORTABLE}
    assert {
        "Settings",
        "TransferReport",
        "ServiceError",
        "Copied",
        "S3Object",
        "Sensitive",
    } <= names
    public = {getattr(aiohaul, name) for name in aiohaul.__all__}
    assert {each for each in public if isinstance(each, type)} <= {*PORTABLE, *BOUND}


def test_what_belongs_to_a_loop_is_refused() -> None:
    for cls in BOUND:
        made: Any = object.__new__(cls)
        for way in WAYS.values():
            with pytest.raises(
                TypeError, match=f"{cls.__name__} cannot be copied or pickled, .* make"
            ):
                way(made)


def test_what_belongs_to_a_loop() -> None:
    assert {each.__name__ for each in BOUND} == {
        *("FargateHandler", "LambdaHandler", "LogsHandler", "S3Handler", "SSMHandler"),
        *("ObjectFile", "SecretsHandler", "Session", "Watch"),
    }


def test_a_session_that_something_else_holds_is_refused() -> None:
    for way in (by_pickle(4), copy.deepcopy):
        with pytest.raises(TypeError, match="Session cannot be copied or pickled"):
            way({"session": Session()})


def test_a_stream_of_a_generator_is_refused() -> None:
    async def rows() -> Any:
        yield b"row"

    for way in WAYS.values():
        with pytest.raises(
            TypeError, match=r"stream rows.csv .* async generator.* Create the Stream"
        ):
            way(Stream("rows.csv", rows()))
        other = way(Stream("rows.csv", Chunks(), size=5))
        assert (other.name, other.size, type(other.chunks)) == ("rows.csv", 5, Chunks)


def caused_by(cause: BaseException | None, error: BaseException) -> Any:
    error.__cause__ = cause  # as ``raise … from`` does
    return error


class BrokenError(Exception):
    """One whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError


def of_a_function() -> Exception:
    class LocalError(HaulError):
        """Nobody can import it."""

    return LocalError("local")


CAUSES = {
    "KeyError": KeyError("row"),
    "OSError": FileNotFoundError(2, "No such file or directory", "a"),
    "ClientError": ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject"),
    "an error response": ErrorResponseError(
        {"Error": {"Code": "404", "Message": "Not Found"}, "ResponseMetadata": {}}, "HeadObject"
    ),
    "no answer": ConnectionClosedError("reset", 104, answered=True),
    "a proxy": ProxyConnectionError("http://proxy:3128", "refused", 403),
    "a certificate": SSLError("self-signed", untrusted=True),
    "ssl": ssl.SSLCertVerificationError(1, "certificate verify failed"),
    "group": ExceptionGroup("two", [ValueError("one"), TypeError("other")]),
    "with a lock": ValueError("locked", multiprocessing.Lock()),
    "HaulError": NothingFoundError("nothing matches"),
    "own": jobs.OwnError(job=7, step="load"),
    "own, which nobody can import": of_a_function(),
    "own, which holds a generator": jobs.LoadedError(),
    "cancelled": asyncio.CancelledError(),
}


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_the_text_of_causes_is_kept(cause: BaseException) -> None:
    error = caused_by(cause, example(ObjectNotFoundError))
    error.add_note("a note")
    for name, way in WAYS.items():
        other = way(error)
        assert_equal(error, other, name)
        assert other.__notes__ == ["a note"]
        lines = "".join(traceback.format_exception(other))
        assert type(cause).__name__ in lines
        assert "direct cause of the following exception" in lines


@pytest.mark.parametrize("name", ["an error response", "no answer", "a proxy", "a certificate"])
def test_errors_of_requests_keep_their_attributes(name: str) -> None:
    """Some tools pickle causes as they are."""
    error = CAUSES[name]
    vars(error)["url"] = "https://host/key"
    other = by_pickle(4)(error)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_every_error_keeps_its_notes_and_its_cause() -> None:
    for cls in ERRORS:
        error = caused_by(caused_by(KeyError("row"), StreamError("stream x failed")), example(cls))
        error.add_note("a note")
        for name, way in WAYS.items():
            other = way(error)
            assert_equal(error, other, f"{cls.__name__} by {name}")
            assert type(other.__cause__) is StreamError
            assert str(other.__cause__.__cause__) == "'row'"


def test_an_error_of_ours_stays_one_as_a_cause() -> None:
    error = by_pickle(4)(caused_by(jobs.OwnError(job=7, step="load"), HaulError("why")))
    assert isinstance(error.__cause__, jobs.OwnError)
    assert error.__cause__.job == 7


def test_a_cause_that_was_not_ours_tells_its_class_and_notes() -> None:
    cause = caused_by(OSError("disk"), KeyError("row"))
    cause.add_note("of the table")
    error = by_pickle(4)(caused_by(cause, HaulError("why")))
    assert isinstance(error.__cause__, ForeignCauseError)
    assert error.__cause__.kind == "builtins.KeyError"
    assert error.__cause__.__notes__ == ["of the table", "(builtins.KeyError)"]
    assert str(error.__cause__.__cause__) == "disk"


def test_a_cause_whose_text_cannot_be_had() -> None:
    error = by_pickle(4)(caused_by(BrokenError(), HaulError("why")))
    assert "BrokenError" in str(error.__cause__)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_causes_in_a_circle(length: int) -> None:
    first = HaulError("first")
    between = [KeyError(number) for number in range(length)]
    for one, its in zip([first, *between], [*between, first], strict=True):
        one.__cause__ = its
    foreign = caused_by(None, ValueError("itself"))
    foreign.__cause__ = foreign
    for way in WAYS.values():
        assert str(way(first).__cause__) == ("0" if length else "first")
        assert str(way(caused_by(foreign, HaulError("why"))).__cause__) == "itself"


def test_a_long_chain_of_causes() -> None:
    error: Any = None
    for number in range(40):
        error = caused_by(
            caused_by(error, KeyError(f"theirs {number}")), HaulError(f"ours {number}")
        )
    other = by_pickle(4)(error)
    for number in reversed(range(40)):
        assert str(other) == f"ours {number}"
        other = other.__cause__.__cause__
    assert other is None


@pytest.mark.parametrize(
    "error",
    [
        jobs.OwnError(job=7, step="load"),
        jobs.SlottedError(7),
        jobs.OwnFileError(2, "No such file or directory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_an_application(error: Any) -> None:
    error.extra = {"more": 1}
    for each, way in WAYS.items():
        other = way(error)
        assert_equal(error, other, each)
        for name in ("job", "step", "errno"):
            assert getattr(error, name, None) == getattr(other, name, None)


def test_fields_of_a_deep_copy_are_its_own() -> None:
    error = HaulError("why")
    error.add_note("one")
    copied = copy.deepcopy(error)
    copied.add_note("two")
    assert error.__notes__ == ["one"]


def test_no_secret_of_a_foreign_cause_travels() -> None:
    request = AWSRequest("GET", "https://h/?X-Amz-Signature=s3cr3t", {"Authorization": "s3cr3t"})
    cause = HTTPClientError(request=request, error="at https://h/key?X-Amz-Signature=s3cr3t")
    error = caused_by(cause, example(ServiceError))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert b"s3cr3t" not in pickle.dumps(error, protocol)
    assert "https://h/key" in str(by_pickle(4)(error).__cause__)


async def test_no_token_is_in_the_objects_that_causes_are() -> None:
    """Some tools pickle these as they are: Dask does."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Session(
            region=REGION,
            access_key_id=KEY,
            secret_access_key=SECRET,
            session_token="t0k3n",
            endpoint_url=f"http://127.0.0.1:{port}",
            direct=False,
        ) as session:
            with pytest.raises(EndpointError) as caught:
                await session.s3().head("bucket", "key")
    cause = caught.value.__cause__
    assert isinstance(cause, ConnectionClosedError)
    assert b"t0k3n" not in pickle.dumps(cause)


def test_keys_travel_in_settings_alone_and_are_not_shown() -> None:
    settings = Settings(access_key_id="AKIA", secret_access_key="s3cr3t")
    other = by_pickle(4)(Destination(bucket="there", settings=settings))
    assert other.settings == settings
    assert "s3cr3t" not in repr(other)
    assert "s3cr3t" not in repr(by_pickle(4)(Sensitive("s3cr3t")))


def test_as_dask_pickles_errors() -> None:
    """With the objects that their causes are, and with their tracebacks."""
    error = caused_by(KeyError("row"), example(ObjectNotFoundError))
    tblib.pickling_support.install(error)
    assert_equal(error, by_pickle(4)(error))


@pytest.fixture
def settings(moto_url: str) -> Settings:
    return Settings(
        access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url=moto_url
    )


@pytest.fixture(params=["fork", "spawn"])
def pool(request: pytest.FixtureRequest) -> Any:
    return lambda: ProcessPoolExecutor(1, multiprocessing.get_context(request.param))


async def test_real_errors_come_out_of_a_process_pool(
    pool: Any, settings: Settings, moto_s3: Store
) -> None:
    bucket = await moto_s3.bucket()
    there = Destination(bucket=await moto_s3.bucket(), settings=settings)
    await moto_s3.put(bucket, "key", b"bytes")
    with pool() as processes:
        process = processes.submit(jobs.pid).result()
        missing = processes.submit(jobs.read_missing, settings, bucket).exception()
        assert isinstance(missing, ObjectNotFoundError)
        assert missing.target == f"s3://{bucket}/missing"
        assert "ErrorResponseError" in str(missing.__cause__)  # the pool's text of the traceback

        nowhere = Destination(bucket="no-such-bucket", settings=settings)
        failed = processes.submit(jobs.copy_to, settings, bucket, [there, nowhere]).exception()
        assert isinstance(failed, TransferError)
        assert [each.objects for each in failed.report.destinations] == [1, 0]
        assert failed.report.failures[0].kind == "BucketNotFoundError"

        wrong = processes.submit(jobs.run_wrong_definition).exception()
        assert isinstance(wrong, DefinitionError)
        assert wrong.path.startswith("source")

        own = processes.submit(jobs.raise_own).exception()
        assert isinstance(own, jobs.OwnError)
        assert (own.job, own.__notes__) == (7, ["of the night"])

        report = processes.submit(jobs.copy_to, settings, bucket, [there]).result()
        assert report.ok
        assert report.destinations[0].objects == 1
        assert processes.submit(jobs.pid).result() == process, "the pool was broken meanwhile"


@pytest.mark.parametrize("method", ["fork", "spawn"])
async def test_real_errors_come_out_of_multiprocessing(
    method: str, settings: Settings, moto_s3: Store
) -> None:
    bucket = await moto_s3.bucket()
    with multiprocessing.get_context(method).Pool(1) as processes:
        with pytest.raises(ObjectNotFoundError, match="missing") as caught:
            processes.apply_async(jobs.read_missing, (settings, bucket)).get(60)
        assert caught.value.operation == "HeadObject"
        with pytest.raises(jobs.OwnError):
            processes.apply_async(jobs.raise_own).get(60)
