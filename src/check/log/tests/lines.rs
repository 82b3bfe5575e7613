//! Where lines end, and what is a part of them.

use super::*;

#[test]
fn f57_a_line_that_was_judged_unfinished_is_judged_again_when_it_has_an_end() {
    let mut scene = Scene::forbidding();
    scene.rule.forbid = vec![forbid("FAILED"), forbid("connecting"), forbid("^$")];
    scene.log("begun\n");
    scene.look();
    scene.log("db: ");
    for _ in 0..3 {
        assert!(scene.found().is_empty());
    }
    scene.log("connecting ... ");
    assert!(scene.found().is_empty(), "it grew");
    assert!(scene.found()[0].contains("1 new line matches `connecting`"));
    assert!(scene.found().is_empty(), "once");
    scene.log("still ... ");
    for _ in 0..3 {
        assert!(scene.found().is_empty(), "it has counted");
    }
    scene.log("FAILED\n");
    let found = scene.found();
    assert_eq!(
        found,
        [
            "logs/app.log: 1 new line matches `FAILED` (limit 0), the first: db: connecting ... still ... FAILED"
        ]
    );
    assert!(scene.found().is_empty());
    scene.log("connecting\n");
    assert_eq!(scene.found().len(), 1, "another line");
}

#[test]
fn a_carriage_return_ends_a_line_as_a_line_feed_does() {
    // what a program writes between two runs, and how many lines match
    let long =
        "frame=  100 fps=15 q=-1.0 size=  1024kB time=00:00:10.00 speed=1x    \r".repeat(1000);
    for writes in [
        &[
            ("frame= 1\rframe= 2\r", 0),
            ("ERROR\r", 1),
            ("ERROR", 0),
            ("\r", 1),
        ][..],
        // CR LF once, in one write or in two
        &[
            ("ERROR\r\nx\r\nERROR\r\n", 2),
            ("ERROR\r", 1),
            ("\n", 0),
            ("\n^\n", 0),
            ("x\rERROR\n", 1),
        ],
        &[
            ("ERR", 0),
            ("OR\r", 1),
            ("\nERROR\r", 1),
            ("\n\rERROR\r", 1),
        ],
        // an error behind seventy kilobytes of statistics
        &[
            (long.as_str(), 0),
            ("tcp: ERROR, connection timed out\n", 1),
        ],
        &[("10%\r20%\r30%", 0), ("", 0), ("", 0), (" ERROR\r", 1)],
    ] {
        let mut scene = Scene::forbidding();
        scene.rule.forbid = vec![forbid("^(tcp: |30% )?ERROR")];
        scene.log("begun\n");
        scene.look();
        for (text, expected) in writes {
            scene.log(text);
            let seen = scene.look();
            assert!(seen.notes.is_empty(), "{seen:?}");
            let count = sentences(&seen).first().map_or(0, |found| {
                let count = found.split(": ").nth(1).unwrap();
                count.split(' ').next().unwrap().parse::<u64>().unwrap()
            });
            assert_eq!(count, *expected, "{writes:?} {text:?}");
        }
    }
}

#[test]
fn expect_and_the_shown_lines_end_at_carriage_returns() {
    let mut scene = Scene::new();
    scene.rule.lines = 3;
    scene.rule.expect = vec![expect("^frame=", 2)];
    scene.log("ffmpeg version 6\nframe=   15 fps=15\rframe=   30 fps=15\r");
    let seen = scene.look();
    assert!(seen.findings.is_empty(), "{seen:?}");
    assert_eq!(
        seen.tail.lines(),
        [
            "ffmpeg version 6",
            "frame=   15 fps=15",
            "frame=   30 fps=15"
        ]
    );
    scene.log("\nx\r\nx\r\n");
    assert_eq!(
        scene.found(),
        ["logs/app.log: 1 of the last 3 lines match `^frame=` (2 needed)"]
    );
}

