"""The Session class: the entry point of an application."""

from __future__ import annotations

import ssl
from functools import cached_property
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiohaul.aws.clients import MAX_INVOCATIONS, Clients
from aiohaul.errors import SettingsError
from aiohaul.pickling import NotPicklable
from aiohaul.resource_limits import os_error_reason
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.options import SourceOptions
from aiohaul.s3.watching.polling import Polling
from aiohaul.s3.watching.queues import Queues
from aiohaul.settings import Settings
from aiohaul.single_flight import SingleFlight
from aiohaul.threads import end_idle_threads

if TYPE_CHECKING:
    from aiohaul.compute.fargate import FargateHandler
    from aiohaul.compute.lambda_handler import LambdaHandler
    from aiohaul.compute.log_watch import LogsHandler
    from aiohaul.compute.task_poller import TaskPoller
    from aiohaul.compute.task_stopper import TaskStopper
    from aiohaul.parameters.secrets_manager import SecretsHandler
    from aiohaul.parameters.ssm import SSMHandler

# ruff: noqa: PLC0415  # the handlers but S3's are imported when they are asked for

MAX_REQUESTS = 256
#: The seconds between two polls of Fargate tasks.
_INTERVAL = 5.0


class Session(NotPicklable):
    """Holds the AWS clients and connections of one event loop, and makes the handlers.

    Use a Session as an async context manager. At the end of the block, the Session closes all
    connections. One Session per event loop is enough for any number of services and identities. A
    Session must not be shared between event loops, threads or processes. An argument of None is
    read from the ``AWS_*`` environment variables, then from botocore's own chain (profile,
    container, instance role).

    Args:
        region: the AWS region, such as ``eu-west-1``.
        endpoint_url: the URL of an endpoint other than AWS's own.
        access_key_id: the access key id. Needs ``secret_access_key`` too.
        secret_access_key: the secret access key. Never logged or shown.
        session_token: the session token of temporary keys.
        role_arn: the ARN of a role to assume (STS AssumeRole). The Session renews the role's
            credentials before they expire.
        role_external_id: the external id that the role requires.
        role_duration: the seconds until the role's credentials expire, 900 to 43,200.
        max_requests: the maximum number of concurrent requests to each service, 1 or more. Lambda
            invocations do not count.
        max_invocations: the maximum number of concurrent Lambda invocations, 1 or more. Further
            requests and invocations wait, first in, first out. The Session lowers each maximum to
            three quarters of the process's limit of file descriptors.
        direct: True builds, signs and parses S3 requests in aiohaul, with a tenth of botocore's CPU
            time, wherever a check shows that the request equals botocore's. False sends every
            request through botocore.
        allow_http: True allows unencrypted ``http://`` endpoints on other machines, although others
            can read the traffic. The environment variable ``AIOHAUL_ALLOW_HTTP=1`` does the same.
            Endpoints on this machine are always allowed.
        ca_bundle: the path of a PEM file with the certificates to trust instead of the default
            ones; None uses ``AWS_CA_BUNDLE``. TLS verification cannot be turned off.

    Raises:
        SettingsError: only one of the two keys is given, a maximum is below 1, or ``ca_bundle``
            cannot be read.
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
            ca_bundle=_checked_ca_bundle(ca_bundle),
        )
        self._polling = Polling()
        self._queues = Queues()
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

    def s3(
        self, settings: Settings | None = None, options: SourceOptions | None = None
    ) -> S3Handler:
        """Return a handler for S3.

        Args:
            settings: credentials, role, region and endpoint. The Session's settings replace missing
                values.
            options: who pays for the requests of the handler, who must own the buckets, and which
                storage classes are left out; None for no options. Destinations have their own.
        """
        return S3Handler(self._clients, self._polling, self._queues, settings, options)

    def lambda_(self, settings: Settings | None = None) -> LambdaHandler:
        """Return a handler for Lambda functions and durable executions.

        Args:
            settings: credentials, role, region and endpoint. The Session's settings replace missing
                values.
        """
        from aiohaul.compute.lambda_handler import LambdaHandler

        return LambdaHandler(self._clients, settings)

    def fargate(
        self, settings: Settings | None = None, *, interval: float = _INTERVAL
    ) -> FargateHandler:
        """Return a handler for ECS tasks on Fargate.

        Args:
            settings: credentials, role, region and endpoint. The Session's settings replace missing
                values.
            interval: the seconds between two polls of running tasks. AWS: DescribeTasks, for up to
                100 tasks of a cluster at a time. The first task of a cluster sets the interval.
        """
        from aiohaul.compute.fargate import FargateHandler

        return FargateHandler(
            self._clients,
            self._poller,
            self._stopper,
            self._reads,
            settings,
            interval=interval,
        )

    def logs(self, settings: Settings | None = None) -> LogsHandler:
        """Return an object that reads log lines from CloudWatch Logs.

        Args:
            settings: credentials, role, region and endpoint. The Session's settings replace missing
                values.
        """
        from aiohaul.compute.log_watch import LogsHandler

        return LogsHandler(self._clients, settings)

    def ssm(self, settings: Settings | None = None) -> SSMHandler:
        """Return a handler for SSM parameters.

        Args:
            settings: credentials, role, region and endpoint. The Session's settings replace missing
                values.
        """
        from aiohaul.parameters.ssm import SSMHandler

        return SSMHandler(self._clients, self._reads, settings)

    def secrets(self, settings: Settings | None = None) -> SecretsHandler:
        """Return a handler for secrets of Secrets Manager.

        Args:
            settings: credentials, role, region and endpoint. The Session's settings replace missing
                values.
        """
        from aiohaul.parameters.secrets_manager import SecretsHandler

        return SecretsHandler(self._clients, self._reads, settings)

    @cached_property
    def _poller(self) -> TaskPoller:
        """Polls the Fargate tasks of this Session."""
        from aiohaul.compute.task_poller import TaskPoller

        return TaskPoller()

    @cached_property
    def _stopper(self) -> TaskStopper:
        """Stops the Fargate tasks of this Session."""
        from aiohaul.compute.task_stopper import TaskStopper

        return TaskStopper()


def clients_of(session: Session) -> Clients:
    """Return the clients of a Session: the doctor sends requests that no handler has."""
    return session._clients  # noqa: SLF001  # of the class above, and not for applications


def _checked_ca_bundle(ca_bundle: str | PathLike[str] | None) -> str | None:
    """Return the path as a string, after a check that its certificates can be read."""
    if ca_bundle is None:
        return None
    path = fspath(ca_bundle)
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is an OSError
        reason = os_error_reason(error)
        raise SettingsError(
            f"reading ca_bundle {path} failed: {reason}. Give the path of a PEM file"
        ) from error
    return path
