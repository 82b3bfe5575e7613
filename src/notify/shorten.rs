//! Texts that are cut to the limits of those who show them: what was quoted goes first.

use std::ops::Range;

use super::sentences::LISTS;
use crate::text::visible;

/// What stands at the end of a text that was shortened.
const SHORTENED: &str = "\n[shortened]";

/// A text of a notification that has so many units at most, as `measure` counts each character: what was quoted goes first,
/// the oldest lines before the last ones, each time with a note.
pub(super) fn fitted(text: &str, limit: usize, measure: fn(char) -> usize) -> String {
    let length = |line: &str| line.chars().map(measure).sum::<usize>() + measure('\n');
    // there is no line feed behind the last line
    let kept = without_quoted(text.lines(), limit + measure('\n'), length);
    shortened(&kept.join("\n"), limit, measure)
}

/// The lines of a text without so many of those that were quoted that all of it has so many units at most, where that can be.
/// First go lines of logs and errors, then what was found.
pub(super) fn without_quoted<'a>(
    lines: impl Iterator<Item = &'a str>,
    limit: usize,
    length: impl Fn(&str) -> usize,
) -> Vec<&'a str> {
    let lines: Vec<&str> = lines.collect();
    let mut used: usize = lines.iter().map(|line| length(line)).sum();
    if used <= limit {
        return lines;
    }
    let mut quotes = quotes(&lines);
    for is_log in [true, false] {
        while used > limit {
            // of the longest there is most to spare
            let longest = (quotes.iter_mut())
                .filter(|quote| quote.is_log == is_log && !quote.kept.is_empty())
                .max_by_key(|quote| {
                    quote
                        .kept
                        .clone()
                        .map(|at| length(lines[at]))
                        .sum::<usize>()
                });
            let Some(quote) = longest else {
                break;
            };
            if quote.is_whole() {
                used += length(quote.note());
            }
            // of a log the last lines say most, of findings the first
            let dropped = if is_log {
                quote.kept.next()
            } else {
                quote.kept.next_back()
            };
            used -= dropped.map_or(0, |at| length(lines[at]));
        }
    }
    let mut kept = Vec::with_capacity(lines.len());
    let mut next = 0;
    for quote in &quotes {
        kept.extend_from_slice(&lines[next..quote.all.start]);
        let of_it = lines[quote.kept.clone()].iter().copied();
        let note = (!quote.is_whole()).then(|| quote.note());
        if quote.is_log {
            kept.extend(note.into_iter().chain(of_it));
        } else {
            kept.extend(of_it.chain(note));
        }
        next = quote.all.end;
    }
    kept.extend_from_slice(&lines[next..]);
    kept
}

/// Lines of a text that were quoted one after the other.
#[derive(Debug)]
struct Quote {
    all: Range<usize>,
    kept: Range<usize>,
    /// Of a log or of standard error; else findings.
    is_log: bool,
}

impl Quote {
    fn is_whole(&self) -> bool {
        self.all == self.kept
    }

    fn note(&self) -> &'static str {
        if self.is_log {
            "> [shortened]"
        } else {
            "- [shortened]"
        }
    }
}

fn quotes(lines: &[&str]) -> Vec<Quote> {
    let mut quotes: Vec<Quote> = Vec::new();
    let mut is_list = false;
    for (at, line) in lines.iter().enumerate() {
        let is_log = *line == ">" || line.starts_with("> ");
        is_list =
            LISTS.contains(line) || is_list && (line.starts_with("- ") || line.starts_with("  "));
        if !is_log && (!is_list || LISTS.contains(line)) {
            continue;
        }
        match quotes.last_mut() {
            Some(last) if last.all.end == at && last.is_log == is_log => {
                last.all.end = at + 1;
                last.kept.end = at + 1;
            }
            _ => quotes.push(Quote {
                all: at..at + 1,
                kept: at..at + 1,
                is_log,
            }),
        }
    }
    quotes
}

