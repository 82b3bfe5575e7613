//! The daemons of Debian, each under the config that `examples/daemons/` has for it: as packaged, with Debian's own
//! unit, PID file, log and user, in a box of their own. Each is frozen, killed, has its PID file taken away and
//! exchanged, and is brought back: one copy of it, which answers.

use std::fs;
use std::path::Path;

use crate::boxes::{Ended, SystemdBox, shipped};

/// What a daemon is brought up with, and how it is asked whether it works.
struct Daemon {
    /// The example's name.
    example: &'static str,
    /// The unit.
    unit: &'static str,
    /// The name that the kernel has of its processes.
    comm: &'static str,
    /// A script that succeeds where it answers.
    answers: &'static str,
    /// Whether its unit file has systemd itself start it again when it dies.
    by_itself: bool,
}

const DAEMONS: [Daemon; 12] = [
    Daemon {
        example: "nginx",
        unit: "nginx.service",
        comm: "nginx",
        answers: "ask 80 'GET / HTTP/1.0\\r\\n\\r\\n' | grep -q '200 OK'",
        by_itself: false,
    },
    Daemon {
        example: "redis-server",
        unit: "redis-server.service",
        comm: "redis-server",
        answers: "ask 6379 'PING\\r\\n' | grep -q PONG",
        by_itself: true,
    },
    Daemon {
        example: "postgresql",
        unit: "postgresql@15-main.service",
        comm: "postgres",
        answers: "runuser -u postgres -- psql -Atc 'select 6 * 7' | grep -qx 42",
        by_itself: false,
    },
    Daemon {
        example: "postfix",
        unit: "postfix@-.service",
        comm: "master",
        answers: "ask 25 '' | grep -q '^220 .* ESMTP'",
        by_itself: false,
    },
    Daemon {
        example: "cron",
        unit: "cron.service",
        comm: "cron",
        // it takes no requests; while it lives, it holds a lock on its PID file, wherever that is now
        answers: "grep -q '[S] (sleeping)' /proc/$(pidof cron)/status",
        by_itself: true,
    },
    Daemon {
        example: "sshd",
        unit: "ssh.service",
        comm: "sshd",
        answers: "ask 22 'SSH-2.0-zoo\\r\\n' | grep -aq '^SSH-2.0-OpenSSH'",
        by_itself: true,
    },
    Daemon {
        example: "rsyslog",
        unit: "rsyslog.service",
        comm: "rsyslogd",
        answers: "m=zoo-$$; logger $m; for n in 1 2 3 4 5 6 7 8; do grep -q $m /var/log/syslog && exit; sleep 0.1; done; exit 1",
        by_itself: true,
    },
    Daemon {
        example: "memcached",
        unit: "memcached.service",
        comm: "memcached",
        answers: "ask 11211 'version\\r\\n' | grep -q VERSION",
        by_itself: true,
    },
    Daemon {
        example: "mosquitto",
        unit: "mosquitto.service",
        comm: "mosquitto",
        // a CONNECT, and the code of the CONNACK
        answers: "ask 1883 '\\x10\\x0f\\0\\x04MQTT\\x04\\x02\\0\\x3c\\0\\x03zoo' | od -An -tx1 | grep -q '20 02 00 00'",
        by_itself: true,
    },
    Daemon {
        example: "haproxy",
        unit: "haproxy.service",
        comm: "haproxy",
        answers: "ask 8081 'GET / HTTP/1.0\\r\\n\\r\\n' | grep -q '200 OK'",
        by_itself: true,
    },
    Daemon {
        example: "lighttpd",
        unit: "lighttpd.service",
        comm: "lighttpd",
        answers: "ask 8080 'GET / HTTP/1.0\\r\\n\\r\\n' | grep -q '^HTTP/1.0 [24]'",
        by_itself: true,
    },
    Daemon {
        example: "dnsmasq",
        unit: "dnsmasq.service",
        comm: "dnsmasq",
        // localhost., type A, by TCP: it is in /etc/hosts
        answers: "ask 53 '\\0\\x1b\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x09localhost\\0\\0\\x01\\0\\x01' | od -An -tx1 | tr -d '\\n' | grep -q '7f 00 00 01'",
        by_itself: false,
    },
];

/// What the packages do at boot or leave to their administrator.
const PREPARE: &str = r#"
systemd-tmpfiles --create memcached.conf haproxy.conf lighttpd.tmpfile.conf
systemctl enable -q rsyslog
printf '127.0.0.1 localhost\n' >/etc/hosts
sed -i 's/^server.port .*/server.port = 8080/' /etc/lighttpd/lighttpd.conf
printf 'frontend zoo\n\tbind 127.0.0.1:8081\n\thttp-request return status 200 content-type text/plain string ok\n' >>/etc/haproxy/haproxy.cfg
printf 'compatibility_level = 3.6\nmyhostname = zoo\ninet_interfaces = 127.0.0.1\nalias_maps =\n' >/etc/postfix/main.cf
cat >/usr/local/bin/ask <<'END'
#!/bin/bash
# ask PORT BYTES: sends the bytes, and prints what comes back within two seconds
exec 3<>/dev/tcp/127.0.0.1/"$1" || exit
printf "$2" >&3
timeout 2 cat <&3
exit 0
END
chmod 755 /usr/local/bin/ask
"#;

