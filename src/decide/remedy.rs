//! What is to be done about what is wrong: which strategy holds, or that `restart` does.

use crate::check::{Finding, Severity};
use crate::config::{Policy, Remedy, Service, Strategy};
use crate::restart::Operation;

/// What may be done about a broken service.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chosen<'a> {
    /// A strategy lists one of the findings.
    Strategy(&'a Strategy),
    /// None does, and a restart may mend it.
    Restart,
}

impl<'a> Chosen<'a> {
    /// What is to be done about these findings of a service; nothing where they are of the host, and no strategy lists
    /// them.
    pub(super) fn of(service: &'a Service, findings: &[&Finding]) -> Option<Self> {
        let critical = || {
            let mut findings = findings.iter();
            let counts = |it: &&&Finding| it.severity == Severity::Critical && !it.only_alerts;
            std::iter::from_fn(move || findings.find(counts))
        };
        let strategy = service.strategies.iter().find(|strategy| {
            critical().any(|finding| strategy.findings.iter().any(|code| *code == finding.code))
        });
        if let Some(strategy) = strategy {
            return Some(Self::Strategy(strategy));
        }
        critical()
            .any(|finding| finding.is_reason_to_restart())
            .then_some(Self::Restart)
    }

    /// The strategy, where it is one.
    pub(super) fn strategy(self) -> Option<&'a Strategy> {
        match self {
            Self::Strategy(strategy) => Some(strategy),
            Self::Restart => None,
        }
    }

    /// What is done; nothing where it is only alerted about.
    pub(super) fn operation(self) -> Option<Operation> {
        match self.strategy().map(|strategy| &strategy.remedy) {
            None | Some(Remedy::Restart) => Some(Operation::Restart),
            Some(Remedy::Repair(_)) => Some(Operation::Repair),
            Some(Remedy::Alert) => None,
        }
    }

    /// How many failing runs it takes, and the limits of its own attempts.
    pub(super) fn policy(self, service: &'a Service) -> &'a Policy {
        self.strategy()
            .map_or(&service.policy, |strategy| &strategy.policy)
    }

    /// What comes after enough failing runs: `a restart`.
    pub(super) fn named(self) -> &'static str {
        match self.operation() {
            Some(Operation::Restart) => "a restart",
            Some(Operation::Repair) => "a repair",
            Some(Operation::Scale) | None => "it is alerted about",
        }
    }
}
