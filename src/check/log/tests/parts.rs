//! What a look is made of, part by part: where only a race would tell right from wrong in the whole.

use super::*;

/// Opens a file as a look does.
fn opened(path: &Path) -> Opened {
    open::open(path, Links::Follow).unwrap()
}

fn end(path: &Path) -> FilePosition {
    FilePosition::at_end(&opened(path), path.to_owned()).unwrap()
}

#[test]
fn what_a_rotation_came_between_is_begun_again_a_few_times() {
    use io::ErrorKind::{PermissionDenied, UnexpectedEof};
    for (errors, looks, expected) in [
        (&[][..], 1, Ok(())),
        (&[UnexpectedEof], 2, Ok(())),
        (&[UnexpectedEof; 4], 5, Ok(())),
        (&[UnexpectedEof; 5], 5, Err(UnexpectedEof)),
        (&[PermissionDenied], 1, Err(PermissionDenied)),
        (&[UnexpectedEof, PermissionDenied], 2, Err(PermissionDenied)),
    ] {
        let mut left = errors.iter();
        let mut count = 0;
        let outcome = retry_on_rotation(|| {
            count += 1;
            left.next().map_or(Ok(()), |kind| Err((*kind).into()))
        });
        assert_eq!(outcome.map_err(|error| error.kind()), expected);
        assert_eq!(count, looks, "{errors:?}");
    }
}

#[test]
fn what_never_reads_to_its_end_is_unreadable_and_leaves_the_mark() {
    // a file of the kernel's, that has fewer bytes than its size
    let shorter = Path::new("/sys/devices/system/cpu/online");
    assert!(fs::read(shorter).unwrap().len() < 1000 && fs::metadata(shorter).unwrap().len() > 1000);
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.look();
    scene.rule.path = shorter.to_owned();
    let position = scene.position.clone();
    let seen = scene.look();
    assert_eq!(
        sentences(&seen),
        ["logs/app.log: it was rotated or truncated again and again while it was read"]
    );
    assert_eq!(codes(&seen), one("log_unreadable", Severity::Unknown));
    assert_eq!(seen.state, None);
    assert_eq!(position_at_end(&scene.rule, position.as_ref()), position);
}

#[test]
fn a_file_is_rewritten_where_what_was_in_it_stands_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    for (then, expected) in [
        ("", false),
        ("more\n", false),
        ("a new beginning, and a longer one\n", true),
    ] {
        fs::write(&path, "fine\n").unwrap();
        let mut file = opened(&path);
        file.bytes.hold().unwrap();
        // what its times could tell in an hour is told by its bytes at once
        let times = [file.asked, file.asked + TimeDelta::hours(1)];
        for time in times {
            file.asked = time;
            assert!(!was_rewritten(&file), "as it was");
        }
        if expected {
            fs::write(&path, then).unwrap();
        } else {
            let mut log = File::options().append(true).open(&path).unwrap();
            log.write_all(then.as_bytes()).unwrap();
        }
        for time in times {
            file.asked = time;
            assert_eq!(was_rewritten(&file), expected, "{then:?}");
        }
    }
}

#[test]
fn a_path_means_itself_and_a_glob_its_newest_match() {
    let mut scene = Scene::new();
    assert_eq!(
        resolve(&scene.at("a.log")),
        Some(scene.at("a.log")),
        "there or not"
    );
    assert_eq!(resolve(&scene.at("a-*.log")), None);
    scene.append("a-1.log", "");
    scene.append("a-0.log", "");
    assert_eq!(resolve(&scene.at("a-*.log")), Some(scene.at("a-0.log")));
}

#[test]
fn a_stamp_reads_a_line_by_itself() {
    let stamp = stamped().rule.stamp.unwrap();
    let now = DateTime::from_timestamp(1_795_348_800, 0).unwrap();
    let line = now.format("%Y-%m-%d %H:%M:%S tick").to_string();
    assert_eq!(stamp.read(line.as_bytes(), now), Some(now));
    assert_eq!(stamp.read(b"tick", now), None);
}

#[test]
fn evidence_is_what_is_forbidden_within_the_limit_or_beyond() {
    let mut scene = Scene::forbidding();
    scene.rule.forbid[0].at_most = 1;
    scene.rule.forbid.push(forbid("never"));
    for (content, evidence, findings) in [
        ("fine\n", false, 0),
        ("ERROR\n", true, 0),
        ("ERROR\nERROR\n", true, 1),
        ("", false, 0),
    ] {
        scene.log(content);
        let seen = scene.look();
        assert_eq!(
            (seen.consumed, seen.findings.len()),
            (evidence, findings),
            "{content:?}"
        );
    }
}

