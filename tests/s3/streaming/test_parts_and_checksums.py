"""Pure decisions of the copy engine: parts and checksums."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohaul.s3.streaming import checksums, parts
from aiohaul.s3.streaming.checksums import algorithms, combined_crc32, full_object_checksum

MIB = parts.MIB


@given(st.integers(0, parts.MAX_SIZE))
def test_parts_of_an_upload_are_within_the_limits_of_s3(size: int) -> None:
    step = parts.part_size(size)
    assert parts.PART_SIZE <= step <= parts.MAX_PART
    assert step % MIB == 0
    assert -(-size // step) <= parts.MAX_PARTS


@given(st.integers(parts.MAX_COPY + 1, parts.MAX_SIZE))
def test_parts_of_a_copy_are_within_the_limits_of_s3(size: int) -> None:
    step = parts.copy_part_size(size)
    assert 5 * MIB <= step <= parts.MAX_PART
    assert step % MIB == 0
    assert -(-size // step) <= parts.MAX_PARTS


@pytest.mark.parametrize("size", [5 * parts.GIB, 50 * parts.GIB, 1024 * parts.GIB])
def test_copies_have_parts_enough_to_go_side_by_side(size: int) -> None:
    assert 40 <= -(-size // parts.copy_part_size(size)) <= 1000


def test_largest_object_has_as_many_of_the_largest_parts_as_there_may_be() -> None:
    for step in (parts.part_size(parts.MAX_SIZE), parts.copy_part_size(parts.MAX_SIZE)):
        assert step == parts.MAX_PART
        assert parts.MAX_SIZE // step == parts.MAX_PARTS


def test_parts_of_a_stream_grow_so_that_it_may_have_any_length() -> None:
    sizes = [parts.stream_part_size(number) for number in range(1, parts.MAX_PARTS + 1)]
    assert sizes == sorted(sizes)
    assert sizes[0] == parts.PART_SIZE
    assert sizes[-1] <= parts.MAX_PART
    assert sum(sizes) > 7 * 1024 * parts.GIB


@given(st.integers(0, 400 * MIB), st.integers(1, 64 * MIB))
def test_parts_follow_each_other_and_cover_the_object_once(size: int, step: int) -> None:
    at = 0
    for start, length in parts.split(size, max(step, size // 500)):
        assert start == at
        at += length
    assert at == size


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc32_of_two_runs_from_those_of_each(first: bytes, second: bytes) -> None:
    crc = combined_crc32(zlib.crc32(first), zlib.crc32(second), len(second))
    assert crc == zlib.crc32(first + second)


@pytest.mark.parametrize("length", [2**20, 8 * MIB, 5 * parts.GIB])
def test_crc32_of_many_zeros_from_that_of_half_of_them(length: int) -> None:
    """A CRC over 5 GiB of zeros, doubled from one byte, without ever having them."""
    crc, size = zlib.crc32(b"\0"), 1
    whole, done, left = 0, 0, length
    while left:
        if left & 1:
            whole, done = combined_crc32(whole, crc, size) if done else crc, done + size
        crc, size = combined_crc32(crc, crc, size), size * 2
        left >>= 1
    assert done == length
    if length <= 8 * MIB:
        assert whole == zlib.crc32(bytes(length))


@pytest.mark.parametrize("name", sorted(algorithms()))
@given(data=st.lists(st.binary(max_size=99), max_size=9))
def test_checksum_of_the_whole_from_those_of_the_parts(name: str, data: list[bytes]) -> None:
    algorithm = algorithms()[name]
    whole = algorithm.whole((algorithm.of(part), len(part)) for part in data)
    assert whole == algorithm.of(b"".join(data))
    assert len(algorithm.encode(whole)) == {4: 8, 8: 12}[algorithm.width]


def test_a_checksum_of_checksums_is_not_taken_for_one_of_the_bytes() -> None:
    value = checksums.best().encode(1)
    name = checksums.best().parameter
    assert full_object_checksum({name: value}) is not None
    assert full_object_checksum({name: value, "ChecksumType": "FULL_OBJECT"}) is not None
    assert full_object_checksum({name: value, "ChecksumType": "COMPOSITE"}) is None
    assert full_object_checksum({name: f"{value}-3"}) is None
    assert full_object_checksum({"ChecksumSHA256": "x"}) is None
