//! `[ping]`: says to a service such as healthchecks.io that runs happen, so that their end is noticed.
//!
//! It is the last step of a run. What fails here is tried by no later run, for a late success would be a lie; and it
//! changes no exit code.

use std::time::Duration;

use super::Secret;
use super::answers::{Answer, Receipt};
use super::kind::{Private, check_url, url_traps};
use super::post::{Post, hand_over, proxy_trap};
use crate::check::trap::Trap;
use crate::table::{Part, Positive, Table, table};
use crate::text::cut;

table! {
    /// A service that is notified of each run.
    pub struct Ping like "ping = { url_file = \"/etc/watchdog/ping.url\" }", check is_url {
        /// The URL that is posted to after each run, and with /fail behind it after one that could not do its work.
        url: Secret => Secret, commented r#""https://hc-ping.com/0b5e8f5c-5a3a-4a0e-9d0e-2f6c6a1d1b7f""#;
        /// Whether a service that is broken is a failure as well.
        services: bool = false;
        /// For all of it; a ping is sent once.
        timeout: Duration as Positive = Duration::from_secs(5);
    }
}

/// So much of a report is sent: what such services keep.
const BODY: usize = 10_000;

fn is_url(table: &Table<'_>, part: &mut Part<Ping>) {
    check_url(table, "url", part.url.as_ref());
}

impl Ping {
    /// The secrets in its table.
    pub fn secrets(&self) -> Vec<Private<'_>> {
        vec![Private::of(&["url"], &self.url)]
    }

    /// What in its table may not do what was meant. Reads its URL, and sends nothing.
    pub fn traps(&self) -> Vec<Trap> {
        let mut found = url_traps("url", &self.url);
        found.extend(proxy_trap(self.post(true, "")));
        found
    }

    /// Whether a run that ended with this exit code is reported as a success; absent: it is not reported.
    fn is_success(&self, exit_code: u8) -> Option<bool> {
        match exit_code {
            2 => Some(!self.services),
            0..=3 => Some(true),
            70 | 73 | 78 => Some(false),
            // 75: another run goes on, and reports itself; 64: nobody's run
            _ => None,
        }
    }

    /// Reports how a run ended. What goes wrong is logged.
    pub fn send(&self, exit_code: u8, report: &str) {
        let Some(is_success) = self.is_success(exit_code) else {
            return;
        };
        let recipient = ["ping".to_owned()];
        let report = if is_success { "" } else { report };
        let post = self.post(is_success, report);
        let answered = hand_over(&recipient, post, None, receipt, self.timeout, &mut |_| {});
        for why in answered.whys() {
            ::log::warn!("ping failed: {why}");
        }
    }

    fn post(&self, is_success: bool, report: &str) -> Result<Post, String> {
        let url = self.url.read("URL")?;
        let url = if is_success { url } else { failing(&url) };
        Post::text(&url, cut(report, BODY))
    }
}

/// The URL for failures: with `/fail` behind its path.
fn failing(url: &str) -> String {
    let (path, query) = match url.find('?') {
        Some(at) => url.split_at(at),
        None => (url, ""),
    };
    format!("{}/fail{query}", path.trim_end_matches('/'))
}

/// Any success will do.
fn receipt(_: &Answer<'_>) -> Receipt {
    Receipt::Taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_code_is_told_as_what_it_means() {
        let ping = |services| Ping {
            url: Secret::Inline("https://hc.example/x".to_owned()),
            services,
            timeout: Duration::from_secs(5),
        };
        for (code, reported, with_services) in [
            (0, Some(true), Some(true)),
            (1, Some(true), Some(true)),
            (2, Some(true), Some(false)),
            (3, Some(true), Some(true)),
            (64, None, None),
            (70, Some(false), Some(false)),
            (73, Some(false), Some(false)),
            (75, None, None),
            (78, Some(false), Some(false)),
        ] {
            assert_eq!(ping(false).is_success(code), reported, "{code}");
            assert_eq!(ping(true).is_success(code), with_services, "{code}");
        }
    }

    #[test]
    fn a_failure_goes_to_a_path_below() {
        for (url, expected) in [
            ("https://hc.example/ID", "https://hc.example/ID/fail"),
            ("https://hc.example/ID/", "https://hc.example/ID/fail"),
            (
                "https://hc.example/ID?create=1",
                "https://hc.example/ID/fail?create=1",
            ),
        ] {
            assert_eq!(failing(url), expected);
        }
    }
}
