//! No sentence that the program can say is without a test: read off its source, and held against what the tests say.
//!
//! What the tests say is in their strings and in the files of [`crate::situations`].
//!
//! A sentence is a string with two words in a row. Of each, the longest piece between two placeholders counts: four
//! words in a row of it (all of it, where it is shorter) have to stand in some string of a test. That does not tell
//! that the test produces it, only that somebody thought of it there; a sentence that nobody thought of is found.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::layers::sources;

/// So many words in a row tell one sentence from the others.
const WORDS: usize = 4;

/// Files with prose and scripts for others to read, held by tests of their own.
const OTHER_PROSE: [&str; 3] = [
    "src/commands/man.rs",
    "src/commands/completions.rs",
    "src/config/keys.rs",
];

/// Strings that are never said, with the reason that they are there.
const NEVER_SAID: [(&str, &str); 7] = [
    (
        "the libc crate has no calls that take ids of 32 bits here",
        "said by the compiler",
    ),
    ("watchdog check --config {file}", "held against patterns"),
    (
        "unclosed array",
        "what the TOML parser says, to be worded anew",
    ),
    ("unclosed inline table", "likewise"),
    ("duplicate key", "likewise"),
    (", expected literal string", "likewise, cut off"),
    (", expected nothing", "likewise, cut off"),
];

/// A string in a source.
struct Literal {
    line: usize,
    text: String,
}

/// The strings of a source, with what stands for a line end, a tab or a quote made that, and comments and reasons for
/// the compiler left out.
fn literals(source: &str) -> Vec<Literal> {
    let token = Regex::new(
        r##"(?s)//[^\n]*|br?"(?:\\.|[^"\\])*"|r#"(?P<hashes>.*?)"#|r"(?P<raw>[^"]*)"|"(?P<text>(?:\\.|[^"\\])*)"|'(?:\\u\{[^}]*\}|\\.|[^'\\])'"##,
    )
    .unwrap();
    let continued = Regex::new(r"\\\n\s*").unwrap();
    token
        .captures_iter(source)
        .filter_map(|found| {
            let at = found.get(0)?.start();
            let text = match found.name("text") {
                Some(text) => continued
                    .replace_all(text.as_str(), "")
                    .replace("\\n", " ")
                    .replace("\\t", " ")
                    .replace("\\\"", "\"")
                    .replace("\\\\", "\\"),
                None => found
                    .name("hashes")
                    .or(found.name("raw"))?
                    .as_str()
                    .to_owned(),
            };
            let before = source[..at].trim_end();
            (!before.ends_with("reason =") && !before.ends_with("debug_assert!(written.is_ok(),"))
                .then(|| Literal {
                    line: source[..at].matches('\n').count() + 1,
                    text,
                })
        })
        .collect()
}

/// Words with single spaces between.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words of a sentence by which a test can be known to be about it; none of what is no sentence.
fn telling(text: &str) -> Option<Vec<String>> {
    let placeholder = Regex::new(r"\{\{|\}\}|\{[^{}]*\}").unwrap();
    let two_words = Regex::new("[A-Za-z]{2} [a-z(`]|[a-z] [A-Za-z]{2}").unwrap();
    if !two_words.is_match(&flat(&placeholder.replace_all(text, ""))) {
        return None;
    }
    placeholder
        .split(text)
        .map(|piece| {
            piece
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .max_by_key(Vec::len)
}

#[test]
fn every_sentence_stands_in_a_test() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut said, mut tested) = (Vec::new(), String::new());
    let mut in_tests = |source: &str| {
        for literal in literals(source) {
            tested.push_str(&flat(&literal.text));
            tested.push('\n');
        }
    };
    for path in sources(&top.join("src")) {
        let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        let source = fs::read_to_string(&path).unwrap();
        if name.contains("/tests/") || name.ends_with("/tests.rs") || name == "src/fixtures.rs" {
            in_tests(&source);
        } else if let Some((program, tests)) = source.split_once("#[cfg(test)]\nmod tests {") {
            in_tests(tests);
            said.push((name, program.to_owned()));
        } else {
            said.push((name, source));
        }
    }
    for path in sources(&top.join("tests")) {
        if !path.ends_with("wording.rs") {
            in_tests(&fs::read_to_string(path).unwrap());
        }
    }
    let faults = fs::read_to_string(top.join("src/config/tests/faults.txt")).unwrap();
    tested.push_str(&flat(&faults));
    for entry in fs::read_dir(top.join("tests/it/golden")).unwrap() {
        let said = fs::read_to_string(entry.unwrap().path()).unwrap();
        tested.push_str(&flat(&said));
        tested.push('\n');
    }

    let (mut sentences, mut without) = (0, Vec::new());
    for (name, source) in &said {
        if OTHER_PROSE.contains(&name.as_str()) {
            continue;
        }
        for Literal { line, text } in literals(source) {
            let never = NEVER_SAID.iter().any(|(never, _)| *never == text);
            let Some(words) = telling(&text).filter(|_| !never) else {
                continue;
            };
            sentences += 1;
            let stands = words
                .windows(WORDS.min(words.len()))
                .any(|words| tested.contains(&words.join(" ")));
            if !stands {
                without.push(format!("{name}:{line}: {}", flat(&text)));
            }
        }
    }
    assert!(sentences > 500, "{sentences} sentences were found");
    assert!(
        without.is_empty(),
        "{} of {sentences} sentences stand in no test; produce each in one, or remove what cannot be:\n{}",
        without.len(),
        without.join("\n")
    );
}
