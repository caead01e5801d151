"""Resource use of processes, from /proc (Linux)."""

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> set[int]:
    """A process and all its descendants."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        fields = _fields(status)
        if fields:
            parents[int(fields["Pid"])] = int(fields["PPid"])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its descendants. Shared pages count once for each."""
    sizes_kb = (
        int(_fields(Path(f"/proc/{member}/status")).get("VmRSS", "0 kB").split()[0])
        for member in family(pid)
    )
    return sum(sizes_kb) / 1024


def peak_rss_mb(pid: int) -> float:
    """The peak resident memory of a process."""
    return int(_fields(Path(f"/proc/{pid}/status"))["VmHWM"].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    """Processor seconds of one process and its threads so far; 0 if it is gone."""
    try:
        # Count from the name, which may contain anything: state is field 3, utime 14, stime 15.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def machine_s() -> tuple[float, float]:
    """Processor seconds of the whole machine so far, over all cores: (used, total)."""
    line = Path("/proc/stat").read_text().split("\n", 1)[0]
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, line.split()[1:9])
    used = user + nice + system + irq + softirq + steal
    return used / TICKS_PER_S, (used + idle + iowait) / TICKS_PER_S


def _fields(status: Path) -> dict[str, str]:
    try:
        return dict(line.split(":", 1) for line in status.read_text().splitlines())
    except OSError:
        return {}  # it has just ended
