"""How long this machine runs, and its load, in the words of uptime(1) (Nova: get_host_uptime)."""

import time
from pathlib import Path


def uptime(proc: Path = Path("/proc")) -> str:
    """` 12:30:59 up 3 days,  1:23,  0 users,  load average: 0.32, 0.85, 0.73`; nobody counts the users."""
    seconds = int(float((proc / "uptime").read_text().split()[0]))
    loads = (proc / "loadavg").read_text().split()[:3]
    days, minutes = seconds // 86400, seconds % 86400 // 60
    since = f"{days} day{'s' if days > 1 else ''}, " if days else ""
    since += f"{minutes // 60:2d}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes} min"
    return f" {time.strftime('%H:%M:%S')} up {since},  0 users,  load average: {', '.join(loads)}"
