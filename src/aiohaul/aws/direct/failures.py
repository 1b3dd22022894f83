"""What an answer of S3 that is an error raises: read by botocore's own parser, as ever."""

from __future__ import annotations

from typing import Any

from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser

from aiohaul.aws.direct.connection import Reply
from aiohaul.aws.secrecy import quiet

_MOVED = frozenset({301, 302, 307})
_MOVED_CODES = frozenset({"PermanentRedirect", "IllegalLocationConstraintException"})
#: How a HEAD, whose answer has no body, is told that it is signed for the wrong region.
_BAD_REQUEST = 400
_DOCTYPE = b"<!DOCTYPE"


class Failed:
    """An answer that is an error, as botocore reads it.

    Args:
        model: of the operation.
        reply: the answer.
        status: what it comes to, where an answer of 200 carries an error.
    """

    def __init__(self, model: Any, reply: Reply, status: int) -> None:
        self._model = model
        self._status = status
        self._parsed = _parsed(model, reply, status)

    @property
    def is_elsewhere(self) -> bool:
        """True if the bucket is in another region or at another endpoint: botocore goes there."""
        error = self._parsed.get("Error", {})
        code = error.get("Code")
        return (
            self._status in _MOVED
            or code in _MOVED_CODES
            or (code == "AuthorizationHeaderMalformed" and "Region" in error)
            or (self._model.name == "HeadObject" and self._status == _BAD_REQUEST)
        )

    def exception(self, client: Any) -> Exception:
        """What the client's method would raise."""
        error_class = client.exceptions.from_code(self._parsed.get("Error", {}).get("Code"))
        made: Exception = error_class(self._parsed, self._model.name)
        return made


def _parsed(model: Any, reply: Reply, status: int) -> dict[str, Any]:
    told = {
        "status_code": status,
        "headers": HeadersDict(reply.headers),
        "body": b"" if _DOCTYPE in reply.body else reply.body,
        "context": {"operation_name": model.name},
    }
    parser = create_parser(model.service_model.resolved_protocol)
    with quiet():
        parsed: dict[str, Any] = parser.parse(told, model.output_shape)
        shape = model.service_model.shape_for_error_code(parsed.get("Error", {}).get("Code"))
        if shape is not None:
            parsed |= parser.parse(told, shape)
    parsed["ResponseMetadata"]["RetryAttempts"] = 0
    return parsed
