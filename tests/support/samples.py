"""Inputs that are right, one or a few of each kind: what the fuzzers start from."""

from __future__ import annotations

from typing import Any

_HANDLERS = "opentaskpy.addons.aws.remotehandlers"
_S3 = {"name": f"{_HANDLERS}.s3.S3Transfer"}
_KEYS = {
    **_S3,
    "access_key_id": "AKIDSHOWN",
    "secret_access_key": "KEPTSECRET",
    "session_token": "TOKENKEPTSECRET",
    "region_name": "eu-west-1",
    "assume_role_arn": "arn:aws:iam::111122223333:role/r",
    "assume_role_external_id": "IDKEPTSECRET",
    "token_expiry_seconds": 900,
    "endpoint_url": "http://127.0.0.1:9000",
    "disableBucketOwnerControlACL": True,
}

DEFINITIONS: tuple[dict[str, Any], ...] = (
    {
        "type": "transfer",
        "source": {
            "bucket": "in",
            "directory": "src",
            "fileRegex": r"(a+)\.txt",
            "fileWatch": {"timeout": 15, "sleepTime": 1, "directory": "d", "fileRegex": "a.*"},
            "conditionals": {
                "size": {"gt": 1, "lt": 9},
                "age": {"gt": 1, "lt": 9},
                "count": {"minCount": 1, "maxCount": 9},
                "checkDuringFilewatch": True,
            },
            "error": False,
            "recursive": True,
            "postCopyAction": {
                "action": "move",
                "destination": "s3://archive/done/",
                "expectedBucketOwner": "444455556666",
            },
            "requestPayer": "requester",
            "expectedBucketOwner": "111122223333",
            "ignoreStorageClasses": ["GLACIER", "DEEP_ARCHIVE"],
            "protocol": _KEYS,
        },
        "destination": [
            {
                "bucket": "out",
                "directory": "dest",
                "transferType": "proxy",
                "overwrite": False,
                "rename": {"pattern": "(a)", "sub": r"\1b"},
                "flags": {"fullPath": "f"},
                "storageClass": "GLACIER_IR",
                "kmsKeyId": "alias/k",
                "requestPayer": "requester",
                "expectedBucketOwner": "111122223333",
                "protocol": _S3,
            },
            {
                "directory": "/nowhere/x",
                "createDirectoryIfNotExists": True,
                "mode": "0644",
                "flags": {"fullPath": "/nowhere/f"},
                "protocol": {"name": "local"},
            },
        ],
    },
    {
        "type": "transfer",
        "source": {
            "bucket": "in",
            "fileRegex": ".*",
            "postCopyAction": {
                "action": "rename",
                "destination": "done/x",
                "pattern": "(x)",
                "sub": r"\g<1>",
            },
            "protocol": _S3,
        },
        "destination": [{"bucket": "out", "flag": {"fullPath": "x/f"}, "protocol": _S3}],
    },
    {
        "type": "transfer",
        "source": {
            "directory": "/nowhere",
            "fileRegex": ".*",
            "followLinks": False,
            "recursive": True,
            "postCopyAction": {"action": "move", "destination": "/nowhere/done"},
            "protocol": {"name": "local"},
        },
        "destination": [{"bucket": "out", "protocol": _S3}],
    },
    {"type": "execution", "bucket": "b", "key": "k", "protocol": _S3},
    {
        "type": "execution",
        "functionArn": "arn:aws:lambda:eu-west-1:111122223333:function:f:prod",
        "invocationType": "RequestResponse",
        "payload": {"a": [1, "KEPTSECRET"]},
        "secretPayload": True,
        "timeout": 900,
        "protocol": {
            "name": f"{_HANDLERS}.lambda.LambdaExecution",
            "botocoreReadTimeout": 900,
            "max_attempts": 0,
        },
    },
    {
        "type": "execution",
        "clusterName": "c",
        "taskFamily": "t",
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": ["s"],
                "securityGroups": ["g"],
                "assignPublicIp": "ENABLED",
            }
        },
        "containerOverrides": {
            "name": "n",
            "command": ["a", "KEPTSECRET"],
            "environment": [{"name": "n", "value": "KEPTSECRET"}],
            "cpu": 1,
        },
        "cloudwatchLogGroupName": "/g",
        "timeout": -1,
        "initTimeout": 1,
        "protocol": {"name": f"{_HANDLERS}.ecsfargate.FargateTaskExecution"},
    },
    {"type": "batch", "tasks": [{"order_id": 1, "task_id": "t", "dependencies": [2]}]},
)

