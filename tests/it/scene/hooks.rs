//! A server on loopback that plays the services that messages are handed to: it refuses what they refuse, and answers with
//! the bodies that they document.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A request that was made.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// With its query.
    pub(crate) path: String,
    /// The names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    /// As it came.
    pub(crate) body: String,
}

impl Got {
    /// The body.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What is answered in place of what should be.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A status, further headers, and a body.
    Say(u16, &'static str, String),
    /// A status, and all that was sent.
    Repeat(u16),
    /// The connection is closed when all was read.
    Close,
}

#[derive(Default)]
struct Rules {
    next: VecDeque<Answer>,
    got: Vec<Got>,
}

/// The server.
pub(crate) struct Hooks {
    /// Its port.
    pub(crate) port: u16,
    rules: Arc<Mutex<Rules>>,
}

impl Hooks {
    /// One that answers as it should.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(Mutex::new(Rules::default()));
        let shared = Arc::clone(&rules);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, rules }
    }

    /// One that does not listen.
    pub(crate) fn absent() -> Self {
        Self {
            port: super::free_port(),
            rules: Arc::default(),
        }
    }

    /// Gives these answers to the next requests, and then those that it should.
    pub(crate) fn answer(&self, answers: &[Answer]) {
        self.rules.lock().unwrap().next = answers.iter().cloned().collect();
    }

    /// The requests so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.rules.lock().unwrap().got.clone()
    }

    /// The keys of the table of a channel of this type, with a canary in each secret.
    pub(crate) fn keys(&self, kind: &str) -> String {
        let base = format!("http://127.0.0.1:{}", self.port);
        let keys = match kind {
            "webhook" => format!(
                "url = \"{base}/webhook/CANARY1?key=CANARY2\"\nsecret = \"CANARY3\"\nheaders = {{ Authorization = \"Bearer CANARY4\" }}"
            ),
            "discord" => format!("url = \"{base}/api/webhooks/4711/CANARY1\"\nmention = \"42\""),
            "telegram" => format!("token = \"1:CANARY1\"\nchat = \"-100\"\napi_url = \"{base}\""),
            "slack" => format!("url = \"{base}/services/T0/B0/CANARY1\""),
            "ntfy" => format!("url = \"{base}\"\ntopic = \"CANARY1\"\ntoken = \"tk_CANARY2\""),
            "gotify" => format!("url = \"{base}\"\ntoken = \"CANARY1.token\""),
            "pushover" => format!(
                "api_url = \"{base}\"\ntoken = \"CANARY1aaaaaaaaaaaaaaaaaaaaaaa\"\nuser = \"CANARY2uuuuuuuuuuuuuuuuuuuuuuu\""
            ),
            "pagerduty" => {
                format!("api_url = \"{base}\"\nrouting_key = \"CANARY1aaaaaaaaaaaaaaaaaaaaaaaaa\"")
            }
            "teams" => format!("url = \"{base}/workflows/CANARY1/invoke?sig=CANARY2\""),
            other => panic!("{other}"),
        };
        format!("type = \"{kind}\"\n{keys}\n")
    }
}

fn serve(stream: &TcpStream, rules: &Mutex<Rules>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            let name = name.to_ascii_lowercase();
            if name == "content-length" {
                length = value.trim().parse().unwrap_or(0);
            }
            headers.push((name, value.trim().to_owned()));
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let got = Got {
        path,
        headers,
        body: String::from_utf8(body).unwrap(),
    };
    let answer = {
        let mut rules = rules.lock().unwrap();
        rules.got.push(got.clone());
        rules.next.pop_front()
    };
    let (status, headers, body) = match answer {
        Some(Answer::Close) => return,
        Some(Answer::Repeat(status)) => (status, "", format!("{} {:?}", got.path, got.headers)),
        Some(Answer::Say(status, headers, body)) => (status, headers, body),
        None => {
            let (status, body) = judged(&got);
            (status, "", body)
        }
    };
    let mut stream = stream;
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
}

fn units(value: &Value) -> usize {
    value.as_str().unwrap_or_default().encode_utf16().count()
}

