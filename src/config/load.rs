//! Finding, trusting and reading the config file: the only part of `config` that touches the system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::environment::{Environment, Search};
use super::error::ConfigError;
use super::top::Written;
use super::trust::{self, Facts};
use super::{Config, Included, place, top};
use crate::files::{self, Links, Refusal};
use crate::notify::ping::Ping;
use crate::secret::{Kept, Secret};
use crate::table::fault::Source;
use crate::text::visible;

/// The largest config, in bytes: a thousand services fit.
const LARGEST: u64 = 1 << 20;

/// So many files are included at most.
const MOST_FILES: usize = 1000;

/// Finds the config: `explicit`, `$WATCHDOG_CONFIG`, `./watchdog.toml`,
/// `$XDG_CONFIG_HOME/watchdog/watchdog.toml`, `/etc/watchdog/watchdog.toml`, the first that exists. What was
/// named by the first two is meant, and is given back whether it exists or not. The path is absolute.
pub fn find(explicit: Option<&Path>) -> Result<PathBuf, ConfigError> {
    search(&Search::of_process(explicit))
}

pub(super) fn search(search: &Search) -> Result<PathBuf, ConfigError> {
    let here = search.here.clone().unwrap_or_default();
    if let Some(named) = search.explicit.as_ref().or(search.variable.as_ref()) {
        return Ok(here.join(named));
    }
    let looked: Vec<PathBuf> = search
        .here
        .iter()
        .map(|here| here.join("watchdog.toml"))
        .chain(
            search
                .config_home
                .iter()
                .map(|home| home.join("watchdog/watchdog.toml")),
        )
        .chain([PathBuf::from("/etc/watchdog/watchdog.toml")])
        .collect();
    // what is there but cannot be looked at is there: to pass it over would be a surprise
    let there = |path: &PathBuf| match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ),
    };
    match looked.iter().find(|path| there(path)) {
        Some(path) => Ok(path.clone()),
        None => Err(ConfigError::NotFound { looked }),
    }
}

/// Loads a config: whether it can be trusted, what it says, and whether its secrets are kept.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_in(path, &Environment::of_process())
}

pub(super) fn load_in(path: &Path, environment: &Environment) -> Result<Config, ConfigError> {
    let path = &std::path::absolute(path).map_err(|e| ConfigError::unreadable(path, &e))?;
    let main = Opened::trusted(path, environment.uid)?;
    let id = main.id;
    let main = main.read()?;
    let (included, files) = included(&main, id, environment.uid)?;
    let texts: Vec<Written<'_>> = files.iter().map(Read::written).collect();
    let mut config =
        top::read(main.written(), &texts, environment).map_err(|faults| ConfigError::Faulty {
            path: path.clone(),
            faults,
        })?;
    config.included = included;
    check_secrets(&config, &main, &files, environment.uid)?;
    Ok(config)
}

/// The `[ping]` table of a config that has faults elsewhere, and can be trusted.
pub fn ping(path: &Path) -> Option<Ping> {
    let user = Environment::of_process().uid;
    let path = std::path::absolute(path).ok()?;
    let main = Opened::trusted(&path, user).ok()?.read().ok()?;
    let ping = top::ping(main.written())?;
    check_ping(&ping, &main, user).ok()?;
    Some(ping)
}

/// Whether nobody else can read its URL.
fn check_ping(ping: &Ping, main: &Read, user: u32) -> Result<(), ConfigError> {
    for private in ping.secrets() {
        let file = match &*private.secret {
            Secret::Inline(_) => None,
            Secret::File(path) => Some(&**path),
            Secret::Env(_) | Secret::Credential(_) => continue,
        };
        let key = std::iter::once("ping".to_owned()).chain(private.key);
        let kept = Kept {
            key: key.collect(),
            file,
        };
        check_secret(main, user, &kept, "URL")?;
    }
    Ok(())
}

/// A file that is open, and could come only from somebody who can be trusted with it.
struct Opened {
    path: PathBuf,
    facts: Facts,
    /// By device and number.
    id: (u64, u64),
    file: File,
    size: u64,
}

impl Opened {
    /// Opens a file, and judges whom it could come from.
    fn trusted(path: &Path, user: u32) -> Result<Self, ConfigError> {
        let (file, metadata) = open(path)?;
        let own = Facts::of(path, &metadata);
        let mut facts =
            trust::directory_facts(path).map_err(|e| ConfigError::unreadable(path, &e))?;
        facts.push(own.clone());
        let refusals = trust::refusals(user, &facts);
        if !refusals.is_empty() {
            return Err(ConfigError::Untrusted { refusals });
        }
        Ok(Self {
            path: path.to_owned(),
            facts: own,
            id: (metadata.dev(), metadata.ino()),
            file,
            size: metadata.len(),
        })
    }

    fn read(self) -> Result<Read, ConfigError> {
        Ok(Read {
            text: text(&self.path, self.file, self.size)?,
            path: self.path,
            facts: self.facts,
        })
    }
}

