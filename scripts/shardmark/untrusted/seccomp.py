"""System calls that generated code may not make, as a filter for the kernel (seccomp).

Namespaces and limits do not cover everything: shared memory of System V counts towards no limit of a process, kernel
keyrings belong to the user who starts the sandbox, and a new user namespace has all capabilities inside. Each call here
needs no privilege, and no program that solves a task needs it.
"""

import errno
import platform
import struct
from dataclasses import dataclass

Instruction = tuple[int, int, int, int]
"An instruction of the filter, its value, and how many instructions to skip if the test holds, and if not."


@dataclass(frozen=True)
class Machine:
    """The kernel's identifier of a machine, and the numbers of its system calls (arch/*/syscall.tbl, asm-generic)."""

    audit: int
    clone: int
    prctl: int
    sockets: tuple[int, int]
    "The calls socket and socketpair."
    refused: dict[str, int]


MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        56,
        157,
        (41, 53),
        {"shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "mq_open": 240, "memfd_create": 319}
        | {"add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "setns": 308, "ptrace": 101}
        | {"process_vm_readv": 310, "process_vm_writev": 311, "perf_event_open": 298, "bpf": 321}
        | {"userfaultfd": 323, "io_uring_setup": 425, "memfd_secret": 447, "pidfd_getfd": 438},
    ),
    "aarch64": Machine(
        0xC00000B7,
        220,
        167,
        (198, 199),
        {"shmget": 194, "shmat": 196, "semget": 190, "msgget": 186, "mq_open": 180, "memfd_create": 279}
        | {"add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97, "setns": 268, "ptrace": 117}
        | {"process_vm_readv": 270, "process_vm_writev": 271, "perf_event_open": 241, "bpf": 280}
        | {"userfaultfd": 282, "io_uring_setup": 425, "memfd_secret": 447, "pidfd_getfd": 438},
    ),
}
FAMILIES = (1, 2, 10)
"""Allowed socket families: AF_UNIX, AF_INET and AF_INET6, which have no network inside. Others reach around namespaces,
as AF_VSOCK reaches the host of a virtual machine, or are kernel code that no program needs."""
CLONE3 = 435
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
"The option that would stop a process from being killed with its parent."
X32 = 0x40000000
"The first number of x32, another way to make the same calls; no other machine has numbers this large."

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"Instructions of the kernel's packet filter (linux/filter.h)."
NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16
"Offsets of these in `struct seccomp_data`."
KILL, FAIL, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def known() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in MACHINES


def call_filter() -> bytes:
    """The filter for this machine. Raises KeyError if there is none."""
    machine = MACHINES[platform.machine()]
    refuse, absent = FAIL | errno.EPERM, FAIL | errno.ENOSYS
    lines = [(LOAD, MACHINE, 0, 0), *_unless(EQUAL, machine.audit, KILL), (LOAD, NUMBER, 0, 0)]
    lines += _where(AT_LEAST, X32, absent)
    lines += _where(EQUAL, CLONE3, absent)  # its flags are out of reach; C libraries then fall back to clone
    for number in machine.refused.values():
        lines += _where(EQUAL, number, refuse)
    for number, test, value in ((machine.clone, ANY_BIT, CLONE_NEWUSER), (machine.prctl, EQUAL, PR_SET_PDEATHSIG)):
        asked = [(LOAD, FIRST_ARGUMENT, 0, 0), *_where(test, value, refuse), (RETURN, ALLOW, 0, 0)]
        lines += [(EQUAL, number, 0, len(asked)), *asked]
    for number in machine.sockets:
        asked = [(LOAD, FIRST_ARGUMENT, 0, 0)]
        for family in FAMILIES:
            asked += _where(EQUAL, family, ALLOW)
        asked += [(RETURN, FAIL | errno.EAFNOSUPPORT, 0, 0)]
        lines += [(EQUAL, number, 0, len(asked)), *asked]
    lines += [(RETURN, ALLOW, 0, 0)]
    return b"".join(struct.pack("=HBBI", code, jump, jump_else, value) for code, value, jump, jump_else in lines)


def _where(test: int, value: int, result: int) -> list[Instruction]:
    """A test with the result for a call that matches; other calls go on."""
    return [(test, value, 0, 1), (RETURN, result, 0, 0)]


def _unless(test: int, value: int, result: int) -> list[Instruction]:
    """A test with the result for a call that does not match; other calls go on."""
    return [(test, value, 1, 0), (RETURN, result, 0, 0)]
