//! The README is true: its screens are what is printed, its configs are right, and it knows every command.
//!
//! A comment `<!-- scene: NAME -->` before a screen names what [`prepare`] makes; it lasts to the next heading. There
//! the configs are written where they would stand, and the lines after `$` are run one after the other, in one shell.
//! What no two runs have in common is made alike on both sides: times, PIDs, ages, the mail server's name, address and
//! port, and where lines are broken.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use regex::Regex;

use crate::real_mail;
use crate::scene::{Scene, WATCHDOG};

/// What the README calls the folder that a scene is in.
const FOLDER: &str = "/srv/trader";

/// The script of the README's first example.
const TRADER: &str = "#!/bin/sh\necho $$ >{dir}/trader.pid\nexec >>{dir}/trader.log\nwhile :; do date; sleep 1; done\n";

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// A fenced block: the scene that it belongs to, its language, and its text.
#[derive(Debug)]
struct Block {
    scene: Option<String>,
    language: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut scene = None;
    let mut open = false;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            open = !open;
            if open {
                blocks.push(Block {
                    scene: scene.clone(),
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
        } else if open {
            let block = blocks.last_mut().unwrap();
            block.text.push_str(line);
            block.text.push('\n');
        } else if let Some(rest) = line.strip_prefix("<!-- scene: ") {
            scene = rest.strip_suffix(" -->").map(str::to_owned);
        } else if line.starts_with('#') {
            scene = None;
        }
    }
    assert!(!open, "a block does not end");
    blocks
}

/// Makes what the screens of a scene begin with.
fn prepare(name: &str) -> Scene {
    let scene = Scene::new();
    let write_program = |name: &str, text: &str| {
        scene.write(name, scene.fill(text));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(scene.path(name), mode).unwrap();
    };
    match name {
        "trader" => write_program("trader.sh", TRADER),
        "hand" => {
            write_program("trader.sh", TRADER);
            let mut child = std::process::Command::new("/bin/sh")
                .arg("-c")
                .arg(scene.fill("umask 022; exec /bin/sh {dir}/trader.sh"))
                .current_dir(scene.dir())
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::spawn(move || child.wait());
            scene.wait_until("its log", || !scene.read("trader.log").is_empty());
            scene.config("");
        }
        "slip" => scene.config(
            "[service.trader]\nspawn = { command = [\"true\"] }\n[service.trader.restart]\nmax_per_hours = 3\n",
        ),
        "spent" => {
            write_program("trader.sh", TRADER);
            scene.config(
                "[service.feed]\nspawn = { command = [\"{dir}/trader.sh\"] }\nrestart = { settle = \"0s\" }\n\
                 [service.trader]\nprocess = { pid_file = \"missing.pid\" }\nrestart = { max_per_hour = 2 }\n\
                 spawn = { command = [\"sh\", \"-c\", \"echo 'ImportError: no module named ccxt' >&2; exit 1\"], stderr = \"trader.err\" }\n",
            );
            scene.raw_config(&scene.read("watchdog.toml").replace("missing.pid", "trader.pid"));
            scene.raw_config(&scene.read("watchdog.toml").replace("trader.sh", "feed.sh"));
            write_program("feed.sh", &TRADER.replace("trader.", "feed."));
            for _ in 0..2 {
                scene.run(&["check"]).exits(2);
            }
        }
        MAIL => {}
        other => panic!("nobody knows how to prepare the scene {other}"),
    }
    scene
}

/// The scene that needs a mail server with TLS and a login.
const MAIL: &str = "mail";

/// A config of the mail scene, for a server on this host.
fn delivered_here(config: &str, servers: &real_mail::Scene, scene: &Scene) -> String {
    scene.write("smtp.pass", "s3cret\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(scene.path("smtp.pass"), mode).unwrap();
    let ca = servers.path("certificates/ca.pem");
    let here = config
        .replace("smtp.example.org", "localhost")
        .replace("587", &servers.port("starttls").to_string())
        .replace(
            "\"/etc/watchdog/smtp.pass\"",
            &format!("\"{{dir}}/smtp.pass\", ca_file = \"{}\"", ca.display()),
        );
    format!("{here}[service.a]\nspawn = {{ command = [\"sleep\", \"1\"] }}\n")
}

/// A text without what no two runs have in common.
fn alike(text: &str, scene: &Scene) -> String {
    let text = text.replace(scene.dir(), FOLDER);
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (pattern, instead) in [
        (
            "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
            "TIME",
        ),
        ("PID [0-9]+", "PID N"),
        // the names and the addresses of a mail server
        (
            "smtp[.]example[.]org|localhost|127[.]0[.]0[.]1|192[.]0[.]2[.]25",
            "SERVER",
        ),
        ("::1, |, ::1", ""),
        ("SERVER:[0-9]+", "SERVER:PORT"),
        ("port [0-9]+", "port N"),
        // of whoever runs the tests
        (", nice = [0-9]+", ""),
        ("[0-9]+([.][0-9]+)?(ms|s|m|h|d)( [0-9]+(ms|s|m|h))*", "AGE"),
    ] {
        text = Regex::new(pattern)
            .unwrap()
            .replace_all(&text, instead)
            .into_owned();
    }
    text
}

/// Runs the lines after `$` of a screen, and holds what is printed against what stands below each.
fn play(scene: &Scene, screen: &str) {
    let mut told: Vec<(&str, String)> = Vec::new();
    for line in screen.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            told.push((command, String::new()));
        } else {
            let (_, said) = told.last_mut().expect("a screen begins with a command");
            said.push_str(line);
            said.push('\n');
        }
    }
    let mut script = String::from("exec 2>&1\n");
    for (command, _) in &told {
        script.push_str(command);
        script.push_str("\ncode=$?; ");
        // a person is not so quick that the signal is still on its way
        if let Some(pid) = command.strip_prefix("kill -STOP ") {
            script.push_str("i=0; until grep -q '^State:.T' /proc/");
            script.push_str(pid);
            script.push_str("/status || [ $((i += 1)) -gt 2000 ]; do sleep 0.01; done; ");
        }
        script.push_str("echo @@@; (exit $code)\n");
    }
    let bin = Path::new(WATCHDOG).parent().unwrap();
    let mut command = scene.shell_command(&script);
    command
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("WATCHDOG_CONFIG", scene.path("watchdog.toml"));
    let outcome = scene.finish(command);
    let printed: Vec<&str> = outcome.stdout.split("@@@\n").collect();
    for ((command, said), printed) in told.iter().zip(printed) {
        assert_eq!(
            alike(printed, scene),
            alike(said, scene),
            "`{command}` prints what stands above (left), the README says what stands below (right):\n{printed}"
        );
    }
}

