"""A secret in the wrong field: no message, log line or repr repeats it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.s3.keys import checked_directory, checked_key
from aiohaul.sensitive import HIDDEN, looks_secret, shown
from tests.support.samples import DEFINITIONS

SECRET_KEY = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12"
KEY_ID = "AKIAIOSFODNN7EXAMPLE"
TOKEN = "IQoJb3JpZ2luX2VjEJr" * 12
URL = "https://someone:Hunter2@host.example"
SIGNED = "https://host.example/b/k?X-Amz-Signature=0123456789abcdef"
SECRETS = (SECRET_KEY, KEY_ID, TOKEN, URL, SIGNED)
PASSWORD = "Hunter2!x"
#: What no text may have of each secret.
PARTS = (SECRET_KEY[:12], KEY_ID, TOKEN[:12], "Hunter2", "0123456789abcdef")
#: The environment variables, beside the keys, that Settings or botocore read for S3.
VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN", "AWS_PROFILE", "AWS_ENDPOINT_URL",
             "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS")  # fmt: skip


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each value that is neither an object nor a list."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from leaves(inner, (*path, key))
    else:
        yield path


def with_value(definition: Any, path: tuple[str | int, ...], value: object) -> Any:
    changed = copy.deepcopy(definition)
    at = changed
    for each in path[:-1]:
        at = at[each]
    at[path[-1]] = value
    return changed


FIELDS = [
    pytest.param(definition, path, id=f"{index}-{'.'.join(map(str, path))}")
    for index, definition in enumerate(DEFINITIONS)
    for path in leaves(definition)
]


def refusal(call: Callable[[], object]) -> aiohaul.HaulError | None:
    try:
        call()
    except aiohaul.HaulError as error:
        return error
    return None


def texts_of(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield from (str(error), repr(error), repr(vars(error)))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def assert_not_repeated(error: BaseException | None, *more: str) -> None:
    text = "\n".join((*texts_of(error), *more))
    assert [each for each in PARTS if each in text] == []


@pytest.mark.parametrize(("definition", "path"), FIELDS)
def test_no_field_of_a_definition_repeats_a_secret(
    definition: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    refused = 0
    for value in (*SECRETS, *(f"{each}\0" for each in SECRETS)):
        error = refusal(partial(aiohaul.validate, with_value(definition, path, value), tasks={}))
        refused += error is not None
        assert_not_repeated(error)
    assert refused >= len(SECRETS)  # a NUL is nowhere allowed


@pytest.mark.parametrize(("definition", "path"), FIELDS)
def test_only_names_repeat_a_password(
    definition: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    """Fields with few allowed values, numbers and all of a protocol but its name."""
    old = definition
    for each in path:
        old = old[each]  # type: ignore[index]
    protocol = "protocol" in path and path[-1] != "name"
    if protocol or not isinstance(old, str) or path[-1] in {"type", "transferType", "action"}:
        assert_not_repeated(
            refusal(lambda: aiohaul.validate(with_value(definition, path, PASSWORD), tasks={}))
        )


@pytest.mark.parametrize("secret", SECRETS)
def test_key_of_an_object_is_not_repeated(secret: str) -> None:
    for definition in DEFINITIONS:
        for path in {each[:-1] for each in leaves(definition) if isinstance(each[-1], str)}:
            for value in (1, "\ud800"):
                wrong = with_value(definition, (*path, secret), value)
                assert_not_repeated(refusal(partial(aiohaul.validate, wrong, tasks={})))


FIELDS_OF_SETTINGS = ("region", "role_arn", "endpoint_url", "access_key_id", "role_external_id")


@pytest.mark.parametrize("name", FIELDS_OF_SETTINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_field_of_settings_repeats_a_secret(name: str, secret: str) -> None:
    given: Any = {"access_key_id": "a", "secret_access_key": "b", name: secret}
    for made in (aiohaul.Settings, aiohaul.Session):
        error = refusal(partial(made, **given))
        assert_not_repeated(error)
        if name in {"region", "role_arn", "endpoint_url"}:
            assert isinstance(error, aiohaul.SettingsError)
            assert name in str(error)
    if name in {"access_key_id", "role_external_id"}:
        assert_not_repeated(None, repr(aiohaul.Settings(**given)))


@pytest.mark.parametrize(
    "call",
    [
        lambda secret: aiohaul.SourceOptions(request_payer=secret),
        lambda secret: aiohaul.SourceOptions(expected_bucket_owner=secret),
        lambda secret: aiohaul.SourceOptions(ignore_storage_classes=secret),
        lambda secret: aiohaul.SourceOptions(ignore_storage_classes={f"{secret}!"}),
        lambda secret: aiohaul.WriteOptions(storage_class=f"{secret}!"),
        lambda secret: aiohaul.WriteOptions(kms_key_id=f"{secret}!"),
        lambda secret: checked_key(f"/{secret}"),
        lambda secret: checked_directory(f"/{secret}"),
    ],
)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_option_repeats_a_secret(call: Callable[[str], object], secret: str) -> None:
    error = refusal(lambda: call(secret))
    assert error is not None
    assert_not_repeated(error)


@pytest.fixture
def loud(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    for name in ("", "aiohaul", "botocore", "aiobotocore"):
        caplog.set_level(1, name)
    return caplog


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("secret", [SECRET_KEY, KEY_ID, URL])
async def test_no_variable_of_the_environment_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
    loud: pytest.LogCaptureFixture,
    variable: str,
    secret: str,
    direct: bool,
) -> None:
    """Nothing is sent either: the endpoint is none that answers."""
    given = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    }
    if variable == "AWS_DEFAULT_REGION":
        del given["AWS_REGION"]
    if variable == "AWS_ENDPOINT_URL_STS":
        given["AWS_ROLE_ARN"] = "arn:aws:iam::111122223333:role/r"
        del given["AWS_ENDPOINT_URL"]
    for name, value in {**given, variable: secret}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.0)
    error = await refused_call(direct)
    assert_not_repeated(error, loud.text)


@pytest.mark.parametrize("variable", ["endpoint_url", "region", "role_arn"])
@pytest.mark.parametrize("secret", [SECRET_KEY, URL])
async def test_no_value_of_a_profile_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
    loud: pytest.LogCaptureFixture,
    tmp_path: Path,
    variable: str,
    secret: str,
) -> None:
    config = tmp_path / "config"
    given = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region": "eu-west-1",
             "endpoint_url": "http://127.0.0.1:1", variable: secret}  # fmt: skip
    if variable == "role_arn":
        given["source_profile"] = "default"
    config.write_text("\n".join(["[default]", *(f"{a} = {b}" for a, b in given.items())]))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.0)
    error = await refused_call(direct=True)
    assert_not_repeated(error, loud.text)


async def refused_call(direct: bool) -> aiohaul.HaulError:
    with pytest.raises(aiohaul.HaulError) as raised:
        async with aiohaul.Session(direct=direct) as session:
            await session.s3().head("bucket", "key")
    return raised.value


def test_typing_errors_are_repeated() -> None:
    assert shown("prox", ["push", "proxy"]) == '"prox"'
    assert shown("Hunter2!x", ["push", "proxy"]) == HIDDEN
    assert shown("/src") == '"/src"'
    assert shown(["a"]) == "a list"
    assert not looks_secret("opentaskpy.addons.aws.remotehandlers.s3.S3Transfr")
    assert not looks_secret("s3://bucket/a/long/directory/of/a/source/in/lower/case")
