//! `watchdog web`: one request on standard input, one answer.

use std::io;
use std::path::Path;

use crate::config::Config;
use crate::error::Error;
use crate::publish::web::AccessRules;
use crate::web::{Site, apologize, serve};

/// Serves what a config says. Where it cannot be loaded, or has no `[web]`, whoever asked is told, and the error is given back.
pub fn run(config: Result<Config, Error>) -> Result<u8, Error> {
    let refuse = |error| {
        let _ = apologize();
        Err(error)
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => return refuse(error),
    };
    let Some(web) = &config.web else {
        return refuse(Error::Usage(format!(
            "there is no [web] in {}",
            config.path.display()
        )));
    };
    let (rules, trouble) = AccessRules::of(&config, web);
    if let Some(trouble) = trouble {
        ::log::error!("{trouble}; nobody can ask for a repair until that is mended");
    }
    answered(&serve(&Site {
        dir: web.dir.clone(),
        rules: Some(rules),
    }));
    Ok(0)
}

/// Serves a directory by what the last run published in it, without a config.
pub fn run_without_config(dir: &Path) -> u8 {
    answered(&serve(&Site {
        dir: dir.to_owned(),
        rules: None,
    }));
    0
}

/// A client that has gone away is no trouble of ours.
fn answered(served: &io::Result<()>) {
    if let Err(error) = served {
        ::log::warn!("the client is gone: {}", crate::text::plain(error));
    }
}
