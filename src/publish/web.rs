//! What `watchdog web` serves, and what it has to know for that.
//!
//! It runs as a user of its own that can read neither the config nor the state. So each run publishes what it needs beside the
//! pages: the names of the services, the limit of age, and a digest of the token, which only its group can read.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Web};
use crate::files;
use crate::text::digest;

/// The status page.
pub const PAGE: &str = "status.html";
/// What `status --json` prints.
pub const JSON: &str = "status.json";
/// What `metrics` prints.
pub const METRICS: &str = "metrics.prom";
/// An [`AccessRules`].
pub const ACCESS: &str = "access.json";
/// The directory that requests are dropped into.
pub const REQUESTS: &str = "requests";

/// Who may ask for what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRules {
    /// The SHA-256 of the token, in hexadecimal digits; absent: nobody can ask for a repair.
    pub token: Option<String>,
    /// Whether the token is needed to read as well.
    pub protect_reads: bool,
    /// The age of a run, in seconds, from which on `/health` complains.
    pub max_age_s: u64,
    /// The services that there are.
    pub services: Vec<String>,
    /// The labels that an alert must have to be handed in; absent: none can be.
    #[serde(default)]
    pub alerts: Option<BTreeMap<String, String>>,
}

impl AccessRules {
    /// What a config says. A token that cannot be read is none; why, is given back as well.
    pub fn of(config: &Config, web: &Web) -> (Self, Option<String>) {
        let token = web.token.as_ref().map(|token| token.read("token of [web]"));
        let (token, trouble) = match token.transpose() {
            Ok(token) => (token, None),
            Err(trouble) => (None, Some(trouble)),
        };
        let access = Self {
            token: token.map(|token| digest(token.as_bytes())),
            protect_reads: web.protect_reads,
            max_age_s: web.max_age.as_secs(),
            services: (config.services.iter())
                .map(|service| service.name.clone())
                .collect(),
            alerts: (config.prometheus.as_ref()).and_then(|it| it.match_.clone()),
        };
        (access, trouble)
    }

    /// The age of a run from which on `/health` complains.
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age_s)
    }

    /// Whether this is the token. Digests are compared, and each of their bytes: the time that takes tells nothing.
    pub fn is_token(&self, token: &[u8]) -> bool {
        let Some(known) = &self.token else {
            return false;
        };
        let given = digest(token);
        let differs = (known.bytes().zip(given.bytes())).fold(0, |all, (one, other)| {
            std::hint::black_box(all | (one ^ other))
        });
        known.len() == given.len() && differs == 0
    }
}

/// What a run publishes.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The status page.
    pub page: String,
    /// As `status --json`.
    pub json: String,
    /// As `metrics`.
    pub metrics: String,
    /// Who may ask for what.
    pub access: AccessRules,
}

/// Publishes all of it in a directory, which is made where it is missing; as root, only where nobody else can change it. The
/// error is a sentence.
pub fn publish(dir: &Path, pages: &Pages) -> Result<(), String> {
    if let Some(others) = files::who_could_lead_root(dir) {
        return Err(format!(
            "{} can be changed by {others}; keep it where only root can write",
            dir.display()
        ));
    }
    let failed = |path: &Path, error: &io::Error| {
        format!("{}: {}", path.display(), crate::text::plain(error))
    };
    let made = DirBuilder::new().mode(0o755).recursive(true).create(dir);
    made.map_err(|error| failed(dir, &error))?;
    let access = dir.join(ACCESS);
    serde_json::to_string(&pages.access)
        .map_err(io::Error::from)
        .and_then(|text| {
            super::write_whole(&access, &text, |file| {
                if pages.access.token.is_none() {
                    // whatever the umask says
                    return file.set_permissions(Permissions::from_mode(0o644));
                }
                keep_from_others(file, &dir.join(REQUESTS))
            })
        })
        .map_err(|error| failed(&access, &error))?;
    for (name, text) in [
        (METRICS, &pages.metrics),
        (JSON, &pages.json),
        (PAGE, &pages.page),
    ] {
        let path = dir.join(name);
        super::write_public(&path, text).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// Lets the group of a directory read a file, and nobody else: it is the group of the user that answers.
fn keep_from_others(file: &File, directory: &Path) -> io::Result<()> {
    let Ok(meta) = directory.symlink_metadata() else {
        return Ok(());
    };
    // to others than root, only groups of their own can be had
    if std::os::unix::fs::fchown(file, None, Some(meta.gid())).is_ok() {
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn access(token: Option<&str>) -> AccessRules {
        AccessRules {
            token: token.map(|token| digest(token.as_bytes())),
            protect_reads: false,
            max_age_s: 300,
            services: vec!["trader".to_owned()],
            alerts: None,
        }
    }

    #[test]
    fn only_the_token_is_the_token() {
        let known = access(Some("7f3b0e5c9a1d"));
        assert!(known.is_token(b"7f3b0e5c9a1d"));
        for other in ["", "7f3b0e5c9a1", "7f3b0e5c9a1dx", "7f3b0e5c9a1e"] {
            assert!(!known.is_token(other.as_bytes()), "{other}");
            assert!(!access(None).is_token(other.as_bytes()), "{other}");
        }
        assert_eq!(
            digest(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn everybody_may_read_the_pages_and_nobody_the_digest() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("web");
        let pages = Pages {
            page: "<p>".to_owned(),
            json: "{}".to_owned(),
            metrics: "a 1\n".to_owned(),
            access: access(Some("secret")),
        };
        publish(&dir, &pages).unwrap();
        let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().mode() & 0o777;
        for name in [PAGE, JSON, METRICS] {
            assert_eq!(mode(name), 0o644, "{name}");
        }
        assert_eq!(mode(ACCESS), 0o600);
        fs::create_dir(dir.join(REQUESTS)).unwrap();
        publish(&dir, &pages).unwrap();
        assert_eq!(mode(ACCESS), 0o640);
        let text = fs::read_to_string(dir.join(ACCESS)).unwrap();
        assert_eq!(
            serde_json::from_str::<AccessRules>(&text).unwrap(),
            pages.access
        );
        assert!(!text.contains("secret"));
        // without a token there is nothing in it that is not in the pages
        let open = Pages {
            access: access(None),
            ..pages.clone()
        };
        publish(&dir, &open).unwrap();
        assert_eq!(mode(ACCESS), 0o644);
        publish(&dir, &pages).unwrap();
        assert_eq!(mode(ACCESS), 0o640);
        // a file stands where the directory should be
        let error = publish(&dir.join(PAGE), &pages).unwrap_err();
        assert!(error.contains("status.html: "), "{error}");
    }
}
