//! The `[prometheus]` table: a Prometheus, as whom it is asked, and which of its alerts are reasons for repairs.

use std::path::PathBuf;
use std::time::Duration;

use crate::check::http::Headers;
use crate::client::http::{HeaderName, HeaderValue, Url, basic, header};
use crate::client::prometheus::{Labels, Server};
use crate::secret::{Kept, Secret};
use crate::table::{Checked, Context, Filled, Form, Part, Shown, Table, Value, quoted, table};

table! {
    /// A Prometheus that tables [[service.NAME.prometheus]] ask, and whose alerts may be reasons for repairs.
    pub struct Prometheus like "prometheus = { url = \"http://127.0.0.1:9090\" }", check fits_together {
        /// Where it is, without /api/v1. With a user and password in it nobody else may read this file.
        url: Url as Place, commented r#""http://127.0.0.1:9090""#;
        /// The user, where it asks for one, with `password`.
        username: Option<String> as Option<Filled>, commented r#""watchdog""#;
        /// The password of that user.
        password: Option<Secret> => Secret, commented r#""s3cret""#;
        /// In their place: a token that is sent as "Bearer".
        token: Option<Secret> => Secret, commented r#""eyJhbGciOi""#;
        /// What is sent beside; where one is a secret, nobody else may read this file.
        headers: Vec<(HeaderName, HeaderValue)> as Headers = Vec::new(), commented r#"{ X-Scope-OrgID = "team" }"#;
        /// Authorities to trust in addition to the system's.
        ca_file: Option<PathBuf>, commented r#""/etc/ssl/own-ca.pem""#;
        /// Alerts that fire and have all of these labels are critical findings, `alert_firing`, of services; default: none are.
        match_("match"): Option<Labels> as Option<LabelTable>, commented r#"{ auto_repair = "true" }"#;
        /// The label that names the service.
        service_label: String as Filled = "service".to_owned();
        /// An alert that has this label counts where it names this host: "host" or "host:port".
        host_label: String as Filled = "instance".to_owned();
        /// The name of this host in that label; default: its host name.
        host: Option<String> as Option<Filled>, commented r#""web1.example.org""#;
        /// An alert that was active before the last repair of a service counts again only after so long: its window still has
        /// what was before.
        settle_for: Duration = Duration::from_mins(10);
        /// True: such an alert is a reason for a repair only where another check of the service fails too, else it is a warning.
        confirm: bool = false;
        /// An Alertmanager: what is silenced, inhibited or muted there repairs nothing.
        alertmanager: Option<Url> as Option<Place>, commented r#""http://127.0.0.1:9093""#;
    }
}

/// The URL of a server, below which its API is.
pub(super) struct Place;

impl Form<Url> for Place {
    fn read(value: &Value<'_>, context: &Context) -> Option<Url> {
        let url = <Url as Form>::read(value, context)?;
        if url.has_query() {
            value.wrong(
                "there is a query in it, and paths are added to it",
                "write it like \"http://127.0.0.1:9090\"",
            );
            return None;
        }
        Some(url)
    }

    fn show(value: &Url) -> Option<Shown> {
        <Url as Form>::show(value)
    }

    fn kind() -> String {
        "a URL".to_owned()
    }
}

/// Labels with their values.
pub(super) struct LabelTable;

impl Checked for LabelTable {
    type Of = Labels;
    const KIND: &'static str = "a table of texts";

    fn read(value: &Value<'_>, _: &Context) -> Option<Labels> {
        const SAMPLE: &str = "{ alertname = \"HighErrorRate\", service = \"api\" }";
        let entries = value.entries(&format!("{} = {SAMPLE}", value.name().trim_matches('`')))?;
        if entries.is_empty() {
            value.wrong(
                "without any label each alert would be meant",
                format!("write it like {SAMPLE}"),
            );
            return None;
        }
        let read = |(name, value): (&str, Value<'_>)| {
            let right = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty()
                || !name.chars().all(right)
                || name.starts_with(|c: char| c.is_ascii_digit())
            {
                value.misplaced(
                    &format!("{} cannot be the name of a label", quoted(name)),
                    "letters, digits and '_'",
                );
                return None;
            }
            Some((name.to_owned(), value.filled()?))
        };
        let count = entries.len();
        let labels: Labels = entries.into_iter().filter_map(read).collect();
        (labels.len() == count).then_some(labels)
    }
}

impl Form for Labels {
    fn read(value: &Value<'_>, context: &Context) -> Option<Self> {
        <LabelTable as Checked>::read(value, context)
    }

    fn show(labels: &Self) -> Option<Shown> {
        let shown = labels.iter();
        let shown = shown.map(|(name, value)| (name.clone(), Shown::text(value)));
        Some(Shown::Table(shown.collect()))
    }

    fn kind() -> String {
        "a table of texts".to_owned()
    }
}

