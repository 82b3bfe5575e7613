//! `watchdog man`: the manual, made of what the program itself goes by.
//!
//! The pages of the tool and its commands are generated from the definitions of the command line, the page of
//! the config file from those of its tables. So no page can say what is not so.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::cli::{self, Cli};
use crate::commands::print;
use crate::config;
use crate::error::Error;
use crate::table::Section;
use crate::table::{Sample, nearest};

/// The page of the config file.
const CONFIG: &str = "config";

/// Prints a page, or writes all of them.
pub fn run(options: &cli::Man) -> Result<u8, Error> {
    let pages = pages()?;
    if let Some(directory) = &options.all {
        return write_all(&pages, directory);
    }
    let asked = options.page.as_deref().unwrap_or_default();
    let Some(page) = pages.iter().find(|page| page.asked_by == asked) else {
        let near = nearest(asked, pages.iter().map(|page| page.asked_by.as_str()))
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        return Err(Error::Usage(format!(
            "no manual page `{}`{near}",
            crate::text::printable(asked.as_bytes(), 100)
        )));
    };
    print(&page.text)?;
    Ok(0)
}

fn write_all(pages: &[Page], directory: &Path) -> Result<u8, Error> {
    let mut written = String::new();
    for page in pages {
        let path = directory.join(&page.file);
        if let Err(error) = std::fs::write(&path, &page.text) {
            crate::commands::complain(&format!("cannot write {}: {error}", path.display()));
            print(&written)?;
            return Ok(1);
        }
        let _ = writeln!(written, "{}", path.display());
    }
    print(&written)?;
    Ok(0)
}

/// One page.
struct Page {
    /// What somebody writes to see it; empty: nothing.
    asked_by: String,
    /// The name of its file.
    file: String,
    /// In roff.
    text: String,
}

fn pages() -> Result<Vec<Page>, Error> {
    let mut tool = Cli::command().disable_help_subcommand(true);
    tool.build();
    let mut pages = vec![Page {
        asked_by: String::new(),
        file: "watchdog.1".to_owned(),
        text: tool_page(&tool).map_err(internal)?,
    }];
    for command in tool
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let name = command.get_name().to_owned();
        let mut roff = Vec::new();
        manual(command.clone(), &format!("watchdog-{name}"))
            .render(&mut roff)
            .map_err(internal)?;
        let mut text = String::from_utf8_lossy(&roff).into_owned();
        text.push_str(&see_also(&["watchdog(1)", "watchdog.toml(5)"]));
        pages.push(Page {
            file: format!("watchdog-{name}.1"),
            asked_by: name,
            text,
        });
    }
    pages.push(Page {
        asked_by: CONFIG.to_owned(),
        file: "watchdog.toml.5".to_owned(),
        text: config_page(),
    });
    Ok(pages)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of map_err")]
fn internal(error: std::io::Error) -> Error {
    Error::Internal(error.to_string())
}

fn manual(command: clap::Command, title: &str) -> Man {
    Man::new(command)
        .title(title)
        .source(concat!("watchdog ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands")
}

fn tool_page(tool: &clap::Command) -> std::io::Result<String> {
    let man = manual(tool.clone(), "watchdog");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    man.render_subcommands_section(&mut out)?;
    let mut text = String::from_utf8_lossy(&out).into_owned();
    let mut more = Roff::new();
    section(
        &mut more,
        "EXIT STATUS",
        "check and status answer with the worst of their services, as Nagios plugins do:",
        &[
            (
                "0",
                "all well: healthy, starting, paused, disabled; of scales steady, scaled",
            ),
            (
                "1",
                "warning: restarted, repaired, degraded, failing; of scales at_max",
            ),
            (
                "2",
                "critical: down, restart_failed, repair_failed, exhausted, waiting; of scales scale_failed",
            ),
            ("3", "unknown: something could not be seen"),
            ("64", "what was typed makes no sense"),
            ("70", "a fault of the program itself"),
            (
                "73",
                "the state directory cannot be used; nothing is restarted then",
            ),
            ("75", "another run holds the lock"),
            ("78", "the config is wrong, or not to be trusted"),
        ],
    );
    more.control("PP", []);
    more.text([roman(
        "The other commands: 0 done, 1 refused or failed, or not printed, and those from 64 on.",
    )]);
    section(
        &mut more,
        "FILES",
        "",
        &[
            (
                "/etc/watchdog/watchdog.toml",
                "the config, where none is named and neither the current directory nor \
                 $XDG_CONFIG_HOME/watchdog has a watchdog.toml; see watchdog.toml(5)",
            ),
            (
                "/var/lib/watchdog",
                "the state of a watchdog that root runs: state.json, journal.jsonl, lock, outbox, evidence",
            ),
        ],
    );
    section(
        &mut more,
        "ENVIRONMENT",
        "",
        &[
            ("WATCHDOG_CONFIG", "the config, where --config names none"),
            (
                "STATE_DIRECTORY",
                "where the state is, where the config does not say it",
            ),
            ("NO_COLOR", "when set to anything, no colours"),
            (
                "ALERT_EMAIL_TO",
                "mails without a [mail] table, from ALERT_EMAIL_FROM (or SMTP_USERNAME, where that is an \
                 address) through SMTP_SERVER; without these, 78. SMTP_PORT is 587 (465: TLS from the start; any \
                 other: STARTTLS). SMTP_USERNAME and SMTP_PASSWORD are set both or neither",
            ),
        ],
    );
    text.push_str(&more.to_roff());
    text.push_str(&see_also(&[
        "watchdog.toml(5)",
        "cron(8)",
        "systemd.timer(5)",
    ]));
    Ok(text)
}

fn section(roff: &mut Roff, title: &str, lead: &str, items: &[(&str, &str)]) {
    roff.control("SH", [title]);
    if !lead.is_empty() {
        roff.text([roman(lead)]);
    }
    for (term, meaning) in items {
        item(roff, bold(*term), meaning);
    }
}

fn item(roff: &mut Roff, term: Inline, meaning: &str) {
    roff.control("TP", []);
    roff.text([term]);
    roff.text([roman(meaning)]);
}

fn see_also(pages: &[&str]) -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages.join(", "))]);
    roff.to_roff()
}

