//! Logs read back: which alarms there would have been, and the limit that would have been silent.

use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};

use crate::scene::{Outcome, Scene, Service};

/// A scene with a service that has a log.
fn with_log(keys: &str) -> Scene {
    Scene::of(&[&Service::logs("a").log(&format!("path = \"a.log\"\n{keys}"))])
}

/// Lines stamped at minutes before now.
fn lines(minutes: impl IntoIterator<Item = i64>, text: &str) -> String {
    let now = Utc::now();
    let line = |minute| {
        let time: DateTime<Utc> = now - TimeDelta::minutes(minute);
        format!("{} {text}\n", time.format("%Y-%m-%dT%H:%M:%SZ"))
    };
    minutes.into_iter().map(line).collect()
}

fn backtest(scene: &Scene, more: &[&str]) -> Outcome {
    scene.run(&[&["backtest", "a"], more].concat())
}

/// Whether one of the streams has a text, wherever its lines are broken.
fn says(outcome: &Outcome, text: &str) {
    let both = [&*outcome.stdout, &*outcome.stderr].concat();
    let said: Vec<&str> = both.split_whitespace().collect();
    assert!(said.join(" ").contains(text), "{text}: {both}");
}

#[test]
fn alarms_that_there_would_have_been_are_exit_code_1() {
    let scene = with_log("max_age = \"5m\"\nforbid = ['ERROR']");
    scene.write(
        "a.log",
        lines((60..300).rev(), "tick") + &lines((1..40).rev(), "tick"),
    );
    let outcome = backtest(&scene, &[]).exits(1);
    says(&outcome, "max_age = \"5m\": 1 alarm in 16 runs");
    says(&outcome, "no line for 21m");
    says(&outcome, "forbid `ERROR`: no alarm");
    says(
        &outcome,
        "gaps between stamped lines: median 1m, 99th percentile 1m, longest 21m",
    );
    says(&outcome, "max_age = \"45m\" would have been silent");
    says(&outcome, "46 runs after the last line at most");
    // not in the last half hour
    let outcome = backtest(&scene, &["--since", "30m"]).exits(0);
    says(&outcome, "max_age = \"5m\": no alarm");
    // what was proposed
    scene.config("[service.a]\n[[service.a.log]]\npath = \"a.log\"\nmax_age = \"45m\"\n");
    backtest(&scene, &[]).exits(0);
    // nothing is remembered
    assert!(!scene.has("state"));
}

#[test]
fn lines_that_are_not_judged_by_their_stamps_are_counted() {
    let scene = with_log("");
    // `lines` counts back from now
    let sane = lines((0..60).rev(), "tick");
    let far = -3 * 365 * 24 * 60;
    let ahead = lines([far, far - 1], "tick");
    scene.write("a.log", format!("{sane}{ahead}"));
    let outcome = backtest(&scene, &[]).exits(0);
    says(
        &outcome,
        "note: 2 lines are stamped more than a day ahead of the clock, the first ",
    );
    says(
        &outcome,
        "; such lines are judged as if they had no stamp: is the clock of the program right?",
    );
    says(&outcome, "62 lines, 60 of them stamped by ");
    scene.write("a.log", format!("{sane}{}", lines([-300], "tick")));
    let outcome = backtest(&scene, &[]);
    says(
        &outcome,
        "ahead of the clock: is the clock of the program right, and the zone",
    );
    scene.write("a.log", ahead);
    let outcome = backtest(&scene, &[]).exits(1);
    assert!(
        outcome
            .stderr
            .contains("its stamps are ahead of the clock, the first is "),
        "{outcome:?}"
    );
}

#[test]
fn a_plot_has_a_bar_for_each_time() {
    let scene = with_log("max_age = \"5m\"");
    scene.write(
        "a.log",
        lines((60..300).rev(), "tick") + &lines((1..40).rev(), "tick"),
    );
    let outcome = backtest(&scene, &["--plot"]).exits(1);
    let bars: Vec<&str> = outcome
        .stdout
        .lines()
        .filter(|line| line.contains('#'))
        .collect();
    assert!((15..=48).contains(&bars.len()), "{}", outcome.stdout);
    assert_eq!(bars.iter().filter(|bar| bar.ends_with("21m !")).count(), 1);
}

