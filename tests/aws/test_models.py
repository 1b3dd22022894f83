"""botocore's descriptions of services, as this library reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import DataNotFoundError

from aiohaul.aws import models

#: All that the library calls, and what botocore's credentials come from.
SERVICES = ("s3", "lambda", "ecs", "logs", "ssm", "secretsmanager", "sqs", "sts", "sso", "sso-oidc")


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore changes descriptions that it was given, in other tests."""
    monkeypatch.setattr(models._cache, "loaders", {})


def test_sessions_share_their_descriptions() -> None:
    assert models.loader(AioSession()) is models.loader(AioSession())


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1"])
def test_a_description_is_botocores(service: str, kind: str) -> None:
    session = AioSession()
    theirs = session.get_component("data_loader").load_service_model(service, kind)
    ours = models.loader(session).load_service_model(service, kind)
    assert json.dumps(ours) == json.dumps(theirs)  # in its order, too


@pytest.mark.parametrize("name", ["endpoints", "partitions", "_retry", "sdk-default-configuration"])
def test_what_is_of_no_service_is_botocores(name: str) -> None:
    session = AioSession()
    theirs = session.get_component("data_loader").load_data(name)
    assert json.dumps(models.loader(session).load_data(name)) == json.dumps(theirs)


def test_no_such_service() -> None:
    with pytest.raises(DataNotFoundError, match="s33"):
        models.loader(AioSession()).load_service_model("s33", "service-2")


def test_descriptions_of_ones_own_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, text in (("2026-01-01", '{"old": 1}'), ("2026-02-02", '{"new": 1}')):
        folder = tmp_path / "home" / "mine" / version
        folder.mkdir(parents=True)
        (folder / "service-2.json").write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "home")
    monkeypatch.setenv("AWS_DATA_PATH", "/nowhere:~/$PLACE")
    loader = models.loader(AioSession())
    assert loader.load_service_model("mine", "service-2") == {"new": 1}
    assert loader.load_service_model("s3", "service-2")["metadata"]["endpointPrefix"] == "s3"
