//! Patterns against lines: how many match, and which was the first.
//!
//! Each pattern is asked about each line by itself. Joining them into one, or asking about many lines at once,
//! is faster and subtly different (`\s` crosses lines, `^` means something else); the bound on what is read
//! keeps the plain way fast enough.

use super::{Expect, Forbid};
use crate::text::visible;

/// Of a line that is shown, so many bytes.
const SHOWN: usize = 200;

/// What one `forbid` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// How many lines.
    pub(super) count: u64,
    /// The first of them, fit to be shown.
    pub(super) first: String,
}

/// The count over all that is new.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    forbid: &'a [Forbid],
    /// In the order of `forbid`.
    pub(super) hits: Vec<Hits>,
    /// Lines that were longer than what is searched of a line.
    pub(super) cut: u64,
}

impl<'a> Tally<'a> {
    pub(super) fn new(forbid: &'a [Forbid]) -> Self {
        Self {
            forbid,
            hits: vec![Hits::default(); forbid.len()],
            cut: 0,
        }
    }

    /// Judges one line. `before` are the patterns that matched it when it was unfinished: they have counted it.
    pub(super) fn line(&mut self, line: &[u8], cut: bool, before: &[String]) {
        self.cut += u64::from(cut);
        for (forbid, hits) in self.forbid.iter().zip(&mut self.hits) {
            if forbid.matches(line) && !before.iter().any(|known| known == forbid.pattern.source())
            {
                if hits.count == 0 {
                    hits.first = excerpt(line);
                }
                hits.count += 1;
            }
        }
    }

    /// Judges a line that has no end yet: the patterns that have matched it by now.
    pub(super) fn unfinished(&mut self, line: &[u8], before: &[String]) -> Vec<String> {
        self.line(line, false, before);
        let mut matched = before.to_vec();
        for forbid in self.forbid {
            let source = forbid.pattern.source();
            if forbid.matches(line) && !matched.iter().any(|known| known == source) {
                matched.push(source.to_owned());
            }
        }
        matched
    }

    /// Those that matched more often than they may.
    pub(super) fn beyond(&self) -> impl Iterator<Item = (&Forbid, &Hits)> {
        self.forbid
            .iter()
            .zip(&self.hits)
            .filter(|(forbid, hits)| hits.count > forbid.at_most)
    }
}

/// Those of `expect` that match too few of the lines, each with how many it matches.
pub(super) fn missed<'a>(
    expect: &'a [Expect],
    lines: impl Iterator<Item = &'a [u8]> + Clone,
) -> impl Iterator<Item = (&'a Expect, u64)> {
    expect.iter().filter_map(move |expect| {
        let needed = usize::try_from(expect.at_least).unwrap_or(usize::MAX);
        let found = lines
            .clone()
            .filter(|line| expect.matches(line))
            .take(needed)
            .count();
        (found < needed).then_some((expect, found as u64))
    })
}

/// The beginning of a line, fit for a sentence: what steers a terminal or is not seen, as escapes.
pub(super) fn excerpt(line: &[u8]) -> String {
    let shown = shorten(line, SHOWN);
    let mut text = visible(&String::from_utf8_lossy(shown));
    if shown.len() < line.len() {
        text.push('…');
    }
    text
}