#[test]
fn a_mark_at_the_end_says_what_is_not_known_any_more() {
    type Blow = fn(&mut Scene);
    let keep: Blow = |_| ();
    let remove: Blow = |scene| fs::remove_file(scene.at("app.log")).unwrap();
    let aside: Blow = |scene| fs::rename(scene.at("app.log"), scene.at("app.log.1")).unwrap();
    for (what, blow, cut_before, cut, former) in [
        ("as it was", keep, false, false, 1),
        ("cut before", keep, true, true, 1),
        ("rotated", Scene::rotate, false, false, 2),
        ("rotated, cut before", Scene::rotate, true, true, 2),
        ("truncated", Scene::truncate, false, true, 0),
        ("truncated, cut before", Scene::truncate, true, true, 0),
        ("gone", remove, true, true, 1),
        ("gone but for another name", aside, false, false, 1),
    ] {
        let mut scene = Scene::forbidding();
        scene.log("one\n");
        scene.look();
        scene.rotate();
        scene.log("two\n");
        scene.look();
        let mut position = scene.position.take().unwrap();
        assert!(!position.restarted && !position.cut && position.former.len() == 1);
        position.cut = cut_before;
        scene.log("three\n");
        blow(&mut scene);
        let end = position_at_end(&scene.rule, Some(&position)).unwrap();
        assert_eq!(
            (end.restarted, end.cut, end.former.len()),
            (true, cut, former),
            "{what}"
        );
    }
}

/// The last lines of a log of several files, the oldest first, with what is known of what is beyond.
fn recent(texts: &[&[u8]], aged: bool, wanted: usize) -> (Vec<Vec<u8>>, [bool; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let mut paths: Vec<PathBuf> = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let path = dir.path().join(number.to_string());
        fs::write(&path, text).unwrap();
        paths.push(path);
    }
    paths.reverse();
    let former: Vec<FilePosition> = paths[1..].iter().map(|path| end(path)).collect();
    let recent = Recent::read(&opened(&paths[0]), aged, &former, wanted).unwrap();
    let lines = recent.lines().map(<[u8]>::to_vec).collect();
    (lines, [recent.more, recent.bounded, recent.broken])
}

#[test]
fn the_last_lines_across_files_and_whether_there_are_more() {
    const NOTHING: [bool; 3] = [false; 3];
    const MORE: [bool; 3] = [true, false, false];
    for (texts, aged, wanted, lines, beyond) in [
        (&["a\nb\n"][..], false, 5, &["b", "a"][..], NOTHING),
        (&["a\nb\n"], false, 2, &["b", "a"], NOTHING),
        (&["a\nb\nc\n"], false, 2, &["c", "b"], MORE),
        (&["a\r\nb\r\n"], false, 2, &["b", "a"], NOTHING),
        (&["a\nb"], false, 2, &["a"], NOTHING),
        (&["a\nb"], true, 2, &["b", "a"], NOTHING),
        (&["a\nb"], true, 1, &["b"], MORE),
        (&["a\n"], true, 2, &["a"], NOTHING),
        (
            &["x\ny\n", "a\nb\n"],
            false,
            4,
            &["b", "a", "y", "x"],
            NOTHING,
        ),
        (&["x\ny\n", "a\nb\n"], false, 3, &["b", "a", "y"], MORE),
        (&["x\ny\n", "a\nb\n"], false, 2, &["b", "a"], MORE),
        (&["x\ny\n", "a\nb\nc\n"], false, 2, &["c", "b"], MORE),
        (&["x\ny", "a\n"], false, 3, &["a", "y", "x"], NOTHING),
        (&["x\ny\n", ""], false, 1, &["y"], MORE),
        (&["x\n", "y\n", "a\n"], false, 3, &["a", "y", "x"], NOTHING),
        (&["x\n", "y\n", "a\n"], false, 2, &["a", "y"], MORE),
    ] {
        let bytes: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        let expected: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        assert_eq!(
            recent(&bytes, aged, wanted),
            (expected, beyond),
            "{texts:?} {wanted} {aged}"
        );
    }
}

#[test]
fn no_more_of_the_last_lines_is_read_than_may_be() {
    let limit = usize::try_from(LAST).unwrap();
    let bytes = |len: usize| {
        let mut bytes = vec![b'x'; len];
        bytes[len - 1] = b'\n';
        bytes
    };
    for (older, newer, count, beyond) in [
        (10, limit - 11, 2, [false, false, false]),
        // what is left of the older one is not whole
        (10, limit - 5, 2, [true, true, false]),
        (10, limit, 1, [false, true, false]),
        (10, limit + 1, 1, [true, true, false]),
        (limit, 10, 2, [true, true, false]),
        (limit - 10, 10, 2, [false, true, false]),
    ] {
        let (lines, found) = recent(&[&bytes(older), &bytes(newer)], false, 5);
        assert_eq!((lines.len(), found), (count, beyond), "{older} {newer}");
    }
}

