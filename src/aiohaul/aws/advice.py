"""Advice for errors whose code alone does not determine what to do."""

from __future__ import annotations

import re
from typing import NamedTuple


class _Cause(NamedTuple):
    """A cause of errors, recognised by the error code and the message of the service.

    Attributes:
        codes: the error codes of the cause; empty for any code.
        message: a regex that is searched for in the message.
        advice: the advice, in which the groups of ``message`` replace ``{0}``.
    """

    codes: frozenset[str]
    message: re.Pattern[str]
    advice: str


_REFUSED = frozenset(
    {"InvalidArgument", "InvalidRequest", "MalformedTrailerError", "NotImplemented"}
)
_ANY = frozenset[str]()
_ACL = (
    'The store accepts no ACLs: set "disableBucketOwnerControlACL": true in the definition\'s'
    " protocol, or bucket_owner_full_control=False in Python."
)

_CHECKSUM = (
    "The store does not support this checksum. Set"
    " AWS_REQUEST_CHECKSUM_CALCULATION=when_required in the environment."
)
_UNSUPPORTED = "The store does not support this operation, or one of its headers."
#: The error codes of a store that does not support a checksum algorithm.
_CHECKSUM_CODES = _REFUSED | {"InvalidDigest", "InvalidRequestParameter", "400", "501"}

#: The causes. The first one that matches gives the advice.
_CAUSES = (
    _Cause(
        _ANY,
        re.compile(r"not authorized to perform: ([\w-]+:\w+).* explicit deny", re.DOTALL),
        "Remove the explicit deny of {0}: it overrides every permission of these credentials.",
    ),
    _Cause(
        _ANY,
        re.compile(r"not authorized to perform: ([\w-]+:\w+)"),
        "Allow {0} to these credentials.",
    ),
    _Cause(
        _ANY,
        re.compile(r"requester.?pays|request-?payer", re.IGNORECASE),
        'The bucket has Requester Pays. To pay for the requests, set "requestPayer": "requester" in'
        ' the source or destination of the definition, request_payer="requester" in Python, or'
        " --request-payer on the command line.",
    ),
    _Cause(
        frozenset({"AccessControlListNotSupported"}),
        re.compile(""),
        _ACL,
    ),
    _Cause(
        _REFUSED | {"InvalidParameterValue", "UnsupportedOperation", "501"},
        re.compile(r"x-amz-acl|canned.?acl|\bacls?\b", re.IGNORECASE),
        _ACL,
    ),
    _Cause(
        _REFUSED | {"501"},
        re.compile(
            r"crc64|x-amz-(sdk-)?checksum|x-amz-trailer|payload-trailer|aws-chunked"
            r"|(unsupported|unknown|invalid) checksum|checksum\S* (algorithm )?(is )?not",
            re.IGNORECASE,
        ),
        _CHECKSUM,
    ),
    _Cause(
        frozenset({"InvalidObjectState", "ObjectNotInActiveTierError"}),
        re.compile(""),
        "The object is archived. Restore the object (S3 RestoreObject), and run again after the"
        " restore.",
    ),
    _Cause(
        frozenset({"KMS.DisabledException", "KMS.KMSInvalidStateException"}),
        re.compile(""),
        "Enable the KMS key that encrypts the object.",
    ),
    _Cause(
        frozenset({"KMS.NotFoundException"}),
        re.compile(""),
        "Correct the id of the KMS key, or its region.",
    ),
    _Cause(
        frozenset({"NotImplemented", "501"}),
        re.compile(""),
        _UNSUPPORTED,
    ),
)

_SSO = re.compile(r"\bSSO\b|\btoken has expired\b|aws sso login", re.IGNORECASE)
_METADATA = re.compile(r"metadata|iam-role|container-role", re.IGNORECASE)

#: A header that is added to a response that is an HTML page, with the title of the page.
PAGE_HEADER = "x-aiohaul-html-title"
_HTML = re.compile(
    rb"\s*(<!--.*?-->\s*)*(<\?xml[^>]*>\s*)?<(!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
#: The maximum number of characters of a title.
_TITLE_LENGTH = 80
_PROXY_AUTHENTICATION = 407
_TOO_LARGE = 413


def advice_for(code: str, message: str) -> str | None:
    """Return advice for an error, or None if no known cause matches.

    Args:
        code: the error code.
        message: the message of the service.
    """
    for cause in _CAUSES:
        if not cause.codes or code in cause.codes:
            found = cause.message.search(message)
            if found is not None:
                return cause.advice.format(*found.groups())
    return None


def may_refuse_checksum(code: str, message: str) -> bool:
    """Return True if the cause of an error may be a checksum that the store does not support.

    The messages of some stores do not name the checksum.

    Args:
        code: the error code.
        message: the message of the service.
    """
    advice = advice_for(code, message)
    return advice == _CHECKSUM or (code in _CHECKSUM_CODES and advice in (None, _UNSUPPORTED))


def credentials_advice(message: str) -> str:
    """Return advice for an error of finding or renewing credentials.

    Args:
        message: the message of botocore.
    """
    if _SSO.search(message):
        return "Sign in again: aws sso login (with --profile NAME for a profile)"
    if _METADATA.search(message):
        return (
            "Check that a role is attached to the instance or container, and that its metadata"
            " service can be reached. If it is slow, set AWS_METADATA_SERVICE_TIMEOUT=5 and"
            " AWS_METADATA_SERVICE_NUM_ATTEMPTS=3; in a container on EC2, its hop limit must be 2"
        )
    return (
        "Give credentials and a region in the definition, the Session, the AWS_* environment"
        " variables or a profile. On EC2 and ECS, check that a role is attached, and that its"
        " metadata service answers in time (AWS_METADATA_SERVICE_TIMEOUT)"
    )


def html_title(body: bytes | bytearray) -> str | None:
    """Return the title of an HTML page, or "" if the page has none; None for every other body.

    No AWS service, and no S3-compatible store, responds with HTML.
    """
    if not _HTML.match(body):
        return None
    found = _TITLE.search(body)
    title = found[1].decode("utf-8", "replace") if found else ""
    printable = "".join(each if each.isprintable() else " " for each in title)
    return " ".join(printable.split())[:_TITLE_LENGTH]


def foreign_problem(status: int | None, title: str, server: str) -> str:
    """Return the error message for a response that does not come from the service.

    Args:
        status: the HTTP status.
        title: the title of the HTML page.
        server: the ``Server`` header.
    """
    who = f"it comes from {server!r}" if server else "it does not say from whom it comes"
    page = f', titled "{title}"' if title else ""
    return f"{status}: the answer is not the service's: {who}{page}."


def foreign_advice(status: int | None) -> str:
    """Return advice for a response that does not come from the service."""
    if status == _PROXY_AUTHENTICATION:
        return "The proxy requires a user and a password. Give them in HTTPS_PROXY or HTTP_PROXY."
    if status == _TOO_LARGE:
        return (
            "A proxy before the service limits the size of requests. Raise the limit of the proxy"
            " (client_max_body_size of nginx)."
        )
    return (
        "Check endpoint_url, and the proxies and firewalls (WAF) between this machine and the"
        " service."
    )
