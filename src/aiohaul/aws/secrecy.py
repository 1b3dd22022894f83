"""What must not be repeated: what botocore would log, and answers that may hold a secret."""

from __future__ import annotations

import logging
from contextvars import ContextVar, Token
from types import TracebackType

from aiohaul.errors import ServiceError, UnreachableError

#: Loggers that write requests, signatures and answers out in full.
_TALKATIVE = tuple(
    logging.getLogger(f"botocore.{name}") for name in ("endpoint", "auth", "parsers", "httpsession")
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


class without_words:  # noqa: N801  # a context manager, named as such are
    """Let no error repeat what an answer says, because it may repeat a secret that was sent.

    Code, status and request id stay. The errors beneath go: they hold the answer as it came.

    Args:
        operation: whose answers; those to AssumeRole, say, know nothing of it.
    """

    __slots__ = ("_operation",)

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if (
            isinstance(error, ServiceError)
            and error.operation == self._operation
            and not isinstance(error, UnreachableError)  # nothing was sent, nor answered
        ):
            says = f"{error.code}; what was answered is not shown, as a secret was sent."
            error.args = (str(error).replace(error.problem, says, 1),)
            error.problem = says
            error.__cause__ = error.__context__ = None
