"""moto with a memory for the ACL bucket-owner-full-control, which it takes and forgets.

Run as a script, it prints its port, and ends with whoever started it.
"""

from __future__ import annotations

from typing import Any

from moto.s3 import models, responses

from aiohaul.cli import demo

#: Whom the ACL gives its grant: moto knows no owner of a bucket.
BUCKET_OWNER = "the-bucket-owner"


def remembering(canned: Any) -> Any:
    def get_canned_acl(acl: str) -> Any:
        made = canned(acl)
        if acl == "bucket-owner-full-control":
            grantee = models.FakeGrantee(grantee_id=BUCKET_OWNER)
            made.grants.append(models.FakeGrant([grantee], [models.PERMISSION_FULL_CONTROL]))
        return made

    return get_canned_acl


if __name__ == "__main__":
    vars(responses)["get_canned_acl"] = remembering(models.get_canned_acl)
    demo._serve()
