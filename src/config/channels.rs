//! The `[notify.NAME]` tables.

use std::collections::HashMap;
use std::sync::Arc;

use super::service::{Entry, is_name};
use crate::notify::{Channel, ChannelSettings};
use crate::table::{Context, quoted};

/// Reads the channels, in the order of the files.
pub(super) fn read(entries: &[Entry<'_>]) -> Vec<Channel> {
    let mut places = HashMap::new();
    let mut channels = Vec::new();
    for entry in entries {
        if entry.repeats(&mut places, "channels") {
            continue;
        }
        if entry.name == Channel::MAIL {
            entry.value.misplaced(
                "the channel `mail` is the table [mail]",
                "give this one another name",
            );
        } else if !is_name(entry.name) {
            entry.value.misplaced(
                &format!("{} cannot be the name of a channel", quoted(entry.name)),
                "letters, digits, '-', '_' and '.', 64 at most",
            );
        }
        let context = Context {
            base: Arc::clone(&entry.directory),
            directory: Arc::clone(&entry.directory),
        };
        channels.extend(
            ChannelSettings::read(&entry.value, &context).map(|settings| Channel {
                name: entry.name.to_owned(),
                settings,
                file: Some(Arc::clone(&entry.file)),
            }),
        );
    }
    channels
}
