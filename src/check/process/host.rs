//! Processes that have a service's command in their arguments and are not the service.
//!
//! A tmux server keeps the command line of whoever started it for as long as any session lives, `ssh` and `docker run`
//! have the command of a program that runs elsewhere, and `sh -c`, `su -c` or `watch` have it in one argument. To take
//! one of them for the service is to believe a dead program alive, and to end other people's sessions with it.
//!
//! There are two kinds:
//!
//! - *Hosts*, known by the file name of their first argument: they run commands elsewhere, or for several at once, and
//!   may outlive them. One that the pattern names itself is the service: a tunnel is an `ssh`.
//! - Whatever has the match inside one argument with blanks in it. The first argument is a title (`nginx: master
//!   process`), and an argument may be the path of a file with blanks in its name: those are no quotes.
//!
//! `sudo`, `timeout`, `strace`, `flock`, `nohup` and the like are neither: each lives as long as the one program below
//! it, passes signals on, and has the program's arguments as its own. They count, but where all that they have below
//! them is a host.
//!
//! The first argument is what whoever starts a process says. A program that is started under the name of a host is not
//! found by its command line; only the service's own user can do that to it, who could end it as well, and how often
//! another one is started is bounded as always. A host under another name is taken for the service, as any process is
//! that has its command line: that is what `user` is for. Names that a process gives itself later (its comm) are not
//! asked for: a script that is called `watch` would be a host by that.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::check::pattern::Pattern;
use crate::process_table::Process;

/// Hosts that have a server of their own, which serves others too and lives on when one has ended.
const MULTIPLEXERS: [&str; 10] = [
    "abduco",
    "byobu",
    "dtach",
    "dvtm",
    "mosh",
    "mosh-client",
    "mosh-server",
    "screen",
    "tmux",
    "zellij",
];

/// Other hosts: clients of other machines and of containers, the keepers of containers, windows, and who looks on.
const OTHERS: [&str; 53] = [
    "alacritty",
    "apptainer",
    "conmon",
    "containerd-shim",
    "containerd-shim-runc-v1",
    "containerd-shim-runc-v2",
    "crictl",
    "crun",
    "ctr",
    "distrobox",
    "docker",
    "docker-compose",
    "egrep",
    "fgrep",
    "foot",
    "gnome-terminal",
    "grep",
    "incus",
    "kitty",
    "konsole",
    "kubectl",
    "lxc",
    "lxc-attach",
    "lxc-execute",
    "lxc-start",
    "lxterminal",
    "machinectl",
    "multipass",
    "nerdctl",
    "nomad",
    "oc",
    "pgrep",
    "pkill",
    "plink",
    "podman",
    "podman-compose",
    "rg",
    "rsh",
    "runc",
    "script",
    "singularity",
    "ssh",
    "ssh-agent",
    "sshpass",
    "systemd-nspawn",
    "telnet",
    "toolbox",
    "urxvt",
    "vagrant",
    "watch",
    "x-terminal-emulator",
    "xfce4-terminal",
    "xterm",
];

/// Those hosts whose names are words that any program may have.
const COMMON_WORDS: [&str; 9] = [
    "foot", "kitty", "mosh", "nomad", "oc", "screen", "script", "toolbox", "watch",
];

/// Programs that have one program below them, live as long as it does, and have its arguments as their own.
const WRAPPERS: [&str; 22] = [
    "catatonit",
    "chpst",
    "chronic",
    "dbus-run-session",
    "doas",
    "dumb-init",
    "env",
    "flock",
    "ltrace",
    "nice",
    "nohup",
    "pkexec",
    "runuser",
    "setsid",
    "stdbuf",
    "strace",
    "su",
    "sudo",
    "systemd-inhibit",
    "time",
    "timeout",
    "tini",
];

/// What a process that a pattern matches is to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The service, as far as the pattern says.
    Itself,
    /// A host of commands. One that is a multiplexer serves others as well.
    Host { is_multiplexer: bool },
    /// It has the match inside one argument.
    Quotes,
}

/// What a process is that a pattern matches.
pub(super) fn role(pattern: &Pattern, process: &Process) -> Role {
    role_with(pattern, process, |argument| is_path(process.pid, argument))
}

pub(super) fn role_with(
    pattern: &Pattern,
    process: &Process,
    is_path: impl Fn(&[u8]) -> bool,
) -> Role {
    let command = &process.command;
    let (first, rest) = split_first(command);
    let name = file_name(first);
    if is_host(first, name) && !names(pattern.source(), name) && pattern.matches(rest) {
        let is_multiplexer = is_in(&MULTIPLEXERS, name);
        return Role::Host { is_multiplexer };
    }
    let quotes: Vec<(usize, usize)> = process
        .arguments_with_blanks()
        .filter(|&(begin, end)| pattern.matches(&command[begin..end]))
        .filter(|&(begin, end)| !is_path(&command[begin..end]))
        .collect();
    if quotes.is_empty() {
        return Role::Itself;
    }
    // what is left where another argument stands in the place of each of them
    let mut left = Vec::with_capacity(command.len());
    let mut from = 0;
    for (begin, end) in quotes {
        left.extend_from_slice(&command[from..begin]);
        left.push(0);
        from = end;
    }
    left.extend_from_slice(&command[from..]);
    if pattern.matches(&left) {
        Role::Itself
    } else {
        Role::Quotes
    }
}