/// A daemon in the box, under its example.
struct Animal<'a> {
    zoo: &'a SystemdBox,
    daemon: &'a Daemon,
    unit: String,
    config: String,
    service: String,
    pid_file: Option<String>,
}

impl<'a> Animal<'a> {
    fn enter(zoo: &'a SystemdBox, daemon: &'a Daemon, version: &str) -> Self {
        // the one thing in an example that the machine decides: which PostgreSQL Debian has
        let at_home = |text: &str| {
            text.replace("15-main", &format!("{version}-main"))
                .replace("/15/main", &format!("/{version}/main"))
        };
        let config = at_home(&shipped(&format!(
            "examples/daemons/{}.toml",
            daemon.example
        )));
        let between = |from: &str, to: &str| {
            let (_, rest) = config.split_once(from)?;
            Some(rest.split_once(to)?.0.to_owned())
        };
        let it = Self {
            zoo,
            daemon,
            unit: at_home(daemon.unit),
            service: between("\n[service.", "]").unwrap(),
            pid_file: between("pid_file = \"", "\""),
            config,
        };
        assert!(it.config.contains(&format!("unit = \"{}\"", it.unit)));
        it.configure(&it.config);
        it
    }

    fn configure(&self, text: &str) {
        self.zoo
            .write(&format!("/etc/watchdog/{}.toml", self.daemon.example), text);
    }

    /// Runs the watchdog as root's cron would, with a state of its own: the others are looked after at the same time.
    fn watchdog(&self, command: &str) -> Ended {
        let name = self.daemon.example;
        self.zoo.sh(&format!(
            "cd /; env -i PATH=/usr/bin:/bin HOME=/root STATE_DIRECTORY=/var/lib/watchdog-{name} \
             /usr/local/bin/watchdog --config /etc/watchdog/{name}.toml {command}"
        ))
    }

    fn check(&self) -> Ended {
        self.watchdog("check --json")
    }

    /// It is well, there is one of it, and it answers. Gives back its main process.
    #[track_caller]
    fn is_well(&self) -> i32 {
        self.zoo.wait(self.daemon.answers);
        let ended = self.check().exits(0).tells(&self.service, "healthy", &[]);
        let pid = main_of(&ended, &self.service);
        assert_eq!(self.copies(), [pid], "{}", self.service);
        if let Some(path) = &self.pid_file {
            let named = self.zoo.sh(&format!("head -n 1 {path}")).ok();
            assert_eq!(named, pid.to_string(), "{}", self.service);
        }
        pid
    }

