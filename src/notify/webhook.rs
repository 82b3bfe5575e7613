//! `webhook`: the facts as JSON, posted to any URL, signed where that is wanted.

use std::borrow::Cow;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::Utc;
use ring::hmac;

use super::answers::{Answer, Receipt};
use super::facts::facts;
use super::kind::{Private, check_url, url_traps};
use super::post::{Post, shown};
use super::posted::{Message, Posted};
use super::{Common, Notification, Secret, Thread};
use crate::check::http::{HeaderFiles, Headers};
use crate::check::trap::Trap;
use crate::client::http::{HeaderName, HeaderValue};
use crate::secret::first_line;
use crate::table::{Filled, Flat, Part, Table, table};

table! {
    /// Whom to tell by a POST of JSON; NAME is as for services, and in the journal and the state.
    pub struct Settings like "type = \"webhook\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""webhook""#;
        /// Where to.
        url: Secret => Secret, commented r#""https://example.org/alerts""#;
        /// What is sent beside; where one is a secret, as Authorization, nobody else may read this file.
        headers: Vec<(HeaderName, HeaderValue)> as Headers = Vec::new(), commented r#"{ X-Team = "ops" }"#;
        /// The same from files, each of mode 0600, whose first line is the value.
        header_files: Vec<(HeaderName, Secret)> as HeaderFiles = Vec::new(), commented r#"{ Authorization = "/etc/watchdog/hook.auth" }"#;
        /// Authorities to trust in addition to the system's.
        ca_file: Option<PathBuf>, commented r#""/etc/ssl/own-ca.pem""#;
        /// Each message is signed with it by HMAC-SHA256, as Standard Webhooks say: webhook-id, webhook-timestamp,
        /// webhook-signature. With "whsec_" before it, what follows is BASE64.
        secret: Option<Secret> => Secret, commented r#""whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw""#;
        /// What goes out by it.
        common: Common => Flat;
    }
}

fn fits_together(table: &Table<'_>, part: &mut Part<Settings>) {
    check_url(table, "url", part.url.as_ref());
    let files = part.header_files.as_deref().unwrap_or_default();
    let headers = part.headers.as_deref().unwrap_or_default();
    let twice = (files.iter()).find(|(name, _)| headers.iter().any(|(other, _)| other == name));
    if let (Some((twice, _)), Some(value)) = (twice, table.get("header_files")) {
        value.misplaced(
            &format!("the header `{twice}` is in `headers` as well"),
            "a header comes from one place",
        );
    }
}

impl Posted for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipient(&self) -> String {
        self.kind.clone()
    }

    fn describe(&self) -> String {
        format!("by a POST to {}", shown(&self.url))
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        let mut found = vec![Private::of(&["url"], &self.url)];
        found.extend(self.secret.iter().map(|it| Private::of(&["secret"], it)));
        let marked = self
            .headers
            .iter()
            .filter(|(_, value)| value.is_sensitive());
        found.extend(marked.map(|(name, value)| Private {
            key: vec!["headers".to_owned(), name.to_string()],
            secret: Cow::Owned(Secret::Inline(
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )),
        }));
        found.extend(self.header_files.iter().map(|(name, secret)| Private {
            key: vec!["header_files".to_owned(), name.to_string()],
            secret: Cow::Borrowed(secret),
        }));
        found
    }

    fn traps(&self) -> Vec<Trap> {
        url_traps("url", &self.url)
    }

    fn message(&self, notification: &Notification, _: &Thread) -> Message {
        Message {
            whole: facts(notification, false),
            short: facts(notification, true),
        }
    }

    fn post(&self, message: &serde_json::Value) -> Result<Post, String> {
        let mut post = Post::json(&self.url.read("URL")?, message)?;
        post.ca_file.clone_from(&self.ca_file);
        post.takes_ca_file = true;
        for (name, value) in &self.headers {
            if value.is_sensitive() {
                post.hide(&String::from_utf8_lossy(value.as_bytes()));
            }
            post.headers.push((name.clone(), value.clone()));
        }
        for (name, secret) in &self.header_files {
            let what = format!("header {name}");
            let text = match secret {
                Secret::File(path) => first_line(path, &what)?,
                other => other.read(&what)?,
            };
            post = post.with_secret(name.clone(), &text)?;
        }
        if let Some(secret) = &self.secret {
            let secret = secret.read("secret")?;
            let key = key(&secret)?;
            let seconds = Utc::now().timestamp();
            // each message says it
            let id = message["id"].as_str().unwrap_or_default();
            let signature = signature(&key, id, seconds, &post.body);
            for (name, value) in [
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", seconds.to_string()),
                ("webhook-signature", signature),
            ] {
                let value = HeaderValue::from_str(&value)
                    .map_err(|_| format!("the header {name} cannot be sent"))?;
                post.headers.push((HeaderName::from_static(name), value));
            }
            post.secrets.push(secret);
        }
        Ok(post)
    }

    /// Any success will do: nobody knows what such a server says.
    fn receipt(_: &Answer<'_>) -> Receipt {
        Receipt::Taken
    }
}

/// The bytes that a secret stands for.
fn key(secret: &str) -> Result<Vec<u8>, String> {
    match secret.strip_prefix("whsec_") {
        None => Ok(secret.as_bytes().to_vec()),
        Some(text) => BASE64_STANDARD
            .decode(text)
            .map_err(|_| "the secret is not BASE64 behind \"whsec_\"".to_owned()),
    }
}

/// Standard Webhooks, version 1.
fn signature(key: &[u8], id: &str, seconds: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_standard_webhooks_say() {
        // the example of its specification
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(super::key("plain").unwrap(), b"plain");
        assert!(super::key("whsec_?").is_err());
    }
}
