//! A pattern of the config: searched in bytes, in linear time, with a bound on its compiled size.
//!
//! To compile an expression costs more than to search a log with it: 32 % of all instructions of a run over a hundred
//! services went there. So one is compiled when it is first needed, and most never are: a text without special
//! characters, or a choice between a few, is searched for as it stands, and where an expression cannot match without
//! some text, that is searched for first. What is right and what is too large is known when the config is read all the
//! same.

use std::fmt;
use std::sync::{Arc, OnceLock};

use memchr::memchr_iter;
use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::process_table::{Needle, Needles};
use crate::table::{Context, Form, Shown, Value};

mod required;

use required::Required;

/// The compiled size, in bytes, above which a pattern is refused: a hundred ordinary alternations fit.
const COMPILED_LIMIT: usize = 1 << 20;

/// An expression with no more parts than this is surely below the limit, and need not be compiled to know it.
const SURELY_SMALL: usize = 2000;

/// What is shorter is searched without a table of the text.
const SHORT: usize = 64;

/// Of how many texts a choice may be to be searched for one by one.
const CHOICES: usize = 8;

/// A regular expression together with the text it came from. Cheap to clone.
#[derive(Clone)]
pub struct Pattern {
    inner: Arc<Inner>,
}

struct Inner {
    source: String,
    search: Search,
}

/// How a pattern is searched for.
enum Search {
    /// It is one of these texts.
    Texts(Vec<Text>),
    /// It is an expression, which cannot match without `needle` where there is one.
    Expression {
        needle: Option<Box<Finder<'static>>>,
        required: Required,
        compiled: OnceLock<Result<Regex, String>>,
    },
}

/// A text to be found, perhaps at one place only.
#[derive(Clone, Default)]
struct Text {
    bytes: Vec<u8>,
    at_start: bool,
    at_end: bool,
    /// Made when it is first needed: to search few bytes takes less than to make it.
    finder: OnceLock<Box<Finder<'static>>>,
}

impl Text {
    fn is_in(&self, bytes: &[u8]) -> bool {
        match (self.at_start, self.at_end) {
            (false, false) if bytes.len() < SHORT => is_within(bytes, &self.bytes),
            (false, false) => {
                let finder = || Box::new(Finder::new(&self.bytes).into_owned());
                self.finder.get_or_init(finder).find(bytes).is_some()
            }
            (true, false) => bytes.starts_with(&self.bytes),
            (false, true) => bytes.ends_with(&self.bytes),
            (true, true) => bytes == self.bytes,
        }
    }
}

/// Whether a text is anywhere in few bytes: most places are ruled out by its first byte.
fn is_within(bytes: &[u8], text: &[u8]) -> bool {
    let (Some(first), Some(last)) = (text.first(), bytes.len().checked_sub(text.len())) else {
        return text.is_empty();
    };
    memchr_iter(*first, &bytes[..=last]).any(|place| bytes[place..].starts_with(text))
}

impl Pattern {
    /// Reads `source`. Classes such as `\d` and `\w` are ASCII, `.` is any byte: logs are not always UTF-8.
    ///
    /// The error is a sentence about the pattern alone; its place is the caller's to add.
    pub fn new(source: &str) -> Result<Self, String> {
        if let Some(texts) = plain(source) {
            return Ok(Self::with(source, Search::Texts(texts)));
        }
        let parsed = ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .build()
            .parse(source);
        let hir = parsed.map_err(|error| reason(&error.to_string()))?;
        let search = Search::Expression {
            needle: longest(&hir).map(|needle| Box::new(Finder::new(needle).into_owned())),
            required: Required::of(&hir),
            compiled: if parts(&hir) <= SURELY_SMALL {
                OnceLock::new()
            } else {
                OnceLock::from(Ok(compile(source, COMPILED_LIMIT)?))
            },
        };
        Ok(Self::with(source, search))
    }

    fn with(source: &str, search: Search) -> Self {
        Self {
            inner: Arc::new(Inner {
                source: source.to_owned(),
                search,
            }),
        }
    }

