"""What is told: one message on many channels, and metrics of many services."""
import shutil
import subprocess

from lib import BENCHES, Tool, figure, grid, median, ratio_of, table, thousands, wait_until, write_private
from probes import Nginx, Scene, free_port

# of each: where it takes a message, the status and the body of its answer
SERVICES = {
    "webhook": ("/webhook", 202, ""),
    "discord": ("/api/webhooks/1/a", 200, '{"id":"1099","channel_id":"7","type":0}'),
    "telegram": ("/bot1:a/sendMessage", 200, '{"ok":true,"result":{"message_id":77,"chat":{"id":-100}}}'),
    "slack": ("/services/T/B/a", 200, "ok"),
    "teams": ("/workflows/a/invoke", 202, ""),
    "ntfy": ("/", 200, '{"id":"a","time":1,"event":"message","topic":"t"}'),
    "gotify": ("/message", 200, '{"id":25,"appid":5}'),
    "pushover": ("/1/messages.json", 200, '{"status":1,"request":"r"}'),
    "pagerduty": ("/v2/enqueue", 202, '{"status":"success","message":"Event processed","dedup_key":"a"}'),
    "alertmanager": ("/api/v2/alerts", 200, ""),
}


def channels(bench):
    directory = bench.directory / "channels"
    directory.mkdir(mode=0o700)
    locations = "".join(
        f"location = {path} {{ if ($request_method != POST) {{ return 405; }}\n"
        f"if ($content_type !~ application/json) {{ return 415; }}\nreturn {status} '{body}'; }}\n"
        for path, status, body in SERVICES.values())
    with Nginx(directory, free_port(), locations) as server, Redis(directory, free_port()) as redis:
        return messages(bench, directory, f"http://127.0.0.1:{server.port}", f"redis://127.0.0.1:{redis.port}/0")


def messages(bench, directory, url, redis):
    keys = {
        "webhook": f'url = "{url}/webhook"',
        "discord": f'url = "{url}/api/webhooks/1/a"',
        "telegram": f'token = "1:a"\nchat = "-100"\napi_url = "{url}"',
        "slack": f'url = "{url}/services/T/B/a"',
        "teams": f'url = "{url}/workflows/a/invoke"',
        "ntfy": f'url = "{url}"\ntopic = "t"',
        "gotify": f'url = "{url}"\ntoken = "a"',
        "pushover": f'api_url = "{url}"\ntoken = "{"a" * 30}"\nuser = "{"u" * 30}"',
        "pagerduty": f'api_url = "{url}"\nrouting_key = "{"a" * 32}"',
        "alertmanager": f'url = "{url}"',
        "redis": f'url = "{redis}"',
        "exec": 'command = ["/bin/cat"]',
    }
    scenes = {}
    for size in [1, len(keys)]:
        scene = Scene(directory / str(size), list(keys)[:size])
        (scene.directory / "pid").write_text("1\n")
        write_private(scene.directory / "watchdog.toml", 'state_dir = "state"\n' + "".join(
            f'[notify.{kind}]\ntype = "{kind}"\n{keys[kind]}\n' for kind in scene.names)
            + f'[service.bot]\nprocess = {{ pid_file = "{scene.directory}/pid" }}\n')
        scenes[size] = scene

    def urls(scene):
        # the others are no HTTP
        return [url + SERVICES[kind][0] for kind in scene.names if kind in SERVICES]

    tools = [
        Tool("watchdog", lambda scene: ["/bin/sh", "-c", '"$@" >/dev/null', "sh", bench.watchdog, "test-notify", "-c",
                                        scene.directory / "watchdog.toml"]),
        Tool("curl, one after the other", lambda scene: ["/bin/bash", BENCHES / "peers/notify.sh", *urls(scene)]),
    ]
    return ("One message on each channel (`test-notify`), to servers on the same machine: ten kinds over HTTP, Redis and a command. curl"
            " posts a line of text to the ten that speak HTTP:\n\n"
            + grid(bench, "channels", "channels", scenes, lambda _: tools, {"CPU, ms": "cpu", "wall, ms": "wall", "peak, MiB": "peak"},
                   ratios=False))


class Redis:
    """A server that ends with this script whatever becomes of it."""

    def __init__(self, directory, port):
        self.port = port
        self.process = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", shutil.which("redis-server"), "--port", str(port), "--bind", "127.0.0.1",
             "--save", "", "--dir", directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        wait_until(lambda: subprocess.run(["redis-cli", "-p", str(self.port), "ping"], capture_output=True).stdout == b"PONG\n")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def metrics(bench):
    rows = []
    for size in [10] if bench.quick else [1, 1000]:
        scene = bench.scene(f"metrics-{size}", size)
        config = (scene.directory / "pid_file.toml").read_text().replace("state-pid_file", "state-metrics")
        write_private(scene.directory / "metrics.toml", f'{config}[metrics]\ntextfile = "{scene.directory}/watchdog.prom"\n')
        tools = [bench.by_pid_file, Tool("with", lambda scene: [
            bench.watchdog, "check", "-q", "-c", scene.directory / "metrics.toml"])]
        with bench.herd(scene.directory, 1, size):
            runs = bench.interleaved("metrics", tools, [scene], 2 if bench.quick else 9)
        without, with_them = (runs[tool, scene] for tool in tools)
        size_of_file = (scene.directory / "watchdog.prom").stat().st_size
        rows.append([thousands(size), figure(median(without, "cpu")), f"{figure(median(with_them, 'cpu'))} ("
                     f"{ratio_of(median(with_them, 'cpu') / median(without, 'cpu'))})", figure(median(without, "peak")),
                     figure(median(with_them, "peak")), figure(size_of_file / 1024)])
    return ("Metrics for Prometheus (PID file only):\n\n" + table(
        ["services", "CPU without, ms", "CPU with, ms", "peak without, MiB", "peak with, MiB", "file, KiB"], rows))
