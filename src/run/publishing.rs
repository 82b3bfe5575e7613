//! The step of a run that writes what others read of it.

use super::{Access, Results, Run, Session};
use crate::clock::exact;
use crate::config::Web;
use crate::publish;
use crate::publish::web::{AccessRules, Pages};
use crate::report;
use crate::state::{RunResult, State};

/// What a run exits with that could not be recorded.
const UNRECORDED: u8 = 73;

impl Run {
    /// Writes what others read of the run, where the config says where to. Trouble with that is logged, and changes nothing
    /// else.
    pub fn publish(&self, session: &Session, results: &Results) {
        let config = &self.config;
        if config.metrics.textfile.is_none() && config.web.is_none() {
            return;
        }
        // as it was recorded: before the messages were handed over
        let recorded = session.state.last_result;
        let mut run = recorded.unwrap_or_else(|| self.result(results));
        let mut trouble = Vec::new();
        match &session.access {
            Access::ReadOnly => return,
            Access::Refused(error) => {
                run.exit_code = UNRECORDED;
                trouble.push(format!(
                    "{error}; nothing is restarted until that is mended"
                ));
            }
            Access::Writable { .. } => {}
        }
        let (services, state) = (&session.roster.services, &session.state);
        let metrics = publish::metrics(config, services, state, Some(run), &self.now);
        if let Some(web) = &config.web {
            let pages = self.pages(web, state, run, &trouble, metrics.clone());
            let dir = web.dir.clone();
            if let Err(why) = self.write(move || publish::web::publish(&dir, &pages)) {
                ::log::error!(
                    "[web] cannot be published: {why}; what is there is of an earlier run"
                );
            }
        }
        if let Some(path) = config.metrics.textfile.clone() {
            let shown = path.display().to_string();
            let write = move || publish::write_public(&path, &metrics).map_err(|it| it.to_string());
            if let Err(why) = self.write(write) {
                ::log::error!(
                    "{shown}: the metrics cannot be written: {why}; node-exporter still has those of an earlier run"
                );
            }
        }
    }

    /// A disk that hangs blocks whoever writes to it, so a thread of the pool does.
    fn write(
        &self,
        write: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let limit = self.config.check_timeout;
        let written = self.pool.alone(limit, write);
        written.unwrap_or_else(|_| {
            let limit = exact(limit);
            Err(format!("the disk did not answer within {limit}"))
        })
    }

    /// What `watchdog web` serves of this run.
    fn pages(
        &self,
        web: &Web,
        state: &State,
        run: RunResult,
        trouble: &[String],
        metrics: String,
    ) -> Pages {
        let (config, now) = (&self.config, self.now.wall);
        let mut report = report::of_state(config, state, now, |_| true);
        if !trouble.is_empty() {
            report.exit_code = run.exit_code;
        }
        let json = serde_json::to_string(&report).unwrap_or_default() + "\n";
        // for people only: `status` cannot tell, and prints the same as is published
        report.duration_ms = Some(run.duration_ms);
        let (access, unreadable) = AccessRules::of(config, web);
        if let Some(why) = unreadable {
            ::log::error!("{why}; `watchdog web` takes no requests until that is mended");
        }
        Pages {
            page: publish::status_page(config, &report, |_| true, now, trouble),
            json,
            metrics,
            access,
        }
    }
}