#[test]
fn another_file_is_read_in_place_of_the_log() {
    let scene = with_log("max_age = \"5m\"");
    says(&backtest(&scene, &[]).exits(1), "no such file");
    scene.write("old.log", lines((1..60).rev(), "tick"));
    let path = scene.path("old.log");
    let outcome = backtest(&scene, &["--log", path.to_str().unwrap()]).exits(0);
    says(&outcome, "59 lines");
    // a bare name is one of the current directory, which is there
    let missing = backtest(&scene, &["--log", "gone.log"]).exits(1);
    says(&missing, "watchdog: a: gone.log: no such file");
    assert!(!missing.stderr.contains("directory"), "{}", missing.stderr);
    let missing = backtest(&scene, &["--log", "gone/b.log"]).exits(1);
    says(
        &missing,
        "gone/b.log: no such file, and its directory gone does not exist",
    );
    // also for a service without a log
    scene.config("[service.a]\nprocess = { pid_file = \"a.pid\" }\n");
    says(&backtest(&scene, &[]).exits(1), "[[service.a.log]]");
    let outcome = backtest(&scene, &["--log", path.to_str().unwrap()]).exits(0);
    says(&outcome, "max_age = \"2m\" would have been silent");
    backtest(&scene, &["--since", "soon"]).exits(64);
    says(&scene.run(&["backtest", "b"]).exits(64), "no service `b`");
}

/// A real logrotate puts a log aside four times, and compresses what it has put aside.
#[test]
#[ignore = "needs logrotate"]
fn a_log_that_logrotate_has_compressed_is_read_whole() {
    let scene = with_log("max_age = \"5m\"");
    scene.write(
        "rotate.conf",
        scene.fill("{dir}/a.log {\n rotate 9\n compress\n delaycompress\n create\n}\n"),
    );
    for part in (0..5).rev() {
        let minutes = part * 60 + 1..part * 60 + 61;
        scene.append("a.log", lines(minutes.rev(), "tick"));
        if part > 0 {
            let status = Command::new("/usr/sbin/logrotate")
                .args(["-f", "-s"])
                .args([scene.path("rotate.state"), scene.path("rotate.conf")])
                .status()
                .unwrap();
            assert!(status.success());
        }
    }
    assert!(scene.has("a.log.4.gz") && scene.has("a.log.1"));
    let outcome = backtest(&scene, &[]).exits(0);
    says(&outcome, "5 files, 300 lines, 300 of them stamped");
    says(&outcome, "longest 1m");
    // a damaged one is told
    let packed = std::fs::read(scene.path("a.log.3.gz")).unwrap();
    scene.write("a.log.3.gz", &packed[..packed.len() / 2]);
    let outcome = backtest(&scene, &[]).exits(0);
    says(&outcome, "a.log.3.gz: it is damaged");
}

#[test]
fn validate_tells_what_would_have_restarted_it_on_the_last_day() {
    let scene = with_log("max_age = \"5m\"\nforbid = ['ERROR']");
    scene.write(
        "a.log",
        lines((60..300).rev(), "tick") + &lines((1..40).rev(), "tick"),
    );
    let outcome = scene.run(&["validate"]).exits(0);
    says(
        &outcome,
        "on its last day a.log was silent for more than 5m once",
    );
    says(&outcome, "max_age = \"45m\" would not have been");
    scene.append("a.log", lines([0], "ERROR"));
    let outcome = scene.run(&["validate"]).exits(0);
    says(&outcome, "had too many lines that match `ERROR` once");
}

/// What a real program wrote is recognised, and its gaps are what they were.
fn recognised(scene: &Scene, format: &str) {
    let outcome = backtest(scene, &[]);
    says(&outcome, &format!("stamped by \"{format}\""));
    says(&outcome, "(recognised)");
    says(&outcome, "would have been silent");
}

