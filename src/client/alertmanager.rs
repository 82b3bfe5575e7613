//! What an Alertmanager is asked: which alerts it holds back. Its API v2, in JSON.
//!
//! Source: <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>.

use serde::Deserialize;

use super::http::{Request, Response};
use super::prometheus::{Labels, Server, body, not_api, refused};
use crate::text::printable;

/// An alert that is held back there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// Its labels, those that Prometheus adds for others among them.
    pub labels: Labels,
    /// `silenced`, `inhibited` or `muted`.
    pub how: &'static str,
}

impl Suppressed {
    /// Whether it is the alert of Prometheus that has these labels.
    pub fn is(&self, labels: &Labels) -> bool {
        (labels.iter()).all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

#[derive(Deserialize)]
struct AlertData {
    labels: Labels,
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    state: String,
    #[serde(default)]
    silenced_by: Option<Vec<String>>,
    #[serde(default)]
    inhibited_by: Option<Vec<String>>,
    #[serde(default)]
    muted_by: Option<Vec<String>>,
}

/// Asks for all alerts. The error continues a sentence that begins with the URL.
pub fn alerts(server: &Server) -> Result<Request, String> {
    server.get("api/v2/alerts?active=true&silenced=true&inhibited=true&unprocessed=true")
}

/// Which alerts an answer to [`alerts`] says are held back. The error continues a sentence that begins with the URL.
pub fn suppressed(response: &Response) -> Result<Vec<Suppressed>, String> {
    let body = body(response)?;
    if response.status.as_u16() != 200 {
        return Err(refused(response, None));
    }
    let alerts: Vec<AlertData> = serde_json::from_slice(body).map_err(|error| {
        if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
            let shown = printable(body, 100);
            format!("answered with something that is no JSON: `{shown}`")
        } else {
            format!("answered with {}", not_api(&error))
        }
    })?;
    let held = alerts.into_iter().filter_map(|alert| {
        let Status {
            state,
            silenced_by,
            inhibited_by,
            muted_by,
        } = alert.status;
        let any = |by: Option<Vec<String>>| by.is_some_and(|by| !by.is_empty());
        let how = if any(silenced_by) {
            "silenced"
        } else if any(inhibited_by) {
            "inhibited"
        } else if any(muted_by) || state == "suppressed" {
            "muted"
        } else {
            return None;
        };
        Some(Suppressed {
            labels: alert.labels,
            how,
        })
    });
    Ok(held.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::prometheus::tests::response;

    #[test]
    fn what_is_held_back_is_known_and_what_is_no_answer_is_an_error() {
        let body = r#"[
            {"labels":{"alertname":"A","job":"x","cluster":"eu"},"status":{"state":"suppressed","silencedBy":["1"],"inhibitedBy":[]}},
            {"labels":{"alertname":"B"},"status":{"state":"suppressed","silencedBy":[],"inhibitedBy":["2"]}},
            {"labels":{"alertname":"C"},"status":{"state":"active","silencedBy":[],"inhibitedBy":[],"mutedBy":["nights"]}},
            {"labels":{"alertname":"D"},"status":{"state":"suppressed"}},
            {"labels":{"alertname":"E"},"status":{"state":"active","silencedBy":[],"inhibitedBy":[]}},
            {"labels":{"alertname":"F"},"status":{"state":"unprocessed"}}]"#;
        let held = suppressed(&response(200, "", body)).unwrap();
        let hows: Vec<(&str, &str)> = (held.iter())
            .map(|it| (&*it.labels["alertname"], it.how))
            .collect();
        assert_eq!(
            hows,
            [
                ("A", "silenced"),
                ("B", "inhibited"),
                ("C", "muted"),
                ("D", "muted")
            ]
        );
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let pairs = pairs.iter();
            pairs.map(|&(n, v)| (n.to_owned(), v.to_owned())).collect()
        };
        // it has more labels there
        assert!(held[0].is(&labels(&[("alertname", "A"), ("job", "x")])));
        assert!(!held[0].is(&labels(&[("alertname", "A"), ("job", "y")])));
        assert!(!held[0].is(&labels(&[("alertname", "A"), ("pod", "y")])));

        for (status, body, expected) in [
            (
                200,
                "<html>",
                "answered with something that is no JSON: `<html>`",
            ),
            (200, "{}", "answered with JSON that its API does not give"),
            (
                503,
                "starting",
                "answered 503 Service Unavailable: starting",
            ),
        ] {
            let error = suppressed(&response(status, "", body)).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(suppressed(&response(200, "", "[]")), Ok(Vec::new()));
    }
}