_RECORD = {
    "eventSource": "aws:s3",
    "eventName": "ObjectCreated:Put",
    "s3": {"bucket": {"name": "in"}, "object": {"key": "src/a+b%C3%A9.txt", "sequencer": "0A1B"}},
}
_BRIDGE = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "detail": {"bucket": {"name": "in"}, "object": {"key": "src/a b", "sequencer": "00"}},
}
_ONE_RECORD = (
    '{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",'
    ' "s3": {"bucket": {"name": "in"}, "object": {"key": "k", "sequencer": "1"}}}]}'
)
MESSAGES: tuple[dict[str, Any], ...] = (
    {"Records": [_RECORD, {**_RECORD, "eventName": "ObjectRemoved:Delete"}]},
    {"Type": "Notification", "Message": _ONE_RECORD},
    _BRIDGE,
    {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "in"},
    {"hello": "world"},
)

_ENTRY = (
    b"<Contents><Key>src/a%20b+c</Key><LastModified>2026-01-31T10:20:30.000Z</LastModified>"
    b"<ETag>&quot;00000000000000000000000000000000&quot;</ETag><Size>12</Size>"
    b"<StorageClass>STANDARD</StorageClass></Contents>"
)
LISTING = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>in</Name>'
    b"<Prefix>src/</Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>"
    b"<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
    b"<NextContinuationToken>t</NextContinuationToken>"
    + _ENTRY * 2
    + b"<CommonPrefixes><Prefix>src/x/</Prefix></CommonPrefixes></ListBucketResult>"
)
BOMB = (
    b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<ListBucketResult><IsTruncated>false</IsTruncated><Name>&b;&b;&b;</Name></ListBucketResult>"
)
ERROR = (
    b"<Error><Code>NoSuchKey</Code><Message>m</Message><Key>k</Key><RequestId>r</RequestId></Error>"
)
DELETED = (
    b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
    b"</DeleteResult>"
)
S3_BODIES = (LISTING, BOMB, ERROR, DELETED, b"", b"<html>busy</html>")
S3_HEADERS = {
    "content-length": "12",
    "last-modified": "Sat, 31 Jan 2026 10:20:30 GMT",
    "etag": '"e"',
    "x-amz-request-id": "R",
    "x-amz-mp-parts-count": "3",
    "retry-after": "3",
    "expires": "Sat, 31 Jan 2026 10:20:30 GMT",
    "x-amz-object-lock-retain-until-date": "2026-01-31T10:20:30Z",
    "x-amz-restore": 'ongoing-request="true"',
}

LAMBDA_HEADERS = {
    "x-amzn-requestid": "R",
    "x-amz-function-error": "Unhandled",
    "x-amz-log-result": "U1RBUlQK",
    "x-amz-executed-version": "$LATEST",
    "x-amz-durable-execution-arn": "arn",
    "x-amzn-errortype": "TooManyRequestsException:http://x",
    "retry-after": "1",
}
LAMBDA_BODIES = (
    b'{"errorType": "ValueError", "errorMessage": "no", "trace": [["a"]]}',
    b'{"message": "Rate Exceeded.", "Type": "User"}',
    b"null",
    b"",
)

ARNS = (
    "arn:aws:lambda:eu-west-1:111122223333:function:night:prod",
    "arn:aws-us-gov:lambda:us-gov-west-1:111122223333:function:night:$LATEST",
    "111122223333:function:night",
    "function:night:7",
    "night:$LATEST.PUBLISHED",
    "arn:aws:lambda:eu-west-1:111122223333:function:f:1/durable-execution/n/i",
    "arn:aws:ssm:eu-west-1:111122223333:parameter/night/limit:3",
)
URIS = (
    "s3://bucket/dir/",
    "s3://bucket",
    "https://sqs.eu-west-1.amazonaws.com/111122223333/q",
    "http://127.0.0.1:9324/000000000000/q",
    "http://[::1]:9000/",
)
JSON_PATHS = ("$.a.b", "$..b", "$.a[0]", "$.*", "$.a[1:2]", "$.a|b", "$['a']", "a.`parent`")
SECRETS = ('{"a": {"b": "x"}, "c": [1, 2, {"d": null}]}', '"KEPTSECRET"', "KEPTSECRET")

CURSOR = {
    "version": 1,
    "bucket": "in",
    "directory": "src",
    "cutoff": 1.5,
    "seen": "AAAAAAAAAAEAAAAAAAAAAg==",
}
