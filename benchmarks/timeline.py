"""The picture of a hand-over: what each worker does, and its requests within."""

from __future__ import annotations

from typing import Any

from svg import Drawing

WIDTH = 860
LEFT = 96  # pixels for a worker's name
LANE, GAP = 40, 6  # pixels of a worker, and between two
TOP = 58
ROW, LINE = 4, 2  # pixels from one client's requests to the next one's; of a request

Worker = dict[str, Any]


def handover(found: dict[str, list[dict[str, Any]]]) -> Drawing:
    """Draw a lane for each worker from its start to its end, and requests as lines."""
    workers, requests = found["workers"], found["requests"]
    lost = sum(not request["worker"] for request in requests)
    first = min(request["start"] for request in requests)
    last = max(request["end"] for request in requests)
    title = "A reload: the old workers serve until the new ones do"
    says = (
        f"{title}. {len(workers)} workers, {len(requests)} requests of eight clients, "
        f"{lost} lost. " + " ".join(map(_said, workers))
    )
    drawing = Drawing(WIDTH, TOP + len(workers) * (LANE + GAP) + 30, title, says)
    drawing.text(
        0, 16, f"{title}; {lost} of {len(requests)} requests are lost", "title"
    )
    _legend(drawing)
    scale = (WIDTH - LEFT) / (last - first)

    def across(at: float) -> float:
        return LEFT + (min(max(at, first), last) - first) * scale

    lanes = {worker["pid"]: TOP + i * (LANE + GAP) for i, worker in enumerate(workers)}
    for worker in workers:
        _lane(drawing, worker, lanes[worker["pid"]], across)
    for request in requests:
        lane = lanes.get(request["worker"], TOP - 12)
        y = lane + 5 + request["client"] * ROW
        start, end = across(request["start"]), across(request["end"])
        kind = "ours" if request["worker"] else "bad"
        drawing.box(start, y, max(end - start, 1), LINE, kind)
    _axis(drawing, first, last, across)
    return drawing


def _said(worker: Worker) -> str:
    events = ("begins", "serves", "ends")
    known = [f"{event} at {worker[event]} s" for event in events if event in worker]
    return f"Worker {worker['pid']} {', '.join(known)}."


def _legend(drawing: Drawing) -> None:
    kinds = {
        "starting": "starts: imports the app",
        "serving": "serves",
        "leaving": "has left",
    }
    x = LEFT
    for kind, words in kinds.items():
        drawing.box(x, 28, 22, 12, kind)
        drawing.text(x + 28, 38, words)
        x += 60 + 7 * len(words)
    drawing.box(x, 33, 22, LINE, "ours")
    drawing.text(x + 28, 38, "a request, from its start to its answer")


def _lane(drawing: Drawing, worker: Worker, y: float, across: Any) -> None:
    old = worker["begins"] < 0
    drawing.text(0, y + 17, "old worker" if old else "new worker")
    drawing.text(0, y + 33, f"pid {worker['pid']}", "small faint")
    begins, serves = across(worker["begins"]), across(worker["serves"])
    ends = across(worker.get("ends", float("inf")))
    if serves > begins:
        drawing.box(begins, y, serves - begins, LANE, "starting")
    drawing.box(serves, y, ends - serves, LANE, "serving")
    if (rest := WIDTH - 1 - ends) > 1:
        drawing.box(ends, y, rest, LANE, "leaving")


def _axis(drawing: Drawing, first: float, last: float, across: Any) -> None:
    bottom = drawing.height - 24
    tenth = int(first * 2) / 2
    while tenth <= last:
        drawing.text(across(tenth), bottom + 16, f"{tenth:g} s", "small middle faint")
        tenth += 0.5
    drawing.line((across(0), TOP - 8), (across(0), bottom), "mark")
    drawing.text(across(0) + 4, TOP - 8, "HUP", "small")
