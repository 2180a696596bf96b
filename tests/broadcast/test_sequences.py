"""Sequence numbers, in bounded memory."""

from __future__ import annotations

import pytest

from uvicorn.broadcast import sequences as module
from uvicorn.broadcast.sequences import ReceivedSequences, SentSequences


def lost(sequences: ReceivedSequences, *messages: tuple[str, str, int]) -> list[int]:
    return [sequences.missing(*message)[0] for message in messages]


def test_missing_sequence_numbers_are_counted_as_lost_messages() -> None:
    assert lost(ReceivedSequences(), ("a", "x", 5), ("a", "x", 6), ("a", "x", 9)) == [0, 0, 2]


def test_a_new_sender_or_a_smaller_sequence_number_causes_no_gap() -> None:
    assert lost(ReceivedSequences(), ("a", "x", 5), ("a", "y", 9), ("a", "x", 1)) == [0, 0, 0]


@pytest.mark.parametrize(("sender", "sequence"), [("x" * 65, 1), ("x", 0), ("x", -5), ("x", 1 << 63)])
def test_invalid_sender_or_sequence_number_is_not_stored(sender: str, sequence: int) -> None:
    sequences = ReceivedSequences()
    assert lost(sequences, ("a", sender, sequence)) == [0]
    assert sequences.count == 0


def test_number_of_stored_senders_is_limited_for_one_group() -> None:
    sequences = ReceivedSequences()
    lost(sequences, *(("a", str(number), 1) for number in range(300)))
    assert sequences.count == 256


def test_number_of_stored_senders_is_limited_for_all_groups_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_IN_ALL", 100)
    sequences = ReceivedSequences()
    lost(sequences, *((str(group), str(sender), 1) for group in range(50) for sender in range(20)))
    assert sequences.count <= 100
    assert lost(sequences, ("49", "19", 3)) == [1]


def test_forgotten_group_leaves_no_stored_sender() -> None:
    sequences = ReceivedSequences()
    lost(sequences, ("a", "x", 1), ("a", "y", 1), ("b", "x", 1))
    sequences.forget("a")
    sequences.forget("a")
    assert sequences.count == 1
    assert lost(sequences, ("a", "x", 9)) == [0]


def test_group_removed_from_the_stored_sequences_is_numbered_from_1_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_GROUPS", 2)
    sequences = SentSequences()
    assert [sequences.next(group) for group in ("a", "b", "a", "c", "a", "b")] == [1, 1, 2, 1, 3, 1]
