use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;
use crate::fixtures::at;

fn me() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn request(service: &str, id: &str) -> Request {
    Request {
        id: id.to_owned(),
        service: service.to_owned(),
        time: at(0),
        from: "127.0.0.1:4711".to_owned(),
        alert: None,
    }
}

/// A directory for requests, below one that only this user can write to.
fn queue() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().join("requests");
    fs::create_dir(&queue).unwrap();
    fs::set_permissions(&queue, fs::Permissions::from_mode(0o700)).unwrap();
    (dir, queue)
}

fn services(waiting: &Waiting) -> Vec<&str> {
    let requests = waiting.requests.iter();
    requests.map(|(_, request)| &*request.service).collect()
}

#[test]
fn a_request_waits_once_and_is_found() {
    let (_dir, queue) = queue();
    assert_eq!(put(&queue, &request("a", "1")).unwrap(), Put::Queued);
    assert_eq!(
        put(&queue, &request("a", "2")).unwrap(),
        Put::Waits("1".to_owned())
    );
    let mut later = request("b", "3");
    later.time = at(5);
    assert_eq!(put(&queue, &later).unwrap(), Put::Queued);
    let waiting = look(&queue, me(), at(60));
    assert_eq!(services(&waiting), ["a", "b"]);
    assert_eq!(waiting.troubles, [""; 0]);
    assert_eq!(
        waiting.requests[0].1.origin(),
        format!(
            "asked for by 127.0.0.1:4711 at {} (request 1)",
            crate::clock::stamp(at(0))
        )
    );
    // nothing but the two is there
    assert_eq!(fs::read_dir(&queue).unwrap().count(), 2);
    fs::remove_file(&waiting.requests[0].0).unwrap();
    assert_eq!(put(&queue, &request("a", "4")).unwrap(), Put::Queued);
}

#[test]
fn a_request_that_is_handed_in_meanwhile_is_left_to_the_next_run() {
    let (_dir, queue) = queue();
    let now = Utc::now();
    let mut request = request("a", "1");
    request.time = now;
    let (new, path) = (queue.join("new-1"), queue.join("repair-a"));
    fs::write(&new, serde_json::to_string(&request).unwrap()).unwrap();
    // where `put` is between its last two steps
    fs::hard_link(&new, &path).unwrap();
    assert_eq!(look(&queue, me(), now), Waiting::default());
    fs::remove_file(&new).unwrap();
    assert_eq!(services(&look(&queue, me(), now)), ["a"]);
    // one that never got further is no request
    fs::hard_link(&path, &new).unwrap();
    let later = look(&queue, me(), now + TimeDelta::minutes(2));
    assert!(!later.troubles.is_empty(), "{later:?}");
    assert!(!new.exists());
}

#[test]
fn only_so_many_wait() {
    let (_dir, queue) = queue();
    for number in 0..MOST {
        let request = request(&format!("s{number}"), &number.to_string());
        assert_eq!(put(&queue, &request).unwrap(), Put::Queued);
    }
    assert_eq!(put(&queue, &request("more", "x")).unwrap(), Put::TooMany);
    assert_eq!(
        put(&queue, &request("s5", "x")).unwrap(),
        Put::Waits("5".to_owned())
    );
    assert_eq!(look(&queue, me(), at(60)).requests.len(), MOST);
}

#[test]
fn of_many_that_come_at_once_one_is_queued() {
    let (_dir, queue) = queue();
    let queued: Vec<Put> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let queue = &queue;
                scope.spawn(move || put(queue, &request("a", &format!("id{number}"))).unwrap())
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let first = queued.iter().filter(|put| **put == Put::Queued).count();
    assert_eq!(first, 1, "{queued:?}");
    assert_eq!(look(&queue, me(), at(60)).requests.len(), 1);
}