/// Whether a process is called as a multiplexer is.
pub(super) fn is_multiplexer(process: &Process) -> bool {
    is_in(&MULTIPLEXERS, file_name(split_first(&process.command).0))
}

/// Whether a process is called as a program is that lives as long as the one below it.
pub(super) fn is_wrapper(process: &Process) -> bool {
    is_in(&WRAPPERS, file_name(split_first(&process.command).0))
}

/// The first argument, and all behind it. Of one with a blank in it, its first word: the name of no host has one.
fn split_first(command: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b' ', command).unwrap_or(command.len());
    let (first, rest) = command.split_at(end);
    (first, rest.strip_prefix(b" ").unwrap_or_default())
}

/// The file name of a program. A login shell has a dash before its own.
fn file_name(first: &[u8]) -> &[u8] {
    let name = first.rsplit(|&b| b == b'/').next().unwrap_or_default();
    name.strip_prefix(b"-").unwrap_or(name)
}

/// Whether a first argument is that of a host. A word that a program of somebody's own may have for its name counts only
/// where programs of the system are called, by the name alone or in a `bin`.
fn is_host(first: &[u8], name: &[u8]) -> bool {
    let directory = first.strip_suffix(name).unwrap_or_default();
    let is_of_system = !directory.contains(&b'/') || directory.ends_with(b"bin/");
    (is_in(&MULTIPLEXERS, name) || is_in(&OTHERS, name))
        && (is_of_system || !is_in(&COMMON_WORDS, name))
}

