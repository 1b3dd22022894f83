"""What botocore would write into its debug log: keys, tokens, parameters, payloads, secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Loggers that write requests, signatures and answers out in full.
_TALKATIVE = tuple(
    logging.getLogger(name) for name in ("botocore.endpoint", "botocore.auth", "botocore.parsers")
)

_silent: ContextVar[bool] = ContextVar("aiohaul_silent", default=False)


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not _silent.get()


_silence = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep botocore's debug log of the requests made herein from being written.

    Requests that an application makes with botocore by itself are logged as ever.
    """
    for logger in _TALKATIVE:
        logger.addFilter(_silence)  # the same one twice counts once
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)
