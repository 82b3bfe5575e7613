//! Daemons that are started by hand or by their own start script, as they are where nobody uses units: each gives up
//! root, forks twice, has a keeper, names its processes or leaves its PID file to others in its own way. The table that
//! `adopt` prints of each is taken as it is: the daemon is found healthy, its death is seen, and afterwards there is
//! one copy that answers, or none and a person who is told so; never two.

use std::fmt::Write;

use crate::boxes::{Ended, SystemdBox};

/// A daemon, and what is to come of it when its main process is killed.
struct Program {
    name: &'static str,
    /// What starts it.
    start: &'static str,
    /// What prints the PID of its main process.
    main: &'static str,
    /// What the command lines of its processes have in them.
    marks: &'static str,
    /// A script that succeeds where it answers.
    answers: &'static str,
    after: After,
}

/// What a check does once the main process was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// The printed `spawn` is run, and the daemon works as before.
    Restarted,
    /// No command was printed that could be run: somebody is told, and nothing is started.
    Told,
    /// What keeps the daemon brings it back.
    BroughtBack,
}

/// One test for each program: a box boots in a second, and what fails says of which it is.
macro_rules! programs {
    ($($test:ident => $program:expr,)+) => {
        $(
            #[test]
            #[ignore = "needs root, systemd and the daemons"]
            fn $test() {
                lives_on(&$program);
            }
        )+
    };
}

