//! What a started program finds around itself: its user, its file, and an environment that is the same whoever started
//! the watchdog.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::child::DEFAULT_PATH;
use crate::clock;
use crate::files::{self, Extent, Links};
use crate::sys::{Credentials, Step, with_rights_of};

/// An environment file larger than this is a mistake.
const ENV_FILE_LIMIT: u64 = 1 << 20;

/// Where distributions keep the language of the system (locale.conf(5), and Debian's file).
const LOCALE_FILES: [&str; 2] = ["/etc/locale.conf", "/etc/default/locale"];

/// A program to run, as a config describes it.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its name or path, and its arguments.
    pub command: &'a [String],
    /// Where it is run, absolute.
    pub working_dir: &'a Path,
    /// Who runs it; absent: the watchdog's own user.
    pub user: Option<&'a str>,
    /// Its group; absent: the user's.
    pub group: Option<&'a str>,
    /// Variables that win over those of `env_file`.
    pub env: &'a [(String, String)],
    /// Lines of KEY=VALUE.
    pub env_file: Option<&'a Path>,
}

/// What a start needs, found.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Who runs it.
    pub account: Account,
    /// Its whole environment.
    pub variables: BTreeMap<String, String>,
    /// The file of the program.
    pub path: PathBuf,
}

impl Prepared {
    /// The environment in the form that execve(2) takes.
    pub fn environment(&self) -> Result<Vec<CString>, String> {
        let variables = self.variables.iter();
        variables
            .map(|(key, value)| c_text(&format!("{key}={value}")))
            .collect()
    }
}

impl Program<'_> {
    /// What a start needs to be there: its user, its environment, its working directory, its file. Looks, and changes
    /// nothing. The error is a sentence about what is missing.
    pub fn prepare(&self) -> Result<Prepared, String> {
        let account = self.account()?;
        let variables = self.environment(&account)?;
        let name = self.command.first().map_or("", String::as_str);
        match fs::metadata(self.working_dir) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(format!(
                    "the working directory {} is not a directory",
                    self.working_dir.display()
                ));
            }
            // another user's directory may be closed to this one: then the child tells
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => {
                return Err(format!(
                    "no working directory {}: {error}",
                    self.working_dir.display()
                ));
            }
        }
        let path = find(name, &variables, self.working_dir)?;
        Ok(Prepared {
            account,
            variables,
            path,
        })
    }

    /// Its arguments in the form that execve(2) takes.
    pub fn arguments(&self) -> Result<Vec<CString>, String> {
        self.command
            .iter()
            .map(|argument| c_text(argument))
            .collect()
    }
}

/// Why a program was not started that has all that [`Program::prepare`] looks for: which of its steps failed, on what,
/// and what to do.
pub fn explain(
    step: Step,
    error: &io::Error,
    program: &Program<'_>,
    path: &Path,
    limit: Duration,
) -> String {
    match step {
        Step::Exec => match error.raw_os_error() {
            Some(libc::ENOEXEC) => format!(
                "{} is no program that the kernel can run; a script needs a first line such as #!/bin/sh",
                path.display()
            ),
            Some(libc::ENOENT) => format!(
                "{} cannot be run: {error}; if it is a script, its interpreter (the first line) is missing",
                path.display()
            ),
            Some(libc::EACCES) => format!(
                "{} cannot be run: {error}; is it executable (chmod +x) for its user, and its directory not mounted noexec?",
                path.display()
            ),
            Some(libc::EAGAIN) => format!(
                "{} cannot be run: {error} (ulimit -u, TasksMax=)",
                path.display()
            ),
            _ => format!("{} cannot be run: {error}", path.display()),
        },
        Step::Stuck => format!(
            "it had not become {} within {}, and was killed: its working directory {} or one of its files hangs (a dead \
             disk or network share?), or somebody stopped it",
            path.display(),
            clock::rough(limit),
            program.working_dir.display()
        ),
        Step::Session => format!("cannot make a session for it: {error}"),
        Step::Nice => format!("cannot set its niceness: {error}"),
        Step::Credentials => format!(
            "cannot become user {} for it: {error}",
            program.user.unwrap_or("of its group")
        ),
        Step::WorkingDir => {
            format!(
                "cannot enter its working directory {}: {error}",
                program.working_dir.display()
            )
        }
        Step::Scope | Step::Stdout | Step::Stderr | Step::PidFile => error.to_string(),
    }
}

/// A text for a system call.
pub fn c_text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| {
        format!(
            "`{}` holds a NUL",
            crate::text::printable(text.as_bytes(), 80)
        )
    })
}

/// A path for a system call.
pub fn c_path(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("the path {} holds a NUL", path.display()))
}