    /// Whether the pattern matches anywhere in `bytes`. Where it is false, [`Pattern::fault`] says whether that was seen.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        match &self.inner.search {
            Search::Texts(texts) => texts.iter().any(|text| text.is_in(bytes)),
            Search::Expression {
                needle, compiled, ..
            } => {
                needle
                    .as_ref()
                    .is_none_or(|needle| needle.find(bytes).is_some())
                    && compiled
                        // its size was measured when it was read: a bound would only turn a wrong measure into a fault
                        .get_or_init(|| compile(self.source(), usize::MAX))
                        .as_ref()
                        .is_ok_and(|regex| regex.is_match(bytes))
            }
        }
    }

    /// Why it could not be compiled when it was first needed. What it was searched for in is unknown then: an expression
    /// that does not work is not one that never matches.
    pub fn fault(&self) -> Option<String> {
        match &self.inner.search {
            Search::Expression { compiled, .. } => {
                let error = compiled.get()?.as_ref().err()?;
                Some(format!(
                    "`{}` cannot be searched for: {error}",
                    self.source()
                ))
            }
            Search::Texts(_) => None,
        }
    }

    /// Texts without which it cannot match, for those who search much at once.
    pub fn needles(&self) -> Needles<'_> {
        match &self.inner.search {
            Search::Texts(texts) => Needles::of([texts.iter().map(|text| Needle {
                text: &text.bytes,
                any_case: false,
            })]),
            Search::Expression { required, .. } => required.needles(),
        }
    }

    /// The pattern as it was written.
    pub fn source(&self) -> &str {
        &self.inner.source
    }
}

/// The last line of a message of the crate is the reason; the lines above draw the pattern again.
fn reason(message: &str) -> String {
    message.lines().last().map_or_else(
        || "not a valid pattern".to_owned(),
        |line| line.trim_start_matches("error: ").to_owned(),
    )
}

fn compile(source: &str, limit: usize) -> Result<Regex, String> {
    RegexBuilder::new(source)
        .unicode(false)
        .size_limit(limit)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "this pattern is too large once compiled; use smaller repetition counts".to_owned()
            }
            error => reason(&error.to_string()),
        })
}

/// The texts that an expression is a choice of, where no parser is needed to see it: characters without a meaning, or
/// with a backslash before them, and anchors. Most are. To parse a thousand of them took half of all instructions of a
/// run.
fn plain(source: &str) -> Option<Vec<Text>> {
    /// The end of what `watchdog adopt` prints: the end of an argument.
    const ARGUMENT: &str = "( |$)";

    let (choices, is_argument) = match source.strip_suffix(ARGUMENT) {
        Some(before) if !before.contains('|') => (before, true),
        _ => (source, false),
    };
    let mut texts = vec![Text::default()];
    let mut rest = choices.as_bytes();
    while !rest.is_empty() {
        let text = texts.last_mut()?;
        let ordinary = rest.iter().position(|byte| !is_ordinary(*byte));
        let (before, from) = rest.split_at(ordinary.unwrap_or(rest.len()));
        // nothing stands behind the end
        if text.at_end && !before.is_empty() {
            return None;
        }
        text.bytes.extend_from_slice(before);
        rest = match from {
            [] => from,
            [b'|', rest @ ..] => {
                texts.push(Text::default());
                rest
            }
            _ if text.at_end => return None,
            [b'^', rest @ ..] if text.bytes.is_empty() && !text.at_start => {
                text.at_start = true;
                rest
            }
            [b'$', rest @ ..] => {
                text.at_end = true;
                rest
            }
            // those are the ends of words
            [b'\\', b'<' | b'>', ..] => return None,
            [b'\\', escaped, rest @ ..] if escaped.is_ascii_punctuation() => {
                text.bytes.push(*escaped);
                rest
            }
            _ => return None,
        };
    }
    if is_argument && let [text] = texts.as_mut_slice() {
        if text.at_end {
            return None;
        }
        let mut longer = text.clone();
        longer.bytes.push(b' ');
        text.at_end = true;
        texts.push(longer);
    }
    let can_be = texts.len() <= CHOICES && texts.iter().all(|text| !text.bytes.is_empty());
    can_be.then_some(texts)
}

/// Whether a byte of a pattern stands for itself, wherever it stands.
fn is_ordinary(byte: u8) -> bool {
    // `(` to `+` are ( ) * +
    byte.is_ascii()
        && !matches!(
            byte,
            b'('..=b'+' | b'.' | b'?' | b'[' | b']' | b'^' | b'{' | b'}' | b'|' | b'$' | b'\\'
        )
}

