//! Why there is no config.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::trust::Refusal;
use crate::files;
use crate::table::fault::{Fault, MOST};
use crate::text::visible_path;

/// Why there is no config. Each ends a program with exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nowhere a config.
    #[error("error: no config found; looked for{}\n  = help: write one, or name it with --config", places(.looked))]
    NotFound {
        /// Where it was looked for, in order.
        looked: Vec<PathBuf>,
    },
    /// The file cannot be read, or is nothing that could be a config.
    #[error("error: {}: {reason}{}", visible_path(.path), .help.as_ref().map(|help| format!("\n  = help: {help}")).unwrap_or_default())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is the matter with it.
        reason: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// Somebody else could change the config, or read a secret of it.
    #[error("{}", paragraphs(.refusals))]
    Untrusted {
        /// Each with its remedy.
        refusals: Vec<Refusal>,
    },
    /// The file is wrong, or one that it includes.
    #[error("{}\n\n{}", paragraphs(.faults), count(.faults, .path))]
    Faulty {
        /// The file.
        path: PathBuf,
        /// What is wrong, in the order of the file; a hundred at most.
        faults: Vec<Fault>,
    },
}

fn places(looked: &[PathBuf]) -> String {
    looked.iter().fold(String::new(), |mut all, path| {
        all.push_str("\n  ");
        all.push_str(&visible_path(path));
        all
    })
}

fn paragraphs<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join("\n\n")
}

fn count(faults: &[Fault], path: &Path) -> String {
    let files: BTreeSet<&str> = faults.iter().filter_map(Fault::file).collect();
    let place = match files.len() {
        0 => visible_path(path),
        1 => files.into_iter().collect(),
        several => format!("{several} files"),
    };
    match faults.len() {
        1 => format!("1 error in {place}"),
        MOST => format!("{MOST} errors or more in {place}"),
        faults => format!("{faults} errors in {place}"),
    }
}

impl ConfigError {
    /// A file that the system will not read.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let (reason, help) = match error.kind() {
            io::ErrorKind::NotFound if path.is_symlink() => (
                files::explain(path, error),
                Some("let the link lead to a file that is there, or take it away".to_owned()),
            ),
            io::ErrorKind::NotFound => ("no such file".to_owned(), None),
            io::ErrorKind::PermissionDenied => (
                "no permission to read it".to_owned(),
                Some("run as the user that it belongs to".to_owned()),
            ),
            _ => (
                format!("cannot be read: {}", files::explain(path, error)),
                None,
            ),
        };
        Self::Unreadable {
            path: path.to_owned(),
            reason,
            help,
        }
    }
}
