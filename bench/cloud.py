"""A cloud of the bench's own, spoken to by plain HTTP over loopback, and gone afterwards whatever happens."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

BIN = Path(sys.executable).parent
PATIENCE = 180.0  # seconds until the bench gives up waiting
POLL = 0.1  # seconds; what is timed ends by the journal's word, so that looking often does not slow it down


class Cloud:
    """`with Cloud(virt, folder) as cloud`: a `kilonova up` in a new state directory, purged at the end."""

    def __init__(self, virt: str, folder: Path) -> None:
        self.virt, self.state = virt, folder / f"{virt}-{time.monotonic_ns()}"

    def __enter__(self) -> "Cloud":
        command = [BIN / "kilonova", "up", "--state", self.state, "--virt", self.virt, "--port", "0"]
        start = time.perf_counter()
        with self.state.with_suffix(".log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            self._meet(start)
        except BaseException:
            self.end()
            raise
        return self

    def _meet(self, start: float) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("kilonova ready"):
            raise RuntimeError("the cloud did not come up:\n" + self.state.with_suffix(".log").read_text()[-2000:])
        self.http = httpx.Client(base_url=line.split()[-1], timeout=PATIENCE, trust_env=False)
        self.http.get("/identity/v3").raise_for_status()
        self.cold_start = time.perf_counter() - start
        self.json: dict[str, Any] = json.loads((self.state / "cloud.json").read_text())
        self.http.headers["X-Auth-Token"] = self.http.post(
            "/identity/v3/auth/tokens", json=self.credentials(), timeout=60
        ).headers["X-Subject-Token"]

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.state.exists():
            subprocess.run([BIN / "kilonova", "down", "--purge", "--state", self.state], check=True, timeout=PATIENCE)
            shutil.rmtree(self.state, ignore_errors=True)

    def credentials(self) -> dict[str, Any]:
        who = {"name": "admin", "domain": {"id": "default"}, "password": self.json["admin_password"]}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        return {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}

    def unlimit(self) -> None:
        """No quota of the admin project, and a network with room."""
        project = self.http.get("/identity/v3/projects", params={"name": "admin"}).json()["projects"][0]["id"]
        quota = {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}
        self.http.put(f"/compute/v2.1/os-quota-sets/{project}", json=quota).raise_for_status()
        self.http.put(f"/network/v2.0/quotas/{project}", json={"quota": {"port": -1}}).raise_for_status()
        network = {"network": {"name": "bench", "shared": True}}
        self.network = self.http.post("/network/v2.0/networks", json=network).json()["network"]["id"]
        subnet = {"subnet": {"network_id": self.network, "ip_version": 4, "cidr": "10.200.0.0/16"}}
        self.http.post("/network/v2.0/subnets", json=subnet).raise_for_status()

    def create(self, name: str, count: int = 1) -> None:
        """`name`: what they are found by."""
        server = {"name": name, "flavorRef": "1", "imageRef": self.json["images"]["kilonova-guest"]["id"],
                  "networks": [{"uuid": self.network}], "min_count": count, "max_count": count}  # fmt: skip
        self.http.post("/compute/v2.1/servers", json={"server": server}).raise_for_status()

    def ids(self, name: str) -> list[str]:
        found = self.http.get("/compute/v2.1/servers", params={"name": f"^{name}"}).json()["servers"]
        return [server["id"] for server in found]

    def wait_until_none(self, patience: float = PATIENCE, **filters: str) -> None:
        """Until no server matches."""
        query, deadline = {"limit": "1", **filters}, time.monotonic() + patience
        while self.http.get("/compute/v2.1/servers", params=query).json()["servers"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"servers with {filters} did not end in {patience:g} s")
            time.sleep(POLL)

    def timed_create(self, name: str, count: int = 1, patience: float = PATIENCE) -> float:
        """Seconds from the request until all are ACTIVE."""
        start = time.time()
        self.create(name, count)
        self.wait_until_none(patience, name=f"^{name}", status="BUILD")
        taken = max(map(self.ended, self.ids(name))) - start
        if self.http.get("/compute/v2.1/servers", params={"status": "ERROR"}).json()["servers"]:
            raise RuntimeError("a server came to ERROR")
        return taken

    def timed_delete(self, name: str) -> float:
        """Seconds from the first request until all are gone."""
        found = self.ids(name)
        start = time.time()
        for server_id in found:
            self.http.delete(f"/compute/v2.1/servers/{server_id}").raise_for_status()
        self.wait_until_none(name=f"^{name}")
        return max(map(self.ended, found)) - start

    def ended(self, server_id: str) -> float:
        """When the server's last action ended, in seconds since the epoch."""
        version = {"X-OpenStack-Nova-API-Version": "2.58"}
        actions = self.http.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions", headers=version).json()
        when = datetime.fromisoformat(actions["instanceActions"][0]["updated_at"])
        return when.replace(tzinfo=UTC).timestamp()

    def latency(self, method: str, path: str, times: int, body: Callable[[], Any] = lambda: None) -> dict[str, float]:
        """Milliseconds of one request after another over one connection, this client's own work included."""
        taken = []
        for _ in range(times):
            start = time.perf_counter()
            self.http.request(method, path, json=body()).raise_for_status()
            taken.append((time.perf_counter() - start) * 1000)
        return {"p50_ms": round(statistics.median(taken), 1), "p95_ms": round(sorted(taken)[int(times * 0.95)], 1)}

    def memory_mib(self) -> dict[str, Any]:
        """Of every process of the cloud: Pss (a page shared by n processes counts 1/n in each), and Rss."""
        found: dict[str, dict[str, float]] = {}
        for pid in self.pids():
            name = "kilonova" if pid == self.process.pid else Path(f"/proc/{pid}/comm").read_text().strip()
            values = dict.fromkeys(("Pss", "Rss"), 0.0)
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                key = line.split(":")[0]
                if key in values:
                    values[key] = int(line.split()[1]) / 1024
            of_name = found.setdefault("reaper" if name.startswith("python") else name, {"pss": 0.0, "rss": 0.0})
            of_name["pss"] += values["Pss"]
            of_name["rss"] += values["Rss"]
        parts = {name: {key: round(value, 1) for key, value in of.items()} for name, of in found.items()}
        whole = {f"{key}_mib": round(sum(of[key] for of in found.values())) for key in ("pss", "rss")}
        return {**whole, "processes": parts}

    def pids(self) -> set[int]:
        """This process and its daemons: their arguments name the cloud's run or state directory."""
        marks = (f"/run/kilonova/{self.json['id'][:8]}/", f"{self.state}/")
        found = {self.process.pid}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    arguments = Path(entry.path, "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if any(mark in arguments for mark in marks):
                    found.add(int(entry.name))
        return found
