//! What a program is called after what it runs, and whether another directory makes it another program.

use std::path::Path;

use super::arguments::{Runs, plain, runs};

/// Programs that run what their working directory or their further arguments name.
const RUNNERS: [&str; 45] = [
    "airflow",
    "artisan",
    "bundle",
    "celery",
    "console",
    "daphne",
    "django-admin",
    "dramatiq",
    "flask",
    "foreman",
    "granian",
    "gunicorn",
    "honcho",
    "huey_consumer",
    "hypercorn",
    "manage",
    "next",
    "nodemon",
    "npm",
    "npm-cli",
    "npx",
    "nuxt",
    "pnpm",
    "pm2-runtime",
    "puma",
    "rackup",
    "rails",
    "rake",
    "resque",
    "rq",
    "scrapy",
    "serve",
    "sidekiq",
    "spark",
    "streamlit",
    "thin",
    "ts-node",
    "tsx",
    "twistd",
    "unicorn",
    "uvicorn",
    "vite",
    "waitress-serve",
    "wp",
    "yarn",
];

/// Names of scripts, classes and directories that say nothing of which program it is.
const GENERIC: [&str; 44] = [
    "__main__",
    "app",
    "application",
    "api",
    "backend",
    "bin",
    "bootstrap",
    "build",
    "cli",
    "cmd",
    "code",
    "cron",
    "current",
    "daemon",
    "debug",
    "deploy",
    "dist",
    "entrypoint",
    "env",
    "home",
    "index",
    "init",
    "launch",
    "launcher",
    "lib",
    "main",
    "opt",
    "program",
    "public",
    "release",
    "run",
    "runner",
    "script",
    "scripts",
    "server",
    "src",
    "start",
    "startup",
    "sbin",
    "target",
    "tmp",
    "usr",
    "venv",
    "www",
];

/// What stands behind a script's name.
const ENDINGS: [&str; 26] = [
    "py", "pyc", "pyz", "sh", "bash", "pl", "rb", "js", "mjs", "cjs", "ts", "mts", "jar", "war",
    "php", "phar", "exe", "dll", "lua", "R", "r", "tcl", "par", "AppImage", "jl", "ps1",
];

/// The name of a file, a module or a class: without directory, ending and version.
fn stem(text: &str) -> &str {
    let text = text.strip_prefix("--file=").unwrap_or(text);
    let name = text
        .trim_end_matches('/')
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or_default();
    let name = match name.rsplit_once('.') {
        Some((stem, ending)) if ENDINGS.contains(&ending) && !stem.is_empty() => stem,
        _ => name,
    };
    without_version(name)
}

/// A name up to its version: `bot` of `bot-1.2.3-SNAPSHOT`. A number alone may be which of several it is.
fn without_version(name: &str) -> &str {
    for (at, _) in name.match_indices(['-', '_']) {
        let rest = name[at + 1..].trim_start_matches('v');
        let is_version = rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.contains('.')
            && rest
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
        if is_version && at > 0 {
            return &name[..at];
        }
    }
    name
}

fn is_generic(name: &str) -> bool {
    GENERIC.contains(&name.to_lowercase().as_str())
}

/// The runner among what is run, where it is one.
fn runner(arguments: &[String], runs: Runs) -> Option<(&str, usize)> {
    let at = match runs {
        Runs::Itself => 0,
        Runs::Script(at) | Runs::Module(at) => at,
        Runs::Code(_) | Runs::Input => return None,
    };
    let name = stem(arguments.get(at)?);
    RUNNERS.contains(&plain(name)).then_some((name, at))
}

