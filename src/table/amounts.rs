//! The forms that sizes, shares and counts are written in.

use super::{Context, Form, Shown, Value};
use crate::amount::{Amount, Count, Share};

/// More percent than any machine has processors for.
const MOST_PROCESSORS: u64 = 1_000_000;

/// Reads a text by what parses it, whose error is a sentence and an advice with `; ` between them.
fn parsed<T>(
    value: &Value<'_>,
    like: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = value.text_or(&format!("write it like {like}"))?;
    match parse(text) {
        Ok(parsed) => Some(parsed),
        Err(why) => {
            let (reason, help) = why
                .split_once("; ")
                .unwrap_or((&why, "see the documentation"));
            value.wrong(&format!("{}: {reason}", value.name()), help);
            None
        }
    }
}

/// A size, or a share of what there is.
impl Form for Amount {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        parsed(value, "\"512 MB\", \"1.5 GiB\" or \"90%\"", Self::parse)
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(value.to_string()))
    }

    fn kind() -> String {
        "a size or a share".to_owned()
    }
}

/// A share of 100% at most.
impl Form for Share {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        parsed(value, "\"90%\"", |text| Self::parse(text, 100))
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(value.to_string()))
    }

    fn kind() -> String {
        "a share".to_owned()
    }
}

/// A share that may be over 100%: of one processor.
pub(crate) struct Load;

impl Form<Share> for Load {
    fn read(value: &Value<'_>, _: &Context) -> Option<Share> {
        parsed(value, "\"90%\"", |text| Share::parse(text, MOST_PROCESSORS))
    }

    fn show(value: &Share) -> Option<Shown> {
        <Share as Form>::show(value)
    }

    fn kind() -> String {
        "a share of one processor".to_owned()
    }
}

/// A count, or a share of a limit.
impl Form for Count {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        if value.raw_text().is_some() {
            return parsed(value, "800 or \"80%\"", |text| Share::parse(text, 100))
                .map(Self::Share);
        }
        value.whole(1..=i64::MAX).map(Self::Number)
    }

    fn show(value: &Self) -> Option<Shown> {
        match value {
            Self::Number(number) => i64::try_from(*number).ok().map(Shown::Whole),
            Self::Share(share) => <Share as Form>::show(share),
        }
    }

    fn kind() -> String {
        "a whole number or a share".to_owned()
    }
}
