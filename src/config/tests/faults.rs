//! What a person is told about a config that is wrong.

use std::fmt::Write;

use proptest::prelude::*;
use proptest::strategy::Strategy;

use super::*;

/// Sections of `=== what it is about`, a config, `---`, and what is said about it.
const CASES: &str = include_str!("faults.txt");

/// With this variable set, what is said is written to `faults.txt`: read what changed there.
const RENEW: &str = "WATCHDOG_RENEW_FAULTS";

/// Characters that an editor would hide or lose have marks in that file.
fn unmarked(text: &str) -> String {
    text.replace("⟨RLO⟩", "\u{202e}")
        .replace("⟨BOM⟩", "\u{feff}")
        .replace("⟨CR⟩", "\r")
}

#[test]
fn f78_every_fault_is_told_as_it_should_be() {
    let (mut wrong, mut all) = (String::new(), String::new());
    let mut count = 0;
    for case in CASES.split("=== ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once("---\n").unwrap();
        let got = told(&bad(&unmarked(text)));
        count += 1;
        writeln!(all, "=== {name}\n{text}---\n{}\n", got.trim_end()).unwrap();
        if got.trim_end() != expected.trim_end() {
            writeln!(wrong, "=== {name}\n{text}---\n{got}\n").unwrap();
        }
    }
    assert!(count > 100, "only {count} cases were read");
    if std::env::var_os(RENEW).is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/faults.txt");
        std::fs::write(file, format!("{}\n", all.trim_end())).unwrap();
        return;
    }
    assert!(
        wrong.is_empty(),
        "these came out otherwise:\n{wrong}\nwhere it is meant: {RENEW}=1 cargo test --lib f78_every_fault"
    );
}

#[test]
fn f76_no_secret_is_told() {
    for case in CASES.split("=== ").skip(1) {
        let (text, expected) = case.split_once("---\n").unwrap();
        assert!(!expected.contains("7391"), "{case}");
        assert!(!expected.contains("12345678"), "{case}");
        // nor by what a program prints of its values
        let debug = format!("{:?}", bad(&unmarked(text.split_once('\n').unwrap().1)));
        assert!(!debug.contains("7391"), "{debug}");
    }
}

#[test]
fn a_fault_knows_its_place() {
    let faults = bad("[service.a]\nspawn = { command = [\"x\", 3] }\n  enabled = 2\n");
    let places: Vec<_> = faults
        .iter()
        .map(|fault| (fault.line, fault.column, fault.place.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (2, 27, "[service.a.spawn] command[1]"),
            (3, 13, "[service.a] enabled")
        ]
    );
    let faults = bad(
        "[service.\"a.b\".restart]\nsettle = 3\n[[service.c.log]]\nexpect = [{ at_least = \"x\" }]\n",
    );
    let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
    assert_eq!(
        places[..2],
        ["[service.\"a.b\"]", "[service.\"a.b\".restart] settle",]
    );
    assert!(
        places.contains(&"[[service.c.log]] expect[0].at_least"),
        "{places:?}"
    );
}

#[test]
fn what_is_not_toml_is_in_a_table_too() {
    for (text, place) in [
        ("[service.a]\nnice = 1\nx = \n", "[service.a]"),
        ("[[service.a.log]] # x\nx =\n", "[[service.a.log]]"),
        ("[service.'a.b'.spawn]\nx = 5s\n", "[service.\"a.b\".spawn]"),
        ("[service.a]\ncommand = [\n[1],\n]\nx =\n", "[service.a]"),
        ("[service.a]\n[service.b\n", ""),
        ("x =\n[service.a]\n", ""),
    ] {
        let faults = bad(text);
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places.last(), Some(&place), "{text:?}: {}", told(&faults));
    }
}

#[test]
fn faults_without_end_are_told_up_to_a_number() {
    let mut text = String::new();
    for number in 0..5000 {
        writeln!(text, "[service.s{number}]\ndepends_on = [\"t{number}\"]").unwrap();
    }
    assert_eq!(bad(&text).len(), 100);
    assert_eq!(bad(&"?\n".repeat(5000)).len(), 100);
    assert_eq!(bad(&"a=[\n[b]\n".repeat(5000)).len(), 100);
}

