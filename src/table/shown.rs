//! Values on their way back into TOML.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A value as it is written back. As text it is what stands behind a key, in one line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A number of thousandths.
    Fraction(u32),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Shown>),
    /// A table with its keys in order.
    Table(Vec<(String, Shown)>),
}

impl Shown {
    /// A text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Whether it is written with a header of its own, after all that is not.
    fn has_header(&self) -> bool {
        match self {
            Self::Table(_) => true,
            Self::List(list) => matches!(list.first(), Some(Self::Table(_))),
            _ => false,
        }
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Whole(number) => serializer.serialize_i64(*number),
            Self::Fraction(thousandths) => {
                serializer.serialize_f64(f64::from(*thousandths) / 1000.0)
            }
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(list) => {
                let mut entries = serializer.serialize_seq(Some(list.len()))?;
                for entry in list {
                    entries.serialize_element(entry)?;
                }
                entries.end()
            }
            Self::Table(table) => {
                let mut entries = serializer.serialize_map(Some(table.len()))?;
                for with_header in [false, true] {
                    for (key, value) in table {
                        if value.has_header() == with_header {
                            entries.serialize_entry(key, value)?;
                        }
                    }
                }
                entries.end()
            }
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Fraction(thousandths) => write!(f, "{:?}", f64::from(*thousandths) / 1000.0),
            Self::Text(text) => write!(f, "{}", written(text)),
            Self::List(list) => {
                let list: Vec<_> = list.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", list.join(", "))
            }
            Self::Table(table) => {
                let table: Vec<_> = table
                    .iter()
                    .map(|(key, value)| format!("{key} = {value}"))
                    .collect();
                write!(f, "{{ {} }}", table.join(", "))
            }
        }
    }
}

/// A text as TOML would have it.
pub(super) fn written(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
