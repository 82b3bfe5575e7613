//! Who could change a config, or read a secret of it.
//!
//! What the config says is run, often by root; so whoever can write it, or swap it for another by renaming in
//! one of its directories, has the power of the user who runs the watchdog. The judgement is a function of plain
//! facts; what gathers them takes those of the opened file, so that nobody can swap it in between.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::files;
use crate::text::visible_path;

/// A file or directory, and who may do what with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub uid: u32,
    /// Its permission bits, sticky bit and all.
    pub mode: u32,
    /// A directory, in which names can be changed, or a file.
    pub directory: bool,
    /// A symbolic link.
    pub link: bool,
}

impl Facts {
    /// The facts in what the system said of a path.
    pub fn of(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            uid: metadata.uid(),
            mode: metadata.mode() & 0o7777,
            directory: metadata.is_dir(),
            link: metadata.is_symlink(),
        }
    }
}

/// Why a file is not trusted, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file or directory.
    pub path: PathBuf,
    /// Whose it is, what its mode is, and why that matters.
    pub reason: String,
    /// A command for a shell.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "error: {} {}\n  = help: {}",
            visible_path(&self.path),
            self.reason,
            self.remedy
        )
    }
}

/// What speaks against trusting a config and the directories above it, for a watchdog that runs as `user`.
pub fn refusals(user: u32, facts: &[Facts]) -> Vec<Refusal> {
    facts.iter().flat_map(|facts| judge(user, facts)).collect()
}

fn judge(user: u32, facts: &Facts) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let power = match (facts.directory || facts.link, user) {
        (false, 0) => "change what root runs".to_owned(),
        (false, _) => format!("change what {} runs", account(user)),
        (true, _) => "put another config in its place".to_owned(),
    };
    let path = shell(&facts.path);
    if facts.uid != user && facts.uid != 0 {
        refusals.push(Refusal {
            path: facts.path.clone(),
            reason: format!("belongs to {}, who could {power}", account(facts.uid)),
            remedy: if facts.link {
                format!("chown -h {} {path}", account(user))
            } else {
                format!("chown {} {path}", account(user))
            },
        });
    }
    if facts.link {
        // its mode says nothing
        return refusals;
    }
    // in a sticky directory only owners rename; of a file, or a directory of its own, it says nothing
    let sticky = facts.directory && facts.mode & 0o1000 != 0;
    let others = if user == 0 { 0o022 } else { 0o002 };
    let open = facts.mode & others;
    if open != 0 && !sticky {
        let (who, letters) = match open {
            0o020 => ("its group", "g"),
            0o002 if facts.mode & 0o020 == 0 => ("anybody", "o"),
            _ => ("anybody", "go"),
        };
        refusals.push(Refusal {
            path: facts.path.clone(),
            reason: format!(
                "(mode {:04o}) can be written by {who}, who could {power}",
                facts.mode
            ),
            remedy: format!("chmod {letters}-w {path}"),
        });
    }
    refusals
}

/// What speaks against a file that holds a secret, `what` it is, of a watchdog that runs as `user`.
pub fn secret_refusal(user: u32, facts: &Facts, what: &str) -> Option<Refusal> {
    if facts.uid != user && facts.uid != 0 {
        return Some(Refusal {
            path: facts.path.clone(),
            reason: format!(
                "holds a {what}, and belongs to {}, who can read and change it",
                account(facts.uid)
            ),
            remedy: format!("chown {} {}", account(user), shell(&facts.path)),
        });
    }
    (facts.mode & 0o044 != 0).then(|| Refusal {
        path: facts.path.clone(),
        reason: format!(
            "(mode {:04o}) holds a {what} that others than {} can read",
            facts.mode,
            account(facts.uid)
        ),
        remedy: format!("chmod go-rwx {}", shell(&facts.path)),
    })
}

/// Gathers the facts about all that decides what a config's path means: the directories on the way, those that a link on the
/// way leads through as well, and links that their owners could replace.
pub(super) fn directory_facts(path: &Path) -> std::io::Result<Vec<Facts>> {
    let (places, missing) = files::walk(path)?;
    if missing {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    let facts = places.into_iter().filter_map(|place| {
        let facts = Facts::of(&place.path, &place.meta);
        (facts.directory || (facts.link && place.in_sticky)).then_some((place.path, facts))
    });
    // one may be passed more than once
    Ok(facts.collect::<BTreeMap<_, _>>().into_values().collect())
}

/// A user as a person and chown know them.
pub(super) fn account(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// A path as a word for a shell.
fn shell(path: &Path) -> String {
    let text = visible_path(path);
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ':' | '@');
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
