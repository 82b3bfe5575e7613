//! Under a real systemd, which is PID 1 of a box: units as checks and as a way to restart, and timers.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::boxes::{Ended, SystemdBox, shipped};
use crate::scene::wait_until;

/// A unit that runs a shell script.
fn running(script: &str) -> String {
    format!("[Service]\nExecStart=/bin/sh -c '{script}'\n")
}

/// A service that is a unit, with quick limits.
fn service(name: &str, more: &str) -> String {
    format!(
        "[service.{name}]\nsystemd = {{ unit = \"{name}.service\" }}\nstart_grace = \"0s\"\n{more}\n\
         [service.{name}.restart]\nsettle = \"500ms\"\nstop_timeout = \"1s\"\nmax_per_hour = 9\n"
    )
}

/// A box with one unit, running, and a config that looks after it.
fn with_unit(name: &str, unit: &str) -> SystemdBox {
    let it = SystemdBox::boot();
    it.unit(&format!("{name}.service"), unit);
    it.config(&service(name, ""));
    it
}

/// Freezes the main process of the bot, and tells which one it is.
fn freeze(it: &SystemdBox) -> String {
    let pid = it.show("bot.service", "MainPID");
    it.sh(&format!("kill -STOP {pid}")).ok();
    pid
}

/// A run that restarts the bot for one finding.
#[track_caller]
fn restarted_for(it: &SystemdBox, finding: &str) -> Ended {
    it.check().exits(1).tells("bot", "restarted", &[finding])
}

fn restarted_error(ended: &Ended, name: &str) -> String {
    let service = ended.service(name);
    service["action"]["error"]
        .as_str()
        .unwrap_or_else(|| panic!("no error: {service}"))
        .to_owned()
}

#[test]
#[ignore = "needs root and systemd"]
fn f27_every_state_of_a_unit_is_told_and_one_call_asks_for_all() {
    let it = SystemdBox::boot();
    for name in ["well", "dead", "failed", "masked", "again"] {
        it.unit(&format!("{name}.service"), &running("exec sleep 1000"));
    }
    it.unit("failed.service", &running("exit 3"));
    it.unit(
        "again.service",
        "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=100\n",
    );
    it.unit(
        "slow.service",
        "[Service]\nType=notify\nExecStart=/bin/sleep 1000\n",
    );
    it.unit("one@.service", &running("exec sleep 100%i"));
    // never restarted here: only what is seen is of interest
    let names = [
        "well", "dead", "failed", "masked", "again", "slow", "missing", "one@1",
    ];
    let table = |name: &&str| {
        let key = name.replace('@', "-");
        let unit = format!("systemd = {{ unit = \"{name}.service\" }}");
        format!("[service.{key}]\n{unit}\nrestart = {{ max_per_hour = 0 }}\n")
    };
    let config = names.iter().map(table).collect::<Vec<_>>().concat();
    it.config(&config);
    // counts the calls, and hands them on
    it.write(
        "/usr/local/sbin/systemctl",
        "#!/bin/sh\necho \"$*\" >>{dir}/calls\nexec /usr/bin/systemctl \"$@\"\n",
    );
    it.sh("chmod 755 /usr/local/sbin/systemctl").ok();
    it.sh("systemctl start well one@1 failed again; systemctl start --no-block slow; systemctl stop masked; rm /etc/systemd/system/masked.service; systemctl mask masked").ok();
    it.wait("systemctl is-failed failed && [ $(systemctl show -P SubState again) = auto-restart ]");
    it.sh("rm -f {dir}/calls").ok();
    let ended = it
        .check()
        .exits(2)
        .tells("well", "healthy", &[])
        .tells("one-1", "healthy", &[])
        .tells("dead", "down", &["unit_inactive"])
        .tells("failed", "down", &["unit_failed"])
        .tells("masked", "unknown", &["unit_masked"])
        .tells("missing", "unknown", &["unit_not_found"])
        .tells("again", "starting", &[])
        .tells("slow", "starting", &[]);
    let failed = ended.service("failed")["findings"][0]["message"].to_string();
    assert!(
        failed.contains("exit status 3, result exit-code"),
        "{failed}"
    );
    let pid = it.show("well.service", "MainPID");
    assert_eq!(ended.service("well")["pid"].to_string(), pid);
    let calls = std::fs::read_to_string(it.path("calls")).unwrap();
    let asked = calls.lines().filter(|line| line.contains("Names")).count();
    assert_eq!(asked, 1, "{calls}");
}

