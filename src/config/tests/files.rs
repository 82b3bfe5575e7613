//! Real files: found, trusted, refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::environment::Search;
use super::super::load::{load_in, open, search};
use super::super::trust::{Facts, refusals, secret_refusal};
use super::*;
use crate::fixtures::{Met, opens_a_fifo};

const LEAST: &str = "[service.x]\nspawn = { command = [\"x\"] }\n";

/// A directory of one's own with a config in it.
pub(super) struct Scene {
    dir: TempDir,
    pub(super) config: PathBuf,
    environment: Environment,
}

impl Scene {
    pub(super) fn new(text: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o755);
        let config = dir.path().join("watchdog.toml");
        fs::write(&config, text).unwrap();
        mode(&config, 0o644);
        let environment = Environment {
            state_directory: Some("/var/lib/watchdog".into()),
            ..Environment {
                uid: nix::unistd::geteuid().as_raw(),
                ..bare()
            }
        };
        Self {
            dir,
            config,
            environment,
        }
    }

    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        load_in(&self.config, &self.environment)
    }

    /// A file in its directory.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is said of it, its directory replaced.
    pub(super) fn said(&self) -> String {
        let said = self.load().expect_err("it is wrong").to_string();
        said.replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

pub(super) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_config_is_loaded() {
    let scene = Scene::new(LEAST);
    let config = scene.load().unwrap();
    assert_eq!(config.path, scene.config);
    assert_eq!(&*config.services[0].working_dir, scene.dir.path());
}

#[test]
fn what_is_no_config_is_refused_at_once() {
    let scene = Scene::new(LEAST);
    fs::remove_file(&scene.config).unwrap();
    assert_eq!(scene.said(), "error: DIR/watchdog.toml: no such file");
    fs::create_dir(&scene.config).unwrap();
    assert_eq!(
        scene.said(),
        "error: DIR/watchdog.toml: this is a directory, not a file\n  \
         = help: name the file in it: DIR/watchdog.toml/watchdog.toml"
    );
    fs::remove_dir(&scene.config).unwrap();
    nix::unistd::mkfifo(&scene.config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(
        scene.said(),
        "error: DIR/watchdog.toml: this is a FIFO, not a file\n  = help: a config is a regular file"
    );
    let device = load_in(Path::new("/dev/null"), &scene.environment).unwrap_err();
    assert_eq!(
        device.to_string(),
        "error: /dev/null: this is a device, not a file\n  = help: a config is a regular file"
    );
}

#[test]
fn what_is_swapped_for_a_fifo_is_never_opened() {
    let scene = Scene::new(LEAST);
    let read = |path: &Path| match open(path) {
        Ok(_) => Met::File,
        Err(_) => Met::Fifo,
    };
    assert!(!opens_a_fifo(&scene.config, read));
}

#[test]
fn a_file_without_end_is_not_read() {
    let scene = Scene::new("");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&scene.config)
        .unwrap();
    file.set_len(100 << 20).unwrap();
    assert_eq!(
        scene.said(),
        "error: DIR/watchdog.toml: 104857600 bytes are too large for a config, which has 1048576 at most\n  \
         = help: is this the file that was meant?"
    );
    // what is just not too large is read, and is no text at all
    file.set_len(1 << 20).unwrap();
    let said = scene.said();
    assert!(said.contains("watchdog.toml:1:1"), "{said}");
}

#[test]
fn a_link_that_leads_nowhere_says_so() {
    let scene = Scene::new(LEAST);
    fs::remove_file(&scene.config).unwrap();
    assert_eq!(scene.said(), "error: DIR/watchdog.toml: no such file");
    std::os::unix::fs::symlink("gone.toml", &scene.config).unwrap();
    assert_eq!(
        scene.said(),
        "error: DIR/watchdog.toml: it is a symbolic link to gone.toml, which does not exist
  = help: let the link lead to a file that is there, or take it away"
    );
    fs::remove_file(&scene.config).unwrap();
    std::os::unix::fs::symlink("watchdog.toml", &scene.config).unwrap();
    assert_eq!(
        scene.said(),
        "error: DIR/watchdog.toml: cannot be read: the symbolic links in its path lead in a circle"
    );
}

#[test]
fn what_cannot_be_read_says_so() {
    if nix::unistd::geteuid().is_root() {
        return; // root reads everything
    }
    let scene = Scene::new(LEAST);
    mode(&scene.config, 0o000);
    assert_eq!(
        scene.said(),
        "error: DIR/watchdog.toml: no permission to read it\n  = help: run as the user that it belongs to"
    );
}

#[test]
fn what_is_not_utf8_is_shown_where_it_is_not() {
    let scene = Scene::new(b"[service.x]\n# na\xefve \xff\nspawn = 3\n");
    assert_eq!(
        scene.said(),
        "error: this is not UTF-8
 --> DIR/watchdog.toml:2:5
  |
2 | # na\u{fffd}ve \u{fffd}
  |     ^
  = help: save the file as UTF-8

1 error in DIR/watchdog.toml"
    );
}

#[test]
fn all_faults_are_told_and_counted() {
    let scene = Scene::new("check_timeot = \"5s\"\n[service.x]\nspawn = { command = \"x\" }\n");
    assert_eq!(
        scene.said(),
        "error: unknown key `check_timeot`
 --> DIR/watchdog.toml:1:1: check_timeot
  |
1 | check_timeot = \"5s\"
  | ^^^^^^^^^^^^
  = help: did you mean `check_timeout`?

error: `command` must be a list of the program and its arguments, not a string
 --> DIR/watchdog.toml:3:21: [service.x.spawn] command
  |
3 | spawn = { command = \"x\" }
  |                     ^^^
  = help: no shell reads it; write it as a list: [\"x\"]

2 errors in DIR/watchdog.toml"
    );
}

#[test]
fn f77_a_config_that_others_can_write_is_refused() {
    let scene = Scene::new(LEAST);
    let who = if scene.environment.uid == 0 {
        "root".to_owned()
    } else {
        nix::unistd::User::from_uid(nix::unistd::geteuid())
            .unwrap()
            .unwrap()
            .name
    };
    mode(&scene.config, 0o646);
    assert_eq!(
        scene.said(),
        format!(
            "error: DIR/watchdog.toml (mode 0646) can be written by anybody, who could change what {who} runs\n  \
             = help: chmod o-w DIR/watchdog.toml"
        )
    );
    mode(&scene.config, 0o644);
    mode(scene.dir.path(), 0o757);
    assert_eq!(
        scene.said(),
        "error: DIR (mode 0757) can be written by anybody, who could put another config in its place\n  \
         = help: chmod o-w DIR"
    );
    mode(scene.dir.path(), 0o1777);
    assert!(scene.load().is_ok(), "a sticky directory will do");
}

#[test]
fn f77_a_link_is_judged_by_both_its_ends() {
    let scene = Scene::new(LEAST);
    let elsewhere = Scene::new(LEAST);
    let link = scene.dir.path().join("link.toml");
    std::os::unix::fs::symlink(&elsewhere.config, &link).unwrap();
    assert!(load_in(&link, &scene.environment).is_ok());
    for directory in [scene.dir.path(), elsewhere.dir.path()] {
        mode(directory, 0o757);
        let error = load_in(&link, &scene.environment).unwrap_err().to_string();
        assert!(error.contains(directory.to_str().unwrap()), "{error}");
        mode(directory, 0o755);
    }
}

#[test]
fn each_link_on_the_way_to_a_config_is_judged() {
    let scenes = [Scene::new(LEAST), Scene::new(LEAST), Scene::new(LEAST)];
    let [scene, between, end] = &scenes;
    // a link to a link in a directory of its own
    let (first, second) = (
        scene.dir.path().join("link.toml"),
        between.dir.path().join("link.toml"),
    );
    std::os::unix::fs::symlink(&end.config, &second).unwrap();
    std::os::unix::fs::symlink(&second, &first).unwrap();
    // and a link to a directory, in another's directory
    let way = between.dir.path().join("way");
    std::os::unix::fs::symlink(end.dir.path(), &way).unwrap();
    let through = scene.dir.path().join("through");
    std::os::unix::fs::symlink(&way, &through).unwrap();
    for path in [first, through.join("watchdog.toml")] {
        assert!(load_in(&path, &scene.environment).is_ok());
        mode(between.dir.path(), 0o757);
        let error = load_in(&path, &scene.environment).unwrap_err().to_string();
        assert!(
            error.contains(between.dir.path().to_str().unwrap()),
            "{error}"
        );
        mode(between.dir.path(), 0o755);
    }
    // in a sticky directory a link is its owner's to replace
    if scene.environment.uid == 0 {
        mode(between.dir.path(), 0o1777);
        std::os::unix::fs::lchown(&way, Some(4242), None).unwrap();
        let error = load_in(&through.join("watchdog.toml"), &scene.environment).unwrap_err();
        let way = way.display();
        assert_eq!(
            error.to_string(),
            format!(
                "error: {way} belongs to 4242, who could put another config in its place\n  \
                 = help: chown -h root {way}"
            )
        );
    }
}

#[test]
fn f76_secrets_that_others_can_read_are_refused() {
    let mail = |secret: &str| {
        format!(
            "[mail]\nfrom = \"a@b\"\nto = [\"c@d\"]\nsmtp = {{ host = \"mx\", username = \"u\", {secret} }}\n{LEAST}"
        )
    };
    let who = |scene: &Scene| super::super::trust::account(scene.environment.uid);
    let scene = Scene::new(mail("password = \"canary-7391\""));
    let said = scene.said();
    assert_eq!(
        said,
        format!(
            "error: DIR/watchdog.toml (mode 0644) holds a password that others than {} can read\n  \
             = help: chmod go-rwx DIR/watchdog.toml",
            who(&scene)
        )
    );
    mode(&scene.config, 0o600);
    let config = scene.load().unwrap();
    assert!(!format!("{config:?}").contains("canary"));

    let scene = Scene::new(mail("password_file = \"pass\""));
    assert_eq!(
        scene.said(),
        "error: DIR/pass: there is no such file
 --> DIR/watchdog.toml:4:55: [mail.smtp] password_file
  |
4 | smtp = { host = \"mx\", username = \"u\", password_file = \"pass\" }
  |                                                       ^^^^^^
  = help: name a file of mode 0600 with the password in it

1 error in DIR/watchdog.toml"
    );
    let pass = scene.dir.path().join("pass");
    fs::create_dir(&pass).unwrap();
    let said = scene.said();
    assert!(
        said.starts_with("error: DIR/pass: this is not a regular file\n"),
        "{said}"
    );
    fs::remove_dir(&pass).unwrap();
    fs::write(&pass, "canary-7391").unwrap();
    mode(&pass, 0o640);
    assert_eq!(
        scene.said(),
        format!(
            "error: DIR/pass (mode 0640) holds a password that others than {} can read\n  \
             = help: chmod go-rwx DIR/pass",
            who(&scene)
        )
    );
    mode(&pass, 0o600);
    assert!(scene.load().is_ok());

    // of checks, those in headers and URLs
    let http = |keys: &str| Scene::new(format!("{LEAST}[[service.a.http]]\n{keys}\n"));
    for keys in [
        "url = \"http://me:canary-7391@localhost/\"",
        "url = \"http://localhost/\"\nheaders = { Authorization = \"Bearer canary-7391\" }",
        "url = \"http://localhost/\"\nheaders = { X-Api-Key = \"canary-7391\" }",
    ] {
        let scene = http(keys);
        assert_eq!(
            scene.said(),
            format!(
                "error: DIR/watchdog.toml (mode 0644) holds a secret that others than {} can read\n  \
                 = help: chmod go-rwx DIR/watchdog.toml",
                who(&scene)
            )
        );
        mode(&scene.config, 0o600);
        let config = scene.load().unwrap();
        assert!(!format!("{config:?}").contains("canary"));
        assert!(!crate::config::to_toml(&config).contains("canary"));
    }
    let scene = http("url = \"http://localhost/\"\nheader_files = { Authorization = \"auth\" }");
    let said = scene.said();
    assert!(
        said.starts_with("error: DIR/auth: there is no such file\n --> DIR/watchdog.toml:")
            && said.contains("name a file of mode 0600 with the secret in it"),
        "{said}"
    );
    let auth = scene.dir.path().join("auth");
    fs::write(&auth, "Bearer canary-7391").unwrap();
    mode(&auth, 0o604);
    assert_eq!(
        scene.said(),
        format!(
            "error: DIR/auth (mode 0604) holds a secret that others than {} can read\n  \
             = help: chmod go-rwx DIR/auth",
            who(&scene)
        )
    );
    mode(&auth, 0o600);
    assert!(scene.load().is_ok());
}

#[test]
fn f77_trust_by_table() {
    const NOBODY: u32 = 65_534;
    let file = |uid, mode| Facts {
        path: "/etc/my dir/w.toml".into(),
        uid,
        mode,
        directory: false,
        link: false,
    };
    let directory = |uid, mode| Facts {
        path: "/etc/w".into(),
        uid,
        mode,
        directory: true,
        link: false,
    };
    let me = 4_000_001;
    let other = 4_000_002;
    for (user, facts, remedies) in [
        (0, file(0, 0o644), vec![]),
        (0, file(0, 0o600), vec![]),
        (0, file(0, 0o664), vec!["chmod g-w '/etc/my dir/w.toml'"]),
        (0, file(0, 0o646), vec!["chmod o-w '/etc/my dir/w.toml'"]),
        (0, file(0, 0o666), vec!["chmod go-w '/etc/my dir/w.toml'"]),
        (0, file(0, 0o1646), vec!["chmod o-w '/etc/my dir/w.toml'"]),
        (0, file(me, 0o600), vec!["chown root '/etc/my dir/w.toml'"]),
        (
            0,
            file(me, 0o662),
            vec![
                "chown root '/etc/my dir/w.toml'",
                "chmod go-w '/etc/my dir/w.toml'",
            ],
        ),
        (0, directory(0, 0o755), vec![]),
        (0, directory(0, 0o1777), vec![]),
        (0, directory(0, 0o775), vec!["chmod g-w /etc/w"]),
        (0, directory(0, 0o777), vec!["chmod go-w /etc/w"]),
        (0, directory(me, 0o755), vec!["chown root /etc/w"]),
        (0, directory(me, 0o1777), vec!["chown root /etc/w"]),
        (me, file(me, 0o664), vec![]),
        (me, file(0, 0o644), vec![]),
        (me, file(me, 0o666), vec!["chmod go-w '/etc/my dir/w.toml'"]),
        (
            me,
            file(other, 0o644),
            vec!["chown 4000001 '/etc/my dir/w.toml'"],
        ),
        (me, directory(me, 0o775), vec![]),
        (me, directory(0, 0o777), vec!["chmod go-w /etc/w"]),
        (me, directory(0, 0o1777), vec![]),
        (me, directory(other, 0o755), vec!["chown 4000001 /etc/w"]),
    ] {
        let got: Vec<_> = refusals(user, std::slice::from_ref(&facts))
            .into_iter()
            .map(|refusal| refusal.remedy)
            .collect();
        assert_eq!(got, remedies, "{user} {facts:?}");
    }
    let all = refusals(0, &[directory(other, 0o755), file(other, 0o644)]);
    assert_eq!(all.len(), 2, "all of them at once");
    assert_eq!(
        all[1].to_string(),
        "error: /etc/my dir/w.toml belongs to 4000002, who could change what root runs\n  \
         = help: chown root '/etc/my dir/w.toml'"
    );
    for (mode, refused) in [
        (0o600, false),
        (0o400, false),
        (0o622, false),
        (0o640, true),
        (0o604, true),
        (0o644, true),
    ] {
        assert_eq!(
            secret_refusal(NOBODY, &file(NOBODY, mode), "password").is_some(),
            refused
        );
    }
    let theirs = secret_refusal(0, &file(NOBODY, 0o600), "password").unwrap();
    assert!(
        theirs
            .reason
            .starts_with("holds a password, and belongs to ")
            && theirs.reason.ends_with(", who can read and change it"),
        "{}",
        theirs.reason
    );
    assert_eq!(
        refusals(0, &[file(0, 0o620)])[0].reason,
        "(mode 0620) can be written by its group, who could change what root runs"
    );
    assert_eq!(theirs.remedy, "chown root '/etc/my dir/w.toml'");
    assert!(secret_refusal(NOBODY, &file(0, 0o600), "password").is_none());
}

#[test]
fn the_first_config_that_exists_is_found() {
    let here = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let places = Search {
        explicit: None,
        variable: None,
        here: Some(here.path().to_owned()),
        config_home: Some(home.path().to_owned()),
    };
    if !Path::new("/etc/watchdog/watchdog.toml").exists() {
        let error = search(&places).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "error: no config found; looked for\n  {}/watchdog.toml\n  {}/watchdog/watchdog.toml\n  \
                 /etc/watchdog/watchdog.toml\n  = help: write one, or name it with --config",
                here.path().display(),
                home.path().display()
            )
        );
    }
    let at_home = home.path().join("watchdog/watchdog.toml");
    fs::create_dir(at_home.parent().unwrap()).unwrap();
    fs::write(&at_home, LEAST).unwrap();
    assert_eq!(search(&places).unwrap(), at_home);
    let at_hand = here.path().join("watchdog.toml");
    fs::write(&at_hand, LEAST).unwrap();
    assert_eq!(search(&places).unwrap(), at_hand);
    // what is named is meant, and never passed over for another
    let variable = Search {
        variable: Some("no/such.toml".into()),
        ..places
    };
    assert_eq!(search(&variable).unwrap(), here.path().join("no/such.toml"));
    let explicit = Search {
        explicit: Some("/named.toml".into()),
        ..variable
    };
    assert_eq!(search(&explicit).unwrap(), Path::new("/named.toml"));
}

#[test]
fn a_missing_config_that_was_named_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = find(Some(&dir.path().join("w.toml"))).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.ends_with("w.toml: no such file"), "{error}");
}
