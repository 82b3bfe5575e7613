//! Whether a process runs the command of `spawn`: by the same words, or by words that mean the same files.
//!
//! A script that is started as `./bot.sh` runs as `/bin/sh /srv/bot/./bot.sh`, and a person may have started it as
//! `/srv/bot/bot.sh` or `sh bot.sh`. So a word that is a path counts by the directory that it leads to and its file name.
//! A link by another name is another program: many decide by their name what they do.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Started;
use super::script::FirstLine;
use crate::child::DEFAULT_PATH;
use crate::process_table::{Needle, Needles, Process};

/// The command of `spawn`.
pub(super) struct OwnCommand<'a> {
    /// Its words; empty ones are in no command line of a process.
    words: Vec<&'a [u8]>,
    /// The same, joined by single spaces.
    text: Vec<u8>,
    working_dir: &'a Path,
    /// Where the program is.
    file: Option<PathBuf>,
    first_line: FirstLine,
}

impl<'a> OwnCommand<'a> {
    /// Looks at the program. The error is why it cannot be looked at.
    pub(super) fn of(started: Started<'a>) -> io::Result<Self> {
        let words = started.command.iter().map(String::as_bytes);
        let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        let program = started.command.first().map_or("", String::as_str);
        let file = if program.contains('/') {
            place(program.as_bytes(), started.working_dir)
        } else {
            let directories = DEFAULT_PATH.split(':');
            let files = directories.map(|directory| Path::new(directory).join(program));
            (files.filter(|_| !program.is_empty()))
                .find(|file| file.is_file())
                .and_then(|file| place(file.as_os_str().as_bytes(), started.working_dir))
        };
        let path = match &file {
            Some(file) if !program.contains('/') => file.to_str().unwrap_or_default(),
            _ => program,
        };
        Ok(Self {
            text: words.join(&b' '),
            first_line: FirstLine::of(path, started.working_dir)?,
            working_dir: started.working_dir,
            words,
            file,
        })
    }

    /// What stands in the command line of each process that runs it.
    pub(super) fn needles(&self) -> Needles<'a> {
        let any_case = false;
        let names = self.words.iter().map(|word| file_name(word));
        Needles::of(names.map(|text| [Needle { text, any_case }]))
    }

    /// Whether a command line may be one of it: the names of all its files are in there.
    pub(super) fn may_be(&self, command: &[u8]) -> bool {
        let mut names = self.words.iter().map(|word| file_name(word));
        names.all(|name| memchr::memmem::find(command, name).is_some())
    }

    /// Whether a process that is in the working directory runs it, by itself or through the interpreter of a script.
    pub(super) fn is_run_by(&self, process: &Process) -> bool {
        if self.first_line.runs(&process.command, &self.text) {
            return true;
        }
        let words: Vec<&[u8]> = arguments(process).collect();
        let Some(before) = words.len().checked_sub(self.words.len()) else {
            return false;
        };
        let (Some((program, rest)), Some(own_rest)) =
            (words[before..].split_first(), self.words.get(1..))
        else {
            return false;
        };
        let is_program = if before == 0 {
            self.is_program(program, process.pid)
        } else {
            self.is_place_of_program(program) && self.first_line.is_begun_by(&words[..before])
        };
        let mut pairs = rest.iter().zip(own_rest);
        is_program && pairs.all(|(one, other)| self.is_same(one, other))
    }

    /// Whether the first word of a process means the program.
    fn is_program(&self, word: &[u8], pid: i32) -> bool {
        let Some(own) = self.words.first() else {
            return false;
        };
        if word == *own {
            return true;
        }
        if word.contains(&b'/') {
            return self.is_place_of_program(word);
        }
        // whoever starts a process says its first word; the file that it executes is the kernel's word
        file_name(own) == word
            && self.file.as_ref().is_some_and(|file| {
                let executed = fs::read_link(format!("/proc/{pid}/exe"));
                executed
                    .is_ok_and(|executed| fs::canonicalize(file).is_ok_and(|file| file == executed))
            })
    }

    fn is_place_of_program(&self, word: &[u8]) -> bool {
        self.file.is_some() && place(word, self.working_dir) == self.file
    }

    fn is_same(&self, one: &[u8], other: &[u8]) -> bool {
        let place = |word| place(word, self.working_dir).filter(|path| path.exists());
        one == other
            || (file_name(one) == file_name(other) && {
                let one = place(one);
                one.is_some() && one == place(other)
            })
    }
}

/// What is behind the last slash; all of it where that is nothing.
fn file_name(word: &[u8]) -> &[u8] {
    let name = word.rsplit(|&byte| byte == b'/').next();
    name.filter(|name| !name.is_empty()).unwrap_or(word)
}

