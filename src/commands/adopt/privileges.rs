//! Whether a program was started as root and has given that up by itself.
//!
//! Such a program has to be started as root again: as the user that it has now, it can neither listen where it listened
//! nor read its keys, and some start all the same and are deaf. One that somebody else started as its user must not be
//! started as root. So what is asked for are signs that it changed its own user.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::facts::Facts;
use crate::sys;

/// The users below this are those of the system's own programs.
const FIRST_PERSON: u32 = 1000;
/// Longer files are no configs.
const CONFIG_LIMIT: u64 = 256 << 10;
/// The ports that only root may listen on, where the kernel does not say.
const FIRST_FREE_PORT: u16 = 1024;

/// The signs that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Privileges {
    /// It could become root again: its real or saved user is root.
    pub(super) can_return: bool,
    /// It has kept a privilege.
    pub(super) capabilities: bool,
    /// It has changed its user since its program began: the kernel shows its files to root alone.
    pub(super) has_changed: bool,
    /// A port of root's that it listens on.
    pub(super) port: Option<u16>,
    /// Its program itself gives privileges to who starts it.
    pub(super) are_given: bool,
}

impl Privileges {
    /// Reads them; none of a program of root's.
    pub(super) fn of(proc: &Path, uid: u32, status: &str, program: Option<&Path>) -> Self {
        if uid == 0 {
            return Self::default();
        }
        let line = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        let is_set = |key: &str| {
            line(key).is_some_and(|set| u64::from_str_radix(set, 16).is_ok_and(|set| set != 0))
        };
        let is_set_user = program
            .and_then(|program| fs::metadata(program).ok())
            .is_some_and(|meta| meta.mode() & 0o4000 != 0);
        Self {
            can_return: line("Uid:")
                .is_some_and(|ids| ids.split_ascii_whitespace().take(3).any(|id| id == "0")),
            // those that were handed to it are in the ambient set as well
            capabilities: is_set("CapPrm:") && !is_set("CapAmb:"),
            has_changed: fs::metadata(proc.join("environ")).is_ok_and(|meta| meta.uid() != uid),
            port: low_port(proc),
            are_given: is_set_user || program.is_some_and(sys::gives_capabilities),
        }
    }
}

/// Why a program has to be started as root, where it has; its beginning is "it was started as root and became …".
pub(super) fn why_root(facts: &Facts) -> Option<String> {
    let signs = &facts.privileges;
    if facts.uid == 0 || signs.are_given {
        return None;
    }
    let is_system = facts.uid < FIRST_PERSON || facts.user == "nobody";
    if signs.can_return {
        return Some("its real user is root".to_owned());
    }
    if signs.capabilities {
        return Some("it has kept a privilege of root's".to_owned());
    }
    if let Some(port) = signs.port {
        return Some(format!("it listens on port {port}"));
    }
    if signs.has_changed && is_system {
        return Some("it has changed its user itself".to_owned());
    }
    if (signs.has_changed || is_system)
        && let Some(argument) = names_user(&facts.arguments, &facts.user)
    {
        return Some(format!("its arguments say `{argument}`"));
    }
    let opened = facts.open.iter().find(|open| {
        // its standard streams may have been opened for it
        open.number > 2 && open.owner == 0 && open.mode & 0o022 == 0
    });
    if let Some(open) = opened {
        return Some(format!(
            "it has opened {}, which is root's",
            open.path.display()
        ));
    }
    let config = is_system.then(|| config_naming_user(facts)).flatten();
    config.map(|path| format!("{path} names that user"))
}

/// The argument that says which user to become.
fn names_user(arguments: &[String], user: &str) -> Option<String> {
    let of_user = |name: &str| {
        let name = name.trim_start_matches('-').to_lowercase();
        matches!(
            name.as_str(),
            "u" | "user" | "username" | "uid" | "setuid" | "runas" | "run-as" | "run_as"
        ) || name.ends_with("user")
    };
    arguments
        .iter()
        .skip(1)
        .enumerate()
        .find_map(|(at, argument)| {
            if argument.starts_with('-')
                && of_user(argument)
                && arguments.get(at + 2).is_some_and(|next| next == user)
            {
                return Some(format!("{argument} {user}"));
            }
            let says = argument.strip_prefix("-u") == Some(user)
                || argument.split(',').any(|part| {
                    part.split_once('=')
                        .is_some_and(|(key, value)| value == user && of_user(key))
                });
            says.then(|| argument.clone())
        })
}