/// The page of the config file: each table with its keys, their defaults or an example, and what values they take.
fn config_page() -> String {
    let mut roff = Roff::new();
    let source = concat!("watchdog ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["watchdog.toml", "5", "", source, "File Formats"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(
        "watchdog.toml - what watchdog(1) looks after, and how",
    )]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(config::ABOUT)]);
    let sections = config::sections();
    for section in &sections {
        let header = heading(section);
        roff.control("SH", [header.as_str()]);
        roff.text([roman(section.about())]);
        for line in section.own_lines(&sections) {
            roff.control("TP", []);
            let (value, which) = match line.value {
                Sample::Default(value) => (value, "this is the default"),
                Sample::Example(value) | Sample::Commented(value) => (value, "this is an example"),
            };
            roff.text([bold(line.name), roman(" = "), italic(value)]);
            let (about, kind) = (line.about, line.kind);
            roff.text([roman(format!("{about} Takes {kind}; {which}."))]);
        }
    }
    roff.render() + &see_also(&["watchdog(1)"])
}

fn heading(section: &Section) -> String {
    let place = title(&section.place);
    match section.variant() {
        Some(kind) => format!("{place} ({kind})"),
        None => place.to_owned(),
    }
}

fn title(place: &str) -> &str {
    match place {
        "" => "BEFORE THE FIRST TABLE",
        place => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages().unwrap();
        for command in Cli::command().get_subcommands() {
            let page = pages
                .iter()
                .find(|page| page.asked_by == command.get_name())
                .unwrap();
            assert!(page.text.contains(".TH"), "{}", page.file);
            assert!(page.text.contains(".SH SYNOPSIS"), "{}", page.file);
        }
    }

    #[test]
    fn every_key_is_on_the_page_of_the_config() {
        let page = config_page();
        let sections = config::sections();
        for section in &sections {
            let place = heading(section);
            assert!(
                page.contains(&format!(".SH \"{place}\"\n"))
                    || page.contains(&format!(".SH {place}\n")),
                "{place}"
            );
            for key in section.layout.names() {
                // keys that are tables have a section of their own
                let is_table = sections.iter().any(|other| {
                    let place = other.place.trim_matches(['[', ']']);
                    place.trim_end_matches(".NAME").rsplit('.').next() == Some(&key)
                });
                assert!(
                    is_table || page.contains(&format!("\\fB{key}\\fR = ")),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn the_page_of_the_config_says_defaults_and_bounds() {
        let page = config_page();
        for text in [
            "\\fBcooldown\\fR = \\fI\"0s\"\\fR",
            "0: never. Takes a whole number from 0 to 3600; this is the default.",
            "Takes a duration above zero; this is the default.",
            "\\fBdescription\\fR = \\fI\"the trading bot\"\\fR",
            "Variables that win over those of env_file. Takes a table of texts; this is an example.",
            "The password that goes with it. Here: a file that nobody else may read, whose first line is it.",
            "Or a variable of the environment.",
            "Or a systemd credential, of LoadCredential= in the unit.",
            "\\fBpassword\\fR = \\fI\"correct horse battery staple\"\\fR",
        ] {
            assert!(page.contains(text), "no {text} in\n{page}");
        }
    }
}
