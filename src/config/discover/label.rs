//! Rules about labels: `key`, or `key=value`.

use std::collections::BTreeMap;
use std::fmt;

use crate::table::{Checked, Context, Value};

/// A rule about a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRule {
    /// The label.
    pub key: String,
    /// The value that it must have; absent: one that means yes.
    pub value: Option<String>,
}

/// Whether a rule holds for labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The label is there, and its value means neither yes nor no.
    Odd,
}

fn is_yes(value: &str) -> bool {
    let value = value.trim();
    value.is_empty()
        || ["true", "1", "yes", "on"]
            .iter()
            .any(|it| value.eq_ignore_ascii_case(it))
}

fn is_no(value: &str) -> bool {
    let value = value.trim();
    ["false", "0", "no", "off"]
        .iter()
        .any(|it| value.eq_ignore_ascii_case(it))
}

impl LabelRule {
    /// Reads `key` or `key=value`.
    pub fn parse(text: &str) -> Option<Self> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.trim().to_owned())),
            None => (text, None),
        };
        let key = key.trim().to_owned();
        let value = value.filter(|value| !value.is_empty());
        (!key.is_empty()).then_some(Self { key, value })
    }

    /// Whether it holds. A value that is written as yes or no is met by every word for the same.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> Holds {
        let Some(is) = labels.get(&self.key) else {
            return Holds::No;
        };
        let wanted = self.value.as_deref().unwrap_or_default();
        let (meets, fails) = if is_yes(wanted) {
            (is_yes(is), is_no(is))
        } else if is_no(wanted) {
            (is_no(is), is_yes(is))
        } else {
            (is == wanted, is != wanted)
        };
        match (meets, fails) {
            (true, _) => Holds::Yes,
            (_, true) => Holds::No,
            _ => Holds::Odd,
        }
    }

    /// Whether a container that it selects is meant: one that bears the label, unless its value says no.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        match self.holds(labels) {
            Holds::Yes => true,
            Holds::No => false,
            Holds::Odd => self.value.is_none(),
        }
    }

    /// Whether it opts a container out. Whoever wrote a value that cannot be understood wanted something, and to leave a
    /// container alone does no harm.
    pub fn opts_out(&self, labels: &BTreeMap<String, String>) -> bool {
        self.holds(labels) != Holds::No
    }
}

impl fmt::Display for LabelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => f.write_str(&self.key),
            Some(value) => write!(f, "{}={value}", self.key),
        }
    }
}

/// How a rule is written in a config.
pub(super) struct Written;

impl Checked for Written {
    type Of = String;
    const KIND: &'static str = "a label, `key` or `key=value`";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        if LabelRule::parse(&text).is_none() {
            value.wrong("this is no label", "write it like \"key\" or \"key=value\"");
            return None;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_yes_and_no_are_understood_and_others_are_odd() {
        use Holds::{No, Odd, Yes};
        for (rule, value, holds) in [
            // a bare rule
            ("watch", None, No),
            ("watch", Some(""), Yes),
            ("watch", Some("TRUE"), Yes),
            ("watch", Some(" 1 "), Yes),
            ("watch", Some("on"), Yes),
            ("watch", Some("No"), No),
            ("watch", Some("0"), No),
            ("watch", Some("ture"), Odd),
            // a value that is yes
            ("watch=true", Some("yes"), Yes),
            ("watch=true", Some(""), Yes),
            ("watch=true", Some("off"), No),
            ("watch=true", Some("ture"), Odd),
            // one that is no
            ("watch=false", Some("False"), Yes),
            ("watch=false", Some("0"), Yes),
            ("watch=false", Some("true"), No),
            ("watch=false", Some(""), No),
            ("watch=false", Some("nope"), Odd),
            ("watch=false", None, No),
            // any other
            ("tier=db", Some("db"), Yes),
            ("tier=db", Some("DB"), No),
            ("tier=db", Some(""), No),
        ] {
            let labels = value.map(|value| ("watch", value));
            let labels = labels.map(|(key, value)| {
                let key = if rule.starts_with("tier") {
                    "tier"
                } else {
                    key
                };
                (key.to_owned(), value.to_owned())
            });
            let labels: BTreeMap<_, _> = labels.into_iter().collect();
            let parsed = LabelRule::parse(rule).unwrap();
            assert_eq!(parsed.holds(&labels), holds, "{rule} {value:?}");
            assert_eq!(parsed.to_string(), rule);
            let selects = holds == Yes || (holds == Odd && parsed.value.is_none());
            assert_eq!(parsed.selects(&labels), selects, "{rule} {value:?}");
            assert_eq!(parsed.opts_out(&labels), holds != No, "{rule} {value:?}");
        }
        for text in ["", "=x", "  "] {
            assert_eq!(LabelRule::parse(text), None, "{text}");
        }
    }
}
