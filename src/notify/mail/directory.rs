//! A directory that messages are written into: for trying out, and for mailers that pick them up.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::Message;
use crate::files;
use crate::notify::nonce;
use crate::text::plain;

/// `20261122T010203Z-restarted-trader-9f86d081884c7d65.eml`: sorted by name is sorted by time. The same for every
/// attempt to deliver the same message, so that none makes a second copy.
pub(super) fn file_name(message: &Message) -> String {
    let service = message.services.first().map_or("none", String::as_str);
    let clean = |text: &str| -> String {
        let kept = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        text.chars()
            .take(64)
            .map(|c| if kept(c) { c } else { '_' })
            .collect()
    };
    // of an id of ours, the part that no other has
    let id = message.message_id.trim_start_matches('<');
    let local = id.split('@').next().unwrap_or_default();
    let unique = local.rsplit('.').next().unwrap_or_default();
    format!(
        "{}-{}-{}-{}.eml",
        message.time.format("%Y%m%dT%H%M%SZ"),
        message.event.name(),
        clean(service),
        clean(unique)
    )
}

/// Writes a file that is there whole or not at all; whoever looks never sees half of one.
pub(super) fn deliver(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    if let Some(others) = files::who_could_lead_root(directory) {
        return Err(format!(
            "{}: the directory for mail can be changed by {others}; keep it where only root can write",
            directory.display()
        ));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| {
            format!(
                "{}: the directory for mail cannot be made: {}",
                directory.display(),
                plain(&error)
            )
        })?;
    let path = directory.join(name);
    // a name of its own: what a run that was killed left behind is in nobody's way
    let unfinished = directory.join(format!(".{name}.{:016x}.new", nonce()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&unfinished, &path));
    written.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        format!(
            "{}: the message cannot be written: {}",
            path.display(),
            plain(&error)
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::{message, settings};
    use super::super::{Transport, eml, send};
    use super::*;
    use crate::notify::Outcome;

    #[test]
    fn a_message_is_a_file_for_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/outbox");
        let settings = settings(Transport::Directory(directory.clone()));
        let report = send(&settings, &message());
        assert!(
            report
                .recipients
                .iter()
                .all(|r| r.outcome == Outcome::Delivered),
            "{report:?}"
        );
        let files: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|e| e.unwrap())
            .collect();
        assert_eq!(files.len(), 1);
        let name = files[0].file_name().into_string().unwrap();
        assert!(
            name.starts_with("20261122T010203Z-restarted-trader-"),
            "{name}"
        );
        assert!(
            Path::new(&name).extension().is_some_and(|e| e == "eml"),
            "{name}"
        );
        assert_eq!(
            fs::read(files[0].path()).unwrap(),
            eml(&settings, &message()).unwrap()
        );
        assert_eq!(
            files[0].metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_message_that_is_delivered_again_is_no_second_file() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(Transport::Directory(root.path().to_owned()));
        // what a run that was killed leaves behind is in nobody's way
        fs::write(root.path().join(".x.eml.0.new"), "half").unwrap();
        let mut other = message();
        other.message_id = "<20261122T010203Z.trader.2@box1>".to_owned();
        for message in [&message(), &message(), &other] {
            assert!(send(&settings, message).pending().is_empty());
        }
        let files = fs::read_dir(root.path()).unwrap().flatten();
        let names: Vec<_> = files
            .filter(|entry| entry.path().extension() == Some("eml".as_ref()))
            .collect();
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        let mut odd = message();
        odd.services = vec!["../../etc/x\n".to_owned()];
        assert!(!file_name(&odd).contains(['/', '\n']));
    }

    #[test]
    fn what_cannot_be_written_is_owed_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let report = send(
            &settings(Transport::Directory(file.join("outbox"))),
            &message(),
        );
        assert_eq!(report.pending().len(), 2);
        assert_eq!(
            report.troubles("mail"),
            [format!(
                "mail to ops@example.org, Boss <boss@example.org> not delivered yet: {}: the directory for mail cannot be made: not a directory",
                file.join("outbox").display()
            )]
        );
        // a directory in the way refuses the rename
        let directory = root.path().join("outbox");
        fs::create_dir_all(directory.join("x.eml/y")).unwrap();
        let error = deliver(&directory, "x.eml", b"x").unwrap_err();
        assert!(
            error.contains("x.eml: the message cannot be written: "),
            "{error}"
        );
        let left: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["x.eml"]);
    }
}
