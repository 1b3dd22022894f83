"""Open Task Framework as the tests want it: no log files, and AWS where moto is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers import KEY, REGION, SECRET


@pytest.fixture
def otf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTF_NO_LOG", "1")
    monkeypatch.setenv("OTF_STAGING_DIR", str(tmp_path / "staging"))


@pytest.fixture
def quick_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches look every fifth of a second and not every five seconds."""
    monkeypatch.setenv("OTF_BATCH_POLL_INTERVAL", "0.2")
    monkeypatch.setenv("OTF_NO_THREAD_SLEEP", "1")


@pytest.fixture
def in_moto(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
