"""Process pools of an application that has used the library before: ``pools.py fork|spawn``."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from collections.abc import AsyncIterator
from concurrent.futures import Future, ProcessPoolExecutor

from aiohaul import Destination, HaulError, Session, Stream, blocking

PARENTS: list[Session] = []


async def copies(session: Session, name: str) -> int:
    s3 = session.s3()
    found = [await s3.head("inbox", f"src/{name}")]
    return (await s3.copy(found, [Destination(bucket="reports")])).size


def copy(name: str) -> int:
    return blocking.call(copies, name)


def copy_with_the_parent_s(name: str) -> int:
    return asyncio.run(copies(PARENTS[0], name))


async def streams(session: Session) -> int:
    async def rows() -> AsyncIterator[bytes]:
        yield b"day,amount\n"

    return (await session.s3().copy([Stream("rows", rows())], [Destination(bucket="none")])).size


def stream() -> int:
    return blocking.call(streams)


def failure(job: Future[int]) -> HaulError:
    error = job.exception()
    assert isinstance(error, HaulError), error
    return error


async def main(method: str) -> None:
    assert copy("0") == 1  # the parent has a loop for blocking calls, and a Session
    async with Session() as session:
        PARENTS.append(session)
        assert await copies(session, "1") == 1
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            loop = asyncio.get_running_loop()
            jobs = [loop.run_in_executor(pool, copy, str(number)) for number in range(2, 12)]
            assert await copies(session, "12") == 1  # meanwhile
            assert await asyncio.gather(*jobs) == [1] * 10

            missing, partly = pool.submit(copy, "none"), pool.submit(stream)
            parents = pool.submit(copy_with_the_parent_s, "0") if method == "fork" else None
            await asyncio.sleep(0)
        error = failure(missing)
        print(type(error).__name__, vars(error)["target"], vars(error)["status"])
        (destination,) = vars(failure(partly))["report"].destinations
        print(*(each.kind for each in destination.failures))
        if parents is not None:
            print(type(failure(parents)).__name__, failure(parents))
        assert await copies(session, "13") == 1
    assert copy("14") == 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
