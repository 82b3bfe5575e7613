//! What a port probe asks, and how it stood, for `why`.

use std::time::Duration;

use super::{KEPT, Rule};
use crate::check::LastLook;
use crate::check::lasting::{self, Failing};
use crate::clock::exact;
use crate::text::printable;

/// What the probe does and how it stands, in lines for `why`. `timeout` is the one that holds for it.
pub(super) fn explain(
    rule: &Rule,
    timeout: Duration,
    state: &Failing,
    last: LastLook<'_>,
) -> Vec<String> {
    let mut asks = vec!["accept a connection".to_owned()];
    if rule.tls {
        let name = rule.server_name().unwrap_or_default();
        asks.push(format!(
            "show a certificate for `{name}` that is trusted here"
        ));
    }
    if let Some(send) = &rule.send {
        asks.push(format!("take `{}`", printable(send, KEPT)));
    }
    if let Some(expect) = &rule.expect {
        asks.push(format!("answer with what matches `{}`", expect.source()));
    }
    let mut lines = vec![format!(
        "{} has to {} within {}",
        rule.address,
        asks.join(", "),
        exact(timeout)
    )];
    if rule.expect.is_none() && !rule.tls {
        lines.push(
            "the kernel accepts connections for a program that is frozen: only `expect` finds that"
                .to_owned(),
        );
    }
    lines.extend(lasting::explain(state, rule.for_, last));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Address;
    use super::super::rule::expecting as rule;
    use super::*;
    use crate::fixtures::at;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn why_says_what_is_asked_and_how_it_stands() {
        let last = LastLook {
            time: Some(at(0)),
            clock: None,
        };
        let full = Rule {
            send: Some(b"PING\r\n".to_vec()),
            tls: true,
            for_: Duration::from_secs(300),
            ..rule("db.example:6379")
        };
        let failing = Failing {
            failing_since: Some(at(-90).into()),
            ..Failing::default()
        };
        assert_eq!(
            explain(&full, TEN, &failing, last),
            [
                r"db.example:6379 has to accept a connection, show a certificate for `db.example` that is trusted here, take `PING\x0d\x0a`, answer with what matches `^\+PONG` within 10s",
                "it has failed for 1m 30s, and counts once that is 5m"
            ]
        );
        let bare = Rule::new(Address::parse("10.0.0.1:1").unwrap());
        let lines = explain(&bare, TEN, &Failing::default(), last);
        assert_eq!(lines[0], "10.0.0.1:1 has to accept a connection within 10s");
        assert!(lines[1].contains("only `expect` finds that"));
        assert_eq!(lines.len(), 2);
    }
}
