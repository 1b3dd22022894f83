"""A secret to begin with: aiohaul writes new versions, and makes none."""

from __future__ import annotations

import boto3

from servers import KEY, REGION, SECRET


def create_secret(url: str, name: str, value: str) -> None:
    client = boto3.client(
        "secretsmanager",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    client.create_secret(Name=name, SecretString=value)
    client.close()
