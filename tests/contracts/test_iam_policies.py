"""The IAM policy of SECURITY.md: its form, and that it has what is sent and no more."""

from __future__ import annotations

import ast
import json
import logging
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session

import aiohaul
from aiohaul.aws.service import _api_name
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.definitions import run, source, to, transfer
from tests.support.documents import blocks
from tests.support.package import ROOT
from tests.support.secrets_of_moto import create_secret
from tests.support.store import Store

#: IAM's actions where they are not the operation's own name.
ACTIONS = {
    "AbortMultipartUpload": {"s3:AbortMultipartUpload"},
    "CompleteMultipartUpload": {"s3:PutObject"},
    "CopyObject": {
        "s3:GetObject",
        "s3:GetObjectTagging",
        "s3:PutObject",
        "s3:PutObjectAcl",
        "s3:PutObjectTagging",
    },
    "CreateMultipartUpload": {"s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectTagging"},
    "DeleteMessageBatch": {"sqs:DeleteMessage"},
    "DeleteObject": {"s3:DeleteObject"},
    "DeleteObjects": {"s3:DeleteObject"},
    "HeadObject": {"s3:GetObject", "s3:ListBucket"},
    "Invoke": {"lambda:InvokeFunction"},
    "ListMultipartUploads": {"s3:ListBucketMultipartUploads"},
    "ListObjectVersions": {"s3:ListBucketVersions"},
    "ListObjectsV2": {"s3:ListBucket"},
    "ListParts": {"s3:ListMultipartUploadParts"},
    "PutObject": {"s3:PutObject", "s3:PutObjectAcl"},
    "RunTask": {"ecs:RunTask", "iam:PassRole"},
    "UploadPart": {"s3:PutObject"},
    "UploadPartCopy": {"s3:PutObject", "s3:GetObject"},
}
SERVICES = ("s3", "sqs", "lambda", "ecs", "logs", "ssm", "secretsmanager")
#: Sent by botocore or by AWS on the caller's behalf, or by requests with a version id.
NOT_SENT_HERE = {
    "s3:DeleteObjectVersionTagging",
    "s3:GetObjectVersion",
    "s3:GetObjectVersionTagging",
    "s3:PutObjectVersionTagging",
    "ecs:TagResource",
    "sts:AssumeRole",
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
}


@cache
def services_by_operation() -> dict[str, str]:
    session = Session()
    return {
        operation: service
        for service in SERVICES
        for operation in session.get_service_model(service).operation_names
    }


def actions(operation: str) -> set[str]:
    return ACTIONS.get(operation) or {f"{services_by_operation()[operation]}:{operation}"}


def policy() -> dict[str, Any]:
    (text,) = [text for text in blocks("json") if len(json.loads(text).get("Statement", ())) > 1]
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allowed(*sids: str) -> set[str]:
    return {
        action
        for statement in policy()["Statement"]
        if not sids or statement["Sid"] in sids
        for action in listed(statement["Action"])
    }


@cache
def operations_in_the_code() -> frozenset[str]:
    """Every text in the code that names an operation as clients do, and Service's own two."""
    texts = {
        node.value
        for file in sorted(Path(ROOT).rglob("*.py"))
        if file.relative_to(ROOT).parts[0] in ("s3", "compute", "parameters")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = {_api_name(text) for text in texts if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", text)}
    return frozenset(named & services_by_operation().keys()) | {"Invoke", "GetObject"}


def test_policy_has_the_form_of_one() -> None:
    document = policy()
    assert document.keys() == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids)
    for statement in document["Statement"]:
        assert statement.keys() - {"Condition"} == {"Sid", "Effect", "Action", "Resource"}
        assert re.fullmatch("[A-Za-z0-9]+", statement["Sid"])
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            assert re.fullmatch("[a-z0-9]+:[A-Z][A-Za-z]+", action)  # no wildcard
        for resource in listed(statement["Resource"]):
            assert resource == "*" or re.fullmatch(
                r"arn:aws:[a-z0-9]+:([a-z0-9-]*):(\d{12})?:\S+", resource
            )
            assert resource != "*" or statement["Sid"] == "FindTasks"  # ECS knows no narrower one


def test_policy_allows_what_the_code_sends_and_no_more() -> None:
    sent = set[str]().union(*map(actions, operations_in_the_code()))
    assert allowed() - NOT_SENT_HERE == sent


def test_every_operation_has_a_service() -> None:
    assert operations_in_the_code() >= {"CopyObject", "RunTask", "PutSecretValue", "ListParts"}
    assert ACTIONS.keys() - {"DeleteMessageBatch"} <= services_by_operation().keys()


class Sent:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level(logging.DEBUG, "aiohaul.requests")

    def actions(self) -> set[str]:
        records: list[Any] = self._caplog.records
        told = {each.operation for each in records if each.name == "aiohaul.requests"}
        assert told
        self._caplog.clear()
        return set[str]().union(*map(actions, told))


async def test_each_feature_needs_its_statements_alone(
    moto_s3: Store, caplog: pytest.LogCaptureFixture
) -> None:
    s3, sent = moto_s3, Sent(caplog)
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    await run({"type": "transfer", "source": source(s3, inbox)})
    assert sent.actions() == allowed("ListAndWatch")
    await run(transfer(source(s3, inbox), to(s3, out)))
    assert sent.actions() <= allowed("ListAndWatch", "ReadSources", "WriteDestinations")
    await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy")))
    assert sent.actions() <= allowed("ListAndWatch", "ReadSources", "WriteDestinations")
    await s3.put(inbox, "src/a", b"x" * (20 * 2**20))
    await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy")))
    assert sent.actions() <= allowed("ListAndWatch", "ReadSources", "WriteDestinations")
    away = {"action": "move", "destination": f"s3://{out}/old/"}
    await run(transfer(source(s3, inbox, postCopyAction=away), to(s3, out)))
    assert sent.actions() <= allowed(
        "ListAndWatch", "ReadSources", "WriteDestinations", "DeleteSources"
    )


async def test_parameters_and_secrets_need_their_statements_alone(
    moto: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent = Sent(caplog)
    create_secret(moto, "night/database", "x")
    async with aiohaul.Session(region=REGION, endpoint_url=moto, **KEYS) as session:
        await session.ssm().put("/night/limit", "1")
        assert sent.actions() == allowed("WriteParameters")
        await session.ssm().get("/night/limit")
        assert sent.actions() <= allowed("ReadParameters")
        await session.secrets().get("night/database")
        assert sent.actions() == allowed("ReadSecrets")
        await session.secrets().put("night/database", "y")
        assert sent.actions() <= allowed("WriteSecrets")
        await session.secrets().create("night/other", "z")
        assert sent.actions() <= allowed("WriteSecrets")
