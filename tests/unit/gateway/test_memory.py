"""What comes again is kept, what comes once is not, and neither without bound."""

from gateway.memory import Memory


def test_what_comes_a_second_time_is_kept():
    memory: Memory[int] = Memory(10, 1_000, 100)
    assert [memory.keep(b"a", 1), memory.keep(b"a", 2), memory.keep(b"a", 3)] == [False, True, True]
    assert memory.known == {b"a": 3}


def test_what_is_long_is_not_kept():
    memory: Memory[int] = Memory(10, 1_000, 100)
    assert not any(memory.keep(b"a" * 101, 1) for _ in range(3))
    assert memory.keep(b"a" * 100, 1) is False
    assert memory.keep(b"a" * 100, 1) is True


def test_the_older_half_goes_when_there_are_too_many():
    memory: Memory[int] = Memory(4, 1_000, 100)
    for number in (0, 1, 2, 3, 4):
        for _ in range(2):
            memory.keep(b"%d" % number, number)
    assert memory.known == {b"2": 2, b"3": 3, b"4": 4}


def test_all_that_is_kept_together_is_bounded_in_bytes():
    memory: Memory[int] = Memory(1_000, 500, 100)
    for number in range(200):
        for _ in range(2):
            memory.keep(b"%099d" % number, number)
        assert sum(map(len, memory.known)) <= 500
    assert b"%099d" % 199 in memory.known


def test_nothing_is_left_of_what_was_cleared():
    memory: Memory[int] = Memory(4, 1_000, 100)
    for _ in range(2):
        memory.keep(b"a", 1)
    memory.keep(b"b", 1)
    memory.clear()
    assert memory.known == {}
    assert memory.keep(b"b", 1) is False
