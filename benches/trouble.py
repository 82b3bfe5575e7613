"""What once grew with the square of the number of services: logs that rotate at once, patterns of all kinds."""
import time

from lib import Tool, figure, median, table, thousands, write_private

# what the time of a directory takes to tell each change
SETTLED = 3


def rotation(bench):
    size = 10 if bench.quick else 1000
    scene = bench.scene("rotation", size)
    tool = bench.by_pid_file
    steady, rotated, at_once = [], [], []
    with bench.herd(scene.directory, 1, size):
        for _ in range(3):
            bench.healthy(tool, scene)
        for into, wait in [(rotated, SETTLED), (at_once, 0)] * (1 if bench.quick else 3):
            for _ in range(2):
                scene.write_lines()
                steady.append(bench.healthy(tool, scene))
            for name in scene.names:
                log = scene.log(name)
                log.rename(f"{log}.1")
                log.write_text(scene.line(0, "Update done") * 50)
            time.sleep(wait)
            into.append(bench.healthy(tool, scene))
    for what, costs in [("steady", steady), ("rotated", rotated), ("rotated at once", at_once)]:
        bench.note(what, tool, size, costs)
    columns = [("CPU, ms", "cpu"), ("wall, ms", "wall"), ("peak, MiB", "peak")]
    return (f"{thousands(size)} logs in one directory (PID file only), all of which were rotated since the last run:\n\n" + table(
        ["", *[title for title, _ in columns]],
        [[title, *[figure(median(costs, measure)) for _, measure in columns]] for title, costs in [
            ("none was rotated", steady), (f"rotated {SETTLED} s before", rotated), ("rotated just before", at_once)]]))


def patterns(bench):
    size = 10 if bench.quick else 1000
    scene = bench.scene("patterns", size)
    kinds = {
        "`herd NAME DIRECTORY`": lambda name: scene.command(name),
        "`^herd NAME( \\|$)`": lambda name: f"^herd {name}( |$)",
        "`^herd .*NAME /`": lambda name: f"^herd .*{name} /",
        "`herd NAME /\\|nobody NAME /`": lambda name: f"herd {name} /|nobody {name} /",
        "`(herd\\|nobody) NAME /`": lambda name: f"(herd|nobody) {name} /",
        "`(?i)HERD NAME /`": lambda name: f"(?i)HERD {name} /",
    }
    rows = []
    with bench.herd(scene.directory, 1, size):
        for number, (kind, pattern) in enumerate(kinds.items()):
            config = scene.directory / f"kind-{number}.toml"
            write_private(config, f'state_dir = "state-kind-{number}"\n[defaults]\nstart_grace = "0s"\n' + "".join(
                f"[service.{name}]\nprocess = {{ command_line = '{pattern(name)}' }}\n" for name in scene.names))
            tool = Tool(kind, lambda scene, config=config: [bench.watchdog, "check", "-q", "-c", config])
            costs = bench.interleaved("patterns", [tool], [scene], 2 if bench.quick else 5, before=lambda _: None)[tool, scene]
            rows.append([kind, figure(median(costs, "cpu")), figure(median(costs, "peak"))])
    return (f"{thousands(size)} services that are known by their command lines alone, by the kind of the pattern:\n\n"
            + table(["pattern", "CPU, ms", "peak, MiB"], rows))