/// The beginning of a text that has so many units at most, as `measure` counts each character, with a note where it was
/// shortened. Whole lines are kept where that costs little.
pub(super) fn shortened(text: &str, limit: usize, measure: fn(char) -> usize) -> String {
    let length = |text: &str| -> usize { text.chars().map(measure).sum() };
    if length(text) <= limit {
        return text.to_owned();
    }
    let space = limit.saturating_sub(length(SHORTENED));
    let mut used = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        used += measure(c);
        if used > space {
            break;
        }
        end = at + c.len_utf8();
    }
    let kept = &text[..end];
    let kept = match kept.rfind('\n') {
        Some(line) if line > kept.len() / 2 => &kept[..line],
        _ => kept,
    };
    if space == 0 {
        return String::new();
    }
    format!("{}{SHORTENED}", kept.trim_end())
}

/// One line of so many units at most.
pub(super) fn line(text: &str, limit: usize, measure: fn(char) -> usize) -> String {
    let text = visible(text);
    let whole: usize = text.chars().map(measure).sum();
    if whole <= limit {
        return text;
    }
    let mut used = measure('…');
    let fits = |c: &char| {
        used += measure(*c);
        used <= limit
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    kept.push('…');
    kept
}

/// Bytes of UTF-8.
pub(super) fn bytes(c: char) -> usize {
    c.len_utf8()
}

/// Units of UTF-16, which are never fewer than characters.
pub(super) fn units(c: char) -> usize {
    c.len_utf16()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_quoted_goes_first_and_the_oldest_of_it() {
        let long = |name: &str| format!("{name} {}", "x".repeat(40));
        let text = &format!(
            "broken\n\nSeen:\n- {}\n  more\n- {}\nThe last lines of its standard error:\n> {}\n> {}\n\n\
             Restarts: 3 of 3\n\nLast log lines:\n> {}\n> {}\n> {}\n\nTo look at it:\n  watchdog status a",
            long("one"),
            long("two"),
            long("e1"),
            long("e2"),
            long("l1"),
            long("l2"),
            long("l3"),
        );
        let whole = text.len();
        for (limit, has, lacks) in [
            (whole, &["> e1", "> l1", "- two"][..], &["[shortened]"][..]),
            (
                whole - 1,
                &["> e1", "lines:\n> [shortened]\n> l2", "> l3"],
                &["> l1"],
            ),
            (
                whole - 100,
                &["error:\n> [shortened]\n> e2", "> [shortened]\n> l3"],
                &["> l2", "> e1"],
            ),
            (
                whole - 200,
                &["> [shortened]\n\nTo look at it", "- one", "- two"],
                &["> l3", "> e2"],
            ),
            (
                whole - 220,
                &["  more\n- [shortened]\n"],
                &["> e2", "- two"],
            ),
            (whole - 265, &["Seen:\n- [shortened]\n"], &["one"]),
        ] {
            let shown = fitted(text, limit, bytes);
            assert!(shown.len() <= limit, "{limit}: {shown}");
            for part in has
                .iter()
                .chain(&["Restarts: 3 of 3", "  watchdog status a"])
            {
                assert!(shown.contains(part), "{limit} {part}: {shown}");
            }
            for part in lacks {
                assert!(!shown.contains(part), "{limit} {part}: {shown}");
            }
        }
        assert!(fitted(text, 40, bytes).ends_with("[shortened]"));
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(shortened("abc", 3, bytes), "abc");
        assert_eq!(
            shortened("one two\nthree four five six", 24, bytes),
            "one two\n[shortened]"
        );
        assert_eq!(line("ab\ncd", 20, units), "ab\\x0acd");
        assert_eq!(line("abcdef", 4, units), "abc…");
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_its_limit(text in "(?s).{0,200}", limit in 0_usize..250) {
            for measure in [bytes as fn(char) -> usize, units] {
                let length = |text: &str| -> usize { text.chars().map(measure).sum() };
                prop_assert!(length(&shortened(&text, limit, measure)) <= limit);
                prop_assert!(length(&line(&text, limit.max(4), measure)) <= limit.max(4));
                prop_assert!(length(&fitted(&text, limit, measure)) <= limit);
            }
        }
    }
}
