//! Asks endpoints, and sees of each answer what it is held against.

use std::sync::Arc;
use std::time::Duration;

use super::{KEPT, Rule};
use crate::check::Looking;
use crate::check::pattern::Pattern;
use crate::client::http::secrets::masked_where_cut;
use crate::client::http::{
    Answered, Failure, Request, Response, StatusCode, ask, header, redirects_to,
};
use crate::text::{cut, visible};

/// What one probe came to.
#[derive(Clone, Debug)]
pub enum Raw {
    /// There was an answer.
    Answered(Box<Answered<Seen>>),
    /// There was none.
    Failed(Failure),
    /// It could not be made, and so says nothing about the service. The text continues a sentence that begins with the
    /// URL.
    NotAsked(String),
}

/// What was seen of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its status.
    pub status: StatusCode,
    /// What is wrong with its body.
    pub wrong: Option<Wrong>,
    /// The first bytes of the body.
    pub first: Vec<u8>,
    /// How long the body was, as far as it was read.
    pub length: usize,
    /// Where it redirects to.
    pub redirects_to: Option<String>,
    /// How it is compressed, though that was not asked for.
    pub compressed: Option<String>,
}

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// This pattern matches nothing in it.
    Missing(String),
    /// This pattern matches something in it.
    Forbidden(String),
    /// A pattern cannot be searched for: that says nothing about the body.
    Unsearched(String),
}

/// Makes all probes, each within its own timeout, and returns what each came to, in their order.
pub fn look(rules: &[Arc<Rule>], looking: &Looking<'_>) -> Vec<Raw> {
    let mut raws: Vec<Option<Raw>> = Vec::with_capacity(rules.len());
    let (mut asked, mut requests) = (Vec::new(), Vec::new());
    let mut secrets = Vec::new();
    let mut read = read(rules, looking).into_iter();
    for rule in rules {
        let timeout: Duration = rule.timeout.unwrap_or(looking.check_timeout);
        let request = if rule.header_files.is_empty() {
            rule.request()
        } else {
            let missing = || Err("was not asked".to_owned());
            read.next().unwrap_or_else(missing)
        };
        match request {
            Ok(request) => {
                asked.push(&**rule);
                secrets.push(request.secrets.clone());
                requests.push((request, timeout));
                raws.push(None);
            }
            Err(why) => raws.push(Some(Raw::NotAsked(why))),
        }
    }
    let seen = ask(requests, looking.deadline, &|number, response| {
        see(asked[number], &secrets[number], &response)
    });
    let mut seen = seen.into_iter().map(|result| match result {
        Ok(answered) => Raw::Answered(Box::new(answered)),
        Err(failure) => Raw::Failed(failure),
    });
    let missing = || Raw::NotAsked("was not asked".to_owned());
    raws.into_iter()
        .map(|raw| raw.or_else(|| seen.next()).unwrap_or_else(missing))
        .collect()
}

/// The requests of rules with headers in files, in order: a file system that hangs is given up.
fn read(rules: &[Arc<Rule>], looking: &Looking<'_>) -> Vec<Result<Request, String>> {
    let rules = rules.iter().filter(|rule| !rule.header_files.is_empty());
    let results = looking.pool.side_by_side(
        rules.cloned().collect(),
        looking.check_timeout,
        looking.deadline,
        |rule: Arc<Rule>| rule.request(),
    );
    let given_up = |_| Err("cannot be asked: its header_files cannot be read in time".to_owned());
    let results = results.into_iter();
    results
        .map(|result| result.unwrap_or_else(given_up))
        .collect()
}

/// What of an answer counts.
fn see(rule: &Rule, secrets: &[String], response: &Response) -> Seen {
    let told = |bytes: &[u8]| masked_where_cut(&String::from_utf8_lossy(bytes), secrets);
    let text = |name| {
        let value = response.headers.get(name)?;
        Some(cut(&visible(&told(value.as_bytes())), KEPT))
    };
    let mut first = response.body[..response.body.len().min(KEPT)].to_vec();
    if !secrets.is_empty() {
        first = told(&first).into_bytes();
        first.truncate(KEPT);
    }
    let compressed = text(header::CONTENT_ENCODING);
    let is_redirect = response.status.is_redirection();
    Seen {
        status: response.status,
        wrong: what_is_wrong(rule, &response.body),
        first,
        length: response.body_length,
        redirects_to: is_redirect
            .then(|| redirects_to(&response.headers, secrets))
            .flatten(),
        compressed: compressed.filter(|how| !how.eq_ignore_ascii_case("identity")),
    }
}

fn what_is_wrong(rule: &Rule, body: &[u8]) -> Option<Wrong> {
    let source = |pattern: &Pattern| pattern.source().to_owned();
    let missing = rule.expect.iter().find(|expect| !expect.matches(body));
    let forbidden = rule.forbid.iter().find(|forbid| forbid.matches(body));
    // one that cannot be compiled matches nothing, whatever is there
    let mut all = rule.expect.iter().chain(&rule.forbid);
    let unsearched = all.find_map(Pattern::fault).map(Wrong::Unsearched);
    unsearched
        .or_else(|| missing.map(|pattern| Wrong::Missing(source(pattern))))
        .or_else(|| forbidden.map(|pattern| Wrong::Forbidden(source(pattern))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::{HeaderMap, HeaderValue};

    #[test]
    fn a_secret_that_is_cut_off_in_a_redirect_is_masked_as_a_whole() {
        let token = format!("CANARY-{}", "a".repeat(60));
        let response = Response {
            status: StatusCode::FOUND,
            headers: HeaderMap::from_iter([(
                header::LOCATION,
                HeaderValue::from_str(&format!("https://a.example/{}/{token}", "x".repeat(70)))
                    .unwrap(),
            )]),
            body: Vec::new(),
            body_length: 0,
        };
        let seen = see(&Rule::of("http://a.example/"), &[token], &response);
        let to = seen.redirects_to.unwrap();
        assert!(to.ends_with("x/***"), "{to}");
    }
}