#[test]
fn a_former_file_that_is_another_now_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["0", "1", "2"] {
        fs::write(path(name), format!("{name}\n")).unwrap();
    }
    let former = [end(&path("1")), end(&path("0"))];
    fs::write(path("1"), "another\n").unwrap();
    let recent = Recent::read(&opened(&path("2")), false, &former, 5).unwrap();
    assert_eq!(recent.lines().collect::<Vec<_>>(), [b"2"]);
    assert!(recent.broken);
}

#[test]
fn with_stamps_a_full_new_file_does_not_hide_the_one_before_it() {
    // a trace that fills the new file to the line, and what was stamped before it since the last run
    for lines in 99..=101 {
        let mut scene = stamped();
        let tick = line(&scene, "tick");
        scene.log(tick);
        scene.look();
        scene.pass(200);
        let tick = line(&scene, "tick");
        scene.log(tick);
        scene.rotate();
        scene.log("trace\n".repeat(lines));
        scene.pass(200);
        let codes = scene.codes();
        let full = one("log_unstamped", Severity::Warning);
        assert_eq!(
            codes,
            if lines < 100 { Vec::new() } else { full },
            "{lines}"
        );
    }
}

#[test]
fn expect_is_judged_where_as_many_lines_are_there_as_it_looks_at() {
    let mut scene = Scene::new();
    scene.rule.lines = 3;
    scene.rule.expect = vec![expect("tick", 1)];
    scene.log("tick\n");
    scene.look();
    scene.rotate();
    scene.look();
    fs::remove_file(scene.at("app.log.1")).unwrap();
    scene.log("1\n2\n");
    assert!(scene.found().is_empty(), "the line before is not known");
    scene.log("3\n");
    assert_eq!(scene.codes(), one("log_quiet", Severity::Critical));
}

#[test]
fn that_a_bound_kept_lines_from_expect_is_said_only_where_it_did() {
    let long = format!("{}\n", "x".repeat(300 << 10));
    for (content, bounded) in [
        ("tick\n".to_owned(), false),
        ("tick\n".repeat(3), false),
        (format!("{long}tick\n"), false),
        // three lines are within the bound, whatever else is
        (long.repeat(9) + "tick\n", false),
        (format!("{}tick\n", "x".repeat(2 << 20)), true),
    ] {
        let mut scene = Scene::new();
        scene.rule.lines = 3;
        scene.rule.expect = vec![expect("tick", 1)];
        scene.log(&content);
        let seen = scene.look();
        let said = seen.notes.iter().any(|note| note.contains("1 MiB"));
        assert_eq!(said, bounded, "{} bytes: {:?}", content.len(), seen.notes);
    }
}

#[test]
fn what_the_bound_of_a_first_look_falls_into() {
    let far = usize::try_from(NEW).unwrap();
    // so that the bound falls to this many bytes before the last line
    let reach = |text: &str| far - text.len() - 1;
    for (what, before, byte, found) in [
        ("a line, which began before it", "ERROR", b'x', 0),
        ("a hole", "", 0, 1),
    ] {
        let mut scene = Scene::forbidding();
        let last = format!("{}ERROR\n", if byte == 0 { "" } else { "x" });
        let mut content = before.as_bytes().to_vec();
        content.resize(before.len() + 1000 + reach(&last), byte);
        content.extend_from_slice(last.as_bytes());
        content.extend_from_slice(b"fine\n");
        scene.log(&content);
        let seen = scene.look();
        assert_eq!(seen.findings.len(), found, "{what}: {:?}", seen.findings);
    }
    // and the rest of a line is no line
    let mut scene = Scene::forbidding();
    let rest = "x ERROR\n";
    let mut content = vec![b'x'; 1000];
    content.extend_from_slice(rest.as_bytes());
    content.resize(1000 + rest.len() + far - 100, b'y');
    content.push(b'\n');
    scene.log(&content);
    assert!(scene.look().findings.is_empty());
}

