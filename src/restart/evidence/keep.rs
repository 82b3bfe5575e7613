//! The files of records: how they are called, the newest of each service, and the list of them.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime, Utc};

use super::SIZE_LIMIT;
use crate::files::{self, Links};

/// The directory in `state_dir`.
const DIRECTORY: &str = "evidence";

/// So many are kept of a service.
pub const KEPT: usize = 5;

/// So many are kept in all: of services that come and go, each leaves some behind.
const KEPT_IN_ALL: usize = 1000;

/// So many names are tried of one second.
const MOST_OF_A_SECOND: u32 = 100;

/// How the time stands in a name.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// A record that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of which service.
    pub service: String,
    /// When it was taken.
    pub time: DateTime<Utc>,
    /// Which of that second it is, from 1 on.
    pub number: u32,
    /// The file.
    pub path: PathBuf,
    /// How long it is, in bytes.
    pub size: u64,
}

/// The directory of the records.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(DIRECTORY)
}

/// `trader-20261122T010203Z.txt`; the second of one second is `trader-20261122T010203Z-2.txt`.
pub(super) fn name(service: &str, time: DateTime<Utc>, number: u32) -> String {
    let time = time.format(TIME);
    match number {
        ..=1 => format!("{service}-{time}.txt"),
        _ => format!("{service}-{time}-{number}.txt"),
    }
}

/// The service, the time and the number in a name; none of what is no record.
fn parse(name: &str) -> Option<(&str, DateTime<Utc>, u32)> {
    let (rest, last) = name.strip_suffix(".txt")?.rsplit_once('-')?;
    let (service, time, number) = match last.parse().ok().filter(|&number| number > 1) {
        Some(number) => {
            let (service, time) = rest.rsplit_once('-')?;
            (service, time, number)
        }
        None => (rest, last, 1),
    };
    let time = NaiveDateTime::parse_from_str(time, TIME).ok()?;
    (!service.is_empty()).then(|| (service, time.and_utc(), number))
}

