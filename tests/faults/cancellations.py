"""Ten thousand cancellations at random moments. `nox -s faults` runs it."""

from __future__ import annotations

import gc
import json
import os
import secrets
from pathlib import Path

import pytest

from tests.faults import count
from tests.faults.every_request import RESULTS
from tests.faults.random_ends import cancel_at_random
from tests.support import quick
from tests.support.leaks import descriptors

COUNT = int(os.environ.get("AIOHAUL_CANCELLATIONS", "10000"))


@pytest.mark.timeout(3600)
async def test_ten_thousand_cancellations(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick.quicken(monkeypatch.setattr)
    seed = int(os.environ.get("AIOHAUL_SEED", secrets.randbits(32)))
    with capsys.disabled():
        print(f"seed {seed}")  # noqa: T201  # so that it can be run again
    await cancel_at_random(tmp_path, 20, seed)  # what is loaded once is loaded
    gc.collect()
    before = descriptors()
    ends = await cancel_at_random(tmp_path, COUNT, seed)
    gc.collect()
    assert descriptors() <= before
    done = sum(number for (_, how), number in ends.ended.items() if how != "cancelled")
    count.note(RESULTS, ("any", "cancelled at random moments", COUNT, 0, 0))
    told = {f"{name}, {how}": number for (name, how), number in sorted(ends.ended.items())}
    # Printed side by side with others it would not be seen.
    (RESULTS / "cancellations.json").write_text(json.dumps({"seed": seed, **told}, indent=1))
    with capsys.disabled():
        print(f"{COUNT} cancelled, {done} ended before: {dict(ends.ended)}")  # noqa: T201  # as above