fn fits_together(table: &Table<'_>, part: &mut Part<Prometheus>) {
    let has = |key| Secret::is_there(table, key);
    Secret::check_login(table, "a Prometheus");
    let headers = part.headers.as_deref().unwrap_or_default();
    let in_headers = (headers.iter()).any(|(name, _)| *name == header::AUTHORIZATION);
    let in_url = part.url.as_ref().is_some_and(Url::has_password);
    let in_keys = has("token") || has("password");
    if [in_headers, in_url, in_keys]
        .into_iter()
        .filter(|it| *it)
        .count()
        > 1
        && let Some(value) = table.get("url")
    {
        value.misplaced(
            "what proves who asks is in several places",
            "write it as username and password, as a token, in the URL, or as a header",
        );
    }
    if let (Some(url), Some(value)) = (&part.url, table.get("ca_file"))
        && !url.is_tls()
        && !(part.alertmanager.as_ref()).is_some_and(|it| it.as_ref().is_some_and(Url::is_tls))
    {
        value.misplaced(
            "`ca_file` means nothing without https",
            "leave it out, or write https:// in the URL",
        );
    }
    if !table.has("match") {
        let confirms = table.get("confirm");
        let confirms = confirms.filter(|value| value.raw_flag() == Some(true));
        for value in confirms.into_iter().chain(table.get("host")) {
            value.misplaced(
                &format!("{} without `match`", value.name()),
                "write match = { auto_repair = \"true\" } too: which alerts are reasons for repairs",
            );
        }
    }
}

impl Prometheus {
    /// Whom to ask, and as whom. It reads secrets, and may block; the error continues a sentence that begins with the URL.
    pub fn server(&self) -> Result<Server, String> {
        let mut headers = self.headers.clone();
        let unreadable = |why: String| format!("cannot be asked: {why}");
        let proof = if let Some(token) = &self.token {
            let token = token.read("token").map_err(unreadable)?;
            HeaderValue::from_str(&format!("Bearer {token}")).ok()
        } else if let (Some(user), Some(password)) = (&self.username, &self.password) {
            let password = password.read("password").map_err(unreadable)?;
            basic(user.as_bytes(), password.as_bytes())
        } else {
            return Ok(self.with(headers));
        };
        let mut proof = proof
            .ok_or_else(|| unreadable("its secret has characters that no header has".to_owned()))?;
        proof.set_sensitive(true);
        headers.push((header::AUTHORIZATION, proof));
        Ok(self.with(headers))
    }

    fn with(&self, headers: Vec<(HeaderName, HeaderValue)>) -> Server {
        Server {
            url: self.url.clone(),
            headers,
            ca_file: self.ca_file.clone(),
        }
    }

    /// The Alertmanager. What proves who asks Prometheus is not sent to it.
    pub(super) fn alertmanager(&self) -> Option<Server> {
        Some(Server {
            url: self.alertmanager.clone()?,
            headers: Vec::new(),
            ca_file: self.ca_file.clone(),
        })
    }

    /// Whether a file has to be read before it can be asked.
    pub(super) fn reads_files(&self) -> bool {
        let secrets = self.password.iter().chain(&self.token);
        secrets
            .into_iter()
            .any(|secret| matches!(secret, Secret::File(_) | Secret::Credential(_)))
    }

    /// What nobody else may read, and under which keys of its table it is.
    pub fn secrets(&self) -> Vec<Kept<'_>> {
        let kept = |key: &[&str], file| Kept {
            key: key.iter().map(|key| (*key).to_owned()).collect(),
            file,
        };
        let mut all = Vec::new();
        if self.url.has_password() {
            all.push(kept(&["url"], None));
        }
        if self.alertmanager.as_ref().is_some_and(Url::has_password) {
            all.push(kept(&["alertmanager"], None));
        }
        let marked = self.headers.iter().filter(|(_, it)| it.is_sensitive());
        all.extend(marked.map(|(name, _)| kept(&["headers", name.as_str()], None)));
        for (name, secret) in [("password", &self.password), ("token", &self.token)] {
            match secret {
                Some(Secret::Inline(_)) => all.push(kept(&[name], None)),
                Some(Secret::File(path)) => {
                    let mut one = kept(&[], Some(path));
                    one.key.push(format!("{name}_file"));
                    all.push(one);
                }
                _ => {}
            }
        }
        all
    }

    /// The name of this host in labels, where it is not the host's own.
    pub(super) fn host(&self) -> String {
        let own = || {
            nix::unistd::gethostname().map_or_else(
                |_| "localhost".to_owned(),
                |name| name.to_string_lossy().into_owned(),
            )
        };
        self.host.clone().unwrap_or_else(own)
    }

    /// What a test begins with.
    #[cfg(test)]
    pub(crate) fn of(url: &str) -> Self {
        Self {
            url: Url::parse(url).unwrap(),
            username: None,
            password: None,
            token: None,
            headers: Vec::new(),
            ca_file: None,
            match_: None,
            service_label: "service".to_owned(),
            host_label: "instance".to_owned(),
            host: Some("web1".to_owned()),
            settle_for: Duration::from_mins(10),
            confirm: false,
            alertmanager: None,
        }
    }
}