/// Whether a name is one of these; screen calls itself SCREEN.
fn is_in(names: &[&str], name: &[u8]) -> bool {
    names
        .iter()
        .any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether a pattern begins with the name of a program, perhaps with its directory before it.
fn names(source: &str, name: &[u8]) -> bool {
    let source = source.trim_start_matches('^').replace('\\', "");
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    let end = source.find(|c| !is_of_name(c)).unwrap_or(source.len());
    let first = source[..end].rsplit('/').next().unwrap_or_default();
    first.as_bytes().eq_ignore_ascii_case(name)
}

/// Whether an argument of a process is the path of a file. One that may not be looked at is, where it is written as one.
fn is_path(pid: i32, argument: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let argument = Path::new(std::ffi::OsStr::from_bytes(argument));
    let path = Path::new("/proc")
        .join(pid.to_string())
        .join("cwd")
        .join(argument);
    match fs::metadata(path) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let written = argument.as_os_str().as_bytes();
            written.starts_with(b"/") || written.starts_with(b".")
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::process;
    use super::*;

    /// A process with these arguments.
    fn called(arguments: &[&str]) -> Process {
        let mut it = process(600, 1, &arguments.join(" "));
        if arguments.iter().skip(1).any(|one| one.contains(' ')) {
            let lengths = arguments.iter().map(|argument| argument.len() + 1);
            let ends = lengths.scan(0, |end, length| {
                *end += length;
                Some(*end - 1)
            });
            it.ends = ends.collect();
        }
        it
    }

    fn role_of(pattern: &str, arguments: &[&str]) -> Role {
        let pattern = Pattern::new(pattern).unwrap();
        let it = called(arguments);
        assert!(pattern.matches(&it.command), "{arguments:?}");
        role_with(&pattern, &it, |argument| argument == b"/srv/my bot/main.py")
    }

    #[test]
    fn a_host_is_the_service_only_where_the_pattern_names_it() {
        let server = Role::Host {
            is_multiplexer: true,
        };
        let client = Role::Host {
            is_multiplexer: false,
        };
        for (pattern, arguments, role) in [
            (
                r"python3? .*main\.py",
                &["tmux", "new-session", "-d", "python3", "/d/main.py"][..],
                server,
            ),
            (
                r"python3? .*main\.py",
                &["/usr/bin/tmux", "-L", "x", "new", "python3 /d/main.py"],
                server,
            ),
            (r".*main\.py", &["tmux", "new", "python3 main.py"], server),
            (r"^.*main\.py", &["-tmux", "new", "main.py"], server),
            (
                r"python3 main\.py",
                &["SCREEN", "-dmS", "bot", "python3", "main.py"],
                server,
            ),
            ("python3 x", &["dtach", "-n", "s", "python3", "x"], server),
            ("python3 x", &["ssh", "host", "python3", "x"], client),
            ("python3 x", &["docker", "run", "i", "python3", "x"], client),
            ("python3 x", &["podman", "exec", "c", "python3 x"], client),
            (
                "python3 x",
                &["kubectl", "exec", "p", "--", "python3", "x"],
                client,
            ),
            ("python3 x", &["lxc", "exec", "c", "python3", "x"], client),
            ("python3 x", &["watch", "python3", "x"], client),
            ("python3 x", &["script", "-qc", "python3 x"], client),
            // in other words of the pattern: the host is what is meant
            (
                "^ssh -N",
                &["ssh", "-N", "-L", "1:a:2", "host"],
                Role::Itself,
            ),
            ("ssh .*1:a:2", &["ssh", "-N", "-L", "1:a:2"], Role::Itself),
            (
                "^/usr/bin/ssh .*host",
                &["/usr/bin/ssh", "host"],
                Role::Itself,
            ),
            ("tmux", &["tmux", "-L", "tmux-bot", "new"], Role::Itself),
            (
                r"docker\-compose up",
                &["docker-compose", "up"],
                Role::Itself,
            ),
            ("(^|/)ssh -N", &["/usr/bin/ssh", "-N"], Role::Itself),
            // a program of one's own that has the name of one
            ("kiosk/screen", &["/opt/kiosk/screen", "-v"], Role::Itself),
            (
                "config prod",
                &["/opt/etl/watch", "config", "prod"],
                Role::Itself,
            ),
            ("config prod", &["./script", "config", "prod"], Role::Itself),
            ("config prod", &["/usr/bin/watch", "config prod"], client),
            (
                "config prod",
                &["/opt/t/tmux", "new", "config prod"],
                server,
            ),
            // no host by its first argument
            (
                r"watch .*main\.py",
                &["python3", "/bin/watch", "main.py"],
                Role::Itself,
            ),
            ("trader", &["sshd: trader"], Role::Itself),
            ("main", &["ssh-main", "main"], Role::Itself),
        ] {
            assert_eq!(role_of(pattern, arguments), role, "{pattern} {arguments:?}");
        }
    }

    #[test]
    fn what_quotes_the_command_is_not_the_service() {
        for (pattern, arguments, role) in [
            (
                r"python3 .*main\.py",
                &["python3", "/d/main.py"][..],
                Role::Itself,
            ),
            (
                r"python3 .*main\.py",
                &["sh", "-c", "python3 /d/main.py"],
                Role::Quotes,
            ),
            (
                r".*main\.py",
                &["sh", "-c", "python3 /d/main.py"],
                Role::Quotes,
            ),
            (
                r"python3 main\.py",
                &["su", "-c", "cd /srv && python3 main.py", "bot"],
                Role::Quotes,
            ),
            (
                r"python3 .*main\.py",
                &["vi", "-c", "python3 main.py", "main.py"],
                Role::Quotes,
            ),
            // the first argument is a title
            (
                "master process",
                &["nginx: master process /usr/sbin/nginx"],
                Role::Itself,
            ),
            (
                "walwriter",
                &["postgres: 15/main: walwriter ", "x y"],
                Role::Itself,
            ),
            // one without blanks is no quote
            (
                r"main\.py",
                &["sh", "-c", "/d/main.py", "a b"],
                Role::Itself,
            ),
            // across arguments
            (
                "java .*my bot",
                &["java", "-Dname=my bot", "X"],
                Role::Itself,
            ),
            (
                "^java -Dname=my bot X$",
                &["java", "-Dname=my bot", "X"],
                Role::Itself,
            ),
            ("my bot", &["java", "-Dname=my bot", "X"], Role::Quotes),
            // the path of a file
            (
                r"bot/main\.py",
                &["python3", "/srv/my bot/main.py"],
                Role::Itself,
            ),
            (
                r"bot/main\.py",
                &["python3", "/srv/my other bot/main.py"],
                Role::Quotes,
            ),
            // beside what it is itself
            (
                r"python3 .*main\.py",
                &["python3", "main.py", "--note", "not python3 main.py"],
                Role::Itself,
            ),
            // a wrapper has the program's arguments as its own
            (
                r"python3 main\.py",
                &["sudo", "-u", "bot", "python3", "main.py", "a b"],
                Role::Itself,
            ),
        ] {
            assert_eq!(role_of(pattern, arguments), role, "{pattern} {arguments:?}");
        }
    }

    #[test]
    fn a_path_is_one_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my bot");
        std::fs::write(&file, "").unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let path = file.to_str().unwrap().as_bytes();
        assert!(is_path(me, path));
        assert!(is_path(me, b"src/check"), "relative to its own directory");
        for other in [&b"python3 main.py"[..], b"/no/such file", b"a\0b"] {
            assert!(!is_path(me, other), "{other:?}");
        }
    }

    #[test]
    fn names_are_sorted_and_none_is_of_two_kinds() {
        let all = [&MULTIPLEXERS[..], &OTHERS, &WRAPPERS];
        let mut seen = std::collections::BTreeSet::new();
        for list in all {
            assert!(list.is_sorted());
            assert!(list.iter().all(|name| seen.insert(*name)));
        }
    }
}