#[test]
fn f58_sequences_for_terminals_are_no_part_of_a_line() {
    let mut scene = stamped();
    scene.rule.stamp.as_mut().unwrap().after = "- ".to_owned();
    scene.rule.forbid = vec![forbid("^ERROR"), forbid(r"\[ERROR\]")];
    scene.rule.expect = vec![expect("INFO\\] connected", 1)];
    scene.rule.expect[0].pattern = Pattern::new(r"INFO\] connected").unwrap();
    scene.log("begun\n");
    scene.look();
    let now = scene.now.format("%Y-%m-%d %H:%M:%S");
    scene.log(format!(
        "\x1b[31mERROR\x1b[0m one\n[\x1b[1;31mERROR\x1b[0m] two\n[\x1b[32mINFO\x1b(B\x1b[m] connected\n\x1b[32m[Nest] 7  - \x1b[39m{now}\x1b[0m tick\n"
    ));
    let seen = scene.look();
    assert_eq!(
        sentences(&seen),
        [
            "logs/app.log: 1 new line matches `^ERROR` (limit 0), the first: ERROR one".to_owned(),
            r"logs/app.log: 1 new line matches `\[ERROR\]` (limit 0), the first: [ERROR] two"
                .to_owned(),
        ]
    );
    let shown = seen.tail.lines();
    assert_eq!(
        shown[1..4],
        ["ERROR one", "[ERROR] two", "[INFO] connected"]
    );
    assert_eq!(shown[4], format!("[Nest] 7  - {now} tick"));
}

/// A text in UTF-16, the low byte first.
fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_log_in_utf_16_is_read_as_text() {
    let mut scene = stamped();
    scene.rule.lines = 3;
    scene.rule.expect = vec![expect("Position", 1)];
    scene.rule.forbid = vec![forbid("^[-0-9: ]+ No money$")];
    let stamped = |scene: &Scene, text: &str| wide(line(scene, text).trim_end());
    let mut first = wide("\u{feff}");
    first.extend(stamped(&scene, "Position 1"));
    first.extend(wide("\r\n"));
    scene.log(&first);
    assert!(scene.found().is_empty());
    // half a unit, half a character, half a line end
    let mut bytes = stamped(&scene, "No money");
    bytes.extend(wide("\r\n"));
    bytes.extend(stamped(&scene, "Position \u{1f600} \u{a0a}\r\n"));
    for (at, _) in bytes.iter().enumerate() {
        let mut scene = stamped_copy(&scene);
        let (before, after) = bytes.split_at(at);
        scene.log(before);
        let mut found = scene.found();
        scene.log(after);
        found.extend(scene.found());
        assert_eq!(found.len(), 1, "{at} {found:?}");
        assert!(found[0].contains("1 new line matches"), "{at} {found:?}");
        assert!(found[0].ends_with(" No money"), "{at} {found:?}");
        let shown = scene.look().tail.lines();
        assert!(
            shown[2].ends_with("Position \u{1f600} \u{a0a}"),
            "{shown:?}"
        );
        assert_eq!(shown.len(), 3);
    }
    // the new file after a copy has no mark, and one that was renamed has one of its own
    scene.copytruncate();
    scene.log(&bytes);
    assert_eq!(scene.found().len(), 1);
    scene.truncate();
    assert!(scene.found().is_empty());
    scene.log(&bytes);
    assert_eq!(scene.found().len(), 1);
    scene.log(wide("No money\r\n2026-11-22 12:00:00 No money\r\n"));
    scene.rotate();
    scene.log([first, wide("2026-11-22 12:00:00 No money\r\n")].concat());
    assert!(scene.found()[0].contains(": 2 new lines"));
    // and a program that writes bytes from now on is read as that
    scene.rotate();
    scene.log("2026-11-22 12:00:00 No money\n");
    assert!(scene.found()[0].contains(": 1 new line "));
}

/// The same log in another directory, seen once.
fn stamped_copy(scene: &Scene) -> Scene {
    let mut copy = stamped();
    copy.rule = Rule {
        path: copy.at("app.log"),
        ..scene.rule.clone()
    };
    copy.log(fs::read(scene.at("app.log")).unwrap());
    assert!(copy.found().is_empty());
    copy
}
