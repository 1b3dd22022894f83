"""Any input is read, or refused by an error of the project's own: what a fuzzer does, in short.

``nox -s fuzz`` runs the same targets for longer, under one that looks at coverage.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import answers
from tests.fuzz.targets import TARGETS

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # re's own, of odd but valid regexes
    pytest.mark.filterwarnings("ignore:The .* operator is deprecated:DeprecationWarning"),
]

#: Inputs of each kind in a run of the tests, beside the seeds.
_EXAMPLES = 100


@pytest.fixture(scope="module", autouse=True)
def endpoint() -> Iterator[None]:
    yield
    answers.close()


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_right_or_nearly_right_is_read_or_refused(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(data=st.data())
def test_whatever_it_is_it_is_read_or_refused(name: str, data: st.DataObject) -> None:
    decisions = st.binary(max_size=80).map(b"\1".__add__)
    seed = data.draw(st.sampled_from(TARGETS[name].seeds))
    at = data.draw(st.integers(0, len(seed)))
    junk = data.draw(st.binary(max_size=8))
    spoilt = seed[:1] + seed[1:at] + junk + seed[at + data.draw(st.integers(0, 4)) :]
    TARGETS[name].run(data.draw(decisions | st.just(spoilt)))


def test_a_finding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The targets let other exceptions through."""

    def broken(_: str) -> None:
        raise LookupError

    monkeypatch.setattr("tests.fuzz.texts.events_of", broken)
    with pytest.raises(LookupError):
        TARGETS["message"].run(random.Random(1).randbytes(20))  # noqa: S311
