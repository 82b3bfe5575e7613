//! For the person at the shell: what the commands say and answer to whom.

use serde_json::Value;

use crate::scene::{MAIL, Scene, Service};

/// A service that is down, and that nobody may restart.
fn down(name: &str) -> Service {
    Service::new(name).watched()
}

#[test]
fn the_history_of_a_service_has_the_mails_about_it() {
    let services = crate::scene::render(&[&down("a"), &Service::new("b").watched()]);
    let scene = Scene::with(&format!("{MAIL}{services}"));
    scene.check().exits(2);
    scene.start("b", &["pid_file=b.pid"]);
    scene.wait_until("its PID file", || scene.has("b.pid"));
    // the first mail is about both, the second about b alone
    scene.check().exits(2);
    let mails = |name: &str| {
        let lines = scene
            .run(&["history", "--json", name])
            .exits(0)
            .json_lines();
        let mails = lines.iter().filter(|line| line["event"] == "mail_sent");
        mails.map(|line| line["about"].clone()).collect::<Vec<_>>()
    };
    let both = serde_json::json!(["a", "b"]);
    assert_eq!(mails("a"), std::slice::from_ref(&both));
    assert_eq!(mails("b"), [both, serde_json::json!(["b"])]);
    let text = scene.run(&["history", "a"]).exits(0).stdout;
    assert!(
        text.contains("mail_sent       watchdog: about a, b to ops@example.org\n"),
        "{text}"
    );
}

#[test]
fn how_often_it_was_restarted_is_summed_up() {
    let scene = Scene::of(&[&Service::new("a"), &Service::new("b")]);
    let ago = |hours: i64| (chrono::Utc::now() - chrono::TimeDelta::hours(hours)).to_rfc3339();
    let restart = |hours: i64, name: &str, ok: bool| {
        format!(
            "{{\"time\":\"{}\",\"service\":\"{name}\",\"event\":\"restarted\",\"action\":{{\"kind\":\"restart\",\
             \"method\":\"spawn\",\"ok\":{ok},\"old_pid\":null,\"new_pid\":7,\"duration_ms\":5,\"error\":null,\"stderr\":[]}}}}\n",
            ago(hours)
        )
    };
    std::fs::create_dir(scene.path("state")).unwrap();
    let journal = [
        restart(48, "a", true),
        restart(36, "b", true),
        restart(24, "a", false),
        restart(12, "a", true),
    ];
    scene.write("state/journal.jsonl", journal.concat());
    let text = scene.run(&["history", "--summary"]).exits(0).stdout;
    assert_eq!(
        text,
        "a: 3 restarts in 2d (1 failed), 1.5 a day, 18h between them on average\n\
         b: 1 restart in 2d, 0.5 a day\n"
    );
    // the same after the lines themselves
    let all = scene.run(&["history"]).exits(0).stdout;
    assert!(all.ends_with(&text), "{all}");
    let sums = scene
        .run(&["history", "--summary", "--json"])
        .exits(0)
        .json_lines();
    assert_eq!(sums.len(), 2);
    let figure = |sum: &Value, key: &str| sum[key].as_f64().map(|figure| (figure * 10.0).round());
    assert_eq!(
        (
            &sums[0]["service"],
            &sums[0]["restarts"],
            &sums[0]["failed"]
        ),
        (&"a".into(), &3.into(), &1.into())
    );
    assert_eq!(figure(&sums[0], "restarts_a_day"), Some(15.0));
    let mean = sums[0]["mean_between_s"].as_f64().unwrap();
    assert!((mean - 18.0 * 3600.0).abs() < 60.0, "{mean}");
    assert_eq!(figure(&sums[1], "mean_between_s"), None);
    // a time that is asked for, of one service; a rate of an hour would be a guess
    let sums = scene
        .run(&["history", "--summary", "--json", "--since", "13h", "a"])
        .exits(0)
        .json_lines();
    assert_eq!(sums.len(), 1);
    assert_eq!(sums[0]["restarts"], 1);
    assert!(sums[0]["restarts_a_day"].is_null());
    let none = scene
        .run(&["history", "--summary", "--since", "1h"])
        .exits(0);
    assert_eq!(none.stdout, "nothing happened in 1h\n");
}

