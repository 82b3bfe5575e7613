//! Secrets: where they come from. They are read only when they are sent.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::files::{self, Links};
use crate::table::{Context, Field, Key, Keys, MASK, Shown, Table, Value};
use crate::text::plain;

/// More than any password has.
const LIMIT: u64 = 4096;

/// Where a secret comes from. It is read when it is needed, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// It stands in the config.
    Inline(String),
    /// The first line of a file, absolute.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Something in a config that nobody else may read.
#[derive(Clone, Debug)]
pub struct Kept<'a> {
    /// The keys that lead to it, from the table that it belongs to.
    pub key: Vec<String>,
    /// The file that it is in; absent: it stands in the config itself.
    pub file: Option<&'a Path>,
}

impl Secret {
    /// The secret itself, a password or whatever `what` says. No error holds any of it.
    pub fn read(&self, what: &str) -> Result<String, String> {
        match self {
            Self::Inline(secret) if secret.is_empty() => {
                Err(format!("the {what} in the config is empty"))
            }
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => first_line(path, what),
            Self::Env(name) => match std::env::var(name) {
                Ok(secret) if !secret.is_empty() => Ok(secret),
                Ok(_) => Err(format!("${name}, which holds the {what}, is empty")),
                Err(std::env::VarError::NotPresent) => Err(format!(
                    "${name}, which holds the {what}, is not set; cron and systemd set only what they are told to"
                )),
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(format!("${name}, which holds the {what}, is not UTF-8"))
                }
            },
            Self::Credential(name) => credential(
                std::env::var_os("CREDENTIALS_DIRECTORY")
                    .as_deref()
                    .map(Path::new),
                name,
                what,
            ),
        }
    }
}

/// A credential of a unit, by its name.
fn credential(directory: Option<&Path>, name: &str, what: &str) -> Result<String, String> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(format!(
            "`{name}` is not the name of a credential: it is a file name without a directory"
        ));
    }
    let directory = directory.ok_or_else(|| {
        format!(
            "the credential `{name}` is not there: $CREDENTIALS_DIRECTORY is not set; run from a systemd unit with LoadCredential={name}:PATH"
        )
    })?;
    first_line(&directory.join(name), what)
}

/// The first line of a file, which holds `what`. No error holds any of it.
pub fn first_line(path: &Path, what: &str) -> Result<String, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    files::open(path, Links::Follow)
        .map_err(io::Error::from)
        .and_then(|(file, _)| file.take(LIMIT).read_to_end(&mut bytes))
        .map_err(|error| format!("{shown}: the {what} cannot be read: {}", plain(&error)))?;
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok("") => Err(format!(
            "{shown}: its first line, which holds the {what}, is empty"
        )),
        Ok(secret) => Ok(secret.to_owned()),
        Err(_) => Err(format!(
            "{shown}: its first line, which holds the {what}, is not UTF-8"
        )),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(***)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::Credential(name) => f.debug_tuple("Credential").field(name).finish(),
        }
    }
}

impl Secret {
    /// The keys that a secret of this name may come from.
    fn keys(name: &str) -> [String; 4] {
        ["_file", "_env", "_credential", ""].map(|place| format!("{name}{place}"))
    }

    /// What a table has of a secret, right or wrong: the first, where it has several.
    pub(crate) fn first<'a>(table: &'a Table<'_>, name: &str) -> Option<Value<'a>> {
        let keys = Self::keys(name);
        let there = keys.iter().filter_map(|key| table.get(key));
        there.min_by_key(|value| value.span().start)
    }

    /// Reports where a table has a user without a password, a password without a user, or a token beside them. `who` asks
    /// for the one or the other.
    pub(crate) fn check_login(table: &Table<'_>, who: &str) {
        if Self::is_there(table, "token") && table.get("username").is_some() {
            table.at_most_one(
                &[
                    "username",
                    "token_file",
                    "token_env",
                    "token_credential",
                    "token",
                ],
                &format!("{who} asks for a user and password, or for a token"),
            );
        }
        if let (Some(user), false) = (table.get("username"), Self::is_there(table, "password")) {
            user.misplaced("`username` without a `password`", "add the password");
        }
        if let (Some(password), None) = (Self::first(table, "password"), table.get("username")) {
            password.misplaced("`password` without a `username`", "add the user");
        }
    }

    /// Whether a table has anything of a secret, right or wrong or misspelt.
    pub(crate) fn is_there(table: &Table<'_>, name: &str) -> bool {
        table.has_any(&Self::keys(name).each_ref().map(String::as_str))
    }

    fn of_table(table: &Table<'_>, key: &'static Key, context: &Context) -> Option<Self> {
        let name = key.name;
        let keys = Self::keys(name);
        let keys = keys.each_ref().map(String::as_str);
        table.at_most_one(&keys, &format!("a {name} comes from one place"));
        if key.required && !table.has_any(&keys) {
            table.lacks_key(key);
        }
        let [file, env, credential, inline] = keys.map(|key| table.get(key));
        let file = file
            .and_then(|value| value.path(&context.directory))
            .map(Self::File);
        let env = env
            .and_then(|value| {
                let sample = value.variable();
                let sample = sample.trim_end_matches("_ENV");
                value.secret_place(
                    |name| !name.contains(['=', ' ']),
                    &format!("write the name of a variable, like {sample}, that holds the {name}"),
                )
            })
            .map(Self::Env);
        let credential = credential
            .and_then(|value| {
                value.secret_place(
                    |name| !name.contains('/') && name != "." && name != "..",
                    "write the name that LoadCredential= in the unit gives it, without a path",
                )
            })
            .map(Self::Credential);
        let inline = inline.and_then(|value| value.filled()).map(Self::Inline);
        file.or(env).or(credential).or(inline)
    }

