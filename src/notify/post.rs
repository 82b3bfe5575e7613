//! Handing a message over by HTTP: one attempt within one deadline, without redirects, and what came of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::Secret;
use super::answers::{Answer, LONGEST, Meaning, Receipt, meaning, moved_to};
use super::report::{DeliveryReport, Outcome, Pause, Paused};
use super::safe::said;
use crate::check::trap::Trap;
use crate::client::http::secrets::parts_of_url;
use crate::client::http::{
    self, HeaderName, HeaderValue, Method, Proxy, Request, Response, StatusCode, Url, header,
    redirects_to,
};
use crate::client::tls::without_ca_file;

/// So much of an answer is read.
const ANSWER_LIMIT: usize = 64 << 10;

/// A part of a URL that is so long may be a secret.
const SECRET_PART: usize = 6;

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
    pub(super) ca_file: Option<PathBuf>,
    /// Its table has the key.
    pub(super) takes_ca_file: bool,
    /// What is never shown, whoever repeats it.
    pub(super) secrets: Vec<String>,
}

impl Post {
    /// JSON for a URL.
    pub(super) fn json(url: &str, value: &serde_json::Value) -> Result<Self, String> {
        let parsed = Url::parse(url).map_err(|why| format!("its URL is no right one: {why}"))?;
        Ok(Self {
            url: parsed,
            headers: vec![(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )],
            body: value.to_string().into_bytes(),
            ca_file: None,
            takes_ca_file: false,
            secrets: parts_of_url(url),
        })
    }

    /// Plain text for a URL.
    pub(super) fn text(url: &str, text: String) -> Result<Self, String> {
        let mut post = Self::json(url, &serde_json::Value::Null)?;
        post.headers = vec![(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        )];
        post.body = text.into_bytes();
        Ok(post)
    }

    /// The same with a header whose value is shown to nobody.
    pub(super) fn with_secret(mut self, name: HeaderName, value: &str) -> Result<Self, String> {
        let mut sent = HeaderValue::from_str(value)
            .map_err(|_| format!("the header {name} has characters that no header has"))?;
        sent.set_sensitive(true);
        self.headers.push((name, sent));
        self.hide(value);
        Ok(self)
    }

    /// A text is never told, nor one of its words.
    pub(super) fn hide(&mut self, text: &str) {
        self.secrets.push(text.to_owned());
        let words = text
            .split_whitespace()
            .filter(|word| word.len() >= SECRET_PART);
        self.secrets.extend(words.map(str::to_owned));
    }

    fn request(self, proxy: Option<Proxy>) -> Request {
        let mut secrets = self.secrets;
        secrets.extend(proxy.iter().flat_map(Proxy::secrets).cloned());
        Request {
            secrets,
            headers: self.headers,
            body: Some(self.body),
            ca_file: self.ca_file,
            proxy,
            body_limit: ANSWER_LIMIT,
            body_kept: ANSWER_LIMIT,
            is_sent_once: true,
            ..Request::new(Method::POST, self.url)
        }
    }
}

/// What is wrong with the proxy that the environment names for a message.
pub(super) fn proxy_trap(post: Result<Post, String>) -> Option<Trap> {
    let why = Proxy::of_environment(&post.ok()?.url).err()?;
    let help = "write it like http://proxy.example.org:3128, or name the host in NO_PROXY";
    Some(Trap::of("", why, help))
}

/// A URL that is a secret, as it is shown: its scheme and host.
pub(super) fn shown(secret: &Secret) -> String {
    let origin = |text: String| Url::parse(&text).map(|url| url.origin());
    match secret.read("URL").and_then(origin) {
        Ok(origin) => origin,
        Err(_) => "its URL".to_owned(),
    }
}

/// What one request came to.
enum Came {
    To(Meaning, Response),
    Nothing { why: String, was_sent: bool },
}

