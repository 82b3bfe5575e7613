//! What Prometheus is asked, and what its answers say: the HTTP API v1, in JSON.
//!
//! Only what is whole counts: an answer with another status than 200, with `warnings` (a part of the data is missing), that
//! is too large or is not what the API gives is an error, and never an empty result.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::secrets::of_request;
use super::http::{self, HeaderName, HeaderValue, Method, Request, Response, Url, header};
use crate::text::{cut, printable, visible};

/// The largest answer, in bytes: some ten thousand alerts.
const LARGEST: usize = 8 << 20;

/// Of what a server says, so many characters are shown.
const SHOWN: usize = 200;

/// Names and values.
pub type Labels = BTreeMap<String, String>;

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is, without `/api/v1`.
    pub url: Url,
    /// What is sent beside.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Authorities to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
}

impl Server {
    /// Asks for all alerting rules, with their alerts. The error continues a sentence that begins with the URL.
    pub fn rules(&self) -> Result<Request, String> {
        self.get("api/v1/rules?type=alert")
    }

    /// Asks what an expression gives now. The server gives up after `limit`.
    pub fn query(&self, query: &str, limit: Duration) -> Result<Request, String> {
        let millis = limit.as_millis().max(1);
        self.get(&format!(
            "api/v1/query?query={}&timeout={millis}ms",
            escaped(query)
        ))
    }

    /// Asks for something below its URL. What is answered is read up to the limit of size, and a little more.
    pub(super) fn get(&self, path: &str) -> Result<Request, String> {
        Ok(Request {
            secrets: of_request(&self.url, &self.headers),
            is_masked: true,
            headers: self.headers.clone(),
            ca_file: self.ca_file.clone(),
            body_limit: LARGEST + 1,
            body_kept: LARGEST + 1,
            ..Request::new(Method::GET, self.url.below(path)?)
        })
    }
}

/// All alerting rules, as of one instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The rules, those of all groups.
    pub rules: Vec<Rule>,
    /// What the clock of the server shows, where it says so.
    pub clock: Option<DateTime<Utc>>,
}

/// An alerting rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// What its alerts have as `alertname`.
    pub name: String,
    /// The group that it is in.
    pub group: String,
    /// What its alerts have beside the labels of series; a value may be a template.
    pub labels: Labels,
    /// `ok`, `err`, or `unknown` before its first evaluation.
    pub health: String,
    /// Why its evaluation failed.
    pub last_error: String,
    /// When it was evaluated last, where that is known.
    pub evaluated: Option<DateTime<Utc>>,
    /// How often it is evaluated.
    pub interval: Duration,
    /// Its alerts that are pending or firing.
    pub alerts: Vec<Alert>,
}

/// An alert of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alert {
    /// All its labels, `alertname` among them.
    pub labels: Labels,
    /// It has lasted for as long as the rule wants.
    pub is_firing: bool,
    /// Since when the expression has given it, where that is known.
    pub active_at: Option<DateTime<Utc>>,
    /// Its annotation `summary` or `description`, for people.
    pub summary: Option<String>,
}

/// What an expression gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A vector of so many samples; the first few of them.
    Vector(usize, Vec<Sample>),
    /// A number, as it is written: `NaN` and `+Inf` are such.
    Scalar(String),
    /// Something else: `matrix` or `string`.
    Other(String),
}

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What it is of.
    pub labels: Labels,
    /// Its value as it is written; absent: a histogram.
    pub value: Option<String>,
}

/// Of a vector, so many samples are kept.
const SAMPLES: usize = 4;

/// The labels as Prometheus writes them: `{alertname="X", job="api"}`.
pub fn in_braces(labels: &Labels) -> String {
    let pairs = labels.iter().map(|(name, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{}=\"{}\"", visible(name), visible(&value))
    });
    let pairs: Vec<String> = pairs.collect();
    format!("{{{}}}", pairs.join(", "))
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    // absent beside an error
    data: Option<T>,
    error: Option<String>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RulesData {
    groups: Vec<GroupData>,
}

