"""What botocore would write into its debug log: keys, tokens, parameters, payloads, secrets."""

from __future__ import annotations

import logging
from contextvars import ContextVar, Token
from types import TracebackType

#: Loggers that write requests, signatures and answers out in full.
_TALKATIVE = tuple(
    logging.getLogger(name) for name in ("botocore.endpoint", "botocore.auth", "botocore.parsers")
)

_silent: ContextVar[bool] = ContextVar("aiohaul_silent", default=False)


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not _silent.get()


_silence = _Silence()


class quiet:  # noqa: N801  # a context manager, named as such are
    """Keep botocore's debug log of the requests made herein from being written.

    Requests that an application makes with botocore by itself are logged as ever.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        for logger in _TALKATIVE:
            logger.addFilter(_silence)  # the same one twice counts once
        self._token: Token[bool] = _silent.set(True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _silent.reset(self._token)
