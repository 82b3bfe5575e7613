//! Traps of the `[web]` table.

use super::Traps;
use crate::config::Config;
use crate::files::{self, Extent};

/// A token of fewer characters can be found by asking again and again.
const SHORTEST_TOKEN: usize = 16;

/// Looks for them. The token and the way to the directory are looked at as a run would find them now.
pub(super) fn look(config: &Config, traps: &mut Traps) {
    let Some(web) = &config.web else {
        return;
    };
    match web.token.as_ref().map(|token| token.read("token of [web]")) {
        Some(Err(why)) => traps.whole(
            "web.token",
            why,
            "until it can be read, nobody can ask for a repair",
        ),
        Some(Ok(token)) if token.chars().count() < SHORTEST_TOKEN => traps.whole(
            "web.token",
            format!(
                "the token of [web] has fewer than {SHORTEST_TOKEN} characters: it can be guessed"
            ),
            "make a long one: `openssl rand -hex 32`",
        ),
        _ => {}
    }
    let me = nix::unistd::geteuid();
    let others = files::writers(&web.dir, me.as_raw(), Extent::Existing);
    if !others.are_none() {
        let so = if me.is_root() {
            "root publishes nothing there"
        } else {
            "they could show other pages there"
        };
        traps.whole(
            "web.dir",
            format!("{} can be changed by {others}: {so}", web.dir.display()),
            "keep it, and what is above it, where only the user of the runs can write",
        );
    }
}
