"""A Lambda endpoint whose functions take the seconds of their payload. Prints its address.

``GET /seen`` tells how many calls came, and how many were held at most at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests' server serves here as well

from tests.support.fake_http import FakeServer, Request


class Server(FakeServer):
    """Holds every call for as long as it says."""

    calls = 0
    held = 0
    most = 0

    async def serve(self, request: Request) -> None:
        """Answer one request."""
        if request.path == "/seen":
            seen = {"calls": self.calls, "most": self.most}
            await request.connection.answer(200, json.dumps(seen).encode())
            return
        self.calls += 1
        self.held += 1
        self.most = max(self.most, self.held)
        await asyncio.sleep(json.loads(request.body)["seconds"])
        self.held -= 1
        await request.connection.answer(200, b'"done"', {"x-amz-executed-version": "1"})


async def main() -> None:
    """Serve until killed."""
    async with Server() as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