/// The longest text that stands in every match of an expression, as far as that is plain to see.
fn longest(hir: &Hir) -> Option<&[u8]> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(&literal.0),
        HirKind::Capture(capture) => longest(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => longest(&repetition.sub),
        HirKind::Concat(parts) => parts
            .iter()
            .filter_map(|part| longest(part))
            .max_by_key(|text| text.len()),
        _ => None,
    }
}

/// How many parts an expression has once its repetitions are written out: no fewer than it has states of a few dozen
/// bytes when it is compiled.
fn parts(hir: &Hir) -> usize {
    let all = |subs: &[Hir]| {
        subs.iter()
            .fold(subs.len(), |sum, sub| sum.saturating_add(parts(sub)))
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len() + 1,
        // of UTF-8, where a range takes several states
        HirKind::Class(Class::Unicode(class)) => 16 * (class.ranges().len() + 1),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1));
            let times = usize::try_from(times).unwrap_or(usize::MAX).max(1);
            parts(&repetition.sub)
                .saturating_add(2)
                .saturating_mul(times)
        }
        HirKind::Capture(capture) => parts(&capture.sub).saturating_add(2),
        HirKind::Concat(subs) | HirKind::Alternation(subs) => all(subs),
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.inner.source == other.inner.source
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source())
    }
}

impl Pattern {
    /// Reads one of a config.
    pub(crate) fn of_value(value: &Value<'_>) -> Option<Self> {
        let text = value.text()?;
        if text.is_empty() {
            value.wrong(
                &format!("{} must not be an empty pattern", value.name()),
                "it would match everything",
            );
            return None;
        }
        match Self::new(text) {
            Ok(pattern) => Some(pattern),
            Err(reason) => {
                let help = if reason.contains("look-around") && value.whole_key().contains(".log[")
                {
                    "write what does not count as an exception: { pattern = 'ERROR', except = ['ERROR: retrying'] }"
                } else {
                    "patterns are regular expressions; in single quotes a backslash needs no doubling"
                };
                value.wrong(
                    &format!("{} is not a valid pattern: {reason}", value.name()),
                    help,
                );
                None
            }
        }
    }
}

/// Other services may have the same.
impl Form for Pattern {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        value.shared(|| Self::of_value(value))
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(value.source()))
    }

    fn kind() -> String {
        "a pattern".to_owned()
    }
}

