//! The `process` table of a service.

use std::path::PathBuf;

use super::super::pattern::Pattern;
use crate::table::{
    Account, Checked, Context, Derived, Form, Part, Shown, Table, Value, absolute, table,
};

table! {
    /// How its process is known; without this table: by what the watchdog itself started.
    pub struct Rule like "process = { pid_file = \"trader.pid\" }", check is_known {
        /// The file that it writes its PID into.
        shown("pid_file"): String as AsWritten = String::new(), example r#""trader.pid""#;
        /// The same, absolute.
        pid_file: Option<PathBuf> => AsMeant;
        /// A pattern that only its arguments match, joined by single spaces.
        command_line: Option<Pattern> as Option<CommandLine>, example r"'python3? .*main\.py'";
        /// The user that it must run as, by name or number.
        user: Option<String> as Option<Account>, example r#""trader""#;
    }
}

fn is_known(table: &Table<'_>, _: &mut Part<Rule>) {
    if !table.has_any(&["pid_file", "command_line"]) {
        table.lacks(
            "`process` needs `pid_file` or `command_line`",
            "by a user alone no process is known",
        );
    }
}

/// A path as it is written, for messages.
struct AsWritten;

impl Form<String> for AsWritten {
    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        value.path_text().map(str::to_owned)
    }

    fn show(value: &String) -> Option<Shown> {
        (!value.is_empty()).then(|| Shown::Text(value.clone()))
    }

    fn kind() -> String {
        <PathBuf as Form>::kind()
    }
}

/// The PID file, absolute. One that is wrong still counts, so that nothing else is said to lack it.
struct AsMeant;

impl Derived for AsMeant {
    type Of = Option<PathBuf>;

    fn derive(table: &Table<'_>, context: &Context) -> Option<Self::Of> {
        Some(table.get("pid_file").map(|value| {
            let text = value.raw_text().unwrap_or_default();
            absolute(&context.base, text)
        }))
    }
}

/// A pattern that some process does not match.
struct CommandLine;

impl Checked for CommandLine {
    type Of = Pattern;
    const KIND: &'static str = "a pattern";

    fn read(value: &Value<'_>, _: &Context) -> Option<Pattern> {
        let pattern = Pattern::of_value(value)?;
        if pattern.matches(b"") {
            value.wrong(
                "`command_line` matches every process",
                "write something that only this program has in its arguments, like its script",
            );
        }
        Some(pattern)
    }
}
