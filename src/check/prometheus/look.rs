//! Asks Prometheus and Alertmanager: each question once a run, for all services together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alerts::{self, Repaired, Wanted};
use super::rule::Rule;
use super::settings::Prometheus;
use crate::check::Looking;
use crate::client::alertmanager::{self, Suppressed};
use crate::client::http::{Request, Url, ask};
use crate::client::prometheus::{Rules, Server, Value, read_rules, read_value};

/// The least time that an Alertmanager has, whatever Prometheus took.
const LEAST: Duration = Duration::from_secs(1);

/// What an Alertmanager holds back; the error is a sentence.
pub(super) type Held = Result<Vec<Suppressed>, String>;

/// What was said. Errors are sentences.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// All rules, and what an Alertmanager holds back, where one was asked.
    Rules(Arc<Result<Rules, String>>, Option<Arc<Held>>),
    /// What an expression gives.
    Value(Arc<Result<Value, String>>),
}

/// What one check came to.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) said: Said,
    /// How long the answer took, where there was one.
    pub(super) took: Option<Duration>,
    /// How labels name this host.
    pub(super) host: Arc<str>,
}

/// A question, and whom it is for.
struct Question<'a> {
    rule: &'a Rule,
    query: Option<&'a str>,
    /// The longest of those who ask it.
    limit: Duration,
}

impl<'a> Question<'a> {
    fn of(rule: &'a Rule) -> Self {
        Self {
            rule,
            query: rule.probe().and_then(|probe| probe.query.as_deref()),
            limit: rule.timeout(),
        }
    }

    fn own_url(&self) -> Option<&'a Url> {
        self.rule.probe().and_then(|probe| probe.url.as_ref())
    }

    fn is(&self, other: &Self) -> bool {
        self.query == other.query
            && self.own_url() == other.own_url()
            && (self.own_url().is_some() || self.rule.settings == other.rule.settings)
    }

    /// `shared` is the server of `[prometheus]`.
    fn request(&self, shared: Option<&Result<Server, String>>) -> Result<Request, String> {
        let server = match self.own_url() {
            Some(url) => Server {
                url: url.clone(),
                headers: Vec::new(),
                ca_file: None,
            },
            // the config has seen to it that there is one
            None => (shared.cloned())
                .unwrap_or_else(|| Err("cannot be asked: it has no URL".to_owned()))?,
        };
        match self.query {
            Some(query) => server.query(query, self.limit),
            None => server.rules(),
        }
    }
}

/// An answer that was read.
enum Read {
    Rules(Result<Rules, String>),
    Value(Result<Value, String>),
}

/// Asks what these checks ask, and returns what each came to, in their order. With each the last repair of its service.
pub(super) fn look(
    checks: &[(Arc<Rule>, Option<Arc<Repaired>>)],
    looking: &Looking<'_>,
) -> Vec<Raw> {
    let began = Instant::now();
    let mut questions: Vec<Question<'_>> = Vec::new();
    let mut whose = Vec::with_capacity(checks.len());
    for (rule, _) in checks {
        let question = Question::of(rule);
        let known = questions.iter().position(|it| it.is(&question));
        let place = known.unwrap_or(questions.len());
        whose.push(place);
        if let Some(it) = questions.get_mut(place) {
            it.limit = it.limit.max(question.limit);
        } else {
            questions.push(question);
        }
    }
    let first = checks.iter().find_map(|(rule, _)| rule.settings.clone());
    let host: Arc<str> = first
        .as_ref()
        .map_or_else(String::new, |it| it.host())
        .into();
    let answers = ask_all(&questions, looking);
    let mut raws: Vec<Raw> = (whose.iter())
        .map(|&place| {
            let (said, took) = &answers[place];
            Raw {
                said: said.clone(),
                took: *took,
                host: Arc::clone(&host),
            }
        })
        .collect();
    let asked = |raw: &Raw, (rule, repaired): &(Arc<Rule>, Option<Arc<Repaired>>)| {
        (rule.shared())
            .filter(|it| {
                it.alertmanager.is_some() && fires(raw, rule, repaired.as_deref(), looking)
            })
            .cloned()
    };
    let places: Vec<Option<Arc<Prometheus>>> = (raws.iter().zip(checks))
        .map(|(raw, check)| asked(raw, check))
        .collect();
    // nobody is asked what is silenced where nothing fires
    if let Some(settings) = places.iter().flatten().next() {
        let limits = questions.iter().map(|it| it.limit).max();
        let left = limits.unwrap_or(LEAST).saturating_sub(began.elapsed());
        let held = Arc::new(ask_alertmanager(settings, left.max(LEAST), looking));
        for (raw, _) in raws.iter_mut().zip(&places).filter(|(_, it)| it.is_some()) {
            if let Said::Rules(_, place) = &mut raw.said {
                *place = Some(Arc::clone(&held));
            }
        }
    }
    raws
}

