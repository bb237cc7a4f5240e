"""What /proc tells of a process."""

import os


def alive(pid):
    """True while the process runs; a zombie does not."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def sleeping(pid):
    """True while the process waits for something, such as for bytes to read."""
    return _stat(pid)[0] == "S"


def children(pid):
    """The pids whose parent is pid."""
    return _where(1, pid)


def session_members(leader):
    """The pids in the session that a process leads, or led."""
    return _where(3, leader)


def _where(field, value):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if int(_stat(name)[field]) == value:
                    found.append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return sorted(found)


def _stat(pid):
    """The fields of /proc/PID/stat after the name, which may hold anything."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def fds(pid):
    """What is open in a process: a list of link targets."""
    targets = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            targets.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass
    return sorted(targets)


def _kilobytes(path, field):
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise LookupError(f"{field} is not in {path}")


def rss_kb(pid):
    return _kilobytes(f"/proc/{pid}/status", "VmRSS")


def peak_rss_kb(pid):
    return _kilobytes(f"/proc/{pid}/status", "VmHWM")


def pss_kb(pid):
    return _kilobytes(f"/proc/{pid}/smaps_rollup", "Pss")


def anonymous_kb(pid):
    """What it allocated: unlike the others, no other process has a part in this."""
    return _kilobytes(f"/proc/{pid}/smaps_rollup", "Anonymous")


def cpu_seconds(pid):
    """User and system time so far."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
