//! Many hosts: three in network namespaces of their own, each with a watchdog that runs every second and a node-exporter; one
//! Prometheus and one Alertmanager with the configs of `contrib/fleet`, and a receiver of its messages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::prometheus::parts::{Part, Prometheus, get};
use crate::scene::hooks::Hooks;
use crate::scene::{Scene, Service, WATCHDOG, free_port, render, wait_until};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib/fleet")
        .join(name)
}

/// A file of `contrib/fleet` with shorter times and other places.
fn with(name: &str, changes: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(shipped(name)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} does not say {from}");
        text = text.replace(from, to);
    }
    text
}

fn run(command: &str) {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

/// A host: a network and a name of its own.
struct Host {
    name: String,
    scene: Scene,
    /// The link to it, and the addresses on this side and on its own.
    link: String,
    here: String,
    there: String,
    parts: Vec<Part>,
}

impl Host {
    fn new(number: u32) -> Self {
        let own = std::process::id();
        let network = format!("198.18.{}", own % 250);
        let name = format!("web{number}");
        let link = format!("wd{}-{number}", own % 1_000_000);
        let (here, there) = (4 * number + 1, 4 * number + 2);
        let (here, there) = (format!("{network}.{here}"), format!("{network}.{there}"));
        let scene = Scene::of(&[]);
        // a process whose namespaces they are, which ends with the host
        let holder = Part::begin(Command::new("unshare").args(["-n", "-u", "sleep", "1000"]));
        let pid = holder.pid();
        wait_until("the namespaces of a host", || {
            let own = fs::read_link("/proc/self/ns/uts").ok();
            let its = fs::read_link(format!("/proc/{pid}/ns/uts")).ok();
            its.is_some() && its != own
        });
        run(&format!(
            "ip link add {link} type veth peer name eth0 netns {pid}\n\
             ip addr add {here}/30 dev {link}\nip link set {link} up\n\
             host() {{ nsenter -t {pid} -n -u \"$@\"; }}\n\
             host hostname {name}\nhost ip link set lo up\nhost ip addr add {there}/30 dev eth0\nhost ip link set eth0 up"
        ));
        Self {
            name,
            scene,
            link,
            here,
            there,
            parts: vec![holder],
        }
    }

    /// Runs something on it.
    fn begin(&mut self, words: &[&str]) {
        let pid = self.parts[0].pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-n", "-u"]).args(words);
        self.parts
            .push(Part::begin(command.current_dir(self.scene.dir())));
    }

    /// Starts its service, its node-exporter and its watchdog, whose Prometheus has this port on the other side.
    fn boot(&mut self, prometheus: u16) {
        let here = self.here.clone();
        self.scene.config(&format!(
            "[metrics]\ntextfile = \"{{dir}}/metrics/watchdog.prom\"\n\
             [prometheus]\nurl = \"http://{here}:{prometheus}\"\nmatch = {{ auto_repair = \"true\" }}\n{}",
            render(&[&Service::new("trader")])
        ));
        fs::create_dir(self.scene.path("metrics")).unwrap();
        self.scene.start("trader", &["pid_file=trader.pid"]);
        let metrics = self.scene.path("metrics").display().to_string();
        let config = self.scene.path("watchdog.toml").display().to_string();
        let address = format!("--web.listen-address={}:9100", self.there);
        self.begin(&[
            "prometheus-node-exporter",
            "--collector.disable-defaults",
            "--collector.textfile",
            &format!("--collector.textfile.directory={metrics}"),
            &address,
        ]);
        self.begin(&[WATCHDOG, "--config", &config, "run", "--every", "1s"]);
    }

    fn starts(&self) -> usize {
        self.scene.starts("trader").len()
    }
}

/// The messages for a receiver: the name of the alert, its state there, and the hosts or racks that it is about.
fn messages(hooks: &Hooks, receiver: &str) -> Vec<(String, String, Vec<String>)> {
    let path = format!("/ping/{receiver}");
    let got = hooks.got().into_iter().filter(|got| got.path == path);
    let messages = got.map(|got| {
        let message = got.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alerts = message["alerts"].as_array().unwrap();
        let mut about: Vec<String> = (alerts.iter())
            .map(|it| {
                let labels = &it["labels"];
                text(labels.get("instance").unwrap_or(&labels["rack"]))
            })
            .collect();
        about.sort();
        (
            text(&message["groupLabels"]["alertname"]),
            text(&message["status"]),
            about,
        )
    });
    messages.collect()
}

#[test]
#[ignore = "needs root, iproute2, prometheus, prometheus-alertmanager, prometheus-node-exporter and curl"]
fn a_program_freezes_on_one_of_three_hosts_and_then_a_rack_dies() {
    let hub = Scene::new();
    let hooks = Hooks::new();
    let (port, alertmanager) = (free_port(), free_port());
    let mut hosts: Vec<Host> = (1..=3).map(Host::new).collect();
    let target = |host: &Host| {
        let rack = if host.name == "web3" {
            "rack2"
        } else {
            "rack1"
        };
        format!(
            "- {{labels: {{rack: {rack}, instance: '{}:9100'}}, targets: ['{}:9100']}}\n",
            host.name, host.there
        )
    };
    fs::create_dir(hub.path("targets")).unwrap();
    hub.write(
        "targets/all.yml",
        hosts.iter().map(target).collect::<String>(),
    );
    hub.write(
        "prometheus.yml",
        with(
            "prometheus.yml",
            &[
                ("scrape_interval: 30s", "scrape_interval: 500ms"),
                ("scrape_timeout: 10s", "scrape_timeout: 500ms"),
                ("evaluation_interval: 30s", "evaluation_interval: 500ms"),
                ("127.0.0.1:9093", &format!("127.0.0.1:{alertmanager}")),
                ("[fleet.rules.yml]", "[fleet.rules.yml, repair.yml]"),
            ],
        ),
    );
    hub.write(
        "fleet.rules.yml",
        with(
            "fleet.rules.yml",
            &[
                ("for: 2m", "for: 2s"),
                ("for: 1m", "for: 1s"),
                ("[10m]", "[6s]"),
            ],
        ),
    );
    // what one host says of itself wants the service of that host repaired
    hub.write(
        "repair.yml",
        "groups:\n- name: repairs\n  rules:\n  - alert: AppBroken\n    expr: app_broken == 1\n    labels: {auto_repair: \"true\", service: trader}\n",
    );
    hub.write(
        "alertmanager.yml",
        with(
            "alertmanager.yml",
            &[
                ("group_wait: 5m", "group_wait: 200ms"),
                ("group_interval: 1h", "group_interval: 1s"),
                ("group_wait: 30s", "group_wait: 3s"),
                ("group_interval: 5m", "group_interval: 1s"),
                (
                    "http://127.0.0.1:5001/",
                    &format!("http://127.0.0.1:{}/ping/", hooks.port),
                ),
            ],
        ),
    );
    for host in &mut hosts {
        host.boot(port);
    }
    // else they would be down at first
    for host in &hosts {
        let url = format!("http://{}:9100/metrics", host.there);
        wait_until("a host is up", || {
            get(&url, &[]).contains("watchdog_last_run")
        });
    }
    let dir = hub.dir();
    let _prometheus = Part::begin(Command::new("prometheus").args([
        &format!("--config.file={dir}/prometheus.yml"),
        &format!("--storage.tsdb.path={dir}/tsdb"),
        // each host has another address of this side
        &format!("--web.listen-address=0.0.0.0:{port}"),
    ]));
    let _alertmanager = Part::begin(Command::new("prometheus-alertmanager").args([
        &format!("--config.file={dir}/alertmanager.yml"),
        &format!("--storage.path={dir}/alertmanager"),
        &format!("--web.listen-address=127.0.0.1:{alertmanager}"),
        "--cluster.listen-address=",
    ]));
    let prometheus = Prometheus(port);
    wait_until("three hosts are well", || {
        prometheus
            .values("watchdog_service_status{status=\"healthy\"} == 1")
            .len()
            == 3
            && prometheus.values("sum(up)") == ["3"]
    });
    assert!(hooks.got().is_empty());

    // a program freezes on one host
    let frozen = &hosts[1];
    frozen.scene.freeze(frozen.scene.last("trader"));
    wait_until("it is restarted", || frozen.starts() == 2);
    let restarted = "watchdog_repair_attempts_total{instance=\"web2:9100\",action=\"restart\",success=\"true\"}";
    wait_until("the metric says so", || {
        prometheus.values(restarted) == ["1"]
    });
    let found = |host: &Host| {
        let journal = host.scene.journal();
        let entries = journal.iter().filter(|it| it["event"] == "restarting");
        entries
            .map(|it| it["findings"][0]["code"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(frozen), ["process_stopped"]);
    let repaired = |status: &str| {
        let about = vec!["web2:9100".to_owned()];
        messages(&hooks, "log").contains(&("ServiceRepaired".to_owned(), status.to_owned(), about))
    };
    wait_until("people are told", || repaired("firing"));
    wait_until("that it is over, too", || repaired("resolved"));
    assert_eq!(
        prometheus.values("sum(watchdog_repair_attempts_total)"),
        ["1"]
    );
    assert_eq!(messages(&hooks, "team"), []);

    // an alert of one host repairs there alone
    hosts[2].scene.write("metrics/app.prom", "app_broken 1\n");
    wait_until("the alert repairs its service", || hosts[2].starts() == 2);
    assert_eq!(found(&hosts[2]), ["alert_firing"]);
    hosts[2].scene.write("metrics/app.prom", "app_broken 0\n");

    // a rack dies
    for host in &hosts[..2] {
        run(&format!("ip link set {} down", host.link));
    }
    let told = |name: &str, status: &str, about: &[&str]| {
        let about = about.iter().map(|&it| it.to_owned()).collect();
        messages(&hooks, "team").contains(&(name.to_owned(), status.to_owned(), about))
    };
    wait_until("people are told of the rack", || {
        told("RackDown", "firing", &["rack1"])
    });
    wait_until("both hosts are down", || {
        prometheus.firing("HostDown", "instance") == ["web1:9100", "web2:9100"]
    });
    let of_team = messages(&hooks, "team");
    assert!(
        of_team.iter().all(|(name, ..)| name == "RackDown"),
        "one message for the rack, and none for its hosts: {of_team:?}"
    );
    for host in &hosts[..2] {
        run(&format!("ip link set {} up", host.link));
    }
    wait_until("that it is over, too", || {
        told("RackDown", "resolved", &["rack1"])
    });
    // a watchdog that cannot ask Prometheus restarts nothing for that
    assert_eq!(
        (hosts[0].starts(), hosts[1].starts(), hosts[2].starts()),
        (1, 2, 2)
    );
}

#[test]
#[ignore = "needs prometheus and prometheus-alertmanager"]
fn what_is_shipped_for_many_hosts_is_right() {
    for (program, args) in [
        ("promtool", &["check", "config", "prometheus.yml"][..]),
        ("promtool", &["check", "rules", "fleet.rules.yml"]),
        ("promtool", &["test", "rules", "fleet.test.yml"]),
        ("amtool", &["check-config", "alertmanager.yml"]),
    ] {
        let output = Command::new(program)
            .args(args)
            .current_dir(shipped(""))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}");
    }
    let documented = fs::read_to_string("docs/metrics.md").unwrap();
    let rules = fs::read_to_string(shipped("fleet.rules.yml")).unwrap();
    let names = rules.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    for name in names.filter(|it| it.starts_with("watchdog_")) {
        assert!(documented.contains(name), "{name}");
    }
}