/// At most `limit` bytes of a line, and no part of a character at the end.
pub(super) fn shorten(line: &[u8], limit: usize) -> &[u8] {
    let mut end = line.len().min(limit);
    if end < line.len() {
        // a character has three bytes of continuation at most; other bytes are no characters anyway
        let begins = |at: &usize| line[*at] & 0xc0 != 0x80;
        end = (end.saturating_sub(3)..=end)
            .rev()
            .find(begins)
            .unwrap_or(end);
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::pattern::Pattern;

    fn forbid(pattern: &str, at_most: u64) -> Forbid {
        Forbid {
            pattern: Pattern::new(pattern).unwrap(),
            at_most,
            except: Vec::new(),
        }
    }

    #[test]
    fn counts_each_pattern_by_itself_and_keeps_the_first_line() {
        let rules = [forbid("ERROR", 1), forbid("^WARN", 0), forbid("never", 0)];
        let mut tally = Tally::new(&rules);
        for line in ["ERROR one", "WARN ERROR two", "fine", "ERROR three"] {
            tally.line(line.as_bytes(), false, &[]);
        }
        let beyond: Vec<_> = tally
            .beyond()
            .map(|(f, h)| (f.pattern.source(), h.count, h.first.as_str()))
            .collect();
        assert_eq!(
            beyond,
            [("ERROR", 3, "ERROR one"), ("^WARN", 1, "WARN ERROR two")]
        );
    }

    #[test]
    fn a_line_counts_once_for_each_pattern_however_often_it_is_judged() {
        let rules = [forbid("ERR", 0), forbid("OR$", 0)];
        let mut tally = Tally::new(&rules);
        let mut counts = |line: &str, before: &[&str], finished: bool| {
            let before: Vec<String> = before.iter().map(ToString::to_string).collect();
            let matched = if finished {
                tally.line(line.as_bytes(), false, &before);
                Vec::new()
            } else {
                tally.unfinished(line.as_bytes(), &before)
            };
            (tally.hits[0].count, tally.hits[1].count, matched.join(" "))
        };
        assert_eq!(counts("ER", &[], false), (0, 0, String::new()));
        assert_eq!(counts("ERR", &[], false), (1, 0, "ERR".to_owned()));
        assert_eq!(counts("ERRO", &["ERR"], false), (1, 0, "ERR".to_owned()));
        assert_eq!(counts("ERROR", &["ERR"], true), (1, 1, String::new()));
        assert_eq!(counts("ERROR", &[], true), (2, 2, String::new()));
    }

    #[test]
    fn what_an_exception_matches_does_not_count() {
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let rule = Forbid {
            except: vec![pattern("ERROR: retrying"), pattern("^test")],
            ..forbid("ERROR", 0)
        };
        let expect = Expect {
            pattern: rule.pattern.clone(),
            at_least: 1,
            except: rule.except.clone(),
        };
        for (line, counts) in [
            ("ERROR: full", true),
            ("ERROR: retrying", false),
            ("test: ERROR", false),
            ("a test: ERROR", true),
            ("retrying", false),
        ] {
            assert_eq!(rule.matches(line.as_bytes()), counts, "{line}");
            assert_eq!(expect.matches(line.as_bytes()), counts, "{line}");
        }
    }

    #[test]
    fn missed_says_how_many_there_were() {
        let expect = |pattern: &str, at_least| Expect {
            pattern: Pattern::new(pattern).unwrap(),
            at_least,
            except: Vec::new(),
        };
        let rules = [expect("tick", 3), expect("tick", 2), expect("VIX", 1)];
        let lines: [&[u8]; 3] = [b"tick", b"tock", b"tick"];
        let missed: Vec<_> = missed(&rules, lines.into_iter())
            .map(|(e, n)| (e.pattern.source(), e.at_least, n))
            .collect();
        assert_eq!(missed, [("tick", 3, 2), ("VIX", 1, 0)]);
    }

    #[test]
    fn an_excerpt_is_short_and_harmless() {
        assert_eq!(
            excerpt(b"\x1b[31mred\x00 \xff"),
            "\\x1b[31mred\\x00 \u{fffd}"
        );
        assert_eq!(excerpt("\u{202e}abc".as_bytes()), "\\u{202e}abc");
        // as do marks without a width and line separators
        assert_eq!(
            excerpt("a\u{200b}b\u{2028}c\u{feff}\u{e0041}".as_bytes()),
            "a\\u{200b}b\\u{2028}c\\u{feff}\\u{e0041}"
        );
        let long = "\u{20ac}".repeat(100);
        let shown = excerpt(long.as_bytes());
        assert_eq!(shown, format!("{}…", "\u{20ac}".repeat(66)));
        assert_eq!(shorten(&[0x80; 10], 5), &[0x80; 5]);
    }
}
