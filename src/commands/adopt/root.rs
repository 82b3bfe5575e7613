//! Whether a program was started as root and has given that up by itself.
//!
//! Such a program has to be started as root again: as the user that it has now, it can neither listen where it listened
//! nor read its keys, and some start all the same and are deaf. One that somebody else started as its user must not be
//! started as root. So what is asked for are signs that it changed its own user.

use std::fs;
use std::path::PathBuf;

use super::facts::Facts;

/// The users below this are those of the system's own programs.
const FIRST_PERSON: u32 = 1000;
/// Longer files are no configs.
const CONFIG_LIMIT: u64 = 256 << 10;

/// Why a program has to be started as root, where it has.
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
        .find_map(|path: PathBuf| {
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
}
