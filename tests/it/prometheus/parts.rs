//! Real programs around a Prometheus, each ended with its test.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A process that is ended with the test.
pub(crate) struct Part(Child);

impl Part {
    /// Starts it; what it prints is dropped.
    pub(crate) fn begin(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a URL answers, with further arguments of curl.
pub(crate) fn get(url: &str, more: &[&str]) -> String {
    let answer = Command::new("curl")
        .args(["--silent", "--max-time", "5", "--noproxy", "*"])
        .args(more)
        .arg(url)
        .output()
        .unwrap();
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

/// The same as JSON; null where it is none.
pub(crate) fn json(url: &str) -> Value {
    serde_json::from_str(&get(url, &[])).unwrap_or_default()
}

/// A Prometheus, by its port.
pub(crate) struct Prometheus(pub(crate) u16);

impl Prometheus {
    /// Its alerting rules, by a name.
    pub(crate) fn rule(&self, name: &str) -> Value {
        let answer = json(&format!("http://127.0.0.1:{}/api/v1/rules", self.0));
        let groups = answer["data"]["groups"].as_array().cloned();
        let rules = groups.unwrap_or_default().into_iter();
        let mut rules = rules.flat_map(|it| it["rules"].as_array().cloned().unwrap_or_default());
        rules.find(|rule| rule["name"] == name).unwrap_or_default()
    }

    /// The values of these labels of its alerts that fire, by the name of their rule.
    pub(crate) fn firing(&self, name: &str, label: &str) -> Vec<String> {
        let alerts = self.rule(name)["alerts"].as_array().cloned();
        let alerts = alerts.unwrap_or_default().into_iter();
        let firing = alerts.filter(|it| it["state"] == "firing");
        let mut values: Vec<String> = firing
            .map(|it| it["labels"][label].as_str().unwrap_or_default().to_owned())
            .collect();
        values.sort();
        values
    }

    /// What an expression gives: the values, in order.
    pub(crate) fn values(&self, query: &str) -> Vec<String> {
        let answer = get(
            &format!("http://127.0.0.1:{}/api/v1/query", self.0),
            &["--get", "--data-urlencode", &format!("query={query}")],
        );
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let results = answer["data"]["result"].as_array().cloned();
        let results = results.unwrap_or_default().into_iter();
        results
            .map(|it| it["value"][1].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}
