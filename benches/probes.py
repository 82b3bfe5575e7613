"""Probes: HTTP endpoints that answer, answer late, and never do; commands."""
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from lib import BENCHES, Tool, figure, grid, median, table, thousands, wait_until, write_private

# what the last of many answers takes, in seconds
LATE = 1
# what each of many silent endpoints is given, in seconds
TIMEOUT = 2


def endpoints(bench):
    directory = bench.directory / "endpoints"
    directory.mkdir(mode=0o700)
    with Nginx(directory, free_port()) as server:
        return "\n\n".join([beside_others(bench, directory, server.port), late(bench, directory, server.port)])


def programs(bench):
    return [
        Tool("floor", lambda scene: [bench.directory / "endpoints-floor", scene.directory / "list"]),
        Tool("watchdog", lambda scene: [bench.watchdog, "check", "-q", "-c", scene.directory / "watchdog.toml"]),
    ]


def beside_others(bench, directory, port):
    curl = Tool("curl --parallel", lambda scene: [
        "/usr/bin/curl", "--parallel", "--parallel-immediate", "--parallel-max", "300", "--no-progress-meter", "-f", "-K", scene.directory / "curl"])
    tools = [*programs(bench), bench.monit, curl]
    # one that is not well has to be told
    scene = endpoints_scene(directory / "verify", [(port, "/1"), (port, "/none")])
    for tool in tools:
        said, cost = bench.launch(tool.command(scene))
        if cost["code"] == 0 or not said:
            sys.exit(f"benches/run: {tool.name} does not find an endpoint that answers 404: {said}")
    sizes = [0, 1, 10] if bench.quick else [0, 1, 10, 100, 1000]
    scenes = {size: endpoints_scene(directory / str(size), [(port, f"/{number}") for number in range(size)]) for size in sizes}
    return ("HTTP probes of an nginx on the same machine, each a connection of its own:\n\n"
            + grid(bench, "endpoints", "endpoints", scenes, lambda size: tools if size else tools[:2],
                   {"CPU, ms": "cpu", "wall, ms": "wall", "peak, MiB": "peak", "system calls": "calls"}))


def late(bench, directory, port):
    """Many endpoints, one of which answers late: the run waits for it, and not longer."""
    size = 10 if bench.quick else 1000
    with LateServer() as server:
        paths = [(port, f"/{number}") for number in range(size - 1)]
        scene = endpoints_scene(directory / "late", [*paths, (server.port, "/")])
        tools = programs(bench)
        runs = bench.interleaved("late", tools, [scene], 2 if bench.quick else 7, before=lambda _: None)
    return (f"{thousands(size)} endpoints, the last of which answers after {LATE} s; how long a run takes beyond that:\n\n"
            + table(["", *[tool.name for tool in tools]],
                    [["wall beyond it, ms", *[figure(median(runs[tool, scene], "wall") - 1000 * LATE) for tool in tools]]]))


def silent(bench):
    """Endpoints that take a connection and never say a word: one timeout for all, with few threads."""
    size = 20 if bench.quick else 1000
    directory = bench.directory / "silent"
    directory.mkdir(mode=0o700)
    rows = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        # what is not accepted waits here
        server.listen(4096)
        for count in [1, size]:
            scene = endpoints_scene(directory / str(count), [(server.getsockname()[1], f"/{number}") for number in range(count)],
                                    more=f'timeout = "{TIMEOUT}s"\n')
            command = programs(bench)[1].command(scene)
            runs = []
            for _ in range(2 if bench.quick else 4):
                said, cost = bench.launch(command)
                if cost["code"] != 2 or "s0" not in said:
                    sys.exit(f"benches/run: silent endpoints are not told, the exit code is {cost['code']}: {said[:1000]}")
                runs.append(cost)
            threads = most_threads(command)
            for cost in runs:
                cost["threads"] = threads
            bench.measured.append({"what": "silent", "tool": "watchdog", "services": count, "runs": runs})
            rows.append([thousands(count), figure(median(runs, "wall") - 1000 * TIMEOUT), figure(median(runs, "cpu")),
                         figure(median(runs, "peak")), thousands(threads)])
    return (f"Endpoints that take a connection and stay silent, each with a timeout of {TIMEOUT} s:\n\n"
            + table(["endpoints", "wall beyond the timeout, ms", "CPU, ms", "peak, MiB", "threads"], rows))