#[test]
fn limits_of_times_are_times_that_are_still_well() {
    // a log with a time of so many seconds after now, by the modification time or the stamp
    for (seconds, code) in [
        (301, Some("log_in_future")),
        (300, None),
        (0, None),
        (-300, None),
        (-301, Some("log_stale")),
    ] {
        for by_stamp in [false, true] {
            let mut scene = if by_stamp { stamped() } else { Scene::new() };
            scene.rule.max_age = Some(minutes(5));
            let tick = line(&scene, "tick");
            // a dated file is a second old when that is done
            scene.log(&tick);
            scene.pass(-1 - seconds);
            let seen = scene.look();
            let found: Vec<&str> = seen.findings.iter().map(|f| f.code.as_ref()).collect();
            assert_eq!(found, Vec::from_iter(code), "{seconds} {by_stamp}");
        }
    }
}

#[test]
fn a_stamped_log_whose_file_is_of_a_time_to_come() {
    for (seconds, findings) in [(300, 0), (301, 1)] {
        let mut scene = stamped();
        let tick = line(&scene, "tick");
        fs::write(scene.at("app.log"), tick).unwrap();
        scene.pass(seconds);
        scene.dated("app.log");
        scene.pass(-1 - seconds);
        let found = scene.found();
        assert_eq!(found.len(), findings, "{found:?}");
        assert!(found.iter().all(|text| text.contains("log: modified 5m")));
    }
}

#[test]
fn f52_a_file_that_came_and_went_counts_as_a_write_where_it_was_written() {
    for (content, codes) in [("tock\n", vec![]), ("", vec!["log_stale"])] {
        let mut scene = Scene::new();
        scene.rule.max_age = Some(minutes(5));
        scene.log("tick\n");
        scene.look();
        scene.rotate();
        scene.pass(200);
        scene.log(content);
        scene.rotate();
        scene.pass(200);
        let seen = scene.look();
        let found: Vec<&str> = seen.findings.iter().map(|f| f.code.as_ref()).collect();
        assert_eq!(found, codes, "{content:?}");
    }
}

#[test]
fn bytes_are_told_in_the_largest_unit_that_is_whole() {
    for (bytes, told) in [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        ((1 << 20) - 1, "1023 KiB"),
        (1 << 20, "1 MiB"),
        (NEW, "8 MiB"),
        (10 << 30, "10240 MiB"),
    ] {
        assert_eq!(size(bytes), told);
    }
}

#[test]
fn f54_an_empty_log_that_was_written_and_copied_within_one_tick_of_the_clock() {
    let mut scene = Scene::forbidding();
    scene.log("");
    let then = scene.now;
    scene.look();
    scene.log("ERROR 1\n");
    scene.copytruncate();
    scene.log("ERROR 2\n");
    let now = std::mem::replace(&mut scene.now, then - TimeDelta::seconds(1));
    scene.dated("app.log");
    scene.now = now;
    let found = scene.found();
    assert!(found[0].contains(": 2 new lines"), "{found:?}");
}

#[test]
fn f53_what_lies_beside_a_log_that_was_not_rotated_is_not_read() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.look();
    scene.append("app.log.1", "ERROR of somebody else\n");
    scene.log("fine\n");
    assert!(scene.found().is_empty());
}

#[test]
fn f54_a_copy_that_was_seen_empty_is_no_file_of_its_own() {
    // as far as the copy has come at the next look, and whether the log was truncated then
    for (copied, truncated) in [("ERR", false), ("ERROR 1\n", false), ("ERROR 1\n", true)] {
        let mut scene = Scene::forbidding();
        scene.log("");
        scene.look();
        scene.log("ERROR 1\n");
        scene.append("app.log.1", "");
        assert_eq!(scene.found().len(), 1);
        assert_eq!(scene.position.as_ref().unwrap().former.len(), 1);
        scene.append("app.log.1", copied);
        if truncated {
            scene.truncate();
        }
        for _ in 0..2 {
            assert!(scene.found().is_empty(), "{copied:?} {truncated}");
        }
    }
    // one that has nothing of the log in it was a file of its own
    let mut scene = Scene::forbidding();
    scene.log("");
    scene.look();
    scene.log("fine\n");
    scene.append("app.log.1", "");
    scene.look();
    scene.append("app.log.1", "ERROR\n");
    assert_eq!(scene.found().len(), 1);
}

#[test]
fn f53_files_are_found_by_the_names_that_they_have_come_to() {
    let mut scene = Scene::new();
    scene.rule.lines = 4;
    scene.rule.expect = vec![expect("tick", 1)];
    for text in ["tick\n", "1\n", "2\n"] {
        scene.log(text);
        let seen = scene.look();
        assert!(
            seen.notes.is_empty() && seen.findings.is_empty(),
            "{seen:?}"
        );
        scene.rotate();
        scene.look();
    }
    scene.log("3\n");
    let seen = scene.look();
    assert!(
        seen.notes.is_empty() && seen.findings.is_empty(),
        "{seen:?}"
    );
    scene.log("4\n");
    assert_eq!(scene.found().len(), 1);
}

