"""A secret to begin with: aiohaul writes new versions, and makes none."""

from __future__ import annotations

import boto3

from tests.support.servers import KEY, REGION, SECRET


def create_secret(url: str, name: str, value: str | bytes) -> None:
    client = boto3.client(
        "secretsmanager",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    kind = "SecretString" if isinstance(value, str) else "SecretBinary"
    client.create_secret(Name=name, **{kind: value})
    client.close()