#[test]
#[ignore = "needs root and systemd"]
fn f27_a_systemd_that_hangs_is_given_up_in_time() {
    let it = with_unit("bot", &running("exec sleep 1000"));
    it.config(&format!("check_timeout = \"2s\"\n{}", service("bot", "")));
    it.sh("systemctl start bot").ok();
    it.check().exits(0).tells("bot", "healthy", &[]);
    let pid_1 = Pid::from_raw(it.pid_1());
    kill(pid_1, Signal::SIGSTOP).unwrap();
    let began = std::time::Instant::now();
    let hung = it.check();
    let took = began.elapsed();
    kill(pid_1, Signal::SIGCONT).unwrap();
    let hung = hung
        .exits(3)
        .tells("bot", "unknown", &["systemd_unreachable"]);
    assert!(
        took.as_secs() < 30,
        "systemctl's own limit is 90 s: {took:?}"
    );
    assert!(hung.service("bot")["action"].is_null());
    it.check().exits(0).tells("bot", "healthy", &[]);
}

#[test]
#[ignore = "needs root and systemd"]
fn f28_restarts_that_systemd_makes_itself_are_seen() {
    let it = with_unit(
        "bot",
        "[Service]\nExecStart=/bin/sleep 1000\nRestart=always\nRestartSec=10ms\n",
    );
    it.sh("systemctl start bot").ok();
    it.check().exits(0).tells("bot", "healthy", &[]);
    for times in 1..=2 {
        it.sh("systemctl kill -s KILL bot").ok();
        it.wait(&format!(
            "[ $(systemctl show -P NRestarts bot) = {times} ] && systemctl is-active bot"
        ));
    }
    let ended = it
        .check()
        .exits(1)
        .tells("bot", "degraded", &["unit_restarted"]);
    let message = ended.service("bot")["findings"][0]["message"].to_string();
    assert!(message.contains("2 times"), "{message}");
    // told once, and what the watchdog itself does is not counted
    it.check().exits(0).tells("bot", "healthy", &[]);
    it.sh("systemctl stop bot").ok();
    restarted_for(&it, "unit_inactive");
    it.check().exits(0).tells("bot", "healthy", &[]);
}

#[test]
#[ignore = "needs root and systemd"]
fn a_unit_that_is_stopping_is_waited_for() {
    let it = with_unit(
        "bot",
        "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sh -c \"sleep 2\"\n",
    );
    it.sh("systemctl start bot; systemctl stop --no-block bot")
        .ok();
    it.wait("[ $(systemctl show -P ActiveState bot) = deactivating ]");
    restarted_for(&it, "unit_inactive");
    // one that takes longer than a check may is left to the time that its unit file gives it
    it.config(&format!("check_timeout = \"1s\"\n{}", service("bot", "")));
    it.unit(
        "bot.service",
        "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sh -c \"sleep 60\"\n",
    );
    it.sh("systemctl stop --no-block bot").ok();
    it.wait("[ $(systemctl show -P ActiveState bot) = deactivating ]");
    it.check()
        .exits(3)
        .tells("bot", "unknown", &["check_timed_out"]);
}

#[test]
#[ignore = "needs root and systemd"]
fn one_that_ignores_term_or_hangs_in_its_stop_is_killed_and_started() {
    for unit in [
        "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\nTimeoutStopSec=300\n",
        "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sleep 300\nTimeoutStopSec=300\n",
        "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\n\
         ExecStop=/bin/sleep 300\nExecStopPost=/bin/sleep 300\nTimeoutStopSec=300\n",
    ] {
        let it = with_unit("bot", unit);
        it.sh("systemctl start bot").ok();
        let old = freeze(&it);
        let ended = restarted_for(&it, "process_stopped");
        assert!(
            ended
                .stderr
                .contains("bot.service did not stop within 1s, it is deactivating (stop")
                && ended.stderr.contains("): killing it\n"),
            "{ended:?}"
        );
        let action = ended.service("bot")["action"].clone();
        let new = it.show("bot.service", "MainPID");
        assert_ne!(old, new);
        assert_eq!(action["old_pid"].to_string(), old);
        assert_eq!(action["new_pid"].to_string(), new);
        assert_eq!(action["method"], "systemd");
        let record = action["evidence"].as_str().unwrap();
        it.sh(&format!("grep -q '^PID {old} (' {record}")).ok();
        assert_eq!(it.show("bot.service", "NRestarts"), "0");
        it.sh(&format!("! test -e /proc/{old}")).ok();
        it.check().exits(0).tells("bot", "healthy", &[]);
    }
}

