"""Subclasses of uvicorn's worker in the shapes that public code has.

Each source defines ``Mine``, of the ``UvicornWorker`` that is imported for it.
"""

from __future__ import annotations

from tests.conftest import HELLO

ROOT_PATH = HELLO.replace('b"Hello, world!"', 'scope["root_path"].encode()')

HEAD = """
import asyncio, os, signal, sys
from typing import Any, Dict
import uvicorn
from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvworker import UvicornH11Worker, UvicornWorker

def say(what):
    os.write(1, f"{os.getpid()} {what}\\n".encode())
"""

INIT = """
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
"""

# All of them leave the Server header out, each in its own way.
HEADLESS = {
    "kwargs": """
class Mine(UvicornWorker):
    CONFIG_KWARGS = {"server_header": False}
""",
    "kwargs of the base and more": """
class Mine(UvicornWorker):
    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "server_header": False}
""",
    "kwargs of the base, updated": """
CONFIG_KWARGS = UvicornWorker.CONFIG_KWARGS
CONFIG_KWARGS.update({"server_header": False})
class Mine(UvicornWorker):
    CONFIG_KWARGS = CONFIG_KWARGS
""",
    "annotated kwargs": """
class Mine(UvicornWorker):
    CONFIG_KWARGS: Dict[str, Any] = {
        "loop": "asyncio", "http": "h11", "lifespan": "off", "log_config": None,
        "proxy_headers": True, "forwarded_allow_ips": "*", "timeout_keep_alive": 5,
        "limit_concurrency": 100, "ws": "none", "root_path": "", "access_log": False,
        "headers": [("x-a", "b")], "server_header": False, "reload": False,
        "workers": 1, "use_colors": None, "ws_ping_interval": 5, "date_header": True,
    }
""",
    "kwargs of two levels": """
class Middle(UvicornH11Worker):
    CONFIG_KWARGS = {**UvicornH11Worker.CONFIG_KWARGS, "server_header": False}
class Mine(Middle):
    CONFIG_KWARGS = {**Middle.CONFIG_KWARGS, "lifespan": "off"}
""",
    "kwargs before init": """
class Mine(UvicornWorker):
    def __init__(self, *args, **kwargs):
        self.CONFIG_KWARGS = {**self.CONFIG_KWARGS, "server_header": False}
        super().__init__(*args, **kwargs)
""",
    "kwargs after init": f"""
class Mine(UvicornWorker):
    {INIT}
        self.CONFIG_KWARGS = {{"server_header": False}}
""",
    "kwargs in place": f"""
class Mine(UvicornWorker):
    CONFIG_KWARGS = {{"lifespan": "off"}}
    {INIT}
        self.CONFIG_KWARGS["server_header"] = False
""",
    "a write": f"""
class Mine(UvicornWorker):
    {INIT}
        assert self.config.server_header is True
        self.config.server_header = False
""",
    "a write over kwargs": f"""
class Mine(UvicornWorker):
    CONFIG_KWARGS = {{"server_header": True}}
    {INIT}
        self.config.server_header = False
""",
    "writes of two levels": f"""
class Middle(UvicornWorker):
    {INIT}
        self.config.date_header = True
        self.config.server_header = True
class Mine(Middle):
    {INIT}
        self.config.server_header = False
""",
    "a mixin": f"""
class Mixin:
    {INIT}
        self.config.server_header = False
class Mine(Mixin, UvicornWorker):
    pass
""",
    "a write through the config": f"""
class Mine(UvicornWorker):
    {INIT}
        config = self.config
        for name, value in dict(server_header=False, timeout_keep_alive=7).items():
            setattr(config, name, value)
        assert (config.host, config.loaded, config.app) == ("127.0.0.1", False, None)
        assert config.timeout_keep_alive == 7
        assert isinstance(config, uvicorn.Config)
""",
    "after load": f"""
class Mine(UvicornWorker):
    {INIT}
        self.config.load()
        assert self.config.loaded
        self.config.server_header = False
""",
    "a config of its own": f"""
class Mine(UvicornWorker):
    {INIT}
        self.config = uvicorn.Config(
            app=None, log_config=None, server_header=False,
            timeout_keep_alive=self.cfg.keepalive, timeout_notify=self.timeout,
            callback_notify=self.callback_notify, limit_max_requests=self.max_requests,
            forwarded_allow_ips=self.cfg.forwarded_allow_ips,
            backlog=self.cfg.settings["backlog"].value,
        )
""",
    "a property for the config": f"""
class Mine(UvicornWorker):
    {INIT}
    @property
    def config(self):
        return self._its_config
    @config.setter
    def config(self, config):
        config.server_header = False
        self._its_config = config
""",
    "no config of the class": f"""
class Mine(UvicornWorker):
    config = None
    {INIT}
        self.config.server_header = False
""",
    "in init_process": """
class Mine(UvicornWorker):
    def init_process(self):
        self.config.server_header = False
        super().init_process()
""",
    "in run": """
class Mine(UvicornWorker):
    def run(self):
        self.config.server_header = False
        super().run()
""",
    "a run of its own": """
class Mine(UvicornWorker):
    def run(self):
        self.config.server_header = False
        asyncio.run(self._serve())
""",
    "around _serve": """
class Mine(UvicornWorker):
    async def _serve(self):
        self.config.server_header = False
        await super()._serve()
""",
    "around _serve, by name and in two levels": """
class Middle(UvicornWorker):
    async def _serve(self) -> None:
        await UvicornWorker._serve(self)
class Mine(Middle):
    CONFIG_KWARGS = {"server_header": False}
    async def _serve(self) -> None:
        task = asyncio.create_task(super()._serve())
        await task
""",
}

