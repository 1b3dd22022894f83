"""Session: where an application starts."""

from __future__ import annotations

import ssl
from os import PathLike, fspath
from types import TracebackType
from typing import Self

from aiohaul.aws.clients import MAX_INVOCATIONS, Clients
from aiohaul.compute import fargate
from aiohaul.compute.fargate import FargateHandler
from aiohaul.compute.following import Following
from aiohaul.compute.functions import LambdaHandler
from aiohaul.compute.log_watch import LogsHandler
from aiohaul.compute.stopping import Stopping
from aiohaul.errors import SettingsError
from aiohaul.parameters.secrets_manager import SecretsHandler
from aiohaul.parameters.single_flight import SingleFlight
from aiohaul.parameters.ssm import SSMHandler
from aiohaul.pickling import NotPicklable
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.watching.polling import Polling
from aiohaul.s3.watching.queues import Queues
from aiohaul.settings import Settings
from aiohaul.shortage import explained_shortage
from aiohaul.threads import end_idle_threads

MAX_REQUESTS = 256


class Session(NotPicklable):
    """The pooled clients of one event loop, and the handlers on them.

    An async context manager: leaving it closes every connection, whatever happened. One per
    event loop is enough for everything, and for any number of identities; it may not be shared
    between loops, threads or processes.
    What is not given comes from the ``AWS_*`` environment variables, then from botocore's own
    chain (profile, container, instance role).

    Args:
        region: such as ``eu-west-1``.
        endpoint_url: an endpoint other than AWS's own.
        access_key_id: with ``secret_access_key``: both or neither.
        secret_access_key: never logged or shown.
        session_token: for temporary keys.
        role_arn: a role to assume; renewed by itself.
        role_external_id: the external id that the role asks for.
        role_duration: seconds that one AssumeRole lasts, 900 to 43,200.
        max_requests: requests in flight at once for each service.
        max_invocations: Lambda invocations held at once, apart from these. More wait their turn.
            Each of the two is at most three quarters of the file descriptors that the process may
            have.
        direct: build, sign and read S3 requests here, for a tenth of botocore's CPU, wherever
            that provably comes to the same; False sends every request through botocore.
        allow_http: endpoints on other machines may be plain ``http://``, where everybody on the
            way reads along; on this machine they always may. ``AIOHAUL_ALLOW_HTTP=1`` says so too.
        ca_bundle: a file of certificates in PEM form that are trusted instead of the usual ones;
            None leaves that to ``AWS_CA_BUNDLE``. That TLS is verified cannot be turned off.

    Raises:
        SettingsError: half a pair of keys, no room for a request, or no such file.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        role_arn: str | None = None,
        role_external_id: str | None = None,
        role_duration: int | None = None,
        max_requests: int = MAX_REQUESTS,
        max_invocations: int = MAX_INVOCATIONS,
        direct: bool = True,
        allow_http: bool = False,
        ca_bundle: str | PathLike[str] | None = None,
    ) -> None:
        if max_requests < 1:
            raise SettingsError(f"max_requests must be at least 1, not {max_requests}")
        if max_invocations < 1:
            raise SettingsError(f"max_invocations must be at least 1, not {max_invocations}")
        settings = Settings(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            region=region,
            role_arn=role_arn,
            role_external_id=role_external_id,
            role_duration=role_duration,
            endpoint_url=endpoint_url,
        )
        self._clients = Clients(
            settings,
            max_requests=max_requests,
            max_invocations=max_invocations,
            direct=direct,
            allow_http=allow_http,
            ca_bundle=_readable(ca_bundle),
        )
        self._polling = Polling()
        self._queues = Queues()
        self._following = Following()
        self._stopping = Stopping()
        self._reads = SingleFlight()

    async def __aenter__(self) -> Self:
        await self._clients.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._clients.__aexit__(kind, error, traceback)
        finally:
            end_idle_threads()

    def s3(self, settings: Settings | None = None) -> S3Handler:
        """S3 as these settings reach it.

        Args:
            settings: who and where; what they leave open is the Session's.
        """
        return S3Handler(self._clients, self._polling, self._queues, settings)

    def lambda_(self, settings: Settings | None = None) -> LambdaHandler:
        """Lambda as these settings reach it.

        Args:
            settings: who and where; what they leave open is the Session's.
        """
        return LambdaHandler(self._clients, settings)

    def fargate(
        self, settings: Settings | None = None, *, interval: float = fargate.INTERVAL
    ) -> FargateHandler:
        """Fargate as these settings reach it.

        Args:
            settings: who and where; what they leave open is the Session's.
            interval: seconds between two looks at running tasks. All that run in a cluster at
                the same time are looked at together, a hundred at a time, at the interval of the
                first.
        """
        return FargateHandler(
            self._clients,
            self._following,
            self._stopping,
            self._reads,
            settings,
            interval=interval,
        )

    def logs(self, settings: Settings | None = None) -> LogsHandler:
        """CloudWatch Logs as these settings reach them.

        Args:
            settings: who and where; what they leave open is the Session's.
        """
        return LogsHandler(self._clients, settings)

    def ssm(self, settings: Settings | None = None) -> SSMHandler:
        """SSM parameters as these settings reach them.

        Args:
            settings: who and where; what they leave open is the Session's.
        """
        return SSMHandler(self._clients, self._reads, settings)

    def secrets(self, settings: Settings | None = None) -> SecretsHandler:
        """Secrets Manager as these settings reach it.

        Args:
            settings: who and where; what they leave open is the Session's.
        """
        return SecretsHandler(self._clients, self._reads, settings)


def _readable(ca_bundle: str | PathLike[str] | None) -> str | None:
    """The path of certificates that can be read."""
    if ca_bundle is None:
        return None
    path = fspath(ca_bundle)
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is one
        reason = explained_shortage(error)
        raise SettingsError(f"ca_bundle {path} cannot be used: {reason}") from error
    return path
