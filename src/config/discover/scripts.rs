//! Placeholders in what a shell reads: whoever makes the container says what they stand for.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Discover;
use super::placeholder::{OF_COMPOSE, fill};

/// What runs the argument behind an option such as `-c` as a script.
const SHELLS: [&str; 12] = [
    "sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "zsh", "su", "runuser", "script", "eval",
];

impl Discover {
    /// The placeholders in the scripts of its commands that the labels of a container fill, each with the key of its
    /// command.
    pub fn labels_in_scripts(&self) -> Vec<(String, String)> {
        let (tree, _) = DeTable::parse_recoverable(&self.text);
        let table = tree.get_ref().get("discover");
        let table = table.and_then(|it| it.get_ref().as_table()?.get(&*self.name));
        let mut found = Vec::new();
        if let Some(table) = table {
            collect(table, "", &mut found);
        }
        found
    }
}

fn collect(value: &Spanned<DeValue<'_>>, key: &str, found: &mut Vec<(String, String)>) {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (name, entry) in table {
                let below = match key {
                    "" => name.get_ref().to_string(),
                    key => format!("{key}.{}", name.get_ref()),
                };
                collect(entry, &below, found);
            }
        }
        DeValue::Array(list) => {
            let words: Vec<&str> = (list.iter())
                .filter_map(|word| word.get_ref().as_str())
                .collect();
            if let Some(script) = script(&words) {
                found.extend(of_labels(script).map(|it| (key.to_owned(), it)));
            }
            for entry in list {
                collect(entry, key, found);
            }
        }
        _ => {}
    }
}

/// The argument that a shell reads as a script: the one behind `-c`, `-lc` and the like.
fn script<'a>(command: &[&'a str]) -> Option<&'a str> {
    let base = |word: &'a str| word.rsplit('/').next().unwrap_or(word);
    let shell = command
        .iter()
        .position(|word| SHELLS.contains(&base(word)))?;
    let is_option =
        |word: &&&str| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
    let behind = &command[shell + 1..];
    let option = behind.iter().position(|word| is_option(&word))?;
    behind.get(option + 1).copied()
}

/// The placeholders in a text whose values are labels: any text. An engine checks names, addresses and ports.
fn of_labels(text: &str) -> impl Iterator<Item = String> {
    let mut found: Vec<String> = Vec::new();
    let mut note = |name: &str| {
        let placeholder = format!("{{{name}}}");
        let is_label = name.starts_with("label:") || OF_COMPOSE.contains(&name);
        if is_label && !found.contains(&placeholder) {
            found.push(placeholder);
        }
    };
    let noted = std::cell::RefCell::new(&mut note);
    let _ = fill(text, &|name| {
        (noted.borrow_mut())(name);
        Some(Ok(String::new()))
    });
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_a_shell_is_the_argument_behind_its_option() {
        for (command, found) in [
            (&["sh", "-c", "a"][..], Some("a")),
            (&["/bin/bash", "-o", "pipefail", "-ec", "a", "b"], Some("a")),
            (&["timeout", "5", "sh", "-c", "a"], Some("a")),
            (&["su", "app", "-c", "a"], Some("a")),
            (&["redis-cli", "-c", "a"], None),
            (&["sh", "a"], None),
            (&["sh", "-c"], None),
            (&["sh", "--rc", "a"], None),
            (&[], None),
        ] {
            assert_eq!(script(command), found, "{command:?}");
        }
    }

    #[test]
    fn only_what_labels_fill_is_any_text() {
        for (text, found) in [
            ("echo {label:k.v} {label:k.v}", &["{label:k.v}"][..]),
            ("{project}{service}", &["{project}", "{service}"]),
            ("{name} {ip} {port} {address}", &[]),
            ("{{label:a}", &[]),
            ("plain", &[]),
        ] {
            let labels: Vec<String> = of_labels(text).collect();
            assert_eq!(labels, found, "{text}");
        }
    }
}