#[test]
fn the_files_of_many_days_behind_one_link() {
    let mut scene = Scene::forbidding();
    for day in 1..=5 {
        fs::create_dir(scene.at(&format!("d{day}"))).unwrap();
    }
    let file = |day: usize| format!("d{day}/x.log");
    scene.append(&file(1), "fine\n");
    symlink(file(1), scene.at("app.log")).unwrap();
    scene.look();
    for day in 1..5 {
        scene.append(&file(day), "fine\n");
        assert!(scene.found().is_empty());
        if day == 3 {
            // from a backup
            let path = scene.at(&file(day));
            fs::copy(&path, scene.at("restored")).unwrap();
            fs::rename(scene.at("restored"), &path).unwrap();
            assert!(scene.found().is_empty());
        }
        scene.append(&file(day), "ERROR at the end of the day\n");
        scene.append(&file(day + 1), "fine\n");
        fs::remove_file(scene.at("app.log")).unwrap();
        symlink(file(day + 1), scene.at("app.log")).unwrap();
        let seen = scene.look();
        assert!(seen.notes.is_empty(), "{day}: {seen:?}");
        assert_eq!(seen.findings.len(), 1, "{day}: {seen:?}");
    }
}

#[test]
fn f55_an_empty_log_that_is_gone_may_have_had_lines() {
    let mut scene = Scene::forbidding();
    scene.log("");
    scene.look();
    // so that its inode is not used again at once
    fs::hard_link(scene.at("app.log"), scene.at("kept")).unwrap();
    fs::remove_file(scene.at("app.log")).unwrap();
    scene.log("fine\n");
    let seen = scene.look();
    assert!(seen.notes[0].contains("was not seen"), "{seen:?}");
}

#[test]
fn f57_half_a_line_in_a_restored_log() {
    for (more, found) in [("", 1), (" more", 0)] {
        let mut scene = Scene::forbidding();
        scene.log("fine\nERROR half");
        scene.look();
        fs::copy(scene.at("app.log"), scene.at("restored")).unwrap();
        fs::remove_file(scene.at("app.log")).unwrap();
        fs::rename(scene.at("restored"), scene.at("app.log")).unwrap();
        scene.log(more);
        let seen = scene.look();
        assert_eq!(seen.findings.len(), found, "{more:?} {seen:?}");
    }
}

#[test]
fn f54_a_mark_without_a_name_makes_no_stranger_a_copy() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.look();
    let here = &mut scene.position.as_mut().unwrap().here;
    here.path = PathBuf::new();
    here.ino = u64::MAX;
    scene.append("other.log", "fine\nERROR\n");
    scene.truncate();
    scene.log("begun\n");
    assert!(scene.found().is_empty());
}

#[test]
fn f53_a_file_as_old_as_the_one_that_was_marked_came_before_it() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.look();
    scene.append("app.log-20261121", "ERROR of the day before\n");
    let then = fs::metadata(scene.at("app.log")).unwrap();
    let file = File::open(scene.at("app.log-20261121")).unwrap();
    file.set_modified(then.modified().unwrap()).unwrap();
    fs::rename(scene.at("app.log"), scene.at("app.log-20261122")).unwrap();
    scene.log("fine\n");
    assert!(scene.found().is_empty());
}

#[test]
fn f54_a_copy_of_an_empty_log_that_was_written_is_not_read_beside_it() {
    let mut scene = Scene::forbidding();
    scene.log("");
    scene.look();
    scene.log("ERROR 1\n");
    scene.append("app.log.1", "ERROR 1\n");
    let found = scene.found();
    assert!(found[0].contains(": 1 new line "), "{found:?}");
    scene.truncate();
    assert!(scene.found().is_empty());
}

#[test]
fn the_last_lines_of_several_logs_stand_one_after_the_other() {
    let tail = |bytes: &[u8]| Tail {
        bytes: bytes.to_vec(),
    };
    assert!(Tail::default().lines().is_empty());
    for (first, second, lines) in [
        (&b""[..], &b""[..], &[][..]),
        (b"a\n\nb\xff\n", b"", &["a", "", "b\u{fffd}"]),
        (b"", b"c\n", &["c"]),
        (b"a\n", b"\nc\r\n", &["a", "", "c\r"]),
    ] {
        let mut both = tail(first);
        both.append(tail(second));
        assert_eq!(both.lines(), lines);
    }
}
