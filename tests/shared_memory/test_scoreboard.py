"""The scoreboard, with real forks: who lives, who is dead, who has which id."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from uvworker.process.siblings import SILENT, TURNS, Siblings
from uvworker.shared_memory.scoreboard import FORGIVEN, Scoreboard, Slot, State


@pytest.fixture
def board() -> Scoreboard:
    return Scoreboard()


@contextlib.contextmanager
def fork(slot: Slot) -> Iterator[int]:
    """Fork a worker that does nothing, as the arbiter does it."""
    pid = spawn(slot)
    try:
        yield pid
    finally:
        end(pid)


def spawn(slot: Slot) -> int:
    pid = os.fork()
    if not pid:
        while True:
            signal.pause()
    slot.occupy(pid)
    return pid


def end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def zombify(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


# What workers see of one another


def test_what_a_worker_writes_its_siblings_and_the_arbiter_read(board):
    slot = board.claim(age=7, now=10.0)
    pid = os.fork()
    if not pid:
        slot.occupy(os.getpid())
        slot.connections = 3
        slot.requests_in_flight = 2
        slot.requests_done = 10**12
        slot.beat(11.5)
        slot.terminating = slot.due = True
        slot.serve()
        os._exit(0)
    slot.occupy(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    (view,) = board.workers(now=12.0)
    end(pid)
    assert (view.id, view.age, view.pid, view.state) == (0, 7, pid, State.SERVING)
    assert (view.connections, view.requests_in_flight) == (3, 2)
    assert (view.requests_done, view.silence) == (10**12, 0.5)
    assert view.terminating
    assert view.due


def test_the_dead_are_seen_as_they_died_until_the_next_worker(board):
    slot = board.claim(age=1)
    with fork(slot) as pid:
        slot.state = State.BOOTING
        slot.terminating = True
        zombify(pid)
        (dead,) = board.workers()
        assert not dead.alive  # though a zombie still answers kill(pid, 0)
        os.waitpid(pid, 0)
        (dead,) = board.workers()
        assert (dead.alive, dead.terminating, dead.state) == (
            False,
            True,
            State.BOOTING,
        )
    with fork(board.claim(age=2)):
        (view,) = board.workers()
        assert (view.id, view.age, view.alive, view.terminating) == (0, 2, True, False)


def test_a_recycled_pid_is_not_taken_for_a_worker(board):
    """Pid 1 and the parent of this process are alive, and no children of it."""
    for age, stranger in enumerate((1, os.getppid()), start=1):
        slot = board.claim(age)
        slot.occupy(stranger)
        assert [view.alive for view in board.workers()] == [False]
        assert slot.id == 0


def test_a_pid_recycled_by_a_younger_worker_is_the_younger_ones(board):
    older = board.claim(age=1)
    with fork(older):
        younger = board.claim(age=2)
        with fork(younger) as pid:
            older.occupy(pid)
            assert [view.alive for view in board.workers()] == [False, True]
            assert board.claim(age=3).id == older.id


def test_a_worker_sees_its_siblings_too(board):
    """Which are not its children."""
    slots = [board.claim(age=1)]
    with fork(slots[0]):
        slots.append(board.claim(age=2))
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            slots[1].occupy(os.getpid())
            alive = [view.alive for view in board.siblings(slots[1])]
            os.write(write, repr(alive).encode())
            os._exit(0)
        slots[1].occupy(pid)
        assert os.read(read, 100) == b"[True]"
        end(pid)
        os.close(read)
        os.close(write)


def test_a_full_board_says_so():
    board = Scoreboard(slots=2)
    with contextlib.ExitStack() as stack:
        for age in (1, 2):
            stack.enter_context(fork(board.claim(age)))
        stack.enter_context(pytest.raises(RuntimeError, match="room for 2 workers"))
        board.claim(3)


def test_hundreds_of_workers_have_ids_without_gaps(board):
    with contextlib.ExitStack() as stack:
        ids = []
        for age in range(1, 201):
            slot = board.claim(age)
            stack.enter_context(fork(slot))
            ids.append(slot.id)
        assert ids == list(range(200))


# Failed boots


def test_failed_boots_are_counted_over_the_lives_of_a_slot(board):
    now = time.monotonic()
    for failures in (1, 2, 3):
        slot = board.claim(age=failures, now=now)
        slot.fail(now)
        assert slot.failures == failures
    slot = board.claim(age=4, now=now)
    slot.serve()
    assert board.claim(age=5, now=now).failures == 0


def test_a_failed_boot_of_long_ago_is_forgotten(board):
    now = time.monotonic()
    board.claim(age=1, now=now).fail(now)
    assert board.claim(age=2, now=now + FORGIVEN - 1).failures == 1
    assert board.claim(age=3, now=now + FORGIVEN + 1).failures == 0


# Shares


@contextlib.contextmanager
def serving(board: Scoreboard, *connections: int) -> Iterator[list[Slot]]:
    with contextlib.ExitStack() as stack:
        slots = []
        for age, count in enumerate(connections, start=1):
            slot = board.claim(age)
            stack.enter_context(fork(slot))
            slot.connections = count
            slot.serve()
            slots.append(slot)
        yield slots


def test_a_worker_alone_has_no_surplus(board):
    with serving(board, 5) as (slot,):
        siblings = Siblings(board, slot)
        siblings.refresh(time.monotonic())
        assert siblings.surplus(1000) == 0
        assert slot.connections == 1000


def test_the_share_is_the_least_loaded_siblings(board):
    with serving(board, 0, 9, 4, 7) as slots:
        siblings = Siblings(board, slots[0])
        siblings.refresh(time.monotonic())
        assert siblings.surplus(5) == 0
        assert siblings.surplus(6) == 1
        slots[2].connections = 8
        assert siblings.surplus(6) <= 0


@pytest.mark.parametrize("state", set(State) - {State.SERVING})
def test_only_serving_siblings_count(board, state):
    with serving(board, 0, 9, 4) as slots:
        siblings = Siblings(board, slots[0])
        siblings.refresh(time.monotonic())
        slots[2].state = state
        assert siblings.lowest_connections() == 9


def test_a_silent_sibling_does_not_count(board):
    with serving(board, 0, 9, 4) as slots:
        siblings = Siblings(board, slots[0])
        now = time.monotonic() + SILENT + 1
        slots[1].beat(now)
        siblings.refresh(now)
        assert siblings.lowest_connections() == 9


def test_a_stuck_sibling_is_left_out_until_it_moves(board):
    with serving(board, 0, 9, 4) as slots:
        siblings = Siblings(board, slots[0])
        siblings.refresh(time.monotonic())
        for _ in range(TURNS):
            assert siblings.lowest_connections() == 4
            siblings.waited_in_vain()
        assert siblings.lowest_connections() == 9
        siblings.refresh(time.monotonic())
        assert siblings.lowest_connections() == 9
        slots[2].connections = 5
        assert siblings.lowest_connections() == 5


def test_a_slow_sibling_is_not_left_out(board):
    with serving(board, 0, 9, 4) as slots:
        siblings = Siblings(board, slots[0])
        siblings.refresh(time.monotonic())
        for connections in range(2 * TURNS):
            slots[2].connections = connections
            siblings.waited_in_vain()
        assert siblings.lowest_connections() == 2 * TURNS - 1


# Ids, whatever happens


class Arbiter(RuleBasedStateMachine):
    """Forks, kills and reaps real workers in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Scoreboard(slots=64)
        self.age = 0
        self.living: dict[int, Slot] = {}
        self.zombies: set[int] = set()

    @rule(prompt=st.booleans())
    def spawn_worker(self, prompt: bool) -> None:
        self.age += 1
        slot = self.board.claim(self.age)
        taken = {slot.id for slot in self.living.values()}
        assert slot.id == min(set(range(64)) - taken)
        self.living[spawn(slot)] = slot
        if prompt:
            slot.serve()

    @rule()
    def fail_to_fork(self) -> None:
        self.age += 1
        self.board.claim(self.age)

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def worker_dies(self, data) -> None:
        pid = data.draw(st.sampled_from(sorted(self.living)))
        del self.living[pid]
        zombify(pid)
        self.zombies.add(pid)

    @rule()
    def reap(self) -> None:
        for pid in self.zombies:
            os.waitpid(pid, 0)
        self.zombies.clear()

    @invariant()
    def the_board_knows_who_lives(self) -> None:
        forked = [view for view in self.board.workers() if view.pid]
        assert {view.pid for view in forked if view.alive} == set(self.living)

    @invariant()
    def no_two_living_workers_share_an_id(self) -> None:
        ids = [slot.id for slot in self.living.values()]
        assert len(set(ids)) == len(ids)

    def teardown(self) -> None:
        self.reap()
        for pid in self.living:
            end(pid)


def test_ids_are_unique_and_smallest_whatever_happens():
    run_state_machine_as_test(
        Arbiter,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
