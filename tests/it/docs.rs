//! README.md and docs/ are true: their screens are what is printed, their configs are right, their links lead
//! somewhere, and every command and key is in them.
//!
//! A comment `<!-- scene: NAME -->` before a screen names what [`prepare`] makes; it lasts to the next heading, or to
//! `<!-- scene: -->`. There the configs are written where they would stand, and the lines after `$` are run one after
//! the other, in one shell. What no two runs have in common is made alike on both sides: times, PIDs, ages, the mail
//! server's name, address and port, and where lines are broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chrono::{DateTime, TimeDelta, Utc};
use regex::Regex;

use crate::real_mail;
use crate::scene::{Scene, WATCHDOG};

/// What the pages call the directory that a scene is in.
const FOLDER: &str = "/srv/trader";

/// The script of the README's example.
const TRADER: &str = "#!/bin/sh\necho $$ >{dir}/trader.pid\nexec >>{dir}/trader.log\nwhile :; do date; sleep 1; done\n";

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A page: where it is, and what it says.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn at(path: PathBuf) -> Self {
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, text }
    }

    fn named(name: &str) -> Self {
        Self::at(Path::new(ROOT).join(name))
    }

    /// What a link can lead to within the page: its headings, as GitHub writes them into a URL.
    fn anchors(&self) -> Vec<String> {
        let mut in_block = false;
        self.text
            .lines()
            .filter(|line| {
                in_block ^= line.starts_with("```");
                !in_block && line.starts_with('#')
            })
            .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
            .map(|heading| {
                heading
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect()
            })
            .collect()
    }
}

/// README.md, and then the pages of docs/ by their names.
fn pages() -> Vec<Page> {
    pages_below(Path::new(ROOT))
}