/// A scene with a service in nearly every state that there is, after the runs that it takes.
fn all_states() -> Scene {
    let started = |name: &str, more: &str| {
        format!(
            "[service.{name}]\nprocess = {{ pid_file = \"{name}.pid\" }}\n{more}\nspawn = {{ command = [\"sh\", \"-c\", \
             \"echo 'ImportError: no module named ccxt, which is needed for all of the exchanges' >&2; exit 3\"], \
             stderr = \"{name}.err\" }}\n"
        )
    };
    let config = [
        started("spent", "restart = { max_per_hour = 1 }"),
        started("cooling", "restart = { cooldown = \"20m\" }"),
        started("failing", "restart = { after_failures = 9 }"),
        started("dependent-on-another-that-is-not-well", "depends_on = [\"spent\"]"),
        started("paused", ""),
        "[service.down]\nprocess = { pid_file = \"down.pid\", command_line = '^no-such-program at all$' }\n".to_owned(),
        "[service.unseen]\nprocess = { pid_file = \"down.pid\", user = \"no-such-user\" }\n".to_owned(),
        "[service.off]\nenabled = false\nprocess = { pid_file = \"off.pid\" }\n".to_owned(),
        "[[service.well.log]]\npath = \"prog.sh\"\nmax_age = \"5m\"\n".to_owned(),
        "[[service.warned.log]]\npath = \"warned.log\"\nforbid = ['ERROR']\nseverity = \"warning\"\n".to_owned(),
    ];
    let scene = Scene::with(&format!("{MAIL}{}", config.concat()));
    scene
        .run(&["pause", "paused", "--reason", "the disks are swapped"])
        .exits(0);
    scene.write("warned.log", "");
    scene.run(&["check"]).exits(2);
    scene.append("warned.log", "ERROR 5\n");
    scene.run(&["check"]).exits(2);
    for (name, verdict) in [
        ("spent", "exhausted"),
        ("cooling", "waiting"),
        ("failing", "failing"),
        ("dependent-on-another-that-is-not-well", "waiting"),
        ("paused", "paused"),
        ("down", "down"),
        ("unseen", "unknown"),
        ("off", "disabled"),
        ("well", "healthy"),
        ("warned", "degraded"),
    ] {
        assert_eq!(
            scene.run(&["status", "--json"]).service(name)["verdict"],
            verdict,
            "{name}"
        );
    }
    scene
}

/// What a command prints at a terminal of so many columns.
fn at_terminal(scene: &Scene, columns: usize, before: &str, args: &str) -> String {
    // script(1) gives it a terminal, and keeps what was written there
    let script = format!(
        "script -qec \"stty cols {columns} rows 24; {before} {{watchdog}} {args}\" /dev/null </dev/null"
    );
    scene.shell(&script).stdout.replace("\r\n", "\n")
}

/// A text without its colours.
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').expect("a colour").1;
    }
    plain + rest
}

