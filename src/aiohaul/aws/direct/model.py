"""The model of the S3 operations that are sent without botocore.

The file ``s3_model.json`` holds the part of botocore's own model that the serializer and the parser
need. A test holds both equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from aiohaul.aws.direct import parser, serializer
from aiohaul.aws.http.body_limit import MAX_DOCUMENT_SIZE

#: The maximum size in bytes of a response whose body means nothing.
_MAX_EMPTY = 2**20

FILE = Path(__file__).with_name("s3_model.json")


class Shape:
    """The type of a parameter, or of a part of a response, as botocore's Shape gives it.

    Attributes:
        type_name: the type, such as ``structure`` or ``string``.
        serialization: where the value is in the request or the response.
        members: the members of a structure.
        required_members: the names of the required members of a structure.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.type_name: str = content["type"]
        self.serialization: dict[str, Any] = content.get("serialization", {})
        self.required_members: list[str] = content.get("required", [])
        self.members = {name: Shape(each) for name, each in content.get("members", {}).items()}
        self._member: Mapping[str, Any] | None = content.get("member")

    @property
    def member(self) -> Shape:
        """The type of the entries of a list."""
        assert self._member is not None  # noqa: S101  # only lists are asked for it
        return Shape(self._member)


class OperationModel:
    """An operation, as botocore's OperationModel gives it.

    Attributes:
        name: the operation, such as ``HeadObject``.
        http: the HTTP method and the URI.
        http_checksum: the checksums of the body.
        has_streaming_input: True if the body is raw bytes.
        input_shape: the parameters.
        output_shape: the response; None for an empty one.
    """

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        self.name = name
        self.http: dict[str, str] = content["http"]
        self.http_checksum: dict[str, Any] = content["checksum"]
        self.has_streaming_input: bool = content["streaming"]
        self.input_shape = Shape(content["input"])
        output = content["output"]
        self.output_shape = None if output is None else Shape(output)


class Known(NamedTuple):
    """Builds the requests of an operation, and parses the responses."""

    name: str
    request: serializer.Operation
    answer: parser.Answer

    @property
    def max_size(self) -> int | None:
        """The maximum size in bytes of the body of a response; None for the bytes of an object."""
        if self.answer.body is not None:
            return MAX_DOCUMENT_SIZE
        return None if self.answer.payload else _MAX_EMPTY


@lru_cache(maxsize=64)
def known(operation: str) -> Known | None:
    """Return the builder and the parser of an operation.

    Args:
        operation: the method of botocore's client, such as ``head_object``.

    Returns:
        None if botocore must send the operation.
    """
    name = serializer.OPERATIONS.get(operation)
    if name is None:
        return None
    model = OperationModel(name, _models()[name])
    request, answer = serializer.compiled(model), parser.compiled(model)
    return Known(name, request, answer) if request and answer else None


@lru_cache(maxsize=1)
def _models() -> dict[str, Any]:
    models: dict[str, Any] = json.loads(FILE.read_bytes())
    return models
