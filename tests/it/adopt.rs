//! `adopt`: the table that it prints for a program that runs is a config, finds that program, and starts it again.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::boxes::SystemdBox;
use crate::scene::{Scene, alive, free_port, processes, root, signal};

/// The table for a program, which is made the config.
fn adopted(scene: &Scene, asked: &str) -> String {
    let mut command = scene.command(&["adopt", asked]);
    command.current_dir("/");
    let table = scene.finish(command).exits(0).stdout;
    scene.config(&table);
    table
}

#[test]
fn a_table_of_a_running_program_is_printed_and_is_a_config() {
    let scene = Scene::new();
    let pid = scene.start("a", &["pid_file=a.pid"]);
    let table = adopted(&scene, &pid.to_string());
    assert!(table.contains("[service.prog]"), "{table}");
    assert!(table.contains("pid_file = "), "{table}");
    scene.run(&["validate"]).exits(0);
    let outcome = scene.check().exits(0).verdict("prog", "healthy");
    assert_eq!(outcome.service("prog")["pid"], pid);
    assert_eq!(scene.starts("a"), [pid]);
}

#[test]
fn what_was_adopted_is_started_again_as_it_was() {
    let scene = Scene::new();
    let pid = scene.start("a", &["pid_file=a.pid", "line=two words", "log=a.log"]);
    let other = scene.start("b", &["pid_file=b.pid"]);
    adopted(&scene, &pid.to_string());
    scene.check().exits(0).verdict("prog", "healthy");
    scene.kill_and_reap(pid);
    scene.check().exits(1).verdict("prog", "restarted");
    assert_eq!(scene.starts("a").len(), 2);
    let now = scene.last("a");
    scene.wait_until("its log", || scene.read("a.log").contains("two words"));
    let outcome = scene.check().exits(0).verdict("prog", "healthy");
    assert_eq!(outcome.service("prog")["pid"], now);
    // its neighbour, of the same program, is no business of that table's
    assert!(alive(other));
    assert_eq!(scene.starts("b"), [other]);
}