#[test]
#[ignore = "needs root and systemd"]
fn one_that_outlives_kill_is_not_started() {
    // each is killed, and the next one begins
    let unit = format!(
        "[Service]\nExecStart=/bin/sleep 1000\nTimeoutStopSec=300\n{}",
        "ExecStopPost=-/bin/sleep 300\n".repeat(200)
    );
    let it = with_unit("bot", &unit);
    it.sh("systemctl start bot").ok();
    freeze(&it);
    let error = restarted_error(&it.check().exits(2), "bot");
    assert_eq!(
        error,
        "bot.service is still deactivating (stop-post) after KILL; nothing was started"
    );
}

#[test]
#[ignore = "needs root and systemd"]
fn a_frozen_one_is_thawed_for_the_stop_command_of_its_unit() {
    let it = with_unit(
        "bot",
        "[Service]\nExecStart=/bin/sh -c 'trap \"touch {dir}/clean; exit 0\" USR1; touch {dir}/up; while :; do sleep 0.1; done'\n\
         ExecStop=/bin/sh -c 'kill -USR1 $MAINPID; while kill -0 $MAINPID; do sleep 0.1; done'\nTimeoutStopSec=300\n",
    );
    it.config(&service("bot", "").replace("\"1s\"", "\"60s\""));
    it.sh("systemctl start bot").ok();
    it.wait("test -e {dir}/up");
    freeze(&it);
    let ended = restarted_for(&it, "process_stopped");
    assert!(!ended.stderr.contains("killing it"), "{ended:?}");
    it.sh("test -e {dir}/clean").ok();
    it.check().exits(0).tells("bot", "healthy", &[]);
}

#[test]
#[ignore = "needs root and systemd"]
fn one_that_its_socket_starts_anew_has_been_stopped() {
    let it = with_unit(
        "bot",
        "[Unit]\nRequires=bot.socket\n[Service]\nExecStart=/bin/sh -c 'echo $$$$ >{dir}/bot.pid; exec sleep 1000'\n",
    );
    // a datagram that nobody takes has the socket start it again and again
    it.unit("bot.socket", "[Socket]\nListenDatagram=/run/bot.sock\n");
    let known = "process = { pid_file = \"{dir}/bot.pid\", command_line = '^sleep 1000$' }";
    it.config(&service("bot", known).replace("\"1s\"", "\"60s\""));
    it.sh("systemctl start bot.socket && python3 -c 'import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b\"x\", \"/run/bot.sock\")'").ok();
    it.wait("systemctl is-active bot && test -s {dir}/bot.pid");
    it.check().exits(0).tells("bot", "healthy", &[]);
    let old = freeze(&it);
    let ended = restarted_for(&it, "process_stopped");
    assert!(!ended.stderr.contains("killing it"), "{ended:?}");
    let new = it.show("bot.service", "MainPID");
    assert_ne!(old, new);
    assert_eq!(ended.service("bot")["pid"].to_string(), new);
    it.check().exits(0).tells("bot", "healthy", &[]);
}

#[test]
#[ignore = "needs root and systemd"]
fn f15_one_that_fails_at_once_is_told_with_its_status_and_its_last_lines() {
    let it = with_unit("bot", &running("echo no config >&2; exit 7"));
    let ended = it
        .check()
        .exits(2)
        .tells("bot", "restart_failed", &["unit_inactive"]);
    let error = restarted_error(&ended, "bot");
    // systemd calls it active before it has run, and so may whoever looks just then
    let (came_up, how) = error.split_once(": ").unwrap();
    let at_once = [
        "bot.service did not come up",
        "bot.service came up, but not for 500ms",
    ];
    assert!(at_once.contains(&came_up), "{error}");
    assert!(
        how.starts_with("it is failed (failed), exit status 7, result exit-code"),
        "{error}"
    );
    let lines = ended.service("bot")["action"]["stderr"].to_string();
    assert!(lines.contains("no config"), "{lines}");
    // a program that does not exist, and one that ends well but ends
    it.unit("bot.service", "[Service]\nExecStart=/nonexistent\n");
    let error = restarted_error(&it.check().exits(2), "bot");
    assert!(error.contains("its program could not be run"), "{error}");
    it.unit("bot.service", &running("exit 0"));
    let error = restarted_error(&it.check().exits(2), "bot");
    assert!(
        error.contains("ended after its start, and without an error"),
        "{error}"
    );
    it.unit(
        "bot.service",
        "[Unit]\nConditionPathExists=/nonexistent\n[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n",
    );
    // systemd forgets all about a unit that nothing wants
    it.sh("systemctl enable bot").ok();
    assert_eq!(
        restarted_error(&it.check().exits(2), "bot"),
        "bot.service did not come up: it is inactive (dead), a condition in its unit file does not hold"
    );
    it.sh("systemctl disable bot").ok();
    // one that lives for a moment only
    it.unit("bot.service", &running("sleep 0.3; exit 9"));
    let error = restarted_error(&it.check().exits(2), "bot");
    assert!(
        at_once.iter().any(|came_up| error.starts_with(came_up)) && error.contains("exit status 9"),
        "{error}"
    );
    // one that would wait for ever to be ready
    it.unit(
        "bot.service",
        "[Service]\nType=notify\nExecStart=/bin/sleep 1000\n",
    );
    it.config(&service("bot", "").replace("settle", "start_timeout = \"1s\"\nsettle"));
    let error = restarted_error(&it.check().exits(2), "bot");
    assert!(
        error.contains("did not come up within 1s") && error.contains("activating (start)"),
        "{error}"
    );
    it.check().exits(0).tells("bot", "starting", &[]);
}

