//! A pattern that matches the command line of one program, and that of no other that could run.
//!
//! All arguments stand in it: what tells two workers apart may be the last of them, and which of them runs beside this
//! one today says nothing of tomorrow. It is anchored at both ends, so that an editor, a shell or a `tmux` that has the
//! same words among its arguments does not match.

/// The beginning of the directory that an `AppImage` is mounted at, with a name of its own each time it is started.
const MOUNT: &str = "/tmp/.mount_";

/// The pattern for arguments. `started_as` is the program's name where `spawn` will start it by another one.
pub(super) fn of_arguments(arguments: &[String], started_as: Option<&str>) -> String {
    // a command line is searched in with its empty arguments left out
    let mut words: Vec<String> = arguments
        .iter()
        .filter(|argument| !argument.is_empty())
        .map(|argument| of_argument(argument))
        .collect();
    if let (Some(first), Some(other)) = (words.first_mut(), started_as.map(of_argument))
        && *first != other
    {
        *first = format!("({first}|{other})");
    }
    format!("^{}$", words.join(" "))
}

fn of_argument(argument: &str) -> String {
    match argument.strip_prefix(MOUNT) {
        Some(rest) => {
            let end = rest.find(['/', ' ']).unwrap_or(rest.len());
            format!("{}[^/ ]+{}", escaped(MOUNT), escaped(&rest[end..]))
        }
        None => escaped(argument),
    }
}

/// The pattern for a title. Versions and counts change while the program remains the same.
pub(super) fn of_title(title: &str) -> String {
    let mut counts = false;
    let words: Vec<String> = title
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| {
            let (open, core, close) = core(word);
            if is_count(core) {
                counts = true;
                return format!("{}[0-9]+{}", escaped(open), escaped(close));
            }
            match version(core) {
                Some(at) => format!(
                    "{}{}[^ ]+{}",
                    escaped(open),
                    escaped(&core[..at]),
                    escaped(close)
                ),
                None => escaped(word),
            }
        })
        .collect();
    // what counts may say more at other times: `[5 of 5 busy] stopping`; and perl pads a title behind its end
    let end = match (counts, title.ends_with(' ')) {
        (true, _) => "( |$)",
        (false, true) => " *$",
        (false, false) => "$",
    };
    // one may be padded with blanks
    let between = if title.trim_end().contains("  ") {
        " +"
    } else {
        " "
    };
    format!("^{}{end}", words.join(between))
}

/// A word without the brackets around it and the marks behind it.
fn core(word: &str) -> (&str, &str, &str) {
    let rest = word.trim_start_matches(['(', '[', '{', '<', '"', '\'']);
    let core = rest.trim_end_matches([')', ']', '}', '>', '"', '\'', ',', ':', ';', '%']);
    let start = word.len() - rest.len();
    (&word[..start], core, &word[start + core.len()..])
}

fn is_count(core: &str) -> bool {
    !core.is_empty() && core.chars().all(|c| c.is_ascii_digit())
}

/// Where the version in a word begins: `7.1.2`, `v5.3.0`, `resque-1.27.4`. An address is none.
fn version(core: &str) -> Option<usize> {
    let start = core.rfind('-').map_or(0, |dash| dash + 1);
    [0, start].into_iter().find(|&at| {
        let text = core[at..].trim_start_matches('v');
        let parts: Vec<&str> = text.split('.').collect();
        let is_address = parts.len() == 4 && parts.iter().all(|part| part.parse::<u8>().is_ok());
        parts.len() >= 2
            && !is_address
            && parts[..2].iter().all(|part| is_count(part))
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-_+~".contains(c))
    })
}

