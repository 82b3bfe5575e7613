//! A pattern of the config: searched in bytes, in linear time, with a bound on its compiled size.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

/// The compiled size, in bytes, above which a pattern is refused: a hundred ordinary alternations fit.
const COMPILED_LIMIT: usize = 1 << 20;

/// A compiled regular expression together with the text it came from.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles `source`. Classes such as `\d` and `\w` are ASCII, `.` is any byte: logs are not always UTF-8.
    ///
    /// The error is a sentence about the pattern alone; its place is the caller's to add.
    pub fn new(source: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(source)
            .unicode(false)
            .size_limit(COMPILED_LIMIT)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => {
                    "this pattern is too large once compiled; use smaller repetition counts"
                        .to_owned()
                }
                // the last line of the crate's message is the reason; the lines above draw the pattern again
                error => error.to_string().lines().last().map_or_else(
                    || "not a valid pattern".to_owned(),
                    |line| line.trim_start_matches("error: ").to_owned(),
                ),
            })?;
        Ok(Self {
            source: source.to_owned(),
            regex,
        })
    }

    /// Whether the pattern matches anywhere in `bytes`.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.regex.is_match(bytes)
    }

    /// The pattern as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_bytes_that_are_not_utf8() {
        let pattern = Pattern::new("fo+ .*bar").unwrap();
        assert!(pattern.matches(b"\x00\xff foo \xfe\x00 bar"));
        assert!(
            Pattern::new("\u{fc}bung")
                .unwrap()
                .matches("die \u{fc}bung".as_bytes())
        );
    }

    #[test]
    fn f62_a_bomb_is_refused_when_loaded_and_the_rest_is_linear() {
        let error = Pattern::new(r"((a{1000}){1000}){1000}").unwrap_err();
        assert!(error.contains("too large"), "{error}");
        let evil = Pattern::new("(a*)*b").unwrap();
        assert!(!evil.matches(&vec![b'a'; 100_000]));
    }

    #[test]
    fn says_what_is_wrong_in_one_line() {
        let error = Pattern::new("a(b").unwrap_err();
        assert_eq!(error, "unclosed group");
        let error = Pattern::new("a**(?P<x>").unwrap_err();
        assert!(!error.contains('\n') && !error.is_empty(), "{error}");
    }
}