#[test]
#[ignore = "needs root and systemd"]
fn f27_systemds_own_start_limit_is_lifted() {
    let it = with_unit(
        "bot",
        "[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=1000\n\
         [Service]\nExecStart=/bin/sh -c 'test -e {dir}/good && exec sleep 1000'\nRestart=always\nRestartSec=10ms\n",
    );
    it.sh("systemctl start bot").ok();
    it.wait("systemctl is-failed bot");
    let ended = it.check().exits(2);
    let seen = ended.service("bot")["findings"].to_string();
    assert!(seen.contains("unit_failed"), "{seen}");
    it.wait("systemctl is-failed bot");
    it.sh("touch {dir}/good; systemctl start bot").exits(1);
    let ended = it.check().exits(1);
    assert_eq!(ended.service("bot")["verdict"], "restarted");
    it.check().exits(0).tells("bot", "healthy", &[]);
}

#[test]
#[ignore = "needs root and systemd"]
fn an_instance_of_a_template_is_a_unit_like_any_other() {
    let it = SystemdBox::boot();
    it.unit("bot@.service", &running("exec sleep 1%i"));
    it.config(
        "[service.a]\nsystemd = { unit = \"bot@100.service\" }\nstart_grace = \"0s\"\nrestart = { settle = \"0s\" }\n\
         [service.b]\nsystemd = { unit = \"bot@200\" }\nstart_grace = \"0s\"\nrestart = { settle = \"0s\" }\n",
    );
    it.sh("systemctl start bot@100").ok();
    let first = it.show("bot@100.service", "MainPID");
    it.check()
        .exits(1)
        .tells("a", "healthy", &[])
        .tells("b", "restarted", &["unit_inactive"]);
    assert_eq!(it.show("bot@100.service", "MainPID"), first);
    it.sh("systemctl is-active bot@200").ok();
    it.check().exits(0);
}

#[test]
#[ignore = "needs root and systemd"]
fn f23_a_users_manager_is_found_without_its_variable_or_missed_clearly() {
    let it = SystemdBox::boot();
    it.sh(
        "useradd -m -u 4242 wdtest && mkdir -p /home/wdtest/.config/systemd/user /home/wdtest/.config/watchdog && \
         printf '[Service]\\nExecStart=/bin/sleep 1000\\n' >/home/wdtest/.config/systemd/user/bot.service && \
         printf '[service.bot]\\nsystemd = { unit = \"bot.service\", manager = \"user\" }\\nstart_grace = \"0s\"\\n\
         restart = { settle = \"200ms\" }\\n' >/home/wdtest/.config/watchdog/watchdog.toml && \
         chown -R wdtest: /home/wdtest && chmod -R go-w /home/wdtest",
    )
    .ok();
    let check = |variables: &str| {
        it.sh(&format!(
            "cd /home/wdtest; setpriv --reuid=4242 --regid=4242 --init-groups env -i HOME=/home/wdtest \
             PATH=/usr/bin:/bin {variables} /usr/local/bin/watchdog check --json"
        ))
    };
    // its manager does not run: said, with what to do, and nothing is tried
    let ended = check("")
        .exits(3)
        .tells("bot", "unknown", &["systemd_unreachable"]);
    let message = ended.service("bot")["findings"][0]["message"].to_string();
    assert!(
        message.contains("there is no /run/user/4242") && message.contains("enable-linger wdtest"),
        "{message}"
    );
    linger(&it, "wdtest", 4242);
    check("")
        .exits(1)
        .tells("bot", "restarted", &["unit_inactive"]);
    check("").exits(0).tells("bot", "healthy", &[]);
    check("XDG_RUNTIME_DIR=/run/user/4242").exits(0);
    // that of somebody else, as sudo leaves it, is of no use
    check("XDG_RUNTIME_DIR=/run").exits(0);
}