#[derive(Deserialize)]
struct GroupData {
    name: Option<String>,
    interval: Option<f64>,
    rules: Vec<RuleData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleData {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    health: Option<String>,
    last_error: Option<String>,
    last_evaluation: Option<String>,
    labels: Option<Labels>,
    alerts: Option<Vec<AlertData>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertData {
    labels: Labels,
    annotations: Option<Labels>,
    state: String,
    active_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryData {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct SampleData {
    metric: Labels,
    value: Option<(serde_json::Value, String)>,
}

/// What an answer to [`Server::rules`] says. The error continues a sentence that begins with the URL.
pub fn read_rules(response: &Response) -> Result<Rules, String> {
    let data: RulesData = data(response)?;
    let mut rules = Vec::new();
    for group in data.groups {
        let interval = group.interval.unwrap_or_default();
        let interval = Duration::try_from_secs_f64(interval).unwrap_or_default();
        let name = group.name.unwrap_or_default();
        let alerting = group.rules.into_iter().filter(|rule| {
            // a server that does not know `type=alert` gives all
            rule.kind.as_deref().is_none_or(|kind| kind == "alerting")
        });
        rules.extend(alerting.map(|rule| {
            Rule {
                group: name.clone(),
                labels: rule.labels.unwrap_or_default(),
                health: rule.health.unwrap_or_else(|| "unknown".to_owned()),
                last_error: rule.last_error.unwrap_or_default(),
                evaluated: rule.last_evaluation.as_deref().and_then(time),
                interval,
                alerts: (rule.alerts.into_iter().flatten())
                    .filter_map(|alert| alert.of(&rule.name))
                    .collect(),
                name: rule.name,
            }
        }));
    }
    Ok(Rules {
        rules,
        clock: clock(response),
    })
}

impl AlertData {
    fn of(mut self, rule: &str) -> Option<Alert> {
        let is_firing = match &*self.state {
            "firing" => true,
            "pending" => false,
            _ => return None,
        };
        self.labels
            .entry("alertname".to_owned())
            .or_insert_with(|| rule.to_owned());
        let annotations = self.annotations.unwrap_or_default();
        let summary = ["summary", "description", "message"].iter();
        let mut summary = summary.filter_map(|name| annotations.get(*name));
        Some(Alert {
            labels: self.labels,
            is_firing,
            active_at: self.active_at.as_deref().and_then(time),
            summary: summary.next().cloned(),
        })
    }
}

/// What an answer to [`Server::query`] says. The error continues a sentence that begins with the URL.
pub fn read_value(response: &Response) -> Result<Value, String> {
    let data: QueryData = data(response)?;
    let wrong = |error: serde_json::Error| format!("answered with {}", not_api(&error));
    match &*data.result_type {
        "vector" => {
            let samples: Vec<SampleData> = serde_json::from_value(data.result).map_err(wrong)?;
            let count = samples.len();
            let first = samples.into_iter().take(SAMPLES).map(|sample| Sample {
                labels: sample.metric,
                value: sample.value.map(|(_, value)| value),
            });
            Ok(Value::Vector(count, first.collect()))
        }
        "scalar" => {
            let (_, value): (serde_json::Value, String) =
                serde_json::from_value(data.result).map_err(wrong)?;
            Ok(Value::Scalar(value))
        }
        _ => Ok(Value::Other(cut(&visible(&data.result_type), SHOWN))),
    }
}

/// What an answer carries, where it is whole.
fn data<T: DeserializeOwned>(response: &Response) -> Result<T, String> {
    let status = http::shown(response.status);
    let body = body(response)?;
    if response.status.as_u16() != 200 {
        let said = serde_json::from_slice::<Envelope<serde_json::Value>>(body);
        let said = said.ok().and_then(|envelope| envelope.error);
        return Err(refused(response, said.as_deref()));
    }
    let envelope: Envelope<T> = serde_json::from_slice(body).map_err(|error| {
        if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
            format!(
                "answered {status}, with something that is no JSON: `{}`",
                printable(body, SHOWN)
            )
        } else {
            format!("answered {status}, with {}", not_api(&error))
        }
    })?;
    if envelope.status != "success" {
        return Err(refused(response, envelope.error.as_deref()));
    }
    if let Some(first) = envelope.warnings.unwrap_or_default().first() {
        return Err(format!(
            "answered with a part of the data only: {}",
            cut(&visible(first), SHOWN)
        ));
    }
    (envelope.data).ok_or_else(|| format!("answered {status}, without any data"))
}

/// The body, where all of it has come.
pub(super) fn body(response: &Response) -> Result<&[u8], String> {
    if response.body_length > LARGEST {
        return Err(format!(
            "answered with more than {} MiB, which is not read",
            LARGEST >> 20
        ));
    }
    Ok(&response.body)
}

pub(super) fn not_api(error: &serde_json::Error) -> String {
    format!(
        "JSON that its API does not give: {}",
        cut(&visible(&error.to_string()), SHOWN)
    )
}

/// That it answered with an error, and which.
pub(super) fn refused(response: &Response, said: Option<&str>) -> String {
    let mut text = format!("answered {}", http::shown(response.status));
    let said = match said {
        Some(said) => Cow::Owned(cut(&visible(said), SHOWN)),
        None if response.status.is_redirection() => {
            // the answer was masked, and this of it as well, before anybody has seen it
            match http::redirects_to(&response.headers, &[]) {
                Some(to) => Cow::Owned(format!(
                    "it redirects to {to}, and redirects are not followed"
                )),
                None => Cow::Borrowed(""),
            }
        }
        None => Cow::Owned(printable(response.body.trim_ascii(), SHOWN)),
    };
    if !said.is_empty() {
        let _ = write!(text, ": {said}");
    }
    text
}

/// What the clock of a server shows: an answer that was kept on the way says how old it is.
fn clock(response: &Response) -> Option<DateTime<Utc>> {
    let text = |name| response.headers.get(name)?.to_str().ok();
    let date = DateTime::parse_from_rfc2822(text(header::DATE)?).ok()?;
    let age: i64 = (text(header::AGE))
        .and_then(|age| age.trim().parse().ok())
        .unwrap_or_default();
    let age = TimeDelta::try_seconds(age.clamp(0, 1 << 30))?;
    date.to_utc().checked_add_signed(age)
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

/// A text as a part of a URL.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
pub(crate) mod tests;