    /// Its processes whose parent is none of them.
    fn copies(&self) -> Vec<i32> {
        let listed = self
            .zoo
            .sh(&format!("ps -C {} -o pid=,ppid=,stat=", self.daemon.comm));
        let processes: Vec<(i32, i32)> = listed
            .stdout
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let pid = words.next()?.parse().ok()?;
                let parent = words.next()?.parse().ok()?;
                (!words.next()?.starts_with('Z')).then_some((pid, parent))
            })
            .collect();
        let all = |parent: i32| processes.iter().any(|&(pid, _)| pid == parent);
        processes
            .iter()
            .filter(|&&(_, parent)| !all(parent))
            .map(|&(pid, _)| pid)
            .collect()
    }

    fn signal(&self, signal: &str, pid: i32) {
        self.zoo.sh(&format!("kill -{signal} {pid}")).ok();
    }

    #[track_caller]
    fn is_brought_back(&self, codes: &[&str]) {
        let ended = self.check().exits(1);
        let service = ended.service(&self.service);
        assert_eq!(service["verdict"], "restarted", "{service}");
        for code in codes {
            assert!(
                service["findings"].to_string().contains(code),
                "no {code}: {service}"
            );
        }
    }

    /// What each goes through.
    fn is_looked_after(&self) {
        self.zoo.sh(&format!("systemctl start {}", self.unit)).ok();
        let first = self.is_well();
        // nobody is told by mail in these configs; that is the only trap
        let valid = self.watchdog("validate").ok();
        assert!(valid.ends_with("1 service, no errors, 1 trap"), "{valid}");
        assert!(
            valid.contains(&format!("\n    PID {first}: "))
                && valid.matches("\n    PID ").count() == 1,
            "the pattern matches one process: {valid}"
        );

        // as it runs now it is its unit's, whatever it writes over its arguments
        let adopted = self.watchdog(&format!("adopt {first}")).ok();
        let unit = format!("systemd = {{ unit = \"{}\" }}", self.unit);
        assert!(
            adopted.contains(&unit) && !adopted.contains("spawn ="),
            "{adopted}"
        );

        let second = self.is_frozen(first);
        let third = self.is_killed(second);
        self.watchdog(&format!("reset {}", self.service)).ok();
        let fourth = self.loses_its_pid_file(third);
        self.is_dead_while_its_pid_file_names_a_stranger(fourth);

        // with all that the example offers beside
        let offered: String = self
            .config
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        if offered != self.config {
            self.configure(&offered);
            let ended = self.check().exits(0);
            let valid = self.watchdog("validate");
            assert!(valid.code == 0, "{valid:?}");
            assert!(ended.service(&self.service)["action"].is_null());
        }
    }

    fn is_frozen(&self, main: i32) -> i32 {
        self.signal("STOP", main);
        self.is_brought_back(&["process_stopped"]);
        let next = self.is_well();
        assert_ne!(main, next);
        next
    }

    /// Its main process alone is killed: workers are left to themselves, and the PID file names nothing.
    fn is_killed(&self, main: i32) -> i32 {
        self.signal("KILL", main);
        if self.daemon.by_itself {
            // systemd was there first
            self.zoo.wait(&format!(
                "systemctl is-active {unit} && test $(systemctl show -P MainPID {unit}) != {main}",
                unit = self.unit
            ));
            self.zoo.wait(self.daemon.answers);
            self.check()
                .exits(1)
                .tells(&self.service, "degraded", &["unit_restarted"]);
        } else {
            self.zoo.wait(&format!(
                "! kill -0 {main} || grep -q '^State:.Z' /proc/{main}/status"
            ));
            self.is_brought_back(&["process_missing"]);
        }
        let next = self.is_well();
        assert_ne!(main, next);
        next
    }

    /// It runs on without its PID file, with nonsense in it, and is found and left alone; the next start writes it again.
    fn loses_its_pid_file(&self, main: i32) -> i32 {
        let Some(path) = &self.pid_file else {
            return main;
        };
        for spoil in [
            "rm",
            "printf 'soon\\n' >",
            "printf 1 >",
            "sh -c 'echo $$ >$0'",
        ] {
            self.zoo.sh(&format!("{spoil} {path}")).ok();
            let ended = self
                .check()
                .exits(1)
                .tells(&self.service, "degraded", &["pid_file_stale"]);
            assert_eq!(main_of(&ended, &self.service), main, "{spoil}");
            assert!(ended.service(&self.service)["action"].is_null());
        }
        self.signal("STOP", main);
        self.is_brought_back(&["process_stopped", "pid_file_stale"]);
        self.is_well()
    }

    /// It was stopped by hand, and its PID file names a program that is none of its own.
    fn is_dead_while_its_pid_file_names_a_stranger(&self, main: i32) {
        // rsyslog's socket would bring it back
        let unit = &self.unit;
        self.zoo
            .sh(&format!(
                "systemctl stop {unit} $(systemctl show -P TriggeredBy {unit})"
            ))
            .ok();
        let stranger = self.zoo.sh("sleep 1000 >/dev/null 2>&1 & echo $!").ok();
        if let Some(path) = &self.pid_file {
            self.zoo
                .sh(&format!(
                    "d=$(dirname {path}); mkdir -p $d; echo {stranger} >{path}; chown --reference=$d {path}"
                ))
                .ok();
        }
        // a unit that a socket starts may be inactive: there the missing process alone is what is wrong
        let is_triggered = self.daemon.example == "rsyslog";
        let codes: &[&str] = if is_triggered {
            &["process_missing"]
        } else {
            &["process_missing", "unit_inactive"]
        };
        self.is_brought_back(codes);
        assert_ne!(self.is_well(), main);
        self.zoo.sh(&format!("kill {stranger}")).ok();
    }
}

fn main_of(ended: &Ended, service: &str) -> i32 {
    let pid = ended.service(service)["pid"].as_i64();
    i32::try_from(pid.unwrap_or_else(|| panic!("no PID: {ended:?}"))).unwrap()
}

#[test]
#[ignore = "needs root, systemd, redis-server, nginx, memcached, rsyslog, openssh-server, mosquitto, haproxy, lighttpd, dnsmasq, postgresql, postfix, cron"]
fn the_daemons_of_debian_are_looked_after_as_the_examples_say() {
    let version = fs::read_dir("/etc/postgresql")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .max()
        .expect("a cluster of PostgreSQL's");
    let zoo = SystemdBox::boot_alone();
    zoo.sh(PREPARE).ok();
    std::thread::scope(|scope| {
        for daemon in &DAEMONS {
            let (zoo, version) = (&zoo, &version);
            scope.spawn(move || Animal::enter(zoo, daemon, version).is_looked_after());
        }
    });
}

#[test]
fn each_daemon_that_has_an_example_is_in_the_zoo() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/daemons");
    let mut examples: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut animals: Vec<String> = DAEMONS
        .iter()
        .map(|it| format!("{}.toml", it.example))
        .collect();
    examples.sort();
    animals.sort();
    assert_eq!(examples, animals);
}
