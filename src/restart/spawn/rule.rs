//! The `spawn` table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::table::fault::is_secret;
use crate::table::{
    Account, Base, Context, Form, MASK, Program, Shown, Value, Within, quoted, table,
};

table! {
    /// How it is started; the first of the restart methods, of which a service has one at most.
    pub struct Spawn like "spawn = { command = [\"python3\", \"main.py\"] }" {
        /// The program and its arguments; no shell reads them.
        command: Vec<String> as Program, example r#"["python3", "main.py"]"#;
        /// Default: the watchdog's own.
        user: Option<String> as Option<Account>, example r#""trader""#;
        /// Default: the user's.
        group: Option<String> as Option<Account>, example r#""trader""#;
        /// Variables that win over those of env_file.
        env: Vec<(String, String)> as Variables = Vec::new(), example r#"{ MODE = "live" }"#;
        /// Lines of KEY=VALUE.
        env_file: Option<PathBuf>, example r#"".env""#;
        /// What it prints is appended; default: /dev/null.
        stdout: Option<PathBuf>, example r#""logs/out.log""#;
        /// The same for its errors, of which the last lines are mailed where it does not come up.
        stderr: Option<PathBuf>, example r#""logs/err.log""#;
        /// Octal, in quotes.
        umask: u32 as Octal = 0o022;
        /// -20 to 19; the greater, the less it gets.
        nice: i32 as Within<-20, 19> = 0;
        /// For a program that writes no PID file itself: the one of its `process` table.
        write_pid_file: Option<PathBuf> as WritesPidFile = None;
        /// Where it is started, absolute.
        working_dir: Arc<Path> => Base;
    }
}

impl Spawn {
    /// What is run, without where its output goes.
    pub fn program(&self) -> crate::program::Program<'_> {
        crate::program::Program {
            command: &self.command,
            working_dir: &self.working_dir,
            user: self.user.as_deref(),
            group: self.group.as_deref(),
            env: &self.env,
            env_file: self.env_file.as_deref(),
        }
    }

    /// A program with nothing said of it but its command, as the watchdog's own user.
    pub(crate) fn plain(command: Vec<String>, working_dir: Arc<Path>) -> Self {
        Self {
            command,
            user: None,
            group: None,
            env: Vec::new(),
            env_file: None,
            stdout: None,
            stderr: None,
            umask: 0o022,
            nice: 0,
            write_pid_file: None,
            working_dir,
        }
    }
}

/// Variables of an environment.
struct Variables;

impl Form<Vec<(String, String)>> for Variables {
    fn read(value: &Value<'_>, _: &Context) -> Option<Vec<(String, String)>> {
        let entries = value.entries("env = { MODE = \"live\" }")?;
        let read = |(name, value): (&str, Value<'_>)| {
            if name.is_empty() || name.contains(['=', '\0']) {
                value.misplaced(
                    &format!("{} cannot be the name of a variable", quoted(name)),
                    "a name is not empty and has no '=' in it",
                );
                return None;
            }
            Some((name.to_owned(), value.text()?.to_owned()))
        };
        Some(entries.into_iter().filter_map(read).collect())
    }

    fn show(variables: &Vec<(String, String)>) -> Option<Shown> {
        let shown = variables.iter().map(|(name, value)| {
            // what a program is told in its environment is often a key to something
            let value = if is_secret(name) { MASK } else { value };
            (name.clone(), Shown::Text(value.to_owned()))
        });
        (!variables.is_empty()).then(|| Shown::Table(shown.collect()))
    }

    fn kind() -> String {
        "a table of texts".to_owned()
    }
}

/// A file mode creation mask.
struct Octal;

impl Form<u32> for Octal {
    fn read(value: &Value<'_>, _: &Context) -> Option<u32> {
        const HELP: &str = "write it as octal digits in quotes, like \"027\"";
        let text = value.text_or(HELP)?;
        let octal = (1..=4).contains(&text.len()) && text.chars().all(|c| c.is_digit(8));
        let mask = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
        let mask = mask.filter(|mask| *mask <= 0o777);
        if mask.is_none() {
            value.wrong(&format!("{} is not a umask", quoted(text)), HELP);
        }
        mask
    }

    fn show(mask: &u32) -> Option<Shown> {
        Some(Shown::text(format!("{mask:03o}")))
    }

    fn kind() -> String {
        "octal digits".to_owned()
    }
}

/// Whether the watchdog writes a PID file. Which one is known where the whole service is.
struct WritesPidFile;

impl Form<Option<PathBuf>> for WritesPidFile {
    fn read(value: &Value<'_>, _: &Context) -> Option<Option<PathBuf>> {
        value.flag().map(|flag| flag.then(PathBuf::new))
    }

    fn show(value: &Option<PathBuf>) -> Option<Shown> {
        Some(Shown::Flag(value.is_some()))
    }

    fn kind() -> String {
        <bool as Form>::kind()
    }
}
