//! The list of the kinds of checks, and all that forwards to them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

use super::trap::Trap;
use super::{
    CheckId, CheckKind, Checked, Circumstances, Code, JobOf, LastLook, Looking, ServiceContext,
    container, disk, exec, http, log, port, process, prometheus, unit, usage,
};
use crate::clock::Moment;
use crate::secret::Kept;

/// Whose check it is: the number of the service among those that are observed, and of the check among its own.
pub type Slot = (usize, usize);

/// A kind of check that is in the list.
pub trait Listed: CheckKind {
    /// A rule of it as one of any kind.
    fn rule(rule: Self::Rule) -> Rule;

    /// A rule, where it is one of this kind.
    fn of(rule: &Rule) -> Option<&Self::Rule>;
}

/// One check to make.
#[derive(Debug)]
pub struct Job {
    /// Whose it is.
    pub slot: Slot,
    /// What is checked.
    pub rule: Rule,
    /// What is remembered of it.
    pub state: Option<CheckState>,
    /// What it depends on beside.
    pub circumstances: Circumstances,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident, $text:literal: $kind:ty;)*) => {
        /// What is checked, of whatever kind.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Rule {
            $($(#[$doc])* $name(Arc<<$kind as CheckKind>::Rule>),)*
        }

        /// What a check remembers, of whatever kind.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum CheckState {
            $($(#[$doc])* $name(Arc<<$kind as CheckKind>::State>),)*
            /// Of a kind that this version does not have: kept as it is, so that an older version forgets nothing.
            Other(Value),
        }

        impl Rule {
            /// The name of its kind, in lower case.
            pub fn kind_name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $text,)*
                }
            }

            /// Its kind.
            pub fn kind(&self) -> super::Kind {
                match self {
                    $(Self::$name(_) => <$kind as CheckKind>::KIND,)*
                }
            }

            /// The codes of its findings.
            pub fn codes(&self) -> &'static [Code] {
                match self {
                    $(Self::$name(_) => <$kind as CheckKind>::CODES,)*
                }
            }

            /// What is checked, as its id has it.
            pub fn target(&self) -> String {
                match self {
                    $(Self::$name(rule) => <$kind as CheckKind>::target(rule),)*
                }
            }

            /// Fills in what a table left to the config as a whole.
            pub fn fill_in(&mut self, check_timeout: Duration) {
                match self {
                    $(Self::$name(rule) => {
                        <$kind as CheckKind>::fill_in(Arc::make_mut(rule), check_timeout);
                    })*
                }
            }

            /// Takes out what makes a failure count only once it has lasted.
            pub fn judge_at_once(&mut self) {
                match self {
                    $(Self::$name(rule) => {
                        <$kind as CheckKind>::judge_at_once(Arc::make_mut(rule));
                    })*
                }
            }

            /// Whether a look says how things are now, and uses nothing up.
            pub fn can_look_again(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$kind as CheckKind>::CAN_LOOK_AGAIN,)*
                }
            }

            /// What in it nobody else may read.
            pub fn secrets(&self) -> Vec<Kept<'_>> {
                match self {
                    $(Self::$name(rule) => <$kind as CheckKind>::secrets(rule),)*
                }
            }

            /// Whether it waits for others over a network.
            pub fn is_probe(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$kind as CheckKind>::IS_PROBE,)*
                }
            }

            /// Whether it is begun at the start of a run, beside the rest.
            pub fn is_independent(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$kind as CheckKind>::IS_INDEPENDENT,)*
                }
            }

            /// Whether the service runs where this finds nothing.
            pub fn shows_life(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$kind as CheckKind>::SHOWS_LIFE,)*
                }
            }

            /// Whether what it finds is a warning at most.
            pub fn is_warning(&self) -> bool {
                match self {
                    $(Self::$name(rule) => <$kind as CheckKind>::is_warning(rule),)*
                }
            }

            /// Whether it depends on when the service was repaired last.
            pub fn asks_last_repair(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$kind as CheckKind>::ASKS_LAST_REPAIR,)*
                }
            }

            /// The alerts that counted in the last look.
            pub fn evidence<'a>(&self, state: &'a CheckState) -> &'a [prometheus::Acted] {
                match (self, state) {
                    $((Self::$name(_), CheckState::$name(state)) => {
                        <$kind as CheckKind>::evidence(state)
                    })*
                    _ => &[],
                }
            }

            /// How long the answer of the last look took, where there was one.
            pub fn took(&self, state: &CheckState) -> Option<Duration> {
                match (self, state) {
                    $((Self::$name(_), CheckState::$name(state)) => {
                        <$kind as CheckKind>::took(state)
                    })*
                    _ => None,
                }
            }

            /// Whether it has to be told what runs of the service.
            pub fn asks_what_runs(&self) -> bool {
                match self {
                    $(Self::$name(rule) => <$kind as CheckKind>::asks_what_runs(rule),)*
                }
            }

            /// The figure of the last look, with its name in reports.
            pub fn figures(&self, state: &CheckState) -> Option<(&'static str, Number)> {
                match (self, state) {
                    $((Self::$name(rule), CheckState::$name(state)) => {
                        <$kind as CheckKind>::figures(rule, state)
                    })*
                    _ => None,
                }
            }

            /// When what it reads was last written, as far as is remembered.
            pub fn last_write<'a>(&self, state: &'a CheckState) -> Option<&'a Moment> {
                match (self, state) {
                    $((Self::$name(_), CheckState::$name(state)) => {
                        <$kind as CheckKind>::last_write(state)
                    })*
                    _ => None,
                }
            }

            /// What to remember once a restart has stopped what ran; absent: what was remembered stands.
            pub fn when_stopped(&self, state: Option<&CheckState>) -> Option<CheckState> {
                match self {
                    $(Self::$name(rule) => {
                        let state = match state {
                            Some(CheckState::$name(state)) => Some(&**state),
                            _ => None,
                        };
                        let next = <$kind as CheckKind>::when_stopped(rule, state)?;
                        Some(CheckState::$name(Arc::new(next)))
                    })*
                }
            }

            /// What it checks, and how that stood at the time of the last run.
            pub fn explain(
                &self,
                state: Option<&CheckState>,
                last: LastLook<'_>,
            ) -> String {
                match self {
                    $(Self::$name(rule) => {
                        let state = match state {
                            Some(CheckState::$name(state)) => Some(&**state),
                            _ => None,
                        };
                        <$kind as CheckKind>::explain(rule, state, last)
                    })*
                }
            }
        }

        $(impl Listed for $kind {
            fn rule(rule: Self::Rule) -> Rule {
                Rule::$name(Arc::new(rule))
            }

            fn of(rule: &Rule) -> Option<&Self::Rule> {
                match rule {
                    Rule::$name(rule) => Some(rule),
                    _ => None,
                }
            }
        })*

        impl CheckState {
            /// Brings this to where `later` is in all that the next run sees again where it is lost.
            fn catch_up(&mut self, later: &Self) {
                match (self, later) {
                    $((Self::$name(state), Self::$name(later)) if !Arc::ptr_eq(state, later) => {
                        <$kind as CheckKind>::catch_up(Arc::make_mut(state), later);
                    })*
                    _ => {}
                }
            }

        }

        impl Serialize for CheckState {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$name(state) => state.serialize(serializer),)*
                    Self::Other(value) => value.serialize(serializer),
                }
            }
        }

        /// Reads the state of a check of this kind.
        struct OfKind<'a>(&'a str);

        impl<'de> DeserializeSeed<'de> for OfKind<'_> {
            type Value = CheckState;

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<CheckState, D::Error> {
                match self.0 {
                    $($text => Deserialize::deserialize(from)
                        .map(|state| CheckState::$name(Arc::new(state))),)*
                    _ => Value::deserialize(from).map(CheckState::Other),
                }
            }
        }

        /// The codes of all findings.
        pub fn codes() -> impl Iterator<Item = &'static Code> {
            let all = [process::CODES, unit::CODES, container::CODES, $(<$kind as CheckKind>::CODES),*];
            all.into_iter().flatten()
        }

        /// The code of this name, whatever finds it.
        pub fn code(name: &str) -> Option<&'static Code> {
            codes().find(|code| code.name == name)
        }

        /// What in checks may not do what was meant, in order; those of each kind are looked at together.
        pub fn traps(
            checks: &[(&Rule, &ServiceContext<'_>)],
            looking: &Looking<'_>,
        ) -> Vec<Vec<Trap>> {
            let mut all = vec![Vec::new(); checks.len()];
            $(
                let (mut places, mut rules) = (Vec::new(), Vec::new());
                for (place, (rule, service)) in checks.iter().enumerate() {
                    if let Rule::$name(rule) = rule {
                        places.push(place);
                        rules.push((rule, *service));
                    }
                }
                if !rules.is_empty() {
                    let found = <$kind as CheckKind>::traps(&rules, looking);
                    for (place, traps) in places.into_iter().zip(found) {
                        all[place] = traps;
                    }
                }
            )*
            all
        }

        /// Makes checks: those of each kind together. What they came to is in no order.
        pub fn look(jobs: Vec<Job>, looking: &Looking<'_>) -> Vec<(Slot, Checked<CheckState>)> {
            #[derive(Default)]
            #[expect(non_snake_case, reason = "named as the variants")]
            struct Batches {
                $($name: (Vec<Slot>, Vec<JobOf<$kind>>),)*
            }
            let mut batches = Batches::default();
            for job in jobs {
                match job.rule {
                    $(Rule::$name(rule) => {
                        batches.$name.0.push(job.slot);
                        batches.$name.1.push(JobOf {
                            rule,
                            state: match job.state {
                                Some(CheckState::$name(state)) => Some(state),
                                _ => None,
                            },
                            circumstances: job.circumstances,
                        });
                    })*
                }
            }
            let mut all = Vec::new();
            $(
                let (slots, jobs) = batches.$name;
                if !jobs.is_empty() {
                    let checked = <$kind as CheckKind>::look(jobs, looking);
                    all.extend(slots.into_iter().zip(checked).map(|(slot, checked)| {
                        let state = |state| CheckState::$name(Arc::new(state));
                        (slot, Checked {
                            findings: checked.findings,
                            notes: checked.notes,
                            state: checked.state.map(state),
                            tail: checked.tail,
                            consumed: checked.consumed,
                            unsettled: checked.unsettled,
                        })
                    }));
                }
            )*
            all
        }
    };
}

