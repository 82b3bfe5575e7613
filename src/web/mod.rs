//! `watchdog web`: one request on standard input, one answer on standard output.
//!
//! systemd holds the socket and starts a process for each connection, so nothing of ours listens, and one that is stuck holds up
//! no other. It has no right to restart anything: it reads what runs have published, and drops requests for the next check. What
//! is decided is in [`request`] and [`routes`], which are pure; here bytes are moved, within ten seconds in all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::Utc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::files::{self, Links};
use crate::notify::nonce;
use crate::publish::page;
use crate::publish::web::{ACCESS, AccessRules, JSON, METRICS, PAGE, REQUESTS};
use crate::requests::{self, Alert, Put, Request};
use crate::text::{cut, plain, visible};

pub mod alerts;
pub mod request;
pub mod routes;

use request::{Head, Method, Refused};
use routes::{Answer, Kind, Published, Route};

/// For all of it, in seconds: then the process ends, whatever it waits for.
const IN_ALL_S: u32 = 10;

/// For the request, so that there is time to say that it was too slow.
const TO_ASK: Duration = Duration::from_millis(9500);

/// Of what a client still sends after the answer so much is read, for so long: else the answer might be lost with it.
const LEFT: usize = 1 << 20;
const TO_LEAVE: Duration = Duration::from_secs(1);

/// What is said of a published file that is damaged.
const DAMAGED: &str = "what the last run published cannot be understood";

/// No published file is larger.
const LARGEST: u64 = 16 << 20;

/// What is served.
#[derive(Clone, Debug)]
pub struct Site {
    /// The directory that runs publish in.
    pub dir: PathBuf,
    /// Who may ask for what, where the config can be read; else the last run has published it.
    pub rules: Option<AccessRules>,
}

/// Answers the request on standard input. The error is one of the system, with the connection.
pub fn serve(site: &Site) -> io::Result<()> {
    answer_with(|conversation| conversation.answer(site))
}

/// Answers whatever is asked that it cannot be answered.
pub fn apologize() -> io::Result<()> {
    answer_with(|conversation| {
        conversation.head()?;
        Err(Answer::text(
            503,
            "the config cannot be used; its log says why",
        ))
    })
}

fn answer_with(answer: impl FnOnce(&mut Conversation) -> Result<Answer, Answer>) -> io::Result<()> {
    nix::unistd::alarm::set(IN_ALL_S);
    let mut conversation = Conversation::begin()?;
    let answer = answer(&mut conversation).unwrap_or_else(|answer| answer);
    conversation.end(&answer)
}

struct Conversation {
    from: File,
    to: File,
    read: Vec<u8>,
    until: Instant,
    /// Only the head of the answer is wanted.
    head_only: bool,
    /// All that belongs to the request was read.
    is_whole: bool,
}

impl Conversation {
    fn begin() -> io::Result<Self> {
        let file = |fd: io::Result<OwnedFd>| fd.map(File::from);
        Ok(Self {
            from: file(io::stdin().as_fd().try_clone_to_owned())?,
            to: file(io::stdout().as_fd().try_clone_to_owned())?,
            read: Vec::new(),
            until: Instant::now() + TO_ASK,
            head_only: false,
            is_whole: false,
        })
    }

    /// Reads some more, as it comes; nothing where there is no more.
    fn more(&mut self) -> Result<usize, Answer> {
        let slow = || Answer::text(408, "the request did not come within 10 s");
        let broken = || Answer::text(400, "the request could not be read");
        let left = self.until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut polled = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, left) {
            Ok(0) => return Err(slow()),
            Ok(_) => {}
            Err(_) => return Err(broken()),
        }
        let mut part = [0; 16 << 10];
        let length = self.from.read(&mut part).map_err(|_| broken())?;
        self.read
            .extend_from_slice(part.get(..length).unwrap_or_default());
        Ok(length)
    }

    /// Reads the head, and leaves what came of the body.
    fn head(&mut self) -> Result<Head, Answer> {
        loop {
            if let Some((head, length)) = request::parse(&self.read).map_err(routes::refused)? {
                self.read.drain(..length);
                self.head_only = head.method == Method::Head;
                self.is_whole = head.length == 0;
                return Ok(head);
            }
            if self.more()? == 0 {
                return Err(routes::refused(Refused::Malformed(
                    "the request is cut short",
                )));
            }
        }
    }

    /// Reads the body.
    fn body(&mut self, head: &Head) -> Result<Vec<u8>, Answer> {
        if head.waits && self.read.len() < head.length {
            let _ = self.to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        while self.read.len() < head.length {
            if self.more()? == 0 {
                return Err(routes::refused(Refused::Malformed(
                    "the request is cut short",
                )));
            }
        }
        self.is_whole = true;
        self.read.truncate(head.length);
        Ok(std::mem::take(&mut self.read))
    }

    fn answer(&mut self, site: &Site) -> Result<Answer, Answer> {
        let head = self.head()?;
        let route = routes::route(head.method, &head.path)?;
        let rules = site.rules()?;
        routes::permit(&route, &rules, head.token.as_deref())?;
        match route {
            Route::Page => site.page(&rules),
            Route::Json => Ok(Answer::new(200, Kind::Json, site.published()?.0)),
            Route::Metrics => Ok(Answer::new(200, Kind::Metrics, site.file(METRICS)?)),
            Route::Health => Ok(routes::health(site.published()?.1, &rules, Utc::now())),
            Route::Repair(service) => {
                self.body(&head)?;
                site.repair(&rules, &service)
            }
            Route::Alertmanager => {
                let body = self.body(&head)?;
                site.alerts(&rules, &body)
            }
        }
    }

    fn end(mut self, answer: &Answer) -> io::Result<()> {
        let bytes = answer.bytes(self.head_only, &page::policy(), Utc::now());
        self.to.write_all(&bytes)?;
        self.to.flush()?;
        if self.is_whole {
            return Ok(());
        }
        // a connection that is closed with something unread is reset, and the answer with it
        let socket = socket2::SockRef::from(&self.to);
        if socket.shutdown(std::net::Shutdown::Write).is_err() {
            return Ok(());
        }
        self.until = Instant::now() + TO_LEAVE;
        let mut left = 0;
        while left < LEFT {
            self.read.clear();
            match self.more() {
                Ok(0) | Err(_) => break,
                Ok(read) => left += read,
            }
        }
        Ok(())
    }
}

