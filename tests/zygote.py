"""Processes of their own for tests that kill, count or look into one, without the seconds that importing takes each.

A fresh Python that asks for torch and transformers is ten seconds of work. So one process of this file (a zygote)
imports what depends on no variable of the environment, once; for each program it then forks, and the fork sets the
environment, the working directory, the standard streams and the signals it is asked to have before it runs a line. It
has imported neither transformers nor huggingface_hub, which read the environment as they are imported, nor anything of
ours. Where the environment is the tests' own, a fork of it that has imported all of that too is asked instead.

No claim about a fresh interpreter (what it imports, how soon, its hash seed, PYTHONPATH) can be tested with these.
"""

import atexit
import functools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import IO, Any

PLAINSPOKEN = "from plainspoken.cli import main; main()"
"""The program of the command line: its arguments are the words after `plainspoken`."""
ANYWHERE = (
    "torch", "torch.distributed.tensor", "torch._dynamo", "torch._dynamo.convert_frame", "torch.export", "numpy",
    "scipy.stats", "scipy.sparse", "sklearn.isotonic", "sklearn.metrics", "pydantic", "typer", "rich.progress",
    "matplotlib.figure", "jinja2", "pyarrow.parquet", "sqlite3", "safetensors", "openai",
)  # fmt: skip
HERE = ("transformers.models.gpt_neox.modeling_gpt_neox", "plainspoken.pipeline", "plainspoken.cli")
"""What is imported beside them for programs in the environment of the tests."""
UNREAD = {"OMP_NUM_THREADS", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK"}
"""Variables that no import reads."""
STREAMS = ("stdin", "stdout", "stderr")


class Forked:
    """A running program, to be handled as a `subprocess.Popen` of text is."""

    def __init__(self, told: socket.socket, pipes: Mapping[str, IO[str]]) -> None:
        self.told = told
        self.pid = struct.unpack("!i", read_all(told, 4))[0]
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = (pipes.get(name) for name in STREAMS)

    def poll(self) -> int | None:
        """How it ended, or None while it runs."""
        if self.returncode is None and select.select([self.told], [], [], 0)[0]:
            self.returncode = os.waitstatus_to_exitcode(struct.unpack("!i", read_all(self.told, 4))[0])
            self.told.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self.told], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a fork of the zygote", timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, sent: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sent)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Gives it its input, and waits for its end and for what it says on the streams that are pipes."""
        said: dict[str, str] = {}
        readers = [
            threading.Thread(target=lambda name=name, pipe=pipe: said.update({name: pipe.read()}), daemon=True)
            for name, pipe in (("stdout", self.stdout), ("stderr", self.stderr))
            if pipe is not None
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            with suppress(BrokenPipeError):  # it ended first, as Popen has it
                self.stdin.write(input or "")
            with suppress(BrokenPipeError):
                self.stdin.close()
        until = None if timeout is None else time.monotonic() + timeout
        self.wait(timeout)
        for reader in readers:
            reader.join(None if until is None else max(0.0, until - time.monotonic()))
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        return said.get("stdout"), said.get("stderr")


def start(code: str, *argv: str, env: Mapping[str, str] | None = None, **streams: int | None) -> Forked:
    """The program `code` as `python -c code *argv` in this environment; a stream is PIPE, DEVNULL or this process's."""
    env = dict(os.environ if env is None else env)
    zygote = here() if own(env) == own(os.environ) else anywhere()
    mine: dict[str, IO[str]] = {}
    theirs: list[int] = []
    for number, (name, mode) in enumerate(zip(STREAMS, "rww", strict=True)):
        if streams.get(name) == subprocess.PIPE:
            reading, writing = os.pipe()
            theirs.append(reading if mode == "r" else writing)
            mine[name] = os.fdopen(writing if mode == "r" else reading, "w" if mode == "r" else "r")
        elif streams.get(name) == subprocess.DEVNULL:
            theirs.append(os.open(os.devnull, os.O_RDWR))
        elif streams.get(name) == subprocess.STDOUT:
            theirs.append(os.dup(theirs[1]))
        else:
            theirs.append(os.dup(number))
    task = {"code": code, "argv": argv, "env": env, "folder": os.getcwd()}
    try:
        return Forked(ask(zygote, task, theirs), mine)
    finally:
        for each in theirs:
            os.close(each)


def run(
    code: str, *argv: str, env: Mapping[str, str] | None = None, input: str | None = None,
    capture_output: bool = False, check: bool = False, timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """`subprocess.run` of a program."""
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE) if capture_output else {}
    program = start(code, *argv, env=env, stdin=None if input is None else subprocess.PIPE, **streams)
    try:
        stdout, stderr = program.communicate(input, timeout)
    except BaseException:
        program.kill()
        raise
    assert program.returncode is not None
    done = subprocess.CompletedProcess([*argv], program.returncode, stdout, stderr)
    if check:
        done.check_returncode()
    return done


def own(env: Mapping[str, str]) -> dict[str, str]:
    """An environment without what no import reads: that differs from test to test."""
    return {name: env[name] for name in env if not name.startswith("PYTEST_") and name not in UNREAD}


def meetings(world: int) -> list[dict[str, str]]:
    """The environments in which so many processes meet as torchrun's do, by the variables that it gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
    return [{**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


@functools.cache
def anywhere() -> socket.socket:
    """The line to this worker's zygote, which ends when this end is closed: with this process at the latest."""
    mine, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [sys.executable, __file__, str(its.fileno())], env={**os.environ, "OMP_NUM_THREADS": "1"},
            pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    atexit.register(lambda: (mine.close(), process.wait(timeout=60)))
    return mine


@functools.cache
def here() -> socket.socket:
    """The line to the fork of it that has imported what reads the environment of the tests."""
    task = {"code": None, "argv": (), "env": dict(os.environ), "folder": os.getcwd()}
    line = ask(anywhere(), task, [0, 1, 2])
    atexit.register(line.close)  # before the other's, of which it is a fork
    return line


def ask(zygote: socket.socket, task: dict[str, Any], streams: list[int]) -> socket.socket:
    """Sends a task with its streams; the line on which its pid and then its status are told."""
    mine, its = socket.socketpair()
    with its:
        words = json.dumps(task).encode()
        socket.send_fds(zygote, [struct.pack("!I", len(words))], [*streams, its.fileno()])
        zygote.sendall(words)
    return mine


def read_all(line: socket.socket, size: int) -> bytes:
    """So many bytes; fewer where the other end is closed."""
    found = b""
    while len(found) < size and (more := line.recv(size - len(found))):
        found += more
    return found


def serve(line: socket.socket, modules: tuple[str, ...]) -> str:
    """Imports, then forks for each task until nobody is there to give one; returns, in each fork, what it shall run."""
    import gc
    import importlib

    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that no fork copies these pages only to look through them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the tests' to handle: this ends with them
    signal.signal(signal.SIGCHLD, reap)
    serving: list[int] = []
    while True:
        head, descriptors, _, _ = socket.recv_fds(line, 4, 4)
        if not head:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with suppress(ChildProcessError):
                for pid in serving:  # whose lines were closed before
                    os.waitpid(pid, 0)
            os._exit(0)
        task = json.loads(read_all(line, struct.unpack("!I", head)[0]))
        *streams, told = descriptors
        pid = os.fork()
        if not pid:
            line.close()
            if task["code"] is None or not keep(socket.socket(fileno=told), streams):
                return become(task, streams, told)
        if task["code"] is None:
            serving.append(pid)
        for each in descriptors:
            os.close(each)


def reap(*_: object) -> None:
    """Waits for what has ended, so that its seconds are told as of this process's children."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def keep(told: socket.socket, streams: list[int]) -> bool:
    """Forks the program and, as its parent, tells its pid and how it ends; False in the program itself."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        told.detach()
        return False
    for each in streams:  # or whoever reads them would wait for this process too
        os.close(each)
    told.sendall(struct.pack("!i", pid))
    with suppress(BrokenPipeError):  # who asked is gone
        told.sendall(struct.pack("!i", os.waitpid(pid, 0)[1]))
    os._exit(0)


def become(task: dict[str, Any], streams: list[int], told: int) -> str:
    """Makes this fork the process that was asked for, up to its first line, which is returned."""
    os.environ.clear()
    os.environ.update(task["env"])
    os.chdir(task["folder"])
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    if task["code"] is None:
        return serve(socket.socket(fileno=told), HERE)
    os.close(told)
    import numpy

    numpy.random.seed()  # or all forks would draw the same; Python's own generator sees to that itself
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    sys.argv, sys.path[0] = ["-c", *task["argv"]], ""
    sys.modules["__main__"] = ModuleType("__main__")
    return task["code"]


if __name__ == "__main__":
    # A fork comes back from here as any program does that has just begun: its end, too, is the interpreter's own.
    program = compile(serve(socket.socket(fileno=int(sys.argv[1])), ANYWHERE), "<string>", "exec")
    exec(program, sys.modules["__main__"].__dict__)