/// A file that was read, by somebody who could be trusted with it.
struct Read {
    path: PathBuf,
    facts: Facts,
    text: String,
}

impl Read {
    fn written(&self) -> Written<'_> {
        Written {
            path: &self.path,
            text: &self.text,
        }
    }
}

/// What the patterns of a config match, and the files that it includes by them, each read once. All that may not be trusted
/// are told together. `id` is that of the config itself.
fn included(
    main: &Read,
    id: (u64, u64),
    user: u32,
) -> Result<(Vec<Included>, Vec<Read>), ConfigError> {
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        // an editor keeps such files beside those that it changes
        require_literal_leading_dot: true,
    };
    let directory = main.path.parent().unwrap_or(Path::new("/"));
    let (mut all, mut read) = (Vec::new(), Vec::new());
    let mut taken = BTreeSet::from([id]);
    let mut refused: Vec<trust::Refusal> = Vec::new();
    for (number, pattern) in top::include_patterns(&main.text) {
        let base = glob::Pattern::escape(&directory.to_string_lossy());
        let absolute = Path::new(&base).join(&pattern);
        let mut files = Vec::new();
        // it reads as a pattern, or it would not be here
        let matches = glob::glob_with(&absolute.to_string_lossy(), options);
        for path in matches.into_iter().flatten() {
            let path =
                path.map_err(|error| ConfigError::unreadable(error.path(), error.error()))?;
            match Opened::trusted(&path, user) {
                Ok(opened) => {
                    if opened.id != id {
                        files.push(path);
                    }
                    if taken.insert(opened.id) {
                        read.push(opened.read()?);
                    }
                }
                Err(ConfigError::Untrusted { refusals }) => {
                    let new = refusals.into_iter().filter(|new| !refused.contains(new));
                    refused.extend(new.collect::<Vec<_>>());
                }
                Err(_) if path.is_dir() => {
                    return Err(a_directory(main, number, &pattern, &path));
                }
                Err(other) => return Err(other),
            }
            if taken.len() > MOST_FILES {
                return Err(ConfigError::Unreadable {
                    path: absolute,
                    reason: format!("more than {MOST_FILES} files are included"),
                    help: Some("is this the pattern that was meant?".to_owned()),
                });
            }
        }
        all.push(Included { pattern, files });
    }
    if !refused.is_empty() {
        return Err(ConfigError::Untrusted { refusals: refused });
    }
    Ok((all, read))
}

/// A pattern of a number matches a directory.
fn a_directory(main: &Read, number: usize, pattern: &str, path: &Path) -> ConfigError {
    let number = number.to_string();
    let keys = ["include", &number];
    let at = place::value_of(&main.text, &keys).unwrap_or_default();
    let help = if pattern.contains(['*', '?', '[']) {
        "let the pattern match files alone, or give the directory another name".to_owned()
    } else {
        format!(
            "write \"{}/*.toml\" for the files in it",
            pattern.trim_end_matches('/')
        )
    };
    ConfigError::Faulty {
        path: main.path.clone(),
        faults: vec![Source::new(&main.text, &main.path).fault(
            &at,
            &place::shown(&main.text, &keys),
            &format!(
                "{} is a directory, and only files are included",
                path.display()
            ),
            Some(&help),
            false,
        )],
    }
}

pub(super) fn open(path: &Path) -> Result<(File, Metadata), ConfigError> {
    let (file, metadata) = files::open(path, Links::Follow).map_err(|refusal| match refusal {
        Refusal::Kind(kind) => not_a_file(path, kind),
        Refusal::Io(error) => ConfigError::unreadable(path, &error),
    })?;
    if metadata.len() > LARGEST {
        return Err(too_large(path, &format!("{} bytes", metadata.len())));
    }
    Ok((file, metadata))
}

fn too_large(path: &Path, size: &str) -> ConfigError {
    ConfigError::Unreadable {
        path: path.to_owned(),
        reason: format!("{size} are too large for a config, which has {LARGEST} at most"),
        help: Some("is this the file that was meant?".to_owned()),
    }
}

fn not_a_file(path: &Path, kind: &str) -> ConfigError {
    let help = if path.is_dir() {
        let inside = path.join("watchdog.toml");
        format!("name the file in it: {}", inside.display())
    } else {
        "a config is a regular file".to_owned()
    };
    ConfigError::Unreadable {
        path: path.to_owned(),
        reason: format!("this is {kind}, not a file"),
        help: Some(visible(&help)),
    }
}

fn text(path: &Path, file: File, size: u64) -> Result<String, ConfigError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ConfigError::unreadable(path, &error))?;
    // it may have grown, or be of a kind that has no size
    if bytes.len() as u64 > LARGEST {
        return Err(too_large(path, &format!("more than {LARGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        ConfigError::Faulty {
            path: path.to_owned(),
            faults: vec![Source::new(&text, path).fault(
                // up to here both texts are the same, and here one has the character for what is not one
                &(good..good + char::REPLACEMENT_CHARACTER.len_utf8()),
                "",
                "this is not UTF-8",
                Some("save the file as UTF-8"),
                false,
            )],
        }
    })
}

