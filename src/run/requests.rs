//! The step of a run that takes what somebody asked `watchdog web` for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Access, Asked, Run, Session};
use crate::check::prometheus::handed_in;
use crate::clock::exact;
use crate::decide::Decision;
use crate::publish::web::REQUESTS;
use crate::requests::{self, Alert, Request};
use crate::state::State;
use crate::state::journal::{self, Entry, JournalEvent};
use crate::text::{cut, visible};

/// Of a name that is no service's so many characters are kept: as many as a service's has at most.
const NAME: usize = 64;

/// The journal has an alert that is for no service under this name.
const WATCHDOG: &str = "watchdog";

impl Run {
    /// Takes what somebody asked for: of the services of this run, for the next one may be of others. It is journalled and
    /// removed before anything is done about it, so that no request is carried out twice.
    pub fn take_requests(&self, session: &mut Session) {
        let (Some(web), Access::Writable { store, .. }) = (&self.config.web, &session.access)
        else {
            return;
        };
        let directory = web.dir.join(REQUESTS);
        let me = nix::unistd::geteuid().as_raw();
        let now = self.now.wall;
        let limit = self.config.check_timeout;
        let looked = self
            .pool
            .alone(limit, move || requests::look(&directory, me, now));
        let Ok(mut waiting) = looked else {
            ::log::error!(
                "{}: the disk did not answer within {}; no request is taken from it",
                web.dir.display(),
                exact(limit)
            );
            return;
        };
        for trouble in &waiting.troubles {
            ::log::warn!("{trouble}");
        }
        for (_, request) in &mut waiting.requests {
            if let Some(alert) = &request.alert {
                let service = self.service_of(&alert.labels).unwrap_or(WATCHDOG);
                request.service = service.to_owned();
            }
            // what names no service may be anything, and goes into the log and the journal
            if session.roster.service(&request.service).is_none() {
                request.service = cut(&visible(&request.service), NAME);
            }
        }
        waiting.requests.retain(|(_, request)| {
            let is_known = session.roster.service(&request.service).is_some();
            !is_known || self.is_about(&request.service)
        });
        let entries: Vec<Entry> = (waiting.requests.iter())
            .filter(|(_, request)| !is_done(&session.state, request))
            .map(|(_, request)| {
                let mut asked = Entry::new(now, &request.service, JournalEvent::Requested);
                asked.message = Some(request.origin());
                asked
            })
            .collect();
        journal::append_or_warn(store.dir(), &entries);
        waiting
            .requests
            .retain(|(path, _)| match std::fs::remove_file(path) {
                Ok(()) => true,
                Err(error) => {
                    // it would be carried out by each run
                    let path = path.display();
                    ::log::error!(
                        "{path}: the request cannot be removed, so it is not carried out: {error}"
                    );
                    false
                }
            });
        session.requests = (waiting.requests.into_iter())
            .map(|(_, request)| request)
            .filter(|request| !is_done(&session.state, request))
            .map(|request| {
                let refusal = self.alert_refusal(&session.state, &request);
                Asked { request, refusal }
            })
            .collect();
    }

