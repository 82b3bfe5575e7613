//! What is answered: which request leads where, who may ask, and how health is judged. Pure.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::request::{Method, Refused};
use crate::clock::{age, known_age, rough, stamp};
use crate::publish::web::AccessRules;
use crate::requests::Put;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The status page.
    Page,
    /// What `status --json` prints.
    Json,
    /// What `metrics` prints.
    Metrics,
    /// Whether all is well.
    Health,
    /// A repair of a service.
    Repair(String),
    /// What an Alertmanager sends.
    Alertmanager,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The type of its body.
    pub kind: Kind,
    /// Its body.
    pub body: String,
    /// A further header, whole.
    pub header: Option<&'static str>,
}

/// The type of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The status page.
    Html,
    /// JSON.
    Json,
    /// Text for people.
    Text,
    /// What Prometheus reads.
    Metrics,
}

impl Answer {
    /// An answer of a type.
    pub fn new(status: u16, kind: Kind, body: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            body: body.into(),
            header: None,
        }
    }

    /// A sentence.
    pub fn text(status: u16, sentence: &str) -> Self {
        Self::new(status, Kind::Text, format!("{sentence}\n"))
    }

    fn with(self, header: &'static str) -> Self {
        Self {
            header: Some(header),
            ..self
        }
    }

    /// The answer as it is sent; without its body, where only the head was asked for.
    pub fn bytes(&self, head_only: bool, policy: &str, now: DateTime<Utc>) -> Vec<u8> {
        let (kind, policy) = match self.kind {
            Kind::Html => ("text/html; charset=utf-8", policy),
            Kind::Json => ("application/json", NOTHING),
            Kind::Text => ("text/plain; charset=utf-8", NOTHING),
            Kind::Metrics => ("text/plain; version=0.0.4; charset=utf-8", NOTHING),
        };
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: {policy}; frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n",
            self.status,
            reason(self.status),
            now.format("%a, %d %b %Y %H:%M:%S GMT"),
            self.body.len(),
        );
        if let Some(header) = self.header {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

/// What a browser may do with all but the page.
const NOTHING: &str = "default-src 'none'";

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

/// Where a request leads.
pub fn route(method: Method, path: &str) -> Result<Route, Answer> {
    let route = match path {
        "/" => Route::Page,
        "/status.json" => Route::Json,
        "/metrics" => Route::Metrics,
        "/health" => Route::Health,
        "/alertmanager" => Route::Alertmanager,
        _ => match path.strip_prefix("/repair/") {
            Some(name) if !name.is_empty() && !name.contains('/') => Route::Repair(name.to_owned()),
            _ => return Err(Answer::text(404, "there is no such page")),
        },
    };
    match (&route, method) {
        (Route::Repair(_) | Route::Alertmanager, Method::Post) => Ok(route),
        (Route::Repair(_) | Route::Alertmanager, _) => {
            Err(Answer::text(405, "this can only be asked for by POST").with("Allow: POST"))
        }
        (_, Method::Get | Method::Head) => Ok(route),
        _ => Err(Answer::text(405, "this can only be read, by GET").with("Allow: GET, HEAD")),
    }
}

/// Whether somebody with this token may ask for that.
pub fn permit(route: &Route, rules: &AccessRules, token: Option<&[u8]>) -> Result<(), Answer> {
    let asks = matches!(route, Route::Repair(_) | Route::Alertmanager);
    if !asks && !rules.protect_reads {
        return Ok(());
    }
    if rules.token.is_none() {
        let why = if asks {
            "nobody can ask for a repair: the config has no token in [web]"
        } else {
            "nobody can read this: the token of [web] cannot be read"
        };
        return Err(Answer::text(403, why));
    }
    // no detail: whoever guesses learns nothing
    let refused = || {
        Answer::text(401, "this needs the token (Authorization: Bearer TOKEN)")
            .with("WWW-Authenticate: Bearer realm=\"watchdog\"")
    };
    match token {
        Some(token) if rules.is_token(token) => Ok(()),
        _ => Err(refused()),
    }
}

/// What is read of a published `status.json`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Published {
    /// When the run looked.
    pub time: Option<DateTime<Utc>>,
    /// What all services come to, those that the run did not look at as well; 73 where it could not be recorded.
    pub exit_code: u8,
}

