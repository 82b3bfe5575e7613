//! The step of a run that takes what somebody asked `watchdog web` for.

use super::{Access, Run, Session};
use crate::clock::exact;
use crate::decide::Decision;
use crate::publish::web::REQUESTS;
use crate::requests;
use crate::state::journal::{self, Entry, JournalEvent};

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
        waiting.requests.retain(|(_, request)| {
            let is_known = session.roster.service(&request.service).is_some();
            !is_known || self.names.contains(&request.service)
        });
        let entries: Vec<Entry> = (waiting.requests.iter())
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
            .collect();
    }

    /// Journals which requests are not carried out, and why.
    pub fn refuse_requests(&self, session: &mut Session, decisions: &[Decision]) {
        let Access::Writable { store, .. } = &session.access else {
            return;
        };
        let mut entries = Vec::new();
        for request in session.requests.drain(..) {
            let decision = decisions.iter().find(|it| it.service == request.service);
            let why = match decision {
                Some(decision) => decision.refused.clone(),
                None => Some("there is no such service".to_owned()),
            };
            let Some(why) = why else {
                continue;
            };
            ::log::warn!(
                "{} is not restarted, as {}: {why}",
                request.service,
                request.origin()
            );
            let event = JournalEvent::RequestRefused;
            let mut refused = Entry::new(self.now.wall, &request.service, event);
            refused.message = Some(why);
            entries.push(refused);
        }
        journal::append_or_warn(store.dir(), &entries);
    }
}
