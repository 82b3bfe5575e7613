//! Answers of the API, whole and broken.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use super::*;
use crate::client::http::{HeaderMap, StatusCode};

/// An answer; `headers` are lines.
pub(crate) fn response(status: u16, headers: &str, body: &str) -> Response {
    let mut map = HeaderMap::new();
    for line in headers.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        map.insert(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    Response {
        status: StatusCode::from_u16(status).unwrap(),
        headers: map,
        body: body.as_bytes().to_vec(),
        body_length: body.len(),
    }
}

const RULES: &str = r#"{"status":"success","data":{"groups":[{"name":"g","file":"x.yml","interval":15,"limit":0,
"rules":[
 {"state":"firing","name":"Down","query":"up == 0","duration":60,"keepFiringFor":0,
  "labels":{"auto_repair":"true","service":"{{ $labels.job }}"},"annotations":{},
  "alerts":[
   {"labels":{"alertname":"Down","job":"api"},"annotations":{"summary":"api is down"},"state":"firing","activeAt":"2026-11-27T21:36:53.123456789+01:00","value":"0e+00"},
   {"labels":{"alertname":"Down","job":"db"},"annotations":{},"state":"pending","activeAt":"2026-11-27T20:36:53Z","value":"0e+00"}],
  "health":"ok","evaluationTime":0.0002,"lastEvaluation":"2026-11-27T21:40:00.5Z","type":"alerting"},
 {"name":"recorded","query":"1","health":"ok","lastEvaluation":"2026-11-27T21:40:00Z","type":"recording"},
 {"state":"inactive","name":"Broken","labels":{},"alerts":[],"health":"err","lastError":"many-to-many",
  "lastEvaluation":"0001-01-01T00:00:00Z","type":"alerting"}]}]}}"#;

#[test]
fn rules_are_read_with_their_alerts() {
    let headers = "date: Fri, 27 Nov 2026 21:40:01 GMT\nage: 5";
    let rules = read_rules(&response(200, headers, RULES)).unwrap();
    assert_eq!(rules.clock, time("2026-11-27T21:40:06Z"));
    let names: Vec<&str> = rules.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["Down", "Broken"]);
    let down = &rules.rules[0];
    assert_eq!((&*down.group, &*down.health), ("g", "ok"));
    assert_eq!(down.interval, Duration::from_secs(15));
    assert_eq!(down.evaluated, time("2026-11-27T21:40:00.5Z"));
    assert_eq!(down.labels["service"], "{{ $labels.job }}");
    let [firing, pending] = &down.alerts[..] else {
        panic!("{down:?}");
    };
    assert!(firing.is_firing && !pending.is_firing);
    assert_eq!(firing.active_at, time("2026-11-27T20:36:53.123456789Z"));
    assert_eq!(firing.summary.as_deref(), Some("api is down"));
    assert_eq!(pending.summary, None);
    let broken = &rules.rules[1];
    assert_eq!(
        (&*broken.health, &*broken.last_error),
        ("err", "many-to-many")
    );
    // a server that says less
    let least = r#"{"status":"success","data":{"groups":[{"rules":[{"name":"X"}]}]}}"#;
    let rules = read_rules(&response(200, "", least)).unwrap();
    assert_eq!(rules.clock, None);
    assert_eq!(rules.rules[0].health, "unknown");
    assert_eq!(rules.rules[0].evaluated, None);
}

