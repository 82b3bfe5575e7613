//! What stands in every match of an expression: to find the few texts that may match without searching each.

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::process_table::{Needle, Needles};

/// Of how many texts a choice may be.
const CHOICES: usize = 16;

/// So many choices are kept: more of them tell little more.
const MOST: usize = 8;

/// In every match stands one text, at least, of each of these choices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Required(Box<[Choice]>);

type Choice = Box<[Text]>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    bytes: Box<[u8]>,
    any_case: bool,
}

impl Required {
    pub(super) fn of(hir: &Hir) -> Self {
        let mut choices = choices(hir);
        choices.sort_by_key(|choice| std::cmp::Reverse(shortest(choice)));
        choices.truncate(MOST);
        Self(choices.into())
    }

    pub(super) fn needles(&self) -> Needles<'_> {
        Needles::of(self.0.iter().map(|choice| {
            choice.iter().map(|text| Needle {
                text: &text.bytes,
                any_case: text.any_case,
            })
        }))
    }
}

fn shortest(choice: &Choice) -> usize {
    let lengths = choice.iter().map(|text| text.bytes.len());
    lengths.min().unwrap_or_default()
}

/// As far as they are plain to see.
fn choices(hir: &Hir) -> Vec<Choice> {
    match hir.kind() {
        HirKind::Literal(_) | HirKind::Class(_) => in_a_row(std::slice::from_ref(hir)),
        HirKind::Concat(parts) => in_a_row(parts),
        HirKind::Capture(capture) => choices(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => choices(&repetition.sub),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                let best = choices(branch).into_iter().max_by_key(shortest);
                let Some(best) = best else {
                    return Vec::new();
                };
                all.extend(best);
            }
            if all.len() > CHOICES {
                return Vec::new();
            }
            vec![all.into()]
        }
        _ => Vec::new(),
    }
}

/// Those of parts that follow each other. Letters of either case beside literal bytes are one text: a pattern that looks
/// at no case is made of them.
fn in_a_row(parts: &[Hir]) -> Vec<Choice> {
    let mut found = Vec::new();
    let mut text = Text {
        bytes: Box::default(),
        any_case: false,
    };
    let mut bytes = Vec::new();
    for part in parts {
        match part.kind() {
            HirKind::Literal(literal) => {
                bytes.extend_from_slice(&literal.0);
                continue;
            }
            HirKind::Class(class) => {
                if let Some(letter) = letter_of_either_case(class) {
                    bytes.push(letter);
                    text.any_case = true;
                    continue;
                }
            }
            // those match between bytes
            HirKind::Empty | HirKind::Look(_) => continue,
            _ => {}
        }
        end(&mut text, &mut bytes, &mut found);
        if !matches!(part.kind(), HirKind::Class(_)) {
            found.extend(choices(part));
        }
    }
    end(&mut text, &mut bytes, &mut found);
    found
}

fn end(text: &mut Text, bytes: &mut Vec<u8>, found: &mut Vec<Choice>) {
    let any_case = std::mem::take(&mut text.any_case);
    if !bytes.is_empty() {
        let bytes = std::mem::take(bytes).into();
        found.push(Box::new([Text { bytes, any_case }]));
    }
}

/// The lower-case letter of a class that is one letter of ASCII in both cases.
fn letter_of_either_case(class: &Class) -> Option<u8> {
    let one = |from: u32, to: u32| {
        u8::try_from(from)
            .ok()
            .filter(|byte| from == to && byte.is_ascii_alphabetic())
    };
    let ranges: Vec<_> = match class {
        Class::Bytes(class) => {
            let ranges = class.ranges().iter().take(3);
            ranges
                .map(|range| one(range.start().into(), range.end().into()))
                .collect()
        }
        Class::Unicode(class) => {
            let ranges = class.ranges().iter().take(3);
            ranges
                .map(|range| one(range.start().into(), range.end().into()))
                .collect()
        }
    };
    match ranges[..] {
        [Some(upper), Some(lower)] if upper.to_ascii_lowercase() == lower => Some(lower),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_syntax::ParserBuilder;

    use super::*;

    fn required(source: &str) -> Required {
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
        Required::of(&parser.parse(source).unwrap())
    }

    #[test]
    fn what_stands_in_every_match() {
        for (source, expected) in [
            ("main.py", "main&py"),
            (
                "^java .*-jar /srv/app-17\\.jar( |$)",
                "-jar /srv/app-17.jar&java ",
            ),
            ("(bot|worker)-17 x", "-17 x&bot|worker"),
            ("(?i)Bot-17", "~bot-17"),
            ("(?i)Bot|x", "~bot|~x"),
            ("[Bb]ot", "~bot"),
            ("[Bx]ot", "ot"),
            ("a[0-9]b", "a&b"),
            ("(abc)+d", "abc&d"),
            ("(abc)*d", "d"),
            ("a{2}", "a"),
            ("a|b+|", ""),
            ("one|two|three*", "one|two|thre"),
            ("\\bbot\\b", "bot"),
            ("[0-9]+ [a-z]+", " "),
            (".*", ""),
            ("^$", ""),
            ("(?i)(alpha|beta) .*x", "~alpha|~beta& &~x"),
        ] {
            let Required(choices) = required(source);
            let shown: Vec<String> = choices
                .iter()
                .map(|choice| {
                    let texts = choice.iter().map(|text| {
                        let text_of = String::from_utf8_lossy(&text.bytes);
                        format!("{}{text_of}", if text.any_case { "~" } else { "" })
                    });
                    texts.collect::<Vec<_>>().join("|")
                })
                .collect();
            assert_eq!(shown.join("&"), expected, "{source}");
        }
    }

    #[test]
    fn a_choice_of_too_many_texts_is_none() {
        let of = |count: usize| {
            let texts: Vec<String> = (0..count).map(|number| format!("x{number}y+")).collect();
            required(&texts.join("|")).0.len()
        };
        assert_eq!((of(CHOICES), of(CHOICES + 1)), (1, 0));
    }

    proptest! {
        #[test]
        fn what_matches_has_one_text_of_each_choice(
            source in "(\\(\\?i\\)|)([abC.]|\\[aA\\]|\\[ab\\]|\\\\b|\\(ab\\|Ca\\)|\\(a\\|b\\|\\)|(ab)[*+?]|\\^|\\$|\\|){0,7}",
            bytes in proptest::collection::vec(proptest::sample::select(b"abcABC \n".to_vec()), 0..12),
        ) {
            let parsed = ParserBuilder::new().unicode(false).utf8(false).build().parse(&source);
            prop_assume!(parsed.is_ok());
            let regex = regex::bytes::RegexBuilder::new(&source).unicode(false).build().unwrap();
            if regex.is_match(&bytes) {
                for choice in &Required::of(&parsed.unwrap()).0 {
                    let stands = choice.iter().any(|text| {
                        bytes.windows(text.bytes.len()).any(|part| {
                            part == &*text.bytes
                                || (text.any_case && part.eq_ignore_ascii_case(&text.bytes))
                        })
                    });
                    prop_assert!(stands, "{choice:?}");
                }
            }
        }
    }
}
