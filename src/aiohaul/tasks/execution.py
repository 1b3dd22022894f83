"""One execution."""

from __future__ import annotations

import anyio

from aiohaul.report import TouchReport
from aiohaul.s3.objects import uri
from aiohaul.session import Session
from aiohaul.tasks.definition import Touch


async def run_touch(touch: Touch, session: Session) -> TouchReport:
    """Write the empty object.

    Raises:
        ServiceError: or one of its kinds.
    """
    start = anyio.current_time()
    await session.s3(touch.settings).touch(
        touch.bucket, touch.key, bucket_owner_full_control=touch.bucket_owner_full_control
    )
    return TouchReport(
        target=uri(touch.bucket, touch.key), seconds=round(anyio.current_time() - start, 3)
    )
