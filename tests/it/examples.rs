//! The examples that are shipped: each is right as it stands, and does its job on a program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::scene::{Scene, free_port};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

/// Copies a config of `examples/` into the scene's own, with some texts changed.
fn take_over(scene: &Scene, name: &str, changes: &[(&str, &str)]) {
    let mut text = fs::read_to_string(shipped(name)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} does not say {from}");
        text = text.replace(from, &scene.fill(to));
    }
    scene.raw_config(&text);
}

#[test]
fn every_shipped_config_is_right() {
    let mut seen = 0;
    let listed = ["", "daemons"].map(|directory| fs::read_dir(shipped(directory)).unwrap());
    for entry in listed.into_iter().flatten() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let scene = Scene::new();
            scene.raw_config(&fs::read_to_string(&path).unwrap());
            let outcome = scene.run(&["validate"]);
            assert_eq!(outcome.code, 0, "{}: {}", path.display(), outcome.text());
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen}");
    let scene = Scene::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("watchdog.toml.example");
    let text = fs::read_to_string(example).unwrap();
    // the one file that it names and that must be there
    let secret = scene.path("smtp.pass");
    scene.write_private("smtp.pass", "secret\n");
    scene.raw_config(&text.replace("/etc/watchdog/smtp.pass", secret.to_str().unwrap()));
    let outcome = scene.run(&["show-config"]);
    assert_eq!(outcome.code, 0, "{}", outcome.text());
}

#[test]
fn the_quickstart_starts_mails_and_is_healthy() {
    let scene = Scene::new();
    for file in ["watchdog.toml", "worker.sh"] {
        fs::copy(shipped("quickstart").join(file), scene.path(file)).unwrap();
    }
    // the same pattern, for the worker of this test alone
    let text = scene.read("watchdog.toml");
    let own = scene.fill("command = [\"sh\", \"{dir}/worker.sh\"]");
    scene.raw_config(
        &text
            .replace("command = [\"sh\", \"worker.sh\"]", &own)
            .replace(r"'worker\.sh'", &scene.fill(r"'{dir}/worker\.sh'")),
    );
    let first = scene.run(&["check"]).exits(1);
    assert!(
        first.stdout.contains("restarted") && first.stdout.contains("mail: 1 sent"),
        "{}",
        first.stdout
    );
    assert_eq!(fs::read_dir(scene.path("mail")).unwrap().count(), 1);
    let second = scene.run(&["check"]).exits(0);
    assert!(second.stdout.starts_with("healthy"), "{}", second.stdout);
    let pid: i32 = scene.read("worker.pid").trim().parse().unwrap();
    scene.freeze(pid);
    scene.run(&["check"]).exits(1);
    scene.run(&["check"]).exits(0);
}

/// The bot of the example: it writes its own PID file, and a line a tenth of a second.
const BOT: &str = r#"
import os, signal, sys, time
with open("main_app.pid", "w") as file:
    file.write(str(os.getpid()))
try:
    while True:
        print("VIX 17.2, 3 orders open")
        time.sleep(0.1)
except KeyboardInterrupt:
    print("orders cancelled")
"#;

#[test]
#[ignore = "needs python3"]
fn the_trading_bot_is_brought_back_with_a_mail() {
    let scene = Scene::new();
    scene.write("main_app.py", BOT);
    fs::create_dir(scene.path("logs")).unwrap();
    take_over(
        &scene,
        "trading-bot.toml",
        &[
            ("[mail]", "state_dir = \"state\"\n[mail]"),
            (
                "smtp = { host = \"smtp.example.org\", port = 587, tls = \"starttls\", username = \"watchdog\", password_env = \"SMTP_PASSWORD\" }",
                "directory = \"mails\"",
            ),
            ("\"main_app.py\"]", "\"{dir}/main_app.py\"]"),
            (r"python3? .*main_app\.py", r"python3? .*{dir}/main_app\.py"),
        ],
    );
    scene.check().exits(1).verdict("trading-bot", "restarted");
    let first: i32 = scene.read("main_app.pid").trim().parse().unwrap();
    assert_eq!(scene.mails().len(), 1);
    scene.check().exits(0).verdict("trading-bot", "healthy");
    // an ordinary stop lets it cancel its orders
    scene.run(&["restart", "trading-bot"]).exits(0);
    assert!(scene.read("logs/out.log").contains("orders cancelled"));
    let second: i32 = scene.read("main_app.pid").trim().parse().unwrap();
    assert_ne!(first, second);
    scene.freeze(second);
    scene
        .check()
        .exits(1)
        .finds("trading-bot", "process_stopped");
    scene.check().exits(0);
}

