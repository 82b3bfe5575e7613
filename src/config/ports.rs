//! The `[[service.NAME.port]]` tables.

use std::path::Path;
use std::time::Duration;

use super::read::{Table, Value};
use crate::check::Severity;
use crate::check::port::{Address, Rule};

/// Reads one table. `check_timeout` is the limit of a probe that has none of its own.
pub(super) fn port(table: &Table<'_>, base: &Path, check_timeout: Duration) -> Option<Rule> {
    let address = table
        .require("address", "write address = \"127.0.0.1:4002\"")
        .and_then(|value| address(&value));
    let send = table
        .get("send")
        .and_then(|value| value.text().map(str::to_owned));
    let expect = table.get("expect").and_then(|value| value.shared_pattern());
    let tls = table.get("tls").and_then(|value| value.flag());
    let ca_file = table.get("ca_file").and_then(|value| value.path(base));
    let host = table.get("host").and_then(|value| value.filled());
    let severity = table.get("severity").and_then(|value| {
        value.choice(&[
            ("critical", Severity::Critical),
            ("warning", Severity::Warning),
        ])
    });
    let timeout = table.get("timeout").and_then(|value| value.time());
    let for_ = table.get("for").and_then(|value| value.duration());
    let rule = Rule {
        send: send.map(String::into_bytes),
        expect,
        tls: tls.unwrap_or(false),
        ca_file,
        host,
        severity: severity.unwrap_or(Severity::Critical),
        timeout: Some(timeout.unwrap_or(check_timeout)),
        for_: for_.unwrap_or_default(),
        ..Rule::new(address?)
    };
    if let Some(why) = rule.contradiction() {
        let key = ["ca_file", "host", "tls"]
            .into_iter()
            .find(|key| table.has(key));
        if let Some(value) = key.and_then(|key| table.get(key)) {
            value.misplaced(&why, "`tls = true` goes with `ca_file` and `host`");
        }
    }
    Some(rule)
}

fn address(value: &Value<'_>) -> Option<Address> {
    match Address::parse(value.text()?) {
        Ok(address) => Some(address),
        Err(why) => {
            value.wrong(
                &why,
                "write it like \"127.0.0.1:4002\", \"[::1]:4002\", \"gateway.example.org:4002\" or \"unix:/run/x.sock\"",
            );
            None
        }
    }
}
