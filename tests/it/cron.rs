//! Under a real cron, with its minutes made short.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::boxes::shipped;
use crate::scene::{Scene, WATCHDOG, alive};

const CRONBOX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/boxes/cronbox");

/// A cron that runs, and ends with the test.
struct Cron<'a> {
    scene: &'a Scene,
    child: Child,
}

impl<'a> Cron<'a> {
    /// Starts one with this crontab, with a sendmail that keeps each mail, and the watchdog in /usr/local/bin.
    fn start(scene: &'a Scene, crontab: &str) -> Self {
        for directory in ["sbin", "bin", "mail"] {
            fs::create_dir_all(scene.path(directory)).unwrap();
            fs::set_permissions(scene.path(directory), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let sendmail = scene.path("sbin/sendmail");
        let script =
            scene.fill("#!/bin/sh\nf=$(mktemp {dir}/mail/XXXXXX); cat >$f; mv $f $f.eml\n");
        fs::write(&sendmail, script).unwrap();
        fs::set_permissions(&sendmail, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(WATCHDOG, scene.path("bin/watchdog")).unwrap();
        scene.write("crontab", scene.fill(crontab));
        let log = fs::File::create(scene.path("cron.log")).unwrap();
        let child = Command::new(CRONBOX)
            .args([scene.dir(), scene.path("crontab").to_str().unwrap()])
            .env("FAKETIME", "+0 x60")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { scene, child }
    }

    /// Waits until so many further runs have been recorded.
    fn runs(&self, count: usize) {
        let last = || {
            let state = self.scene.read("state/state.json");
            let state: serde_json::Value = serde_json::from_str(&state).unwrap_or_default();
            state["last_run"].to_string()
        };
        for _ in 0..count {
            let before = last();
            self.scene.wait_until("a run by cron", || last() != before);
        }
    }

    fn mails(&self) -> Vec<String> {
        fs::read_dir(self.scene.path("mail"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "eml"))
            .map(|entry| fs::read_to_string(entry.path()).unwrap())
            .collect()
    }
}

impl Drop for Cron<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.scene.read("cron.log"));
        }
    }
}

/// The lines as they are shipped, with the config of this scene.
fn crontab(scene: &Scene) -> String {
    shipped("contrib/crontab").replace(
        "/etc/watchdog/watchdog.toml",
        scene.path("watchdog.toml").to_str().unwrap(),
    )
}

#[test]
#[ignore = "needs root and cron"]
fn f22_the_crontab_as_shipped_is_quiet_while_all_is_well() {
    // a program that ends when it is told to by a file
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"/bin/sh\", \"{dir}/mortal.sh\"] }\nrestart = { settle = \"100ms\" }\n",
    );
    scene.write(
        "mortal.sh",
        "cd ${0%/*}; echo $$ >>a.starts; while ! [ -e end ]; do sleep 0.05; done; rm end\n",
    );
    let cron = Cron::start(&scene, &crontab(&scene));
    scene.wait_until("the first start", || scene.starts("a").len() == 1);
    scene.wait_until("the mail of it", || cron.mails().len() == 1);
    let mail = cron.mails().remove(0);
    assert!(mail.contains("To: root"), "{mail}");
    assert!(mail.contains("restarted"), "{mail}");
    // nothing is printed, and so nothing mailed, while all is well
    cron.runs(4);
    assert_eq!(cron.mails().len(), 1);
    scene.write("end", "");
    scene.wait_until("the restart", || scene.starts("a").len() == 2);
    scene.wait_until("the mail of it", || cron.mails().len() == 2);
}