#[test]
fn logs_that_are_open_are_in_the_table() {
    let scene = Scene::new();
    let script = "import time\nlog = open('bot.log', 'a')\ndata = open('bot.db', 'a')\n\
                  log.write('x')\nlog.flush()\ntime.sleep(1000)\n";
    scene.write("bot.py", script);
    let mut running = std::process::Command::new("/usr/bin/python3")
        .args([&scene.path("bot.py")])
        .current_dir(scene.dir())
        .env_clear()
        .env("TZ", "Europe/Berlin")
        .env("API_SECRET", "hunter2")
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    scene.wait_until("its log", || scene.read("bot.log") == "x");
    let table = adopted(&scene, &running.id().to_string());
    let log = scene.fill("[[service.bot.log]]\npath = \"{dir}/bot.log\"\n");
    assert!(table.contains(&log), "{table}");
    assert!(!table.contains("bot.db"), "{table}");
    assert!(
        table.contains("; no max_age is proposed: no format"),
        "{table}"
    );
    assert!(table.contains("severity = \"warning\""), "{table}");
    assert!(table.contains("TZ = \"Europe/Berlin\""), "{table}");
    assert!(table.contains("its variables API_SECRET;"), "{table}");
    assert!(!table.contains("hunter2"), "{table}");
    let outcome = scene.check().exits(0).verdict("bot", "healthy");
    assert_eq!(outcome.service("bot")["pid"], running.id());
    // a log that has no rule yet restarts nothing
    fs::remove_file(scene.path("bot.log")).unwrap();
    scene.config(&format!("[defaults]\nstart_grace = \"0s\"\n{table}"));
    scene
        .check()
        .exits(1)
        .verdict("bot", "degraded")
        .finds("bot", "log_missing");
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn what_cannot_be_adopted_is_said() {
    let scene = Scene::new();
    let (one, two) = (scene.start("a", &[]), scene.start("b", &[]));
    for (asked, said) in [
        ("999999999", "no process has PID 999999999"),
        (
            "no-such-program",
            "no program called `no-such-program` runs; name it by its PID, of which `ps -eo pid,args` knows all",
        ),
        ("\u{1b}[2J", "no program called `\\x1b[2J` runs"),
    ] {
        let outcome = scene.run(&["adopt", asked]).exits(1);
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        assert!(outcome.stdout.is_empty());
    }
    let outcome = scene.run(&["adopt", "sh"]).exits(1);
    assert!(
        outcome
            .stderr
            .contains("several programs are called `sh`; name one by its PID:\n"),
        "{}",
        outcome.stderr
    );
    let _ = (one, two);
    scene.run(&["adopt"]).exits(64);
}

/// A daemon of Debian's: how it is configured, how it is started, and the file that its PID is in.
struct Daemon {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    start: &'static str,
    pid_file: &'static str,
    /// Whether it writes a title over its arguments, so that nobody can know how it was started.
    has_title: bool,
}

const DAEMONS: [Daemon; 10] = [
    Daemon {
        name: "redis-server",
        files: &[(
            "redis.conf",
            "daemonize yes\nbind 127.0.0.1\nport {port}\npidfile {dir}/redis.pid\nlogfile {dir}/redis.log\ndir {dir}\nsave \"\"\n",
        )],
        start: "redis-server redis.conf",
        pid_file: "redis.pid",
        has_title: true,
    },
    Daemon {
        name: "nginx",
        files: &[(
            "nginx.conf",
            "user root;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log notice;\nevents {}\nhttp { access_log {dir}/access.log; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\nserver { listen 127.0.0.1:{port}; } }\n",
        )],
        start: "nginx -p {dir} -c {dir}/nginx.conf",
        pid_file: "nginx.pid",
        has_title: true,
    },
    Daemon {
        name: "memcached",
        files: &[],
        start: "memcached -d -u root -l 127.0.0.1 -p {port} -P {dir}/memcached.pid",
        pid_file: "memcached.pid",
        has_title: false,
    },
    Daemon {
        name: "rsyslogd",
        files: &[(
            "rsyslog.conf",
            "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\nglobal(workDirectory=\"{dir}\")\n*.* action(type=\"omfile\" file=\"{dir}/syslog\")\n",
        )],
        start: "rsyslogd -f {dir}/rsyslog.conf -i {dir}/rsyslogd.pid",
        pid_file: "rsyslogd.pid",
        has_title: false,
    },
    Daemon {
        name: "sshd",
        files: &[(
            "sshd_config",
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {dir}/key\nPidFile {dir}/sshd.pid\nUsePAM no\n",
        )],
        start: "mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f key && /usr/sbin/sshd -f {dir}/sshd_config -E {dir}/sshd.log",
        pid_file: "sshd.pid",
        has_title: true,
    },
    Daemon {
        name: "mosquitto",
        files: &[(
            "mosquitto.conf",
            "listener {port} 127.0.0.1\npid_file {dir}/mosquitto.pid\nlog_dest file {dir}/mosquitto.log\nuser root\nallow_anonymous true\n",
        )],
        start: "mosquitto -d -c {dir}/mosquitto.conf",
        pid_file: "mosquitto.pid",
        has_title: false,
    },
    Daemon {
        name: "haproxy",
        files: &[(
            "haproxy.cfg",
            "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{port}\n",
        )],
        start: "haproxy -D -f {dir}/haproxy.cfg -p {dir}/haproxy.pid",
        pid_file: "haproxy.pid",
        has_title: false,
    },
    Daemon {
        name: "lighttpd",
        files: &[(
            "lighttpd.conf",
            "server.port = {port}\nserver.bind = \"127.0.0.1\"\nserver.document-root = \"{dir}\"\nserver.pid-file = \"{dir}/lighttpd.pid\"\nserver.errorlog = \"{dir}/lighttpd.log\"\n",
        )],
        start: "lighttpd -f {dir}/lighttpd.conf",
        pid_file: "lighttpd.pid",
        has_title: false,
    },
    Daemon {
        name: "dnsmasq",
        files: &[(
            "dnsmasq.conf",
            "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\npid-file={dir}/dnsmasq.pid\nlog-facility={dir}/dnsmasq.log\n",
        )],
        start: "dnsmasq -C {dir}/dnsmasq.conf",
        pid_file: "dnsmasq.pid",
        has_title: false,
    },
    Daemon {
        name: "postgres",
        files: &[],
        start: "cd {pg}; as='setpriv --reuid=postgres --regid=postgres --init-groups'; \
                $as {bin}/initdb -D {pg}/data -A trust --no-sync >initdb.log 2>&1 && \
                $as setsid {bin}/postgres -D {pg}/data -c unix_socket_directories= -h 127.0.0.1 -p {port} >>{pg}/server.log 2>&1 </dev/null &",
        pid_file: "pg/data/postmaster.pid",
        has_title: false,
    },
];

impl Daemon {
    /// Starts it in a scene, on a port of its own. Gives back its PID and that port.
    fn start(&self, scene: &Scene) -> (i32, String) {
        let port = free_port().to_string();
        let fill = |text: &str| {
            let mut text = scene.fill(text).replace("{port}", &port);
            if text.contains("{pg}") {
                let directory = scene.path("pg");
                let bin = postgres_bin();
                text = text
                    .replace("{pg}", directory.to_str().unwrap())
                    .replace("{bin}", bin.to_str().unwrap());
            }
            text
        };
        if self.start.contains("{pg}") {
            scene.lend("pg", "postgres");
        }
        for (name, text) in self.files {
            scene.write(name, fill(text));
        }
        scene.shell(&fill(self.start)).exits(0);
        let pid = || -> Option<i32> {
            let pid = scene.read(self.pid_file).lines().next()?.trim().parse();
            pid.ok().filter(|&pid| alive(pid))
        };
        scene.wait_until("its PID file", || pid().is_some());
        scene.wait_until("its port", || answers(self, &port));
        (pid().unwrap(), port)
    }
}

/// The processes that a process has started, and those that they have.
fn descendants(pid: i32) -> Vec<i32> {
    let all = processes();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(
            all.iter()
                .filter(|process| process.parent == parent)
                .map(|process| process.pid),
        );
        at += 1;
    }
    found.split_off(1)
}

