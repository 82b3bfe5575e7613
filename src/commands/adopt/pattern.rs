//! A pattern that matches one program and nothing else that runs.

use std::path::Path;

/// Programs that run others: what they run is told by their first argument that is no option.
const INTERPRETERS: [&str; 19] = [
    "python", "perl", "ruby", "node", "nodejs", "java", "php", "sh", "bash", "dash", "zsh", "ksh",
    "bun", "deno", "dotnet", "mono", "lua", "Rscript", "busybox",
];

/// A pattern for arguments, and whether it tells them apart from the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// A regular expression.
    pub(super) pattern: String,
    /// Whether none of the others matches.
    pub(super) is_unique: bool,
}

/// The shortest beginning of `arguments` by which the program is known among `others`, command lines with their
/// arguments joined by single spaces. It always holds what the program is: of an interpreter, the script as well.
pub(super) fn find(arguments: &[String], others: &[&[u8]]) -> Found {
    let whole = arguments.join(" ");
    for count in least(arguments)..arguments.len() {
        let start = arguments[..count].join(" ");
        let is_start = |other: &&[u8]| {
            other
                .strip_prefix(start.as_bytes())
                .is_some_and(|rest| rest.first().is_none_or(|&next| next == b' '))
        };
        if !others.iter().any(is_start) {
            return Found {
                pattern: format!("^{}( |$)", escaped(&start)),
                is_unique: true,
            };
        }
    }
    let is_unique = !others.contains(&whole.as_bytes());
    Found {
        pattern: format!("^{}$", escaped(&whole)),
        is_unique,
    }
}

/// How many arguments a pattern has at least.
fn least(arguments: &[String]) -> usize {
    if !arguments.first().is_some_and(|first| is_interpreter(first)) {
        return 1;
    }
    let script = arguments
        .iter()
        .skip(1)
        .position(|argument| !argument.starts_with('-'));
    match script {
        Some(index) => index + 2,
        None => arguments.len(),
    }
}

/// Whether a program runs others: `python3.11` is `python`.
pub(super) fn is_interpreter(program: &str) -> bool {
    let name = Path::new(program)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&name)
}

/// The text with what is special in a pattern escaped, and no more: people read it.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::pattern::Pattern;

    fn find_among(arguments: &[&str], others: &[&str]) -> Found {
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        let bytes: Vec<&[u8]> = others.iter().map(|other| other.as_bytes()).collect();
        let found = find(&arguments, &bytes);
        let pattern = Pattern::new(&found.pattern).unwrap();
        assert!(pattern.matches(arguments.join(" ").as_bytes()), "{found:?}");
        for other in others {
            assert!(
                !found.is_unique || !pattern.matches(other.as_bytes()),
                "{found:?} {other}"
            );
        }
        found
    }

    #[test]
    fn as_much_as_is_needed_and_no_more() {
        for (arguments, others, pattern) in [
            (
                &["redis-server", "/etc/redis.conf"][..],
                &[][..],
                r"^redis-server( |$)",
            ),
            (&["x", "-p", "1"], &["x -p 2", "x -p"], r"^x -p 1$"),
            (&["x", "-p", "1", "-v"], &["x -q"], r"^x -p( |$)"),
            (
                &["python3.11", "-u", "main.py", "live"],
                &[],
                r"^python3\.11 -u main\.py( |$)",
            ),
            (
                &["/usr/bin/python3", "main.py", "live"],
                &["/usr/bin/python3 main.py paper"],
                r"^/usr/bin/python3 main\.py live$",
            ),
            (
                &["java", "-Xmx1g", "-jar", "bot.jar"],
                &[],
                r"^java -Xmx1g -jar bot\.jar$",
            ),
            (&["x+y", "(a)"], &["x+y (b)"], r"^x\+y \(a\)$"),
            // not the beginning of a longer name
            (&["watch"], &["watchdog check"], r"^watch$"),
        ] {
            let found = find_among(arguments, others);
            assert_eq!(found.pattern, pattern);
            assert!(found.is_unique, "{arguments:?}");
        }
    }

    #[test]
    fn a_twin_is_told() {
        let found = find_among(&["x", "1"], &["x 1"]);
        assert_eq!(found.pattern, "^x 1$");
        assert!(!found.is_unique);
    }
}
