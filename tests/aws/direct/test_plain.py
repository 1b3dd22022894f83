"""S3 without botocore: when it is taken, what it sends, and that it imports nothing it need not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

import aiohaul
from aiohaul.aws import plain_settings as module
from aiohaul.aws.direct.plain import PlainS3
from aiohaul.aws.direct.signing import Keys
from aiohaul.aws.plain_settings import PlainSettings, plain_settings
from tests.support.fake_region import FakeS3
from tests.support.servers import KEY, REGION, SECRET
from tests.support.sessions import s3_service
from tests.support.store import Store

pytestmark = pytest.mark.usefixtures("direct_unless_told_otherwise")

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
PLAIN = {**KEYS, "AWS_DEFAULT_REGION": REGION}
GIVEN = aiohaul.Settings(access_key_id="a", secret_access_key="s", region=REGION)


def found(environ: dict[str, str], home: Path | str = "/nowhere", **settings: Any) -> Any:
    mine = aiohaul.Settings(**settings).over_environment(environ)
    return plain_settings(mine, {"HOME": str(home), **environ})


# Which settings need botocore ---------------------------------------------------------------


def test_keys_and_region_of_the_environment_are_enough() -> None:
    made = found({**PLAIN, "AWS_SESSION_TOKEN": "token"})
    assert isinstance(made, PlainSettings)
    assert made.keys == Keys("key", "secret", "token")
    assert made.endpoint.region == REGION
    assert made.endpoint.url is None
    assert made.sends_checksums


def test_settings_go_before_the_environment() -> None:
    made = found(
        {**PLAIN, "AWS_ENDPOINT_URL": "http://localhost:1", "AWS_SESSION_TOKEN": "theirs"},
        access_key_id="mine",
        secret_access_key="own",
        region="us-west-2",
        endpoint_url="http://localhost:2",
    )
    assert made.keys == Keys("mine", "own", None)
    assert (made.endpoint.url, made.endpoint.region) == ("http://localhost:2", "us-west-2")


@pytest.mark.parametrize(
    ("more", "url"),
    [
        ({"AWS_ENDPOINT_URL": "http://localhost:1"}, "http://localhost:1"),
        ({"AWS_ENDPOINT_URL_S3": "http://localhost:2"}, "http://localhost:2"),
        (
            {"AWS_ENDPOINT_URL": "http://h:1", "AWS_ENDPOINT_URL_S3": "http://localhost:2"},
            "http://localhost:2",
        ),
        (
            {
                "AWS_ENDPOINT_URL": "http://localhost:1",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
            },
            None,
        ),
        ({"AWS_ENDPOINT_URL_SQS": "http://localhost:3"}, None),
    ],
)
def test_endpoint_of_the_environment(more: dict[str, str], url: str | None) -> None:
    assert found({**PLAIN, **more}).endpoint.url == url


@pytest.mark.parametrize(
    "more",
    [
        {"AWS_PROFILE": "night"},
        {"AWS_DEFAULT_PROFILE": "night"},
        {"AWS_ROLE_ARN": "arn:aws:iam::012345678901:role/r"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"},
        {"AWS_DATA_PATH": "/models"},
        {"AWS_CREDENTIAL_EXPIRATION": "2030-01-01T00:00:00Z"},
        {"AWS_SECURITY_TOKEN": "old"},
        {"AWS_SOMETHING_NEW": "1"},
        {"aws_profile": "night"},
        {"AWS_REQUEST_CHECKSUM_CALCULATION": "sometimes"},
        {"AWS_ENDPOINT_URL": ""},
        {"AWS_DEFAULT_REGION": ""},
        {"AWS_ENDPOINT_URL": "not a URL"},
        {"HTTPS_PROXY": "http://proxy"},
        {"http_proxy": "http://proxy"},
        {"ALL_PROXY": "http://proxy"},
        {"BOTOCORE_EXPERIMENTAL__PLUGINS": "a=b"},
        {"AWS_CONFIG_FILE": "$HOME/config"},
        {"AWS_ACCESS_KEY_ID": ""},
        {"AWS_SECRET_ACCESS_KEY": ""},
    ],
    ids=lambda more: next(iter(more)) + "=" + next(iter(more.values())),
)
def test_setting_that_needs_botocore(more: dict[str, str]) -> None:
    assert found(PLAIN) is not None
    assert found({**PLAIN, **more}) is None


@pytest.mark.parametrize("missing", sorted(PLAIN))
def test_what_is_missing_is_looked_for_by_botocore(missing: str) -> None:
    assert found({name: value for name, value in PLAIN.items() if name != missing}) is None


def test_every_variable_of_botocore_is_in_one_group() -> None:
    """One that is in none brings botocore in: the test names it, so that somebody decides."""
    needing = {
        "AWS_AUTH_SCHEME_PREFERENCE", "AWS_DATA_PATH", "AWS_DEFAULTS_MODE", "AWS_DEFAULT_PROFILE",
        "AWS_DISABLE_HOST_PREFIX_INJECTION", "AWS_PROFILE", "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH",
        "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "AWS_SDK_UA_APP_ID", "AWS_SIGV4A_SIGNING_REGION_SET",
        "AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT",
    }  # fmt: skip
    named = set()
    for _, variable, *_ in BOTOCORE_DEFAUT_SESSION_VARIABLES.values():
        named |= {variable} if isinstance(variable, str) else set(variable or ())
    named.discard("BOTOCORE_TCP_KEEPALIVE")  # connections always have it
    honoured = named & module.HONOURED
    meaningless = {name for name in named if module.MEANINGLESS.fullmatch(name)}
    assert not honoured & meaningless
    assert named - honoured - meaningless == needing & named
    assert not needing & (module.HONOURED | meaningless)


def write(home: Path, config: str = "", credentials: str = "") -> Path:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(config)
    (home / ".aws" / "credentials").write_text(credentials)
    return home


def test_files_with_keys_and_a_region(tmp_path: Path) -> None:
    home = write(
        tmp_path,
        "[default]\nregion = eu-central-1\noutput = json\n[profile other]\nrole_arn = r\n",
        "[default]\naws_access_key_id = id\naws_secret_access_key = se=cr%et\n[other]\nx = y\n",
    )
    made = found({}, home)
    assert made.keys == Keys("id", "se=cr%et", None)
    assert made.endpoint.region == "eu-central-1"
    assert found(PLAIN, home).keys == Keys("key", "secret", None)
    assert found(PLAIN, home).endpoint.region == REGION
    assert found({"AWS_CONFIG_FILE": "/nowhere", **KEYS}, home) is None  # no region


@pytest.mark.parametrize(
    ("config", "credentials"),
    [
        ("[default]\nregion = x\ns3 =\n  addressing_style = virtual\n", ""),
        ("[default]\nendpoint_url = http://localhost\n", ""),
        ("[default]\nrole_arn = r\nsource_profile = default\n", ""),
        ("[default]\nsso_session = s\n", ""),
        ("[default]\nca_bundle = /ca.pem\n", ""),
        ("[default]\nservices = s\n", ""),
        ("[default]\nsomething_new = s\n", ""),
        ("[profile default]\ncredential_process = p\n", ""),
        ("[default]\nregion = a\n[profile default]\nregion = b\n", ""),
        ("default", ""),
        ("[default]\nregion\n", ""),
        ("", "[default]\naws_session_token = t\ns3 = x\n"),
        ("", "[profile default]\naws_access_key_id = t\n"),
    ],
)
def test_file_that_needs_botocore(tmp_path: Path, config: str, credentials: str) -> None:
    home = write(tmp_path, config, credentials)
    assert found(PLAIN, home) is None


def test_file_that_cannot_be_read_is_left_to_botocore(tmp_path: Path) -> None:
    (tmp_path / ".aws" / "config").mkdir(parents=True)
    assert found(PLAIN, tmp_path) is None


def test_given_keys_need_no_others() -> None:
    more = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_DEFAULT_REGION": REGION}
    assert found(more, access_key_id="a", secret_access_key="s") is not None
    assert found({**more, **KEYS}) is not None
    assert found(more) is None


# What is sent -------------------------------------------------------------------------------


async def test_bucket_in_another_region_is_found_once(fake: FakeS3) -> None:
    async with s3_service(fake.url) as s3:
        await s3.call("head_object", "", Bucket="bucket", Key="k")
        fake.region = "us-west-2"
        for _ in range(3):
            await s3.call("list_objects_v2", "", Bucket="bucket")
        assert isinstance(s3._backend, PlainS3)
        assert s3._backend._botocore is None
    assert len(fake.seen) == 1 + 1 + 3
    assert all("/us-west-2/s3/" in request.headers["authorization"] for request in fake.seen[-3:])


async def test_region_that_is_not_named_is_found_by_botocore(fake: FakeS3) -> None:
    fake.next_answers += [(400, b"", {})]
    async with s3_service(fake.url) as s3:
        await s3.call("head_object", "", Bucket="bucket", Key="k")
        assert isinstance(s3._backend, PlainS3)
        assert s3._backend._botocore is not None


@pytest.mark.parametrize("parameters", [{"SSECustomerKey": "x" * 32}, {"VersionId": "a b"}])
async def test_request_that_cannot_be_built_is_botocores(
    fake: FakeS3, parameters: dict[str, str]
) -> None:
    async with s3_service(fake.url) as s3:
        await s3.call("head_object", "k", Bucket="bucket", Key="k", **parameters)
        with pytest.raises(aiohaul.HaulError, match="NoSuchParameter"):
            await s3.call("head_object", "k", Bucket="bucket", Key="k", NoSuchParameter=1)
    assert len(fake.seen) == 1


async def test_many_that_need_botocore_create_one_client(fake: FakeS3) -> None:
    async with s3_service(fake.url) as s3:
        await asyncio.gather(
            *(
                s3.call("head_object", "k", Bucket="bucket", Key=str(n), SSECustomerKey="x" * 32)
                for n in range(20)
            )
        )
    assert len(fake.seen) == 20


async def test_unencrypted_http_to_another_machine_is_refused() -> None:
    async with aiohaul.Session(
        access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url="http://h.test"
    ) as session:
        with pytest.raises(aiohaul.SettingsError, match="refusing unencrypted HTTP"):
            await session.s3().head("bucket", "k")


WITHOUT = """
import sys


class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp", "yarl", "multidict"):
            raise AssertionError(f"{name} is imported")
        return None


sys.meta_path.insert(0, Refused())
"""

USE = """
import asyncio

import aiohaul


async def main(bucket):
    async with aiohaul.Session() as session:
        s3 = session.s3()
        await s3.touch(bucket, "in/empty")
        (found,) = await s3.find(bucket, "in", ".*")
        await s3.head(bucket, found.key)
        report = await s3.copy([found], [aiohaul.Destination(bucket=bucket, directory="out")])
        assert report.ok, report
        try:
            await s3.head(bucket, "missing")
        except aiohaul.ObjectNotFoundError:
            pass
        await s3.delete([found])
    print("done")


asyncio.run(main(sys.argv[1]))
"""


async def test_plain_run_imports_neither_botocore_nor_aiohttp(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    environ = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": moto_s3.url,
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", WITHOUT + USE, bucket],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert await moto_s3.keys(bucket) == ["out/empty"]