#[test]
#[ignore = "needs root and cron"]
fn f22_what_cron_starts_has_the_environment_that_a_shell_gives_it() {
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"/bin/sh\", \"-c\", \"env | sort >>{dir}/env.tmp; mv {dir}/env.tmp {dir}/env.$$; exec sleep 1000\"] }\n\
         restart = { settle = \"100ms\" }\n",
    );
    scene.run(&["check"]).exits(1);
    let environments = || {
        let mut all: Vec<String> = fs::read_dir(scene.dir())
            .unwrap()
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.starts_with("env.") && name != "env.tmp"
            })
            .map(|entry| fs::read_to_string(entry.path()).unwrap())
            .collect();
        all.sort();
        all
    };
    scene.wait_until("the first start", || environments().len() == 1);
    let pid = scene.state()["services"]["a"]["process"]["main"]["pid"]
        .as_i64()
        .unwrap();
    scene.kill(i32::try_from(pid).unwrap());
    let _cron = Cron::start(&scene, &format!("FOO=bar\nLANG=xx\n{}", crontab(&scene)));
    scene.wait_until("the start by cron", || environments().len() == 2);
    let all = environments();
    assert_eq!(all[0], all[1]);
    assert!(all[0].contains("PATH=/usr/local/sbin"), "{all:?}");
    assert!(!all[0].contains("FOO"), "{all:?}");
}

#[test]
#[ignore = "needs root and cron"]
fn what_cron_starts_outlives_the_run_and_holds_nobody_up() {
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"/bin/sh\", \"{dir}/prog.sh\", \"a\", \"log=a.log\"] }\nrestart = { settle = \"100ms\" }\n",
    );
    let cron = Cron::start(&scene, &crontab(&scene));
    scene.wait_until("the start", || scene.starts("a").len() == 1);
    // cron mails what the run printed although what it started lives
    scene.wait_until("the mail", || !cron.mails().is_empty());
    cron.runs(3);
    assert_eq!(scene.starts("a").len(), 1, "it was started again");
    scene.write("a.log", "");
    scene.wait_until("its log", || !scene.read("a.log").is_empty());
    assert!(
        !Path::new("/run/systemd/system").exists(),
        "this test is about a machine without systemd"
    );
}

#[test]
fn f24_a_parent_that_ignores_the_end_of_children_spoils_nothing() {
    let scene = Scene::with(
        "[service.a]\nprocess = { command_line = '{dir}/prog\\.sh a$' }\n\
         [service.a.restart]\ncommand = [\"/bin/sh\", \"-c\", \"setsid /bin/sh {dir}/prog.sh a >/dev/null 2>&1 & sleep 0.2; exit 0\"]\n\
         settle = \"100ms\"\n\
         [service.b]\nspawn = { command = [\"/bin/sh\", \"{dir}/prog.sh\", \"b\"] }\nrestart = { settle = \"100ms\" }\n",
    );
    let ignored = scene.shell("exec env --ignore-signal=CHLD grep SigIgn /proc/self/status");
    let mask = ignored.stdout.split_whitespace().last().unwrap().to_owned();
    assert_ne!(u64::from_str_radix(&mask, 16).unwrap() & (1 << 16), 0);
    scene
        .shell("exec env --ignore-signal=CHLD {watchdog} check --json")
        .exits(1)
        .verdict("a", "restarted")
        .verdict("b", "restarted");
    let status = fs::read_to_string(format!("/proc/{}/status", scene.last("b"))).unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap()
        .trim();
    assert_eq!(
        u64::from_str_radix(mask, 16).unwrap() & (1 << 16),
        0,
        "what was started ignores the end of its children"
    );
    scene.check().exits(0);
}

#[test]
fn what_a_shell_starts_outlives_it() {
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"/bin/sh\", \"{dir}/prog.sh\", \"a\"] }\nrestart = { settle = \"100ms\" }\n",
    );
    // a shell that hangs up on its jobs when it ends
    scene
        .shell("setsid sh -ic '{watchdog} check; kill -HUP -$$' </dev/null >/dev/null 2>&1; true")
        .exits(0);
    let pid = scene.last("a");
    scene.check().exits(0).verdict("a", "healthy");
    assert!(alive(pid));
}