/// Whether something fires that would count.
fn fires(raw: &Raw, rule: &Rule, repaired: Option<&Repaired>, looking: &Looking<'_>) -> bool {
    let Said::Rules(rules, _) = &raw.said else {
        return false;
    };
    let (Ok(rules), Some(wanted)) = (&**rules, Wanted::by(rule, &raw.host)) else {
        return false;
    };
    let found = alerts::judge(&wanted, rules, None, repaired, looking.now.wall);
    !found.counted.is_empty() || !found.reported.is_empty()
}

fn ask_all(questions: &[Question<'_>], looking: &Looking<'_>) -> Vec<(Said, Option<Duration>)> {
    // there is one table, whose secrets are read once
    let mut shared: Option<Result<Server, String>> = None;
    let (mut requests, mut places) = (Vec::new(), Vec::new());
    let mut said: Vec<Option<(Said, Option<Duration>)>> = Vec::with_capacity(questions.len());
    for (place, question) in questions.iter().enumerate() {
        if let Some(settings) = question.rule.shared()
            && shared.is_none()
        {
            shared = Some(read_secrets(settings, looking));
        }
        match question.request(shared.as_ref()) {
            Ok(request) => {
                requests.push((request, question.limit));
                places.push(place);
                said.push(None);
            }
            Err(why) => {
                let why = format!("{} {why}", question.rule.server());
                said.push(Some((question.failed(why), None)));
            }
        }
    }
    let answers = ask(requests, looking.deadline, &|number, response| {
        let question = &questions[places[number]];
        let whole = |why: String| format!("{} {why}", question.rule.server());
        match question.query {
            Some(_) => Read::Value(read_value(&response).map_err(whole)),
            None => Read::Rules(read_rules(&response).map_err(whole)),
        }
    });
    for (place, answer) in places.iter().zip(answers) {
        let question = &questions[*place];
        said[*place] = Some(match answer {
            Ok(answered) => {
                let read = match answered.answer {
                    Read::Rules(rules) => Said::Rules(Arc::new(rules), None),
                    Read::Value(value) => Said::Value(Arc::new(value)),
                };
                (read, Some(answered.took))
            }
            Err(failure) => {
                let why = failure.sentence(&question.rule.server());
                (question.failed(why), None)
            }
        });
    }
    let unasked = |(said, question): (Option<_>, &Question<'_>)| {
        said.unwrap_or_else(|| (question.failed("it was not asked".to_owned()), None))
    };
    said.into_iter().zip(questions).map(unasked).collect()
}

impl Question<'_> {
    fn failed(&self, why: String) -> Said {
        match self.query {
            Some(_) => Said::Value(Arc::new(Err(why))),
            None => Said::Rules(Arc::new(Err(why)), None),
        }
    }
}

/// Reads what proves who asks: a file system that hangs is given up.
fn read_secrets(settings: &Arc<Prometheus>, looking: &Looking<'_>) -> Result<Server, String> {
    if !settings.reads_files() {
        return settings.server();
    }
    let theirs = Arc::clone(settings);
    let limit = looking.check_timeout;
    let read = looking.pool.alone(limit, move || theirs.server());
    read.unwrap_or_else(|_| Err("cannot be asked: its secret cannot be read in time".to_owned()))
}

/// Asks the Alertmanager of a table what it holds back.
pub(super) fn ask_alertmanager(
    settings: &Prometheus,
    limit: Duration,
    looking: &Looking<'_>,
) -> Held {
    let Some(server) = settings.alertmanager() else {
        return Ok(Vec::new());
    };
    let shown = format!("the Alertmanager at {}", server.url);
    let whole = |why: String| format!("{shown} {why}");
    let request = alertmanager::alerts(&server).map_err(whole)?;
    let answers = ask(vec![(request, limit)], looking.deadline, &|_, response| {
        alertmanager::suppressed(&response)
    });
    match answers.into_iter().next() {
        Some(Ok(answered)) => answered.answer.map_err(whole),
        Some(Err(failure)) => Err(failure.sentence(&shown)),
        None => Err(format!("{shown} was not asked")),
    }
}