/// What the real service says to it.
fn judged(got: &Got) -> (u16, String) {
    if got.path.starts_with("/ping/") {
        return (200, "OK".to_owned());
    }
    if got.header("content-type") != Some("application/json") {
        return (415, String::new());
    }
    let body = got.json();
    let knows = |known: &[&str]| {
        let mut keys = body.as_object().unwrap().keys();
        keys.all(|key| known.contains(&key.as_str()))
    };
    if got.path.starts_with("/api/webhooks/") {
        let invalid = |what: &str| {
            (
                400,
                json!({"code": 50035, "message": "Invalid Form Body", "errors": what}).to_string(),
            )
        };
        if !got.path.ends_with("?wait=true") {
            // not saved, and answered as if it were
            return (204, String::new());
        }
        if !got
            .header("user-agent")
            .unwrap()
            .starts_with("DiscordBot (")
        {
            return (403, "error code: 1010".to_owned());
        }
        if !knows(&["content", "embeds", "allowed_mentions", "username"]) {
            return invalid("keys");
        }
        let parse = &body["allowed_mentions"]["parse"];
        if *parse != json!([]) {
            return invalid("everybody would be mentioned");
        }
        if units(&body["content"]) > 2000 {
            return invalid("content");
        }
        if body["content"].is_null() && body["embeds"].is_null() {
            return (
                400,
                json!({"code": 50006, "message": "Cannot send an empty message"}).to_string(),
            );
        }
        let embeds = body["embeds"].as_array().cloned().unwrap_or_default();
        for embed in embeds {
            if units(&embed["title"]) > 256
                || units(&embed["description"]) > 4096
                || !embed["color"].is_u64()
            {
                return invalid("embeds");
            }
        }
        return (
            200,
            json!({"id": "1099", "channel_id": "7", "type": 0}).to_string(),
        );
    }
    if got.path.starts_with("/bot") {
        let says = |code: u16, description: &str| {
            (
                code,
                json!({"ok": false, "error_code": code, "description": description}).to_string(),
            )
        };
        if !got.path.ends_with("/sendMessage") {
            return says(404, "Not Found");
        }
        let length = units(&body["text"]);
        if length == 0 {
            return says(400, "Bad Request: message text is empty");
        }
        if length > 4096 {
            return says(400, "Bad Request: message is too long");
        }
        if !body["parse_mode"].is_null() {
            return says(400, "Bad Request: can't parse entities");
        }
        let reply = &body["reply_parameters"];
        if !reply.is_null() && reply["allow_sending_without_reply"] != true {
            return says(400, "Bad Request: message to be replied not found");
        }
        return (
            200,
            json!({"ok": true, "result": {"message_id": 77, "chat": {"id": -100}}}).to_string(),
        );
    }
    if got.path.starts_with("/services/") {
        let blocks = body["blocks"].as_array().cloned().unwrap_or_default();
        let is_long = |block: &Value| {
            let most = if block["type"] == "header" { 150 } else { 3000 };
            units(&block["text"]["text"]) > most || units(&block["text"]["text"]) == 0
        };
        if !knows(&["text", "blocks"]) || body["text"].is_null() || blocks.iter().any(is_long) {
            return (400, "invalid_blocks".to_owned());
        }
        return (200, "ok".to_owned());
    }
    if got.path.starts_with("/webhook/") {
        let knows = knows(&[
            "version", "id", "host", "time", "severity", "title", "text", "alerts",
        ]);
        let is_signed = got
            .header("webhook-signature")
            .is_some_and(|it| it.starts_with("v1,"));
        let is_same = got.header("webhook-id") == body["id"].as_str();
        return if knows && is_signed && is_same {
            (202, String::new())
        } else {
            (400, "what is this".to_owned())
        };
    }
    if got.path == "/message" {
        let says = |status: u16, error: &str| {
            let body = json!({"error": error, "errorCode": status, "errorDescription": error});
            (status, body.to_string())
        };
        if got.header("x-gotify-key") != Some("CANARY1.token") {
            return says(401, "Unauthorized");
        }
        if !knows(&["title", "message", "priority", "extras"])
            || body["message"].as_str().is_none_or(str::is_empty)
            || !body["priority"].is_u64()
        {
            return says(400, "Bad Request");
        }
        return (
            200,
            json!({"id": 25, "appid": 5, "message": body["message"]}).to_string(),
        );
    }
    if got.path == "/1/messages.json" {
        let says = |error: &str| {
            let body = json!({"status": 0, "request": "r", "errors": [error]});
            (400, body.to_string())
        };
        for key in ["token", "user"] {
            if body[key].as_str().is_none_or(|it| it.len() != 30) {
                return says(&format!("{key} is invalid"));
            }
        }
        let keys = [
            "token",
            "user",
            "title",
            "message",
            "priority",
            "timestamp",
            "retry",
            "expire",
        ];
        if !knows(&keys) || !(1..=1024).contains(&units(&body["message"])) {
            return says("message cannot be blank");
        }
        if units(&body["title"]) > 250 {
            return says("title is too long");
        }
        if body["priority"] == 2 && (body["retry"].is_null() || body["expire"].is_null()) {
            return says("retry must be supplied with priority=2");
        }
        return (200, json!({"status": 1, "request": "r"}).to_string());
    }
    if got.path == "/v2/enqueue" {
        let says = |error: &str| {
            let body = json!({"status": "invalid event", "message": "Event object is invalid", "errors": [error]});
            (400, body.to_string())
        };
        let keys = [
            "routing_key",
            "event_action",
            "dedup_key",
            "client",
            "payload",
        ];
        if !knows(&keys) || units(&body["routing_key"]) != 32 {
            return says("'routing_key' is invalid");
        }
        if !(1..=255).contains(&units(&body["dedup_key"])) {
            return says("'dedup_key' is too long");
        }
        let payload = &body["payload"];
        let severities = ["critical", "error", "warning", "info"];
        let is_whole = (1..=1024).contains(&units(&payload["summary"]))
            && units(&payload["source"]) > 0
            && (payload["severity"].as_str()).is_some_and(|it| severities.contains(&it));
        match body["event_action"].as_str() {
            Some("trigger") if is_whole => {}
            Some("resolve") if payload.is_null() => {}
            _ => return says("'payload' is missing or blank"),
        }
        let body = json!({"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]});
        return (202, body.to_string());
    }
    if got.path.starts_with("/workflows/") {
        let card = &body["attachments"][0];
        let is_card = body["type"] == "message"
            && card["contentType"] == "application/vnd.microsoft.card.adaptive"
            && card["content"]["type"] == "AdaptiveCard";
        let blocks = card["content"]["body"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is_empty = |block: &Value| units(&block["inlines"][0]["text"]) == 0;
        if !got.path.contains("sig=") {
            return (
                401,
                json!({"error": {"code": "DirectApiAuthorizationRequired"}}).to_string(),
            );
        }
        if !is_card || blocks.is_empty() || blocks.iter().any(is_empty) || got.body.len() > 28 << 10
        {
            return (
                400,
                json!({"error": {"code": "TriggerInputSchemaMismatch"}}).to_string(),
            );
        }
        return (202, String::new());
    }
    if got.path == "/" {
        let says = |status: u16, code: u32, error: &str| {
            (
                status,
                json!({"code": code, "http": status, "error": error}).to_string(),
            )
        };
        if !knows(&["topic", "title", "message", "priority", "markdown"]) {
            return says(
                400,
                40017,
                "invalid request: request body must be valid JSON",
            );
        }
        if body["message"].as_str().is_none_or(|it| it.len() > 4096) {
            return says(400, 40024, "invalid request: message too large");
        }
        if !got
            .header("authorization")
            .is_some_and(|it| it.starts_with("Bearer tk_"))
        {
            return says(403, 40301, "forbidden");
        }
        return (
            200,
            json!({"id": "hwQ2YpKdmg", "time": 1, "event": "message", "topic": body["topic"]})
                .to_string(),
        );
    }
    (404, String::new())
}