def most_threads(command):
    """How many threads a program has at the most."""
    most = 0
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            most = max(most, len(os.listdir(f"/proc/{process.pid}/task")))
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    return most


def commands(bench):
    sizes = [1, 10] if bench.quick else [1, 10, 100]
    scenes = {}
    for size in sizes:
        scene = Scene(bench.directory / f"commands-{size}", [str(number) for number in range(size)])
        (scene.directory / "list").write_text("/bin/true\n" * size)
        write_private(scene.directory / "watchdog.toml", HEAD + "".join(
            f'[service.s{name}]\n[[service.s{name}.exec]]\ncommand = ["/bin/true"]\n' for name in scene.names))
        scenes[size] = scene
    tools = [
        Tool("floor", lambda scene: [bench.directory / "commands-floor", scene.directory / "list"]),
        Tool("watchdog", lambda scene: [bench.watchdog, "check", "-q", "-c", scene.directory / "watchdog.toml"]),
        Tool("bash", lambda scene: ["/bin/bash", BENCHES / "peers/commands.sh", scene.directory / "list"]),
    ]
    return ("Commands (`/bin/true`) whose exit status tells; what the watchdog runs has a deadline, an account and an output that"
            " is read, and nothing of it outlives it:\n\n"
            + grid(bench, "commands", "commands", scenes, lambda _: tools, {"CPU, ms": "cpu", "wall, ms": "wall", "system calls": "calls"}))


HEAD = 'state_dir = "state"\n[defaults]\nstart_grace = "0s"\n'


class Scene:
    """A directory of its own."""

    def __init__(self, directory, names):
        self.directory, self.names = directory, names
        directory.mkdir(mode=0o700)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class LateServer:
    """Answers each request so late."""

    def __enter__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                time.sleep(LATE)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    def __exit__(self, *_):
        self.socket.close()


class Nginx:
    """A server that answers all paths but one, and ends with this script whatever becomes of it."""

    def __init__(self, directory, port, locations=""):
        self.port = port
        temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        config = directory / "nginx.conf"
        config.write_text(f"daemon off;\nmaster_process off;\nuser root;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log;\n"
                          "events { worker_connections 4096; }\nworker_rlimit_nofile 8192;\n"
                          f"http {{ access_log off;\n{temporary}"
                          f"server {{ listen 127.0.0.1:{port} backlog=4096;\n{locations}"
                          "location = /none { return 404; }\nlocation / { return 200 '{\"status\":\"ok\"}'; } } }\n")
        self.process = subprocess.Popen(["/usr/bin/setpriv", "--pdeathsig", "KILL", "/usr/sbin/nginx", "-p", directory, "-c", config],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        def listens():
            with socket.socket() as tried:
                return tried.connect_ex(("127.0.0.1", self.port)) == 0
        wait_until(listens)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def endpoints_scene(directory, endpoints, more=""):
    """The same endpoints, ports and paths, for each of the programs."""
    scene = Scene(directory, endpoints)
    (directory / "list").write_text("".join(f"{port} {path}\n" for port, path in endpoints))
    (directory / "curl").write_text("".join(f'url = "http://127.0.0.1:{port}{path}"\noutput = "/dev/null"\n' for port, path in endpoints))
    parts = [HEAD]
    # a config looks at something
    parts += [f'[service.none]\nprocess = {{ pid_file = "{directory}/pid" }}\n'] if not endpoints else []
    (directory / "pid").write_text(f"{os.getpid()}\n")
    parts += [f'[service.s{number}]\n[[service.s{number}.http]]\nurl = "http://127.0.0.1:{port}{path}"\n{more}' for number, (port, path) in enumerate(endpoints)]
    write_private(directory / "watchdog.toml", "".join(parts))
    own = directory / "monit"
    parts = [f"set pidfile {own}.pid\nset statefile {own}.state\nset idfile {own}.id\n"]
    parts += [f'check host s{number} with address 127.0.0.1\n'
              f'    if failed port {port} protocol http request "{path}" status = 200 with timeout 10 seconds then alert\n'
              for number, (port, path) in enumerate(endpoints)]
    write_private(directory / "monit.rc", "".join(parts))
    write_private(directory / "monit.id", "0" * 32)
    return scene
