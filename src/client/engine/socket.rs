//! Where the engine is, where the config does not say so.

use std::path::{Path, PathBuf};

/// What tells where an engine is, of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `$DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            docker_host: text("DOCKER_HOST"),
            runtime_dir: text("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }
}

/// The socket of the engine: `$DOCKER_HOST`, else the first that is there of Docker's and Podman's, of the system and of
/// the user. Where none is there it is Docker's of the system, so that somebody is told about that. The error says why
/// `$DOCKER_HOST` cannot be used.
pub fn find(
    environment: &Environment,
    is_there: impl Fn(&Path) -> bool,
) -> Result<PathBuf, String> {
    if let Some(host) = &environment.docker_host {
        return match host.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
            _ => Err(format!(
                "$DOCKER_HOST is `{}`: only an engine of this machine can be asked, by unix:///path/of/its/socket",
                crate::text::visible(host)
            )),
        };
    }
    let of_user = |name: &str| Some(environment.runtime_dir.as_ref()?.join(name));
    let first = PathBuf::from("/run/docker.sock");
    let all = [
        Some(first.clone()),
        of_user("docker.sock"),
        Some(PathBuf::from("/run/podman/podman.sock")),
        of_user("podman/podman.sock"),
    ];
    let found = all.into_iter().flatten().find(|path| is_there(path));
    Ok(found.unwrap_or(first))
}
