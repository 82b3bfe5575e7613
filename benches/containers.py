"""Containers of a Docker engine that is started for this alone, in a network namespace of its own."""
import os
import shutil
import subprocess
from pathlib import Path

from lib import BENCHES, ROOT, Tool, figure, last_line, median, ratio_of, table, thousands, write_private
from probes import HEAD, Scene

ENGINE = ROOT / "tests/it/engines/docker"


def containers(bench):
    directory = bench.directory / "engine"
    # what people have: Debian's, where there is another
    docker = next((path for path in ["/usr/bin/docker", shutil.which("docker")] if path and os.path.exists(path)), None)
    environment = os.environ | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        up = subprocess.run([ENGINE, "up", directory], env=environment, capture_output=True, text=True)
        if up.returncode != 0:
            return f"Containers were not measured: no engine could be started here ({last_line(up.stderr)})."
        subprocess.run([ENGINE, "image", directory], env=environment, check=True, capture_output=True)
        return at_engine(bench, directory, docker)
    finally:
        subprocess.run([ENGINE, "down", directory], env=environment, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def at_engine(bench, directory, docker):
    sizes = [1, 3] if bench.quick else [1, 10, 100]
    address = f"unix://{directory}/docker.sock"
    environment = os.environ | {"DOCKER_HOST": address}
    server = int((directory / "docker.pid").read_text())
    measures = {"CPU, ms": "cpu", "CPU of the engine, ms": "engine", "wall, ms": "wall", "peak, MiB": "peak"}
    rows = {title: [] for title in measures}
    begun = 0
    for size in sizes:
        names = [f"bench-{number}" for number in range(size)]
        for name in names[begun:]:
            subprocess.run([docker, "run", "-d", "--network", "none", "--name", name, "wd:1"], env=environment, check=True,
                           capture_output=True)
        begun = size
        scene = Scene(bench.directory / f"containers-{size}", names)
        (scene.directory / "list").write_text("".join(f"{name}\n" for name in names))
        write_private(scene.directory / "watchdog.toml", HEAD + f'[containers]\nsocket = "unix://{directory}/docker.sock"\n' + "".join(
            f'[service.{name}]\ncontainer = {{ name = "{name}" }}\n' for name in names))

        def asks(*command):
            return lambda scene: ["/usr/bin/env", f"DOCKER_HOST={address}", *command, scene.directory / "list"]

        tools = [
            Tool("floor", lambda scene: [bench.directory / "engine-floor", f"{directory}/docker.sock", scene.directory / "list"]),
            Tool("watchdog", lambda scene: [bench.watchdog, "check", "-q", "-c", scene.directory / "watchdog.toml"]),
            Tool("`docker` in bash", asks("/bin/bash", BENCHES / "peers/containers.sh")),
            Tool("docker-py", asks("/usr/bin/python3", BENCHES / "peers/containers.py")),
        ]
        runs = {tool: [] for tool in tools}
        for number in range(3 if bench.quick else 8):
            for tool in tools:
                # the longest takes seconds
                if len(runs[tool]) >= 3 and size == 100 and tool is tools[2]:
                    continue
                before = processor_time(server)
                cost = bench.healthy(tool, scene)
                cost["engine"] = processor_time(server) - before
                if number > 0:
                    runs[tool].append(cost)
        for tool in tools:
            bench.note("containers", tool, size, runs[tool])
        for title, measure in measures.items():
            row = [title, thousands(size)]
            for tool in tools:
                value = median(runs[tool], measure)
                least = median(runs[tools[0]], measure)
                row.append(figure(value) + ("" if tool is tools[0] else f" ({ratio_of(value / max(least, 1e-3))})"))
            rows[title].append(row)
    return ("Containers of a Docker engine on the same machine. The floor asks for the list of them, as the watchdog does while nothing"
            " changes; the watchdog looks at their processes, too. The bash script runs `docker ps` once and `docker inspect` for each:\n\n"
            + table(["", "containers", *[tool.name for tool in tools]], [row for of_measure in rows.values() for row in of_measure]))


def processor_time(pid):
    """What all threads of a process took, in ms."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            spent += int((thread / "schedstat").read_text().split()[0])
        except OSError:
            # one that has ended
            continue
    return spent / 1e6