    fn service_of<'a>(&self, labels: &'a BTreeMap<String, String>) -> Result<&'a str, String> {
        let settings = (self.config.prometheus.as_ref())
            .ok_or_else(|| "the config has no [prometheus]".to_owned())?;
        handed_in::service_of(settings, labels)
    }

    /// Why an alert is no reason for a repair, by the rules of `[prometheus]`.
    fn alert_refusal(&self, state: &State, request: &Request) -> Option<String> {
        let alert = request.alert.as_ref()?;
        let service = match self.service_of(&alert.labels) {
            Ok(service) => service,
            Err(why) => return Some(for_no_service(alert, &why)),
        };
        let settings = self.config.prometheus.as_ref()?;
        let known = state.services.get(service);
        let repaired = known.and_then(|known| known.last_repair());
        handed_in::refusal(
            settings,
            service,
            &alert.labels,
            alert.started,
            repaired.as_ref(),
            &self.now,
        )
    }

    /// Journals which requests are not carried out, and why.
    pub fn refuse_requests(&self, session: &mut Session, decisions: &[Decision]) {
        let Access::Writable { store, .. } = &session.access else {
            return;
        };
        let mut entries = Vec::new();
        let confirm = (self.config.prometheus.as_ref()).is_some_and(|it| it.confirm);
        for Asked { request, refusal } in session.requests.drain(..) {
            let decision = decisions.iter().find(|it| it.service == request.service);
            let own = || match decision {
                Some(decision) if confirm && request.alert.is_some() => unconfirmed(decision),
                Some(decision) => decision.refused.clone(),
                None => Some("there is no such service".to_owned()),
            };
            let Some(why) = refusal.or_else(own) else {
                if let Some(alert) = &request.alert {
                    session.state.note_handed_in(alert.key(), self.now.wall);
                }
                continue;
            };
            let is_for_none =
                (request.alert.as_ref()).is_some_and(|it| self.service_of(&it.labels).is_err());
            if is_for_none {
                ::log::warn!("{why} ({})", request.origin());
            } else {
                ::log::warn!(
                    "{} is not restarted, as {}: {why}",
                    request.service,
                    request.origin()
                );
            }
            let event = JournalEvent::RequestRefused;
            let mut refused = Entry::new(self.now.wall, &request.service, event);
            refused.message = Some(why);
            entries.push(refused);
        }
        journal::append_or_warn(store.dir(), &entries);
    }

    /// The services that are to be restarted because somebody asked for it.
    pub(super) fn requested<'a>(&self, session: &'a Session) -> BTreeSet<&'a str> {
        let confirm = (self.config.prometheus.as_ref()).is_some_and(|it| it.confirm);
        let asked = session.requests.iter();
        let asked = asked.filter(|it| it.refusal.is_none());
        // what needs a check of its own to fail is decided by that
        let asked = asked.filter(|it| !confirm || it.request.alert.is_none());
        asked.map(|it| &*it.request.service).collect()
    }
}

/// That an alert is for no service, and why.
fn for_no_service(alert: &Alert, why: &str) -> String {
    let name = alert.labels.get("alertname").map_or("", String::as_str);
    format!(
        "the alert {} is for no service: {why}",
        cut(&visible(name), 100)
    )
}

/// Why nothing is done where an alert counts only with a failing check: none fails, or what the decision says, such as a spent
/// budget or a pause.
fn unconfirmed(decision: &Decision) -> Option<String> {
    if decision.operation.is_some() {
        return None;
    }
    let own = decision.why.clone();
    Some(
        own.unwrap_or_else(|| {
            "no check of its own fails (confirm = true in [prometheus])".to_owned()
        }),
    )
}

/// Whether it is of an alert that a repair was made for: it is handed in again and again while it lasts.
fn is_done(state: &State, request: &Request) -> bool {
    let alert = request.alert.as_ref();
    alert.is_some_and(|alert| state.handed_in.contains_key(&alert.key()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restart::Operation;
    use crate::verdict::Verdict;

    #[test]
    fn an_alert_that_needs_a_check_is_refused_for_the_reason_of_the_decision() {
        let of = |verdict, why: Option<&str>| Decision {
            why: why.map(str::to_owned),
            ..Decision::of("api", verdict)
        };
        let unconfirmed_one = "no check of its own fails (confirm = true in [prometheus])";
        let spent = "3 of 3 restarts in the last hour";
        let waits = "waits for `db`, which is down";
        let paused = "paused until somebody resumes it";
        for (decision, why) in [
            (of(Verdict::Healthy, None), Some(unconfirmed_one)),
            (of(Verdict::Unknown, None), Some(unconfirmed_one)),
            (of(Verdict::Exhausted, Some(spent)), Some(spent)),
            (of(Verdict::Waiting, Some(waits)), Some(waits)),
            (of(Verdict::Paused, Some(paused)), Some(paused)),
            (
                Decision {
                    operation: Some(Operation::Restart),
                    ..of(Verdict::Failing, None)
                },
                None,
            ),
        ] {
            assert_eq!(unconfirmed(&decision).as_deref(), why, "{decision:?}");
        }
    }
}
