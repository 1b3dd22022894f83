"""What botocore would send: its requests, caught before they leave."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from aiohaul.aws.content_md5 import send_content_md5
from aiohaul.aws.direct import routes
from tests.support.servers import KEY, REGION, SECRET


class _Raw(io.BytesIO):
    def stream(self) -> list[bytes]:
        return [self.read()]


@cache
def _loader() -> Any:
    """The service models: loading them takes longer than most tests."""
    return Session().get_component("data_loader")


class Catcher:
    """A client of botocore's that sends nothing, and is answered with what a test gives it."""

    def __init__(self, *, token: str | None = None, **config: Any) -> None:
        endpoint, region = config.pop("endpoint", None), config.pop("region", REGION)
        session = Session()
        session.register_component("data_loader", _loader())
        self.client = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            aws_session_token=token,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 1},
                response_checksum_validation="when_required",
                **config,
            ),
        )
        self.token = token
        self.config = self.client.meta.config
        self.model = self.client.meta.service_model
        send_content_md5(self.client)
        self.client.meta.events.register("before-send.s3", self._catch)
        self._caught: Any = None
        self.answer: tuple[int, Mapping[str, str], bytes] = (200, {}, b"")

    def caught(
        self, operation: str, parameters: Mapping[str, Any]
    ) -> routes.PreparedRequest | None:
        """The request; None if botocore refuses the parameters."""
        try:
            getattr(self.client, operation)(**parameters)
        except (AttributeError, BotoCoreError, TypeError, ValueError):
            return None
        return routes.prepared_request(self._caught)

    def _catch(self, request: Any, **_: Any) -> AWSResponse:
        self._caught = request
        status, headers, body = self.answer
        return AWSResponse(request.url, status, dict(headers), _Raw(body))
