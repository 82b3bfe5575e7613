//! What a kind of channel is.

use std::borrow::Cow;
use std::time::Duration;

use super::{DeliveryReport, Notification, Routing, Secret, Thread};
use crate::check::trap::Trap;
use crate::client::http::Url;
use crate::table::{Checked, Context, Table, Value};

/// A secret of a channel, and the keys that lead to it from its table.
#[derive(Clone, Debug)]
pub struct Private<'a> {
    /// The last one as it is written: `url_file`.
    pub key: Vec<String>,
    /// The secret.
    pub secret: Cow<'a, Secret>,
}

impl<'a> Private<'a> {
    /// That of a key that a secret is read by.
    pub(super) fn of(key: &[&str], secret: &'a Secret) -> Self {
        let mut key: Vec<String> = key.iter().map(|&key| key.to_owned()).collect();
        if let (Secret::File(_), Some(last)) = (secret, key.last_mut()) {
            last.push_str("_file");
        }
        Self {
            key,
            secret: Cow::Borrowed(secret),
        }
    }
}

/// A URL that stands in the config is known to be one before it is needed.
pub(super) fn check_url(table: &Table<'_>, key: &'static str, secret: Option<&Secret>) {
    let Some(Secret::Inline(text)) = secret else {
        return;
    };
    if let (Err(why), Some(value)) = (Url::parse(text), table.get(key)) {
        value.misplaced(
            &format!("`{key}` is no URL that can be asked: {why}"),
            "write it as it was given to you, beginning with https://",
        );
    }
}

/// What a URL that is read when it is needed may lack now.
pub(super) fn url_traps(key: &'static str, secret: &Secret) -> Vec<Trap> {
    let parsed = secret.read("URL").and_then(|text| Url::parse(&text));
    let trap = |why| {
        Trap::of(
            key,
            why,
            "put the URL there as it was given to you, in one line",
        )
    };
    parsed.err().map(trap).into_iter().collect()
}

/// What a secret that is read when it is needed lacks now.
pub(super) fn trap_of(
    key: &'static str,
    secret: &Secret,
    help: impl Into<Cow<'static, str>>,
) -> Option<Trap> {
    let why = secret.read(key).err()?;
    Some(Trap::of(key, why, help))
}

/// The same, and one that is not of so many letters and digits, as all of its kind are.
pub(super) fn length_trap(
    key: &'static str,
    secret: &Secret,
    length: usize,
    help: &'static str,
) -> Option<Trap> {
    let is_right = |text: &String| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    match secret.read(key) {
        Ok(text) if is_right(&text) => None,
        Ok(_) => Some(Trap::of(
            key,
            format!("what `{key}` holds is not of {length} letters and digits"),
            help,
        )),
        Err(why) => Some(Trap::of(key, why, help)),
    }
}

/// The URL of a server, to which paths are added.
pub(super) struct Server;

impl Checked for Server {
    type Of = String;
    const KIND: &'static str = "a URL";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        const HELP: &str = "write it like \"https://api.example.org\"";
        let text = value.filled()?;
        match Url::parse(&text) {
            Ok(url) if !url.has_password() && !text.contains('?') => {
                Some(text.trim_end_matches('/').to_owned())
            }
            Ok(_) => {
                value.wrong("there is more in it than a place", HELP);
                None
            }
            Err(why) => {
                value.wrong(&why, HELP);
                None
            }
        }
    }
}

/// A kind of channel: its config table is the type that this is implemented for. It renders and it sends; what is sent
/// when, what is kept and what is tried again is the same for all kinds, and not its business.
pub trait ChannelKind {
    /// A notification in the form that this kind sends.
    type Request;

    /// What goes out by it, and how often.
    fn routing(&self) -> &Routing;

    /// Whom it reaches: one outcome each. A kind without recipients of its own has one, its destination.
    fn recipients(&self) -> Vec<String>;

    /// How long all messages of a run may take together, a second or two for ending them aside.
    fn timeout(&self) -> Duration;

    /// How it sends, for a person: `smtp.example.org, port 587, with STARTTLS`.
    fn describe(&self) -> String;

    /// The secrets in its table: whether others can read them is known before anything is sent.
    fn secrets(&self) -> Vec<Private<'_>>;

    /// What in its table may not do what was meant. Looks at the world as it is now, sends nothing and changes nothing.
    fn traps(&self) -> Vec<Trap>;

    /// The id that the other side will know a message by, where this side gives it. Absent: the other side gives one
    /// when it takes the message.
    fn message_id(&self, notification: &Notification) -> Option<String>;

    /// Makes a message of a notification. Pure. The error names what in the config is wrong.
    fn render(&self, notification: &Notification, thread: &Thread)
    -> Result<Self::Request, String>;

    /// What is left of a message for these recipients, part by part, where no part may overtake an earlier one of the same key:
    /// the name of a part, by which it is a recipient, and its key. Pure. None: the order of messages does not matter.
    fn parts(&self, _: &Notification, _: &[String]) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Makes one attempt to send a message to these recipients, over within `limit` and a little more, whatever the other
    /// side does. `step` is called with a sentence for each step, as soon as it was made.
    fn send(
        &self,
        request: Self::Request,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport;

    /// The same where an earlier attempt may have delivered the message. A kind that can find out whether it has does.
    fn send_again(
        &self,
        request: Self::Request,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        self.send(request, recipients, limit, step)
    }
}