#[test]
#[ignore = "needs root and systemd"]
fn a_user_who_may_not_is_told_what_systemctl_said() {
    let it = SystemdBox::boot();
    it.unit("bot.service", &running("exec sleep 1000"));
    it.sh("useradd -m -u 4242 wdtest").ok();
    it.write(
        "/home/wdtest/watchdog.toml",
        "state_dir = \"/home/wdtest/state\"\n[service.bot]\nsystemd = { unit = \"bot\" }\n",
    );
    let ended = it
        .sh("cd /home/wdtest; setpriv --reuid=4242 --regid=4242 --init-groups env -i PATH=/usr/bin:/bin \
             /usr/local/bin/watchdog check --json -c watchdog.toml")
        .exits(2)
        .tells("bot", "restart_failed", &["unit_inactive"]);
    let error = restarted_error(&ended, "bot");
    assert!(
        error.contains("systemctl st") && error.contains("authentication required"),
        "{error}"
    );
}

/// Lets a user's manager run without a login.
pub(crate) fn linger(it: &SystemdBox, user: &str, uid: u32) {
    it.sh(&format!(
        "rm -f /etc/systemd/system/systemd-logind.service; systemctl daemon-reload; \
         systemctl start systemd-logind && loginctl enable-linger {user}"
    ))
    .ok();
    it.wait(&format!(
        "systemctl is-active user@{uid}.service && test -S /run/user/{uid}/bus"
    ));
}

#[test]
#[ignore = "needs root and systemd"]
fn the_example_of_the_systemd_bot_runs() {
    let it = SystemdBox::boot();
    it.catch_mail();
    it.config(&shipped("examples/systemd-bot.toml"));
    // a bot that says what {dir}/says holds, and nothing while {dir}/frozen is there
    it.unit(
        "bot.service",
        "[Service]\nLogsDirectory=bot\nExecStart=/bin/sh -c 'rm -f {dir}/frozen; while :; do \
         [ -e {dir}/frozen ] || cat {dir}/says >>/var/log/bot/bot.log; sleep 0.1; done'\n",
    );
    it.sh("echo 'Position: 3 contracts' >{dir}/says; systemctl start bot")
        .ok();
    it.wait("test -s /var/log/bot/bot.log");
    it.check().exits(0).tells("bot", "healthy", &[]);

    // active, and its log frozen
    it.sh("touch {dir}/frozen; sleep 0.3; touch -d '-6 minutes' /var/log/bot/bot.log")
        .ok();
    // the bot is young: its log would not be held against it yet
    let young = it.check().exits(0);
    assert_eq!(young.service("bot")["verdict"], "starting");
    let toml = shipped("examples/systemd-bot.toml").replace(
        "description = \"trades the VIX\"",
        "description = \"trades the VIX\"\nstart_grace = \"0s\"",
    );
    it.config(&toml);
    it.sh("systemctl is-active bot").ok();
    restarted_for(&it, "log_stale");
    it.wait("test $(stat -c %Y /var/log/bot/bot.log) -gt $(( $(date +%s) - 60 ))");
    it.check().exits(0).tells("bot", "healthy", &[]);

    // active, and writing, but not what it should
    it.sh("echo heartbeat >{dir}/says; : >/var/log/bot/bot.log")
        .ok();
    it.wait("test $(wc -l </var/log/bot/bot.log) -gt 100");
    it.sh("echo 'VIX 14.2' >{dir}/says.next").ok();
    let quiet = it.check().exits(1);
    assert_eq!(quiet.service("bot")["verdict"], "restarted");
    assert_eq!(quiet.service("bot")["findings"][0]["code"], "log_quiet");
    it.sh("mv {dir}/says.next {dir}/says").ok();
    it.wait("tail -n 100 /var/log/bot/bot.log | grep VIX");
    it.check().exits(0).tells("bot", "healthy", &[]);
    assert_eq!(it.mails().len(), 0, "a restart that helped wakes nobody");

    // an hour later it is killed five times in a row
    it.sh("rm -r /var/lib/watchdog").ok();
    it.check().exits(0);
    for _ in 0..3 {
        it.sh("systemctl kill -s KILL bot").ok();
        it.wait("systemctl is-failed bot");
        restarted_for(&it, "unit_failed");
    }
    for _ in 0..2 {
        it.sh("systemctl kill -s KILL bot || true").ok();
        it.wait("systemctl is-failed bot");
        let spent = it
            .check()
            .exits(2)
            .tells("bot", "exhausted", &["unit_failed"]);
        assert_eq!(spent.service("bot")["restarts_last_hour"], 3);
    }
    let mails = it.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(mails[0].contains("exhausted"), "{}", mails[0]);
}

