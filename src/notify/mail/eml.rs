//! A message as bytes: headers, encoding and line ends as mail wants them.
//!
//! One function for every way out, so that what lies in a directory for trying out is what a server would get. The
//! headers are all set here and none comes from outside unescaped, so their number is fixed (F74).

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{MessageBuilder, SinglePart};

use super::{Message, Settings};
use crate::text::{cut, visible, visible_lines};

/// Characters of a subject, well below what a line may have even where it cannot be folded.
const SUBJECT_LIMIT: usize = 200;
/// The longest message id that is carried; longer ones are not ours.
const ID_LIMIT: usize = 250;

/// The message as it goes over the wire: CRLF line ends, ASCII only, no line above 998 bytes.
///
/// Text that would not fit is encoded, and arrives as it was. The error names what in the config is wrong.
pub fn eml(settings: &Settings, message: &Message) -> Result<Vec<u8>, String> {
    let mut builder = lettre::Message::builder()
        .from(settings.from.parsed.clone())
        .date(header_time(message.time))
        .subject(cut(&visible(&message.subject), SUBJECT_LIMIT));
    let mut seen = Vec::new();
    for to in settings.to.iter().map(|to| to.parsed.clone()) {
        if !seen.contains(&to.email) {
            seen.push(to.email.clone());
            builder = builder.to(to);
        }
    }
    if let Some(id) = checked_id(&message.message_id) {
        builder = builder.message_id(Some(id.to_owned()));
    }
    if let Some(id) = message.in_reply_to.as_deref().and_then(checked_id) {
        builder = builder.in_reply_to(id.to_owned());
    }
    let references: Vec<&str> = message
        .references
        .iter()
        .filter_map(|id| checked_id(id))
        .collect();
    if !references.is_empty() {
        builder = builder.references(references.join(" "));
    }
    let builder = header(builder, "Auto-Submitted", "auto-generated".to_owned());
    let services: Vec<String> = message
        .services
        .iter()
        .take(50)
        .map(|service| cut(&visible(service), 64))
        .collect();
    let builder = header(builder, "X-Watchdog-Service", services.join(", "));
    let builder = header(builder, "X-Watchdog-Event", message.event.name().to_owned());
    // line ends are made here, all at once: lettre would insert them one by one, in quadratic time; and it ends
    // the last line itself
    let body = visible_lines(&message.body);
    let body = body
        .strip_suffix('\n')
        .unwrap_or(&body)
        .replace('\n', "\r\n");
    let mail = builder
        .singlepart(SinglePart::plain(body))
        .map_err(|error| format!("the message cannot be put together: {error}; check [mail] to"))?;
    Ok(mail.formatted())
}

fn header(builder: MessageBuilder, name: &'static str, value: String) -> MessageBuilder {
    builder.raw_header(HeaderValue::new(
        HeaderName::new_from_ascii_str(name),
        value,
    ))
}

/// An id that a header may hold as it stands.
fn checked_id(id: &str) -> Option<&str> {
    let fits = id.len() <= ID_LIMIT
        && id.len() > 2
        && id.starts_with('<')
        && id.ends_with('>')
        && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(id)
}

/// A time that a Date header can hold: its four digits begin with 1970 here.
fn header_time(time: DateTime<Utc>) -> SystemTime {
    const LATEST: i64 = 253_402_300_799; // 9999-12-31T23:59:59Z
    let seconds = u64::try_from(time.timestamp().clamp(0, LATEST)).unwrap_or_default();
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::super::Transport;
    use super::super::tests::{message, settings};
    use super::*;
    use crate::notify::Event;

    fn written(message: &Message) -> String {
        let settings = settings(Transport::Directory("unused".into()));
        String::from_utf8(eml(&settings, message).unwrap()).unwrap()
    }

    fn names(mail: &str) -> Vec<&str> {
        let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
        headers
            .split("\r\n")
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split_once(':').unwrap().0)
            .collect()
    }

    #[test]
    fn a_message_for_nobody_is_none() {
        let mut settings = settings(Transport::Directory("out".into()));
        settings.to.clear();
        assert_eq!(
            eml(&settings, &message()).unwrap_err(),
            "the message cannot be put together: missing destination address, invalid envelope; check [mail] to"
        );
    }

    #[test]
    fn a_message_is_written_whole() {
        let mut message = message();
        message.in_reply_to = Some("<b@box1>".to_owned());
        message.references = vec!["<a@box1>".to_owned(), "<b@box1>".to_owned()];
        assert_eq!(
            written(&message),
            "From: watchdog@example.org\r\n\
             Date: Sun, 22 Nov 2026 01:02:03 +0000\r\n\
             Subject: [watchdog] box1: trader restarted\r\n\
             To: ops@example.org, Boss <boss@example.org>\r\n\
             Message-ID: <20261122T010203Z.trader.1@box1>\r\n\
             In-Reply-To: <b@box1>\r\n\
             References: <a@box1> <b@box1>\r\n\
             Auto-Submitted: auto-generated\r\n\
             X-Watchdog-Service: trader, feed\r\n\
             X-Watchdog-Event: restarted\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 7bit\r\n\
             \r\n\
             trader was restarted and is up again.\r\n"
        );
    }

    #[test]
    fn f74_no_text_adds_a_header() {
        let mut evil = message();
        evil.references = vec!["<a@box1>".to_owned()];
        evil.in_reply_to = Some("<a@box1>".to_owned());
        let count = names(&written(&evil)).len();
        let break_out = "x\r\nBcc: thief@example.org\r\n\r\nbody\0\x1b[2J\u{202e}";
        evil.subject = format!("größe {break_out} {}", "y".repeat(2000));
        evil.services = vec![break_out.to_owned(); 300];
        evil.body = format!(".\r\n..\r\n{break_out}\r.\n");
        let mail = written(&evil);
        assert_eq!(names(&mail).len(), count, "{mail}");
        assert!(!names(&mail).contains(&"Bcc"), "{mail}");
        evil.message_id = format!("<{break_out}@h>");
        evil.in_reply_to = Some("<a@h>\r\nBcc: x@y".to_owned());
        evil.references = vec![break_out.to_owned(), "<ok@h>".to_owned()];
        let mail = written(&evil);
        assert!(!names(&mail).contains(&"Bcc"), "{mail}");
        assert!(mail.contains("References: <ok@h>\r\n"), "{mail}");
        assert!(
            !mail.contains("In-Reply-To") && !mail.contains("Message-ID"),
            "{mail}"
        );
        assert!(
            mail.bytes()
                .all(|b| b.is_ascii() && (b >= b' ' || b == b'\r' || b == b'\n')),
            "{mail}"
        );
    }

    #[test]
    fn no_line_is_too_long_for_a_server_nor_ended_by_half() {
        let mut long = message();
        long.subject = "s".repeat(5000);
        long.body = format!("{}\nü{}\n.\n", "x".repeat(5000), "y".repeat(3000));
        long.services = vec!["s".repeat(3000); 300];
        long.references = (0..100)
            .map(|n| format!("<{n}@{}>", "h".repeat(200)))
            .collect();
        let mail = written(&long);
        for line in mail.split("\r\n") {
            assert!(!line.contains(['\r', '\n']), "{line:?}");
            assert!(line.len() <= 998, "{line}");
        }
    }

    #[test]
    fn impossible_times_are_times_all_the_same() {
        for time in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            let mut odd = message();
            odd.time = time;
            odd.event = Event::Watchdog;
            assert!(written(&odd).contains("\r\nDate: "));
        }
    }
}
