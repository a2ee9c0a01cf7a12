"""What a malicious transform can reach from its environment: tests each promise of docs/isolation.md."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.hostile_project import codes_of, run_attacks, write_hostile
from tests.builders.isolated_project import share_packages
from turnout.gateway.functions.isolated.landlock import SIGNALS_ABI, TCP_ABI, landlock_abi

needs_landlock = pytest.mark.skipif(landlock_abi() < SIGNALS_ABI, reason="the kernel has no Landlock 6")

DENIED = {"PermissionError", "OSError", "ProcessLookupError", "ConnectionRefusedError"}

RUN_VARIABLE = "TURNOUT_TEST_LEFT_BEHIND"

LEAVE_BEHIND = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        os.chdir("/")
        sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
        os.execve(sleep[0], sleep, {{"{RUN_VARIABLE}": "%s"}})
    os._exit(0)
os.wait()
result = "left"
"""

PTRACE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
result = (libc.ptrace(16, %d, None, None), ctypes.get_errno())
"""

READ_MEMORY = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(8)
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
local, remote = Vector(ctypes.addressof(buffer), 8), Vector(id(libc), 8)
result = (libc.process_vm_readv(%d, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0), ctypes.get_errno())
"""

FAST_OPEN = """
import socket
connection = socket.socket()
result = connection.sendto(b"x", 0x20000000, ("127.0.0.1", %d))
"""

MULTIPATH = """
import socket
connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
connection.connect(("127.0.0.1", %d))
result = "connected"
"""


def attacks_on(project: Path, port: int, unix: Path) -> dict[str, str]:
    """Name -> Python code that must fail."""
    me = os.getpid()
    return {
        "keys": f"result = open({str(project / '.turnout/api_keys.json')!r}).read()",
        "manifest read": f"result = open({str(project / 'models.yaml')!r}).read()",
        "manifest written": f"open({str(project / 'models.yaml')!r}, 'a').write('x')",
        "manifest replaced": f"import os; os.replace('/dev/null', {str(project / 'models.yaml')!r})",
        "manifest removed": f"import os; os.unlink({str(project / 'models.yaml')!r})",
        "project listed": f"import os; result = os.listdir({str(project)!r})",
        "home": "import os; result = os.listdir('/root')",
        "temporary files": "open('/tmp/left-by-a-transform', 'w')",
        "layer": "import numpy; open(numpy.__file__, 'a').write('x')",
        "package": "open(__import__('os').environ['LAMBDA_TASK_ROOT'] + '/function.json', 'a')",
        "package mode": "import numpy, os; os.chmod(numpy.__file__, 0o666); open(numpy.__file__, 'a').write('x')",
        "new file in package": "open(__import__('os').environ['LAMBDA_TASK_ROOT'] + '/x.py', 'w')",
        "bytecode": "import numpy, os; os.mkdir(os.path.dirname(numpy.__file__) + '/__pycache__x')",
        "server's environment": f"result = open('/proc/{me}/environ', 'rb').read()",
        "server's memory": f"result = open('/proc/{me}/mem', 'rb')",
        "server's files": f"import os; result = os.listdir('/proc/{me}/fd')",
        "keeper's environment": "import os; result = open(f'/proc/{os.getppid()}/environ', 'rb').read()",
        "signal to the server": f"import os; os.kill({me}, 0)",
        "signal to the keeper": "import os; os.kill(os.getppid(), 19)",
        "signal by pidfd": f"import os, signal; signal.pidfd_send_signal(os.pidfd_open({me}), 0)",
        "server's port": f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)",
        "server's port by IPv6": f"import socket; socket.create_connection(('::ffff:127.0.0.1', {port}), 5)",
        "fast open": FAST_OPEN % port,
        "multipath": MULTIPATH % port,
        "unix socket": f"import socket; socket.socket(socket.AF_UNIX).connect({str(unix)!r})",
        "listening": "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()",
        "new user namespace": "import ctypes, os; l = ctypes.CDLL(None, use_errno=True); "
        "assert l.unshare(0x10000000) == 0; result = 'made'",
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_hostile(tmp_path_factory.mktemp("hostile"))
    share_packages(folder, tmp_path_factory)
    (folder / ".turnout" / "api_keys.json").write_text('{"dev": "secret"}')
    return folder