#[test]
fn what_an_expression_gives_is_told_apart() {
    let of = |kind: &str, result: &str| {
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}},"infos":["metric might not be a counter"]}}"#
        );
        read_value(&response(200, "", &body)).unwrap()
    };
    assert_eq!(of("vector", "[]"), Value::Vector(0, Vec::new()));
    let one = r#"[{"metric":{"job":"a"},"value":[1.5,"NaN"]}]"#;
    let labels = Labels::from([("job".to_owned(), "a".to_owned())]);
    let sample = |value: Option<&str>| Sample {
        labels: labels.clone(),
        value: value.map(str::to_owned),
    };
    assert_eq!(
        of("vector", one),
        Value::Vector(1, vec![sample(Some("NaN"))])
    );
    let histogram = r#"[{"metric":{"job":"a"},"histogram":[1.5,{"count":"1"}]}]"#;
    assert_eq!(
        of("vector", histogram),
        Value::Vector(1, vec![sample(None)])
    );
    let entry = r#"{"metric":{"job":"a"},"value":[1.5,"1"]}"#;
    let many = format!("[{}]", [entry; 9].join(","));
    assert_eq!(
        of("vector", &many),
        Value::Vector(9, vec![sample(Some("1")); SAMPLES])
    );
    assert_eq!(of("scalar", r#"[1,"0"]"#), Value::Scalar("0".to_owned()));
    assert_eq!(of("matrix", "[]"), Value::Other("matrix".to_owned()));
    assert_eq!(
        of("string", r#"[1,"x"]"#),
        Value::Other("string".to_owned())
    );
}

#[test]
fn what_is_not_whole_is_an_error() {
    let cut_off = &RULES[..200];
    let long = "x".repeat(300);
    for (status, headers, body, expected) in [
        (
            200,
            "",
            "",
            "answered 200 OK, with something that is no JSON: ``",
        ),
        (
            200,
            "",
            "<html><h1>login",
            "answered 200 OK, with something that is no JSON: `<html><h1>login`",
        ),
        (
            200,
            "",
            cut_off,
            "answered 200 OK, with something that is no JSON: `{\"status\":",
        ),
        (
            200,
            "",
            "{}",
            "answered 200 OK, with JSON that its API does not give: missing field `status`",
        ),
        (
            200,
            "",
            r#"{"status":"success"}"#,
            "answered 200 OK, without any data",
        ),
        (
            200,
            "",
            r#"{"status":"success","data":{}}"#,
            "answered 200 OK, with JSON that its API does not give: missing field `groups`",
        ),
        (
            200,
            "",
            r#"{"status":"success","data":{"groups":[{}]}}"#,
            "answered 200 OK, with JSON that its API does not give: missing field `rules`",
        ),
        (
            200,
            "",
            r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#,
            "answered 200 OK: query timed out",
        ),
        (
            200,
            "",
            r#"{"status":"success","data":{"groups":[]},"warnings":["store x is away\u001b"]}"#,
            "answered with a part of the data only: store x is away\\x1b",
        ),
        (
            400,
            "",
            r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected <eof>"}"#,
            "answered 400 Bad Request: parse error: unexpected <eof>",
        ),
        (
            503,
            "",
            "Service Unavailable\n",
            "answered 503 Service Unavailable: Service Unavailable",
        ),
        (401, "", "", "answered 401 Unauthorized"),
        (
            302,
            "location: https://sso.example/login?t=canary",
            "",
            "answered 302 Found: it redirects to https://sso.example/login, and redirects are not followed",
        ),
        (500, "", &long, "answered 500 Internal Server Error: xxx"),
    ] {
        let error = read_rules(&response(status, headers, body)).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(error.len() < 300, "{error}");
        assert!(
            read_value(&response(status, headers, body)).is_err(),
            "{body}"
        );
    }
    let mut large = response(200, "", RULES);
    large.body_length = LARGEST + 1;
    assert_eq!(
        read_rules(&large).unwrap_err(),
        "answered with more than 8 MiB, which is not read"
    );
}

#[test]
fn an_expression_is_a_part_of_the_url() {
    let server = Server {
        url: Url::parse("http://127.0.0.1:9090/prometheus/").unwrap(),
        headers: Vec::new(),
        ca_file: None,
    };
    let limit = Duration::from_secs(10);
    let request = server
        .query("up{job=~\"a|b\"} == 0 # ü&x=1", limit)
        .unwrap();
    assert_eq!(
        request.url,
        Url::parse("http://127.0.0.1:9090/prometheus/api/v1/query?query=up%7Bjob%3D~%22a%7Cb%22%7D%20%3D%3D%200%20%23%20%C3%BC%26x%3D1&timeout=10000ms").unwrap()
    );
    assert_eq!(
        server.rules().unwrap().url,
        Url::parse("http://127.0.0.1:9090/prometheus/api/v1/rules?type=alert").unwrap()
    );
    assert_eq!(request.redirects, 0);
}

#[test]
fn a_secret_that_is_cut_off_in_a_redirect_is_masked_as_a_whole() {
    let token = format!("CANARY-{}", "a".repeat(60));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let location = format!("https://sso.example/{}/{token}", "x".repeat(70));
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let answer =
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let mut secret = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    secret.set_sensitive(true);
    let server = Server {
        url: Url::parse(&format!("http://{address}")).unwrap(),
        headers: vec![(header::AUTHORIZATION, secret)],
        ca_file: None,
    };
    let limit = Duration::from_secs(60);
    let requests = vec![(server.rules().unwrap(), limit)];
    let answered = http::send(requests, Instant::now() + limit).remove(0);
    answering.join().unwrap();
    let why = read_rules(&answered.unwrap().answer).unwrap_err();
    assert!(
        why.ends_with("x/***, and redirects are not followed"),
        "{why}"
    );
}
