"""The DAGs of the tests: what they are for, and where, is in the run's conf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from aiohaul.airflow import FargateOperator, FileWatchSensor, LambdaOperator, TransferOperator

HANDLERS = "opentaskpy.addons.aws.remotehandlers"


def protocol(name: str, endpoint: str) -> dict[str, Any]:
    return {
        "name": f"{HANDLERS}.{name}",
        "region_name": "eu-west-1",
        "endpoint_url": f"{{{{ dag_run.conf['{endpoint}'] }}}}",
    }


S3 = protocol("s3.S3Transfer", "s3")
FARGATE: dict[str, Any] = {
    "type": "execution",
    "clusterName": "batch",
    "taskFamily": "{{ dag_run.conf.get('family', 'load') }}",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
    "containerOverrides": {"command": ["load", "{{ run_id }}"]},
    "cloudwatchLogGroupName": "/ecs/work",
    "protocol": protocol("ecsfargate.FargateTaskExecution", "ecs"),
}
LAMBDA = {
    "type": "execution",
    "functionArn": "{{ dag_run.conf.get('function', 'report') }}",
    "invocationType": "RequestResponse",
    "payload": {"run": "{{ run_id }}"},
    "protocol": protocol("lambda.LambdaExecution", "lambda"),
}

WATCH: dict[str, Any] = {
    "task_id": "watch",
    "bucket": "{{ dag_run.conf['inbox'] }}",
    "directory": "ready",
    "file_regex": r"go\.flg",
    "protocol": {key: S3[key] for key in S3 if key != "name"},
    "poke_interval": 1,
    "timeout": 120,
}
#: In parts, through the triggerer.
LARGE: dict[str, Any] = {
    "task_id": "haul",
    "definition": {
        "type": "transfer",
        "source": {
            "bucket": "{{ dag_run.conf['inbox'] }}",
            "directory": "src",
            "fileRegex": r".*\.bin",
            "postCopyAction": {"action": "delete"},
            "protocol": S3,
        },
        "destination": [
            {
                "bucket": "{{ dag_run.conf['outbox'] }}",
                "directory": "incoming",
                "transferType": "proxy",
                "protocol": S3,
            }
        ],
    },
    "journal": "{{ dag_run.conf['journal'] }}",
}

with DAG("night", schedule=None):
    there = FileWatchSensor(**WATCH)
    hauled = TransferOperator(
        task_id="haul",
        definition={
            "type": "transfer",
            "source": {
                "bucket": "{{ dag_run.conf['inbox'] }}",
                "directory": "src",
                "fileRegex": r".*\.txt",
                "postCopyAction": {"action": "delete"},
                "protocol": S3,
            },
            "destination": [
                {
                    "bucket": "{{ dag_run.conf['outbox'] }}",
                    "directory": "incoming/{{ dag.dag_id }}",
                    "protocol": S3,
                }
            ],
        },
    )
    called = LambdaOperator(task_id="call", definition=LAMBDA)
    loaded = FargateOperator(task_id="load", definition=FARGATE)
    there >> hauled >> [called, loaded]  # the field's own notation

with DAG("fargate", schedule=None):
    FargateOperator(task_id="load", definition=FARGATE)

with DAG("fargate_timeout", schedule=None):
    # Long enough for a busy machine: a scheduler that is behind takes the end of a trigger, before
    # it has heard of the deferral, for a task that was killed (Airflow's own race).
    FargateOperator(task_id="load", definition=FARGATE, timeout=30)

with DAG("connected", schedule=None):
    # Keys, region and endpoint are those of a connection.
    FargateOperator(
        task_id="load",
        definition=FARGATE | {"protocol": {"name": FARGATE["protocol"]["name"]}},
        aws_conn_id="{{ dag_run.conf['connection'] }}",
    )

with DAG("lambda", schedule=None):
    LambdaOperator(task_id="call", definition=LAMBDA, retries=2, retry_delay=1)

with DAG("many", schedule=None):
    FargateOperator.partial(task_id="load").expand(definition=[FARGATE] * 20)

with DAG("transfer", schedule=None):
    TransferOperator(**LARGE)

with DAG("watch", schedule=None):
    FileWatchSensor(**WATCH)

with DAG("durable", schedule=None):
    LambdaOperator(task_id="call", definition=LAMBDA, durable=True)

with DAG("limited", schedule=None, default_args={"execution_timeout": timedelta(seconds=60)}):
    FargateOperator(task_id="load", definition=FARGATE)
    LambdaOperator(task_id="call", definition=LAMBDA | {"functionArn": "plain"})
    LambdaOperator(task_id="durable", definition=LAMBDA, durable=True)
    TransferOperator(**LARGE)