#[test]
#[ignore = "needs redis-server"]
fn the_gateway_that_answers_no_more_is_restarted() {
    let scene = Scene::new();
    let port = free_port().to_string();
    take_over(
        &scene,
        "gateway.toml",
        &[
            (
                "[service.gateway]\nstart",
                "state_dir = \"{dir}/state\"\n\n[service.gateway]\nstart",
            ),
            ("6379", &port),
            (", user = \"redis\"", ""),
            ("start_grace = \"30s\"", "start_grace = \"0s\""),
            (
                "\"127.0.0.1\"]",
                "\"127.0.0.1\", \"--save\", \"\", \"--pidfile\", \"{dir}/redis.pid\"]",
            ),
        ],
    );
    let started = scene.check().exits(1).verdict("gateway", "restarted");
    let pid = started.service("gateway")["pid"].as_i64().unwrap();
    let pid = i32::try_from(pid).unwrap();
    scene.wait_until("it answers", || scene.check().code == 0);
    scene.freeze(pid);
    let outcome = scene
        .check()
        .restarted_for("gateway", "port_closed")
        .finds("gateway", "process_stopped");
    let new = outcome.service("gateway")["pid"].as_i64().unwrap();
    assert_ne!(new, i64::from(pid));
    scene.wait_until("it answers again", || scene.check().code == 0);
    scene.kill(i32::try_from(new).unwrap());
}

/// The API of the example: healthy, or what the file `status` says.
const API: &str = r#"
import http.server, sys
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status = open("status").read()
        except OSError:
            status = "ok"
        body = ('{"status": "%s"}' % status).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", PORT), Api).serve_forever()
"#;

#[test]
#[ignore = "needs python3"]
fn the_api_is_restarted_when_it_has_failed_twice() {
    let scene = Scene::new();
    let port = free_port().to_string();
    scene.write("api.py", API.replace("PORT", &port));
    take_over(
        &scene,
        "api.toml",
        &[
            (
                "[service.api]\nworking_dir = \"/srv/api\"",
                "state_dir = \"{dir}/state\"\n\n[service.api]\nworking_dir = \"{dir}\"",
            ),
            ("8080", &port),
            (", user = \"api\"", ""),
            ("\"api.py\"]", "\"{dir}/api.py\"]"),
            (r"python3? .*api\.py", r"python3? .*{dir}/api\.py"),
            ("start_grace = \"30s\"", "start_grace = \"0s\""),
            ("timeout  = \"5s\"", "timeout  = \"1s\""),
        ],
    );
    scene.check().exits(1).verdict("api", "failing");
    let started = scene.check().exits(1).verdict("api", "restarted");
    let pid = i32::try_from(started.service("api")["pid"].as_i64().unwrap()).unwrap();
    let well = scene.check();
    scene.write("status", "degraded");
    let degraded = scene.check();
    scene.write("status", "gone");
    let first = scene.check();
    scene.write("status", "ok");
    let well_again = scene.check();
    scene.freeze(pid);
    let frozen = scene.check();
    let outcome = scene.check();
    let new = outcome.service("api")["pid"].as_i64().unwrap();
    scene.kill(i32::try_from(new).unwrap());
    well.exits(0).verdict("api", "healthy");
    degraded
        .exits(1)
        .verdict("api", "degraded")
        .finds("api", "http_unexpected");
    first
        .exits(1)
        .verdict("api", "failing")
        .finds("api", "http_unexpected");
    well_again.exits(0);
    frozen.exits(1).verdict("api", "failing");
    outcome.restarted_for("api", "http_failed");
    assert_ne!(new, i64::from(pid));
}

#[test]
#[ignore = "needs python3"]
fn the_leaking_bot_is_restarted_for_its_memory_and_the_host_is_watched_by_its_disk() {
    let scene = Scene::new();
    scene.write(
        "bot.py",
        "import os, time\nwhile not os.path.exists('leak'): time.sleep(0.05)\nos.remove('leak')\n\
         x = b'x' * 90000000\nopen('leaked', 'w').close()\ntime.sleep(1000)\n",
    );
    take_over(
        &scene,
        "leaking-bot.toml",
        &[
            ("[mail]", "state_dir = \"state\"\n[mail]"),
            (
                "sendmail = { command = \"/usr/sbin/sendmail\" }",
                "directory = \"mails\"",
            ),
            ("\"/srv/bot\"", "\"{dir}\""),
            (r"^python3 .*bot\.py", r"^python3 {dir}/bot\.py"),
            ("\"bot.py\"]", "\"{dir}/bot.py\"]"),
            (
                "warning = \"1536 MB\", critical = \"1740 MB\", for = \"5m\"",
                "warning = \"60 MB\", critical = \"80 MB\"",
            ),
            ("max_per_hour = 3", "max_per_hour = 3\nsettle = \"300ms\""),
            (
                "\"90%\"                  #",
                "\"99.999%\"\nmax_inodes = \"99.999%\" #",
            ),
        ],
    );
    scene
        .check()
        .exits(1)
        .verdict("bot", "restarted")
        .verdict("host", "healthy");
    let outcome = scene.check().exits(0).verdict("bot", "healthy");
    let usage = &outcome.service("bot")["usage"];
    assert!(
        usage["memory_bytes"].as_u64().unwrap() < 60_000_000,
        "{usage}"
    );
    assert_eq!(usage["threads"], 1);
    scene.write("leak", "");
    scene.wait_until("it has leaked", || scene.has("leaked"));
    scene.check().restarted_for("bot", "memory_high");
    scene.check().exits(0);
    // and a disk that has less room than it should
    let config = scene.read("watchdog.toml");
    scene.raw_config(&config.replace("\"99.999%\"\n", "\"0.001%\"\n"));
    let outcome = scene.check().exits(2).verdict("host", "down");
    assert_eq!(outcome.codes("host"), ["disk_full"]);
    outcome.verdict("bot", "healthy");
}