/// Whether nobody else can read the secrets of channels and checks.
fn check_secrets(
    config: &Config,
    main: &Read,
    included: &[Read],
    user: u32,
) -> Result<(), ConfigError> {
    for channel in &config.channels {
        let what = if channel.as_mail().is_some() {
            "password"
        } else {
            "secret"
        };
        let file = channel.file.as_deref().and_then(|place| {
            let mut files = included.iter();
            files.find(|file| *file.path == *place)
        });
        for private in channel.secrets() {
            let place = match &*private.secret {
                Secret::Inline(_) => None,
                Secret::File(path) => Some(&**path),
                Secret::Env(_) | Secret::Credential(_) => continue,
            };
            let key = channel.place().into_iter().chain(private.key);
            let kept = Kept {
                key: key.collect(),
                file: place,
            };
            check_secret(file.unwrap_or(main), user, &kept, what)?;
        }
    }
    if let Some(ping) = &config.ping {
        check_ping(ping, main, user)?;
    }
    if let Some(token) = config.web.as_ref().and_then(|web| web.token.as_ref()) {
        let file = match token {
            Secret::Inline(_) => Some(None),
            Secret::File(path) => Some(Some(&**path)),
            Secret::Env(_) | Secret::Credential(_) => None,
        };
        if let Some(file) = file {
            let key = match file {
                Some(_) => "token_file",
                None => "token",
            };
            let kept = Kept {
                key: ["web", key].map(str::to_owned).into(),
                file,
            };
            check_secret(main, user, &kept, "token")?;
        }
    }
    for kept in config.prometheus.iter().flat_map(|it| it.secrets()) {
        let key = std::iter::once("prometheus".to_owned()).chain(kept.key);
        let kept = Kept {
            key: key.collect(),
            ..kept
        };
        check_secret(main, user, &kept, "secret")?;
    }
    for scale in &config.scales {
        let file = match scale.rule.metric.secret() {
            Some(Secret::Inline(_)) => None,
            Some(Secret::File(path)) => Some(&**path),
            Some(Secret::Env(_) | Secret::Credential(_)) | None => continue,
        };
        let key = if file.is_some() {
            "redis_file"
        } else {
            "redis"
        };
        let key = ["scale", &scale.name, "metric", key].map(str::to_owned);
        let kept = Kept {
            key: key.into(),
            file,
        };
        let mut files = included.iter().chain([main]);
        let read = files.find(|file| *file.path == *scale.file);
        check_secret(read.unwrap_or(main), user, &kept, "URL")?;
    }
    let services = config
        .services
        .iter()
        .map(|it| ("service", &it.name, &**it));
    let found = config
        .discover
        .iter()
        .map(|it| ("discover", &it.name, &it.sample));
    for (table, name, service) in services.chain(found) {
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for check in &service.checks {
            let kind = check.rule.kind_name();
            let number = numbers.entry(kind).or_default();
            for kept in check.rule.secrets() {
                let table = [table, name, kind, &number.to_string()].map(str::to_owned);
                let kept = Kept {
                    key: table.into_iter().chain(kept.key).collect(),
                    ..kept
                };
                let mut files = included.iter().chain([main]);
                let file = files.find(|file| *file.path == *service.file);
                check_secret(file.unwrap_or(main), user, &kept, "secret")?;
            }
            *number += 1;
        }
    }
    Ok(())
}

/// Whether nobody else can read a secret that is in `file`, or that it names. `what` it is, for people.
fn check_secret(file: &Read, user: u32, kept: &Kept<'_>, what: &str) -> Result<(), ConfigError> {
    let refusal = match kept.file {
        None => trust::secret_refusal(user, &file.facts, what),
        Some(path) => {
            let fault = |reason: &str| secret_fault(file, &kept.key, path, reason, what);
            let metadata = fs::metadata(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => fault("there is no such file"),
                _ => fault(&format!("cannot be looked at: {error}")),
            })?;
            if !metadata.is_file() {
                return Err(fault("this is not a regular file"));
            }
            trust::secret_refusal(user, &Facts::of(path, &metadata), what)
        }
    };
    match refusal {
        Some(refusal) => Err(ConfigError::Untrusted {
            refusals: vec![refusal],
        }),
        None => Ok(()),
    }
}

/// Something is the matter with the file of a secret.
fn secret_fault(file: &Read, key: &[String], path: &Path, reason: &str, what: &str) -> ConfigError {
    let keys: Vec<&str> = key.iter().map(String::as_str).collect();
    let at = place::value_of(&file.text, &keys).unwrap_or_default();
    ConfigError::Faulty {
        path: file.path.clone(),
        faults: vec![Source::new(&file.text, &file.path).fault(
            &at,
            &place::shown(&file.text, &keys),
            &format!("{}: {reason}", path.display()),
            Some(&format!("name a file of mode 0600 with the {what} in it")),
            false,
        )],
    }
}