// a new kind of check is a file beside this one, and a line here
checks! {
    /// A log file.
    Log, "log": log::Logs;
    /// A port.
    Port, "port": port::Ports;
    /// An endpoint that answers over HTTP.
    Http, "http": http::Https;
    /// A command.
    Exec, "exec": exec::Execs;
    /// A file system.
    Disk, "disk": disk::Disks;
    /// What it uses.
    Usage, "usage": usage::Usage;
    /// An alert, or an expression.
    Prometheus, "prometheus": prometheus::Prometheuses;
}

/// What the checks of a service remember, by their ids.
///
/// Most services have one check or two, for which a `BTreeMap` takes a node of eleven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckStates {
    /// In the order of the ids, each of which is there once.
    sorted: Vec<(CheckId, CheckState)>,
}

impl CheckStates {
    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    fn place(&self, id: &CheckId) -> Result<usize, usize> {
        self.sorted.binary_search_by(|(known, _)| known.cmp(id))
    }

    /// What the check of this id remembers.
    pub fn get(&self, id: &CheckId) -> Option<&CheckState> {
        let place = self.place(id).ok()?;
        self.sorted.get(place).map(|(_, state)| state)
    }

    /// Remembers something for a check.
    pub fn insert(&mut self, id: CheckId, state: CheckState) {
        match self.place(&id) {
            Ok(place) => self.sorted[place].1 = state,
            Err(place) => self.sorted.insert(place, (id, state)),
        }
    }