#[test]
#[ignore = "needs root, redis-server, nginx, memcached, rsyslog, openssh-server, mosquitto, haproxy, lighttpd, dnsmasq, postgresql"]
fn ten_daemons_are_adopted() {
    assert!(root());
    for daemon in &DAEMONS {
        let scene = Scene::new();
        let (pid, port) = daemon.start(&scene);
        // another of it, with a config and a port of its own
        let other_scene = Scene::new();
        let (other, other_port) = daemon.start(&other_scene);
        // by its PID, and by its name where no other of that name runs here
        let table = adopted(&scene, &pid.to_string());
        println!("{table}");
        assert!(table.contains("pid_file = "), "{}\n{table}", daemon.name);
        assert_eq!(
            table.contains("\nspawn = "),
            !daemon.has_title,
            "{}\n{table}",
            daemon.name
        );
        let valid = scene.run(&["validate"]).exits(0).stdout;
        assert!(valid.contains("1 service, no errors"), "{valid}");
        // nobody is told by mail in these configs; that is the only trap
        assert!(valid.contains(", 1 trap\n"), "{valid}\n{table}");
        let outcome = scene.check().exits(0);
        let json = outcome.json();
        assert_eq!(json["services"][0]["verdict"], "healthy", "{json}");
        assert_eq!(json["services"][0]["pid"], pid, "{json}");
        let name = json["services"][0]["name"].as_str().unwrap().to_owned();
        let helpers = descendants(pid);
        scene.kill_and_reap(pid);
        for helper in helpers {
            scene.kill(helper);
        }
        let dry = scene.run(&["check", "--dry-run", "--json"]);
        let missing = if daemon.has_title { "down" } else { "failing" };
        dry.verdict(&name, missing).finds(&name, "process_missing");
        if !daemon.has_title {
            scene.check().exits(1).verdict(&name, "restarted");
            scene.wait_until("its port", || answers(daemon, &port));
            let outcome = scene.check().exits(0).verdict(&name, "healthy");
            let again = outcome.service(&name)["pid"].as_i64().unwrap();
            signal(i32::try_from(again).unwrap(), Signal::SIGTERM);
        }
        assert!(
            alive(other) && answers(daemon, &other_port),
            "{}",
            daemon.name
        );
        signal(other, Signal::SIGTERM);
    }
}

/// Whether it has come up: those that listen by UDP alone are known by their PID file.
fn answers(daemon: &Daemon, port: &str) -> bool {
    daemon.name == "rsyslogd" || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok()
}

fn postgres_bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap();
    versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .find(|bin| bin.join("postgres").exists())
        .unwrap()
}

#[test]
#[ignore = "needs root, systemd, nginx and redis-server"]
fn a_program_in_a_unit_is_left_to_systemd() {
    let it = SystemdBox::boot();
    // Debian's own units, on ports that nobody has
    it.write(
        "/etc/nginx/nginx.conf",
        &format!(
            "pid /run/nginx.pid;\nerror_log /var/log/nginx/error.log notice;\nevents {{}}\n\
             http {{ access_log /var/log/nginx/access.log; server {{ listen 127.0.0.1:{}; }} }}\n",
            free_port()
        ),
    );
    it.sh(&format!(
        "sed -i 's/^port .*/port {}/' /etc/redis/redis.conf; systemctl start nginx redis-server",
        free_port()
    ))
    .ok();
    for (unit, asked) in [("nginx", "name"), ("redis-server", "PID")] {
        let pid = it.show(&format!("{unit}.service"), "MainPID");
        let asked = if asked == "PID" { &pid } else { unit };
        let table = it.sh(&format!("watchdog adopt {asked}")).exits(0).stdout;
        let systemd = format!("systemd = {{ unit = \"{unit}.service\" }}");
        assert!(table.contains(&systemd), "{table}");
        assert!(!table.contains("spawn"), "{table}");
        it.config(&table);
        let valid = it.sh("watchdog validate").exits(0).stdout;
        // nobody is told by mail in this config
        assert!(valid.ends_with(", no errors, 1 trap\n"), "{table}\n{valid}");
        it.check().exits(0).tells(unit, "healthy", &[]);
        it.sh(&format!("kill -KILL {pid}")).ok();
        it.wait(&format!("! test -e /proc/{pid}"));
        // one of the two restarts it, whoever is the first
        it.wait("watchdog check --json");
        let now = it.show(&format!("{unit}.service"), "MainPID");
        assert_ne!(now, pid);
        it.sh("rm -r /var/lib/watchdog").ok();
    }
}