#[test]
fn the_directory_is_made_where_the_pages_are_of_this_user() {
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().join("requests");
    assert_eq!(look(&queue, me(), at(0)), Waiting::default());
    assert_eq!(put(&queue, &request("a", "1")).unwrap(), Put::Queued);
    let mode = fs::metadata(&queue).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let missing = put(&dir.path().join("none/requests"), &request("a", "1"));
    assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn what_is_no_request_is_removed_and_nothing_is_waited_for() {
    let (dir, queue) = queue();
    let path = |name: &str| queue.join(name);
    let good = serde_json::to_string(&request("a", "1")).unwrap();
    let secret = dir.path().join("secret");
    let long_ago = |path: &Path| {
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    };
    fs::write(&secret, &good).unwrap();
    long_ago(&secret);
    symlink(&secret, path("repair-link")).unwrap();
    symlink("/dev/zero", path("repair-zero")).unwrap();
    nix::unistd::mkfifo(&path("repair-fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(path("repair-big"), format!("{good}{}", " ".repeat(20_000))).unwrap();
    fs::write(path("repair-broken"), "{").unwrap();
    fs::write(
        path("repair-more"),
        good.replace("\"id\"", "\"x\":1,\"id\""),
    )
    .unwrap();
    // under the name of another service
    fs::write(path("repair-b"), &good).unwrap();
    fs::write(path("whatever"), &good).unwrap();
    fs::write(path("\u{1b}[2J"), "").unwrap();
    fs::hard_link(&secret, path("repair-hard")).unwrap();
    let old = good.replace(&at(0).format("%Y").to_string(), "2001");
    fs::write(path("repair-old"), old.replace("\"a\"", "\"old\"")).unwrap();
    fs::write(path("new-1"), "").unwrap();
    long_ago(&path("new-1"));
    fs::write(path("repair-a"), &good).unwrap();
    // of a moment ago, by the clock of the system
    fs::write(path("new-2"), "half").unwrap();

    let now = Utc::now();
    let mut fresh = request("c", "3");
    fresh.time = now;
    put(&queue, &fresh).unwrap();
    let waiting = look(&queue, me(), now);
    // that of `a` is of another time
    let names = services(&waiting);
    assert!(names.contains(&"c"), "{waiting:?}");
    let mut left: Vec<_> = fs::read_dir(&queue)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "repair-a")
        .collect();
    left.sort();
    assert_eq!(left, ["new-2", "repair-c"]);
    assert_eq!(fs::read_to_string(&secret).unwrap(), good);
    let troubles = waiting.troubles.join("\n");
    assert!(
        troubles.contains(" more that are no requests"),
        "{troubles}"
    );
    assert!(!troubles.contains('\u{1b}'));
}

#[test]
fn each_reason_is_told() {
    for (name, text, why) in [
        (
            "repair-a",
            "{",
            "no request (it cannot be read as one); removed",
        ),
        (
            "repair-b",
            r#"{"id":"1","service":"a","time":"2027-01-15T08:00:00Z","from":"x"}"#,
            "no request (its name is not that of what is in it); removed",
        ),
        (
            "repair-a",
            r#"{"id":"1","service":"a","time":"2027-01-15T06:59:59Z","from":"x"}"#,
            "no request (it was asked for by x at 2027-01-15T06:59:59Z (request 1), and no run has taken it for more than an hour); removed",
        ),
    ] {
        let (_dir, queue) = queue();
        fs::write(queue.join(name), text).unwrap();
        let waiting = look(&queue, me(), at(0));
        assert_eq!(waiting.requests, []);
        assert_eq!(
            waiting.troubles,
            [format!("{}: {why}", queue.join(name).display())]
        );
        assert!(!queue.join(name).exists());
    }
}

#[test]
fn nothing_is_taken_from_a_directory_that_others_have_a_hand_in() {
    let (dir, queue) = queue();
    put(&queue, &request("a", "1")).unwrap();
    for (path, mode, why) in [
        (
            queue.clone(),
            0o770,
            "others than its owner can write to it (mode 770)",
        ),
        (
            queue.clone(),
            0o1777,
            "others than its owner can write to it (mode 1777)",
        ),
        (
            dir.path().to_owned(),
            0o777,
            "could put another directory in its place",
        ),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let waiting = look(&queue, me(), at(0));
        assert_eq!(waiting.requests, []);
        assert!(waiting.troubles[0].contains(why), "{waiting:?}");
        assert!(waiting.troubles[0].contains("no request is taken from it"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(look(&queue, me(), at(0)).requests.len(), 1);
    let link = dir.path().join("link");
    symlink(&queue, &link).unwrap();
    let waiting = look(&link, me(), at(0));
    assert!(
        waiting.troubles[0].contains("this is no directory"),
        "{waiting:?}"
    );
    if me() == 0 {
        // of the user that answers requests
        let theirs = queue.join("repair-a");
        chown(&queue, Some(4242), None).unwrap();
        chown(&theirs, Some(4242), None).unwrap();
        assert_eq!(look(&queue, me(), at(0)).requests.len(), 1);
        chown(&theirs, Some(4243), None).unwrap();
        let waiting = look(&queue, me(), at(0));
        assert!(
            waiting.troubles[0].contains("it belongs to UID 4243"),
            "{waiting:?}"
        );
    }
}

#[test]
fn an_alert_waits_once_for_each_of_its_times() {
    let (_dir, queue) = queue();
    let alert = |started| Request {
        service: String::new(),
        alert: Some(Alert {
            fingerprint: "4bbe70f9d6b1b2e7".to_owned(),
            started: at(started),
            labels: BTreeMap::from([("alertname".to_owned(), "High".to_owned())]),
        }),
        ..request("", &started.to_string())
    };
    assert_eq!(put(&queue, &alert(1)).unwrap(), Put::Queued);
    assert_eq!(put(&queue, &alert(1)).unwrap(), Put::Waits("1".to_owned()));
    assert_eq!(put(&queue, &alert(2)).unwrap(), Put::Queued);
    let waiting = look(&queue, me(), at(60));
    assert_eq!(waiting.requests.len(), 2);
    assert!(
        waiting.requests[0]
            .1
            .origin()
            .starts_with("asked for by the alert High, by 127.0.0.1:4711 at ")
    );
    // one that is both, or neither
    let both = Request {
        service: "a".to_owned(),
        ..alert(3)
    };
    put(&queue, &both).unwrap();
    let waiting = look(&queue, me(), at(60));
    assert_eq!(waiting.requests.len(), 2);
    assert!(waiting.troubles[0].contains("not that of what is in it"));
}
