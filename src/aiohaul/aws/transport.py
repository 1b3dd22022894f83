"""The HTTP session of every client: aiobotocore's, which here follows no redirects."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession

from aiohaul.aws.connecting import telling


class Transport(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """Gives botocore every answer as it came, a redirect too.

    botocore follows none by itself, but for S3's to another region, which it signs anew. aiohttp
    would: an invocation would be sent twice, its payload to whoever the answer names.
    """

    async def _create_connector(self, proxy_url: str | None) -> Any:
        return telling(await super()._create_connector(proxy_url))

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        # Nor is anything sent again behind our back: how often it was sent decides what an answer
        # means ("there is one already" may be our own write).
        session._retry_connection = False  # noqa: SLF001  # aiohttp has no public word for it
        return _Direct(session)


class _Direct:
    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, *arguments: Any, **options: Any) -> Any:
        return await self._session.request(*arguments, **options, allow_redirects=False)
