"""`python -m preceptor.local.leash PARENT_PID COMMAND...`: becomes the command, which then dies with its parent.

A supervisor that is killed with -9 cannot stop its children; the kernel can. Linux sends SIGTERM to a process whose parent is
gone when it asked for that before it became the command. Elsewhere the command runs without a leash, and only an orderly stop
of the supervisor takes it along.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent_pid, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # it died before the leash held
            sys.exit(f"the supervisor {parent_pid} is gone")
    os.execvp(command[0], command)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
