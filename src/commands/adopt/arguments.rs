//! What a program runs, read off its arguments: the script behind an interpreter's options, a module, a main class.

/// A program that runs others, and those of its options that are followed by a value of their own.
struct Interpreter {
    names: &'static [&'static str],
    /// Their values say nothing of what is run.
    with_value: &'static [&'static str],
    /// Their values are what is run.
    naming: &'static [&'static str],
    /// Their values are a program's text.
    code: &'static [&'static str],
    /// Words before what is run.
    commands: &'static [&'static str],
    /// Whether short options may stand together: `-um module`.
    grouped: bool,
}

const PLAIN: Interpreter = Interpreter {
    names: &[],
    with_value: &[],
    naming: &[],
    code: &[],
    commands: &[],
    grouped: false,
};

const INTERPRETERS: [Interpreter; 14] = [
    Interpreter {
        names: &["python", "pypy"],
        with_value: &["-W", "-X", "-Q", "--check-hash-based-pycs"],
        naming: &["-m"],
        code: &["-c"],
        grouped: true,
        ..PLAIN
    },
    Interpreter {
        names: &["perl"],
        with_value: &["-I"],
        code: &["-e", "-E"],
        grouped: true,
        ..PLAIN
    },
    Interpreter {
        names: &["ruby", "jruby"],
        with_value: &["-I", "-r", "-C", "-E"],
        code: &["-e"],
        grouped: true,
        ..PLAIN
    },
    Interpreter {
        names: &["node", "nodejs"],
        with_value: &[
            "-r",
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "--env-file",
            "-C",
            "--conditions",
            "--title",
            "--diagnostic-dir",
            "--icu-data-dir",
            "--openssl-config",
            "--redirect-warnings",
            "--watch-path",
            "--input-type",
        ],
        code: &["-e", "--eval", "-p", "--print", "-pe"],
        ..PLAIN
    },
    Interpreter {
        names: &["java"],
        with_value: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--add-modules",
            "--add-opens",
            "--add-exports",
            "--add-reads",
            "--patch-module",
            "--limit-modules",
            "--upgrade-module-path",
            "--source",
        ],
        naming: &["-jar", "-m", "--module"],
        ..PLAIN
    },
    Interpreter {
        names: &["php"],
        with_value: &["-c", "-d", "-S", "-t", "-z"],
        naming: &["-f", "-F"],
        code: &["-r", "-B", "-R", "-E"],
        ..PLAIN
    },
    Interpreter {
        names: &["sh", "ash", "bash", "dash", "zsh", "ksh", "mksh"],
        with_value: &["-o", "-O", "--rcfile", "--init-file"],
        code: &["-c"],
        grouped: true,
        ..PLAIN
    },
    Interpreter {
        names: &["deno"],
        with_value: &[
            "-c",
            "--config",
            "--import-map",
            "-L",
            "--log-level",
            "--lock",
            "--cert",
        ],
        commands: &["run", "serve", "task"],
        ..PLAIN
    },
    Interpreter {
        names: &["bun"],
        with_value: &[
            "--cwd",
            "-r",
            "--preload",
            "-c",
            "--config",
            "--define",
            "--port",
        ],
        code: &["-e", "--eval", "-p"],
        commands: &["run"],
        ..PLAIN
    },
    Interpreter {
        names: &["dotnet"],
        with_value: &[
            "--runtimeconfig",
            "--depsfile",
            "--additionalprobingpath",
            "--fx-version",
            "-c",
            "--configuration",
            "-f",
            "--framework",
        ],
        naming: &["--project"],
        commands: &["exec", "run", "watch"],
        ..PLAIN
    },
    Interpreter {
        names: &["lua", "luajit", "texlua"],
        with_value: &["-l"],
        code: &["-e"],
        ..PLAIN
    },
    Interpreter {
        names: &["R"],
        naming: &["-f"],
        code: &["-e"],
        ..PLAIN
    },
    Interpreter {
        names: &["pwsh"],
        naming: &["-File", "-file", "-f"],
        code: &["-Command", "-command", "-c"],
        ..PLAIN
    },
    Interpreter {
        names: &[
            "mono", "Rscript", "tclsh", "expect", "julia", "escript", "box",
        ],
        code: &["-e"],
        ..PLAIN
    },
];

/// What a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// Itself: it is no interpreter, or runs nothing.
    Itself,
    /// The file that this argument names.
    Script(usize),
    /// The module or the class that this argument names.
    Module(usize),
    /// The text that is this argument.
    Code(usize),
    /// What it reads from its standard input.
    Input,
}

/// A name without its directory, its version and what a shell puts before it: `python` of `/usr/bin/python3.11`.
pub(super) fn plain(program: &str) -> &str {
    program
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .trim_start_matches('-')
        .trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

fn interpreter(program: &str) -> Option<&'static Interpreter> {
    let name = plain(program);
    INTERPRETERS.iter().find(|it| it.names.contains(&name))
}

/// Whether a program runs others.
pub(super) fn is_interpreter(program: &str) -> bool {
    interpreter(program).is_some()
}

/// Whether a program is a shell.
pub(super) fn is_shell(program: &str) -> bool {
    interpreter(program).is_some_and(|it| it.names.contains(&"sh"))
}

