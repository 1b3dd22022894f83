"""Definitions, messages, names, URIs, secrets and cursors."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohaul.cli import main
from aiohaul.compute import invocation
from aiohaul.errors import (
    CursorError,
    DefinitionError,
    FunctionNameError,
    PlanError,
    SecretValueError,
    SettingsError,
)
from aiohaul.parameters import ssm
from aiohaul.parameters.secrets_manager import Secret
from aiohaul.s3 import objects
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.plan import LocalDestination
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.selection import literal_prefix, matching
from aiohaul.s3.watching import changes
from aiohaul.s3.watching.events import events_of, is_later
from aiohaul.s3.watching.queues import queue_settings
from aiohaul.settings import Settings
from aiohaul.tasks.definition import Task, Transfer, parse
from aiohaul.tasks.resume import definition_identity
from tests.fuzz.choices import Choices, as_json
from tests.support.samples import ARNS, CURSOR, DEFINITIONS, JSON_PATHS, MESSAGES, SECRETS, URIS

_SECRET = frozenset(
    {
        *("secret_access_key", "session_token", "assume_role_external_id", "payload", "command"),
        "environment",
    }
)
NOW = datetime(2026, 1, 31, tzinfo=UTC)
#: Every secret of the samples holds this, and nothing that is said may.
_KEPT = "KEPTSECRET"
#: Short: a regex of the fuzzer's own making may take exponential time on long ones.
_NAMES = ("a.txt", "aa.txt", "x", "é", "a b", "..", "\udcff", "ab\n")


def read_json(data: bytes, samples: tuple[dict[str, Any], ...]) -> Any:
    """JSON as it is, or a changed sample, that went through JSON or did not.

    Raises:
        ValueError: it is none.
    """
    choices = Choices(data)
    if choices.below(2) == 0:
        return _parsed(choices.rest())
    made = choices.mutated(choices.pick(samples))
    return made if choices.below(2) else _parsed(as_json(made).encode())


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError from None  # of json's own


def definition(data: bytes) -> None:
    try:
        value = read_json(data, DEFINITIONS)
    except ValueError:
        return
    task, said = _parsed_or_refused(value)
    assert _KEPT not in said or _is_elsewhere(value), said
    if task is None:
        return
    definition_identity(value)
    if isinstance(task, Transfer):
        with suppress(PlanError):
            _plan(task)


def _parsed_or_refused(value: Any) -> tuple[Task | None, str]:
    """The task, if it is one, and what anybody might see of it."""
    try:
        task = parse(value)
    except DefinitionError as error:
        return None, str(error)
    return task, repr(task)


def _is_elsewhere(value: Any) -> bool:
    """Whether a mutation put a secret where none is expected."""
    if isinstance(value, dict):
        return any(
            _KEPT in str(key) or (key not in _SECRET and _is_elsewhere(inner))
            for key, inner in value.items()
        )
    if isinstance(value, list):
        return any(map(_is_elsewhere, value))
    return _KEPT in str(value)


def _plan(task: Transfer) -> None:
    """What a transfer does before it makes a request, and with what it found."""
    literal_prefix(task.source.pattern)
    ends = [
        (each, "" if isinstance(each, LocalDestination) else "aws") for each in task.destinations
    ]
    found = [_source(name, task.source.bucket) for name in _NAMES]
    if task.source.conditions is not None:
        task.source.conditions.apply(found, NOW)
        task.source.conditions.seconds_until_met(found, NOW)
    sources = matching(found, task.source.pattern)
    for source in sources:
        with suppress(PlanError):
            plan.check([source], "aws", ends, task.source.action)
    plan.check(sources, "aws", ends, task.source.action)


def _source(name: str, bucket: str | None) -> plan.Listed:
    if bucket is None:
        return LocalFile(path=Path("/nowhere", name), size=1, last_modified=NOW, version=(1, 1, 1))
    return S3Object(bucket, f"src/{name}", 1, "etag", NOW)


def message(data: bytes) -> None:
    choices = Choices(data)
    if choices.below(2) == 0:
        body = choices.rest().decode("utf-8", "replace")
    else:
        body = as_json(choices.mutated(choices.pick(MESSAGES)))
        for _ in range(choices.below(4)):
            body = as_json({"Type": "Notification", "Message": body})
    for notice in events_of(body) or ():
        assert isinstance(notice.bucket, str)
        assert isinstance(notice.key, str)
        assert isinstance(notice.created, bool)
        is_later(notice.sequencer, "0A")
        assert not (is_later(notice.sequencer, "0A") and is_later("0A", notice.sequencer)) or (
            notice.sequencer is None
        )


def name(data: bytes) -> None:
    """Names and ARNs of functions, of durable executions, and of parameters."""
    text = _text(data, ARNS)
    for check in (
        invocation.check_function,
        invocation.check_durable_name,
        invocation.check_durable_arn,
    ):
        with suppress(FunctionNameError):
            check(text)
            assert text.isascii()
            assert text.isprintable()
    batches = list(ssm.batches([text, "other", text + ":1"]))
    assert sorted(name for batch in batches for name in batch.values()) == sorted(
        [text, "other", text + ":1"]
    )


def uri(data: bytes) -> None:
    text = _text(data, URIS)
    with suppress(argparse.ArgumentTypeError):
        bucket, directory = main._bucket_and_directory(text)
        assert bucket
        assert not directory.startswith("/")
        assert text.rstrip("/") == objects.uri(bucket, directory).rstrip("/")
    with suppress(SettingsError):
        settings = queue_settings(Settings(), text)
        assert settings.endpoint_url
    for where in ("postCopyAction", "endpoint_url"):
        value = json.loads(as_json(DEFINITIONS[0]))
        if where == "endpoint_url":
            value["source"]["protocol"][where] = text
        else:
            value["source"][where]["destination"] = text
        with suppress(DefinitionError):
            parse(value)


def _text(data: bytes, samples: tuple[str, ...]) -> str:
    choices = Choices(data)
    if choices.below(2) == 0:
        return choices.rest().decode("utf-8", "surrogateescape")
    return choices.spliced(choices.pick(samples))


def secret(data: bytes) -> None:
    """A JSONPath, and what it looks into."""
    choices = Choices(data)
    if choices.below(2) == 0:
        path, _, text = choices.rest().decode("utf-8", "surrogateescape").partition("\0")
    else:
        path, text = choices.spliced(choices.pick(JSON_PATHS)), choices.pick(SECRETS)
        if choices.below(2):
            text = choices.spliced(text)
    made = Secret(name="night", value=text, version_id="1", created=None)
    assert _KEPT not in repr(made) or _KEPT in path
    said = ""
    try:
        made.select(path)
    except SecretValueError as error:
        said = str(error)
    assert _KEPT not in said or _KEPT in path


def cursor(data: bytes) -> None:
    try:
        value = read_json(data, (CURSOR,))
    except ValueError:
        return
    try:
        seen = changes.restore(value, "in", "src")
    except CursorError:
        return
    again = changes.cursor("in", "src", seen.cutoff, changes.pack(seen))
    written = json.dumps(again, allow_nan=False)
    assert list(changes.restore(json.loads(written), "in", "src")) == list(seen)
    known = S3Object("in", "src/a", 1, "e", NOW)
    first = seen.record(known)
    assert first is None or seen.record(known) is None
