//! What an expression of PromQL gives, held against what a check expects: nothing.

use std::time::Duration;

use crate::client::prometheus::{Value, in_braces};
use crate::clock::parse_duration;
use crate::text::{cut, visible};

/// Of an expression or its result, so many characters are shown.
const SHOWN: usize = 150;

/// What the result of an expression means: the sentence of what failed, or none; the error says why it means nothing.
pub(super) fn judge(query: &str, value: &Value) -> Result<Option<String>, String> {
    let shown = shown(query);
    match value {
        Value::Vector(0, _) => Ok(None),
        Value::Vector(count, first) => {
            let is_bool = is_boolean(query);
            let is_false =
                |value: &Option<String>| value.as_deref().is_some_and(|it| number(it) == Some(0.0));
            // of what is compared with `bool` there is a sample for each series, and those that are 0 are well
            let failing: Vec<_> = (first.iter())
                .filter(|sample| !(is_bool && is_false(&sample.value)))
                .collect();
            let Some(one) = failing.first() else {
                return if *count > first.len() {
                    Err(format!(
                        "`{shown}` gives {count} samples, of which only the first few are looked at: leave `bool` out"
                    ))
                } else {
                    Ok(None)
                };
            };
            let of = if one.labels.is_empty() {
                String::new()
            } else {
                format!(" {}", in_braces(&one.labels))
            };
            let value = one.value.as_deref().unwrap_or("a histogram");
            let more = match *count {
                1 => String::new(),
                count => format!(", and {} more", count - 1),
            };
            Ok(Some(format!(
                "`{shown}` gives{} {}{more}",
                cut(&of, SHOWN),
                visible(value)
            )))
        }
        Value::Scalar(value) => match number(value) {
            Some(0.0) => Ok(None),
            Some(value) if value.is_nan() => {
                Err(format!("`{shown}` gives NaN: there is no data for it"))
            }
            _ => Ok(Some(format!("`{shown}` gives {}", visible(value)))),
        },
        Value::Other(kind) => Err(format!(
            "`{shown}` gives a {kind}, which neither passes nor fails: write an expression that gives samples of one instant"
        )),
    }
}

/// An expression, for people.
pub(super) fn shown(query: &str) -> String {
    let words: Vec<&str> = query.split_whitespace().collect();
    cut(&visible(&words.join(" ")), SHOWN)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// An expression without what stands in brackets, braces, quotes and comments; each is a blank.
fn outermost(query: &str) -> String {
    let (mut depth, mut text) = (0_usize, String::new());
    let mut quote = None;
    let mut characters = query.chars();
    while let Some(c) = characters.next() {
        if let Some(open) = quote {
            if c == '\\' && open != '`' {
                characters.next();
            } else if c == open {
                quote = None;
            }
            continue;
        }
        match c {
            '"' | '\'' | '`' => quote = Some(c),
            '#' => {
                characters.by_ref().find(|c| *c == '\n');
            }
            '(' | '[' | '{' => {
                depth += 1;
                text.push(' ');
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            c if depth == 0 => text.push(c),
            _ => {}
        }
    }
    text
}

/// Whether all that an expression compares at its outermost level is compared with `bool`: then it gives 0 for what does not
/// hold, where it would else give nothing.
pub(super) fn is_boolean(query: &str) -> bool {
    let mut text = outermost(query);
    for operator in ["==", "!=", ">=", "<=", ">", "<"] {
        // a mark that no operator is a part of
        text = text.replace(operator, "\u{0}");
    }
    let mut parts = text.split('\u{0}').skip(1).peekable();
    parts.peek().is_some() && parts.all(|behind| behind.split_whitespace().next() == Some("bool"))
}

/// How far back an expression looks: the longest `[5m]` in it.
pub(super) fn range(query: &str) -> Option<Duration> {
    let ranges = query.split('[').skip(1).filter_map(|rest| {
        let inner = rest.split([']', ':']).next()?;
        parse_duration(inner.trim()).ok()
    });
    ranges.max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::prometheus::{Labels, Sample};

    fn vector(values: &[Option<&str>]) -> Value {
        let sample = |value: Option<&str>| Sample {
            labels: Labels::from([("job".to_owned(), "a".to_owned())]),
            value: value.map(str::to_owned),
        };
        Value::Vector(values.len(), values.iter().copied().map(sample).collect())
    }

    #[test]
    fn any_sample_fails_and_of_booleans_those_that_hold() {
        let scalar = |value: &str| Value::Scalar(value.to_owned());
        for (query, value, expected) in [
            ("up == 0", vector(&[]), Ok(None)),
            (
                "up == 0",
                vector(&[Some("0")]),
                Ok(Some("`up == 0` gives {job=\"a\"} 0")),
            ),
            (
                "x\n  > 1",
                vector(&[Some("2"), Some("3")]),
                Ok(Some("`x > 1` gives {job=\"a\"} 2, and 1 more")),
            ),
            (
                "x",
                vector(&[Some("NaN")]),
                Ok(Some("`x` gives {job=\"a\"} NaN")),
            ),
            (
                "x",
                vector(&[None]),
                Ok(Some("`x` gives {job=\"a\"} a histogram")),
            ),
            ("x > bool 1", vector(&[Some("0"), Some("0")]), Ok(None)),
            (
                "x > bool 1",
                vector(&[Some("0"), Some("1")]),
                Ok(Some("`x > bool 1` gives {job=\"a\"} 1, and 1 more")),
            ),
            ("scalar(x) > bool 1", scalar("0"), Ok(None)),
            (
                "scalar(x) > bool 1",
                scalar("1"),
                Ok(Some("`scalar(x) > bool 1` gives 1")),
            ),
            (
                "scalar(x)",
                scalar("+Inf"),
                Ok(Some("`scalar(x)` gives +Inf")),
            ),
            ("scalar(x)", scalar("NaN"), Err("no data")),
            (
                "x[5m]",
                Value::Other("matrix".to_owned()),
                Err("gives a matrix"),
            ),
        ] {
            match (judge(query, &value), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{query}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                other => panic!("{query}: {other:?}"),
            }
        }
        // what was not looked at is not taken for well
        let many = Value::Vector(9, vec![]);
        assert!(judge("x > bool 1", &many).is_err());
    }

    #[test]
    fn what_is_compared_with_bool_is_known_by_its_outermost_level() {
        for (query, expected) in [
            ("up", false),
            ("up == 0", false),
            ("up == bool 0", true),
            ("sum(x > bool 5) == 0", false),
            ("sum(x > 5) > bool 3", true),
            ("a > bool 1 and b > bool 2", true),
            ("a > bool 1 and b > 2", false),
            ("x{a=~\">bool\"}", false),
            ("x{a=\"b\"} >bool 1 # == 3", true),
            ("\"'>\" == bool 1", true),
            ("vector(1)", false),
        ] {
            assert_eq!(is_boolean(query), expected, "{query}");
        }
    }

    #[test]
    fn how_far_back_an_expression_looks_is_its_longest_range() {
        for (query, expected) in [
            ("up == 0", None),
            ("rate(x[5m]) > 1", Some(300)),
            ("rate(x[5m]) > rate(x[1h] offset 1d)", Some(3600)),
            ("max_over_time(rate(x[1m])[30m:1m])", Some(1800)),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(range(query), expected, "{query}");
        }
    }
}