/// What the arguments say that is run.
pub(super) fn runs(arguments: &[String]) -> Runs {
    let Some(it) = arguments.first().and_then(|first| interpreter(first)) else {
        return Runs::Itself;
    };
    let mut commands_over = false;
    let mut at = 1;
    while let Some(argument) = arguments.get(at) {
        let text = argument.as_str();
        let value = (at + 1 < arguments.len()).then_some(at + 1);
        if let (Some(file), true) = (text.strip_prefix("--file="), it.names == ["R"]) {
            return if file.is_empty() {
                Runs::Input
            } else {
                Runs::Script(at)
            };
        }
        let (option, attached) = group(text, it);
        if it.naming.contains(&option) {
            let named = if attached { Some(at) } else { value };
            let is_file = matches!(
                option,
                "-jar" | "-f" | "-F" | "-File" | "-file" | "--project"
            );
            return named.map_or(Runs::Itself, |named| {
                if is_file {
                    Runs::Script(named)
                } else {
                    Runs::Module(named)
                }
            });
        }
        if it.code.contains(&option) {
            return Runs::Code(if attached { at } else { value.unwrap_or(at) });
        }
        if option == "-S" && it.names == ["php"] {
            // its own web server, of the files in its directory
            return Runs::Code(value.unwrap_or(at));
        }
        if text == "--" {
            return value.map_or(Runs::Itself, Runs::Script);
        }
        if text == "-" || (text == "-s" && it.grouped) {
            return Runs::Input;
        }
        if it.with_value.contains(&option) {
            at += if attached { 1 } else { 2 };
        } else if text.is_empty()
            || text.starts_with('-')
            || text.starts_with('@')
            || text.starts_with('+')
        {
            at += 1;
        } else if !commands_over && it.commands.contains(&text) {
            commands_over = true;
            at += 1;
        } else if it.names == ["java"] {
            return Runs::Module(at);
        } else {
            return Runs::Script(at);
        }
    }
    Runs::Input
}

/// The option of an argument: the last of a group of short ones. With it, whether its value is part of the argument.
fn group<'a>(text: &'a str, it: &Interpreter) -> (&'a str, bool) {
    if !it.grouped || !text.starts_with('-') || text.starts_with("--") || text.len() < 3 {
        return (text, false);
    }
    // the first letter that takes a value ends the group
    let taking = [it.with_value, it.naming, it.code].concat();
    for (at, letter) in text.char_indices().skip(1) {
        let end = at + letter.len_utf8();
        if let Some(known) = taking
            .iter()
            .find(|known| known.len() == 2 && known.ends_with(letter))
        {
            return (known, end < text.len());
        }
    }
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_run_is_told_from_options_and_their_values() {
        for (line, run) in [
            ("/usr/bin/python3 -u -W ignore main.py live", "main.py"),
            ("python3.11 -um trader.main", "m:trader.main"),
            ("python3 -Xdev -X utf8 bot.py", "bot.py"),
            ("python3 -c pass", "c:pass"),
            ("python3 -ucpass", "c:-ucpass"),
            ("python3 - x", "input"),
            ("python3", "input"),
            ("python3 manage.py rqworker mails", "manage.py"),
            ("node -r ./tracing.js server.js", "server.js"),
            (
                "node --require=./tracing.js --max-old-space-size=4096 server.js",
                "server.js",
            ),
            ("node --import ./a.mjs --env-file .env .", "."),
            ("/usr/bin/node -e 1", "c:1"),
            ("java -Xmx32m -cp A:B:C Worker", "m:Worker"),
            (
                "/usr/bin/java -XX:+UseG1GC @args -jar bot-1.2.3.jar --x",
                "bot-1.2.3.jar",
            ),
            (
                "java --module-path mods -m com.x/com.x.Main",
                "m:com.x/com.x.Main",
            ),
            ("php -d memory_limit=1G artisan queue:work", "artisan"),
            ("php8.2 -f worker.php", "worker.php"),
            ("php -S 127.0.0.1:8000 -t public", "c:127.0.0.1:8000"),
            ("php bin/console messenger:consume async", "bin/console"),
            ("ruby -Ilib -r bundler/setup worker.rb", "worker.rb"),
            ("ruby -I lib bin/rails server", "bin/rails"),
            ("perl -w -Ilib -I /opt/lib bot.pl", "bot.pl"),
            ("perl -we 1", "c:1"),
            ("/bin/sh -e ./start.sh", "./start.sh"),
            ("bash -xc ./a", "c:./a"),
            ("bash -s", "input"),
            ("bash", "input"),
            ("-bash", "input"),
            ("deno run --allow-net -c deno.json main.ts", "main.ts"),
            ("bun run start", "start"),
            ("bun --cwd /srv/x index.ts", "index.ts"),
            ("dotnet App.dll --urls http://x", "App.dll"),
            ("dotnet run --project src/Shop", "src/Shop"),
            ("mono --debug Bot.exe", "Bot.exe"),
            (
                "/usr/lib/R/bin/exec/R --no-echo --file=bot.R --args 1",
                "--file=bot.R",
            ),
            ("Rscript --vanilla bot.R", "bot.R"),
            ("lua5.4 -l socket bot.lua", "bot.lua"),
            ("pwsh -NoProfile -File bot.ps1", "bot.ps1"),
            ("memcached -d -p 1", "itself"),
            ("tail -f main.py", "itself"),
            ("/srv/bot/bot live", "itself"),
        ] {
            let arguments = words(line);
            let found = match runs(&arguments) {
                Runs::Itself => "itself".to_owned(),
                Runs::Script(at) => arguments[at].clone(),
                Runs::Module(at) => format!("m:{}", arguments[at]),
                Runs::Code(at) => format!("c:{}", arguments[at]),
                Runs::Input => "input".to_owned(),
            };
            assert_eq!(found, run, "{line}");
        }
    }
}
