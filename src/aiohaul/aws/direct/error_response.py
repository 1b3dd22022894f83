"""Parses S3's error responses into the same dictionaries as botocore."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree as ET

from aiohaul.aws.advice import PAGE_HEADER, html_title
from aiohaul.aws.http.connection import Reply
from aiohaul.aws.http.payload import Bytes
from aiohaul.aws.leading_whitespace import without_leading_whitespace

_MOVED = frozenset({301, 302, 307})
_MOVED_CODES = frozenset({"PermanentRedirect", "IllegalLocationConstraintException"})
#: The status of S3's response to a HEAD for the wrong region. The response has no error code.
_BAD_REQUEST = 400
#: From this status on, the body may come from a load balancer.
_SERVER_ERROR = 500
_DOCTYPE = b"<!DOCTYPE"
#: The levels of an error that are parsed. Deeper ones, which no service sends, are refused.
_MAX_DEPTH = 64


class ErrorResponseError(Exception):
    """S3 responded with an error.

    Attributes:
        response: the parsed response, as in botocore's ``ClientError``.
        operation_name: the operation, such as ``HeadObject``.
    """

    def __init__(self, response: dict[str, Any], operation_name: str) -> None:
        error = response.get("Error", {})
        super().__init__(
            f"An error occurred ({error.get('Code', 'Unknown')}) when calling the {operation_name}"
            f" operation: {error.get('Message', 'Unknown')}"
        )
        self.response = response
        self.operation_name = operation_name

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make a copy, because the message alone would not do."""
        return type(self), (self.response, self.operation_name), dict(vars(self))

    @property
    def code(self) -> str | None:
        """The error code, such as ``NoSuchKey``."""
        code: str | None = self.response.get("Error", {}).get("Code")
        return code

    @property
    def is_elsewhere(self) -> bool:
        """True if the bucket is in another region or at another endpoint."""
        error = self.response.get("Error", {})
        status = self.response["ResponseMetadata"]["HTTPStatusCode"]
        return (
            status in _MOVED
            or self.code in _MOVED_CODES
            or (self.code == "AuthorizationHeaderMalformed" and "Region" in error)
            or (self.operation_name == "HeadObject" and status == _BAD_REQUEST)
        )

    @property
    def region(self) -> str | None:
        """The region of the bucket, if the response names it."""
        headers = self.response["ResponseMetadata"]["HTTPHeaders"]
        found = headers.get("x-amz-bucket-region") or self.response.get("Error", {}).get("Region")
        return found if isinstance(found, str) else None


def error_response(operation_name: str, reply: Reply, status: int) -> ErrorResponseError:
    """Return the error for a response.

    Args:
        operation_name: the operation, such as ``HeadObject``.
        reply: the response.
        status: the HTTP status; 500 for an error in a response with status 200, as in botocore.
    """
    body = without_leading_whitespace(reply.body)
    headers = dict(reply.headers)
    title = html_title(body)
    if title is not None:
        headers[PAGE_HEADER] = title
    parsed = _parsed(status, headers, b"" if _DOCTYPE in body else body)
    metadata = parsed.setdefault("ResponseMetadata", {})
    metadata |= {"HTTPStatusCode": status, "HTTPHeaders": headers, "RetryAttempts": 0}
    return ErrorResponseError(parsed, operation_name)


def _parsed(status: int, headers: dict[str, str], body: Bytes) -> dict[str, Any]:
    by_status = {"Code": str(status), "Message": _phrase(status)}
    stripped = body.strip()
    if status >= _SERVER_ERROR and (not stripped or stripped.startswith(b"<html>")):
        return {"Error": by_status, "ResponseMetadata": {}}
    if body:
        try:
            return _from_body(ET.fromstring(bytes(body)), headers)  # noqa: S314  # without a DTD
        except (ET.ParseError, RecursionError):
            pass
    metadata = {
        "RequestId": headers.get("x-amz-request-id", ""),
        "HostId": headers.get("x-amz-id-2", ""),
    }
    return {"Error": by_status, "ResponseMetadata": metadata}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _from_body(root: ET.Element, headers: dict[str, str]) -> dict[str, Any]:
    parsed = _texts(root, 0)
    if root.tag == "Error":
        parsed.pop("RequestId", "")
        parsed.pop("HostId", "")
        return {"Error": parsed, "ResponseMetadata": _metadata(headers)}
    if "RequestId" in parsed:
        parsed["ResponseMetadata"] = {"RequestId": parsed.pop("RequestId")}
    error = parsed.get("Error")
    if error is None or isinstance(error, dict):
        parsed["Error"] = {"Message": "", "Code": ""} | (error or {})
    return parsed


def _metadata(headers: dict[str, str]) -> dict[str, Any]:
    if "x-amzn-requestid" in headers:
        return {"RequestId": headers["x-amzn-requestid"]}
    if "x-amz-request-id" in headers:
        return {
            "RequestId": headers["x-amz-request-id"],
            "HostId": headers.get("x-amz-id-2", ""),
        }
    return {}


def _texts(element: ET.Element, depth: int) -> dict[str, Any]:
    """Return the texts of the children by tag. The first one of a repeated tag counts."""
    if depth > _MAX_DEPTH:
        raise RecursionError("the error response is nested too deeply")
    made: dict[str, Any] = {}
    repeated: set[str] = set()
    for child in element:
        tag = child.tag.rpartition("}")[2]
        if tag in made:
            # botocore reads the children of the first one.
            if tag not in repeated:
                repeated.add(tag)
                first = next(each for each in element if each.tag.rpartition("}")[2] == tag)
                made[tag] = _texts(first, depth + 1)
            continue
        made[tag] = _texts(child, depth + 1) if len(child) else child.text
    return made
