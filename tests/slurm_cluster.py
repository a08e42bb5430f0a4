"""A real Slurm cluster on this machine: slurmctld, two slurmd with four made-up GPUs each, and munge.

The daemons find their configuration in /etc/slurm only, since jobs lose SLURM_CONF on the way to their steps. What was
there is put back at the end. Without accounting, what a job came to is known for five minutes; with it, slurmdbd keeps
it in a MariaDB of its own, and who has no account cannot submit.
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

CONFIGURATION = Path("/etc/slurm")
NODES = ("n1", "n2")
GPUS = 4
MUNGE = ("socket", "key-file", "pid-file", "log-file", "seed-file")
KEPT = ".kept-by-shardmark"
SECONDS = 60.0
ACTIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED")
SLURM_CONF = """
ClusterName=shardmark
SlurmctldHost={host}
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
{accounting}
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=15
KillWait=2
MinJobAge=300
CompleteWait=0
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PropagateResourceLimits=NONE
NodeName={nodes} NodeHostname={host} Port={ports} CPUs=16 RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=9 PreemptMode=OFF State=UP
PartitionName=cancelled Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=CANCEL State=UP
"""
ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={host}
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge/socket
AccountingStorageEnforce=associations"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost={host}
DbdPort={slurmdbd}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb}
StorageUser=slurm
StoragePass=of-the-test
"""
ACCOUNT = "lab"
"The one there is with accounting, and its one user is root."
DATABASE_USER = "GRANT ALL ON *.* TO slurm@'127.0.0.1' IDENTIFIED BY 'of-the-test';\n"
JOB = re.compile(r"(\w+(?:/\w+)?)=(\S*)")