/// The words of a text; ages, which pass, are all one.
fn words(text: &str) -> Vec<String> {
    let is_age = |word: &str| {
        let word = word.trim_matches(|c: char| "(),:".contains(c));
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.ends_with(['s', 'm', 'h'])
            && word.len() < 8
    };
    text.split_whitespace()
        .filter(|word| !is_age(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn screens_fit_the_terminal_that_they_are_on() {
    let scene = all_states();
    let mut screens = vec!["status --max-age 0s".to_owned(), "history".to_owned()];
    for name in [
        "spent", "cooling", "failing", "paused", "down", "unseen", "well", "warned", "off",
    ] {
        screens.push(format!("why {name}"));
    }
    for screen in screens {
        let args: Vec<&str> = screen.split(' ').collect();
        let piped = scene.run(&args).stdout;
        assert!(!piped.contains('\x1b'), "{screen}: {piped}");
        let coloured = at_terminal(&scene, 80, "", &screen);
        let plain = at_terminal(&scene, 80, "NO_COLOR=1", &screen);
        assert!(!plain.contains('\x1b'), "{screen}: {plain}");
        if screen.starts_with("status") || (screen.starts_with("why") && screen != "why off") {
            assert!(coloured.contains("\x1b["), "{screen}: {coloured}");
        }
        let narrow = at_terminal(&scene, 40, "NO_COLOR=1", &screen);
        for other in [&without_colours(&coloured), &plain, &narrow] {
            assert_eq!(words(other), words(&piped), "{screen}");
        }
        for (columns, text) in [
            (80, &without_colours(&coloured)),
            (80, &plain),
            (40, &narrow),
        ] {
            for line in text.lines() {
                // what others wrote, names and paths stay whole, so that they can be searched for and copied
                let is_whole =
                    line.trim_start().starts_with('|') || line.split_whitespace().count() <= 2;
                assert!(
                    line.chars().count() <= columns || is_whole,
                    "{screen}, {columns}: {line}"
                );
            }
        }
    }
    for command in [
        "pause paused --for 2h --reason 'the disks are swapped'",
        "resume paused",
        "reset spent cooling",
    ] {
        let said = at_terminal(&scene, 40, "", command);
        assert!(!said.is_empty(), "{command}");
        for line in said.lines() {
            assert!(line.chars().count() <= 40, "{command}: {line}");
        }
    }
    let mail = Scene::with(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\nsmtp = { host = \"127.0.0.1\", port = 9, tls = \"none\" }\n\
         [service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n",
    );
    let said = at_terminal(&mail, 40, "", "test-mail");
    assert!(said.contains("refused"), "{said}");
    for line in said.lines() {
        assert!(line.chars().count() <= 40, "{line}");
    }
    // JSON is for programs, also where somebody watches
    let json = at_terminal(&scene, 80, "", "status --json --color always");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["services"].as_array().unwrap().len(), 10);
}

#[test]
fn quiet_and_verbose_are_heard_at_a_terminal() {
    let scene = Scene::of(&[&Service::logs("a").log("path = \"prog.sh\"")]);
    assert_eq!(at_terminal(&scene, 80, "", "check -q"), "");
    let usual = at_terminal(&scene, 80, "", "check");
    assert!(usual.starts_with("\x1b[32mhealthy\x1b[0m"), "{usual}");
    let scene = Scene::of(&[&Service::new("a")]);
    let verbose = at_terminal(&scene, 80, "", "-v check");
    assert!(verbose.contains("a: starting by spawn"), "{verbose}");
    assert!(verbose.contains("restarted"), "{verbose}");
}

#[test]
#[ignore = "needs zsh"]
fn zsh_completes_names_of_services() {
    let scene = Scene::of(&[&down("trader"), &down("tracker"), &down("feed")]);
    std::fs::create_dir(scene.path("functions")).unwrap();
    let script = scene.run(&["completions", "zsh"]).exits(0).stdout;
    scene.write("functions/_watchdog", script);
    // a shell at a terminal of its own, in which each line is completed and shown
    scene.write(
        "complete.zsh",
        r#"
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z "PS1=; fpath=($PWD/functions \$fpath); autoload -Uz compinit; compinit -u -D; cd $PWD
            shown() { print -r -- \"<\$BUFFER>\"; zle kill-whole-line }; zle -N shown; bindkey '^X' shown; print rea''dy"
        zpty -r z out '*ready*'
        for line in "$@"; do
            zpty -w -n z "$line"$'\t\C-X'
            zpty -r z out '*<*>*'
            print -r -- "${${out##*<}%%>*}"
        done
        zpty -d z
        "#,
    );
    let bin = std::path::Path::new(crate::scene::WATCHDOG)
        .parent()
        .unwrap();
    let mut command = std::process::Command::new("zsh");
    command
        .args([
            "-f",
            "complete.zsh",
            "watchdog check f",
            "watchdog -c watchdog.toml why trad",
            "watchdog pause --for 2h trac",
            "watchdog check --dry",
            "watchdog show-",
        ])
        .current_dir(scene.dir())
        .env_clear()
        .env("HOME", scene.dir())
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    let outcome = scene.finish(command).exits(0);
    let expected = "watchdog check feed \nwatchdog -c watchdog.toml why trader \nwatchdog pause --for 2h tracker \n\
                    watchdog check --dry-run \nwatchdog show-config \n";
    assert_eq!(outcome.stdout, expected);
}

#[test]
fn elvish_and_nushell_ask_for_names_of_services() {
    let scene = Scene::new();
    let elvish = scene.run(&["completions", "elvish"]).exits(0).stdout;
    let named = "[check status history why evidence restart pause resume reset backtest]";
    let asks = format!("(has-value {named} $command)");
    assert!(elvish.contains(&asks), "{elvish}");
    let nushell = scene.run(&["completions", "nushell"]).exits(0).stdout;
    let named = nushell
        .matches("string@\"nu-complete watchdog services\"")
        .count();
    assert_eq!(named, 10, "{nushell}");
    assert_eq!(
        nushell
            .matches("def \"nu-complete watchdog services\"")
            .count(),
        1
    );
}

#[test]
fn why_tells_of_the_run_that_looked_at_the_service() {
    let scene = Scene::of(&[&down("a"), &down("b")]);
    scene.check().exits(2);
    scene.edit_state(|state| {
        let ago = chrono::Utc::now() - chrono::TimeDelta::hours(2);
        state["services"]["a"]["report"]["time"] = ago.to_rfc3339().into();
    });
    // a run of the other one alone
    scene.run(&["check", "b"]).exits(2);
    let seen = |name: &str| {
        let text = scene.run(&["why", name]).exits(0).stdout;
        let line = text.lines().find(|line| line.starts_with("seen by"));
        line.unwrap().to_owned()
    };
    assert!(seen("a").ends_with("Z (2h ago):"), "{}", seen("a"));
    assert!(!seen("b").contains("2h"), "{}", seen("b"));
}