/// Makes one attempt: the whole message, and where that is not taken as it is, the short one. Both within `limit`.
pub(super) fn hand_over(
    recipients: &[String],
    whole: Result<Post, String>,
    short: Option<Post>,
    receipt: fn(&Answer<'_>) -> Receipt,
    limit: Duration,
    step: &mut dyn FnMut(&str),
) -> DeliveryReport {
    let deadline = Instant::now() + limit;
    let whole = match whole {
        Ok(whole) => whole,
        Err(why) => return failed(recipients, &Outcome::deferred(why), None),
    };
    let mut origin = whole.url.origin();
    let mut secrets = whole.secrets.clone();
    let proxy = match Proxy::of_environment(&whole.url) {
        Ok(proxy) => proxy,
        Err(why) => {
            let why = format!("{origin}: {why}");
            return failed(recipients, &Outcome::deferred(why), None);
        }
    };
    if let Some(proxy) = &proxy {
        step(&format!("{origin} is asked through the proxy {proxy}"));
        secrets.extend_from_slice(proxy.secrets());
    }
    let mut came = one(whole, proxy.as_ref(), limit, receipt);
    // what goes by a tunnel nobody between can answer
    let is_handed_on = proxy.is_some() && !origin.starts_with("https:");
    if let Some(proxy) = &proxy {
        origin = format!("{origin}, asked through the proxy {proxy},");
    }
    if let Came::To(Meaning::Unfit, response) = &came
        && let Some(moved_to) = moved_to(&response.body)
    {
        let why = format!("{}; it has moved", answered(&origin, response, &secrets));
        return DeliveryReport {
            moved_to: Some(moved_to),
            ..failed(recipients, &Outcome::deferred(why), None)
        };
    }
    if let (Came::To(Meaning::Unfit | Meaning::Never, response), Some(short)) = (&came, short) {
        step(&format!(
            "{}; once more as a short text",
            answered(&origin, response, &secrets)
        ));
        let left = deadline.saturating_duration_since(Instant::now());
        came = one(short, proxy.as_ref(), left, receipt);
    }
    let (meaning, response) = match came {
        Came::To(meaning, response) => (meaning, response),
        Came::Nothing { why, was_sent } => {
            let why = said(&why, &secrets);
            let outcome = Outcome::Deferred {
                why,
                maybe_delivered: was_sent,
            };
            return failed(recipients, &outcome, None);
        }
    };
    let told = answered(&origin, &response, &secrets);
    match meaning {
        Meaning::Taken(message_id) => {
            step(&told);
            DeliveryReport {
                message_id,
                ..DeliveryReport::all(recipients, &Outcome::Delivered)
            }
        }
        Meaning::Later(None) => failed(recipients, &Outcome::deferred(told), None),
        Meaning::Later(Some(length)) => {
            let why = format!(
                "{told}; it is not asked again for {}",
                crate::clock::rough(length)
            );
            let pause = Pause {
                whom: Paused::Channel,
                length,
                until_changed: false,
            };
            failed(recipients, &Outcome::deferred(why), Some(pause))
        }
        Meaning::Unfit => {
            let why = format!("{told}, to a short text as well");
            let pause = Pause {
                whom: Paused::Message,
                length: LONGEST,
                until_changed: true,
            };
            DeliveryReport {
                pause: Some(pause),
                ..DeliveryReport::all(recipients, &Outcome::deferred(why))
            }
        }
        Meaning::Never => {
            let why = format!("{told}, to a short text as well");
            DeliveryReport::all(recipients, &Outcome::Never(why))
        }
        Meaning::Refused => {
            let why = format!(
                "{told}; {}{}",
                advice(&response),
                if is_handed_on {
                    ", or is that the word of the proxy"
                } else {
                    ""
                }
            );
            let pause = Pause {
                whom: Paused::Channel,
                length: LONGEST,
                until_changed: true,
            };
            failed(recipients, &Outcome::deferred(why), Some(pause))
        }
    }
}

/// Nothing else would be taken now either.
fn failed(recipients: &[String], outcome: &Outcome, pause: Option<Pause>) -> DeliveryReport {
    DeliveryReport {
        transport_failed: true,
        pause,
        ..DeliveryReport::all(recipients, outcome)
    }
}

fn one(
    post: Post,
    proxy: Option<&Proxy>,
    limit: Duration,
    receipt: fn(&Answer<'_>) -> Receipt,
) -> Came {
    let origin = post.url.origin();
    let takes_ca_file = post.takes_ca_file;
    let request = post.request(proxy.cloned());
    // the limit is the channel's own, whatever the run has left
    let run_ends = Instant::now() + limit + Duration::from_secs(1);
    match http::send(vec![(request, limit)], run_ends).pop() {
        Some(Ok(answered)) => {
            let response = answered.answer;
            // nobody but a proxy says so, and it asked nobody
            if let (Some(proxy), StatusCode::PROXY_AUTHENTICATION_REQUIRED) =
                (proxy, response.status)
            {
                let status = http::shown(response.status);
                return Came::Nothing {
                    why: format!(
                        "{origin}: the proxy {proxy} answered {status}; check the user and password of the proxy"
                    ),
                    was_sent: false,
                };
            }
            let retry_after = response.headers.get(header::RETRY_AFTER);
            let answer = Answer {
                status: response.status.as_u16(),
                retry_after: retry_after.and_then(|value| value.to_str().ok()),
                body: &response.body,
            };
            Came::To(meaning(&answer, receipt, Utc::now()), response)
        }
        Some(Err(failure)) => {
            let why = failure.sentence(&origin);
            Came::Nothing {
                why: if takes_ca_file {
                    why
                } else {
                    without_ca_file(&why)
                },
                was_sent: failure.was_sent,
            }
        }
        None => Came::Nothing {
            why: format!("{origin} was not asked"),
            was_sent: false,
        },
    }
}

/// `https://discord.com answered 401 Unauthorized: {"message": …}`.
fn answered(origin: &str, response: &Response, secrets: &[String]) -> String {
    let status = http::shown(response.status);
    if response.status.is_redirection()
        && let Some(to) = redirects_to(&response.headers, secrets)
    {
        return format!("{origin} answered {status}, to {to}");
    }
    let body = said(&String::from_utf8_lossy(&response.body), secrets);
    if body.is_empty() {
        return format!("{origin} answered {status}");
    }
    format!("{origin} answered {status}: {body}")
}

fn advice(response: &Response) -> &'static str {
    match response.status.as_u16() {
        200..=299 => {
            "that is not what it answers to a message: is it the right URL, or does a proxy answer"
        }
        300..=399 => "redirects are not followed: write the URL that it leads to",
        401 | 403 => "check its URL and its secrets",
        404 | 410 => "there is no such place: check its URL",
        _ => "is it the right URL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::HeaderMap;

    #[test]
    fn a_secret_that_is_cut_off_in_a_redirect_is_masked_as_a_whole() {
        const TOKEN: &str =
            "CANARY-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let url = format!("http://discord.com/api/webhooks/123456789012345678/{TOKEN}");
        let post = Post::json(&url, &serde_json::Value::Null).unwrap();
        for location in [
            url.replace("http:", "https:"),
            format!("https://discord.com/moved/to/a/longer/path/than/it/had/{TOKEN}"),
            format!("//CANARY:CANARY@discord.com/moved/{TOKEN}?CANARY"),
        ] {
            let value = HeaderValue::from_str(&location).unwrap();
            let response = Response {
                status: StatusCode::MOVED_PERMANENTLY,
                headers: HeaderMap::from_iter([(header::LOCATION, value)]),
                body: Vec::new(),
                body_length: 0,
            };
            let said = answered(&post.url.origin(), &response, &post.secrets);
            assert!(
                said.starts_with("http://discord.com answered 301 Moved Permanently, to "),
                "{said}"
            );
            assert!(
                said.contains("//discord.com/") && said.ends_with("***"),
                "{said}"
            );
            assert!(!said.contains("CANARY"), "{said}");
        }
    }
}