OWN_HEAD = """
    async def _serve(self):
        self.config.app = self.wsgi
        server = {server}(config=self.config)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
"""
OWN_SERVERS = {
    "in _serve": f"""
class Mine(UvicornWorker):
    CONFIG_KWARGS = {{"server_header": False}}
    {OWN_HEAD.format(server="Server")}
""",
    "a subclass of uvicorn's": f"""
class Draining(Server):
    async def shutdown(self, sockets=None):
        say("shutdown")
        await super().shutdown(sockets)
class Mine(UvicornWorker):
    CONFIG_KWARGS = {{"timeout_graceful_shutdown": 5, "log_level": "info"}}
    {INIT}
        self.config.server_header = False
    {OWN_HEAD.format(server="Draining")}
""",
    "a mixin": f"""
class Mixin:
    {OWN_HEAD.format(server="Server")}
class Mine(Mixin, UvicornWorker):
    CONFIG_KWARGS = {{"server_header": False}}
""",
    "one level up": f"""
class Middle(UvicornWorker):
    CONFIG_KWARGS = {{"loop": "asyncio", "http": "h11", "server_header": False}}
    {OWN_HEAD.format(server="Server")}
class Mine(Middle):
    async def _serve(self):
        await super()._serve()
""",
    "in run": """
class Mine(UvicornWorker):
    def run(self):
        self.config.app = self.wsgi
        self.config.server_header = False
        asyncio.run(Server(config=self.config).serve(sockets=self.sockets))
""",
    "in a helper": """
class Mine(UvicornWorker):
    CONFIG_KWARGS = {"server_header": False}
    async def _serve(self):
        await self._serve_with_drain()
    async def _serve_with_drain(self):
        self.config.app = self.wsgi
        self._server = Server(config=self.config)
        await self._server.serve(sockets=self.sockets)
""",
}

# Each has a task of its own for the worker's `_serve`.
OWN_TASKS = {
    "asyncio.run": """
class Mine(UvicornWorker):
    def run(self):
        asyncio.run(self._serve())
        say("after")
""",
    "run_until_complete": """
class Mine(UvicornWorker):
    def run(self):
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(self._serve())
        say("after")
""",
    "create_task": """
class Mine(UvicornWorker):
    async def _serve(self):
        await asyncio.create_task(super()._serve())
        say("after")
""",
}

# Each runs a task of its own beside the worker's `_serve`.
MONITORS = """
async def for_ever():
    try:
        while True:
            await asyncio.sleep(3600)
    finally:
        say("monitor ended")

async def while_alive(worker):
    while worker.alive:
        await asyncio.sleep(0.1)
    say("monitor ended")
"""

BESIDE = {
    "gather": "await asyncio.gather(super()._serve(), for_ever())",
    "gather, which looks at alive": (
        "await asyncio.gather(while_alive(self), super()._serve())"
    ),
    "gather of results": (
        "await asyncio.gather(super()._serve(), for_ever(), return_exceptions=True)"
    ),
    "wait for the first": """
        tasks = [asyncio.ensure_future(each) for each in (super()._serve(), for_ever())]
        _, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
""",
    "wait for all": """
        tasks = [asyncio.ensure_future(each) for each in (super()._serve(), for_ever())]
        await asyncio.wait(tasks)
""",
    "a task left behind": """
        self.monitor = asyncio.create_task(for_ever())
        await super()._serve()
""",
    "a task that it cancels": """
        monitor = asyncio.create_task(for_ever())
        try:
            await super()._serve()
        finally:
            monitor.cancel()
""",
    "started later": """
        serving = asyncio.create_task(super()._serve())
        await asyncio.sleep(0.1)
        await asyncio.gather(serving, for_ever())
""",
    "a task group": """
        serving = super()._serve()
        async with asyncio.TaskGroup() as group:
            group.create_task(for_ever())
            group.create_task(serving)
""",
}


def kwargs(**values: object) -> str:
    return f"class Mine(UvicornWorker):\n    CONFIG_KWARGS = {values!r}\n"


def writes(line: str) -> str:
    return f"class Mine(UvicornWorker):\n    {INIT}\n        {line}\n"
