"""An SSM of the tests' own that, as some servers do, does not repeat the selector of a name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_http import FakeServer, Request


@dataclass(eq=False)
class FakeSsm(FakeServer):
    """Answers GetParameters.

    Attributes:
        versions: of each parameter, its values from version 1 on.
        knows_versions: False always gives the last one, whatever was asked for.
    """

    versions: dict[str, list[str]] = field(default_factory=dict)
    knows_versions: bool = True

    async def serve(self, request: Request) -> None:
        found, missing = list[dict[str, Any]](), list[str]()
        for asked in json.loads(request.body)["Names"]:
            name, _, selector = asked.rpartition(":parameter")[2].partition(":")
            name = name if name in self.versions else name.removeprefix("/")
            values = self.versions.get(name, [])
            version = int(selector) if selector and self.knows_versions else len(values)
            if 1 <= version <= len(values):
                told = {"Name": name, "Value": values[version - 1], "Type": "String"}
                found.append(told | {"Version": version})
            else:
                missing.append(asked)
        answer = {"Parameters": found, "InvalidParameters": missing}
        await request.connection.answer(200, json.dumps(answer).encode())