#[test]
fn what_python_and_shells_log_is_recognised() {
    let scene = with_log("");
    let script = "import logging\nlogging.basicConfig(filename='a.log', format='%(asctime)s %(levelname)s %(message)s')\n\
                  for n in range(5): logging.warning('n %s', n)\n\
                  try: 1 / 0\nexcept ZeroDivisionError: logging.exception('failed')\n";
    scene.write("log.py", script);
    scene.shell("/usr/bin/python3 log.py").exits(0);
    recognised(&scene, "%Y-%m-%d %H:%M:%S,%3f");
    // a trace belongs to the line before it
    says(&backtest(&scene, &[]), "lines, 6 of them stamped");
    for (command, format) in [
        ("date", "%a %b %e %H:%M:%S %Z %Y"),
        ("date -R", "%a, %d %b %Y %H:%M:%S %z"),
        ("date +%FT%T%:z", "%+"),
        ("date '+[%F %T]'", "%Y-%m-%d %H:%M:%S"),
        ("date +%s", "unix"),
    ] {
        scene
            .shell(&format!(
                "for n in 1 2 3; do echo \"$({command}) tick $n\"; done >a.log"
            ))
            .exits(0);
        recognised(&scene, format);
    }
}

#[test]
#[ignore = "needs redis-server"]
fn what_redis_logs_is_recognised() {
    let scene = with_log("max_age = \"1h\"");
    scene
        .shell("timeout 1 redis-server --port 0 --unixsocket {dir}/r.sock --save '' --dir {dir} --logfile a.log")
        .exits(124);
    recognised(&scene, "%d %b %Y %H:%M:%S%.f");
    let outcome = backtest(&scene, &[]).exits(0);
    says(&outcome, "after ` `");
    says(&outcome, "say little of what is usual");
}

#[test]
#[ignore = "needs nginx"]
fn what_nginx_logs_is_recognised() {
    let scene = with_log("");
    scene.write(
        "nginx.conf",
        scene.fill(
            "daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log notice; events {}\n\
             http { access_log {dir}/a.log; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2;\n\
             fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
             server { listen unix:{dir}/nginx.sock; return 204; } }\n",
        ),
    );
    scene
        .shell(
            "timeout 20 nginx -e {dir}/error.log -c {dir}/nginx.conf & nginx=$!\n\
             until [ -S nginx.sock ]; do sleep 0.05; done\n\
             for n in 1 2 3; do curl -s --unix-socket nginx.sock http://x/; done\n\
             kill $nginx; wait $nginx",
        )
        .exits(0);
    recognised(&scene, "%d/%b/%Y:%H:%M:%S %z");
    let path = scene.path("error.log");
    let outcome = backtest(&scene, &["--log", path.to_str().unwrap()]);
    says(&outcome, "stamped by \"%Y/%m/%d %H:%M:%S\"");
}

#[test]
fn a_program_is_adopted_with_what_its_log_says() {
    let scene = Scene::new();
    scene.write("a.log", lines((1..3000).rev(), "tick"));
    let script = "exec >>a.log\nwhile :; do echo \"$(date -u +%FT%TZ) tick\"; sleep 1; done\n";
    scene.write("bot.sh", script);
    let mut running = Command::new("/bin/sh")
        .arg(scene.path("bot.sh"))
        .current_dir(scene.dir())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    scene.wait_until("its first line", || {
        scene.read("a.log").lines().count() > 2999
    });
    let adopted = scene.run(&["adopt", &running.id().to_string()]);
    running.kill().unwrap();
    running.wait().unwrap();
    let table = &adopted.stdout;
    assert!(
        table.contains("\ntimestamp = \"%+\"   # recognised"),
        "{table}"
    );
    assert!(table.contains("\nmax_age = \"2m\"   # "), "{table}");
    scene.config(table);
    scene.run(&["validate"]).exits(0);
}
