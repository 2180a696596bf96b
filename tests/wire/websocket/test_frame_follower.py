from __future__ import annotations

import random
from typing import Final

import pytest

from uvicorn.wire.websocket.encoder import BINARY_FRAME, CLOSE, PING, TEXT_FRAME, control_frame, frame
from uvicorn.wire.websocket.frame_follower import FrameFollower

HEAD: Final = b"HTTP/1.1 101 \r\nupgrade: WebSocket\r\nconnection: Upgrade\r\nsec-websocket-accept: x\r\n\r\n"

#: One frame for each form of a header: lengths of 7, 16 and 64 bits, with and without a mask.
FRAMES: Final = (
    frame(TEXT_FRAME, b""),
    frame(TEXT_FRAME, b"hello"),
    b"\x01\x03hel" + b"\x80\x02lo",
    control_frame(PING, b"1"),
    frame(BINARY_FRAME, bytes(300)),
    bytes((BINARY_FRAME, 127)) + (5).to_bytes(8) + b"12345",
    frame(BINARY_FRAME, b"\x88\x00" * 33000),
    b"\x81\x85maskhello",
    bytes((BINARY_FRAME, 0x80 | 126)) + (200).to_bytes(2) + b"mask" + bytes(200),
)


def follow(*pieces: bytes) -> FrameFollower:
    follower = FrameFollower(has_head=True)
    for piece in pieces:
        follower.follow(piece)
    return follower


def ends_of_frames(frames: tuple[bytes, ...]) -> set[int]:
    """The positions at which the head has ended and no frame has begun."""
    ends = {len(HEAD)}
    position = len(HEAD)
    for one in frames:
        # The fragmented message has two frames.
        if one[0] == 1:
            ends.add(position + 5)
        position += len(one)
        ends.add(position)
    return ends


def test_frame_follower_finds_the_end_of_each_frame() -> None:
    frames = (*FRAMES[:6], *FRAMES[7:])
    stream = HEAD + b"".join(frames)
    follower = FrameFollower(has_head=True)
    found = set()
    for position in range(len(stream)):
        follower.follow(stream[position : position + 1])
        if follower.is_between_frames:
            found.add(position + 1)
    assert found == ends_of_frames(frames)


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_frame_follower_finds_the_end_of_a_frame_that_is_split_at_any_byte(number: int) -> None:
    stream = HEAD + FRAMES[number]
    # A long payload is split at its ends only.
    splits = {*range(min(len(HEAD) + 20, len(stream))), *range(len(stream) - 20, len(stream))}
    for split in splits:
        follower = follow(stream[:split], stream[split:-1])
        assert not follower.is_between_frames, split
        follower.follow(stream[-1:])
        assert follower.is_between_frames, split


def test_frame_follower_finds_frame_ends_in_a_stream_of_random_pieces() -> None:
    stream = HEAD + b"".join(FRAMES)
    ends = ends_of_frames(FRAMES)
    chance = random.Random(1)
    for _ in range(300):
        follower = FrameFollower(has_head=True)
        position = 0
        while position < len(stream):
            size = min(chance.choice((1, 2, 7, 100, 5000, 70000)), len(stream) - position)
            follower.follow(stream[position : position + size])
            position += size
            assert follower.is_between_frames is (position in ends)


def test_frame_follower_ignores_empty_pieces() -> None:
    assert follow(b"", HEAD, b"", FRAMES[1], b"").is_between_frames


def test_frame_follower_finds_no_frame_end_before_the_response_head_is_complete() -> None:
    assert not follow(b"").is_between_frames
    assert not follow(HEAD[:-1]).is_between_frames


def test_frame_follower_finds_a_close_frame() -> None:
    follower = follow(HEAD, FRAMES[1], control_frame(CLOSE, b"\x03\xe8"))
    assert follower.has_closed
    assert not follower.is_between_frames


def test_frame_follower_finds_a_close_frame_that_is_split_at_any_byte() -> None:
    stream = HEAD + FRAMES[4] + control_frame(CLOSE, b"\x03\xe8bye")
    for split in range(len(stream)):
        assert follow(stream[:split], stream[split:]).has_closed, split


def test_frame_follower_finds_no_frame_end_after_a_close_frame() -> None:
    assert not follow(HEAD, control_frame(CLOSE, b""), FRAMES[1]).is_between_frames


def test_frame_follower_finds_no_frame_end_after_a_status_other_than_101() -> None:
    for split in range(15):
        response = b"HTTP/1.1 400 \r\n\r\n"
        follower = follow(response[:split], response[split:], FRAMES[1])
        assert not follower.is_between_frames, split


def test_frame_follower_finds_no_frame_end_after_a_response_head_above_16_KiB() -> None:
    assert not follow(b"HTTP/1.1 101 \r\nx: " + b"a" * 16383, b"\r\n\r\n").is_between_frames


def test_frame_follower_finds_no_frame_end_after_a_length_above_63_bits() -> None:
    assert not follow(HEAD, b"\x82\x7f" + b"\xff" * 8, FRAMES[1]).is_between_frames


def test_frame_follower_finds_no_frame_end_within_a_payload_of_the_largest_length() -> None:
    follower = follow(HEAD, b"\x82\x7f\x7f" + b"\xff" * 7, *[bytes(65536)] * 20)
    assert not follower.is_between_frames


def test_frame_follower_finds_a_split_close_frame_from_the_client() -> None:
    stream = FRAMES[7] + b"\x88\x82mask\x00\x00"
    for split in range(len(FRAMES[7]) + 5):
        follower = FrameFollower(has_head=False)
        assert follower.is_between_frames
        follower.follow(stream[:split])
        assert follower.is_between_frames is (split in (0, len(FRAMES[7]))), split
        follower.follow(stream[split:])
        assert follower.has_closed, split
