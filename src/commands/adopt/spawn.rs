//! How a program is started again: the `spawn` that does it as it is printed, or why there is none.

use std::path::{Path, PathBuf};

use super::arguments::{self, Runs};
use super::facts::{Facts, Shape};
use super::toml::quoted;
use crate::child::DEFAULT_PATH;
use crate::files;
use crate::text::printable;

/// Variables that change what a program is, and that hold no secrets. Others are named, and their values are not shown.
const SHOWN: [&str; 34] = [
    "APP_ENV",
    "BUNDLE_GEMFILE",
    "CLASSPATH",
    "DJANGO_SETTINGS_MODULE",
    "ENVIRONMENT",
    "FLASK_APP",
    "GEM_HOME",
    "GEM_PATH",
    "GOGC",
    "GOMAXPROCS",
    "JAVA_HOME",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "MALLOC_ARENA_MAX",
    "MODE",
    "NODE_ENV",
    "NODE_PATH",
    "PATH",
    "PERL5LIB",
    "PGDATA",
    "PORT",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "RACK_ENV",
    "RAILS_ENV",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "STAGE",
    "TZ",
    "VIRTUAL_ENV",
    "WINEARCH",
    "WINEPREFIX",
];

/// Variables that every program has of its shell, its session or its manager, and that the watchdog sets itself or
/// leaves out. A name that ends with `*` is a beginning.
const ORDINARY: [&str; 58] = [
    "_",
    "APPDIR",
    "APPIMAGE",
    "ARGV0",
    "CARGO*",
    "COLORTERM",
    "COLUMNS",
    "CONDA_*",
    "DBUS_*",
    "DEBIAN_FRONTEND",
    "DISPLAY",
    "EDITOR",
    "GOPATH",
    "GPG_*",
    "HIST*",
    "HOME",
    "HOSTNAME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LESS*",
    "LINES",
    "LISTEN_*",
    "LOGNAME",
    "LS_COLORS",
    "MAIL",
    "MANPATH",
    "MOTD_SHOWN",
    "NOTIFY_SOCKET",
    "NVM_*",
    "OLDPWD",
    "OWD",
    "PAGER",
    "PS1",
    "PWD",
    "PYENV_*",
    "RBENV_*",
    "RUSTUP_*",
    "SDKMAN_*",
    "SHELL",
    "SHLVL",
    "SSH_*",
    "STATE_DIRECTORY",
    "STY",
    "SUDO_*",
    "SYSTEMD_*",
    "TEMP",
    "TERM*",
    "TMP",
    "TMPDIR",
    "TMUX*",
    "USER",
    "VSCODE_*",
    "WATCHDOG_*",
    "WINDOW*",
    "XDG_*",
];

/// How a program is started again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// The keys of the table.
    pub(super) keys: Vec<String>,
    /// Why it does not start the program as it stands: what is to be filled in or looked at.
    pub(super) why_not: Vec<String>,
    /// What is not as it was.
    pub(super) notes: Vec<String>,
    /// The name that it is started by, where the running program has another one.
    pub(super) first: Option<String>,
}

/// Works out how a program is started again. `why_root` is why that has to be done as root, where it has.
pub(super) fn plan(facts: &Facts, why_root: Option<&str>, is_root: bool) -> Start {
    let mut start = Start::default();
    let command = command(facts, &mut start);
    let command: Vec<String> = command.iter().map(|argument| quoted(argument)).collect();
    start
        .keys
        .push(format!("command = [{}]", command.join(", ")));
    let uid = match why_root {
        Some(why) => {
            let user = &facts.user;
            if is_root {
                start.notes.push(format!(
                    "it was started as root and became user {user} itself ({why}): root starts it again"
                ));
            } else {
                start.why_not.push(format!(
                    "it was started as root and became user {user} itself ({why}): only a watchdog of root's can start it"
                ));
            }
            0
        }
        None => facts.uid,
    };
    if why_root.is_none() {
        if !facts.is_own_user {
            start.keys.push(format!("user = {}", quoted(&facts.user)));
        }
        if let Some(group) = &facts.group {
            start.keys.push(format!("group = {}", quoted(group)));
        }
    }
    environment(facts, &mut start);
    output(facts, uid, &mut start);
    if let Some(umask) = facts.umask.filter(|&umask| umask != 0o022) {
        start.keys.push(format!("umask = \"{umask:03o}\""));
    }
    if facts.nice != 0 {
        start.keys.push(format!("nice = {}", facts.nice));
    }
    if let Some(root) = facts.root.as_ref().filter(|_| why_root.is_none()) {
        start.why_not.push(format!(
            "it runs below another root directory, {}",
            shown(root)
        ));
    }
    if facts.working_dir_is_gone {
        start.why_not.push(format!(
            "its directory {} is gone",
            shown(&facts.working_dir)
        ));
    }
    start
}

