"""What is known not to work yet: these tests fail on these stores, and have to.

A test is named by its feature, or by its function where it has none.
"""

from __future__ import annotations

from tests.support.stores import StoreServer

#: Store and the first characters of its version: each feature that fails there, and why.
KNOWN: dict[tuple[str, str], dict[str, str]] = {
    ("seaweedfs", "4.48"): dict.fromkeys(
        (
            "test_partly_failed_run",
            "test_partly_failed_transfer_leaves_every_source_in_place",
        ),
        "CopyObject to a bucket that does not exist is answered by 500 InternalError",
    ),
    ("localstack", "4.4."): {
        **dict.fromkeys(
            (
                "copies by the store itself, in parts",
                "tags of copies in parts",
                "overwrite=False: in parts, by the store itself",
                "requests that fail: nothing is lost, a run goes on",
            ),
            "CompleteMultipartUpload with a checksum fails (500) for parts that were copied",
        ),
        **dict.fromkeys(
            (
                "aiohaul doctor: finds out, and leaves nothing",
                "test_on_servers_that_others_wrote",
            ),
            "pages of a listing leave out some keys, as the doctor says",
        ),
    },
}


def failure(feature: str, server: StoreServer) -> str | None:
    """Why a feature, or a test, does not work on a store; None if it does."""
    for (name, version), features in KNOWN.items():
        if name == server.name and server.version.startswith(version) and feature in features:
            return features[feature]
    return None