#[cfg(test)]
pub(crate) use tests::broken;

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was read, and cannot be compiled.
    pub(crate) fn broken() -> Pattern {
        Pattern::with(
            "a(",
            Search::Expression {
                needle: None,
                required: Required::default(),
                compiled: OnceLock::new(),
            },
        )
    }

    #[test]
    fn what_cannot_be_compiled_has_a_fault() {
        let pattern = broken();
        assert_eq!(pattern.fault(), None, "nobody has needed it");
        assert!(!pattern.matches(b"a"));
        assert_eq!(
            pattern.fault().unwrap(),
            "`a(` cannot be searched for: unclosed group"
        );
        assert_eq!(Pattern::new("a|b").unwrap().fault(), None);
    }

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
    fn a_text_is_plain_without_a_character_that_means_something() {
        for character in '\0'..='\u{ff}' {
            let has_meaning = r"\.+*?()[]{}^$".contains(character) || !character.is_ascii();
            let source = format!("a{character}b");
            assert_eq!(plain(&source).is_none(), has_meaning, "{source:?}");
        }
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

    /// What the regex crate says itself.
    fn plainly(source: &str, bytes: &[u8]) -> bool {
        compile(source, COMPILED_LIMIT).unwrap().is_match(bytes)
    }

    #[test]
    fn texts_are_found_as_the_expressions_that_they_are() {
        let lines = [
            "",
            "a",
            "Position",
            "xUpdate",
            "Updat",
            "main.py",
            "main,py",
            "/srv/main.py -x",
            "worker bot-0001",
            "worker bot-00011",
            "a worker bot-0001",
            "foobar",
            "foobaz",
            "fooba",
            "a\nb",
            "b\n",
            "ab",
            "axb",
            "ERROR timeout",
            "timeout ERROR",
            "error",
            "xerror",
            "a|b",
            "^a$",
            "worker",
            "workers",
        ];
        for (source, is_text) in [
            ("Position|Update", true),
            (r"main\.py", true),
            ("main.py", false),
            ("worker bot-0001$", true),
            ("^worker bot-0001$", true),
            ("^worker", true),
            ("^Position|Update", true),
            ("Position$|^Update|^error$", true),
            ("^(Position|Update)", false),
            ("foo(bar|baz)", false),
            ("fooba[rz]", false),
            (r"^worker bot\-0001( |$)", true),
            ("^worker( |$)", true),
            ("^worker$( |$)", false),
            ("x|worker( |$)", false),
            ("( |$)", false),
            (r"^/srv/main\.py( |$)", true),
            ("(?m)^b$", false),
            (r"\bUpdate", false),
            (r"\<Update", false),
            (r"a\|b", true),
            (r"\^a\$", true),
            ("^^a", false),
            ("a$$", false),
            ("a$b", false),
            ("a?b", false),
            ("a*b", false),
            ("(?i)error", false),
            ("ERROR.*timeout", false),
            ("a|", false),
            ("$", false),
            ("^", false),
            ("a.b", false),
        ] {
            let pattern = Pattern::new(source).unwrap();
            assert_eq!(
                matches!(pattern.inner.search, Search::Texts(_)),
                is_text,
                "{source}"
            );
            for line in lines {
                assert_eq!(
                    pattern.matches(line.as_bytes()),
                    plainly(source, line.as_bytes()),
                    "{source} in {line:?}"
                );
            }
        }
    }

    #[test]
    fn the_needles_of_texts_and_of_expressions() {
        for (source, expected) in [
            (
                r"^worker bot-1( |$)",
                &[&["worker bot-1", "worker bot-1 "][..]][..],
            ),
            ("Position", &[&["Position"]]),
            ("Position|Update", &[&["Position", "Update"]]),
            ("worker .*bot-1", &[&["worker "], &["bot-1"]]),
            (".", &[]),
        ] {
            let pattern = Pattern::new(source).unwrap();
            let needles = pattern.needles();
            let found: Vec<Vec<_>> = needles
                .choices()
                .map(|choice| {
                    let texts = choice.iter().map(|needle| needle.text);
                    texts.map(String::from_utf8_lossy).collect()
                })
                .collect();
            assert_eq!(found, expected, "{source}");
        }
    }

    #[test]
    fn nothing_is_compiled_before_its_needle_is_found() {
        let pattern = Pattern::new("ERROR +.*timeout").unwrap();
        let compiled = || match &pattern.inner.search {
            Search::Expression { compiled, .. } => compiled.get().is_some(),
            Search::Texts(_) => panic!("it is no text"),
        };
        assert!(!pattern.matches(b"ERROR: out of memory") && !compiled());
        assert!(!pattern.matches(b"timeout") && compiled());
        assert!(pattern.matches(b"ERROR   of a timeout"));
    }

    #[test]
    fn what_is_not_compiled_at_once_is_surely_small() {
        let mut small = 0;
        for part in [
            "a",
            ".",
            "[a-cx-z0-5_.%]",
            r"\w",
            "(a|bc|[d-f]+)",
            "(?i)error",
            "(?:a?b*c+)",
            r"(?u)\w",
            "(?u)[\u{e0}-\u{2fff}]",
            "((a{3}){3})",
            "x{0,9}",
        ] {
            for times in [1, 10, 100, 300, 1000, 1999] {
                let source = format!("({part}){{{times}}}");
                let hir = ParserBuilder::new()
                    .unicode(false)
                    .utf8(false)
                    .build()
                    .parse(&source)
                    .unwrap();
                if parts(&hir) <= SURELY_SMALL {
                    small += 1;
                    compile(&source, COMPILED_LIMIT).unwrap();
                }
            }
        }
        assert!(small > 20, "only {small} were small: the measure is wrong");
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_matches_as_the_crate_does(
            source in "(\\^|)([ab.]|\\\\[.^$|]|a[*+?]|\\^|\\$|\\(a\\|b\\)|\\[ab\\]|b\\|a){0,6}(\\$|\\( \\|\\$\\)|)",
            bytes in proptest::collection::vec(proptest::sample::select(b"ab .|^$\n\xff".to_vec()), 0..12),
            // little and much is searched in different ways
            before in proptest::sample::select(vec![0, 0, SHORT - 12, SHORT - 1, SHORT]),
        ) {
            let bytes = [vec![b'-'; before], bytes].concat();
            let pattern = Pattern::new(&source).unwrap();
            proptest::prop_assert_eq!(pattern.matches(&bytes), plainly(&source, &bytes));
        }
    }
}