def until(met: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """What a condition gives as soon as it is met. Raises AssertionError, with `what` was awaited, after so long."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


def command(*words: str) -> str:
    """The output of a program, which must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Cluster:
    """The daemons, and what a test asks of them or does to them."""

    folder: Path
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start a daemon: `munged`, `mariadbd`, `slurmdbd`, `slurmctld`, or the slurmd of a node."""
        data = self.folder / "mariadb"
        words = {
            "munged": ["munged", "--foreground", *(f"--{key}={self.folder}/munge/{key}" for key in MUNGE)],
            "mariadbd": ["mariadbd", f"--defaults-file={data}.cnf"],
            "slurmdbd": ["slurmdbd", "-D"],
            "slurmctld": ["slurmctld", "-D"],
        }.get(name, ["slurmd", "-D", "-N", name])
        user: dict[str, Any] = {"user": "munge", "group": "munge", "extra_groups": []} if name == "munged" else {}
        with open(self.folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=_environment(),
                **user,
            )

    def kill(self, name: str) -> None:
        """A daemon, and of a node everything that runs on it, dies at once."""
        daemon = self.daemons.pop(name)
        jobs = {job["JobId"] for job in self.active() if job.get("NodeList") == name} if name in NODES else set()
        daemon.kill()
        daemon.wait()
        _kill([process for process in psutil.process_iter() if _of_jobs(process, jobs)])

    def up(self) -> bool:
        """Whether all nodes take jobs."""
        done = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %t"], capture_output=True, text=True)
        states = dict(line.split() for line in done.stdout.splitlines())
        return done.returncode == 0 and all(states.get(node) in ("idle", "mix", "alloc") for node in NODES)

    def jobs(self) -> list[dict[str, str]]:
        """What `scontrol` knows of all jobs of the last five minutes."""
        text = command("scontrol", "--oneliner", "show", "job")
        return [dict(JOB.findall(line)) for line in text.splitlines() if line.startswith("JobId=")]

    def active(self) -> list[dict[str, str]]:
        """Jobs that are not over."""
        return [job for job in self.jobs() if job["JobState"] in ACTIVE]

    def job(self, number: str) -> dict[str, str]:
        """What is known of a job."""
        return next(job for job in self.jobs() if job["JobId"] == number)

    def ended(self, number: str) -> dict[str, str] | None:
        """What is known of a job that is over."""
        job = self.job(number)
        return None if job["JobState"] in ACTIVE else job

    def log(self, daemon: str) -> str:
        """What a daemon has written to its log, with that of its jobs' steps."""
        name = f"slurmd-{daemon}" if daemon in NODES else daemon
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def restarted(self, number: str, times: int) -> bool:
        """Whether a job waits after so many restarts; Slurm holds it back for minutes then, which this cuts short."""
        job = self.job(number)
        if (job["JobState"], job["Restarts"]) != ("PENDING", str(times)):
            return False
        command("scontrol", "update", f"JobId={number}", "StartTime=now")
        return True

    def preempt(self, node: str) -> str:
        """Put a job of more importance on a node; its number."""
        words = ("--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null", "--wrap=sleep 600")
        return command("sbatch", "--parsable", *words).strip()

    def save(self, number: str) -> None:
        """Make the controller write down what it knows of a job, which it else does seconds after each change."""
        state, before = self.folder / "state/job_state", time.time_ns()
        command("scontrol", "update", f"JobId={number}", "Comment=written down")
        until(lambda: state.exists() and state.stat().st_mtime_ns > before, "the controller's notes of its jobs")

    def forget(self) -> None:
        """Cancel what there is, and wait until the nodes are free."""
        if active := self.active():
            command("scancel", "--full", *(job["JobId"] for job in active))
        for node in NODES:
            if node not in self.daemons:
                self.start(node)
        until(lambda: not self.active(), "the end of all jobs")
        until(self.up, "nodes that are up")


def _environment() -> dict[str, str]:
    """Not the variables of a test: a daemon hands some of its own on."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}


def _of_jobs(process: psutil.Process, jobs: set[str]) -> bool:
    """Whether it is what a job runs, or the daemon of one of its steps."""
    with contextlib.suppress(psutil.Error, OSError):
        step = re.match(r"slurmstepd: \[(\d+)", " ".join(process.cmdline()))
        return (step[1] if step else process.environ().get("SLURM_JOB_ID")) in jobs
    return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


@contextmanager
def cluster(accounting: bool = False) -> Iterator[Cluster]:
    """A cluster that is ready for jobs; at the end its processes, devices and configuration are gone."""
    with ExitStack() as undo:
        lock = undo.enter_context(open(tempfile.gettempdir() + "/shardmark-test-slurm.lock", "w"))
        fcntl.flock(lock, fcntl.LOCK_EX)  # one such cluster a machine
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)
        _configure(folder, undo, accounting)
        here = Cluster(folder)
        undo.callback(_stop, here)
        here.start("munged")
        until((folder / "munge/socket").exists, f"munged: {folder}/munged.out")
        if accounting:
            _start_accounting(here)
        for name in ("slurmctld", *NODES):
            here.start(name)
        until(here.up, f"nodes that are up, see {folder}")
        yield here


def _start_accounting(here: Cluster) -> None:
    """Start the data base and Slurm's daemon for it, with one account and its user."""
    data = here.folder / "mariadb"
    command("mariadb-install-db", f"--defaults-file={data}.cnf", "--auth-root-authentication-method=normal")
    here.start("mariadbd")
    until(Path(f"{data}.socket").exists, f"mariadbd: {here.folder}/mariadbd.out")
    here.start("slurmdbd")
    until(
        lambda: subprocess.run(["sacctmgr", "-n", "show", "cluster"], capture_output=True).returncode == 0, "slurmdbd"
    )
    for what in (("cluster", "shardmark"), ("account", ACCOUNT), ("user", "root", f"account={ACCOUNT}")):
        command("sacctmgr", "--immediate", "add", *what)


def _configure(folder: Path, undo: ExitStack, accounting: bool) -> None:
    """Write the configuration and make the devices; `undo` learns how to put back what was there."""
    ports = _free_ports(5)
    places = {
        "folder": folder,
        "host": socket.gethostname().partition(".")[0],
        "controller": ports[0],
        "ports": f"{ports[1]},{ports[2]}",
        "slurmdbd": ports[3],
        "mariadb": ports[4],
        "nodes": ",".join(NODES),
        "gpus": GPUS,
    }
    accounts = ACCOUNTS.format(**places) if accounting else "AccountingStorageType=accounting_storage/none"
    texts = {
        "slurm.conf": SLURM_CONF.format(**places, accounting=accounts),
        "gres.conf": f"NodeName={','.join(NODES)} Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n",
    }
    if accounting:
        texts["slurmdbd.conf"] = SLURMDBD_CONF.format(**places)
        (folder / "mariadb.cnf").write_text(_mariadb_settings(folder, ports[4]))
        (folder / "mariadb.sql").write_text(DATABASE_USER)
    CONFIGURATION.mkdir(exist_ok=True)
    for name, text in texts.items():
        undo.callback(_put_back, CONFIGURATION / name)
        if (CONFIGURATION / name).exists():
            (CONFIGURATION / name).rename(CONFIGURATION / f"{name}{KEPT}")
        (CONFIGURATION / name).write_text(text)
        (CONFIGURATION / name).chmod(0o600 if name == "slurmdbd.conf" else 0o644)
    for number in range(GPUS):
        os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))  # what /dev/null is
    munge = folder / "munge"
    munge.mkdir()
    (munge / "key-file").write_bytes(os.urandom(128))
    for path in (munge, munge / "key-file"):
        shutil.chown(path, "munge", "munge")
        path.chmod(0o711 if path.is_dir() else 0o600)


def _mariadb_settings(folder: Path, port: int) -> str:
    own = {"datadir": "mariadb", "socket": "mariadb.socket", "pid-file": "mariadb.pid", "init-file": "mariadb.sql"}
    lines = ["[mariadbd]", "user=root", "bind-address=127.0.0.1", f"port={port}", "skip-name-resolve"]
    return "\n".join(lines + [f"{key}={folder}/{name}" for key, name in own.items()]) + "\n"


def _put_back(path: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{path.name}{KEPT}").rename(path)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def _stop(here: Cluster) -> None:
    """End all jobs, then all daemons, and see that nothing is left."""
    with contextlib.suppress(AssertionError, subprocess.SubprocessError):
        here.forget()
    for daemon in here.daemons.values():
        daemon.terminate()
    left = [psutil.Process(daemon.pid) for daemon in here.daemons.values() if daemon.poll() is None]
    _, stubborn = psutil.wait_procs(left, timeout=10)
    _kill(stubborn)
    steps = [process for process in psutil.process_iter(["cmdline"]) if _is_step(process)]
    _kill(steps)
    assert not steps, f"left over from jobs: {steps}"


def _is_step(process: psutil.Process) -> bool:
    return (process.info["cmdline"] or [""])[0].startswith("slurmstepd: [")