#[test]
#[ignore = "needs root and systemd"]
fn a_frozen_unit_is_found_by_its_main_process() {
    let it = with_unit("bot", &running("while :; do sleep 0.1; done"));
    it.sh("systemctl start bot").ok();
    let pid = freeze(&it);
    it.sh("systemctl is-active bot").ok();
    restarted_for(&it, "process_stopped");
    assert_ne!(it.show("bot.service", "MainPID"), pid);
}

/// A config with a program that is spawned and one that a command leaves behind.
const SPAWNED: &str = "[service.spawned]\nspawn = { command = [\"/bin/sleep\", \"1111\"] }\n\
     restart = { settle = \"100ms\" }\n\
     [service.left]\nprocess = { command_line = '^/bin/sleep 2222$' }\n\
     [service.left.restart]\ncommand = [\"/bin/sh\", \"-c\", \"setsid /bin/sleep 2222 >/dev/null 2>&1 &\"]\nsettle = \"100ms\"\n";

fn install_timer(it: &SystemdBox) {
    for name in [
        "watchdog.service",
        "watchdog.timer",
        "watchdog-failure@.service",
    ] {
        it.unit(name, &shipped(&format!("contrib/{name}")));
    }
}

#[test]
#[ignore = "needs root and systemd"]
fn f21_what_a_timers_run_starts_outlives_it() {
    let it = SystemdBox::boot();
    install_timer(&it);
    it.config(SPAWNED);
    it.sh("systemctl enable --now watchdog.timer").ok();
    it.wait("pgrep -xf '/bin/sleep 1111' && pgrep -xf '/bin/sleep 2222'");
    it.wait("[ $(systemctl show -P ActiveState watchdog.service) = inactive ]");
    assert_eq!(it.show("watchdog.service", "KillMode"), "control-group");
    it.sh("systemctl is-failed watchdog.service").exits(1);
    let pids = it.sh("pgrep -xf '/bin/sleep [12]+'").ok();
    for pid in pids.lines() {
        let cgroup = it.sh(&format!("cat /proc/{pid}/cgroup")).ok();
        let scope = cgroup.rsplit('/').next().unwrap_or_default();
        let name = scope.strip_suffix(".scope").unwrap_or_default();
        assert!(name.starts_with("watchdog-"), "{cgroup}");
    }
    let scopes = it
        .sh("systemctl list-units --plain --no-legend 'watchdog-*.scope'")
        .ok();
    assert!(
        scopes.contains("spawned, started by watchdog")
            && scopes.contains("left, started by watchdog"),
        "{scopes}"
    );
    // further runs find them well, by the calendar of the timer as it is shipped
    it.sh(
        "runs() { journalctl --no-pager -u watchdog.service | grep -c Finished; }; before=$(runs); \
         for i in $(seq 900); do [ $(runs) != $before ] && exit; sleep 0.1; done; exit 1",
    )
    .ok();
    assert_eq!(it.sh("pgrep -xf '/bin/sleep [12]+'").ok(), pids);
    it.sh("watchdog status --max-age 2m").exits(0);
    // and when the watchdog is taken away
    it.sh("systemctl disable --now watchdog.timer; systemctl stop watchdog.service")
        .ok();
    assert_eq!(it.sh("pgrep -xf '/bin/sleep [12]+'").ok(), pids);
}