    /// All of it, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&CheckId, &CheckState)> {
        self.sorted.iter().map(|(id, state)| (id, state))
    }

    /// Takes over what others have, over what is here.
    pub fn extend(&mut self, others: Self) {
        if self.is_empty() {
            *self = others;
            return;
        }
        for (id, state) in others.sorted {
            self.insert(id, state);
        }
    }

    /// Brings these to where `later` ones are in all that the next run sees again where it is lost.
    pub fn catch_up(&mut self, later: &Self) {
        for (id, state) in &mut self.sorted {
            if let Some(later) = later.get(id) {
                state.catch_up(later);
            }
        }
    }

    /// Whether JSON can be read as the state of the check of this id.
    pub fn can_read(id: &str, json: &str) -> bool {
        let kind = id.split(':').next().unwrap_or_default();
        let mut json = serde_json::Deserializer::from_str(json);
        OfKind(kind).deserialize(&mut json).is_ok()
    }
}

impl FromIterator<(CheckId, CheckState)> for CheckStates {
    fn from_iter<I: IntoIterator<Item = (CheckId, CheckState)>>(states: I) -> Self {
        let mut all = Self::default();
        for (id, state) in states {
            all.insert(id, state);
        }
        all
    }
}

impl Serialize for CheckStates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for CheckStates {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct States;

