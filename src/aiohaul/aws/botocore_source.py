"""Imports botocore when it is needed for the first time, and creates its clients."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aiohaul.aws.backend import Backend
from aiohaul.aws.errors import translated
from aiohaul.aws.redaction import suppress_debug_logs
from aiohaul.concurrency import Lock
from aiohaul.settings import Settings
from aiohaul.threads import run_in_thread

if TYPE_CHECKING:
    from aiohaul.aws.botocore_clients import BotocoreClients


class Identity:
    """The credentials of requests, which several Services share.

    Attributes:
        lock: held while a Service of this identity is created.
        session: the botocore session with the credentials; None until it is needed.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.session: Any = None


class BotocoreSource:
    """Creates the backends that send requests with botocore.

    Args:
        options: the arguments of BotocoreClients.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        #: None until botocore is needed
        self.clients: BotocoreClients | None = None

    async def backend(self, name: str, settings: Settings, identity: Identity) -> Backend:
        """Return a new backend. The caller holds the lock of the identity.

        Args:
            name: botocore's name of the service, such as ``s3``.
            settings: credentials, role, region and endpoint.
            identity: the identity, whose session is created if there is none.

        Raises:
            SettingsError: credentials, region or profile are missing.
            ServiceError: the role cannot be assumed (STS AssumeRole).
        """
        if self.clients is None:
            # A cancelled caller does not wait for the import.
            module = await run_in_thread(_import, abandon_on_cancel=True)
            if self.clients is None:  # else another task has set it meanwhile
                self.clients = module.BotocoreClients(**self._options)
        clients = self.clients
        if identity.session is None:
            with translated("creating a client", name), suppress_debug_logs():
                identity.session = await clients.session(settings)
        backend = await clients.backend(name, settings, identity.session)
        if not backend.has_credentials:  # the next call searches again
            identity.session = None
        return backend

    async def locked_backend(self, name: str, settings: Settings, identity: Identity) -> Backend:
        """Return a new backend, as :meth:`backend` does, but acquire the lock of the identity."""
        async with identity.lock:
            return await self.backend(name, settings, identity)

    def end(self) -> None:
        """Close every connection."""
        if self.clients is not None:
            self.clients.transports.end()


def _import() -> Any:
    """Import botocore. Called in a thread, because this takes up to a second."""
    return importlib.import_module("aiohaul.aws.botocore_clients")