programs! {
    named => Program {
        name: "named",
        // its package leaves the directory that it works in to root where it finds the key of an earlier one
        start: "install -d -g bind -m 775 /run/named /var/cache/bind; named -u bind",
        main: "cat /run/named/named.pid",
        marks: "named -u",
        answers: "listens 53",
        after: After::Restarted,
    },
    unbound => Program {
        name: "unbound",
        start: "rm -f /etc/unbound/unbound.conf.d/root-auto-trust-anchor-file.conf; unbound",
        main: "pidof unbound",
        marks: "unbound",
        answers: "listens 53",
        after: After::Restarted,
    },
    chrony => Program {
        name: "chrony",
        start: "install -d -o _chrony -g _chrony -m 750 /run/chrony; chronyd -x",
        main: "pidof chronyd | tr ' ' '\\n' | sort -n | head -n 1",
        marks: "chronyd",
        answers: "test -S /run/chrony/chronyd.sock",
        after: After::Restarted,
    },
    tor => Program {
        name: "tor",
        start: "install -d -o debian-tor -g debian-tor -m 2750 /run/tor; \
                tor --defaults-torrc /usr/share/tor/tor-service-defaults-torrc -f /etc/tor/torrc --RunAsDaemon 1 --DisableNetwork 1",
        main: "cat /run/tor/tor.pid",
        marks: "tor --defaults",
        answers: "kill -0 $(cat /run/tor/tor.pid)",
        after: After::Restarted,
    },
    varnish => Program {
        name: "varnish",
        start: "varnishd -a 127.0.0.1:6081 -f /etc/varnish/default.vcl -s malloc,8m -P /run/varnishd.pid",
        main: "cat /run/varnishd.pid",
        marks: "varnishd",
        answers: "listens 6081",
        after: After::Restarted,
    },
    collectd => Program {
        name: "collectd",
        start: "printf 'FQDNLookup false\\nLoadPlugin cpu\\nPIDFile \"/run/collectd.pid\"\\nBaseDir \"/tmp\"\\n' >/etc/c.conf; \
                collectdmon -c /usr/sbin/collectd -P /run/collectdmon.pid -- -C /etc/c.conf",
        main: "pidof collectd",
        marks: "collectd -C",
        answers: "true",
        after: After::BroughtBack,
    },
    supervisord => Program {
        name: "supervisord",
        start: "supervisord -c /etc/supervisor/supervisord.conf",
        main: "cat /run/supervisord.pid",
        marks: "bin/supervisord -c",
        answers: "test -S /run/supervisor.sock",
        after: After::Restarted,
    },
    worker => Program {
        name: "worker",
        start: "printf '[program:worker]\\ncommand=/bin/sleep 4711\\n' >/etc/supervisor/conf.d/worker.conf; \
                supervisord -c /etc/supervisor/supervisord.conf",
        main: "pgrep -f '^/bin/sleep 4711'",
        marks: "/bin/sleep 4711",
        answers: "true",
        after: After::BroughtBack,
    },
    apache2 => Program {
        name: "apache2",
        start: "set -a; . /etc/apache2/envvars; set +a; mkdir -p $APACHE_RUN_DIR; apache2 -k start",
        main: "cat /run/apache2/apache2.pid",
        marks: "apache2 -k",
        answers: "listens 80",
        after: After::Told,
    },
    gunicorn => Program {
        name: "gunicorn",
        start: "mkdir -p /srv/g; cd /srv/g; printf 'def app(e, r):\\n r(\"200 OK\", [])\\n return [b\"ok\"]\\n' >web.py; \
                setsid gunicorn -w 2 -b 127.0.0.1:8000 web:app >/dev/null 2>&1 &",
        main: "pgrep -o -f 'gunicorn -w'",
        marks: "bin/gunicorn -w",
        answers: "listens 8000",
        after: After::Restarted,
    },
    uvicorn => Program {
        // started without job control: its workers are in a group that it does not lead
        name: "uvicorn",
        start: "mkdir -p /srv/u; cd /srv/u; printf 'async def app(s, r, d):\\n pass\\n' >web.py; \
                uvicorn --workers 2 --port 8001 --lifespan off web:app >/dev/null 2>&1 &",
        main: "pgrep -o -f 'uvicorn --workers'",
        marks: "bin/uvicorn --w",
        answers: "listens 8001",
        after: After::Restarted,
    },
    zabbix_agent => Program {
        name: "zabbix-agent",
        start: "install -d -o zabbix /run/zabbix /var/log/zabbix-agent; zabbix_agentd -c /etc/zabbix/zabbix_agentd.conf",
        main: "cat /run/zabbix/zabbix_agentd.pid",
        marks: "zabbix_agentd",
        answers: "listens 10050",
        after: After::Restarted,
    },
    beanstalkd => Program {
        name: "beanstalkd",
        start: "start-stop-daemon --start --background --make-pidfile --pidfile /run/beanstalkd.pid --chuid beanstalkd \
                --exec /usr/bin/beanstalkd -- -l 127.0.0.1 -p 11300",
        main: "cat /run/beanstalkd.pid",
        marks: "beanstalkd",
        answers: "listens 11300",
        after: After::Restarted,
    },
    etcd => Program {
        name: "etcd",
        start: "install -d -o etcd /var/lib/etcd/default; ETCD_DATA_DIR=/var/lib/etcd/default ETCD_NAME=box \
                start-stop-daemon --start --background --make-pidfile --pidfile /run/etcd.pid --chuid etcd --exec /usr/bin/etcd",
        main: "cat /run/etcd.pid",
        marks: "/usr/bin/etcd",
        answers: "listens 2379",
        after: After::Told,
    },
    prometheus => Program {
        name: "prometheus",
        start: "install -d -o prometheus /var/lib/prometheus/metrics2; start-stop-daemon --start --background --make-pidfile \
                --pidfile /run/prometheus.pid --chuid prometheus --exec /usr/bin/prometheus -- \
                --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/prometheus/metrics2 \
                --web.listen-address=127.0.0.1:9090",
        main: "cat /run/prometheus.pid",
        marks: "/usr/bin/prometheus --",
        answers: "listens 9090",
        after: After::Restarted,
    },
    php_fpm => Program {
        // writes a title over its arguments
        name: "php-fpm",
        start: "mkdir -p /run/php; $(command -v /usr/sbin/php-fpm*) --daemonize",
        main: "cat /run/php/php*-fpm.pid",
        marks: "php-fpm",
        answers: "ls /run/php/*.sock",
        after: After::Told,
    },
    rabbitmq => Program {
        // an Erlang machine, which runs on variables of its start script
        name: "rabbitmq",
        start: "cd /root; setsid runuser -u rabbitmq -- env HOME=/var/lib/rabbitmq RABBITMQ_NODENAME=rabbit@localhost \
                /usr/lib/rabbitmq/bin/rabbitmq-server >/dev/null 2>&1 &",
        main: "pgrep -o beam.smp",
        marks: "bin/beam.smp",
        answers: "listens 5672",
        after: After::Told,
    },
    snmpd => Program {
        // its arguments are not those that it was started with: it cuts one of them up in place
        name: "snmpd",
        start: "snmpd -Lf /dev/null -I -smux,mteTrigger,mteTriggerConf -p /run/snmpd.pid udp:127.0.0.1:1161",
        main: "cat /run/snmpd.pid",
        marks: "snmpd -Lf",
        answers: "ss -Hlun 'sport = :1161' | grep -q .",
        after: After::Told,
    },
    postgrey => Program {
        // a title that looks like a command line, and a database that looks like a log
        name: "postgrey",
        start: "install -d -o postgrey /run/postgrey; postgrey --pidfile=/run/postgrey/postgrey.pid --daemonize --inet=10023",
        main: "cat /run/postgrey/postgrey.pid",
        marks: "postgrey --pidfile",
        answers: "listens 10023",
        after: After::Told,
    },
    node => Program {
        // a cluster whose primary has a title of its own
        name: "node",
        start: "mkdir -p /srv/n; cd /srv/n; printf 'const c = require(\"cluster\"); process.title = \"mybot\"; if (c.isPrimary) \
                { c.fork(); c.fork(); c.on(\"exit\", () => c.fork()); } else { require(\"http\").createServer((q, s) => \
                s.end()).listen(8002, \"127.0.0.1\"); }' >server.js; setsid node server.js >/dev/null 2>&1 &",
        main: "pgrep -o -x mybot",
        marks: "mybot",
        answers: "listens 8002",
        after: After::Told,
    },
}

