"""Watches of one listing share one poll: who is on duty looks for all."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from time import perf_counter

import anyio
from anyio.lowlevel import checkpoint

from aiohaul.aws.retry import pause_before
from aiohaul.aws.service import Service
from aiohaul.concurrency import Place, Rota
from aiohaul.errors import AccessDeniedError, HaulError, ServiceError
from aiohaul.s3.copying.plan import checked_directory
from aiohaul.s3.listing import list_pages
from aiohaul.s3.objects import S3Object
from aiohaul.s3.selection import list_prefix

#: Objects that a viewer is shown in one go, and seconds after which the loop gets a turn.
_SLICE = 200
_ONE_GO = 0.002


class Viewer(Place):
    """One who wants to see a directory again and again. Subclasses say what they make of it.

    Args:
        bucket: the bucket.
        directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
        pattern: what the names of interest match.
        interval: seconds from the start of one look to the start of the next.

    Attributes:
        prefix: the longest one under which everything of interest is listed.
        due: when the next look shall start at the latest, by the loop's clock.
        listing: where it is seen at present.
        shown: False for one that has left during a look, and missed some of it.

    Raises:
        PlanError: the directory begins or ends with "/".
    """

    def __init__(
        self, bucket: str, directory: str, pattern: re.Pattern[str], interval: float
    ) -> None:
        super().__init__()
        checked_directory(directory)
        self.bucket = bucket
        self.directory = directory
        self.pattern = pattern
        self.prefix = list_prefix(directory, pattern)
        self.interval = interval
        self.due = anyio.current_time()
        self.listing: _Listing | None = None
        self.shown = False
        self._hurried = False
        self._looks = 0
        self._failures = 0

    def hurry(self) -> None:
        """Something has happened: look as soon as possible, and anew if a look is under way."""
        self._hurried = True
        self.due = min(self.due, anyio.current_time())
        if self.listing is not None:
            self.listing.poke()

    def start(self) -> None:
        """A look starts."""
        self._hurried = False
        self.shown = True
        self.begin()

    def begin(self) -> None:
        """A look starts; one that was broken off counts for nothing."""

    def see(self, objects: Sequence[S3Object]) -> None:
        """Some of the objects that are there, in key order: not only those of interest."""
        raise NotImplementedError

    def end(self) -> None:
        """The look has ended: everything was shown."""
        raise NotImplementedError

    def fail(self, error: HaulError) -> None:
        """The look has failed."""
        raise NotImplementedError

    def looked(self, start: float, spread: float) -> None:
        """Settle when the next look is due.

        The first one comes at a random moment of the interval, and the others an interval apart:
        watches that began together do not go on looking together.

        Args:
            start: when this one was due, by the loop's clock.
            spread: the random moment, as a share of the interval. It is one for all who look
                together: the least of many would nearly always be an early one.
        """
        now = anyio.current_time()
        self._looks += 1
        self._failures = 0
        gap = self.interval
        if self._looks == 1:
            gap *= spread
        # A look that took longer than the interval is followed by the next one at once.
        self.due = now if self._hurried else max(start + gap, now)

    def put_off(self) -> None:
        """Settle when to look again after a failure: after a pause that grows to the interval."""
        self._failures += 1
        pause = pause_before(self._failures + 1, None)
        self.due = anyio.current_time() + min(self.interval, pause)


class Polling:
    """All that the watches of a session look at."""

    def __init__(self) -> None:
        self._directories: dict[tuple[Service, str, str], _Directory] = {}

    async def follow(self, s3: Service, viewer: Viewer) -> None:
        """Have a viewer see its directory until it is settled.

        Raises:
            Exception: what the viewer's ``heard`` raises.
        """
        key = (s3, viewer.bucket, viewer.directory)
        directory = self._directories.get(key)
        if directory is None:
            directory = self._directories[key] = _Directory(s3, viewer.bucket, viewer.directory)
        try:
            with directory.member(viewer):
                while not viewer.settled:
                    await directory.listing(viewer).follow(viewer)
        finally:
            if not directory.members:
                self._directories.pop(key, None)


class _Directory:
    """One directory that is watched, by one listing for all, or where it is large by several.

    Watches with different regexes need different listings, each narrowed to what its regex can
    match. One listing of what they have in common serves them all as long as it fits in a page.
    """

    def __init__(self, s3: Service, bucket: str, directory: str) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.recursive = not directory
        self.members: Counter[str] = Counter()
        self._common: str | None = None
        self._apart = False
        self._listings: dict[str, _Listing] = {}

    @contextmanager
    def member(self, viewer: Viewer) -> Iterator[None]:
        common = viewer.prefix if self._common is None else self._common
        common = _common_start(common, viewer.prefix)
        self.members[viewer.prefix] += 1
        if common != self._common:
            self._common = common
            self._move()
        try:
            yield
        finally:
            self.members[viewer.prefix] -= 1
            if not self.members[viewer.prefix]:
                del self.members[viewer.prefix]

    def prefix_for(self, viewer: Viewer) -> str:
        return viewer.prefix if self._apart or self._common is None else self._common

    def listing(self, viewer: Viewer) -> _Listing:
        prefix = self.prefix_for(viewer)
        if prefix not in self._listings:
            self._listings[prefix] = _Listing(self, prefix)
        return self._listings[prefix]

    def forget(self, listing: _Listing) -> None:
        if self._listings.get(listing.prefix) is listing:
            del self._listings[listing.prefix]

    def part(self, prefix: str) -> bool:
        """Give everyone a listing of its own, if any would be narrower than this one."""
        if self._apart or all(own == prefix for own in self.members):
            return False
        self._apart = True
        self._move()
        return True

    def _move(self) -> None:
        for listing in self._listings.values():
            listing.poke()
            for viewer in listing.rota:
                viewer.call()


class _Listing:
    """One listing, those who see it, and when it is due."""

    def __init__(self, directory: _Directory, prefix: str) -> None:
        self.prefix = prefix
        self.rota: Rota[Viewer] = Rota()
        self._directory = directory
        self._poked = anyio.Event()

    async def follow(self, viewer: Viewer) -> None:
        self.poke()
        viewer.listing = self
        try:
            await self.rota.wait(viewer, self._work, lambda: self._is_for(viewer))
        finally:
            viewer.listing = None
            viewer.shown = False
            if not self.rota:
                self._directory.forget(self)

    def poke(self) -> None:
        """Something is due earlier than it was."""
        self._poked.set()

    def _is_for(self, viewer: Viewer) -> bool:
        return self._directory.prefix_for(viewer) == self.prefix

    async def _work(self) -> None:
        """Sleep until a look is due, or look."""
        await checkpoint()  # those who come in the same turn of the loop are looked for together
        dues = [viewer.due for viewer in self.rota if self._is_for(viewer)]
        if not dues:
            return  # they belong to another listing since
        due = min(dues)
        if due <= anyio.current_time():
            await self._look(due)
            return
        self._poked = anyio.Event()
        with anyio.CancelScope(deadline=due):
            await self._poked.wait()

    async def _look(self, due: float) -> None:
        seeing = [viewer for viewer in self.rota if not viewer.settled]
        for viewer in seeing:
            viewer.start()
        pages = list_pages(
            self._directory.s3,
            self._directory.bucket,
            self.prefix,
            recursive=self._directory.recursive,
        )
        try:
            async with aclosing(pages):
                async for page in pages:
                    if page.more and self._directory.part(self.prefix):
                        seeing = [each for each in seeing if self._is_for(each)]
                    seeing = await self._show([*page.objects], seeing)
                    if not seeing:
                        return
        except AccessDeniedError as error:
            if self._directory.part(self.prefix):  # each may be allowed to see its own part
                seeing = [each for each in seeing if self._is_for(each)]
            self._fail(seeing, error)
        except HaulError as error:
            self._fail(seeing, error)
        else:
            spread = random.uniform(0.1, 1)  # noqa: S311  # no secret
            for viewer in self._still(seeing):
                viewer.looked(due, spread)
                viewer.end()

    def _fail(self, seeing: Sequence[Viewer], error: HaulError) -> None:
        for viewer in self._still(seeing):
            if isinstance(error, ServiceError) and error.retryable:
                viewer.put_off()
            viewer.fail(error)

    def _still(self, viewers: Sequence[Viewer]) -> list[Viewer]:
        return [each for each in viewers if each in self.rota and each.shown and not each.settled]

    async def _show(self, objects: Sequence[S3Object], viewers: Sequence[Viewer]) -> list[Viewer]:
        """Show a page to all, and give the loop its turns meanwhile."""
        since = perf_counter()
        for start in range(0, len(objects), _SLICE):
            part = objects[start : start + _SLICE]
            for viewer in viewers:
                if viewer.settled or not viewer.shown or viewer not in self.rota:
                    continue
                viewer.see(part)
                if perf_counter() - since > _ONE_GO:
                    await checkpoint()
                    since = perf_counter()
        return self._still(viewers)


def _common_start(one: str, other: str) -> str:
    """The characters with which both begin."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return one[:at]
    return min(one, other, key=len)
