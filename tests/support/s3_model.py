"""Writes the part of botocore's model of S3 that requests without botocore need.

Run ``python -m tests.support.s3_model`` after an update of botocore, and look at the difference.
"""

from __future__ import annotations

import json
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from aiohaul.aws.direct.model import FILE
from aiohaul.aws.direct.serializer import OPERATIONS


def s3_model() -> dict[str, Any]:
    """The model of every operation that is sent without botocore, as the file holds it."""
    service = ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
    return {name: _operation(service.operation_model(name)) for name in sorted(OPERATIONS.values())}


def _operation(model: Any) -> dict[str, Any]:
    return {
        "http": {name: model.http[name] for name in ("method", "requestUri")},
        "checksum": dict(model.http_checksum),
        "streaming": model.has_streaming_input,
        "input": _shape(model.input_shape),
        "output": _shape(model.output_shape),
    }


def _shape(shape: Any) -> dict[str, Any] | None:
    if shape is None:
        return None
    made: dict[str, Any] = {"type": shape.type_name}
    if shape.serialization:
        made["serialization"] = dict(shape.serialization)
    if shape.type_name == "structure":
        made["members"] = {name: _shape(member) for name, member in shape.members.items()}
        if shape.required_members:
            made["required"] = list(shape.required_members)
    if shape.type_name == "list":
        made["member"] = _shape(shape.member)
    return made


def main() -> None:
    """Write the file."""
    lines = [f"{json.dumps(name)}: {json.dumps(model)}" for name, model in s3_model().items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
