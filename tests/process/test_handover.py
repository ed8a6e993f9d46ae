"""The rules of hand-over, failed boots and turns, in a model of gunicorn's arbiter.

The model does what ``gunicorn.arbiter.Arbiter`` does on signals and on every turn of
its loop. Everything that takes time in reality, a boot, a signal's delivery, a worker's
look at the board, a death, is a step of its own, and Hypothesis orders the steps.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from uvworker.process.handover import (
    HandOver,
    Verdict,
    may_recycle,
    pause_after_failed_boot,
)
from uvworker.shared_memory.scoreboard import State, WorkerView


def view(age: int, state: State = State.SERVING, **changes: object) -> WorkerView:
    plain = WorkerView(
        id=age,
        alive=True,
        state=state,
        age=age,
        pid=1000 + age,
        terminating=False,
        due=False,
        connections=0,
        requests_in_flight=0,
        requests_done=0,
        silence=0.0,
        failures=0,
        failed_at=0.0,
    )
    return dataclasses.replace(plain, **changes)


@dataclass
class Worker:
    """A worker as it lives in the model."""

    age: int
    row: WorkerView
    hand_over: HandOver
    pending: bool = False  # a SIGTERM that it has not seen yet
    seen_dead: bool = False  # by the arbiter

    def set(self, **changes: object) -> None:
        self.row = dataclasses.replace(self.row, **changes)

    @property
    def serves(self) -> bool:
        return self.row.alive and self.row.state is State.SERVING


@dataclass
class Model:
    """The arbiter, its workers, and the board that they see."""

    wanted: int
    workers: dict[int, Worker] = field(default_factory=dict)  # in the order of age
    age: int = 0
    stopped: bool = False
    halted: bool = False

    # What the arbiter does

    def manage(self) -> None:
        self.reap()
        while len(self.known()) < self.wanted:
            self.spawn()
        self.tell_surplus()

    def reap(self) -> None:
        for worker in self.workers.values():
            worker.seen_dead = not worker.row.alive

    def known(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if not worker.seen_dead]

    def spawn(self) -> None:
        self.age += 1
        for age in [age for age, w in self.workers.items() if not w.row.alive]:
            del self.workers[age]  # the slots of the dead are free again
        self.workers[self.age] = Worker(
            self.age, view(self.age, State.BOOTING), HandOver(self.age)
        )

    def tell_surplus(self) -> None:
        known = self.known()
        for worker in known[: max(0, len(known) - self.wanted)]:
            worker.pending = True

    def reload(self, wanted: int) -> None:
        self.wanted = wanted
        for _ in range(wanted):
            self.spawn()
        self.tell_surplus()

    def stop(self) -> None:
        self.stopped = True
        for worker in self.workers.values():
            worker.pending = True

    # What the workers do

    def siblings(self, worker: Worker) -> list[WorkerView]:
        return [w.row for w in self.workers.values() if w is not worker]

    def deliver(self, worker: Worker) -> None:
        worker.pending = False
        if not worker.row.alive:
            return
        if worker.row.state in (State.BOOTING, State.FAILED):
            worker.set(terminating=True, state=State.LEAVING, alive=False)
            return
        worker.set(terminating=True)
        if worker.row.state is State.SERVING:
            self.look(worker)

    def look(self, worker: Worker) -> Verdict:
        verdict = worker.hand_over.verdict(self.siblings(worker))
        if verdict is Verdict.DRAIN:
            worker.set(state=State.DRAINING)
        elif verdict is Verdict.TAKE_BACK:
            worker.set(terminating=False)
        return verdict

    def give_up(self, worker: Worker) -> None:
        """Let a worker that could not boot decide how to end."""
        pause = pause_after_failed_boot(worker.row, self.siblings(worker))
        if pause is None:
            self.halted = True
            self.stop()
        worker.set(alive=False)

    def settle(self, *, boots: bool) -> None:
        """Let everything happen that is under way, until nothing changes."""
        for _ in range(100):
            before = [dataclasses.replace(w) for w in self.workers.values()]
            self.settle_step(boots=boots)
            if before == list(self.workers.values()):
                return
        raise AssertionError("it never came to rest")

    def settle_step(self, *, boots: bool) -> None:
        if not self.stopped:
            self.manage()
        for worker in list(self.workers.values()):
            if worker.pending:
                self.deliver(worker)
            if not worker.row.alive:
                continue
            if worker.row.state is State.SERVING and worker.row.terminating:
                self.look(worker)
            elif worker.row.state is State.DRAINING:
                worker.set(alive=False)
            elif worker.row.state is State.FAILED:
                self.give_up(worker)
            elif worker.row.state is State.BOOTING and (boots or not self.serving()):
                worker.set(state=State.SERVING)
            elif worker.row.state is State.BOOTING and self.surplus():
                worker.set(state=State.FAILED, failures=worker.row.failures + 1)

    def surplus(self) -> bool:
        return len(self.known()) > self.wanted

    def serving(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.serves]


class Service(RuleBasedStateMachine):
    """A service whose operator reloads, scales, and is unlucky."""

    @initialize(wanted=st.integers(1, 5))
    def start(self, wanted: int) -> None:
        self.model = Model(wanted)
        self.model.manage()
        for worker in self.model.workers.values():
            worker.set(state=State.SERVING)
        self.by_hand = False

    def pick(
        self, data, *states: State, terminating: bool | None = None
    ) -> Worker | None:
        found = [
            worker
            for worker in self.model.workers.values()
            if worker.row.alive
            and worker.row.state in states
            and (terminating is None or worker.row.terminating is terminating)
        ]
        return data.draw(st.sampled_from(found)) if found else None

    running = precondition(lambda self: not self.model.stopped)

    @running
    @rule(wanted=st.integers(1, 5))
    def sighup(self, wanted: int) -> None:
        self.model.reload(wanted)

    @running
    @rule()
    def sigttin(self) -> None:
        self.model.wanted += 1
        self.model.manage()

    @running
    @rule()
    def sigttou(self) -> None:
        if self.model.wanted > 1:
            self.model.wanted -= 1
        self.model.manage()

    @running
    @rule()
    def turn_of_the_loop(self) -> None:
        self.model.manage()

    @rule(data=st.data())
    def sigterm_arrives(self, data) -> None:
        pending = [w for w in self.model.workers.values() if w.pending]
        if pending:
            self.model.deliver(data.draw(st.sampled_from(pending)))

    @rule(data=st.data())
    def boot_succeeds(self, data) -> None:
        if worker := self.pick(data, State.BOOTING):
            worker.set(state=State.SERVING)

    @rule(data=st.data())
    def boot_fails(self, data) -> None:
        if worker := self.pick(data, State.BOOTING):
            worker.set(state=State.FAILED, failures=worker.row.failures + 1)

    @running
    @rule(data=st.data())
    def failed_worker_gives_up(self, data) -> None:
        if worker := self.pick(data, State.FAILED):
            served = bool(self.model.serving())
            self.model.give_up(worker)
            assert self.model.halted is not served, "halts exactly if nobody serves"

    @rule(data=st.data())
    def told_worker_looks(self, data) -> None:
        """No TERM but a stop takes the service below what it was asked to have."""
        if worker := self.pick(data, State.SERVING, terminating=True):
            verdict = self.model.look(worker)
            if verdict is Verdict.DRAIN and not (self.model.stopped or self.by_hand):
                assert len(self.model.serving()) >= self.least_wanted()

    def least_wanted(self) -> int:
        """Return what the arbiter keeps, as far as every worker has heard of it."""
        unheard = any(worker.pending for worker in self.model.workers.values())
        return 1 if unheard else self.model.wanted

    @rule(data=st.data())
    def drained_worker_exits(self, data) -> None:
        if worker := self.pick(data, State.DRAINING):
            self.dies(worker)

    @rule(data=st.data())
    def worker_is_killed(self, data) -> None:
        if worker := self.pick(data, State.BOOTING, State.SERVING, State.DRAINING):
            self.dies(worker)

    def dies(self, worker: Worker) -> None:
        """End a worker, but not in the milliseconds in which a stop's SIGTERM arrives.

        Who dies before it could say that it was told looks like lost. A worker that
        waits for it takes its SIGTERM back, and is killed at ``graceful_timeout``.
        """
        if not (self.model.stopped and worker.pending):
            worker.set(alive=False)

    @running
    @rule(data=st.data())
    def worker_is_recycled(self, data) -> None:
        if worker := self.pick(data, State.SERVING, terminating=False):
            worker.set(due=True)
            if may_recycle(worker.row, self.model.siblings(worker)):
                worker.set(state=State.DRAINING)

    @running
    @rule(data=st.data())
    def sigterm_by_hand(self, data) -> None:
        if worker := self.pick(data, State.BOOTING, State.SERVING):
            worker.pending = True
            self.by_hand = True

    @rule()
    def sigterm_to_the_arbiter(self) -> None:
        for worker in self.model.serving():
            if worker.row.terminating:  # and looked some milliseconds ago
                self.model.look(worker)
        self.model.stop()

    @invariant()
    def a_stop_is_a_stop(self) -> None:
        if self.model.stopped:
            assert not any(
                self.model.look(worker) is Verdict.TAKE_BACK
                for worker in self.model.serving()
                if worker.row.terminating
                and not any(w.pending for w in self.model.known())
            )

    def teardown(self) -> None:
        """Whatever happened: in the end exactly those serve that should, or nobody."""
        if not hasattr(self, "model"):
            return
        self.model.settle(boots=True)
        living = [w for w in self.model.workers.values() if w.row.alive]
        if self.model.stopped:
            assert not living
        else:
            assert len(living) == self.model.wanted
            assert all(
                worker.serves and not worker.row.terminating for worker in living
            )


def test_service_is_kept_and_comes_to_rest_whatever_happens():
    run_state_machine_as_test(
        Service,
        settings=settings(
            max_examples=200,
            stateful_step_count=30,
            deadline=None,
            phases=set(Phase) - {Phase.explain},  # it traces every line: minutes
            suppress_health_check=list(HealthCheck),
        ),
    )


# The stories that the rules were made for


def service(wanted: int) -> Model:
    model = Model(wanted)
    model.manage()
    model.settle(boots=True)
    return model


def deliver_all(model: Model) -> None:
    for worker in list(model.workers.values()):
        if worker.pending:
            model.deliver(worker)


def verdicts(model: Model) -> dict[int, Verdict]:
    terminating = [worker for worker in model.serving() if worker.row.terminating]
    return {worker.age: model.look(worker) for worker in terminating}


@pytest.mark.parametrize("wanted", [1, 2, 4])
def test_nobody_leaves_before_a_new_worker_serves(wanted):
    model = service(wanted)
    model.reload(wanted)
    deliver_all(model)
    assert set(verdicts(model).values()) == {Verdict.GO_ON}
    for served in range(1, wanted + 1):
        model.workers[wanted + served].set(state=State.SERVING)
        leaving = [a for a, v in verdicts(model).items() if v is Verdict.DRAIN]
        assert leaving == [served], "one for one, the oldest first"


def test_a_reload_to_fewer_workers_keeps_as_many_as_there_will_be():
    model = service(4)
    model.reload(2)
    deliver_all(model)
    assert list(verdicts(model).values()) == [Verdict.DRAIN] * 2 + [Verdict.GO_ON] * 2


@pytest.mark.parametrize("wanted", [1, 4, 6])
def test_a_release_that_cannot_boot_leaves_the_old_workers_serving(wanted):
    model = service(4)
    model.reload(wanted)
    model.settle(boots=False)
    assert not model.halted
    assert len(model.serving()) == min(wanted, 4)
    assert all(worker.age <= 4 for worker in model.serving())
    model.reload(4)
    model.settle(boots=True)
    assert [worker.age > 4 for worker in model.serving()] == [True] * 4


def test_a_release_of_which_one_worker_cannot_boot_keeps_one_old():
    model = service(4)
    model.reload(4)
    deliver_all(model)
    for age in (5, 6, 7):
        model.workers[age].set(state=State.SERVING)
    model.workers[8].set(alive=False)
    model.settle(boots=True)
    assert [worker.age for worker in model.serving()] == [4, 5, 6, 7]


def test_a_lost_place_stays_vacant_until_its_taker_notices():
    model = service(4)
    model.reload(4)
    deliver_all(model)
    oldest, youngest = model.workers[1], model.workers[4]
    verdicts(model)
    model.workers[8].set(alive=False)
    for _ in range(3):  # and is told again meanwhile
        model.deliver(oldest)
        assert model.look(oldest) is Verdict.GO_ON
    assert model.look(youngest) is Verdict.TAKE_BACK
    assert model.look(oldest) is Verdict.GO_ON


def test_a_worker_that_took_its_sigterm_back_can_still_be_scaled_down():
    model = service(2)
    model.reload(2)
    deliver_all(model)
    verdicts(model)
    model.workers[4].set(alive=False)
    model.settle(boots=True)
    assert [worker.age for worker in model.serving()] == [2, 3]
    model.wanted = 1
    model.settle(boots=True)
    assert [worker.age for worker in model.serving()] == [3]


def test_a_stop_amid_a_hand_over_ends_everybody():
    model = service(4)
    model.reload(4)
    deliver_all(model)
    verdicts(model)
    model.stop()
    deliver_all(model)
    assert set(verdicts(model).values()) == {Verdict.DRAIN}


def test_a_second_reload_waits_for_the_second_release():
    model = service(2)
    model.reload(2)
    deliver_all(model)
    model.reload(2)
    for age in (4, 3):  # the first release hears of it before the old workers do
        model.deliver(model.workers[age])
        assert set(verdicts(model).values()) == {Verdict.GO_ON}
    deliver_all(model)
    assert set(verdicts(model).values()) == {Verdict.GO_ON}
    model.settle(boots=True)
    assert [worker.age for worker in model.serving()] == [5, 6]


@pytest.mark.parametrize("workers", [1, 3])
def test_scaling_down_and_a_sigterm_by_hand_drain_at_once(workers):
    model = service(workers)
    worker = next(iter(model.workers.values()))
    model.deliver(worker)
    assert model.look(worker) is Verdict.DRAIN


# Failed boots


def test_the_first_start_halts_and_later_failures_pause_longer_each_time():
    booting, serving = view(2, State.BOOTING), view(1)
    assert pause_after_failed_boot(view(3, State.FAILED, failures=1), [booting]) is None
    pauses = [
        pause_after_failed_boot(view(3, State.FAILED, failures=n), [booting, serving])
        for n in range(1, 8)
    ]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_a_dead_sibling_does_not_serve():
    me = view(3, State.FAILED, failures=1)
    assert pause_after_failed_boot(me, [view(1, alive=False)]) is None


# Turns


@pytest.mark.parametrize(
    ("workers", "together"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (40, 10)]
)
def test_siblings_are_recycled_in_turns_the_oldest_first(workers, together):
    rows = {age: view(age, due=True) for age in range(1, workers + 1)}
    gone = []
    for age in reversed(rows):  # the youngest asks first
        others = [row for row in rows.values() if row.age != age]
        if may_recycle(rows[age], others):
            gone.append(age)
            rows[age] = dataclasses.replace(rows[age], state=State.DRAINING)
    assert sorted(gone) == list(range(1, together + 1))


@pytest.mark.parametrize(
    "away",
    [
        view(2, State.BOOTING),
        view(2, State.FAILED),
        view(2, State.DRAINING),
        view(2, State.LEAVING),
        view(2, State.LEAVING, alive=False, silence=0.1),
    ],
)
def test_a_turn_lasts_until_the_replacement_serves(away):
    me, others = view(1, due=True), [away, view(3), view(4)]
    assert not may_recycle(me, others)
    assert may_recycle(me, others, hard=True)


def test_who_was_told_to_go_or_died_long_ago_takes_no_turn():
    me = view(3, due=True)
    scaled_down = view(1, State.DRAINING, terminating=True)
    dead = view(2, State.LEAVING, alive=False, silence=60.0)
    assert may_recycle(me, [scaled_down, dead, view(4)])
