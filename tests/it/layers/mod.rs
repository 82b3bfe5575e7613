//! The rooms of the crate know only rooms below them: read off the paths that their files name.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the lowest to the highest; those in one row do not know each other.
const LAYERS: &[&[&str]] = &[
    &["text", "clock", "files", "sys", "verdict", "pool"],
    &["world", "child"],
    &["systemctl"],
    &["check"],
    &["restart"],
    &["notify"],
    &["config", "memory"],
    &["observe", "decide"],
    &["settle", "progress"],
    &["act", "report"],
    &["deliver", "cli", "logging", "error"],
    &["commands"],
    &["lib", "main"],
];

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// The sources in a folder and below it.
pub(crate) fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The files of `src` with the room that each belongs to, its tests left out.
fn rooms() -> Vec<(String, PathBuf, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&top)
        .into_iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"))
        .filter(|path| !path.ends_with("tests.rs") && !path.ends_with("fixtures.rs"))
        .map(|path| {
            let inside = path.strip_prefix(&top).unwrap();
            let first = inside.iter().next().unwrap().to_str().unwrap();
            let room = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let text = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap()
                .to_owned();
            (room, path, text)
        })
        .collect()
}

/// The rooms that a text names after `crate::`, also in lists in braces.
fn named(text: &str) -> Vec<String> {
    text.match_indices("crate::")
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, found)| {
            text[at + found.len()..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect()
        })
        .filter(|room: &String| !room.is_empty())
        .collect()
}

#[test]
fn every_room_knows_only_rooms_below_it() {
    let mut seen = 0;
    for (room, path, text) in rooms() {
        let here = layer(&room).unwrap_or_else(|| panic!("{} stands in no layer", path.display()));
        for other in named(&text) {
            seen += 1;
            let there =
                layer(&other).unwrap_or_else(|| panic!("{}: what is {other}?", path.display()));
            assert!(
                other == room || there < here,
                "{} is of the room `{room}`, and knows `{other}` above or beside it",
                path.display()
            );
        }
    }
    assert!(
        seen > 100,
        "only {seen} paths were found: the test reads nothing"
    );
}

#[test]
fn the_policy_touches_nothing() {
    for (room, path, text) in rooms() {
        if ["decide", "settle", "verdict"].contains(&room.as_str()) {
            for banned in [
                "std::fs",
                "std::process",
                "std::thread",
                "std::net",
                "nix::",
                "Utc::now",
                "Instant",
            ] {
                assert!(!text.contains(banned), "{} names {banned}", path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_has_one_room() {
    for (room, path, text) in rooms() {
        for token in ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"] {
            assert!(
                room == "sys" || !text.contains(token),
                "{} has `{token}`",
                path.display()
            );
        }
    }
}

#[test]
fn nobody_exits_but_main() {
    for (_, path, text) in rooms() {
        assert!(!text.contains("process::exit"), "{} exits", path.display());
    }
}