/// The text with what is special in a pattern escaped, and no more: people read it.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // a byte that is no text
            char::REPLACEMENT_CHARACTER => pattern.push_str(".+"),
            c if r"\.+*?()|[]{}^$".contains(c) => {
                pattern.push('\\');
                pattern.push(c);
            }
            c => pattern.push(c),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::check::pattern::Pattern;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_pattern_fits_its_program_and_none_that_is_like_it() {
        for (line, others) in [
            (
                "python3 manage.py rqworker mails",
                &[
                    "python3 manage.py shell",
                    "python3 manage.py rqworker",
                    "python3 manage.py rqworker mails other",
                ][..],
            ),
            (
                "php artisan queue:work",
                &["php artisan queue:work --queue=mails", "php artisan tinker"],
            ),
            (
                "php bin/console messenger:consume async",
                &["php bin/console messenger:consume"],
            ),
            (
                "python celery -A x worker -Q a",
                &["python celery -A x worker -Q b", "python celery -A x beat"],
            ),
            (
                "java -cp A:B:C Worker",
                &["java -cp A:B:C Api", "java -cp A:B:C Worker2"],
            ),
            (
                "node -r ./tracing.js server.js",
                &["node -r ./tracing.js worker.js", "node -r ./tracing.js"],
            ),
            (
                "python3 main.py --live",
                &["python3 main.py --paper", "python3 main.py"],
            ),
            ("redis-server /etc/redis.conf", &["redis-server"]),
            (
                "tmux -L x new-session -d",
                &["tmux attach", "tmux -L x attach"],
            ),
            ("x+y (a) [b] $c ^d", &["x+y (b)"]),
            (
                r"Z:\srv\mt5\terminal64.exe /portable",
                &[r"Z:\srv\mt5\terminal64.exe"],
            ),
        ] {
            let pattern = of_arguments(&words(line), None);
            let pattern = Pattern::new(&pattern).unwrap();
            assert!(pattern.matches(line.as_bytes()), "{line}");
            let hosts = [
                "tail -f ",
                "vi ",
                "tmux new -d ",
                "ssh host ",
                "docker run x ",
                "sh -c ",
            ];
            for other in hosts.iter().map(|host| format!("{host}{line}")) {
                assert!(!pattern.matches(other.as_bytes()), "{other}");
            }
            assert!(!pattern.matches(format!("{line} x").as_bytes()), "{line} x");
            for other in others {
                assert!(!pattern.matches(other.as_bytes()), "{line} fits {other}");
            }
        }
    }

    #[test]
    fn a_name_that_spawn_does_not_use_and_one_that_it_does_both_fit() {
        let pattern = of_arguments(&words("feedd 1000"), Some("/opt/f.d/feedd"));
        assert_eq!(pattern, r"^(feedd|/opt/f\.d/feedd) 1000$");
        assert_eq!(of_arguments(&words("feedd 1"), Some("feedd")), "^feedd 1$");
        // an empty argument is not in what is searched
        assert_eq!(
            of_arguments(&["x".into(), String::new(), "y".into()], None),
            "^x y$"
        );
        assert_eq!(
            of_arguments(&words("/tmp/.mount_BotXy1/usr/bin/bot --live"), None),
            r"^/tmp/\.mount_[^/ ]+/usr/bin/bot --live$"
        );
        let pattern = of_arguments(&["x".into(), "a\u{fffd}b".into()], None);
        assert!(Pattern::new(&pattern).unwrap().matches(b"x a\xffb"));
    }

    #[test]
    fn versions_and_counts_in_a_title_may_change() {
        for (title, later, others) in [
            (
                "sidekiq 7.1.2 app [0 of 5 busy]",
                &["sidekiq 7.2.0 app [5 of 5 busy] stopping"][..],
                &["sidekiq 7.1.2 other [0 of 5 busy]"][..],
            ),
            (
                "puma 6.4.0 (tcp://0.0.0.0:9292) [app]",
                &["puma 6.4.1 (tcp://0.0.0.0:9292) [app]"],
                &["puma 6.4.0 (tcp://0.0.0.0:9293) [app]"],
            ),
            (
                "PM2 v5.3.0: God Daemon (/root/.pm2)",
                &["PM2 v5.4.1: God Daemon (/root/.pm2)"],
                &["PM2 v5.3.0: God Daemon (/home/x/.pm2)"],
            ),
            (
                "resque-1.27.4: Waiting for a",
                &["resque-2.0: Waiting for a"],
                &["resque-1.27.4: Waiting for b"],
            ),
            (
                "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
                &["sshd: /usr/sbin/sshd -D [listener] 3 of 10-100 startups"],
                &["sshd: bob [priv]"],
            ),
            (
                "redis-server 127.0.0.1:6379",
                &[],
                &["redis-server 127.0.0.1:6380"],
            ),
            ("x: 10.0.0.1", &[], &["x: 10.0.0.2"]),
            (
                "nginx: master process nginx",
                &[],
                &["nginx: worker process"],
            ),
            (
                "queue-worker",
                &[],
                &["queue-worker-2", "less queue-worker"],
            ),
            (
                "postgrey --inet=1   ",
                &["postgrey --inet=1"],
                &["postgrey --inet=12"],
            ),
        ] {
            let source = of_title(title);
            let pattern = Pattern::new(&source).unwrap();
            for fitting in [&[title], later].concat() {
                assert!(pattern.matches(fitting.as_bytes()), "{source}: {fitting}");
            }
            for other in others {
                assert!(!pattern.matches(other.as_bytes()), "{source}: {other}");
            }
            assert!(!pattern.matches(format!("tail -f {title}").as_bytes()));
        }
        assert_eq!(
            of_title("sidekiq 7.1.2 app [0 of 5 busy]"),
            r"^sidekiq [^ ]+ app \[[0-9]+ of [0-9]+ busy\]( |$)"
        );
    }

    /// Arguments as programs have them, and what is special in a pattern.
    fn arguments() -> impl Strategy<Value = Vec<String>> {
        vec(r"(|[a-c]{1,3}|[-a-c.*+?()|\[\]{}^$\\ 'é\n]{1,6})", 1..5)
    }

    proptest! {
        #[test]
        fn a_pattern_fits_its_own_arguments_alone(own in arguments(), other in arguments()) {
            let line = |arguments: &[String]| {
                let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
                words.join(" ")
            };
            let pattern = Pattern::new(&of_arguments(&own, None)).unwrap();
            prop_assert!(pattern.matches(line(&own).as_bytes()));
            prop_assert_eq!(pattern.matches(line(&other).as_bytes()), line(&own) == line(&other));
            let longer = [line(&own) + " x", "x ".to_owned() + &line(&own)];
            for longer in longer {
                prop_assert!(!pattern.matches(longer.as_bytes()));
            }
        }

        #[test]
        fn a_pattern_for_any_title_fits_it(title in "[-a-z0-9.:()/ ]{0,40}[a-z0-9\\])]") {
            let pattern = Pattern::new(&of_title(title.trim_start())).unwrap();
            prop_assert!(pattern.matches(title.trim_start().as_bytes()), "{}", of_title(&title));
        }
    }
}