/// The file that a program's name means: a path as it stands, a bare name along the PATH that the program will
/// itself have.
fn find(
    name: &str,
    variables: &BTreeMap<String, String>,
    working_dir: &Path,
) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = working_dir.join(name);
        return match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("no such program {}", path.display()))
            }
            Ok(meta) if meta.is_dir() => {
                Err(format!("{} is a directory, not a program", path.display()))
            }
            _ => Ok(path),
        };
    }
    let search = variables.get("PATH").map_or("", String::as_str);
    search
        .split(':')
        .map(|directory| working_dir.join(directory).join(name))
        .find(|path| {
            fs::metadata(path)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| {
            format!("no such program `{name}` in its PATH ({search}); give its whole path")
        })
}

/// A user, as far as a program needs to know.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name; its number where it has none.
    pub name: String,
    /// Its home directory.
    pub home: String,
    /// Its login shell.
    pub shell: String,
    /// Who a child becomes; absent: it stays who the watchdog is.
    pub credentials: Option<Credentials>,
}

impl Account {
    /// Whether a program of it runs as root.
    pub fn is_root(&self) -> bool {
        self.credentials
            .as_ref()
            .map_or(Uid::effective().as_raw(), |who| who.uid)
            == 0
    }
}

impl Program<'_> {
    /// Finds out who a program is to run as. The error is a sentence.
    pub fn account(&self) -> Result<Account, String> {
        let own = Uid::effective();
        let (uid, user) = match self.user {
            None => (own, look_up(own)?),
            Some(name) => {
                if let Ok(uid) = name.parse() {
                    (Uid::from_raw(uid), look_up(Uid::from_raw(uid))?)
                } else {
                    let user = User::from_name(name)
                        .map_err(|error| format!("user `{name}` cannot be looked up: {error}"))?
                        .ok_or_else(|| format!("no such user `{name}`"))?;
                    (user.uid, Some(user))
                }
            }
        };
        let gid = match self.group {
            Some(name) => Some(group(name)?),
            None => user.as_ref().map(|user| user.gid),
        };
        let credentials = if self.user.is_none() && self.group.is_none() {
            None
        } else {
            let gid = gid.ok_or_else(|| {
                format!("user {uid} is not in the user database; set `group` as well")
            })?;
            let groups = match user
                .as_ref()
                .map(|user| std::ffi::CString::new(user.name.as_str()))
            {
                Some(Ok(name)) => getgrouplist(&name, gid)
                    .map_err(|error| format!("user `{uid}` cannot be looked up: {error}"))?,
                _ => vec![gid],
            };
            Some(Credentials {
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                groups: groups.into_iter().map(Gid::as_raw).collect(),
            })
        };
        // who is not root can only become what he is
        let credentials = match credentials {
            Some(wanted) if !own.is_root() => {
                if wanted.uid != own.as_raw() || wanted.gid != Gid::effective().as_raw() {
                    return Err(format!(
                        "only root can start a program as another user or group; this watchdog runs as UID {own}"
                    ));
                }
                None
            }
            credentials => credentials,
        };
        Ok(match user {
            Some(user) => Account {
                home: user.dir.to_string_lossy().into_owned(),
                shell: user.shell.to_string_lossy().into_owned(),
                name: user.name,
                credentials,
            },
            None => Account {
                name: uid.to_string(),
                home: "/".to_owned(),
                shell: "/bin/sh".to_owned(),
                credentials,
            },
        })
    }

    /// The whole environment of a program.
    pub fn environment(&self, account: &Account) -> Result<BTreeMap<String, String>, String> {
        let mut variables = BTreeMap::from([
            ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
            ("HOME".to_owned(), account.home.clone()),
            ("LOGNAME".to_owned(), account.name.clone()),
            ("USER".to_owned(), account.name.clone()),
            ("SHELL".to_owned(), account.shell.clone()),
        ]);
        // the watchdog's own LANG is cron's, a timer's or a shell's: the system's is the same for all three
        if let Some(lang) = LOCALE_FILES
            .iter()
            .find_map(|path| system_lang(Path::new(path)))
        {
            variables.insert("LANG".to_owned(), lang);
        }
        if let Some(path) = self.env_file {
            let user = account
                .credentials
                .as_ref()
                .map_or(Uid::effective().as_raw(), |who| who.uid);
            let writers = files::writers(path, user, Extent::Existing);
            // what a program of root's is told there, as LD_PRELOAD, it does
            if user == 0 && !writers.are_none() {
                return Err(format!(
                    "its env_file {} can be changed by {writers}, and what it says root would run; set `user` in its spawn \
                 table, or let root alone write that file and its directories",
                    path.display()
                ));
            }
            let read = || read_bounded(path);
            let text = match &account.credentials {
                Some(who) => with_rights_of(who, read).and_then(|result| result),
                None => read(),
            }
            .map_err(|error| format!("cannot read env_file {}: {error}", path.display()))?;
            variables.extend(
                parse_env_file(&text)
                    .map_err(|why| format!("env_file {}, {why}", path.display()))?,
            );
        }
        variables.extend(self.env.iter().cloned());
        Ok(variables)
    }
}

fn look_up(uid: Uid) -> Result<Option<User>, String> {
    User::from_uid(uid).map_err(|error| format!("user {uid} cannot be looked up: {error}"))
}

