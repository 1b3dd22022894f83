"""Turns: how many tasks of a batch run at once, with those of the batches in it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

#: How many tasks of a batch run at once unless it is said otherwise: as many as a Session has
#: requests in flight, and a quarter of the functions that an account may run at once.
AT_ONCE = 256


class Turn:
    """The turn of one task: it is waited for, then held, then over. Made by :meth:`Turns.ask`.

    Attributes:
        place: where in the queue; smaller ones come first.
        held: whether it has come, and is not over.
    """

    __slots__ = ("_start", "_turns", "held", "over", "place")

    def __init__(self, turns: Turns, place: tuple[int, ...], start: Callable[[], object]) -> None:
        self.place = place
        self.held = False
        self.over = False
        self._turns = turns
        self._start = start

    def __lt__(self, other: Turn) -> bool:
        return self.place < other.place

    def come(self) -> None:
        """It has come."""
        self.held = True
        self._start()

    def withdraw(self) -> None:
        """Give it up if it has not come yet."""
        if not self.held:
            self.over = True

    def lend(self, other: Turn) -> None:
        """Hand it over to another, which need not queue for it."""
        self.held, self.over = False, True
        other.come()

    def end(self) -> None:
        """Give it up, or back: the next in the queue has its turn. Again, it does nothing."""
        held, self.held = self.held, False
        self.over = True
        if held:
            self._turns.give_back()


class Turns:
    """A number of turns, given out by place. Who waits for one is no task of the event loop yet.

    Whoever holds one must not wait for another's: a batch in a batch hands its own over to the
    first of its tasks, and runs on without.

    Args:
        total: how many may be held at once, 1 or more.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._queue: list[Turn] = []

    def ask(
        self, place: tuple[int, ...], start: Callable[[], object], lent: Turn | None = None
    ) -> Turn:
        """Ask for a turn.

        Args:
            place: of who asks; tasks of a batch in a batch have that one's place before their own,
                so that what has started ends before more is started.
            start: called once the turn has come, which may be at once; it must not raise.
            lent: a turn to take over, if it is held, instead of waiting.
        """
        turn = Turn(self, place, start)
        if lent is not None and lent.held:
            lent.lend(turn)
        else:
            heappush(self._queue, turn)
            self._hand_out()
        return turn

    def give_back(self) -> None:
        """A turn is over."""
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._queue and self._free:
            turn = heappop(self._queue)
            if not turn.over:
                self._free -= 1
                turn.come()
