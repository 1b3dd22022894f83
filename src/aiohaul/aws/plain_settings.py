"""Finds out whether S3 requests need botocore: from settings, the environment and AWS's files.

Without it, the process of a small transfer starts in a third of the time. Every setting that
botocore has is in one of three groups: it is honoured here, it means nothing for S3 with given
keys, or it brings botocore in. So does every setting that is not known here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import NamedTuple

from aiohaul.aws.direct.endpoint import Endpoint, plain_endpoint
from aiohaul.aws.direct.signing import Keys
from aiohaul.settings import Settings, check_region

#: Variables that are honoured here, or by Settings.
HONOURED = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_ASSUME_ROLE_EXTERNAL_ID",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_REGION",
        "AWS_REQUEST_CHECKSUM_CALCULATION",
        "AWS_ROLE_ARN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
    }
)
#: Variables that mean nothing for S3 requests with given keys.
MEANINGLESS = re.compile(
    r"AWS_("
    # other services, and other programs
    r"ENDPOINT_URL_(?!S3$)\w+|BEARER_TOKEN_\w+|LAMBDA_\w+|XRAY_\w+|CLI_\w+|PAGER|DEFAULT_OUTPUT"
    r"|ENABLE_ENDPOINT_DISCOVERY|ENDPOINT_DISCOVERY_ENABLED|EXECUTION_ENV|CSM_\w+|STS_REGIONAL_ENDPOINTS|OTEL_\w+"
    # other credentials
    r"|CONTAINER_\w+|EC2_METADATA_\w+|METADATA_SERVICE_\w+|WEB_IDENTITY_TOKEN_FILE"
    r"|ROLE_SESSION_NAME|LOGIN_CACHE_DIRECTORY|IMDS_USE_IPV6"
    # retries are the Service's, and Sessions choose the checksums of responses
    r"|MAX_ATTEMPTS|RETRY_MODE|RESPONSE_CHECKSUM_VALIDATION"
    # features that S3 does not use
    r"|ACCOUNT_ID|ACCOUNT_ID_ENDPOINT_MODE|DISABLE_REQUEST_COMPRESSION"
    r"|REQUEST_MIN_COMPRESSION_SIZE_BYTES"
    r")"
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
#: The keys of a profile that are honoured, or that mean nothing here.
_PROFILE_KEYS = frozenset({*_KEYS, "region", "output", "cli_pager"})
_CHECKSUMS = {"when_supported": True, "when_required": False}


class PlainSettings(NamedTuple):
    """What S3 requests without botocore need.

    Attributes:
        endpoint: the endpoint.
        keys: the keys that sign the requests.
        sends_checksums: True adds a checksum to every body; False only where S3 requires one.
        ca_bundle: the path of a PEM file with the trusted certificates; None uses the default.
    """

    endpoint: Endpoint
    keys: Keys
    sends_checksums: bool
    ca_bundle: str | None


class _NeedsBotocoreError(Exception):
    """A setting needs botocore."""


def plain_settings(
    settings: Settings, environ: Mapping[str, str], ca_bundle: str | None = None
) -> PlainSettings | None:
    """Return the settings of S3 requests without botocore; None if botocore is needed.

    Call this function in a thread, because it reads AWS's files.

    Args:
        settings: the settings of the caller, with the values of the Session and the environment.
        environ: the environment variables.
        ca_bundle: the path of a PEM file with the trusted certificates; None reads
            ``AWS_CA_BUNDLE``.

    Raises:
        SettingsError: the region has the wrong form.
    """
    try:
        return _plain(settings, environ, ca_bundle)
    except _NeedsBotocoreError:
        return None


def _plain(settings: Settings, environ: Mapping[str, str], ca_bundle: str | None) -> PlainSettings:
    if settings.role_arn:
        raise _NeedsBotocoreError
    _check_environment(environ)
    profile = _default_profile(environ)
    region = settings.region or environ.get("AWS_DEFAULT_REGION") or profile.get("region")
    if not region:
        raise _NeedsBotocoreError
    check_region(region)
    endpoint = plain_endpoint(settings.endpoint_url or _endpoint_url(environ), region)
    if endpoint is None:
        raise _NeedsBotocoreError
    checksums = environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported").lower()
    if checksums not in _CHECKSUMS:
        raise _NeedsBotocoreError
    return PlainSettings(
        endpoint,
        _keys(settings, environ, profile),
        _CHECKSUMS[checksums],
        ca_bundle or environ.get("AWS_CA_BUNDLE"),
    )


def _check_environment(environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        upper = name.upper()
        if upper.startswith("AWS_"):
            known = name in HONOURED or MEANINGLESS.fullmatch(name)
            if not known or (name in HONOURED and not value and name != "AWS_SESSION_TOKEN"):
                raise _NeedsBotocoreError
        elif upper.startswith(("BOTO_", "BOTOCORE_")):
            if upper not in ("BOTO_DISABLE_CRT", "BOTOCORE_TCP_KEEPALIVE"):
                raise _NeedsBotocoreError
        elif name.lower() in _PROXIES and value:
            raise _NeedsBotocoreError
    if sys.platform in ("darwin", "win32"):  # which may have proxies in the system's settings
        from urllib.request import getproxies  # noqa: PLC0415  # slow to import

        if getproxies():
            raise _NeedsBotocoreError


def _endpoint_url(environ: Mapping[str, str]) -> str | None:
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "")
    if ignored.lower() == "true":
        return None
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")


def _keys(settings: Settings, environ: Mapping[str, str], profile: Mapping[str, str]) -> Keys:
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        return Keys(
            settings.access_key_id, settings.secret_access_key, settings.session_token or None
        )
    names = [name.upper() for name in _KEYS]
    if "AWS_ACCESS_KEY_ID" not in environ:
        if "AWS_WEB_IDENTITY_TOKEN_FILE" in environ:  # which goes before the files
            raise _NeedsBotocoreError
        environ, names = profile, list(_KEYS)
    access_key, secret_key, token = (environ.get(name) for name in names)
    if not access_key or not secret_key:
        raise _NeedsBotocoreError
    return Keys(access_key, secret_key, token or None)


def _default_profile(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the default profile of AWS's configuration file and its credentials file."""
    # Path's raises without a home.
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
    config_file = environ.get("AWS_CONFIG_FILE", "~/.aws/config")
    credentials_file = environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    config = _section(config_file, home, "default", "profile default")
    credentials = _section(credentials_file, home, "default")
    if not config.keys() | credentials.keys() <= _PROFILE_KEYS:
        raise _NeedsBotocoreError
    if "aws_access_key_id" in credentials:  # the keys of one file, never of both
        config = {name: value for name, value in config.items() if name not in _KEYS}
    return {**config, **credentials}


def _section(file: str, home: str, *names: str) -> dict[str, str]:
    """Return the section with one of the names in a file; empty if the file is not there."""
    if "$" in file or (file.startswith("~") and not file.startswith("~/")):
        raise _NeedsBotocoreError
    path = home + file[1:] if file.startswith("~/") else file
    try:
        with open(path, encoding="utf-8") as opened:  # noqa: PTH123  # Path is slower
            text = opened.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:  # botocore has its own way with these
        raise _NeedsBotocoreError from error
    if "default" not in text.lower():
        return {}
    return _parsed(text, names)


def _parsed(text: str, names: tuple[str, ...]) -> dict[str, str]:
    import configparser  # noqa: PLC0415  # only if there is a file

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise _NeedsBotocoreError from error
    found_names = [each for each in parser.sections() if "default" in each.lower()]
    if len(found_names) > 1 or not set(found_names) <= set(names):
        raise _NeedsBotocoreError
    found = dict(parser.items(found_names[0])) if found_names else {}
    if any("\n" in value for value in found.values()):  # settings within a setting
        raise _NeedsBotocoreError
    return found