@pytest.fixture
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A port like the gateway's, and a socket like Docker's."""
    path = tmp_path_factory.mktemp("unix") / "s"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        path.chmod(0o777)
        path.parent.chmod(0o755)
        yield tcp.getsockname()[1], path


def processes_of(run_id: str) -> list[int]:
    results = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{RUN_VARIABLE}={run_id}".encode() in (entry / "environ").read_bytes():
                    results.append(int(entry.name))
            except OSError:
                continue
    return results


def check(result: dict[str, str], project: Path, before: bytes) -> None:
    answers = {"ptrace": result.pop("ptrace"), "process_vm_readv": result.pop("process_vm_readv")}
    assert {name: text for name, text in result.items() if text not in {*DENIED, "AssertionError"}} == {}
    assert answers == {"ptrace": "(-1, 1)", "process_vm_readv": "(-1, 1)"}
    assert (project / "models.yaml").read_bytes() == before
    assert not Path("/tmp/left-by-a-transform").exists()


@needs_landlock
def test_a_transform_cannot_reach_the_server_or_the_machine(
    project: Path, listeners: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "secret")
    before = (project / "models.yaml").read_bytes()
    me = os.getpid()
    attacks = {**attacks_on(project, *listeners), "ptrace": PTRACE % me, "process_vm_readv": READ_MEMORY % me}
    check(run_attacks(codes_of(project), attacks), project, before)


@needs_landlock
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes another user")
def test_a_transform_cannot_reach_the_server_or_the_machine_without_root(
    project: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As user 4242, who owns the project, and who may read root's folders, where this Python may be installed."""
    place = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    try:
        folder = write_hostile(place / "project")
        shutil.copytree((project / ".turnout").resolve(), folder / ".turnout", symlinks=False)
        (folder / ".turnout" / "api_keys.json").write_text('{"dev": "secret"}')
        with socket.create_server(("127.0.0.1", 0)) as tcp:
            before = (folder / "models.yaml").read_bytes()
            server = "SERVER"  # the process's own id, which it writes there
            attacks = attacks_on(folder, tcp.getsockname()[1], place / "none")
            attacks |= {
                "server's environment": f"result = open('/proc/%d/environ' % {server}, 'rb').read()",
                "server's memory": f"result = open('/proc/%d/mem' % {server}, 'rb')",
                "server's files": f"import os; result = os.listdir('/proc/%d/fd' % {server})",
                "signal to the server": f"import os; os.kill({server}, 0)",
                "ptrace": PTRACE.replace("%d", server),
                "process_vm_readv": READ_MEMORY.replace("%d", server),
            }
            (place / "attacks.json").write_text(json.dumps(attacks))
            subprocess.check_call(["chown", "-R", "4242:4242", str(place)])
            powers = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
            become = ["setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", *powers]
            arguments = (folder, place / "attacks.json")
            done = subprocess.run(
                [*become, sys.executable, "-m", "tests.builders.hostile_project", *map(str, arguments)],
                cwd=root,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "GATEWAY_SECRET": "secret", "HOME": str(place)},
            )
            assert done.returncode == 0, done.stderr
            check(json.loads(done.stdout), folder, before)
    finally:
        shutil.rmtree(place)


def test_processes_started_by_a_transform_do_not_survive_it(project: Path) -> None:
    run_id = str(time.monotonic_ns())
    codes = codes_of(project)
    result = run_attacks(codes, {"left": LEAVE_BEHIND % run_id, "is there": "result = 1"})
    assert result == {"left": "'left'", "is there": "1"}
    assert processes_of(run_id) == []


def test_a_transform_has_what_it_needs(project: Path) -> None:
    needed = {
        "files of its own": "import tempfile; f = tempfile.TemporaryFile(); result = tempfile.gettempdir()[:13]",
        "home": "from pathlib import Path; a = Path.home() / 'a'; a.write_text('b'); result = a.read_text()",
        "its package": "result = open('function.json').read()[:1]",
        "programs": "import subprocess; result = subprocess.check_output(['/bin/echo', 'hello'])",
        "this Python": "import subprocess, sys; "
        "result = subprocess.check_output([sys.executable, '-I', '-S', '-c', 'print(1)'])",
        "threads": "import threading; t = threading.Thread(target=print); t.start(); t.join(); result = 1",
        "children": "import os; p = os.fork() or os._exit(3); result = os.waitstatus_to_exitcode(os.waitpid(p, 0)[1])",
        "signals to its own": "import subprocess; p = subprocess.Popen(['sleep', '60']); p.kill(); result = p.wait()",
        "pipes": "import socket; a, b = socket.socketpair(); a.send(b'x'); result = b.recv(1)",
        "names": "import socket; result = socket.getaddrinfo('localhost', 443, type=socket.SOCK_STREAM)[0][0].name",
        "time zones": "import zoneinfo; result = zoneinfo.ZoneInfo('UTC').key",
        "randomness": "import os, random; result = len(os.urandom(4))",
        "its own process": "result = open('/proc/self/status').read(5)",
        "kinds of hardware": "from pathlib import Path; devices = Path('/sys/bus/pci/devices'); "
        "result = all((one / 'class').read_text() for one in (devices.iterdir() if devices.exists() else ()))",
        "TLS": "import ssl; result = ssl.create_default_context().verify_mode.name",
    }
    result = run_attacks(codes_of(project), needed)
    assert result["files of its own"] == "'/tmp/turnout-'"
    del result["files of its own"]
    assert result == {
        "home": "'b'",
        "its package": "'{'",
        "programs": "b'hello\\n'",
        "this Python": "b'1\\n'",
        "threads": "1",
        "children": "3",
        "signals to its own": "-9",
        "pipes": "b'x'",
        "names": "'AF_INET'" if result["names"] == "'AF_INET'" else "'AF_INET6'",
        "time zones": "'UTC'",
        "randomness": "4",
        "its own process": "'Name:'",
        "kinds of hardware": "True",
        "TLS": "'CERT_REQUIRED'",
    }


@pytest.mark.skipif(landlock_abi() < TCP_ABI, reason="the kernel's Landlock does not know TCP")
def test_only_listed_ports_can_be_reached(project: Path, listeners: tuple[int, Path]) -> None:
    from dataclasses import replace

    port, _ = listeners
    (code,) = codes_of(project)
    connect = {"connect": f"import socket; socket.create_connection(('127.0.0.1', {port}), 5); result = 'connected'"}
    assert run_attacks([code], connect) == {"connect": "PermissionError"}
    assert run_attacks([replace(code, ports=(port,))], connect) == {"connect": "'connected'"}


def test_files_of_an_environment_are_deleted_with_it(project: Path) -> None:
    result = run_attacks(codes_of(project), {"where": "import tempfile; result = tempfile.mkdtemp()"})
    where = Path(result["where"].strip("'"))
    assert where.parent.name.startswith("turnout-")
    assert not where.parent.exists()