const PREPARE: &str = r#"
printf '127.0.0.1 localhost sdbox\n' >/etc/hosts
cat >/usr/local/bin/listens <<'END'
#!/bin/sh
ss -Hltn "sport = :$1" | grep -q .
END
chmod 755 /usr/local/bin/listens
"#;

/// A program in the box under the table that was printed of it.
struct Adopted<'a> {
    it: &'a SystemdBox,
    program: &'a Program,
    service: String,
    table: String,
}

impl<'a> Adopted<'a> {
    fn start(it: &'a SystemdBox, program: &'a Program) -> Self {
        it.sh(&format!("cd /; {}", program.start)).ok();
        it.wait(&format!("test -n \"$({})\"", program.main));
        it.wait(program.answers);
        let main = it.sh(program.main).ok();
        let name = program.name;
        let table = it.sh(&format!("watchdog adopt {main}")).ok();
        let (_, rest) = table.split_once("[service.").unwrap();
        let service = rest.split_once(']').unwrap().0.trim_matches('"').to_owned();
        let mut config = format!("state_dir = \"/var/lib/watchdog-{name}\"\n{table}\n");
        // where a keeper's own command was printed, its limits stay
        if !table.contains("\nrestart = ") {
            let _ = writeln!(
                config,
                "[service.\"{service}\".restart]\nsettle = \"500ms\"\nstop_timeout = \"3s\"\nmax_per_hour = 9"
            );
        }
        it.write(&format!("/etc/watchdog/{name}.toml"), &config);
        let it = Self {
            it,
            program,
            service,
            table,
        };
        it.watchdog("validate").exits(0);
        it
    }

    fn watchdog(&self, command: &str) -> Ended {
        let name = self.program.name;
        self.it.sh(&format!(
            "cd /; env -i PATH=/usr/bin:/bin HOME=/root /usr/local/bin/watchdog --config /etc/watchdog/{name}.toml {command}"
        ))
    }

    fn verdict(&self) -> String {
        let ended = self.watchdog("check --json");
        ended.service(&self.service)["verdict"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Its processes whose parent is none of them.
    fn copies(&self) -> usize {
        let script = format!(
            "ps -eo pid=,ppid=,args= | awk -v m='{}' 'index($0, m) && !/awk|watchdog|collectdmon/ {{ mine[$1]; up[$1] = $2 }} \
             END {{ for (p in mine) if (!(up[p] in mine)) n++; print n + 0 }}'",
            self.program.marks
        );
        self.it.sh(&script).ok().parse().unwrap()
    }

    /// Kills its main process, and waits for its end: one with many threads may be there for a moment.
    fn kill(&self) {
        let main = self.it.sh(self.program.main).ok();
        self.it.sh(&format!("kill -KILL {main}")).ok();
        self.it.wait(&format!(
            "! grep -qs '^State:[[:space:]]*[^ZX]' /proc/{main}/status"
        ));
    }

    /// What comes of a daemon whose main process was killed or frozen.
    #[track_caller]
    fn comes_back(&self) {
        let seen = self.verdict();
        let table = &self.table;
        match self.program.after {
            After::Restarted => assert_eq!(seen, "restarted", "{table}"),
            After::Told => {
                assert_eq!(seen, "down", "{table}");
                return;
            }
            After::BroughtBack => {
                assert!(
                    ["healthy", "restarted", "down"].contains(&&*seen),
                    "{seen}: {table}"
                );
            }
        }
        self.it.wait(self.program.answers);
        self.is_well();
    }

    #[track_caller]
    fn is_well(&self) {
        // orphaned workers may notice the end of their parent a little later
        crate::scene::wait_until("one copy", || self.copies() == 1);
        assert_eq!(self.verdict(), "healthy", "{}", self.table);
        assert_eq!(self.copies(), 1, "{}", self.table);
    }
}

/// Adopts a program, kills it, and sees what comes of it.
fn lives_on(program: &Program) {
    let it = SystemdBox::boot_alone();
    it.sh(PREPARE).ok();
    let adopted = Adopted::start(&it, program);
    adopted.is_well();
    adopted.kill();
    adopted.comes_back();
}
