"""What became of a start or a reload, judged by the rows of all workers."""

from __future__ import annotations

import pytest

from tests.process.test_handover import view
from uvworker.shared_memory.generations import KEPT, Generation, Generations, Outcome
from uvworker.shared_memory.scoreboard import State, WorkerView

START = Generation(number=1, first_age=1, wanted=2, began=0)
RELOAD = Generation(number=2, first_age=3, wanted=2, began=0)

OLD = [view(1), view(2)]
TOLD = [view(1, terminating=True), view(2, terminating=True)]


def serving(age: int) -> WorkerView:
    return view(age, boot_seconds=1.0)


def lost(age: int) -> WorkerView:
    return view(age, State.BOOTING, alive=False)


@pytest.mark.parametrize(
    ("generation", "workers", "outcome"),
    [
        (START, [], Outcome.BOOTING),
        (START, [serving(1)], Outcome.BOOTING),
        (START, [serving(1), view(2, State.BOOTING)], Outcome.BOOTING),
        (START, [serving(1), serving(2)], Outcome.SERVING),
        (START, [serving(1), lost(2)], Outcome.BOOTING),
        (START, [lost(1), lost(2)], Outcome.BOOTING),
        (START, [serving(1), view(2, State.FAILED)], Outcome.SERVING),
        (START, [view(1, terminating=True), serving(2)], Outcome.SERVING),
        (RELOAD, OLD, Outcome.BOOTING),
        (RELOAD, [*OLD, view(3, State.BOOTING)], Outcome.BOOTING),
        (RELOAD, [*TOLD, serving(3), view(4, State.BOOTING)], Outcome.BOOTING),
        (RELOAD, [*TOLD, serving(3), serving(4)], Outcome.SERVING),
        (RELOAD, [serving(3), serving(4)], Outcome.SERVING),
        (
            RELOAD,
            [*TOLD, view(3, State.FAILED), view(4, State.BOOTING)],
            Outcome.BOOTING,
        ),
        (RELOAD, [*TOLD, view(3, State.FAILED), lost(4)], Outcome.FAILED),
        (RELOAD, [*OLD, lost(3), lost(4)], Outcome.FAILED),
        (RELOAD, [OLD[0], serving(3), serving(5)], Outcome.FAILED),
        (RELOAD, [serving(3), view(4, State.FAILED)], Outcome.FAILED),
    ],
)
def test_the_rows_say_what_became_of_a_generation(
    generation: Generation, workers: list[WorkerView], outcome: Outcome | None
) -> None:
    assert generation.outcome(workers) is (outcome or Outcome.BOOTING)


def test_reloads_are_counted_by_their_outcome_when_the_next_one_begins() -> None:
    generations = Generations()
    generations.begin(1, 1, [])
    generations.begin(2, 1, [serving(1)])
    generations.begin(3, 1, [serving(2)])
    generations.begin(4, 1, [view(2, stayed=3), lost(3)])
    current = generations.current
    assert (current.number, current.good, current.failed) == (4, 1, 1)


def test_the_last_reloads_are_remembered_with_their_outcome() -> None:
    generations = Generations()
    assert generations.reloads == []
    generations.begin(1, 1, [])
    generations.begin(2, 1, [serving(1)])
    assert generations.reloads == []  # the newest is judged by the rows
    generations.begin(3, 1, [serving(2)])
    generations.begin(4, 1, [view(2, stayed=3), lost(3)])
    generations.begin(5, 1, [view(2), view(4, State.BOOTING)])
    outcomes = [outcome for _, outcome in generations.reloads]
    assert outcomes == [Outcome.SERVING, Outcome.FAILED, Outcome.BOOTING]
    for age in range(6, 20):
        generations.begin(age, 1, [serving(age - 1)])
    assert [outcome for _, outcome in generations.reloads] == [Outcome.SERVING] * KEPT
    assert all(began > 1_700_000_000 for began, _ in generations.reloads)