#[test]
fn each_entry_that_a_service_cannot_depend_on_is_pointed_at() {
    let faults = bad("state_dir = \"/s\"\n\
         [service.a]\nspawn.command = [\"x\"]\ndepends_on = [\"\", \"b\", \"nobody\", \"a\"]\n\
         [service.b]\nspawn.command = [\"x\"]\n\
         [service.c]\nspawn.command = [\"x\"]\ndepends_on = [3, \"b\", \"d\"]\n\
         [service.d]\nspawn.command = [\"x\"]\ndepends_on = [\"c\"]\n");
    let places: Vec<_> = faults
        .iter()
        .map(|fault| (fault.place.as_str(), fault.line, fault.column))
        .collect();
    assert_eq!(
        places,
        [
            ("[service.a] depends_on[0]", 4, 15),
            ("[service.a] depends_on[2]", 4, 24),
            ("[service.a] depends_on[3]", 4, 34),
            ("[service.c] depends_on[0]", 9, 15),
            ("[service.c] depends_on[2]", 9, 23),
        ],
        "{}",
        told(&faults)
    );
}

#[test]
fn a_long_chain_of_services_is_no_trouble() {
    let mut text = String::new();
    for number in 0..10_000 {
        writeln!(
            text,
            "[service.s{number}]\nspawn.command=[\"x\"]\ndepends_on=[\"s{}\"]",
            (number + 1) % 10_000
        )
        .unwrap();
    }
    let faults = bad(&text);
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].message.ends_with("→ s8 → s9 → … → s0"),
        "{}",
        faults[0].message
    );
}

#[test]
fn a_tangle_of_services_is_no_trouble() {
    let names: Vec<_> = (0..400).map(|number| format!("\"s{number}\"")).collect();
    let all = names.join(",");
    let mut text = String::new();
    for name in &names {
        writeln!(
            text,
            "[service.{name}]\nspawn.command=[\"x\"]\ndepends_on=[{all}]"
        )
        .unwrap();
    }
    assert_eq!(bad(&text).len(), 100);
}

/// Pieces that configs are made of, so that random texts get past the first line.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "[service.a]", "[[service.a.log]]", "[mail]", "[mail.smtp]", "[defaults]", "[logging]", "service",
            "\n", "\n", "\n", " = ", " = ", " = ", "\"", "'", "\"\"\"", "[", "]", "{", "}", ",", ".", "#", "\t", "\r\n",
            "path", "max_age", "expect", "forbid", "pattern", "at_least", "spawn", "command", "process", "pid_file",
            "command_line", "user", "systemd", "unit", "restart", "depends_on", "password", "username", "host", "to",
            "from", "timestamp", "umask", "5m", "\"5m\"", "[\"x\"]", "[\"a\"]", "\"a\"", "{ command = [\"x\"] }", "3", "-1",
            "true", "'(a'", "\"%H:%M\"", "\"logs/[a\"", "\u{feff}", "取引", "e\u{301}", "\u{1b}",
        ]).prop_map(str::to_owned),
        1 => ".{0,8}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![3 => pieces(), 1 => "(?s).{0,200}"]) {
        if let Err(faults) = parse(&text, Path::new(PLACE), &bare()) {
            prop_assert!(!faults.is_empty());
            for fault in &faults {
                let shown = fault.to_string();
                prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
            }
        }
    }

    #[test]
    fn f76_no_secret_is_told_however_the_text_is_mangled(
        at in 0_usize..200,
        junk in prop::sample::select(vec!["", "\"", "'", "[", "]", "{", "}", "=", "\n", "#", "\u{1b}", "\"\"\"", "x = 1"]),
        remove in 0_usize..3,
    ) {
        let whole = "[mail]\nfrom = \"a@b.org\"\nto = [\"c@d.org\"]\n[mail.smtp]\nhost = \"mx\"\n\
                     username = \"u\"\npassword = \"canary7391\"\n[service.a]\nnice = 3\n";
        let at = at.min(whole.len());
        let end = (at + remove).min(whole.len());
        // what is mangled is anything but the key and the secret themselves
        for word in ["password", "canary7391"] {
            let from = whole.find(word).unwrap();
            if end > from && at < from + word.len() {
                return Ok(());
            }
        }
        let text = format!("{}{junk}{}", &whole[..at], &whole[end..]);
        if let Err(faults) = parse(&text, Path::new(PLACE), &bare()) {
            let shown = told(&faults);
            prop_assert!(!shown.contains("7391"), "{shown}\n{text}");
        }
    }
}
