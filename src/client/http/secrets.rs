//! What of a request is never shown, whoever repeats it: some servers answer with all that they were asked.

use std::fmt::Write;

use super::url::unescaped;
use super::{HeaderName, HeaderValue, Url};
use crate::table::MASK;

/// A part of a URL or a header that is so long may be a secret.
const PART: usize = 6;

/// What is shorter is not looked for: it would be found in other words.
const SHORTEST: usize = 4;

/// A text without these secrets, also where they stand in it as another would write them: escaped for a URL, JSON or HTML.
pub fn masked(text: &str, secrets: &[String]) -> String {
    mask(text, &forms(secrets))
}

fn mask(text: &str, forms: &[String]) -> String {
    let mut masked = text.to_owned();
    for form in forms {
        masked = masked.replace(form.as_str(), MASK);
    }
    masked
}

/// Secrets as servers repeat them, the longest first: as they are, without and with the escapes of a URL, and either with those
/// of JSON and HTML.
fn forms(secrets: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for secret in secrets {
        let mut plain = vec![secret.clone()];
        let of_url = |text: &str| {
            let bytes = unescaped(text).ok()?;
            String::from_utf8(bytes).ok()
        };
        plain.extend(of_url(secret));
        // as the fields of a form are written
        plain.extend(of_url(&secret.replace('+', " ")));
        plain.dedup();
        for text in plain {
            let encoded = percent_encoded(&text);
            all.push(lower_escapes(&encoded));
            all.push(encoded);
            let json = in_json(&text);
            all.push(json.replace('/', "\\/"));
            all.push(json);
            let html = in_html(&text);
            all.push(html.replace("&#39;", "&#x27;").replace('/', "&#x2F;"));
            all.push(html.replace('+', "&#43;").replace('=', "&#61;"));
            all.push(html);
            all.push(text);
        }
    }
    all.retain(|it| it.len() >= SHORTEST);
    sort(&mut all);
    all
}

/// With all but letters, digits and `-._~` escaped as in a URL.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The escapes of a URL with small letters.
fn lower_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        text.push('%');
        text.push_str(&digits.to_ascii_lowercase());
        text.push_str(rest);
    }
    text
}

/// As in a text of JSON, without its quotes.
fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default()
        .to_owned()
}

/// As in a text of HTML.
fn in_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The same of the words of somebody else that may have been cut: where they end within a secret, that part is masked as
/// well.
pub fn masked_where_cut(text: &str, secrets: &[String]) -> String {
    let forms = forms(secrets);
    let mut masked = mask(text, &forms);
    let begins = |secret: &String| {
        let lengths = (SHORTEST..secret.len()).rev();
        let mut beginnings = lengths.filter_map(|length| secret.get(..length));
        beginnings.find(|it| masked.ends_with(it)).map(str::len)
    };
    if let Some(length) = forms.iter().filter_map(begins).max() {
        masked.truncate(masked.len() - length);
        masked.push_str(MASK);
    }
    masked
}

/// The parts of a URL that may be secrets, the longest first. The path is among them; one that is no more than a scheme and a
/// host has none.
pub fn parts_of_url(url: &str) -> Vec<String> {
    let is_bare = url.split_once("://").is_some_and(|(_, rest)| {
        let host = rest.strip_suffix('/').unwrap_or(rest);
        !host.contains(['/', '?', '#', '@'])
    });
    if is_bare {
        return Vec::new();
    }
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let user = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'));
    let mut parts: Vec<String> = long_parts(path)
        .chain([url, path])
        .chain(user.into_iter().flat_map(|(user, _)| user.split(':')))
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .chain(proof_of(url))
        .collect();
    sort(&mut parts);
    parts
}

/// What proves who asks, as it is sent, by the user and password of a URL.
fn proof_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let proof = url.authorization()?.to_str().ok()?;
    proof.split(' ').nth(1).map(str::to_owned)
}

/// What is secret where the path of a URL is shown: its user, password and query, and headers that are marked so.
pub fn of_request(url: &Url, headers: &[(HeaderName, HeaderValue)]) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    if let Some(proof) = url.authorization() {
        parts.extend(words(proof));
    }
    parts.extend(url.user_and_password());
    if let Some(query) = url.uri().query() {
        parts.extend(long_parts(query).map(str::to_owned));
    }
    let marked = headers.iter().filter(|(_, value)| value.is_sensitive());
    parts.extend(marked.flat_map(|(_, value)| words(value)));
    sort(&mut parts);
    parts
}

fn long_parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(['/', '?', '&', '=', ':'])
        .filter(|part| part.len() >= PART)
}

/// A value, and each of its words.
fn words(value: &HeaderValue) -> Vec<String> {
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let words = text.split(' ').filter(|word| word.len() >= PART);
    let mut all: Vec<String> = words.map(str::to_owned).collect();
    all.push(text);
    all
}