/// The records in `state_dir`, by service and then by time, the oldest first. No directory: there are none.
pub fn list(state_dir: &Path) -> io::Result<Vec<Kept>> {
    let listed = match fs::read_dir(directory(state_dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut kept = Vec::new();
    for entry in listed {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some((service, time, number)) = file_name.to_str().and_then(parse) else {
            continue;
        };
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() {
            kept.push(Kept {
                service: service.to_owned(),
                time,
                number,
                path: entry.path(),
                size: meta.size(),
            });
        }
    }
    kept.sort_by(|a, b| (&a.service, a.time, a.number).cmp(&(&b.service, b.time, b.number)));
    Ok(kept)
}

/// What a record says.
pub fn read(path: &Path) -> io::Result<String> {
    let (file, _) = files::open(path, Links::Refuse)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(SIZE_LIMIT).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a record, removes those that are too many, and gives back its file. What could not be written whole is not left
/// behind.
pub(super) fn write(
    state_dir: &Path,
    service: &str,
    time: DateTime<Utc>,
    text: &str,
) -> io::Result<PathBuf> {
    let directory = directory(state_dir);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let (path, mut file) = create(state_dir, service, time)?;
    if let Err(error) = file.write_all(text.as_bytes()) {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    for surplus in surplus(list(state_dir)?, &path) {
        let _ = fs::remove_file(surplus);
    }
    Ok(path)
}

/// Makes the file of a record. None takes the name of another: a service can be restarted twice in a second, and its clock
/// may have been set back.
fn create(state_dir: &Path, service: &str, time: DateTime<Utc>) -> io::Result<(PathBuf, File)> {
    let second = time.timestamp();
    let mut number = list(state_dir)
        .unwrap_or_default()
        .iter()
        .filter(|it| it.service == service && it.time.timestamp() == second)
        .map(|it| it.number)
        .max()
        .unwrap_or(0);
    loop {
        number = number.saturating_add(1);
        let path = directory(state_dir).join(name(service, time, number));
        match files::create(&path, 0o600) {
            // something that is no record, or one that is made at the same time
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && number < MOST_OF_A_SECOND => {}
            made => return made.map(|file| (path, file)),
        }
    }
}

/// Those to remove, where `newest` was written last: the clock may have been set since the others were.
fn surplus(mut kept: Vec<Kept>, newest: &Path) -> Vec<PathBuf> {
    kept.sort_by_key(|it| (it.path == newest, it.time));
    let mut surplus = Vec::new();
    let mut of_service: std::collections::BTreeMap<String, usize> =
        std::collections::BTreeMap::new();
    let mut left = 0;
    for record in kept.into_iter().rev() {
        let count = of_service.entry(record.service).or_default();
        *count += 1;
        left += 1;
        if *count > KEPT || left > KEPT_IN_ALL {
            surplus.push(record.path);
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::fixtures::at;

    #[test]
    fn a_name_has_the_service_and_the_time() {
        for service in ["trader", "a-b.c", "a-20261122T010203Z"] {
            for number in [1, 2, 10] {
                let name = name(service, at(0), number);
                assert_eq!(parse(&name), Some((service, at(0), number)), "{name}");
            }
        }
        for name in [
            "",
            "-20261122T010203Z.txt",
            "a-2026.txt",
            "a-20261122T010203Z",
            "a.txt",
            "a-2.txt",
            "-20261122T010203Z-2.txt",
            "a-20261122T010203Z-1.txt",
            "a-20261122T010203Z-x.txt",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    fn record(state_dir: &Path, service: &str, seconds: i64) -> PathBuf {
        write(state_dir, service, at(seconds), "text\n").unwrap()
    }

    #[test]
    fn records_of_one_second_have_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let again = |n: usize| write(dir.path(), "a", at(0), &n.to_string()).unwrap();
        let paths: Vec<PathBuf> = (0..8).map(again).collect();
        // the same names of another service
        write(dir.path(), "b", at(0), "b").unwrap();
        let kept = list(dir.path()).unwrap();
        let of_a = kept.iter().filter(|it| it.service == "a");
        let shown: Vec<String> = of_a.map(|it| read(&it.path).unwrap()).collect();
        assert_eq!(shown, ["3", "4", "5", "6", "7"], "{kept:?}");
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name(&paths[0]), "a-20270115T080000Z.txt");
        assert_eq!(name(&paths[7]), "a-20270115T080000Z-8.txt");
        assert_eq!(name(&kept[5].path), "b-20270115T080000Z.txt");
    }

    #[test]
    fn the_newest_five_of_each_service_are_kept_and_nobody_else_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        for seconds in 0..8 {
            record(dir.path(), "a", seconds);
            record(dir.path(), "a-b", 100 * seconds);
        }
        fs::write(directory(dir.path()).join("notes.txt"), "mine").unwrap();
        let kept = list(dir.path()).unwrap();
        let times = |service: &str| -> Vec<i64> {
            let of = kept.iter().filter(|it| it.service == service);
            of.map(|it| (it.time - at(0)).num_seconds()).collect()
        };
        assert_eq!(times("a"), [3, 4, 5, 6, 7]);
        assert_eq!(times("a-b"), [300, 400, 500, 600, 700]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&kept[0].path), 0o600);
        assert_eq!(mode(&directory(dir.path())), 0o700);
        assert_eq!(read(&kept[0].path).unwrap(), "text\n");
        assert!(directory(dir.path()).join("notes.txt").exists());
    }

    #[test]
    fn after_the_clock_was_set_back_the_last_one_is_kept_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for seconds in 0..5 {
            record(dir.path(), "a", 1000 + seconds);
        }
        let last = record(dir.path(), "a", 0);
        assert!(last.exists());
        assert_eq!(list(dir.path()).unwrap().len(), KEPT);
    }

    #[test]
    fn services_that_come_and_go_leave_a_limited_number() {
        let one = |number: usize| Kept {
            service: format!("s{number}"),
            time: at(i64::try_from(number).unwrap()),
            number: 1,
            path: PathBuf::from(number.to_string()),
            size: 1,
        };
        let kept: Vec<Kept> = (0..KEPT_IN_ALL + 2).map(one).collect();
        let gone = surplus(kept, Path::new("0"));
        assert_eq!(gone, [PathBuf::from("2"), PathBuf::from("1")]);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = record(dir.path(), "a", 0);
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(read(&path).is_err());
        assert_ne!(record(dir.path(), "a", 0), path);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    }
}