#[test]
#[ignore = "needs root and systemd"]
fn f21_where_no_scope_can_be_made_nothing_is_started_in_vain() {
    let it = SystemdBox::boot();
    install_timer(&it);
    it.config(SPAWNED);
    it.sh("mv /usr/bin/busctl /usr/bin/busctl.away; systemctl start watchdog.service")
        .ok();
    let status = it.sh("watchdog status --json").exits(2);
    for name in ["spawned", "left"] {
        let error = restarted_error(&status, name);
        assert!(
            error.contains(
                "it would be killed when watchdog.service ends, and cannot be given a scope of its own: cannot run busctl: "
            ) && error.ends_with("; KillMode=process in watchdog.service lets it live"),
            "{error}"
        );
    }
    it.sh("pgrep -xf '/bin/sleep [12]+'").exits(1);
    // unless nothing would kill it
    it.write(
        "/etc/systemd/system/watchdog.service.d/mode.conf",
        "[Service]\nKillMode=process\n",
    );
    it.sh("systemctl daemon-reload; systemctl start watchdog.service")
        .ok();
    let pids = it.sh("pgrep -xf '/bin/sleep [12]+'").ok();
    assert_eq!(pids.lines().count(), 2, "{pids}");
}

#[test]
#[ignore = "needs root and systemd"]
fn the_move_into_a_scope_is_told_and_so_is_one_that_never_comes() {
    let it = SystemdBox::boot();
    it.config(SPAWNED);
    let run = |unit: &str| {
        it.sh(&format!(
            "systemd-run --wait --pipe --quiet --unit={unit} watchdog -v check --json"
        ))
    };
    // one that says yes and does nothing
    it.sh("mv /usr/bin/busctl /usr/bin/busctl.away").ok();
    it.write("/usr/bin/busctl", "#!/bin/sh\n");
    it.sh("chmod 755 /usr/bin/busctl").ok();
    let ended = run("one").exits(2);
    for name in ["spawned", "left"] {
        let error = restarted_error(&ended, name);
        assert!(error.contains(": systemd has not moved PID "), "{error}");
    }
    it.sh("mv /usr/bin/busctl.away /usr/bin/busctl").ok();
    let ended = run("two").exits(1);
    let pid = ended.service("spawned")["pid"].clone();
    let said =
        format!("spawned: PID {pid} is in watchdog-spawned-{pid}.scope, to outlive two.service\n");
    assert!(ended.stderr.contains(&said), "{said}{}", ended.stderr);
}

#[test]
#[ignore = "needs root and systemd"]
fn f80_a_watchdog_that_fails_itself_is_told_of() {
    let it = SystemdBox::boot();
    install_timer(&it);
    it.catch_mail();
    // a verdict is no failure of the watchdog
    it.config("[service.gone]\nprocess = { command_line = 'no-such-program' }\n");
    it.sh("systemctl start watchdog.service").ok();
    it.sh("systemctl is-failed watchdog.service").exits(1);
    it.sh("watchdog status").exits(2);
    assert_eq!(it.mails().len(), 0);
    it.config("nonsense = true\n");
    it.sh("systemctl start watchdog.service").exits(1);
    wait_until("the mail", || !it.mails().is_empty());
    let mail = it.mails().remove(0);
    assert!(
        mail.starts_with("To: root\nSubject: [watchdog] sdbox: watchdog.service has failed\n"),
        "{mail}"
    );
    assert!(
        mail.contains("nonsense"),
        "what is wrong is not in it: {mail}"
    );
    // without a sendmail it stays where people look
    it.sh("rm /usr/sbin/sendmail; systemctl start watchdog.service")
        .exits(1);
    it.wait("systemctl is-failed 'watchdog-failure@watchdog.service.service'");
}

#[test]
#[ignore = "needs root and systemd"]
fn the_sandbox_lets_units_be_restarted() {
    let it = SystemdBox::boot();
    install_timer(&it);
    it.write(
        "/etc/systemd/system/watchdog.service.d/hardening.conf",
        &shipped("contrib/hardening.conf"),
    );
    it.unit("bot.service", &running("exec sleep 1000"));
    it.config(&service("bot", ""));
    it.sh("systemctl start watchdog.service").ok();
    it.sh("watchdog status").exits(1);
    it.sh("systemctl is-active bot.service").ok();
    it.sh("systemctl start watchdog.service").ok();
    it.sh("watchdog status").exits(0);
}

