"""How much of this machine is in use: its cores, memory, network and disks. It knows nothing of the run."""

from __future__ import annotations

import time

import psutil


class Resources:
    """Each `sample` says what was in use since the one before."""

    def __init__(self) -> None:
        psutil.cpu_percent(percpu=True)
        self._at = time.monotonic()
        self._counters = _counters()

    def sample(self) -> dict[str, float]:
        """Shares are of the whole machine, 0 to 1; flows are bytes a second, 0 where not counted."""
        now, counters = time.monotonic(), _counters()
        seconds = max(1e-3, now - self._at)
        flows = {name: max(0, n - self._counters[name]) / seconds for name, n in counters.items()}
        self._at, self._counters = now, counters
        cores = psutil.cpu_percent(percpu=True)
        memory = psutil.virtual_memory()
        return {
            "cores": sum(cores) / 100 / len(cores),
            "busiest_core": max(cores) / 100,
            "memory": (memory.total - memory.available) / memory.total,
            "memory_bytes": float(memory.total - memory.available),
            **flows,
        }


def _counters() -> dict[str, int]:
    network, disk = psutil.net_io_counters(), psutil.disk_io_counters()
    return {
        "received": network.bytes_recv if network else 0,
        "sent": network.bytes_sent if network else 0,
        "disk_read": disk.read_bytes if disk else 0,
        "disk_written": disk.write_bytes if disk else 0,
    }
