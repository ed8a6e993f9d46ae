"""The page as text: it is complete, and nothing in it runs that came from outside."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from uvworker.operations import page
from uvworker.operations.facts import (
    Listener,
    LogLine,
    Point,
    Recent,
    Reload,
    Reloads,
    ServiceFacts,
    WorkerFacts,
)

from .test_health import BOOTING, DRAINING, FAILED, HUNG, RETIRING, SERVING, service

EVIL = "<img src=x onerror=alert(1)>\"'&</style></script>\x00\udcff$name{0}"
VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Reads a page as strictly as a person would write one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(facts: ServiceFacts, recent: Recent = Recent()) -> Reader:  # noqa: B008
    return Reader(page.render(facts, recent, ["/livez"]).decode())


def test_text_from_outside_is_shown_and_never_part_of_the_page() -> None:
    worker = replace(SERVING, last_error=EVIL, state=EVIL)
    recent = Recent([], [LogLine(0.0, EVIL, None, 1, EVIL)])
    read = shown(
        service(
            worker,
            name=EVIL,
            versions={EVIL: EVIL},
            exits={EVIL: 1},
            listeners=[Listener(EVIL, 1, 2)],
        ),
        recent,
    )
    clean = shown(service(SERVING, listeners=[Listener("a", 1, 2)]), recent)
    kinds = {tag for tag, _ in read.tags}
    assert "img" not in kinds
    assert kinds <= {tag for tag, _ in clean.tags} | {"b", "p"}
    assert read.text.count("<img src=x onerror=alert(1)>") >= 7
    assert not [name for _, attrs in read.tags for name in attrs if name[:2] == "on"]


def test_the_policy_admits_the_pages_own_script_and_style_only() -> None:
    text = page.render(service(SERVING), Recent(), []).decode()
    policy = page.POLICY.decode()
    for tag in "script", "style":
        [inside] = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    read = Reader(text)
    assert not any("style" in attributes for _, attributes in read.tags)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)


@pytest.mark.parametrize(
    ("worker", "state"),
    [
        (SERVING, "serving"),
        (HUNG, "blocked"),
        (BOOTING, "booting"),
        (replace(BOOTING, silence=40.0), "booting"),
        (RETIRING, "retiring"),
        (replace(SERVING, healthy=False), "unhealthy"),
        (replace(HUNG, healthy=False), "blocked"),
        (DRAINING, "draining"),
        (FAILED, "failed"),
        (replace(SERVING, state="of a newer version"), "of a newer version"),
    ],
)
def test_a_row_says_what_its_worker_does(worker: WorkerFacts, state: str) -> None:
    row = page.sections(service(worker), Recent())["workers"]
    assert f"</span> {state}</span>" in row


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (service(SERVING), "Ready: 1 of 1 workers serve"),
        (service(BOOTING), "Not ready: worker 1 is booting (0 of 1 workers serve)"),
        (
            service(HUNG, replace(SERVING, id=1), wanted=2),
            "Ready: only 1 of 2 workers serve; worker 0 is blocked",
        ),
        (
            service(RETIRING, BOOTING, replace(SERVING, id=2)),
            "Ready: 1 of 1 workers serve",
        ),
        (service(), "Not ready: there is no worker (0 of 1 workers serve)"),
        (
            service(SERVING, arbiter_alive=False),
            "Not live: the arbiter is gone (1 of 1 workers serve)",
        ),
    ],
)
def test_the_verdict_is_that_of_the_probes(facts: ServiceFacts, verdict: str) -> None:
    assert verdict in shown(facts).text


def test_a_row_has_what_is_wrong_with_its_worker_and_its_last_error() -> None:
    worker = replace(SERVING, problems=["is <late>", "is full"], last_error="no & no")
    workers = page.sections(service(worker), Recent())["workers"]
    assert (
        "<p>is &lt;late&gt;</p><p>is full</p><p>last error: no &amp; no</p></td>"
        in workers
    )


def test_the_last_reloads_say_when_and_how_they_went() -> None:
    latest = [
        Reload(0.0, "failed"),
        Reload(3600.0, "good"),
        Reload(7200.0, "under way"),
    ]
    reloads = Reloads(generation=4, latest=latest)
    read = shown(service(SERVING, reloads=reloads)).text
    [part] = re.findall("Generation(.*)Workers started", read)
    assert part == (
        "4Reloads"
        "1970-01-01 02:00:00 UTC ○ under way"
        "1970-01-01 01:00:00 UTC ✔ worked"
        "1970-01-01 00:00:00 UTC ✖ failed; old workers serve on"
    )
    assert {reload.outcome for reload in latest} < set(page.OUTCOMES)


def test_what_several_workers_log_is_shown_once() -> None:
    lines = [
        LogLine(1.0, "ERROR", 0, 7, "no such thing", 3),
        LogLine(2.0, "WARNING", None, 5, "it is late"),
        LogLine(3.0, "ERROR", 2, 9, "no such thing"),
    ]
    log = page.sections(service(SERVING), Recent([], lines))["log"]
    assert re.findall(r"<span>(.*?)</span></p>(.*?)</li>", log) == [
        ("workers 0, 2 · 4 times", "no such thing"),
        ("arbiter", "it is late"),
    ]


@pytest.mark.parametrize(
    ("p99", "text"),
    [
        (None, "-"),
        (0.001, "< 5 ms"),
        (0.2345, "234 ms"),
        (1.26, "1.3 s"),
        (10, "> 10 s"),
    ],
)
def test_an_estimate_is_not_more_exact_than_its_buckets(
    p99: float | None, text: str
) -> None:
    point = Point(ago=0.0, rate=1.0, errors=0.0, mean=None, p50=None, p99=p99)
    trend = page.sections(service(SERVING), Recent([point]))["trend"]
    assert f'<p class="figure">{html.escape(text)}</p>' in trend
