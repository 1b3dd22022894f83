"""Ends botocore's search for the region of a bucket, where it would never end.

A redirect of S3 names the region of the bucket. If it does not, botocore asks for the region with
HeadBucket, and if that is redirected in the same way, with HeadBucket again, one call within the
other, until Python raises a RecursionError. By then hundreds of connections are open, and the one
that is being opened leaks.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

_REDIRECTS = (301, 302, 307)


def end_redirect_loops(client: Any) -> None:
    """Make HeadBucket of a botocore client fail if a redirect does not name a region."""
    client.meta.events.register_first("needs-retry.s3.HeadBucket", _check)


def _check(response: tuple[Any, dict[str, Any]] | None, **_: Any) -> None:
    """Raise the error of a redirected HeadBucket. Handles botocore's event ``needs-retry``.

    The error ends a HeadBucket of botocore's own, which then takes the region as unknown.
    """
    if response is None or response[0] is None or response[0].status_code not in _REDIRECTS:
        return
    parsed = response[1]
    named = "x-amz-bucket-region" in parsed["ResponseMetadata"]["HTTPHeaders"]
    if not named and not parsed.get("Error", {}).get("Region"):
        raise ClientError(parsed, "HeadBucket")