/// The command, and why it would not start the same program.
fn command(facts: &Facts, start: &mut Start) -> Vec<String> {
    let program = facts.program.as_ref().map_or_else(
        || facts.name.clone(),
        |program| program.to_string_lossy().into_owned(),
    );
    if let Shape::Title(title) = facts.shape() {
        // a title begins with the name that it was started by, as a rule
        let called = title
            .split([' ', ':'])
            .next()
            .filter(|called| starts(called, facts));
        start.why_not.push(
            "it has written a title over its arguments, so how it was started is not known; fill it in".to_owned(),
        );
        return vec![called.map_or(program, str::to_owned), "…".to_owned()];
    }
    let mut command = facts.arguments.clone();
    if facts.shape() == Shape::Edited {
        start.why_not.push(
            "it has changed its arguments since it was started; compare them with what starts it (an init script, say)"
                .to_owned(),
        );
    }
    if command
        .iter()
        .any(|argument| argument.contains(char::REPLACEMENT_CHARACTER))
    {
        start
            .why_not
            .push("its arguments are no text (UTF-8), which a config has to be".to_owned());
    }
    let first = command.first().cloned().unwrap_or_default();
    if is_windows(&first) {
        start.why_not.push(
            "it runs under Wine, by a command that is not known; fill it in, with what it needs of WINEPREFIX and DISPLAY"
                .to_owned(),
        );
        command.insert(0, "wine".to_owned());
        return command;
    }
    if let Some(image) = app_image(facts) {
        if !image.is_file() {
            start
                .why_not
                .push(format!("its AppImage {} is gone", shown(&image)));
        }
        let image = image.to_string_lossy().into_owned();
        command[0] = image;
        return command;
    }
    if !starts(&first, facts)
        && let Some(first) = command.first_mut()
    {
        first.clone_from(&program);
        start.first = Some(program.clone());
        if !Path::new(&program).is_file() {
            start.why_not.push(format!(
                "its program {} is gone",
                printable(program.as_bytes(), 1000)
            ));
        }
    }
    match arguments::runs(&facts.arguments) {
        Runs::Input => start.why_not.push(
            "it was given its program on standard input, which it does not have again".to_owned(),
        ),
        Runs::Script(at) => {
            let script = &facts.arguments[at];
            if script.starts_with("/dev/fd/") || script.starts_with("/proc/self/fd/") {
                start.why_not.push(format!(
                    "{script} was a descriptor, which it does not have again"
                ));
            } else if facts.script_is_gone {
                start.why_not.push(format!(
                    "there is no {} in its directory: it has changed its directory since it was started, or the script is gone",
                    printable(script.as_bytes(), 1000)
                ));
            }
        }
        _ => {}
    }
    command
}

fn is_windows(first: &str) -> bool {
    let mut letters = first.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.next() == Some(':')
        && letters.next() == Some('\\')
}

/// The `AppImage` that a program is part of. What such a program starts inherits the variable, and is none.
fn app_image(facts: &Facts) -> Option<PathBuf> {
    let image = facts.environment.get("APPIMAGE")?;
    let mount = facts.environment.get("APPDIR")?;
    let program = facts.program.as_ref()?;
    (program.starts_with(mount) && image.starts_with('/')).then(|| PathBuf::from(image))
}

