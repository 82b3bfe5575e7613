//! Programs that keep back what they print: a log of theirs looks older than it is.

use std::path::Path;

use super::prepare;
use super::rule::Spawn;
use crate::check::process::is_run_by;

/// The variable that has Python keep nothing back.
const UNBUFFERED: &str = "PYTHONUNBUFFERED";

/// The file that the standard output of Python goes to: into a file it writes what it printed only once it has 8 KiB of
/// it, if nobody tells it otherwise.
pub(super) fn buffered_output(spawn: &Spawn) -> Option<&Path> {
    let output = spawn.stdout.as_deref()?;
    if !is_run_by("python", &spawn.command, &spawn.working_dir) {
        return None;
    }
    // the options of Python itself stand before the script
    let options = (spawn.command.iter().skip(1)).take_while(|argument| argument.starts_with('-'));
    let mut short = options.filter(|option| !option.starts_with("--"));
    if short.any(|option| option.contains('u')) {
        return None;
    }
    let variables = prepare(spawn).map_or_else(
        |_| spawn.env.iter().cloned().collect(),
        |prepared| prepared.variables,
    );
    let is_set = variables
        .get(UNBUFFERED)
        .is_some_and(|value| !value.is_empty());
    (!is_set).then_some(output)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn python_keeps_back_what_it_prints_into_a_file_unless_it_is_told_not_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bot"), "#!/usr/bin/env python3.11\n").unwrap();
        fs::write(dir.path().join("run.sh"), "#!/bin/sh\n").unwrap();
        fs::write(dir.path().join("set.env"), "PYTHONUNBUFFERED=1\n").unwrap();
        for (command, env, is_kept) in [
            (&["python3", "main.py"][..], "", true),
            (
                &["/opt/venv/bin/python3.12", "-O", "main.py", "-u"],
                "",
                true,
            ),
            (&["./bot"], "", true),
            (&["python3", "-u", "main.py"], "", false),
            (&["python3", "-Bu", "main.py"], "", false),
            (&["python3", "main.py"], "1", false),
            (&["./run.sh"], "", false),
            (&["node", "main.js"], "", false),
        ] {
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            let mut spawn = Spawn::plain(command, Arc::from(dir.path()));
            assert_eq!(buffered_output(&spawn), None, "into nothing");
            spawn.stdout = Some(dir.path().join("a.log"));
            spawn.env = vec![(UNBUFFERED.to_owned(), env.to_owned())];
            let kept = buffered_output(&spawn).is_some();
            assert_eq!(kept, is_kept, "{:?}", spawn.command);
        }
        let mut spawn = Spawn::plain(vec!["python3".to_owned()], Arc::from(dir.path()));
        spawn.stdout = Some(dir.path().join("a.log"));
        spawn.env_file = Some(dir.path().join("set.env"));
        // it can be told so only where there is such a program
        if prepare(&spawn).is_ok() {
            assert_eq!(buffered_output(&spawn), None);
        }
    }
}