#[test]
#[ignore = "needs root and systemd"]
fn all_unit_files_are_without_fault() {
    let it = SystemdBox::boot();
    install_timer(&it);
    it.write(
        "/etc/systemd/system/watchdog.service.d/hardening.conf",
        &shipped("contrib/hardening.conf"),
    );
    let verified = it
        .sh("systemd-analyze verify --man=no /etc/systemd/system/watchdog.timer /etc/systemd/system/watchdog.service \
             /etc/systemd/system/watchdog-failure@x.service")
        .exits(0);
    assert_eq!(verified.stderr, "");
    it.write(
        "/etc/systemd/user/watchdog.service",
        &shipped("contrib/user/watchdog.service"),
    );
    it.write(
        "/etc/systemd/user/watchdog.timer",
        &shipped("contrib/user/watchdog.timer"),
    );
    linger(&it, "root", 0);
    let verified = it
        .sh(
            "XDG_RUNTIME_DIR=/run/user/0 systemd-analyze --user verify --man=no \
             /etc/systemd/user/watchdog.timer /etc/systemd/user/watchdog.service",
        )
        .exits(0);
    assert_eq!(verified.stderr, "");
}

#[test]
#[ignore = "needs root and systemd"]
fn f21_a_users_timer_runs_without_a_login_and_what_it_starts_outlives_it() {
    let it = SystemdBox::boot();
    it.sh("useradd -m -u 4242 wdtest").ok();
    it.write("/home/wdtest/.config/watchdog/watchdog.toml", SPAWNED);
    for name in ["watchdog.service", "watchdog.timer"] {
        it.write(
            &format!("/home/wdtest/.config/systemd/user/{name}"),
            &shipped(&format!("contrib/user/{name}")),
        );
    }
    it.sh("chown -R wdtest: /home/wdtest && chmod 755 /home/wdtest")
        .ok();
    linger(&it, "wdtest", 4242);
    let user = "setpriv --reuid=4242 --regid=4242 --init-groups env -i HOME=/home/wdtest PATH=/usr/local/bin:/usr/bin:/bin \
                XDG_RUNTIME_DIR=/run/user/4242";
    it.sh(&format!(
        "{user} systemctl --user daemon-reload; {user} systemctl --user enable --now watchdog.timer"
    ))
    .ok();
    it.wait("pgrep -u wdtest -xf '/bin/sleep 1111' && pgrep -u wdtest -xf '/bin/sleep 2222'");
    it.wait(&format!(
        "[ $({user} systemctl --user show -P ActiveState watchdog.service) = inactive ]"
    ));
    let pids = it.sh("pgrep -u wdtest -xf '/bin/sleep [12]+'").ok();
    assert_eq!(pids.lines().count(), 2, "{pids}");
    it.sh(&format!("{user} systemctl --user start watchdog.service"))
        .ok();
    assert_eq!(it.sh("pgrep -u wdtest -xf '/bin/sleep [12]+'").ok(), pids);
    // the state is where a watchdog in this user's shell looks for it
    it.sh(&format!("cd /home/wdtest; {user} watchdog status"))
        .exits(0);
}

#[test]
#[ignore = "needs root and systemd"]
fn f21_what_is_started_in_a_login_session_outlives_it() {
    let it = SystemdBox::boot();
    it.config(SPAWNED);
    it.write(
        "/etc/systemd/logind.conf.d/kill.conf",
        "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=nobody\n",
    );
    linger(&it, "nobody", 65534);
    // pam_systemd makes a session for it, as it does for ssh
    it.write(
        "/etc/pam.d/su",
        "auth sufficient pam_permit.so\naccount sufficient pam_permit.so\nsession required pam_unix.so\nsession required pam_systemd.so\n",
    );
    // as with ssh HOST watchdog restart spawned
    let ended = it.sh(
        "su root -c 'cat /proc/self/cgroup; setsid sleep 3333 & watchdog check; watchdog restart spawned'",
    );
    assert!(ended.stdout.contains("session-"), "no session: {ended:?}");
    ended.ok();
    it.wait("! pgrep -xf 'sleep 3333'");
    let pids = it.sh("pgrep -xf '/bin/sleep [12]+'").ok();
    assert_eq!(pids.lines().count(), 2, "{pids}");
}

#[test]
#[ignore = "needs root and systemd"]
fn the_log_is_rotated_as_shipped() {
    let it = SystemdBox::boot();
    it.write("/etc/logrotate.d/watchdog", &shipped("contrib/logrotate"));
    it.config("[logging]\nfile = \"/var/log/watchdog.log\"\n[service.gone]\nprocess = { command_line = 'no-such-program' }\n");
    it.check().exits(2);
    it.sh("test -s /var/log/watchdog.log || echo x >/var/log/watchdog.log")
        .ok();
    it.sh("logrotate --force --state /tmp/state /etc/logrotate.d/watchdog && test -s /var/log/watchdog.log.1 && \
           [ $(stat -c %a:%U /var/log/watchdog.log) = 640:root ]")
        .ok();
    it.check().exits(2);
}
