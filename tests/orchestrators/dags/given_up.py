"""A DAG whose tasks Airflow gives up early: the triggerer is not there to do it."""

from __future__ import annotations

from airflow.sdk import DAG
from haul import FARGATE  # type: ignore[import-not-found]  # Airflow's path leads to it

import aiohaul.airflow.operators
from aiohaul.airflow import FargateOperator

vars(aiohaul.airflow.operators)["MARGIN"] = 2.0

with DAG("given_up", schedule=None):
    FargateOperator(task_id="load", definition=FARGATE, timeout=10)
