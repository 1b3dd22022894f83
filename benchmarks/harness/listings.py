"""Pages of listings as S3 writes them."""

from __future__ import annotations

ETAG = "0123456789abcdef0123456789abcdef"


def entry(key: str, size: int) -> str:
    """An object of a page."""
    return (
        f"<Contents><Key>{key}</Key><LastModified>2026-01-31T10:20:30.000Z</LastModified>"
        f"<ETag>&quot;{ETAG}&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>"
        f"<ChecksumType>FULL_OBJECT</ChecksumType><Size>{size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def page(bucket: str, prefix: str, entries: str, after: str = "") -> bytes:
    """A page, and the token of the one after it."""
    truncated = "true" if after else "false"
    token = f"<NextContinuationToken>{after}</NextContinuationToken>" if after else ""
    count = entries.count("<Contents>")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name>'
        f"<Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
        "<EncodingType>url</EncodingType>"
        f"<IsTruncated>{truncated}</IsTruncated>{token}{entries}</ListBucketResult>"
    ).encode()
