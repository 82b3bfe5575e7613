//! The fuzzer's targets, played a little: by bytes without sense, and by bytes near those that have some.

use proptest::prelude::*;

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

/// Bytes that are pieces of `samples`, put together anew, with others between.
fn near(samples: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let cut = (
        prop::sample::select(samples),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    );
    let piece = prop_oneof![
        2 => prop::sample::select(samples).prop_map(<[u8]>::to_vec),
        3 => cut.prop_map(|(sample, one, other)| {
            let (one, other) = (one.index(sample.len() + 1), other.index(sample.len() + 1));
            sample[one.min(other)..one.max(other)].to_vec()
        }),
        2 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

const STATE: &[u8] = br#"{"version":1,"services":{"a":{"attempts":["2026-11-22T11:30:00Z","2026-11-22T11:59:00Z"],"young":[]},"b":{"given_up":"2026-11-22T11:00:00Z","attempts":["2027-11-22T11:30:00Z"]}}}"#;
const ENTRY: &[u8] = br#"{"time":"2026-11-22T05:06:05Z","service":"a","event":"restarting","findings":[{"check":"process","code":"process_missing","severity":"critical","message":"m"}]}
"#;
const SESSION: &[u8] = b"\x01220 mx ESMTP\r\n250-mx\r\n250 AUTH PLAIN LOGIN\r\n235 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n221 bye\r\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn config(bytes in near(&[include_bytes!("../../watchdog.toml.example"), b"[service.a]\nspawn = { command = [\"x\"] }\n", b"\xc3\xa4\t\r\n"])) {
        targets::config(&bytes);
    }

    #[test]
    fn pid_file(bytes in near(&[b" 4711 \r\n", b"+", b"0", b"\xef\xbb\xbf", b"99999999999"])) {
        targets::pid_file(&bytes);
    }

    #[test]
    fn state_and_backup(bytes in near(&[STATE, b"\0"])) {
        targets::state(&bytes);
    }

    #[test]
    fn journal(bytes in near(&[ENTRY])) {
        targets::journal(&bytes);
    }

    #[test]
    fn log(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        targets::log(&bytes);
    }

    #[test]
    fn stamp(first in 0_u8..20, second in 0_u8..4, bytes in near(&[b"2026-11-22 12:00:00", b"1795348740123", b"@400000006b02d90e0ee6b280", b"\"t\":\"2026-11-22T12:00:00.5+01:00", b"Nov 22", b"%Y-%j\0"])) {
        targets::stamp(&[&[first, second], bytes.as_slice()].concat());
    }

    #[test]
    fn proc_stat(bytes in near(&[b"4711 (a) R 1 (b) T 17 4700 4711 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 0\n"])) {
        targets::proc_stat(&bytes);
    }

    #[test]
    fn smtp_replies(bytes in near(&[SESSION, b"250-x\r\n", b"550 canary7391\r\n"])) {
        targets::smtp(&bytes);
    }

    #[test]
    fn env_file(bytes in near(&[b"export A='b' # c\n", b"B=\"x\\\"y\"\n", b"\\", b"'", b"\""])) {
        targets::env_file(&bytes);
    }

    #[test]
    fn request(bytes in near(&[b"POST /repair/a?b HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\nContent-Length: 5\r\n\r\nhello", b"GET / HTTP/1.0\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n", b"http://h/"])) {
        targets::request(&bytes);
    }

    #[test]
    fn mail(bytes in near(&[b"a\0", b"\r\nBcc: x\r\n\r\n", b"<1@h>\0", b"\xc3\xa4\x1b[2J", b".\n"])) {
        targets::mail(&bytes);
    }
}
