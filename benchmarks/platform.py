"""A whole platform: how long `cupola up` takes, what it costs while nothing happens, and how soon a second push answers.

    python -m benchmarks.platform

Goals: ready in 2 s on a warm data directory, 200 MB for all processes, a second push of the static sample in 3 s. Memory is
PSS (proportional set size: what is shared counts once); RSS beside it, which counts shared pages in every process.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
SAMPLES = ("static", "python")


def cupola(data: Path, *arguments: str) -> float:
    """Run a command; the seconds that it took."""
    command = [sys.executable, "-m", "cupola.cli", arguments[0], "--data-dir", str(data), *arguments[1:]]
    before = time.monotonic()
    subprocess.run(
        command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return time.monotonic() - before


def tree(pid: int) -> list[int]:
    """A process and those below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def memory(data: Path) -> dict[str, tuple[float, float]]:
    """PSS and RSS in MB by process; what a process started counts with it."""
    sizes = {}
    names = ("supervisor", "controller", "router", "cell")
    pids = {name: json.loads((data / "run" / f"{name}.pid").read_bytes())["pid"] for name in names}
    for name, pid in pids.items():
        pss = rss = 0
        for one in [pid] if name == "supervisor" else tree(pid):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            values = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
            pss += values["Pss"]
            rss += values["Rss"]
        sizes[name] = (pss / 1024, rss / 1024)
    return sizes


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        port = free_port()
        first = cupola(data, "up", "--detach", "--port", str(port))
        starts = []
        for _ in range(ROUNDS):
            cupola(data, "down")
            starts.append(cupola(data, "up", "--detach", "--port", str(port)))
        time.sleep(5)
        sizes = memory(data)
        pushes = {}
        for sample in SAMPLES:
            cupola(data, "push", str(ROOT / "samples" / sample))
            again = [cupola(data, "push", str(ROOT / "samples" / sample)) for _ in range(3)]
            pushes[sample] = statistics.median(again)
        cupola(data, "down")
    load = os.getloadavg()[0]
    print(f"Load of the machine at the end: {load:.1f} on {os.cpu_count()} cores\n")
    print("| what | measured | goal | met |")
    print("| --- | --- | --- | --- |")
    print(f"| first start, empty data directory | {first:.1f} s | | |")
    warm = statistics.median(starts)
    print(f"| start, warm data directory | {warm:.1f} s [{min(starts):.1f}] | 2 s | {'yes' if warm <= 2 else 'no'} |")
    pss = sum(one for one, _ in sizes.values())
    rss = sum(one for _, one in sizes.values())
    parts = ", ".join(f"{name} {one:.0f}" for name, (one, _) in sizes.items())
    print(f"| idle memory, PSS ({parts}) | {pss:.0f} MB | 200 MB | {'yes' if pss <= 200 else 'no'} |")
    print(f"| idle memory, RSS | {rss:.0f} MB | | |")
    for sample, seconds in pushes.items():
        goal, met = ("3 s", "yes" if seconds <= 3 else "no") if sample == "static" else ("", "")
        print(f"| second `cupola push` of samples/{sample} | {seconds:.1f} s | {goal} | {met} |")


if __name__ == "__main__":
    main()