/// A config that its arguments name, or that is called after it, with a line about its user.
fn config_naming_user(facts: &Facts) -> Option<String> {
    let named = facts
        .arguments
        .iter()
        .skip(1)
        .flat_map(|argument| argument.split('='))
        .filter(|path| path.starts_with('/'))
        .map(Into::into);
    let usual = [
        format!("/etc/{0}.conf", facts.name),
        format!("/etc/{0}/{0}.conf", facts.name),
        format!("/etc/{0}/{0}rc", facts.name),
    ];
    named
        .chain(usual.into_iter().map(Into::into))
        .find_map(|path: std::path::PathBuf| {
            let meta = fs::metadata(&path).ok()?;
            if !meta.is_file() || meta.len() > CONFIG_LIMIT {
                return None;
            }
            let text = fs::read(&path).ok()?;
            says_user(&String::from_utf8_lossy(&text), &facts.user)
                .then(|| path.display().to_string())
        })
}

fn says_user(text: &str, user: &str) -> bool {
    text.lines().map(str::trim).any(|line| {
        let mut words = line
            .split(|c: char| c.is_ascii_whitespace() || "=:;\"'".contains(c))
            .filter(|word| !word.is_empty());
        let key = words
            .next()
            .unwrap_or_default()
            .trim_start_matches("--")
            .to_lowercase();
        matches!(
            key.as_str(),
            "user" | "username" | "runas" | "setuid" | "run_as_user"
        ) && words.next() == Some(user)
    })
}

/// The lowest port that a process listens on, where it is one of root's.
fn low_port(proc: &Path) -> Option<u16> {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(FIRST_FREE_PORT);
    let sockets: BTreeSet<String> = fs::read_dir(proc.join("fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|path| {
            Some(
                path.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    if sockets.is_empty() {
        return None;
    }
    ["tcp", "tcp6", "udp", "udp6"]
        .iter()
        .filter_map(|kind| fs::read_to_string(proc.join("net").join(kind)).ok())
        .flat_map(|text| listening(&text, &sockets))
        .filter(|&port| port < first_free)
        .min()
}

/// The ports of sockets that listen, or wait for whoever sends, in the form of /proc/net/tcp.
fn listening(text: &str, sockets: &BTreeSet<String>) -> Vec<u16> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
            // LISTEN of TCP, and of UDP what is not connected
            let waits = matches!(*fields.get(3)?, "0A" | "07");
            (waits && port > 0 && sockets.contains(*fields.get(9)?)).then_some(port)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_say_which_user_to_become() {
        for (line, user, says) in [
            ("named -u bind", "bind", Some("-u bind")),
            ("named -f -u bind -4", "bind", Some("-u bind")),
            ("mysqld --user=mysql", "mysql", Some("--user=mysql")),
            ("memcached -umemcache", "memcache", Some("-umemcache")),
            (
                "varnishd -j unix,user=vcache,ccgroup=varnish",
                "vcache",
                Some("unix,user=vcache,ccgroup=varnish"),
            ),
            ("x --username nobody", "nobody", Some("--username nobody")),
            ("named -u bind", "root", None),
            ("chat --buddy bind", "bind", None),
            ("bind", "bind", None),
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(names_user(&arguments, user).as_deref(), says, "{line}");
        }
    }

    #[test]
    fn a_config_that_names_the_user() {
        for (text, says) in [
            ("Log notice\nUser debian-tor\n", true),
            ("  username: \"debian-tor\"\n", true),
            ("user=debian-tor\n", true),
            ("user debian-tor;\n", true),
            ("#User debian-tor\n", false),
            ("User other\n", false),
            ("Nickname debian-tor\n", false),
        ] {
            assert_eq!(says_user(text, "debian-tor"), says, "{text}");
        }
    }

    #[test]
    fn ports_are_read_as_the_kernel_writes_them() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 4711 1\n\
             1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 4712 1\n\
             2: 0100007F:0050 0100007F:9000 01 00000000:00000000 00:00000000 00000000   104        0 4713 1\n";
        let sockets: BTreeSet<String> = ["4711", "4712", "4713"].map(str::to_owned).into();
        assert_eq!(listening(text, &sockets), [53, 8080]);
        assert_eq!(listening(text, &BTreeSet::new()), [0_u16; 0]);
        assert_eq!(listening("", &sockets), [0_u16; 0]);
    }
}