/// Whether the same arguments run something else in another directory.
pub(super) fn depend_on_directory(arguments: &[String]) -> bool {
    let runs = runs(arguments);
    let is_relative = |at: usize| arguments.get(at).is_some_and(|path| !path.starts_with('/'));
    match runs {
        Runs::Itself => {
            let first = arguments.first().map_or("", String::as_str);
            (first.contains('/') && !first.starts_with('/')) || runner(arguments, runs).is_some()
        }
        Runs::Script(at) => {
            let named_in_itself = arguments
                .get(at)
                .is_some_and(|text| text.starts_with("--file=/"));
            // what is run of a framework's own project is the whole name: /srv/shop/manage.py
            let is_installed =
                runner(arguments, runs).is_some_and(|(name, _)| !is_project_script(name));
            (is_relative(at) && !named_in_itself) || is_installed
        }
        Runs::Module(at) => {
            let path = class_path(&arguments[..at]);
            path.is_none_or(|path| path.split(':').any(|entry| !entry.starts_with('/')))
        }
        Runs::Code(_) | Runs::Input => true,
    }
}

/// Scripts that are part of a project, not of the framework that is installed.
fn is_project_script(name: &str) -> bool {
    ["artisan", "console", "manage", "rails", "spark"].contains(&name)
}

fn class_path(options: &[String]) -> Option<&str> {
    options
        .iter()
        .position(|option| ["-cp", "-classpath", "--class-path"].contains(&option.as_str()))
        .and_then(|at| options.get(at + 1))
        .map(String::as_str)
}

/// The words behind what is run that are neither options nor, as far as can be told, their values.
fn positional(arguments: &[String]) -> Vec<&str> {
    let mut words = Vec::new();
    let mut follows_option = false;
    for argument in arguments {
        let is_option = argument.starts_with('-');
        if !is_option && !follows_option && !argument.is_empty() {
            words.push(argument.as_str());
        }
        follows_option = is_option && !argument.contains('=');
    }
    words
}

/// A name for what is run: of its script, its class or its command; where those are called `main`, of its directory.
/// None where the arguments have none.
pub(super) fn name(arguments: &[String], working_dir: &Path) -> Option<String> {
    let runs = runs(arguments);
    if let Some((runner, at)) = runner(arguments, runs) {
        let words = positional(&arguments[at + 1..]);
        let command: Vec<&str> = words.into_iter().take(2).collect();
        // what is run matters there, and not how the script is called
        let parts = if is_project_script(runner) && !command.is_empty() {
            command
        } else {
            [runner]
                .into_iter()
                .chain(command.into_iter().take(1))
                .collect()
        };
        return Some(parts.join("-"));
    }
    let (at, separators) = match runs {
        Runs::Script(at) => (at, &['/', '\\'][..]),
        Runs::Module(at) => (at, &['.', '/'][..]),
        Runs::Itself => {
            let first = arguments.first()?;
            let name = stem(first);
            return (!is_generic(name))
                .then(|| name.to_owned())
                .or_else(|| of_directory(first, &['/'], working_dir));
        }
        Runs::Code(_) | Runs::Input => return of_directory("", &['/'], working_dir),
    };
    let text = &arguments[at];
    let own = if separators.contains(&'.') {
        without_version(text.rsplit('.').next().unwrap_or_default())
    } else {
        stem(text)
    };
    if !own.is_empty() && own != "." && !is_generic(own) {
        return Some(own.to_owned());
    }
    let directory = of_directory(text, separators, working_dir).unwrap_or_else(|| own.to_owned());
    let command = positional(&arguments[at + 1..])
        .first()
        .copied()
        .filter(|word| is_word(word));
    Some(command.map_or_else(
        || directory.clone(),
        |command| format!("{directory}-{command}"),
    ))
}

/// Whether an argument may be a command's name.
fn is_word(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
}

