//! Ages by stamps: what is read, what cannot be, and what is meant by a stamp that is not whole.

use super::*;

#[test]
fn a_log_without_any_stamp_is_told_and_as_old_as_its_last_write() {
    let mut scene = stamped();
    scene.log("");
    assert!(scene.found().is_empty(), "it has no line yet");
    scene.log("just begun\n");
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_unstamped", Severity::Warning));
    assert_eq!(
        sentences(&seen),
        [
            "logs/app.log: its last line has no stamp that `%Y-%m-%d %H:%M:%S` can read; its age is that of the last write (the last line: just begun)"
        ]
    );
    scene.log("none\n".repeat(200));
    scene.pass(200);
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_unstamped", Severity::Warning));
    assert!(
        sentences(&seen)[0].contains("none of the last 100 lines has a stamp"),
        "{seen:?}"
    );
    scene.pass(200);
    let frozen = [
        ("log_unstamped".to_owned(), Severity::Warning),
        ("log_stale".to_owned(), Severity::Critical),
    ];
    assert_eq!(scene.codes(), frozen);
    // ages are not judged after a jump of the clock, and what can be read is no age
    scene.jumped_at = Some(scene.now);
    assert_eq!(scene.codes(), one("log_unstamped", Severity::Warning));
    scene.rule.max_age = None;
    assert!(scene.found().is_empty());

    let mut scene = stamped();
    scene.log("");
    scene.pass(400);
    assert_eq!(scene.codes(), one("log_stale", Severity::Critical));
}

#[test]
fn a_program_whose_stamps_change_is_not_restarted() {
    let mut scene = stamped();
    let tick = line(&scene, "tick");
    scene.log(tick);
    assert!(scene.found().is_empty());
    for _ in 0..20 {
        scene.pass(60);
        scene.log("26-Sept-2026 12:00:00 tick\n".repeat(100));
        assert_eq!(scene.codes(), one("log_unstamped", Severity::Warning));
        assert!(scene.position.as_ref().unwrap().unstamped_since.is_some());
    }
    let tick = line(&scene, "tick");
    scene.log(tick);
    assert!(scene.found().is_empty());
    assert_eq!(scene.position.as_ref().unwrap().unstamped_since, None);
}

#[test]
fn lines_that_a_text_in_the_format_passes_over_do_not_hide_the_age() {
    for kept in [true, false] {
        let mut scene = stamped();
        scene.rule.stamp.as_mut().unwrap().format = "[%H:%M:%S] Imported".to_owned();
        let line = |scene: &Scene, text: &str| format!("[{}] {text}\n", scene.now.format("%T"));
        let first = line(&scene, "Imported new chain segment");
        scene.log(first);
        assert!(scene.found().is_empty());
        for seconds in (60..=420).step_by(60) {
            scene.pass(60 - 1);
            let others = line(&scene, "Looking for peers").repeat(150);
            scene.log(others);
            if !kept {
                // all that is left of the first one is what is remembered
                scene.truncate();
                scene.log("Begun\n");
                let others = line(&scene, "Looking for peers").repeat(150);
                scene.log(others);
                scene.pass(-3);
            }
            let found = scene.found();
            assert_eq!(
                found.len(),
                usize::from(seconds >= 300),
                "{seconds} {found:?}"
            );
            assert!(
                found
                    .iter()
                    .all(|text| text.contains("the newest stamped line"))
            );
        }
    }
    // where none was ever seen, nothing is known
    let mut scene = stamped();
    scene.rule.stamp.as_mut().unwrap().format = "%H:%M:%S Imported".to_owned();
    let other = format!("{} Looking for peers\n", scene.now.format("%T"));
    scene.log(other.repeat(150));
    assert_eq!(scene.codes(), one("log_unstamped", Severity::Warning));
}

#[test]
fn a_stamp_without_a_date_is_held_against_the_file_that_its_line_is_in() {
    let mut scene = stamped();
    scene.rule.stamp.as_mut().unwrap().format = "[%H:%M:%S]".to_owned();
    let tick = format!("[{}] tick\n", scene.now.format("%T"));
    scene.log(tick);
    scene.pass(2 * 86_400);
    assert_eq!(
        scene.found(),
        ["logs/app.log: the newest stamped line is 2d old (limit 5m)"]
    );
    // a new file with a banner does not make the old one's lines new
    scene.rotate();
    scene.log("begun\n");
    assert!(scene.found()[0].contains("is 2d old"));
}
