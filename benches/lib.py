"""What the parts of `benches/run` share: processes to watch, programs that watch them, tables."""
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
BEGAN = time.monotonic()


def say(text):
    print(f"benches/run: {time.monotonic() - BEGAN:4.0f} s: {text}", file=sys.stderr, flush=True)


class Tool:
    """A program that looks at services."""

    def __init__(self, name, command, well=0):
        self.name = name
        # of a scene: its command
        self.command = command
        # the exit code where all is well
        self.well = well


class Herd:
    """Processes that wait, and end with this script whatever becomes of it."""

    def __init__(self, herd, *what):
        # the name is what a command line is known by
        self.process = subprocess.Popen([herd, *map(str, what)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        if self.process.stdout.readline() != b"ready\n":
            raise SystemExit("benches/run: the processes to watch could not be started")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def write_private(path, text):
    path.write_text(text)
    path.chmod(0o600)


def wait_until(holds):
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    sys.exit("benches/run: a process that was killed is still there after 30 s")


def median(costs, measure):
    return statistics.median(cost[measure] for cost in costs)


def last_line(text):
    return text.strip().split("\n")[-1]


def thousands(number):
    return f"{number:,.0f}"


def figure(value):
    """Three digits that mean something."""
    if value >= 100:
        return thousands(value)
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio_of(ratio):
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def table(head, rows):
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def grid(bench, what, label, scenes, tools, measures, rounds=15, ratios=True):
    """A table of what tools cost, a row for each measure and size: `scenes` by size, `tools` of a size; the first of
    those is what the others are compared with, within the same round."""
    cells = {}
    for size, scene in scenes.items():
        asked = tools(size)
        runs = bench.interleaved(what, asked, [scene], 2 if bench.quick else rounds, before=lambda _: None)
        for tool in asked:
            costs = runs[tool, scene]
            if "calls" in measures.values():
                calls = bench.system_calls(tool, scene)
                for cost in costs:
                    cost["calls"] = calls
            cells[size, tool] = costs
    every = tools(max(scenes))
    rows = []
    for title, measure in measures.items():
        for size in scenes:
            row = [title, thousands(size)]
            for tool in every:
                costs = cells.get((size, tool))
                if costs is None:
                    row.append("–")
                    continue
                value = median(costs, measure)
                shown = thousands(value) if measure == "calls" else figure(value)
                if ratios and tool is not every[0]:
                    least = cells[size, every[0]]
                    ratio = statistics.median(mine[measure] / max(other[measure], 1e-3) for mine, other in zip(costs, least))
                    shown += f" ({ratio_of(ratio)})"
                row.append(shown)
            rows.append(row)
    return table(["", label, *[tool.name for tool in every]], rows)