/// The nearest part of a path above its last that says something, then that of the working directory.
fn of_directory(path: &str, separators: &[char], working_dir: &Path) -> Option<String> {
    let path = path.strip_prefix("--file=").unwrap_or(path);
    let mut parts: Vec<&str> = path.split(separators).collect();
    parts.pop();
    let here = working_dir.to_string_lossy();
    let above: Vec<&str> = if path.starts_with('/') {
        Vec::new()
    } else {
        here.split('/').collect()
    };
    above
        .into_iter()
        .chain(parts)
        .rev()
        .filter(|part| !part.is_empty() && *part != "." && *part != "..")
        .find(|part| !is_generic(part))
        .map(|part| without_version(part).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_come_from_the_script_or_its_command() {
        for (line, directory, expected) in [
            ("/usr/bin/python3 -u main.py", "/srv/trader", "trader"),
            ("python3 main.py live", "/srv/trader", "trader-live"),
            ("python3 /srv/alpha/src/main.py", "/", "alpha"),
            ("python3 bot.py live", "/srv/x", "bot"),
            ("python3 -m trader.main", "/srv/x", "trader"),
            ("python3 -m http.server 8000", "/srv/x", "http-8000"),
            (
                "python3 manage.py rqworker mails",
                "/srv/x",
                "rqworker-mails",
            ),
            ("python3 manage.py runserver", "/srv/x", "runserver"),
            ("php artisan queue:work --queue=a", "/srv/x", "queue:work"),
            (
                "php bin/console messenger:consume async",
                "/srv/x",
                "messenger:consume-async",
            ),
            (
                "/v/bin/python /v/bin/celery -A x worker -Q a",
                "/srv/x",
                "celery-worker",
            ),
            (
                "/v/bin/python /v/bin/gunicorn -w 4 shop.wsgi",
                "/srv/x",
                "gunicorn-shop.wsgi",
            ),
            ("/v/bin/python -m celery -A x beat", "/srv/x", "celery-beat"),
            ("node -r ./tracing.js server.js", "/srv/shop", "shop"),
            ("node -r ./tracing.js worker.js", "/srv/shop", "worker"),
            ("node .", "/srv/shop", "shop"),
            ("node /srv/shop/dist/index.js", "/", "shop"),
            (
                "java -cp lib/some-long-library-name-9-1.2.3.jar:b.jar com.x.Worker",
                "/srv/x",
                "Worker",
            ),
            ("java -cp a.jar com.shop.Main", "/srv/x", "shop"),
            ("java -jar bot-1.2.3-SNAPSHOT.jar", "/srv/x", "bot"),
            // no other part of the path says anything
            ("java -jar /opt/app.jar", "/srv/x", "app"),
            ("dotnet Shop.Api.dll", "/srv/x", "Shop.Api"),
            ("./bot-v2.1.0 run", "/srv/x", "bot"),
            ("/srv/bot/worker-2", "/", "worker-2"),
            ("memcached -d", "/", "memcached"),
            ("sh -c ./a", "/srv/x", "x"),
            (
                r"Z:\srv\mt5\terminal64.exe /portable",
                "/srv/x",
                "terminal64",
            ),
        ] {
            let found = name(&words(line), Path::new(directory));
            assert_eq!(found.as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_another_directory_makes_another_program_is_known() {
        for (line, depends) in [
            ("python3 main.py", true),
            ("python3 /srv/a/main.py", false),
            ("python3 /srv/a/manage.py rqworker", false),
            ("python3 -m trader", true),
            ("/v/bin/python /v/bin/celery -A x worker", true),
            ("/v/bin/python /v/bin/tool x", false),
            ("./bot", true),
            ("bin/bot live", true),
            ("/srv/a/bot", false),
            ("memcached -d", false),
            ("node .", true),
            ("npm start", true),
            ("java -cp A:B Worker", true),
            ("java -cp /a.jar:/b.jar Worker", false),
            ("java -jar a.jar", true),
            ("java -jar /a.jar", false),
            ("sh -c ./a", true),
            ("/usr/lib/R/bin/exec/R --file=/srv/bot.R", false),
            ("/usr/lib/R/bin/exec/R --file=bot.R", true),
        ] {
            assert_eq!(depend_on_directory(&words(line)), depends, "{line}");
        }
    }
}