fn group(name: &str) -> Result<Gid, String> {
    if let Ok(gid) = name.parse() {
        return Ok(Gid::from_raw(gid));
    }
    Group::from_name(name)
        .map_err(|error| format!("group `{name}` cannot be looked up: {error}"))?
        .map(|group| group.gid)
        .ok_or_else(|| format!("no such group `{name}`"))
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let (file, _) = files::open(path, Links::Follow)?;
    let mut bytes = Vec::new();
    file.take(ENV_FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ENV_FILE_LIMIT {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

fn system_lang(path: &Path) -> Option<String> {
    let text = read_bounded(path).ok()?;
    parse_env_file(&text)
        .ok()?
        .into_iter()
        .rfind(|(key, _)| key == "LANG")
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

/// Parses lines of KEY=VALUE with comments and with quotes as in a shell; nothing is expanded. The error names
/// the line.
pub fn parse_env_file(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let at = |why: &str| format!("line {}: {why}", number + 1);
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| at("not of the form KEY=VALUE"))?;
        let key = key.trim_end();
        let mut letters = key.bytes();
        let well_named = letters
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !well_named {
            return Err(at("not a variable's name before the `=`"));
        }
        let value = unquote(value).map_err(at)?;
        if value.contains('\0') {
            return Err(at("a value cannot hold a NUL"));
        }
        variables.push((key.to_owned(), value));
    }
    Ok(variables)
}

/// Takes quotes and backslashes away as a shell does; an unquoted ` #` begins a comment.
fn unquote(text: &str) -> Result<String, &'static str> {
    let mut value = String::new();
    // where the value ends if only unquoted blanks follow: quoted ones belong to it
    let mut end = 0;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next() {
                    Some('\'') => break,
                    Some(c) => value.push(c),
                    None => return Err("a single quote is not closed"),
                }
            },
            '"' => loop {
                match chars.next() {
                    Some('"') => break,
                    Some('\\') => match chars.next() {
                        Some(c @ ('"' | '\\' | '$' | '`')) => value.push(c),
                        Some(c) => value.extend(['\\', c]),
                        None => return Err("a double quote is not closed"),
                    },
                    Some(c) => value.push(c),
                    None => return Err("a double quote is not closed"),
                }
            },
            '\\' => value.extend(chars.next()),
            c if c.is_whitespace() => {
                if chars.peek() == Some(&'#') {
                    value.truncate(end);
                    return Ok(value);
                }
                value.push(c);
                continue;
            }
            c => value.push(c),
        }
        end = value.len();
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_read_as_a_shell_would() {
        let text = "# comment\n\nA=1\nexport B = two words  # said\nC='it''s $HOME #'\nD=\"q \\\" \\$x \\n\"\nE=\nF=a\\ b#c\r\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "its $HOME #"),
            ("D", "q \" $x \\n"),
            ("E", ""),
            ("F", "a b#c"),
        ];
        let expected: Vec<(String, String)> =
            expected.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
        assert_eq!(parse_env_file(text), Ok(expected));
    }

    #[test]
    fn quoted_and_escaped_blanks_before_a_comment_are_kept() {
        for (text, value) in [
            ("A=\"x \" # c", "x "),
            ("A='x ' \t # c", "x "),
            ("A=x\\  # c", "x "),
            ("A=\"x \"  y  # c", "x   y"),
            ("A=x  # c", "x"),
            ("A=\" \" # c", " "),
        ] {
            let expected = vec![("A".to_owned(), value.to_owned())];
            assert_eq!(parse_env_file(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_named_by_its_line() {
        for (text, error) in [
            ("A=1\nnonsense", "line 2: not of the form KEY=VALUE"),
            ("1A=1", "line 1: not a variable's name before the `=`"),
            ("=x", "line 1: not a variable's name before the `=`"),
            ("A='x", "line 1: a single quote is not closed"),
            ("A=\"x", "line 1: a double quote is not closed"),
            ("A=\"x\\", "line 1: a double quote is not closed"),
        ] {
            assert_eq!(parse_env_file(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn too_many_processes_are_said_with_what_limits_them() {
        let program = Program {
            command: &[],
            working_dir: Path::new("/"),
            user: None,
            group: None,
            env: &[],
            env_file: None,
        };
        let error = io::Error::from_raw_os_error(libc::EAGAIN);
        let path = Path::new("/bin/x");
        let said = explain(Step::Exec, &error, &program, path, Duration::ZERO);
        assert!(said.starts_with("/bin/x cannot be run: "), "{said}");
        assert!(said.ends_with(" (ulimit -u, TasksMax=)"), "{said}");
    }

    #[test]
    fn what_the_kernel_would_cut_off_is_refused() {
        assert_eq!(c_text("a\0b").unwrap_err(), "`a\\x00b` holds a NUL");
        assert_eq!(
            c_path(Path::new("a\0b")).unwrap_err(),
            "the path a\0b holds a NUL"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = parse_env_file(&text);
        }
    }
}
