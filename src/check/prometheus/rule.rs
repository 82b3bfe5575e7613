//! What a service's Prometheus check asks: an alert, an expression, or which alerts want the service repaired.

use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::settings::{LabelTable, Place, Prometheus};
use crate::check::Severity;
use crate::client::http::Url;
use crate::client::prometheus::{Labels, in_braces};
use crate::table::{Filled, Part, Positive, Table, table};
use crate::text::cut;

table! {
    /// An alert that must not fire, or an expression that must give nothing; there may be several such tables.
    pub struct Probe like "[[service.NAME.prometheus]]", check fits_together {
        /// Which Prometheus is asked; default: that of the table `prometheus`, asked as it says.
        url: Option<Url> as Option<Place>, example r#""http://127.0.0.1:9090""#;
        /// It fails while an alert fires that has all of these labels; or …
        alert: Option<Labels> as Option<LabelTable>, example r#"{ alertname = "HighErrorRate", service = "api" }"#;
        /// … while this expression gives any sample. A scalar, or what is compared with `bool`, fails unless it is 0.
        query: Option<String> as Option<Filled>, commented r#"'up{job="api"} == 0'"#;
        /// Or "warning": reported, and never a reason to restart.
        severity: Severity = Severity::Critical;
        /// One limit for the name, the connection, TLS and the answer together; default: check_timeout.
        timeout: Option<Duration> as Option<Positive>, example r#""10s""#;
        /// It must have failed in every run for so long.
        for_("for"): Duration = Duration::ZERO;
    }
}

fn fits_together(table: &Table<'_>, _: &mut Part<Probe>) {
    const HELP: &str = "write alert = { alertname = \"…\" }, or query = '…'";
    let first = table.at_most_one(&["alert", "query"], HELP);
    if first.is_none() && !table.has_any(&["alert", "query"]) {
        table.lacks("it does not say what must not be", HELP);
    }
}

/// What is asked for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// What a table says.
    Probe(Box<Probe>),
    /// Which alerts want the service of this name repaired, as `[prometheus]` says.
    Repairs(String),
}

/// A check of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is asked.
    pub what: What,
    /// The `[prometheus]` table, where there is one.
    pub settings: Option<Arc<Prometheus>>,
    /// For all of it, where its own table does not say.
    pub(super) limit: Duration,
}

/// The target of the check that `[prometheus]` makes: no expression is written like that.
pub(super) const REPAIRS: &str = "[prometheus]";

/// So many characters of what is asked are in its id.
const NAMED: usize = 120;

/// What stands for a text in an id: it is one line, and not long.
fn named(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let whole = words.join(" ");
    if whole.chars().count() <= NAMED {
        return whole;
    }
    let hash = XxHash3_64::oneshot(whole.as_bytes());
    format!("{}#{hash:016x}", cut(&whole, NAMED))
}

impl Rule {
    /// A check by a table of a service.
    pub fn of(probe: Probe) -> Self {
        Self {
            what: What::Probe(Box::new(probe)),
            settings: None,
            limit: Duration::from_secs(10),
        }
    }

    /// The check whether alerts want this service repaired; nothing where `[prometheus]` has no `match`.
    pub fn repairs(service: &str, settings: &Arc<Prometheus>, limit: Duration) -> Option<Self> {
        settings.match_.as_ref()?;
        Some(Self {
            what: What::Repairs(service.to_owned()),
            settings: Some(Arc::clone(settings)),
            limit,
        })
    }

    /// The table of the service, where it is by one.
    pub fn probe(&self) -> Option<&Probe> {
        match &self.what {
            What::Probe(probe) => Some(probe),
            What::Repairs(_) => None,
        }
    }

    /// How long it may take.
    pub(super) fn timeout(&self) -> Duration {
        let own = self.probe().and_then(|probe| probe.timeout);
        own.unwrap_or(self.limit)
    }

    /// The table that says whom and as whom to ask; absent: the check has a URL of its own.
    pub(super) fn shared(&self) -> Option<&Arc<Prometheus>> {
        let has_own = self.probe().is_some_and(|probe| probe.url.is_some());
        self.settings.as_ref().filter(|_| !has_own)
    }

    /// Whom it asks, for people.
    pub(super) fn server(&self) -> String {
        let own = self.probe().and_then(|probe| probe.url.as_ref());
        let shared = self.settings.as_ref().map(|settings| &settings.url);
        own.or(shared).map_or_else(String::new, ToString::to_string)
    }

    /// What is asked, the second part of its id.
    pub(super) fn target(&self) -> String {
        match &self.what {
            What::Repairs(_) => REPAIRS.to_owned(),
            What::Probe(probe) => match (&probe.alert, &probe.query) {
                (Some(labels), _) => named(&in_braces(labels)),
                (None, query) => named(query.as_deref().unwrap_or_default()),
            },
        }
    }
}
