//! What the answer of a server means for a message: one table for all kinds of channels that speak HTTP.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// A server that asks to be left alone is left alone for so long at most.
pub(super) const LONGEST: Duration = Duration::from_hours(1);

/// What was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    /// What `Retry-After` says.
    pub(super) retry_after: Option<&'a str>,
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    /// The body, where it is JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(self.body).unwrap_or_default()
    }
}

/// What an answer shows that says that all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// Not that the message was taken: somebody else has answered, or an error is told as a success.
    None,
    /// That it was taken.
    Taken,
    /// The same, and the id that it has there.
    Id(String),
    /// That it never will be: what is wrong is in the message itself.
    Never,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The message was taken; the id that it has there, where it was told.
    Taken(Option<String>),
    /// Not now, and no sooner than after so long, where that was said.
    Later(Option<Duration>),
    /// Not this message: it breaks a limit, or a secret is wrong.
    Unfit,
    /// Not this message, and surely nothing but the message is wrong.
    Never,
    /// Nothing, until the config or a secret changes; or a proxy has answered.
    Refused,
}

/// What an answer means.
pub(super) fn meaning(
    answer: &Answer<'_>,
    receipt: fn(&Answer<'_>) -> Receipt,
    now: DateTime<Utc>,
) -> Meaning {
    match answer.status {
        200..=299 => match receipt(answer) {
            Receipt::None | Receipt::Never => Meaning::Refused,
            Receipt::Taken => Meaning::Taken(None),
            Receipt::Id(id) => Meaning::Taken(Some(id)),
        },
        408 | 425 | 429 | 500..=599 => Meaning::Later(wait(answer, now)),
        400 | 413 | 422 if receipt(answer) == Receipt::Never => Meaning::Never,
        400 | 413 | 422 => Meaning::Unfit,
        _ => Meaning::Refused,
    }
}

/// Where the recipient is found now, by an answer that says so: a group of Telegram that became a supergroup.
pub(super) fn moved_to(body: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let to = json["parameters"]["migrate_to_chat_id"].as_i64()?;
    Some(to.to_string())
}

/// For how long the server wants to be left alone, by its header or its body: an hour at most.
fn wait(answer: &Answer<'_>, now: DateTime<Utc>) -> Option<Duration> {
    let by_header = answer.retry_after.and_then(|text| header(text.trim(), now));
    let json = answer.json();
    let by_body = [&json["retry_after"], &json["parameters"]["retry_after"]]
        .into_iter()
        .find_map(|value| seconds(value.as_f64()?));
    // no time at all is no wait: it is asked again by the next run, as without a word of it
    let wait = by_header.max(by_body).filter(|wait| !wait.is_zero());
    wait.map(|wait| wait.min(LONGEST))
}

/// A number of seconds, or a date.
fn header(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(number) = text.parse() {
        return seconds(number);
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.to_utc() - now).to_std().unwrap_or_default())
}

fn seconds(number: f64) -> Option<Duration> {
    let longest = LONGEST.as_secs_f64();
    (!number.is_nan())
        .then(|| Duration::try_from_secs_f64(number.min(longest)).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer<'static> {
        Answer {
            status,
            retry_after: None,
            body: b"",
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        let now = crate::fixtures::at(0);
        for (statuses, expected) in [
            (&[200, 201, 202, 204][..], Meaning::Taken(None)),
            (
                &[408, 425, 429, 500, 502, 503, 504, 529, 599],
                Meaning::Later(None),
            ),
            (&[400, 413, 422], Meaning::Unfit),
            (
                &[
                    101, 301, 302, 307, 308, 401, 402, 403, 404, 405, 406, 409, 410, 415, 451,
                ],
                Meaning::Refused,
            ),
        ] {
            for &status in statuses {
                let meaning = meaning(&answer(status), |_| Receipt::Taken, now);
                assert_eq!(meaning, expected, "{status}");
            }
        }
        // a success that does not say so is none
        let given = |receipt| meaning(&answer(200), receipt, now);
        assert_eq!(given(|_| Receipt::None), Meaning::Refused);
        assert_eq!(
            given(|_| Receipt::Id("7".to_owned())),
            Meaning::Taken(Some("7".to_owned()))
        );
    }

    #[test]
    fn a_server_says_when_it_wants_to_be_asked_again() {
        let now = "2026-11-22T07:28:00Z".parse().unwrap();
        let secs = |number| Some(Duration::from_secs(number));
        for (header, body, expected) in [
            (None, "", None),
            (Some("40"), "", secs(40)),
            (Some(" 40 "), "", secs(40)),
            (Some("0"), "", None),
            (None, r#"{"retry_after":0}"#, None),
            (Some("0"), r#"{"retry_after":4}"#, secs(4)),
            (Some("86400"), "", Some(LONGEST)),
            (Some("99999999999999999999"), "", Some(LONGEST)),
            (Some("Sun, 22 Nov 2026 07:28:30 GMT"), "", secs(30)),
            (Some("Sun, 22 Nov 2026 07:27:30 GMT"), "", None),
            (Some("Sun, 29 Nov 2026 07:28:30 GMT"), "", Some(LONGEST)),
            (Some("-5"), "", None),
            (Some("NaN"), "", None),
            (Some("soon"), "", None),
            (
                None,
                r#"{"message":"…","retry_after":1.5,"global":false}"#,
                Some(Duration::from_millis(1500)),
            ),
            (
                None,
                r#"{"ok":false,"error_code":429,"parameters":{"retry_after":17}}"#,
                secs(17),
            ),
            // the longer one holds
            (Some("3"), r#"{"retry_after":4}"#, secs(4)),
            (Some("5"), r#"{"retry_after":4}"#, secs(5)),
            (None, r#"{"retry_after":-4}"#, None),
            (None, r#"{"retry_after":1e300}"#, Some(LONGEST)),
            (None, "error code: 1015", None),
            (Some("5"), "<html>", secs(5)),
        ] {
            for status in [429, 503] {
                let answer = Answer {
                    status,
                    retry_after: header,
                    body: body.as_bytes(),
                };
                let meaning = meaning(&answer, |_| Receipt::Taken, now);
                assert_eq!(meaning, Meaning::Later(expected), "{header:?} {body}");
            }
        }
    }
}
