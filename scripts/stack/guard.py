"""Register with the reaper, then exec COMMAND: guard.py FD STAGE SIGNAL GRACE USER COMMAND...

USER is `uid:gid` to drop to, or `-`. FD is the reaper's pipe. This process writes the line before
the exec, instead of the supervisor: while it has the pipe open, the reaper sees no end of file, so
the supervisor cannot die at a moment that leaves COMMAND unregistered.
"""

import os
import signal
import sys


def main() -> None:
    fd, stage, number, grace_s, user, *command = sys.argv[1:]
    os.write(int(fd), f"+ {os.getpid()} {stage} {number} {grace_s}\n".encode())
    os.set_inheritable(int(fd), False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # shells start background jobs with it ignored
    if user != "-":
        uid, gid = map(int, user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"Cannot run {command[0]}: {error.strerror}.", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main()