fn sort(parts: &mut Vec<String>) {
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_in_a_url_is_masked_wherever_it_is_repeated() {
        let url = "https://user:pa55word@hooks.example.org/services/T0CANARY1/B0CANARY2/c4n4ry?sig=S1GC4NARY";
        let secrets = parts_of_url(url);
        for text in [
            url,
            "no such hook: /services/T0CANARY1/B0CANARY2/c4n4ry?sig=S1GC4NARY",
            "T0CANARY1",
            "bad sig S1GC4NARY",
            "pa55word",
            "Authorization: Basic dXNlcjpwYTU1d29yZA==",
            // it was cut
            "POST /services/T0CANARY1/B0CAN",
            "Basic dXNlcjpwYTU1",
        ] {
            let shown = masked_where_cut(text, &secrets);
            for canary in ["CAN", "c4n4", "C4NARY", "pa55", "dXNl"] {
                assert!(!shown.contains(canary), "{shown}");
            }
            assert!(shown.contains("***"), "{shown}");
        }
        assert_eq!(masked("no such user", &secrets), "no such ***");
        assert_eq!(
            masked_where_cut("it ends with ser", &secrets),
            "it ends with ser"
        );
        // a sentence of one's own is not cut
        let own = ["proxyuser:c4n4ry".to_owned()];
        assert_eq!(masked("ask the proxy", &own), "ask the proxy");
        assert_eq!(masked_where_cut("ask the proxy", &own), "ask the ***");
    }

    #[test]
    fn a_scheme_and_a_host_are_no_secret() {
        for url in [
            "http://127.0.0.1:1",
            "https://ntfy.example.org/",
            "http://[::1]:80",
        ] {
            assert!(parts_of_url(url).is_empty(), "{url}");
            let said = format!("{url} refused the connection");
            assert_eq!(masked(&said, &parts_of_url(url)), said);
        }
        for url in [
            "http://me:c4n4ry@host",
            "http://host?c4n4ry",
            "http://host//c4n4ry",
        ] {
            let shown = masked(&format!("{url} and http://host"), &parts_of_url(url));
            assert_eq!(shown, "*** and http://host", "{url}");
        }
    }

    #[test]
    fn a_secret_is_masked_however_a_server_writes_it() {
        let url = parts_of_url("https://x.example/paths/invoke?sig=3xYz%2Fab%2Bcd%3D&code=");
        let header = [
            "Bearer S3cret/pw+x==".to_owned(),
            "S3cret/pw+x==".to_owned(),
        ];
        let quoted = ["c4n&ry<\"'>".to_owned()];
        for (secrets, said, shown) in [
            (&url[..], "signature 3xYz/ab+cd=", "signature ***"),
            (&url, "signature 3xYz%2fab%2bcd%3d", "signature ***"),
            (&url, "sig 3xYz%252Fab%252Bcd%253D", "sig ***"),
            (&url, "{\"sig\":\"3xYz\\/ab+cd=\"}", "{\"sig\":\"***\"}"),
            (&header, "no S3cret/pw x==", "no ***"),
            (&url, "at /paths/invoke?sig=3xYz/ab+cd=&code=", "at /***"),
            (&header, "no \"S3cret\\/pw+x==\"", "no \"***\""),
            (&header, "no S3cret%2Fpw%2Bx%3D%3D", "no ***"),
            (&header, "no S3cret&#x2F;pw+x==", "no ***"),
            (&header, "no Bearer S3cret/pw+x==", "no ***"),
            (&quoted, "no c4n&amp;ry&lt;&quot;&#39;&gt;", "no ***"),
            (&quoted, "no c4n&ry<\\\"'>", "no ***"),
        ] {
            assert_eq!(masked(said, secrets), shown, "{said}");
        }
        // it was cut
        assert_eq!(masked_where_cut("sig 3xYz/ab+", &url), "sig ***");
    }

    #[test]
    fn a_probe_shows_its_path_and_hides_the_rest() {
        let url = Url::parse("http://me:c%61nary@127.0.0.1/health?key=S1GC4NARY&v=1").unwrap();
        let mut secret = HeaderValue::from_static("Bearer T0CANARY1");
        secret.set_sensitive(true);
        let headers = [
            (HeaderName::from_static("x-key"), secret),
            (
                HeaderName::from_static("x-plain"),
                HeaderValue::from_static("no-secret"),
            ),
        ];
        let secrets = of_request(&url, &headers);
        let told = "GET /health?key=S1GC4NARY&v=1 x-key: Bearer T0CANARY1 x-plain: no-secret Basic bWU6Y2FuYXJ5 canary";
        assert_eq!(
            masked(told, &secrets),
            "GET /health?key=***&v=1 x-key: *** x-plain: no-secret *** ***"
        );
        let plain = Url::parse("http://127.0.0.1/health").unwrap();
        assert!(of_request(&plain, &headers[1..]).is_empty());
    }
}