fn environment(facts: &Facts, start: &mut Start) {
    let told: Vec<String> = facts
        .environment
        .iter()
        .filter(|(key, value)| {
            SHOWN.contains(&key.as_str()) && !(*key == "PATH" && is_ordinary_path(value))
        })
        .map(|(key, value)| format!("{key} = {}", quoted(value)))
        .collect();
    if !told.is_empty() {
        start.keys.push(format!("env = {{ {} }}", told.join(", ")));
    }
    let (inherited, own): (Vec<&str>, Vec<&str>) = facts
        .environment
        .keys()
        .map(String::as_str)
        .filter(|key| !SHOWN.contains(key) && !is_ordinary(key))
        .partition(|key| facts.inherited.contains(*key) && !is_needed(key));
    let listed = |keys: &[&str]| printable(keys.join(", ").as_bytes(), 1000);
    if !own.is_empty() {
        start.why_not.push(format!(
            "not taken over, because they may be secret: its variables {}; write what it needs into an env_file",
            listed(&own)
        ));
    }
    if !inherited.is_empty() {
        start.notes.push(format!(
            "not taken over, because what started it has them as well: its variables {}",
            listed(&inherited)
        ));
    }
}

/// Whether a variable seems to hold what a program cannot do without, whoever has it as well.
fn is_needed(key: &str) -> bool {
    let key = key.to_uppercase();
    [
        "API_KEY",
        "APIKEY",
        "CREDENTIAL",
        "DATABASE_URL",
        "DSN",
        "PASSW",
        "SECRET",
        "TOKEN",
    ]
    .iter()
    .any(|part| key.contains(part))
}

/// Where its output goes. `uid` is who opens it.
fn output(facts: &Facts, uid: u32, start: &mut Start) {
    for (number, key) in [(1, "stdout"), (2, "stderr")] {
        if facts.pipes.contains(&number) {
            start.notes.push(format!(
                "its {key} is read by another program, through a pipe; started again it goes nowhere: set `{key}`"
            ));
        }
        let Some(open) = facts.open.iter().find(|open| open.number == number) else {
            continue;
        };
        let others = files::who_could_redirect(&open.path, 0);
        let is_misled = uid == 0 && !others.are_none();
        if is_misled && facts.uid != 0 {
            // it has opened its log itself, when it had given up root
        } else if is_misled {
            start.notes.push(format!(
                "its {key} goes to {}, in a directory that {others} can change: root does not write there",
                shown(&open.path)
            ));
        } else if uid == 0 || open.owner == uid {
            start
                .keys
                .push(format!("{key} = {}", quoted(&open.path.to_string_lossy())));
        } else {
            start.notes.push(format!(
                "its {key} goes to {}, which belongs to another user and was opened for it: chown that file before you \
                 write it here",
                shown(&open.path)
            ));
        }
    }
    if let Some(terminal) = &facts.terminal {
        let host = if facts.environment.contains_key("TMUX") {
            " of tmux"
        } else if facts.environment.contains_key("STY") {
            " of screen"
        } else {
            ""
        };
        start.notes.push(format!(
            "it runs in a terminal{host}, {terminal}; started again it has none: it is not seen there, and what it prints \
             goes nowhere unless you set `stdout` and `stderr`"
        ));
    }
}

/// Whether the name that a program was started by starts it again.
fn starts(first: &str, facts: &Facts) -> bool {
    if first.is_empty() {
        return false;
    }
    if first.contains('/') {
        return facts.working_dir.join(first).is_file();
    }
    // the one that `env` has then
    let own = facts.environment.get("PATH").map(String::as_str);
    let path = own
        .filter(|path| !is_ordinary_path(path))
        .unwrap_or(DEFAULT_PATH);
    path.split(':')
        .map(|directory| facts.working_dir.join(directory).join(first))
        .find(|path| path.is_file())
        .and_then(|path| path.canonicalize().ok())
        .is_some_and(|path| facts.program.as_ref() == Some(&path))
}

/// Whether a program is found by the PATH that the watchdog gives.
pub(super) fn is_in_path(program: &str) -> bool {
    DEFAULT_PATH
        .split(':')
        .any(|directory| Path::new(directory).join(program).is_file())
}

/// Whether a PATH finds nothing that the one that the watchdog gives does not find.
fn is_ordinary_path(value: &str) -> bool {
    value
        .split(':')
        .all(|directory| DEFAULT_PATH.split(':').any(|usual| usual == directory))
}

fn is_ordinary(key: &str) -> bool {
    ORDINARY.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => key == *known,
    })
}

fn shown(path: &Path) -> String {
    printable(path.to_string_lossy().as_bytes(), 1000)
}