impl Site {
    /// Who may ask for what.
    fn rules(&self) -> Result<AccessRules, Answer> {
        let published = || {
            let text = self.file(ACCESS)?;
            serde_json::from_str::<AccessRules>(&text).map_err(|it| self.damaged(ACCESS, &it))
        };
        match &self.rules {
            None => published(),
            Some(rules) => {
                let mut rules = rules.clone();
                // those that were found are in no config
                let found = published().map(|it| it.services).unwrap_or_default();
                rules.services.extend(found);
                Ok(rules)
            }
        }
    }

    /// A file that the last run published.
    fn file(&self, name: &str) -> Result<String, Answer> {
        let path = self.dir.join(name);
        read(&path).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                return Answer::text(503, "no run has published anything yet");
            }
            ::log::error!("{}: {}", path.display(), plain(&error));
            Answer::text(503, "what the last run published cannot be read")
        })
    }

    fn damaged(&self, name: &str, error: &serde_json::Error) -> Answer {
        ::log::error!("{}: {error}", self.dir.join(name).display());
        Answer::text(503, DAMAGED)
    }

    /// What the last run published for programs, whole, and what is read of it here.
    fn published(&self) -> Result<(String, Published), Answer> {
        let text = self.file(JSON)?;
        let published = serde_json::from_str(&text).map_err(|it| self.damaged(JSON, &it))?;
        Ok((text, published))
    }

    fn page(&self, rules: &AccessRules) -> Result<Answer, Answer> {
        let page = self.file(PAGE)?;
        // the page itself may be whole, and does not say how old it is
        let late = match self.published() {
            Ok((_, published)) => {
                let late = published.is_late(rules, Utc::now());
                late.map(|late| ("This page is old.", late))
            }
            Err(answer) => Some(("This page may be old.", answer.body.trim_end().to_owned())),
        };
        let page = match late {
            Some((title, late)) => page::with_warning(&page, title, &late),
            None => page,
        };
        Ok(Answer::new(200, Kind::Html, page))
    }

    fn repair(&self, rules: &AccessRules, service: &str) -> Result<Answer, Answer> {
        if !rules.services.iter().any(|name| name == service) {
            return Err(Answer::text(404, "there is no such service"));
        }
        let request = asked(service, None);
        let put = self.put(&request)?;
        if put == Put::Queued {
            ::log::info!("{service}: {}", request.origin());
        }
        Ok(routes::queued(&put, service, &request.id))
    }

    fn alerts(&self, rules: &AccessRules, body: &[u8]) -> Result<Answer, Answer> {
        let Some(wanted) = &rules.alerts else {
            let why = "no alert can be handed in: the config has no `match` in [prometheus]";
            return Err(Answer::text(404, why));
        };
        let sent = alerts::parse(body, wanted).map_err(|why| Answer::text(400, why))?;
        let (mut queued, mut waiting) = (0, 0);
        for alert in sent.firing {
            let request = asked("", Some(alert));
            match self.put(&request)? {
                Put::Queued => {
                    ::log::info!("{}", request.origin());
                    queued += 1;
                }
                Put::Waits(_) => waiting += 1,
                Put::TooMany => return Err(routes::queued(&Put::TooMany, "", "")),
            }
        }
        Ok(routes::handed_in(
            queued,
            waiting,
            sent.resolved,
            sent.ignored,
        ))
    }

    fn put(&self, request: &Request) -> Result<Put, Answer> {
        let directory = self.dir.join(REQUESTS);
        requests::put(&directory, request).map_err(|error| {
            ::log::error!("{}: {}", directory.display(), plain(&error));
            Answer::text(503, "requests cannot be kept; the log says why")
        })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let (file, _) = files::open(path, Links::Follow)?;
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// A request that is made now.
fn asked(service: &str, alert: Option<Alert>) -> Request {
    Request {
        id: format!("{:016x}", nonce()),
        service: service.to_owned(),
        time: Utc::now(),
        from: client(),
        alert,
    }
}

/// Who asks, as systemd says it.
fn client() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("REMOTE_ADDR"), variable("REMOTE_PORT")) {
        (Some(address), Some(port)) => cut(&visible(&format!("{address}:{port}")), 80),
        (Some(address), None) => cut(&visible(&address), 80),
        _ => "a local client".to_owned(),
    }
}