    fn show(&self, name: &str) -> (String, Shown) {
        let [file, env, credential, inline] = Self::keys(name);
        let (key, text) = match self {
            Self::File(path) => (file, path.to_string_lossy().into_owned()),
            Self::Env(name) => (env, name.clone()),
            Self::Credential(name) => (credential, name.clone()),
            Self::Inline(_) => (inline, MASK.to_owned()),
        };
        (key, Shown::Text(text))
    }
}

/// `KEY_file`, `KEY_env`, `KEY_credential`, or `KEY` itself.
impl Field<Option<Self>> for Secret {
    type Part = Option<Self>;
    const KEYS: Keys = Keys::Secret;

    fn take(table: &Table<'_>, key: &'static Key, context: &Context) -> Self::Part {
        Self::of_table(table, key, context)
    }

    fn whole(part: Self::Part, _: Option<fn() -> Option<Self>>) -> Option<Option<Self>> {
        Some(part)
    }

    fn or(part: Self::Part, other: &Self::Part) -> Self::Part {
        part.or_else(|| other.clone())
    }

    fn show(value: &Option<Self>, key: &'static Key, entries: &mut Vec<(String, Shown)>) {
        entries.extend(value.as_ref().map(|secret| secret.show(key.name)));
    }
}

/// The same where there must be one.
impl Field<Self> for Secret {
    type Part = Option<Self>;
    const KEYS: Keys = Keys::Secret;
    const OPTIONAL: bool = false;

    fn take(table: &Table<'_>, key: &'static Key, context: &Context) -> Self::Part {
        Self::of_table(table, key, context)
    }

    fn whole(part: Self::Part, _: Option<fn() -> Self>) -> Option<Self> {
        part
    }

    fn or(part: Self::Part, other: &Self::Part) -> Self::Part {
        part.or_else(|| other.clone())
    }

    fn show(value: &Self, key: &'static Key, entries: &mut Vec<(String, Shown)>) {
        entries.push(value.show(key.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pass");
        for (text, secret) in [
            (&b"s3cret"[..], "s3cret"),
            (b"s3cret\n", "s3cret"),
            (b"s3cret\r\nsecond\n", "s3cret"),
            (b" with spaces \n", " with spaces "),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(
                Secret::File(path.clone()).read("password").as_deref(),
                Ok(secret)
            );
        }
    }

    #[test]
    fn what_is_missing_is_said_without_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pass");
        let shown = path.display().to_string();
        let error = Secret::File(path.clone()).read("password").unwrap_err();
        assert_eq!(
            error,
            format!("{shown}: the password cannot be read: no such file or directory")
        );
        std::fs::write(&path, "\nsecond").unwrap();
        assert_eq!(
            Secret::File(path.clone()).read("password").unwrap_err(),
            format!("{shown}: its first line, which holds the password, is empty")
        );
        std::fs::write(&path, b"canary\xff\n").unwrap();
        let error = Secret::File(path).read("password").unwrap_err();
        assert!(
            error.ends_with("is not UTF-8") && !error.contains("canary"),
            "{error}"
        );
        assert_eq!(
            Secret::Env("WATCHDOG_NO_SUCH_VARIABLE".to_owned())
                .read("password")
                .unwrap_err(),
            "$WATCHDOG_NO_SUCH_VARIABLE, which holds the password, is not set; cron and systemd set only what they are told to"
        );
        assert!(Secret::Env("PATH".to_owned()).read("password").is_ok());
        assert_eq!(
            Secret::Inline(String::new()).read("password").unwrap_err(),
            "the password in the config is empty"
        );
    }

    #[test]
    fn a_credential_is_a_file_of_the_unit_and_nothing_outside() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("smtp"), "s3cret\n").unwrap();
        assert_eq!(
            credential(Some(directory.path()), "smtp", "password").as_deref(),
            Ok("s3cret")
        );
        for name in ["", ".", "..", "../x", "/etc/passwd"] {
            assert_eq!(
                credential(Some(directory.path()), name, "password").unwrap_err(),
                format!(
                    "`{name}` is not the name of a credential: it is a file name without a directory"
                )
            );
        }
        let error = credential(None, "smtp", "password").unwrap_err();
        assert_eq!(
            error,
            "the credential `smtp` is not there: $CREDENTIALS_DIRECTORY is not set; run from a systemd unit with LoadCredential=smtp:PATH"
        );
    }

    #[test]
    fn f76_no_secret_is_shown() {
        let secret = Secret::Inline("canary".to_owned());
        assert_eq!(format!("{secret:?}"), "Inline(***)");
    }
}