        impl<'de> Visitor<'de> for States {
            type Value = CheckStates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the states of checks by their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CheckStates, A::Error> {
                let mut states = CheckStates::default();
                while let Some(id) = map.next_key::<CheckId>()? {
                    let state = map.next_value_seed(OfKind(id.kind()))?;
                    states.insert(id, state);
                }
                Ok(states)
            }
        }

        from.deserialize_map(States)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_one_state_and_they_stand_in_order() {
        let state = |ino: u64| {
            let text = format!(r#"{{"log:/x":{{"here":{{"ino":{ino}}}}}}}"#);
            let states: CheckStates = serde_json::from_str(&text).unwrap();
            states.sorted[0].1.clone()
        };
        let id = |text: &str| CheckId::from(text.to_owned());
        let all = [("log:c", 1), ("log:a", 2), ("log:b", 3), ("log:a", 4)];
        let mut states: CheckStates = all
            .map(|(name, ino)| (id(name), state(ino)))
            .into_iter()
            .collect();
        let others = [("log:d", 5), ("log:b", 6)];
        states.extend(
            others
                .map(|(name, ino)| (id(name), state(ino)))
                .into_iter()
                .collect(),
        );
        let expected = [("log:a", 4), ("log:b", 6), ("log:c", 1), ("log:d", 5)];
        let found: Vec<(CheckId, CheckState)> = (states.iter())
            .map(|(id, state)| (id.clone(), state.clone()))
            .collect();
        assert_eq!(found, expected.map(|(name, ino)| (id(name), state(ino))));
        for (name, ino) in expected {
            assert_eq!(states.get(&id(name)), Some(&state(ino)));
        }
        assert_eq!(states.get(&id("log:aa")), None);
    }

    #[test]
    fn states_are_read_by_the_kind_in_their_ids() {
        let text = r#"{"log:/a.log":{"here":{"ino":5}},"tape:/dev/st0":[1,{"x":null}]}"#;
        let states: CheckStates = serde_json::from_str(text).unwrap();
        let state = |id: &str| states.get(&id.to_owned().into());
        assert!(matches!(state("log:/a.log"), Some(CheckState::Log(mark)) if mark.here.ino == 5));
        assert!(matches!(state("tape:/dev/st0"), Some(CheckState::Other(_))));
        let written = serde_json::to_string(&states).unwrap();
        assert_eq!(
            serde_json::from_str::<CheckStates>(&written).unwrap(),
            states
        );
        let error = serde_json::from_str::<CheckStates>("[]").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("expected the states of checks by their ids"),
            "{error}"
        );
    }

    #[test]
    fn no_code_stands_for_two_things() {
        let all = [
            process::CODES,
            unit::CODES,
            log::Logs::CODES,
            port::Ports::CODES,
            http::Https::CODES,
            exec::Execs::CODES,
            disk::Disks::CODES,
            usage::Usage::CODES,
            prometheus::Prometheuses::CODES,
        ];
        for known in all.into_iter().flatten() {
            // several kinds may find the same, and it means the same then
            assert_eq!(code(known.name), Some(known));
        }
        assert_eq!(code("no_such_code"), None);
    }
}
