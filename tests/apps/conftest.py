"""Applications that are run, in one environment that holds them all: `nox -s apps`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.apps import applications

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # what Celery imports by its name


@pytest.fixture(autouse=True)
def no_aws_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, file or metadata service of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
async def aws(no_aws_around: None, tmp_path: Path) -> AsyncIterator[applications.Aws]:  # noqa: ARG001
    async with applications.Aws(tmp_path) as made:
        yield made
