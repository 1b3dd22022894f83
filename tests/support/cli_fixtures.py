"""What a user's shell has set."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.servers import KEY, REGION, SECRET


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where and who, as a user's shell says it."""

    def say(url: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_REGION", REGION)

    return say
