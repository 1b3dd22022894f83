"""Parses the ``protocol`` objects of definitions."""

from __future__ import annotations

from collections.abc import Mapping

from aiohaul.errors import DefinitionError, SettingsError
from aiohaul.settings import Settings
from aiohaul.tasks import schema


def protocol_settings(protocol: Mapping[str, object], path: schema.Path) -> Settings:
    """Parse the settings in the ``protocol`` object at a path of a definition.

    Raises:
        DefinitionError: a value has the right type, but cannot be used, such as a URL with half an
            IPv6 address. The message does not repeat the value, because it may be a secret.
    """
    try:
        return Settings.from_protocol(protocol)
    except SettingsError as error:
        raise DefinitionError(schema.format_path(path), str(error)) from error