impl Published {
    /// Why it is too old, if it is, or why nobody knows how old it is.
    pub fn is_late(&self, rules: &AccessRules, now: DateTime<Utc>) -> Option<String> {
        let time = self.time?;
        let when = match known_age(now, time) {
            Some(old) if old <= rules.max_age() => return None,
            Some(old) => format!("{} ago", rough(old)),
            None => "which is ahead of the clock: how long ago it was is not known".to_owned(),
        };
        Some(format!(
            "the last run was at {}, {when}; is the cron entry or the timer still there?",
            stamp(time)
        ))
    }
}

/// Whether all is well, by what the last run published of all services: it may have been a check of one of them alone.
pub fn health(published: Published, rules: &AccessRules, now: DateTime<Utc>) -> Answer {
    let Some(time) = published.time else {
        return Answer::text(503, "no run has published anything yet");
    };
    if let Some(late) = published.is_late(rules, now) {
        return Answer::text(503, &late);
    }
    let what = match published.exit_code {
        0 => "all well",
        1 => "warnings only",
        2 => "a service is broken",
        3 => "something could not be seen",
        73 => "the run could not be recorded, and nothing is restarted",
        _ => "the run failed",
    };
    let status = if published.exit_code <= 1 { 200 } else { 503 };
    let sentence = format!(
        "{what} (all services come to exit code {}); the last run was at {}, {} ago",
        published.exit_code,
        stamp(time),
        rough(age(now, time))
    );
    Answer::text(status, &sentence)
}

/// What is said of a request for a repair.
pub fn queued(put: &Put, service: &str, id: &str) -> Answer {
    let answer = |status, word: &str, id: &str| {
        let body = serde_json::json!({ "status": word, "service": service, "id": id });
        Answer::new(status, Kind::Json, format!("{body}\n"))
    };
    match put {
        Put::Queued => answer(202, "queued", id),
        Put::Waits(id) => answer(200, "already queued", id),
        Put::TooMany => {
            Answer::text(429, "too many requests wait for the next check").with("Retry-After: 60")
        }
    }
}

/// What is said of alerts that were handed in.
pub fn handed_in(queued: usize, waiting: usize, resolved: usize, ignored: usize) -> Answer {
    let body = serde_json::json!({
        "queued": queued, "already queued": waiting, "resolved": resolved, "ignored": ignored,
    });
    let status = if queued > 0 { 202 } else { 200 };
    Answer::new(status, Kind::Json, format!("{body}\n"))
}

