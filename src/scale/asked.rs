//! Loads that are asked for: what a command prints, the length of a list.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::Context;
use crate::child::{describe_status, last_lines};
use crate::client::http;
use crate::client::prometheus::{Value, read_value};
use crate::client::redis::{Answer, Reply, Server, ask};
use crate::clock::rough;
use crate::config::scale::{Asked, Scale};
use crate::guard::{self, End, Task};
use crate::secret::Secret;
use crate::text::{cut, printable, visible};

/// A command may have so many processes at a time.
const MOST_PROCESSES: usize = 512;

/// So much of its output is kept, in bytes.
const KEPT: usize = 4096;

/// Of what is no number, so many bytes are shown.
const SHOWN: usize = 100;

/// Asks for a number. The error is a sentence without secrets.
pub fn number(scale: &Scale, asked: &Asked, context: &Context<'_>) -> Result<f64, String> {
    let limit = |timeout: &Option<Duration>| {
        let limit = timeout.unwrap_or(context.check_timeout);
        limit.min(context.left())
    };
    match asked {
        Asked::Command {
            command,
            user,
            timeout,
        } => of_command(scale, command, user.as_deref(), limit(timeout), context),
        Asked::Redis {
            url,
            list,
            ca_file,
            timeout,
        } => {
            let server = |url: &str| Server::parse(url, ca_file.clone());
            length(url, list, server, limit(timeout))
        }
        Asked::Prometheus { query, timeout } => value(query, limit(timeout), context),
    }
}

fn of_command(
    scale: &Scale,
    command: &[String],
    user: Option<&str>,
    limit: Duration,
    context: &Context<'_>,
) -> Result<f64, String> {
    let task = Task {
        command: command.to_vec(),
        working_dir: scale.directory.as_os_str().to_owned(),
        user: user.map(str::to_owned),
        group: None,
        env: Vec::new(),
        env_file: None,
        input: None,
        limit,
        most_processes: MOST_PROCESSES,
        kept: KEPT,
    };
    let shown = cut(&visible(&command.join(" ")), SHOWN);
    let answer = guard::run(&task, context.run_ends).map_err(|why| format!("{shown}: {why}"))?;
    let why = match answer.end {
        End::Ended(0) => {
            return parse(&answer.stdout).map_err(|why| format!("{shown}: {why}"));
        }
        End::Ended(status) => describe_status(ExitStatus::from_raw(status)),
        End::TimedOut => format!("did not end within {}, and was killed", rough(limit)),
        End::Stalled(_) => "could not be judged: nothing got on here for some time".to_owned(),
        End::TooMany => format!("had more than {MOST_PROCESSES} processes, and was killed"),
        End::Unstarted(why) => why,
        End::Abandoned => "had not ended when the run had to".to_owned(),
    };
    let said = last_lines(&answer.stderr, 1).pop();
    let said = said.map_or_else(String::new, |line| format!(": {line}"));
    Err(format!("{shown}: {why}{said}"))
}

/// The one number that a command printed.
fn parse(output: &[u8]) -> Result<f64, String> {
    let text = String::from_utf8_lossy(output);
    let number: Option<f64> = text.trim().parse().ok();
    match number {
        Some(number) if number.is_finite() => Ok(number),
        _ if text.trim().is_empty() => Err("it printed nothing on standard output".to_owned()),
        _ => Err(format!(
            "what it printed is not one number: `{}`",
            printable(text.trim().as_bytes(), SHOWN)
        )),
    }
}

fn length(
    url: &Secret,
    list: &str,
    server: impl Fn(&str) -> Result<Server, String>,
    limit: Duration,
) -> Result<f64, String> {
    let url = url.read("URL")?;
    let server = server(&url).map_err(|why| format!("the URL of Redis is no right one: {why}"))?;
    let command = vec![b"LLEN".to_vec(), list.as_bytes().to_vec()];
    let secrets = [Some(url), server.password()];
    let said = |text: &str| {
        let mut text = text.to_owned();
        for secret in secrets.iter().flatten().filter(|it| !it.is_empty()) {
            text = text.replace(secret.as_str(), "***");
        }
        cut(&visible(&text), 2 * SHOWN)
    };
    let origin = server.origin();
    let list = visible(list);
    match ask(&server, &[command], limit) {
        Err(failure) => Err(said(&failure.why)),
        Ok(Answer::Refused(error)) => Err(format!("{origin} refuses: {}", said(&error))),
        Ok(Answer::Replies(replies)) => match replies.first() {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a list has far fewer than 2^52 entries"
            )]
            Some(Reply::Number(length)) => Ok(*length as f64),
            Some(Reply::Error(error)) => {
                Err(format!("{origin}: the length of {list}: {}", said(error)))
            }
            _ => Err(format!("{origin} gives no length of {list}")),
        },
    }
}

/// The value of a query that gives one.
fn value(query: &str, limit: Duration, context: &Context<'_>) -> Result<f64, String> {
    let settings = context
        .prometheus
        .ok_or("there is no table [prometheus], so nobody can be asked")?;
    let whole = |why: String| format!("{} {why}", settings.url);
    let server = settings.server().map_err(whole)?;
    let request = server.query(query, limit).map_err(whole)?;
    let answer = http::send(vec![(request, limit)], context.run_ends).pop();
    let response = match answer {
        Some(Ok(answered)) => answered.answer,
        Some(Err(failure)) => return Err(failure.sentence(&settings.url.to_string())),
        None => return Err(whole("was not asked".to_owned())),
    };
    let query = cut(&visible(query), SHOWN);
    one(&read_value(&response).map_err(whole)?)
        .map_err(|why| whole(format!("gives {why} for {query}")))
}

/// The one number that a query gave.
fn one(value: &Value) -> Result<f64, String> {
    let text = match value {
        Value::Scalar(text) => Some(text),
        Value::Vector(1, samples) => samples.first().and_then(|sample| sample.value.as_ref()),
        Value::Vector(0, _) => return Err("nothing".to_owned()),
        Value::Vector(count, _) => return Err(format!("{count} samples, and not one")),
        Value::Other(what) => return Err(format!("a {what}, and not one number")),
    };
    let number = text.and_then(|text| text.parse::<f64>().ok());
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| "no number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::prometheus::{Labels, Sample};

    #[test]
    fn one_number_is_read_and_nothing_else_is() {
        for (output, expected) in [
            ("17\n", Some(17.0)),
            (" 0.5 \n", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("-2", Some(-2.0)),
            ("", None),
            ("\n", None),
            ("nan", None),
            ("inf", None),
            ("(integer) 5", None),
            ("1\n2\n", None),
            ("17 tasks", None),
        ] {
            assert_eq!(parse(output.as_bytes()).ok(), expected, "{output:?}");
        }
    }

    #[test]
    fn a_query_gives_one_number_or_none() {
        let sample = |value: &str| Sample {
            labels: Labels::new(),
            value: Some(value.to_owned()),
        };
        for (value, expected) in [
            (Value::Scalar("17".to_owned()), Some(17.0)),
            (Value::Scalar("NaN".to_owned()), None),
            (Value::Vector(1, vec![sample("0.5")]), Some(0.5)),
            (Value::Vector(1, vec![sample("+Inf")]), None),
            (Value::Vector(0, vec![]), None),
            (Value::Vector(2, vec![sample("1"), sample("2")]), None),
            (Value::Other("matrix".to_owned()), None),
        ] {
            assert_eq!(one(&value).ok(), expected, "{value:?}");
        }
    }
}
