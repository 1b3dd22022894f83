"""Airflow: deferrable operators, and the triggers that await aiohaul on the triggerer's loop.

They need Airflow 3.3 or later, which comes with ``aiohaul[airflow]``.
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