/// What is said to one that is refused.
pub fn refused(refused: Refused) -> Answer {
    match refused {
        Refused::Malformed(why) => Answer::text(400, why),
        Refused::NoLength => Answer::text(
            411,
            "the body must come with a Content-Length, in one piece",
        ),
        Refused::BodyTooLarge => Answer::text(413, "the body is larger than 256 KiB"),
        Refused::HeadTooLarge => Answer::text(
            431,
            "the head is larger than 8 KiB, or has more than 32 headers",
        ),
        Refused::Version => Answer::text(505, "this speaks HTTP/1.1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    fn rules(protect_reads: bool) -> AccessRules {
        AccessRules {
            // of "t"
            token: Some(
                "e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8".to_owned(),
            ),
            protect_reads,
            max_age_s: 300,
            services: vec!["a".to_owned()],
            alerts: None,
        }
    }

    #[test]
    fn each_path_has_its_methods() {
        use Method::{Get, Head, Other, Post};
        for (method, path, answer) in [
            (Get, "/", Ok(Route::Page)),
            (Head, "/", Ok(Route::Page)),
            (Get, "/status.json", Ok(Route::Json)),
            (Get, "/metrics", Ok(Route::Metrics)),
            (Get, "/health", Ok(Route::Health)),
            (Post, "/repair/a.b-c", Ok(Route::Repair("a.b-c".to_owned()))),
            (Post, "/alertmanager", Ok(Route::Alertmanager)),
            (Post, "/", Err((405, Some("Allow: GET, HEAD")))),
            (Other, "/health", Err((405, Some("Allow: GET, HEAD")))),
            (Get, "/repair/a", Err((405, Some("Allow: POST")))),
            (Head, "/alertmanager", Err((405, Some("Allow: POST")))),
            (Get, "/nope", Err((404, None))),
            (Get, "/status.html", Err((404, None))),
            (Get, "/access.json", Err((404, None))),
            (Get, "/../etc/passwd", Err((404, None))),
            (Post, "/repair/", Err((404, None))),
            (Post, "/repair/a/b", Err((404, None))),
            (Other, "/nope", Err((404, None))),
        ] {
            let routed = route(method, path).map_err(|answer| (answer.status, answer.header));
            assert_eq!(routed, answer, "{method:?} {path}");
        }
    }

    #[test]
    fn who_has_the_token_may_ask() {
        let repair = Route::Repair("a".to_owned());
        let none = AccessRules {
            token: None,
            ..rules(false)
        };
        let locked = AccessRules {
            token: None,
            ..rules(true)
        };
        for (route, rules, token, status) in [
            (&Route::Page, rules(false), None, None),
            (&Route::Page, rules(false), Some("x"), None),
            (&Route::Page, rules(true), None, Some(401)),
            (&Route::Health, rules(true), Some("x"), Some(401)),
            (&Route::Health, rules(true), Some("t"), None),
            (&repair, rules(false), None, Some(401)),
            (&repair, rules(false), Some("T"), Some(401)),
            (&repair, rules(false), Some("t"), None),
            (&Route::Alertmanager, rules(false), Some(""), Some(401)),
            (&repair, none.clone(), None, Some(403)),
            (&repair, none.clone(), Some("t"), Some(403)),
            (&Route::Metrics, none, None, None),
            (&Route::Metrics, locked, Some("t"), Some(403)),
        ] {
            let answer = permit(route, &rules, token.map(str::as_bytes));
            assert_eq!(
                answer.err().map(|answer| answer.status),
                status,
                "{route:?} {token:?}"
            );
        }
    }

    #[test]
    fn health_is_that_of_a_run_that_is_young_enough() {
        let published = |exit_code| Published {
            time: Some(at(0)),
            exit_code,
        };
        for (published, now, status, text) in [
            (
                Published {
                    time: None,
                    exit_code: 0,
                },
                0,
                503,
                "no run has published anything yet\n",
            ),
            (
                published(0),
                60,
                200,
                "all well (all services come to exit code 0); the last run was at ",
            ),
            (
                published(1),
                300,
                200,
                "warnings only (all services come to exit code 1); the last run was at ",
            ),
            (
                published(2),
                60,
                503,
                "a service is broken (all services come to exit code 2); the last run was at ",
            ),
            (published(3), 60, 503, "something could not be seen"),
            (published(73), 60, 503, "the run could not be recorded"),
            (published(70), 60, 503, "the run failed"),
            (published(0), 301, 503, "the last run was at "),
            // the clock is corrected a little now and then
            (
                published(0),
                -10,
                200,
                "all well (all services come to exit code 0); the last run was at ",
            ),
            (
                published(0),
                -11,
                503,
                "the last run was at 2027-01-15T08:00:00Z, which is ahead of the clock: ",
            ),
        ] {
            let answer = health(published, &rules(false), at(now));
            assert_eq!(answer.status, status, "{published:?}");
            assert!(answer.body.starts_with(text), "{}", answer.body);
        }
    }

    #[test]
    fn an_answer_is_whole_and_lets_nothing_happen() {
        let answer = Answer::text(405, "no").with("Allow: POST");
        let bytes = answer.bytes(false, "page", at(0));
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "HTTP/1.1 405 Method Not Allowed\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 3\r\nConnection: close\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\nAllow: POST\r\n\r\nno\n"
        );
        let page = Answer::new(200, Kind::Html, "<p>");
        let head = String::from_utf8(page.bytes(true, "style-src 'x'", at(0))).unwrap();
        assert!(
            head.contains("Content-Security-Policy: style-src 'x'; frame-ancestors 'none'\r\n")
        );
        assert!(head.contains("Content-Length: 3\r\n") && head.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_request_is_queued_once() {
        let answers = [
            (
                Put::Queued,
                202,
                "{\"id\":\"new\",\"service\":\"a\",\"status\":\"queued\"}\n",
            ),
            (
                Put::Waits("old".to_owned()),
                200,
                "{\"id\":\"old\",\"service\":\"a\",\"status\":\"already queued\"}\n",
            ),
            (
                Put::TooMany,
                429,
                "too many requests wait for the next check\n",
            ),
        ];
        for (put, status, body) in answers {
            let answer = queued(&put, "a", "new");
            assert_eq!((answer.status, &*answer.body), (status, body));
        }
    }
}
