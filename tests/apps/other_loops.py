"""Beside other ways to be asynchronous: ``other_loops.py trio|greenback``."""

from __future__ import annotations

import asyncio
import sys

import greenback
import trio

import aiohaul
from aiohaul import Session, blocking


async def size(session: Session) -> int:
    return (await session.s3().head("inbox", "src/a")).size


async def under_trio() -> None:
    for attempt in (enter, run):
        try:
            await attempt()
        except aiohaul.SessionError as error:
            print(type(error).__name__, error)
    print(await trio.to_thread.run_sync(blocking.call, size))


async def enter() -> None:
    async with Session():
        raise AssertionError


async def run() -> None:
    protocol = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Execution"}
    touch = {"type": "execution", "bucket": "inbox", "key": "a", "protocol": protocol}
    await aiohaul.run(touch)


async def under_greenback() -> None:
    await greenback.ensure_portal()
    async with Session() as session:
        for seconds in (0.0, 60.0):
            try:
                print(plain(session, seconds))
            except TimeoutError:
                print("too late")


def plain(session: Session, seconds: float) -> int:
    return int(greenback.await_(asyncio.wait_for(size(session), seconds)))


if __name__ == "__main__":
    if sys.argv[1] == "trio":
        trio.run(under_trio)
    else:
        asyncio.run(under_greenback())
