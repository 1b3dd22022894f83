"""The TLS context of connections, with the trusted certificates that botocore would use."""

from __future__ import annotations

import os
import ssl
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

#: The packages whose file of trusted certificates botocore uses, the first one that is installed.
_TRUST_STORES = ("certifi", "botocore")

#: The path of a client certificate, and of its key if the key has a file of its own.
ClientCertificate = str | tuple[str, str] | None


def tls_context(
    ca_bundle: str | None = None, client_certificate: ClientCertificate = None
) -> ssl.SSLContext:
    """Return a context that verifies the certificate and the host name of the server.

    Equal arguments return the same context, unless the file has changed. Call this function in a
    thread, because reading the certificates takes about 15 ms.

    Args:
        ca_bundle: the path of a PEM file with the trusted certificates; None uses certifi's if it
            is installed, else botocore's.
        client_certificate: the certificate that the client shows.

    Raises:
        OSError: a file cannot be read. SSLError, for a file without certificates, is an OSError.
    """
    path = ca_bundle if ca_bundle is not None else default_ca_bundle()
    changed = os.stat(path).st_mtime_ns if os.path.isfile(path) else 0  # noqa: PTH113, PTH116  # in a hot path of the start
    return _context(path, changed, client_certificate)


@lru_cache(maxsize=8)
def _context(path: str, changed: int, client_certificate: ClientCertificate) -> ssl.SSLContext:
    del changed  # only a part of the key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.hostname_checks_common_name = False
    if sys.version_info >= (3, 13):  # as ssl.create_default_context does
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.load_verify_locations(path)
    if isinstance(client_certificate, str):
        context.load_cert_chain(client_certificate)
    elif client_certificate is not None:
        context.load_cert_chain(*client_certificate)
    if keylog := os.environ.get("SSLKEYLOGFILE"):
        context.keylog_filename = os.path.expandvars(keylog)
    return context


@lru_cache(maxsize=1)
def default_ca_bundle() -> str:
    """Return the path of the trusted certificates, without an import of their package."""
    for name in _TRUST_STORES:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).with_name("cacert.pem"))
    raise FileNotFoundError("neither certifi nor botocore is installed")
