use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::notify::{Event, Severity};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

/// The clocks of a machine that was up for `up` seconds.
fn reading(second: i64, up: u64) -> Reading {
    Reading {
        wall: at(second),
        boot_ms: up * 1000,
        awake_ms: up * 1000,
        boot_id: "a".into(),
    }
}

fn delivery(second: i64) -> Delivery {
    let notification = Notification {
        id: second.to_string(),
        time: at(second),
        host: "h".to_owned(),
        event: Event::Down,
        severity: Severity::Critical,
        subject: "s".to_owned(),
        body: "b\n".to_owned(),
        services: vec!["a".to_owned()],
        alerts: Vec::new(),
    };
    let now = reading(second, 0);
    let (to, alerts) = (vec!["ops@x.org".to_owned()], vec!["1".to_owned()]);
    Delivery::new(notification, "mail", to, alerts, Thread::default(), &now)
}

fn ids(loaded: &Loaded) -> Vec<String> {
    let ids = loaded.deliveries.iter();
    ids.map(|kept| kept.delivery.notification.id.clone())
        .collect()
}

#[test]
fn what_is_kept_comes_back_oldest_first_and_is_its_owners_alone() {
    let state = tempfile::tempdir().unwrap();
    let outbox = Outbox::at(state.path());
    assert!(outbox.load().deliveries.is_empty());
    assert!(!state.path().join("outbox").exists(), "looking makes none");
    for second in [3, 1, 2] {
        outbox.add(delivery(second)).unwrap();
    }
    let mut loaded = outbox.load();
    assert_eq!(ids(&loaded), ["1", "2", "3"]);
    assert_eq!(loaded.deliveries[0].delivery, delivery(1));
    let dir = state.path().join("outbox");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for kept in &loaded.deliveries {
        let path = dir.join(&kept.name);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::metadata(path).unwrap().len(), kept.size);
    }
    let kept = &mut loaded.deliveries[1];
    kept.delivery.recipients.clear();
    outbox.update(kept).unwrap();
    outbox.remove(&loaded.deliveries[0].name).unwrap();
    outbox.remove(&loaded.deliveries[0].name).unwrap();
    let again = outbox.load();
    assert_eq!(ids(&again), ["2", "3"]);
    assert!(again.deliveries[0].delivery.recipients.is_empty());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
}

#[test]
fn what_is_no_delivery_is_set_aside_and_stops_nobody() {
    let state = tempfile::tempdir().unwrap();
    let outbox = Outbox::at(state.path());
    let good = outbox.add(delivery(1)).unwrap();
    let dir = state.path().join("outbox");
    let whole = fs::read(dir.join(&good.name)).unwrap();
    fs::write(dir.join("0-empty.json"), "").unwrap();
    fs::write(dir.join("0-torn.json"), &whole[..whole.len() / 2]).unwrap();
    fs::write(dir.join("0-other.json"), "[1]").unwrap();
    fs::write(dir.join("0-half.json.new"), &whole[..9]).unwrap();
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    fs::create_dir(dir.join("0-dir.json")).unwrap();
    nix::unistd::mkfifo(&dir.join("0-fifo.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let target = state.path().join("target");
    fs::write(&target, &whole).unwrap();
    symlink(&target, dir.join("0-link.json")).unwrap();
    let loaded = outbox.load();
    assert_eq!(ids(&loaded), ["1"]);
    assert_eq!(loaded.troubles.len(), 6, "{:?}", loaded.troubles);
    for (name, why) in [
        (
            "0-empty.json is empty; it is not sent, and was set aside as",
            0,
        ),
        ("0-torn.json is damaged (", 5),
        ("0-fifo.json is a FIFO, not a regular file;", 2),
        ("0-link.json is a symbolic link, not a regular file;", 3),
    ] {
        assert!(
            loaded.troubles.iter().any(|said| said.contains(name)),
            "{why} {name}: {:?}",
            loaded.troubles
        );
    }
    assert!(!dir.join("0-half.json.new").exists());
    assert!(dir.join("notes.txt").exists());
    assert_eq!(fs::read(&target).unwrap(), whole);
    assert!(outbox.load().troubles.is_empty(), "reported once");
}

#[test]
fn a_file_that_has_gone_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        read(&directory.path().join("1.json")).unwrap_err(),
        "cannot be read (No such file or directory (os error 2))"
    );
}

#[test]
fn files_set_aside_are_bounded() {
    let state = tempfile::tempdir().unwrap();
    let outbox = Outbox::at(state.path());
    outbox.add(delivery(1)).unwrap();
    for n in 0..30 {
        fs::write(state.path().join(format!("outbox/{n:02}.json")), "?").unwrap();
    }
    outbox.load();
    let left = fs::read_dir(state.path().join("outbox")).unwrap().count();
    assert_eq!(left, 1 + ASIDE_KEPT);
}

#[test]
fn a_directory_that_is_a_link_is_not_written_to() {
    let state = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), state.path().join("outbox")).unwrap();
    let error = Outbox::at(state.path()).add(delivery(1)).unwrap_err();
    assert!(error.to_string().contains("it is made anew"), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn f71_the_oldest_go_when_there_are_too_many() {
    let kept = |size| Kept {
        name: String::new(),
        size,
        delivery: delivery(1),
    };
    assert_eq!(surplus(&vec![kept(10); LIMIT], "mail").len(), 0);
    assert_eq!(surplus(&vec![kept(10); LIMIT + 3], "mail").len(), 3);
    assert_eq!(surplus(&vec![kept(SIZE_LIMIT / 4); 5], "mail").len(), 1);
    assert_eq!(surplus(&[kept(SIZE_LIMIT * 2)], "mail").len(), 0);
    assert_eq!(surplus(&[kept(1), kept(SIZE_LIMIT * 2)], "mail").len(), 1);
    assert_eq!(surplus(&[], "mail").len(), 0);
    // each channel has its own
    let mut both = vec![kept(10); LIMIT + 3];
    for (number, kept) in both.iter_mut().enumerate() {
        kept.name = number.to_string();
    }
    for kept in &mut both[..2] {
        kept.delivery.channel = "phone".to_owned();
    }
    assert_eq!(surplus(&both, "mail"), ["2"]);
    assert!(surplus(&both, "phone").is_empty());
}

#[test]
fn uncertain_attempts_come_at_growing_intervals_and_all_end_after_three_days() {
    let mut delivery = delivery(0);
    assert!(delivery.is_due(at(0)));
    let mut copies = 0;
    for minute in 0..3 * 24 * 60 {
        if delivery.is_due(at(minute * 60)) {
            copies += 1;
            delivery.uncertain += 1;
            delivery.last_uncertain = Some(at(minute * 60));
        }
    }
    assert!((10..25).contains(&copies), "{copies}");
    assert!(delivery.is_due(at(0)), "the clock was ahead");
    assert!(!delivery.is_expired(at(3 * 86_400 - 1)));
    assert!(delivery.is_expired(at(3 * 86_400)));
    assert!(!delivery.is_expired(at(-100)));
    delivery.uncertain = u32::MAX;
    assert!(delivery.is_due(at(10 * 86_400)));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }
}