/// The path of a file without links, `.` and `..` in its directory. What has no name of its own has none.
fn place(word: &[u8], working_dir: &Path) -> Option<PathBuf> {
    let path = working_dir.join(std::ffi::OsStr::from_bytes(word));
    let name = path
        .file_name()
        .filter(|_| word.ends_with(file_name(word)))?;
    let directory = fs::canonicalize(path.parent()?).ok()?;
    Some(directory.join(name))
}

/// The arguments of a process.
fn arguments(process: &Process) -> Box<dyn Iterator<Item = &[u8]> + '_> {
    if process.ends.is_empty() {
        return Box::new(process.command.split(|&byte| byte == b' '));
    }
    let begins = std::iter::once(0).chain(process.ends.iter().map(|end| end + 1));
    let ranges = begins.zip(process.ends.iter().copied());
    Box::new(ranges.filter_map(|(begin, end)| process.command.get(begin..end)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::process;
    use super::*;

    #[test]
    fn a_command_is_the_same_where_its_words_mean_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        for (name, text) in [
            ("run.sh", "#!/bin/sh\n"),
            ("bot.py", "#!/usr/bin/env python3\n"),
            ("sub/run.sh", "#!/bin/sh\n"),
            ("app", "\x7fELF"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("run.sh", dir.join("link.sh")).unwrap();
        std::os::unix::fs::symlink("sub", dir.join("other")).unwrap();
        for (own, running, is_same) in [
            // as the kernel has it, and as persons write it
            ("./run.sh", "/bin/sh {dir}/./run.sh", true),
            ("./run.sh", "/bin/sh {dir}/run.sh", true),
            ("./run.sh", "/bin/sh ./run.sh", true),
            ("./run.sh", "sh run.sh", true),
            ("./run.sh", "bash -x run.sh", true),
            ("{dir}/run.sh", "/bin/sh ./run.sh", true),
            ("./run.sh a", "/bin/sh {dir}/sub/../run.sh a", true),
            ("other/run.sh", "/bin/sh sub/run.sh", true),
            ("./bot.py", "python3 {dir}/./bot.py", true),
            ("sh bot.py", "/bin/sh {dir}/bot.py", true),
            ("sh run.sh", "/bin/sh run.sh", true),
            ("sh run.sh", "/bin/sh {dir}/./run.sh", true),
            ("/bin/sh run.sh", "/bin/../bin/sh run.sh", true),
            ("./app 1", "{dir}/app 1", true),
            // an empty argument is in no command line
            ("./app  1", "./app 1", true),
            ("./app sub/run.sh", "./app ./sub/run.sh", true),
            // other files, other arguments, other programs
            ("./run.sh", "/bin/sh {dir}/sub/run.sh", false),
            ("./run.sh", "/bin/sh link.sh", false),
            ("./run.sh", "/bin/sh {dir}/run.sh a", false),
            ("./run.sh a", "/bin/sh {dir}/run.sh", false),
            ("./run.sh a", "/bin/sh {dir}/run.sh b", false),
            ("./run.sh", "less {dir}/run.sh", false),
            ("./run.sh", "{dir}/run.sh.old", false),
            ("./bot.py", "vim {dir}/bot.py", false),
            ("./bot.py", "python3 lint.py {dir}/bot.py", false),
            ("sh bot.py", "{dir}/sub/sh bot.py", false),
            ("./app 1", "./app ./1", false),
            ("./app sub", "./app other", false),
            ("sleep 5", "sleep 6", false),
        ] {
            let fill = |text: &str| text.replace("{dir}", dir.to_str().unwrap());
            let command: Vec<String> = fill(own).split(' ').map(str::to_owned).collect();
            let own_command = OwnCommand::of(Started {
                command: &command,
                working_dir: &dir,
                user: None,
            });
            let own_command = own_command.unwrap();
            let running = process(i32::MAX, 1, &fill(running));
            let found = own_command.is_run_by(&running);
            assert_eq!(found, is_same, "{own}: {running:?}");
            // what is searched for first leaves none of them out
            assert!(!is_same || own_command.may_be(&running.command), "{own}");
        }
    }

    #[test]
    fn arguments_are_taken_apart_as_the_process_has_them() {
        let mut it = process(600, 1, "a b c d");
        let all = |it: &Process| -> Vec<Vec<u8>> { arguments(it).map(<[u8]>::to_vec).collect() };
        assert_eq!(all(&it), [b"a", b"b", b"c", b"d"].map(|one| one.to_vec()));
        it.ends = [1, 5, 7].into();
        assert_eq!(all(&it), [&b"a"[..], b"b c", b"d"].map(<[u8]>::to_vec));
    }
}
