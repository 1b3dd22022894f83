"""Definitions of transfers, and of a task of Fargate, as the tests vary them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohaul
from tests.support.store import Store

NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}
FARGATE_PROTOCOL = {"name": "opentaskpy.addons.aws.remotehandlers.ecsfargate.FargateTaskExecution"}
FARGATE: dict[str, Any] = {
    "type": "execution",
    "clusterName": "batch",
    "taskFamily": "work",
    "networkConfiguration": NETWORK,
    "protocol": FARGATE_PROTOCOL,
}


def source(s3: Store, bucket: str, **more: Any) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "directory": "src",
        "fileRegex": ".*",
        "protocol": s3.protocol(),
        **more,
    }


def to(s3: Store, bucket: str, **more: Any) -> dict[str, Any]:
    return {"bucket": bucket, "protocol": s3.protocol(), **more}


def local(directory: Path, **more: Any) -> dict[str, Any]:
    return {"directory": str(directory), "protocol": {"name": "local"}, **more}


def transfer(*sides: Any) -> dict[str, Any]:
    first, *rest = sides
    return {"type": "transfer", "source": first, "destination": rest}


async def run(definition: dict[str, Any], **more: Any) -> aiohaul.TransferReport:
    report = await aiohaul.run(definition, **more)
    assert isinstance(report, aiohaul.TransferReport)
    return report
