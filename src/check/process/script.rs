//! Scripts: what the kernel, or a person, puts in front of a script's own name.
//!
//! A script runs as `INTERPRETER [ARGUMENT] SCRIPT ARGUMENTS...`, by its first line. An editor or a pager that has the
//! script open has a command line of the same shape: only the first line tells them apart.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::files::{self, Links, Refusal};

/// The kernel reads no more of the first line.
const LINE_LIMIT: u64 = 256;

/// One may run the scripts of another.
const SHELLS: [&str; 7] = ["sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"];

/// The words of a script's first line behind the `#!`; none where the program is no script, or there is no such file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FirstLine(Vec<String>);

impl FirstLine {
    /// Reads the first line of a program. The name of one that is searched for in the PATH is no path.
    pub(super) fn of(program: &str, working_dir: &Path) -> io::Result<Self> {
        if !program.contains('/') {
            return Ok(Self::default());
        }
        match files::open(&working_dir.join(program), Links::Follow) {
            Ok((file, _)) => Self::read(file),
            Err(Refusal::Kind(_)) => Ok(Self::default()),
            // what cannot be read cannot be run by an interpreter
            Err(Refusal::Io(error)) if files::is_out_of_reach(&error) => Ok(Self::default()),
            Err(Refusal::Io(error)) => Err(error),
        }
    }

    fn read(file: File) -> io::Result<Self> {
        let mut bytes = Vec::new();
        file.take(LINE_LIMIT).read_to_end(&mut bytes)?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Self {
        let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
        let words = line.strip_prefix(b"#!").unwrap_or_default();
        let words = String::from_utf8_lossy(words);
        Self(words.split_ascii_whitespace().map(str::to_owned).collect())
    }

    /// Whether it is run by an interpreter of this name, of whatever version.
    pub(super) fn is_run_by(&self, interpreter: &str) -> bool {
        self.0.iter().any(|word| plain(word) == interpreter)
    }

    /// The command line that a program with these arguments has, as far as that is known before it runs.
    pub(super) fn command(&self, wanted: &str) -> String {
        let words = match self.0.as_slice() {
            // `env` is replaced by what it looks up
            [first, rest @ ..] if plain(first) == "env" => rest,
            words => words,
        };
        let before = words.iter().map(String::as_str);
        before.chain([wanted]).collect::<Vec<_>>().join(" ")
    }

    /// Whether a command line runs just these arguments, by itself or through the interpreter of a script.
    pub(super) fn runs(&self, command: &[u8], wanted: &[u8]) -> bool {
        if command == wanted {
            return true;
        }
        let Some(front) = command
            .strip_suffix(wanted)
            .and_then(|rest| rest.strip_suffix(b" "))
        else {
            return false;
        };
        let words: Vec<&[u8]> = front.split(|&byte| byte == b' ').collect();
        self.is_begun_by(&words)
    }

    /// Whether these words are what stands before the script: an interpreter of the first line, and options.
    pub(super) fn is_begun_by(&self, words: &[&[u8]]) -> bool {
        let words: Vec<_> = (words.iter())
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        let Some((interpreter, options)) = words.split_first() else {
            return false;
        };
        // `env` is replaced by what it looks up
        let is_interpreter = self.0.iter().any(|word| is_same(word, interpreter));
        // a person may give it an option of its own
        let is_known = |word: &str| self.0.iter().any(|known| known == word);
        is_interpreter
            && options.len() <= self.0.len().max(1)
            && (options.iter()).all(|word| word.starts_with('-') || is_known(word))
    }
}

/// Whether two names mean the same interpreter, in another place or another version.
fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (plain(one), plain(other));
    !one.is_empty() && (one == other || [one, other].iter().all(|name| SHELLS.contains(name)))
}

/// Whether a command is run by an interpreter of this name, of whatever version: by itself, or by the first line of a
/// script.
pub fn is_run_by(interpreter: &str, command: &[String], working_dir: &Path) -> bool {
    let program = command.first().map_or("", String::as_str);
    plain(program) == interpreter
        || FirstLine::of(program, working_dir).is_ok_and(|line| line.is_run_by(interpreter))
}

/// The name of a program without its place and its version: `python` of `/usr/bin/python3.11`.
fn plain(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_behind_its_own_interpreter_alone() {
        for (line, command, wanted, runs) in [
            ("", "./bot x", "./bot x", true),
            ("", "sh ./bot x", "./bot x", false),
            ("#!/bin/sh", "./bot.sh x", "./bot.sh x", true),
            ("#!/bin/sh", "/bin/sh ./bot.sh x", "./bot.sh x", true),
            ("#!/bin/sh", "bash -x ./bot.sh x", "./bot.sh x", true),
            ("#!/bin/sh", "/bin/sh ./bot.sh x y", "./bot.sh x", false),
            ("#!/bin/sh", "less ./bot.sh", "./bot.sh", false),
            ("#! /bin/sh -e", "/bin/sh -e ./bot.sh", "./bot.sh", true),
            (
                "#!/usr/bin/env python3",
                "/usr/bin/env python3 ./bot.py",
                "./bot.py",
                true,
            ),
            (
                "#!/usr/bin/env python3",
                "python3 ./bot.py",
                "./bot.py",
                true,
            ),
            (
                "#!/usr/bin/env python3",
                "/opt/venv/bin/python3.11 -u ./bot.py",
                "./bot.py",
                true,
            ),
            (
                "#!/usr/bin/env -S python3 -X dev",
                "python3 -X dev ./bot.py",
                "./bot.py",
                true,
            ),
            ("#!/usr/bin/env python3", "vim ./bot.py", "./bot.py", false),
            (
                "#!/usr/bin/env python3",
                "vim -R ./bot.py",
                "./bot.py",
                false,
            ),
            (
                "#!/usr/bin/env python3",
                "python3 lint.py ./bot.py",
                "./bot.py",
                false,
            ),
            (
                "#!/usr/bin/env python3",
                "python3 -m pdb ./bot.py",
                "./bot.py",
                false,
            ),
            ("#!/usr/bin/env python3", "x./bot.py", "./bot.py", false),
            ("#!", " ./bot", "./bot", false),
        ] {
            let first = FirstLine::parse(format!("{line}\nprint('#!/bin/vim')\n").as_bytes());
            let found = first.runs(command.as_bytes(), wanted.as_bytes());
            assert_eq!(found, runs, "{line}: {command}");
        }
    }

    #[test]
    fn what_is_no_script_or_cannot_be_one_has_no_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let of = |program: &str| FirstLine::of(program, dir.path()).unwrap();
        std::fs::write(dir.path().join("bot"), "#!/bin/sh -e\n").unwrap();
        assert_eq!(of("./bot"), FirstLine::parse(b"#!/bin/sh -e"));
        for program in ["bot", "./none", "./", "./bot/x", "/bin/sh", "/dev/zero"] {
            assert_eq!(of(program), FirstLine::default(), "{program}");
        }
    }
}
