"""Methods that a subclass overrides are called, or named at start."""

from __future__ import annotations

import re
import signal

import pytest

from .conftest import Check, Migrate
from .subclasses import (
    INIT,
)

OVERRIDES = """
class Mine(UvicornWorker):
    async def callback_notify(self):
        say("callback_notify")
        await super().callback_notify()

    def notify(self):
        say("notify")
        super().notify()

    def handle_usr1(self, sig, frame):
        say("handle_usr1")
        super().handle_usr1(sig, frame)

    def handle_exit(self, sig, frame):
        say("handle_exit")
        super().handle_exit(sig, frame)

    def _install_sigquit_handler(self):
        say("_install_sigquit_handler")
        super()._install_sigquit_handler()

    def init_signals(self):
        say("init_signals")
        super().init_signals()

    def init_process(self):
        say("init_process")
        super().init_process()

    def load_wsgi(self):
        say("load_wsgi")
        super().load_wsgi()

    def run(self):
        say("run")
        super().run()

    @classmethod
    def check_config(cls, cfg, log):
        say("check_config")
        super().check_config(cfg, log)
"""
CALLED_ONCE = ("init_signals", "init_process", "load_wsgi", "run", "check_config")


def test_each_method_that_is_overridden_is_called(
    migrate: Migrate, check: Check
) -> None:
    service = migrate(OVERRIDES)
    service.wait_said("callback_notify", 2)
    service.wait_said("notify", 2)
    service.wait_said("_install_sigquit_handler")
    for name in CALLED_ONCE:
        assert len(service.said(name)) == 1, name
    [worker] = service.workers()
    service.kill(signal.SIGUSR1, worker)
    service.wait_said("handle_usr1")
    service.kill(signal.SIGQUIT, worker)
    service.wait_said("handle_exit")
    service.wait_gone(worker)
    for name in "handle_usr1", "handle_exit":
        assert len(service.said(name)) == 1, name
    service.ready(2)
    assert "never called" not in service.log
    assert "never called" not in check(OVERRIDES).stdout


def test_callback_notify_is_called_once_a_beat(
    migrate: Migrate,
) -> None:
    callback = """
class Mine(UvicornWorker):
    beats = 0
    def _noted(self):
        say("beat")
    def notify(self):
        self._noted()
        super().notify()
    async def callback_notify(self):
        say("callback")
"""
    service = migrate(callback)
    service.wait_said("callback", 4)
    assert service.stop() == 0
    assert abs(len(service.said("callback")) - len(service.said("beat"))) <= 1


@pytest.mark.parametrize(
    "how",
    [
        "self.config.callback_notify = self.mine",
        "self.CONFIG_KWARGS = {'callback_notify': self.mine}",
        "self.callback_notify = self.mine",
    ],
)
def test_another_callback_takes_its_place(migrate: Migrate, how: str) -> None:
    service = migrate(f"""
class Mine(UvicornWorker):
    {INIT}
        {how}
    async def mine(self):
        say("mine")
        raise ValueError("of the callback")
""")
    service.wait_said("mine", 2)
    service.wait_log("Exception in callback_notify")
    assert service.get().status_code == 200


SIGNALS = """
class Mine(UvicornWorker):
    def init_signals(self):
        for signum in self.SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self.mine)
        signal.signal(signal.SIGUSR2, self.mine)

    def mine(self, signum, frame):
        say(signal.Signals(signum).name)
"""


def test_handlers_of_ones_own_are_called_and_what_was_reset_is_mended(
    migrate: Migrate,
) -> None:
    service = migrate(SIGNALS)
    [worker] = service.workers()
    for signum in signal.SIGUSR1, signal.SIGUSR2:
        service.kill(signum, worker)
        service.wait_said(signum.name)
    service.kill(signal.SIGHUP, worker)  # whose default is to end the process
    assert service.get().status_code == 200
    assert service.workers() == [worker]
    service.kill(signal.SIGABRT, worker)  # as the arbiter does to one that hangs
    service.wait_log("No heartbeat for .* Its stacks:")
    service.ready(2)


@pytest.mark.parametrize(
    ("subclass", "sentence"),
    [
        ("def handle_quit(self, sig, frame): ...", "handle_quit .*worker_int"),
        ("def handle_abort(self, sig, frame): ...", "handle_abort .*worker_abort"),
        ("def handle_winch(self, sig, frame): ...", "handle_winch .*WINCH"),
        ("def handle_error(self, *args): ...", "handle_error .*exception handlers"),
        ("SIGNALS = [signal.SIGTERM]", "SIGNALS .*init_signals"),
        ("def install_signal_handlers(self): ...", "install_signal_.*init_signals"),
        ("async def shutdown(self, sockets=None): ...", "shutdown .*worker_exit"),
        ("async def startup(self, sockets=None): ...", "startup .*post_worker_init"),
        ("async def on_tick(self, counter): ...", "on_tick .*callback_notify"),
        ("config = uvicorn.Config(None)", "config is never used: write to self.config"),
        ("def config(self): ...", "config is never used: .*CONFIG_KWARGS"),
    ],
)
def test_an_override_that_nobody_calls_is_named_with_what_to_use(
    migrate: Migrate, check: Check, subclass: str, sentence: str
) -> None:
    source = f"class Mixin:\n    {subclass}\nclass Mine(Mixin, UvicornWorker): ...\n"
    service = migrate(source)
    assert len(service.wait_log(rf"Mixin\.{sentence}")) == 1
    done = check(source)
    assert done.returncode == 0, done
    assert re.search(sentence, done.stdout)


def test_an_override_that_the_subclass_itself_calls_is_not_named(
    check: Check,
) -> None:
    done = check("""
class Mine(UvicornWorker):
    def init_signals(self):
        super().init_signals()
        signal.signal(signal.SIGABRT, self.handle_abort)
    def handle_abort(self, sig, frame): ...
""")
    assert "handle_abort" not in done.stdout


ABORTING = """
class Mine(UvicornWorker):
    def init_signals(self):
        super().init_signals()
        signal.signal(signal.SIGABRT, self.handle_abort)
    def handle_abort(self, sig, frame):
        say("handle_abort")
        super().handle_abort(sig, frame)
"""
BLOCKING = """
import time
async def app(scope, receive, send):
    if scope["type"] == "http":
        time.sleep(3600)
    await receive()
"""


def test_worker_abort_runs_once_beside_a_handle_abort(migrate: Migrate) -> None:
    conf = "def worker_abort(worker): print(worker.pid, 'hook', flush=True)"
    service = migrate(ABORTING, "--timeout", "2", source=BLOCKING, conf=conf)
    [worker] = service.workers()
    service.begin("/")
    service.ready(2)
    assert service.said("hook") == [worker]
    assert service.said("handle_abort") == [worker]