fn pages_below(root: &Path) -> Vec<Page> {
    let mut paths: Vec<_> = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.sort();
    paths.insert(0, root.join("README.md"));
    paths.into_iter().map(Page::at).collect()
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
        } else if let Some(name) = line
            .strip_prefix("<!-- scene: ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        {
            scene = Some(name.to_owned());
        } else if line == "<!-- scene: -->" || line.starts_with('#') {
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
        "import" => {
            let now = Utc::now();
            let at = |time: DateTime<Utc>| time.format("[%Y-%m-%d %H:%M:%S]").to_string();
            let (old, new) = (at(now - TimeDelta::hours(2)), at(now));
            scene.write(
                "node.log",
                format!("{old} Imported new chain segment\n{new} Looking for peers\n"),
            );
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
    scene.write_private("smtp.pass", "s3cret\n");
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
        .env("WATCHDOG_CONFIG", scene.path("watchdog.toml"))
        // the state that another config of the same user shares
        .env("STATE_DIRECTORY", scene.path("state"));
    let outcome = scene.finish(command);
    let printed: Vec<&str> = outcome.stdout.split("@@@\n").collect();
    for ((command, said), printed) in told.iter().zip(printed) {
        assert_eq!(
            alike(printed, scene),
            alike(said, scene),
            "`{command}` prints what stands above (left), the page says what stands below (right):\n{printed}"
        );
    }
}

#[test]
#[ignore = "needs aiosmtpd and openssl"]
fn the_screen_of_mail_is_what_is_printed() {
    let (servers, scene) = (real_mail::Scene::new(), prepare(MAIL));
    let mut played = 0;
    for block in pages().iter().flat_map(|page| blocks(&page.text)) {
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

/// The screens of each page are played on their own; how many there are.
fn screens_played(page: &Page) -> usize {
    let mut last: Option<(String, Scene)> = None;
    let mut played = 0;
    for block in blocks(&page.text) {
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
    played
}

#[test]
fn the_screens_of_the_readme_are_what_is_printed() {
    let played = screens_played(&Page::named("README.md"));
    assert!(played >= 4, "{played}");
}

#[test]
fn the_screens_of_the_other_pages_are_what_is_printed() {
    let played: usize = pages().iter().skip(1).map(screens_played).sum();
    assert!(played >= 4, "{played}");
}

#[test]
fn the_picture_shows_what_the_screens_show() {
    let readme = Page::named("README.md").text;
    let picture = Page::named("docs/terminal.svg").text;
    let screens: String = blocks(&readme)
        .into_iter()
        .filter(|block| block.language == "console")
        .map(|block| block.text)
        .collect();
    let span = Regex::new("<tspan[^>]*>|</tspan>").unwrap();
    let line = Regex::new("<text[^>]*>(.*)</text>").unwrap();
    let mut lines = 0;
    for found in line.captures_iter(&picture) {
        let text = span
            .replace_all(&found[1], "")
            .replace("&gt;", ">")
            .replace("&lt;", "<")
            .replace("&amp;", "&");
        assert!(screens.lines().any(|line| line == text), "{text:?}");
        lines += 1;
    }
    assert!(lines >= 5, "{lines}");
}

#[test]
fn the_configs_are_right() {
    let mut seen = 0;
    let secret =
        Regex::new(r"/etc/watchdog/([a-z]+\.(pass|url|token|topic|secret|key|user))").unwrap();
    for block in pages().iter().flat_map(|page| blocks(&page.text)) {
        if block.language != "toml" {
            continue;
        }
        let scene = Scene::new();
        for found in secret.captures_iter(&block.text) {
            let text = match &found[2] {
                "url" => "https://example.org/hook",
                "token" => "1:secret",
                _ => "secret",
            };
            scene.write_private(&found[1], text);
        }
        let mut text = secret.replace_all(&block.text, "{dir}/$1").into_owned();
        if !text.contains("[service.") {
            text.push_str("[service.a]\nspawn = { command = [\"sleep\", \"1\"] }\n");
        }
        scene.config(&text);
        let outcome = scene.run(&["validate"]);
        assert_eq!(outcome.code, 0, "{}\n{}", block.text, outcome.text());
        seen += 1;
    }
    assert!(seen >= 7, "{seen}");
}

#[test]
fn every_command_is_in_the_page_of_the_commands() {
    let text = Page::named("docs/commands.md").text;
    let commands = Scene::new().commands();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        let row = format!("| `watchdog {command}");
        assert!(text.contains(&row), "no row for {command}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    assert_that_links_lead_somewhere(Path::new(ROOT));
}

#[test]
fn every_link_of_the_packed_pages_leads_somewhere() {
    let scene = Scene::new();
    let staged = Command::new(Path::new(ROOT).join("contrib/stage"))
        .env("WATCHDOG", WATCHDOG)
        .env("INTO", scene.path("package"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&staged.stderr);
    assert!(staged.status.success(), "{said}");
    let pages = scene.path("package/usr/share/doc/service-watchdog");
    assert_that_links_lead_somewhere(&pages);
    assert_eq!(pages_below(&pages).len(), self::pages().len());
}

fn assert_that_links_lead_somewhere(root: &Path) {
    // the text of a link can be broken over two lines, and so can its target not
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut to_pages = 0;
    for page in pages_below(root) {
        let directory = page.path.parent().unwrap();
        let shown = page.path.display();
        for target in link
            .captures_iter(&page.text)
            .map(|found| found[1].to_owned())
        {
            if target.starts_with("https://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() {
                page.path.clone()
            } else {
                directory.join(file)
            };
            assert!(path.exists(), "{shown}: no file {target}");
            if !anchor.is_empty() {
                let anchors = Page::at(path).anchors();
                assert!(
                    anchors.iter().any(|there| there == anchor),
                    "{shown}: no heading {target} among {anchors:?}"
                );
            }
            to_pages += 1;
        }
    }
    assert!(to_pages >= 10, "{to_pages}");
}

#[test]
fn the_readme_is_short_and_names_every_page() {
    let readme = Page::named("README.md").text;
    let lines = readme.lines().count();
    assert!(lines < 200, "{lines} lines");
    for page in pages().iter().skip(1) {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("(docs/{name})")), "{name}");
    }
}

#[test]
fn no_screen_puts_a_second_table_of_one_name_into_a_config() {
    for page in pages() {
        assert!(
            !page.text.contains(">>watchdog.toml") && !page.text.contains(">> watchdog.toml"),
            "{}",
            page.path.display()
        );
    }
}
