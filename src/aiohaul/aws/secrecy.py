"""What must not be repeated: what botocore would log, and answers that may hold a secret."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from aiohaul.errors import ServiceError, UnreachableError

#: Loggers that write requests, signatures and answers out in full.
_TALKATIVE = tuple(
    logging.getLogger(name)
    for name in (
        "botocore.endpoint",
        "botocore.auth",
        "botocore.parsers",
        "botocore.httpsession",
        "aiobotocore.credentials",
    )
)

_silent: ContextVar[bool] = ContextVar("aiohaul_silent", default=False)


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not _silent.get():
            return True
        error = record.exc_info[1] if record.exc_info else None
        if hasattr(error, "response"):
            without_tokens(error)
        return record.levelno > logging.DEBUG


_silence = _Silence()


class quiet:  # noqa: N801  # a context manager, named as such are
    """Keep botocore's debug log of the requests made herein from being written.

    What it logs as a warning, such as that a role cannot be renewed, is without tokens.

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


#: Fields of S3's errors that repeat what was signed, token and all, or the token itself.
_REPEATED = re.compile(r"Token-\d+|(Canonical|StringTo|Signature)\w*", re.ASCII)
#: How a token stands in what was signed.
_TOKEN = re.compile(r"(x-amz-security-token[:=])[^\s&'\"<>]+", re.IGNORECASE)


def without_tokens(error: Any) -> None:
    """Take out of an answer that is an error the token that it repeats.

    Services explain a signature that is wrong, or a token that has expired, by what they were
    sent: in the message itself, or beside it.

    Args:
        error: botocore's ``ClientError``.
    """
    told = error.response.get("Error")
    if not isinstance(told, dict):
        return
    for name in [name for name in told if _REPEATED.fullmatch(name)]:
        del told[name]
    says = told.get("Message")
    if isinstance(says, str) and _TOKEN.search(says):
        told["Message"] = _TOKEN.sub(r"\1…", says)
        error.args = (_TOKEN.sub(r"\1…", str(error)),)


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
