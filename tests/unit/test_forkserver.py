"""A command that is run as a fork is the command: its output, its end, its signals; without a server it runs itself."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
import os, signal, sys, time
what, *words = sys.argv[1:]
if what == "say":
    print(os.getcwd(), os.environ.get("LETTER"), sys.argv[0].rpartition("/")[2], *words, sys.stdin.read())
    print("oh", file=sys.stderr)
    sys.exit(7)
if what == "fail":
    raise RuntimeError("so")
if what == "refuse":
    sys.exit("no: it is wrong")
if what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "wait":
    open(words[0] + ".pid", "w").write(f"{os.getpid()} {os.getppid()}")
    try:
        while not os.path.exists(words[0]):
            time.sleep(0.01)
    except KeyboardInterrupt:
        open(words[0] + ".interrupted", "w").close()
if what == "learn":
    print("shardmark.printable" in sys.modules)
    import shardmark.printable
    sys.exit(5)
if what == "again":
    print(os.getpid(), os.getcwd(), os.environ.get("LEFT"), sys.stdin.read())
    os.environ["LEFT"] = "behind"
    os.chdir("/")
    for name in words:
        __import__(name)
"""


@dataclass
class Scripts:
    """A folder of commands, and a process that is the run."""

    folder: Path
    owner: "subprocess.Popen[bytes]"
    variables: dict[str, str]

    def start(self, *words: str, forked: str = "required", command: str = "command.py", **more: Any) -> Any:
        """Start a command as a fork."""
        arguments = [sys.executable, "-S", str(self.folder / "warm.py"), "test", str(self.owner.pid), command, *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = self.variables | {"SHARDMARK_FORKS": forked} | more.pop("env", {})
        return subprocess.Popen(arguments, cwd=self.folder, env=environment, text=True, **pipes, **more)

    def run(self, *words: str, given: str = "", **more: Any) -> tuple[int, str, str]:
        """How a command ends, and what it says."""
        process = self.start(*words, **more)
        out, err = process.communicate(given, timeout=60)
        return process.returncode, out, err

    def servers(self) -> list[psutil.Process]:
        """Those of the run that live."""
        script = str(self.folder / "forkserver.py")
        found = [one for one in psutil.process_iter(["cmdline", "ppid"]) if script in (one.info["cmdline"] or ())]
        return [one for one in found if one.info["ppid"] not in {each.pid for each in found}]  # forks look like it


def until(met: Callable[[], Any]) -> Any:
    """What a condition gives as soon as it is met."""
    deadline = time.monotonic() + 60
    while not (found := met()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def written(gate: Path) -> tuple[int, int]:
    """The process that waits at a gate, and its parent."""
    file = Path(f"{gate}.pid")
    process, parent = until(lambda: file.exists() and file.read_text().split())
    return int(process), int(parent)


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    """Each has a run of its own."""
    for name in ("warm.py", "forkserver.py", "guard.py", "shardmark"):
        whole = ROOT / "scripts" / name
        shutil.copytree(whole, tmp_path / name) if whole.is_dir() else shutil.copy(whole, tmp_path)
    (tmp_path / "command.py").write_text(COMMAND)
    variables = {"PATH": os.environ["PATH"], "LETTER": "b"}
    with subprocess.Popen(["sleep", "600"]) as owner:
        made = Scripts(tmp_path, owner, variables)
        yield made
        owner.kill()
        until(lambda: not made.servers())  # no server outlives its run


def test_a_fork_has_the_arguments_files_folder_and_variables_of_its_client_and_its_end(scripts: Scripts) -> None:
    said = (7, f"{scripts.folder} b command.py two words hello\n", "oh\n")
    assert scripts.run("say", "two words", given="hello") == said
    assert scripts.run("say", "two words", given="hello", forked="off") == said


def test_errors_are_told_as_python_tells_them(scripts: Scripts) -> None:
    status, _, told = scripts.run("fail")
    assert (status, told.splitlines()[-1]) == (1, "RuntimeError: so")
    assert scripts.run("refuse") == (1, "", "no: it is wrong\n")
    assert scripts.run("die")[0] == -signal.SIGKILL


def test_one_server_serves_many_at_once(scripts: Scripts) -> None:
    gates = [scripts.folder / f"gate{number}" for number in range(5)]
    waiting = [scripts.start("wait", str(gate)) for gate in gates]
    parents = {written(gate)[1] for gate in gates}
    assert [*parents] == [one.pid for one in scripts.servers()]
    for gate, process in zip(gates, waiting, strict=True):
        gate.touch()
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_command_ends_with_its_client(scripts: Scripts, how: signal.Signals) -> None:
    gate = scripts.folder / "gate"
    process = scripts.start("wait", str(gate))
    written(gate)
    process.send_signal(how)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -how
    until(lambda: Path(f"{gate}.interrupted").exists())  # it may put things away


def test_what_a_dead_server_had_begun_is_done_without_it(scripts: Scripts) -> None:
    gate = scripts.folder / "gate"
    process = scripts.start("wait", str(gate), forked="")
    child, _ = written(gate)
    (server,) = scripts.servers()
    server.kill()
    until(lambda: not psutil.pid_exists(child))
    until(lambda: written(gate)[0] == process.pid)
    gate.touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert scripts.run("say")[0] == 7  # another server takes the socket of the dead one


def test_where_there_can_be_no_server_the_command_runs_itself(scripts: Scripts) -> None:
    (scripts.folder / "forkserver.py").write_text("raise SystemExit(3)")
    assert scripts.run("say", forked="")[0] == 7
    assert scripts.run("say") == (1, "", "command.py: not forked, although SHARDMARK_FORKS is required\n")


def test_other_variables_than_the_servers_are_not_for_it(scripts: Scripts) -> None:
    """A library may have read them when it was imported."""
    assert scripts.run("say")[0] == 7
    other = {"LETTER": "c"}
    assert scripts.run("say", env=other, forked="") == (7, f"{scripts.folder} c command.py \n", "oh\n")
    assert scripts.run("say", env=other)[0] == 1
    assert scripts.run("say", env={"SHLVL": "9"}) == (7, f"{scripts.folder} b command.py \n", "oh\n")


def test_a_server_imports_what_a_command_of_it_had_to(scripts: Scripts) -> None:
    (scripts.folder / "shardmark/rare.py").write_text("")
    learning = COMMAND.replace("shardmark.printable", "shardmark.rare")
    (scripts.folder / "command.py").write_text(learning)
    assert scripts.run("learn")[1] == "False\n"
    until(lambda: scripts.run("learn")[1] == "True\n")


def test_a_fork_whose_command_ended_well_runs_the_next(scripts: Scripts) -> None:
    here = str(scripts.folder)
    first, *rest = scripts.run("again", given="a")[1].split()
    assert rest == [here, "None", "a"]
    assert scripts.run("again", given="b")[1].split() == [first, here, "None", "b"]
    assert scripts.run("say", given="c") == (7, f"{here} b command.py c\n", "oh\n")  # runs there, and ends badly
    assert scripts.run("again")[1].split()[0] != first


def test_a_fork_that_has_imported_what_is_not_ours_runs_nothing_else(scripts: Scripts) -> None:
    """It may be anybody's code, with a state of its own."""
    (scripts.folder / "foreign.py").write_text("")
    (scripts.folder / "shardmark/rare.py").write_text("")
    first = scripts.run("again", "shardmark.rare")[1].split()[0]
    assert scripts.run("again", "foreign")[1].split()[0] == first
    assert scripts.run("again")[1].split()[0] != first


AHEAD = """
import os
def begin():
    with open(__file__ + ".pid", "w") as file:
        file.write(str(os.getpid()))
"""


def test_the_first_fork_works_ahead_of_its_command(scripts: Scripts) -> None:
    (scripts.folder / "shardmark/ahead.py").write_text(AHEAD)
    server = scripts.folder / "shardmark/processes/forkserver.py"
    server.write_text(server.read_text().replace("AHEAD = {", 'AHEAD = {"test": "shardmark.ahead:begin", '))
    first = scripts.run("again")[1].split()[0]
    assert (scripts.folder / "shardmark/ahead.py.pid").read_text() == first


@pytest.mark.slow
def test_a_fork_with_a_client_gets_no_other(scripts: Scripts) -> None:
    first = scripts.run("again")[1].split()[0]
    gate = scripts.folder / "gate"
    waiting = scripts.start("wait", str(gate))
    assert str(written(gate)[0]) == first
    assert scripts.run("again")[1].split()[0] != first
    waiting.kill()  # it interrupts the command, whose process then serves nobody
    waiting.communicate(timeout=60)
    until(lambda: not psutil.pid_exists(int(first)))


def test_a_command_that_ends_before_its_client_goes_on_is_not_run_again(scripts: Scripts) -> None:
    """On a busy machine: the client has sent everything, and the server has answered and gone."""
    with ThreadPoolExecutor(8) as pool:
        ended = [*pool.map(lambda number: scripts.run("again", given=str(number)), range(40))]
    assert {(status, told) for status, _, told in ended} == {(0, "")}
    assert sorted(int(out.split()[-1]) for _, out, _ in ended) == [*range(40)]


def test_only_commands_beside_it_are_run(scripts: Scripts) -> None:
    (scripts.folder / "below").mkdir()
    (scripts.folder / "below/command.py").write_text(COMMAND)
    assert scripts.run("say", command="below/command.py")[0] == 1


def test_a_client_imports_nothing_that_python_has_not_imported_anyway(scripts: Scripts) -> None:
    """It is started for every job."""
    code = "import sys; before = {*sys.modules}; import shardmark.processes.forked; print(*{*sys.modules} - before)"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=scripts.folder, capture_output=True, text=True, check=True)
    own = {"shardmark", "shardmark.processes", "shardmark.processes.forked", "shardmark.processes.places"}
    own.add("shardmark.installation")
    assert set(done.stdout.split()) <= own | {
        "os",
        "os.path",
        "stat",
        "_stat",
        "posixpath",
        "genericpath",
        "_socket",
        "_collections_abc",
    }
