//! Placeholders in texts: `{name}`, `{label:KEY}`; `{{` is a brace.

/// Why a text could not be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfilled {
    /// There is no such placeholder, or a brace that is not closed.
    Unknown(String),
    /// There is nothing for one here.
    Unset {
        /// Which, with its braces.
        placeholder: String,
        /// Why, as a sentence.
        why: String,
    },
}

/// What `value` says of a placeholder.
pub type Answer = Result<String, String>;

/// A text with its placeholders replaced. `value` is asked for each by what stands between the braces; absent: there is no
/// such placeholder.
pub(super) fn fill(text: &str, value: &dyn Fn(&str) -> Option<Answer>) -> Result<String, Unfilled> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('{') {
            filled.push('{');
            rest = after;
            continue;
        }
        let Some((name, after)) = after.split_once('}') else {
            return Err(Unfilled::Unknown(after.to_owned()));
        };
        match value(name) {
            Some(Ok(value)) => filled.push_str(&value),
            Some(Err(why)) => {
                let placeholder = format!("{{{name}}}");
                return Err(Unfilled::Unset { placeholder, why });
            }
            None => return Err(Unfilled::Unknown(name.to_owned())),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The names that stand for something of a container, `{label:KEY}` beside them.
pub(super) const OF_CONTAINER: &[&str] = &["name", "ip", "port", "address", "project", "service"];

/// Those of them that labels of Compose fill.
pub(super) const OF_COMPOSE: &[&str] = &["project", "service"];

/// The names that stand for something of a unit.
pub(super) const OF_UNIT: &[&str] = &["unit", "instance"];

/// Words that a placeholder could stand for, one of which a text with it has to take: a number, and a name.
pub(super) const WORDS: [&str; 2] = ["1", "a"];

/// A value that a placeholder could have, to see whether a table can be right at all. `word` is one of [`WORDS`].
pub(super) fn sample(name: &str, of_units: bool, word: &str) -> Option<Answer> {
    let known = if of_units { OF_UNIT } else { OF_CONTAINER };
    let is_label = !of_units
        && name
            .strip_prefix("label:")
            .is_some_and(|key| !key.is_empty());
    let value = match name {
        "ip" => "127.0.0.1",
        "address" => "127.0.0.1:1",
        "port" => "1",
        "unit" => "a@1.service",
        _ => word,
    };
    (is_label || known.contains(&name)).then(|| Ok(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<Answer> {
        match name {
            "name" => Some(Ok("web".to_owned())),
            "label:a.b" => Some(Ok("{name}".to_owned())),
            "ip" => Some(Err("it has none".to_owned())),
            _ => None,
        }
    }

    #[test]
    fn placeholders_are_replaced_once_and_doubled_braces_are_one() {
        for (text, filled) in [
            ("", ""),
            ("plain } text", "plain } text"),
            ("http://{name}/x", "http://web/x"),
            ("{name}{name}", "webweb"),
            // what a label says is no text of the config
            ("<{label:a.b}>", "<{name}>"),
            (r"\d{{3}", r"\d{3}"),
            ("{{name}", "{name}"),
            ("{{{name}}", "{web}"),
            ("ž{name}ž", "žwebž"),
        ] {
            assert_eq!(fill(text, &value), Ok(filled.to_owned()), "{text}");
        }
        for (text, why) in [
            ("{nmae}", Unfilled::Unknown("nmae".to_owned())),
            ("{}", Unfilled::Unknown(String::new())),
            ("a{name", Unfilled::Unknown("name".to_owned())),
            (r"\d{3}", Unfilled::Unknown("3".to_owned())),
            (
                "{name} {ip}",
                Unfilled::Unset {
                    placeholder: "{ip}".to_owned(),
                    why: "it has none".to_owned(),
                },
            ),
        ] {
            assert_eq!(fill(text, &value), Err(why), "{text}");
        }
    }

    #[test]
    fn each_kind_has_its_own_placeholders() {
        for (name, of_container, of_unit) in [
            ("name", true, false),
            ("ip", true, false),
            ("label:a", true, false),
            ("label:", false, false),
            ("label", false, false),
            ("unit", false, true),
            ("instance", false, true),
            ("Name", false, false),
        ] {
            assert_eq!(sample(name, false, "a").is_some(), of_container, "{name}");
            assert_eq!(sample(name, true, "a").is_some(), of_unit, "{name}");
        }
    }
}
