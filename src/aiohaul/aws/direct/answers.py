"""Pure: S3's answers, read into the dictionaries that botocore makes of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from botocore.utils import parse_timestamp

from aiohaul.aws.direct.payload import Bytes

#: Bytes of XML that are parsed at a stretch, and entries that are read at a stretch: about 1 ms.
_SLICE = 64 * 1024
_ENTRIES = 200
#: S3 never sends one, and what it declares could be expanded without end.
_DOCTYPE = b"<!DOCTYPE"
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
#: The length of "Wed, 21 Oct 2015 07:28:00 GMT", the only form that HTTP servers may send.
_HTTP_DATE = 29

_Read = Callable[[ET.Element], Any]
Convert = Callable[[str], Any]


class FailedAnswerError(Exception):
    """An answer of 200 whose body is an error, or the beginning of a body that broke off."""


def timestamp(value: Any) -> datetime:
    """Parse a timestamp as botocore does; the forms that S3 sends, a hundred times as fast."""
    try:
        parsed = _http_date(value) if value[-3:] == "GMT" else datetime.fromisoformat(value)
    except (KeyError, TypeError, ValueError):
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        other: datetime = parse_timestamp(value)
        return other
    return parsed


def _http_date(value: str) -> datetime | None:
    if len(value) != _HTTP_DATE or value[3:5] != ", ":
        return None
    return datetime(
        int(value[12:16]),
        _MONTHS[value[8:11]],
        int(value[5:7]),
        int(value[17:19]),
        int(value[20:22]),
        int(value[23:25]),
        tzinfo=UTC,
    )


# Shapes ------------------------------------------------------------------------------------

_SCALARS: dict[str, Convert] = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": lambda text: text == "true",
    "timestamp": timestamp,
}


@dataclass(frozen=True, slots=True)
class Child:
    """What an element inside a structure is to it.

    Attributes:
        name: of the member.
        read: makes its value of the element.
        many: the element may be there several times, and the member is a list.
        convert: makes its value of the element's text; None if it holds elements.
    """

    name: str
    read: _Read
    many: bool
    convert: Convert | None


class _Children(dict[str, Child | None]):
    """Tag -> what it is; tags come with a namespace or without."""

    def __missing__(self, tag: str) -> Child | None:
        found = None
        if "}" in tag:
            found = self.get(tag.rpartition("}")[2])
            self[tag] = found
        return found


class Structure:
    """Reads an element with named children into a dictionary."""

    def __init__(self, shape: Any) -> None:
        self.children = _Children()
        for name, member in shape.members.items():
            if member.serialization.get("location") is None:
                self.children[_tag(name, member)] = _child(name, member)

    def __call__(self, element: ET.Element) -> dict[str, Any]:
        """Read this element."""
        made: dict[str, Any] = {}
        children = self.children
        for each in element:
            child = children[each.tag]
            if child is None:
                continue
            name = child.name
            if child.many:
                made.setdefault(name, []).append(child.read(each))
            elif name not in made:
                made[name] = child.read(each)
            elif child.convert is not None:
                raise ValueError(f"{name} is given twice")
        return made


def _tag(name: str, shape: Any) -> str:
    if _flattened(shape):
        own = shape.member.serialization.get("name")
        if own is not None:
            return str(own)
    return str(shape.serialization.get("name", name))


def _flattened(shape: Any) -> bool:
    return shape.type_name == "list" and bool(shape.serialization.get("flattened"))


def _child(name: str, shape: Any) -> Child:
    many = _flattened(shape)
    content = shape.member if many else shape
    return Child(name, _reader(content), many, _SCALARS.get(content.type_name))


def _reader(shape: Any) -> _Read:
    if shape.type_name == "structure":
        return Structure(shape)
    if shape.type_name == "list":
        read = _reader(shape.member)
        return lambda element: [read(each) for each in element]
    if shape.type_name == "string":
        return lambda element: element.text or ""
    convert = _SCALARS[shape.type_name]
    return lambda element: convert(element.text or "")


# Whole answers -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """How answers of one operation are read."""

    headers: Mapping[str, tuple[str, Convert]]
    #: where headers with a common beginning are gathered, and that beginning
    metadata: tuple[str, str] | None
    #: the member that the body is; "" if its elements are members themselves
    payload: str
    #: None if the body is bytes as they are
    body: Structure | None


def compiled(model: Any) -> Answer | None:
    """How to read the answers of an operation, from botocore's model of it.

    Returns:
        None if it has parts that are not understood.
    """
    shape = model.output_shape
    headers: dict[str, tuple[str, Convert]] = {}
    metadata = None
    payload = shape.serialization.get("payload", "")
    try:
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            wire = member.serialization.get("name", name).lower()
            if location == "header":
                headers[wire] = (name, _SCALARS[member.type_name])
            elif location == "headers":
                metadata = (name, wire)
        content = shape.members[payload] if payload else shape
        body = None if content.type_name == "blob" else Structure(content)
    except KeyError:
        return None
    return Answer(headers, metadata, payload, body)


def read_headers(answer: Answer, status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    """What the headers say.

    Args:
        answer: of which operation.
        status: the HTTP status.
        headers: with names in lower case.
    """
    told: dict[str, Any] = {
        "HTTPStatusCode": status,
        "HTTPHeaders": headers,
        "RetryAttempts": 0,
    }
    if "x-amzn-requestid" in headers:
        told["RequestId"] = headers["x-amzn-requestid"]
    elif "x-amz-request-id" in headers:
        told["RequestId"] = headers["x-amz-request-id"]
        told["HostId"] = headers.get("x-amz-id-2", "")
    made: dict[str, Any] = {"ResponseMetadata": told}
    known = answer.headers
    for wire in known.keys() & headers.keys():
        name, convert = known[wire]
        if wire == "expires":
            made |= _expires(headers[wire])
        else:
            made[name] = convert(headers[wire])
    if answer.metadata is not None:
        name, prefix = answer.metadata
        cut = len(prefix)
        made[name] = {key[cut:]: headers[key] for key in headers if key.startswith(prefix)}
    return made


def _expires(value: str) -> dict[str, Any]:
    """S3 stores whatever it is given: what is no date is handed on as text alone."""
    try:
        return {"Expires": timestamp(value), "ExpiresString": value}
    except (ValueError, RuntimeError):
        return {"ExpiresString": value}


def read_body(answer: Answer, status: int, body: Bytes) -> Generator[None, None, dict[str, Any]]:
    """What the body says, in steps of about a millisecond.

    Raises:
        FailedAnswerError: it is an error, though the status says otherwise.
        ValueError: it cannot be understood.
    """
    if answer.body is None:
        return {}
    if not body:
        return {answer.payload: {}} if answer.payload else {}
    root = yield from _parsed(status, body)
    made = yield from _structure_in_steps(answer.body, root)
    return {answer.payload: made} if answer.payload else made


def _parsed(status: int, body: Bytes) -> Generator[None, None, ET.Element]:
    parser = ET.XMLParser(encoding="utf-8")  # noqa: S314  # no DTD passes, so no entities either
    if _DOCTYPE in body:
        body = _DOCTYPE  # as far as it is read: no XML
    try:
        for start in range(0, len(body), _SLICE):
            if start:
                yield
            parser.feed(body[start : start + _SLICE])
        root = parser.close()
    except ET.ParseError as error:
        if status == 200:  # noqa: PLR2004  # the one status where botocore looks for this
            raise FailedAnswerError from error
        raise ValueError(f"no XML: {error}") from error
    if root.tag == "Error" and status == 200:  # noqa: PLR2004
        raise FailedAnswerError
    return root


def _structure_in_steps(
    structure: Structure, root: ET.Element
) -> Generator[None, None, dict[str, Any]]:
    """Like calling ``structure``, a number of children at a time."""
    children = list(root)
    if len(children) <= _ENTRIES:
        return structure(root)
    made: dict[str, Any] = {}
    for start in range(0, len(children), _ENTRIES):
        part = ET.Element(root.tag)
        part.extend(children[start : start + _ENTRIES])
        for name, value in structure(part).items():
            _merge(made, name, value)
        yield
    return made


def _merge(made: dict[str, Any], name: str, value: Any) -> None:
    if name not in made:
        made[name] = value
    elif isinstance(value, list):
        made[name] += value
    elif not isinstance(value, dict):
        raise ValueError(f"{name} is given twice")
