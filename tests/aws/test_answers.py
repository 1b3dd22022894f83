"""The typed answers have the fields, and the types, that botocore's models of them have."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

import botocore.loaders
import botocore.model
import pytest

from aiohaul.aws import answers
from aiohaul.aws.service import Service

SERVICES = ("s3", "ecs", "lambda", "logs", "sqs", "ssm", "secretsmanager")
#: What botocore adds to every answer, and beside the one field that its model has.
ADDED = {"ResponseMetadata", "ExpiresString"}
SCALARS = {
    str: {"string"},
    int: {"integer", "long"},
    bool: {"boolean"},
    datetime: {"timestamp"},
    bytes: {"blob"},
}


@cache
def models() -> list[Any]:
    load = botocore.loaders.Loader().load_service_model
    return [botocore.model.ServiceModel(load(name, "service-2"), name) for name in SERVICES]


def output_shape(operation: str) -> Any:
    name = "".join(word.capitalize() for word in operation.split("_"))
    (model,) = [each for each in models() if name in each.operation_names]
    return model.operation_model(name).output_shape


def typed() -> Iterator[tuple[str, Any]]:
    for method in (Service.call, Service.call_once):
        for overload in typing.get_overloads(method):
            hints = typing.get_type_hints(overload)
            for operation in typing.get_args(hints["operation"]):
                yield operation, hints["return"]
    yield "get_object", answers.ObjectInfo
    yield "invoke", answers.Invoked
    yield "run_task", answers.Tasks


#: Fields of a type that several operations share, and that not all of them have.
NOT_IN_ALL = {
    "CopyResult": {"ChecksumType"},
    "WrittenObject": {"VersionId", "ChecksumType"},
    "ObjectInfo": {"StorageClass"},
}


def check(hint: Any, shape: Any, path: str) -> None:
    arguments = typing.get_args(hint)
    if typing.is_typeddict(hint):
        for name, inner in typing.get_type_hints(hint).items():
            if name in ADDED or name in NOT_IN_ALL.get(hint.__name__, set()):
                continue
            assert name in shape.members, f"{path}.{name}"
            check(inner, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        check(arguments[0], shape.member, f"{path}[]")
    elif shape.type_name == "map":
        check(arguments[1], shape.value, f"{path}{{}}")
    elif hint is not object and arguments[1:] != (object,):
        assert shape.type_name in SCALARS[hint], f"{path}: {hint} and {shape.type_name}"


@pytest.mark.parametrize(("operation", "answer"), [*typed()])
def test_typed_answer_is_as_botocores_model_has_it(operation: str, answer: Any) -> None:
    check(answer, output_shape(operation), operation)


def test_every_operation_has_one_type() -> None:
    operations = [operation for operation, _ in typed()]
    assert len(operations) == len(set(operations)) > 20