#[test]
#[ignore = "needs aiosmtpd and openssl"]
fn its_screen_of_mail_is_what_is_printed() {
    let (servers, scene) = (real_mail::Scene::new(), prepare(MAIL));
    let mut played = 0;
    for block in blocks(&readme()) {
        match block.language.as_str() {
            _ if block.scene.as_deref() != Some(MAIL) => {}
            "toml" => scene.config(&delivered_here(&block.text, &servers, &scene)),
            _ => {
                play(&scene, &block.text);
                played += 1;
            }
        }
    }
    assert_eq!(played, 1);
}

#[test]
fn its_screens_are_what_is_printed() {
    let mut last: Option<(String, Scene)> = None;
    let mut played = 0;
    for block in blocks(&readme()) {
        let Some(name) = block.scene else {
            assert_ne!(block.language, "console", "no scene for:\n{}", block.text);
            continue;
        };
        if name == MAIL {
            continue;
        }
        if last.as_ref().is_none_or(|(last, _)| *last != name) {
            last = Some((name.clone(), prepare(&name)));
        }
        let (_, scene) = last.as_ref().unwrap();
        match block.language.as_str() {
            "toml" => scene.config(&block.text.replace(FOLDER, scene.dir())),
            "console" => {
                play(scene, &block.text);
                played += 1;
            }
            other => panic!("a block of {other} in a scene:\n{}", block.text),
        }
    }
    assert!(played >= 5, "{played}");
}

#[test]
fn its_configs_are_right() {
    let mut seen = 0;
    for block in blocks(&readme()) {
        if block.language != "toml" {
            continue;
        }
        let scene = Scene::new();
        scene.write("smtp.pass", "secret\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(scene.path("smtp.pass"), mode).unwrap();
        let mut text = block
            .text
            .replace("/etc/watchdog/smtp.pass", "{dir}/smtp.pass");
        if !text.contains("[service.") {
            text.push_str("[service.a]\nspawn = { command = [\"sleep\", \"1\"] }\n");
        }
        scene.config(&text);
        let outcome = scene.run(&["validate"]);
        assert_eq!(outcome.code, 0, "{}\n{}", block.text, outcome.text());
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn it_knows_every_command_and_every_link() {
    let text = readme();
    let scene = Scene::new();
    let commands = scene.commands();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        let row = format!("`watchdog {command}");
        assert!(text.contains(&row), "the README does not tell of {command}");
    }
    // what is linked to is there: a heading of its own, or a file
    let anchors: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
        .map(|heading| {
            heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect();
    let link = Regex::new(r"\]\(([^)]+)\)").unwrap();
    for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
        match target.strip_prefix('#') {
            Some(anchor) => assert!(anchors.iter().any(|a| a == anchor), "no heading {anchor}"),
            None => assert!(
                target.starts_with("https://")
                    || Path::new(env!("CARGO_MANIFEST_DIR")).join(&target).exists(),
                "no file {target}"
            ),
        }
    }
}
