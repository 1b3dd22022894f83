"""What is fuzzed: for each kind of input, one function from bytes to nothing.

Whatever the bytes are, it returns: the input was read, or was refused by an error of the
project's own. Any other exception is a finding, and so is an assertion. The same functions run
under Hypothesis with every run of the tests, and for longer under a fuzzer that looks at coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.fuzz import answers, files, texts
from tests.fuzz.choices import as_json
from tests.support.samples import (
    ARNS,
    CURSOR,
    DEFINITIONS,
    JSON_PATHS,
    LAMBDA_BODIES,
    MESSAGES,
    S3_BODIES,
    SECRETS,
    URIS,
)


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        run: reads it.
        seeds: what to begin with.
    """

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def _raw(samples: Iterable[bytes]) -> tuple[bytes, ...]:
    """Samples as they are, and the first steps of changing each of them."""
    plain = list(samples)
    return (
        *(b"\0" + sample for sample in plain),
        *(bytes([1, number, 0, number, 5]) for number in range(len(plain))),
    )


TARGETS = {
    "definition": Target(texts.definition, _raw(as_json(each).encode() for each in DEFINITIONS)),
    "message": Target(texts.message, _raw(as_json(each).encode() for each in MESSAGES)),
    "name": Target(texts.name, _raw(each.encode() for each in ARNS)),
    "uri": Target(texts.uri, _raw(each.encode() for each in URIS)),
    "secret": Target(
        texts.secret, _raw(f"{path}\0{text}".encode() for path in JSON_PATHS for text in SECRETS)
    ),
    "cursor": Target(texts.cursor, _raw([as_json(CURSOR).encode()])),
    "s3_answer": Target(answers.s3, _raw(S3_BODIES)),
    "lambda_answer": Target(answers.function, _raw(LAMBDA_BODIES)),
    "socket": Target(answers.socket, _raw(answers.RAW)),
    "journal": Target(files.journal, (b"\0", b"\1", b"\2\5\7", b"\0\1\2\3\4\5")),
}
