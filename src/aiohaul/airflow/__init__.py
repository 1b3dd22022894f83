"""Deferrable operators, a sensor and triggers for Airflow.

The triggers run aiohaul on the event loop of Airflow's triggerer. Install ``aiohaul[airflow]``,
which requires Airflow 3.3 or later.
"""

from aiohaul.airflow.operators import FargateOperator, LambdaOperator, TransferOperator
from aiohaul.airflow.sensors import FileWatchSensor
from aiohaul.airflow.triggers import (
    FargateTrigger,
    FileWatchTrigger,
    LambdaTrigger,
    TransferTrigger,
)

__all__ = [
    "FargateOperator",
    "FargateTrigger",
    "FileWatchSensor",
    "FileWatchTrigger",
    "LambdaOperator",
    "LambdaTrigger",
    "TransferOperator",
    "TransferTrigger",
]
