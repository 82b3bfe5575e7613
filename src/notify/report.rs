//! How a delivery went.

use std::time::Duration;

use super::answers::LONGEST;

/// How a delivery went, recipient by recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// In the order in which they were asked for, each once.
    pub recipients: Vec<Recipient>,
    /// The transport itself failed, and not with this message or its recipients: another one would fail as well now.
    pub transport_failed: bool,
    /// The id that the other side gave the message.
    pub message_id: Option<String>,
    /// Its recipient is found there now: what is sent to the old place is not taken.
    pub moved_to: Option<String>,
    /// For how long there is to be no further attempt, where the other side has said so.
    pub pause: Option<Pause>,
}

/// Time in which no attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What is not sent.
    pub whom: Paused,
    /// For how long.
    pub length: Duration,
    /// It ends when the channel's table or one of its secrets has changed: those are what is wrong.
    pub until_changed: bool,
}

impl Pause {
    /// For a recipient whom the other side has said no to.
    pub const REFUSED: Self = Self {
        whom: Paused::Message,
        length: LONGEST,
        until_changed: true,
    };
}

/// What a pause is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// This message only.
    Message,
    /// All of the channel.
    Channel,
}

/// One recipient's part of a [`DeliveryReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// As the config has it.
    pub address: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How a delivery to one recipient went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The channel took it.
    Delivered,
    /// The other side said no to it, and why: it is tried again once an hour, for somebody may mend that.
    Refused(String),
    /// It will never be taken, and why: it is not tried again.
    Never(String),
    /// It was not taken now: to be tried again.
    Deferred {
        /// Why: where, at which step, what was said, and what to do.
        why: String,
        /// All of it was handed over and no answer came: another attempt may make a second copy.
        maybe_delivered: bool,
    },
}

impl Outcome {
    /// Not taken, and surely not delivered.
    pub fn deferred(why: impl Into<String>) -> Self {
        Self::Deferred {
            why: why.into(),
            maybe_delivered: false,
        }
    }
}

impl DeliveryReport {
    /// The same outcome for all.
    pub fn all(addresses: &[String], outcome: &Outcome) -> Self {
        let recipients = addresses.iter().map(|address| Recipient {
            address: address.clone(),
            outcome: outcome.clone(),
        });
        Self {
            recipients: recipients.collect(),
            ..Self::default()
        }
    }

    /// Whether at least one recipient has it.
    pub fn reached_somebody(&self) -> bool {
        self.recipients
            .iter()
            .any(|recipient| recipient.outcome == Outcome::Delivered)
    }

    /// The recipients to try again.
    pub fn pending(&self) -> Vec<String> {
        let is_over = |outcome: &Outcome| matches!(outcome, Outcome::Delivered | Outcome::Never(_));
        let pending = self.recipients.iter().filter(|it| !is_over(&it.outcome));
        pending.map(|recipient| recipient.address.clone()).collect()
    }

    /// Whether the other side said no to somebody, and all others have it: there is nothing to try again soon.
    pub fn is_refused(&self) -> bool {
        let mut outcomes = self.recipients.iter().map(|it| &it.outcome);
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
        let soon = |outcome: &Outcome| matches!(outcome, Outcome::Deferred { .. });
        outcomes.clone().any(refused) && !outcomes.any(soon)
    }

    /// The recipients whom the other side said no to.
    pub fn refused(&self) -> Vec<&str> {
        let refused = self.recipients.iter();
        refused
            .filter(|it| matches!(it.outcome, Outcome::Refused(_)))
            .map(|it| it.address.as_str())
            .collect()
    }

    /// Whether an attempt may have delivered the message although no answer came.
    pub fn is_uncertain(&self) -> bool {
        let uncertain = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Deferred {
                    maybe_delivered: true,
                    ..
                }
            )
        };
        self.recipients.iter().any(|it| uncertain(&it.outcome))
    }

    /// The recipients who have it.
    pub fn delivered(&self) -> Vec<&str> {
        self.recipients
            .iter()
            .filter(|recipient| recipient.outcome == Outcome::Delivered)
            .map(|recipient| recipient.address.as_str())
            .collect()
    }

    /// What went wrong on a channel, one sentence a reason, with the recipients that it happened to: for the log. When it is
    /// tried again is not in it.
    pub fn troubles(&self, channel: &str) -> Vec<String> {
        let reasons = self.reasons(channel).into_iter();
        reasons.map(|reason| reason.sentence).collect()
    }

    /// Why some do not have it, each reason once, for what is sent to one place and never again.
    pub fn whys(&self) -> Vec<&str> {
        let whys = self.recipients.iter().filter_map(|it| match &it.outcome {
            Outcome::Delivered => None,
            Outcome::Refused(why) | Outcome::Never(why) | Outcome::Deferred { why, .. } => {
                Some(why.as_str())
            }
        });
        let mut whys: Vec<&str> = whys.collect();
        whys.dedup();
        whys
    }

    /// When a message is tried again that was kept after this, as the rest of a sentence.
    fn next_after(&self, kind: Kind) -> &'static str {
        match (kind, self.pause.map(|pause| pause.until_changed)) {
            (Kind::Refused, _) | (Kind::Deferred | Kind::Uncertain, Some(true)) => {
                "; it is tried once an hour, and at once when its table or a secret changes"
            }
            // the other side has said when, and the reason has it
            (Kind::Never, _) | (Kind::Deferred | Kind::Uncertain, Some(false)) => "",
            (Kind::Deferred, None) => "; every run tries again",
            (Kind::Uncertain, None) => "; it is tried again at growing intervals",
        }
    }

    /// The same, and of each what it means.
    pub fn reasons(&self, channel: &str) -> Vec<Reason> {
        let mut reasons: Vec<(Kind, &str, Vec<&str>)> = Vec::new();
        for Recipient { address, outcome } in &self.recipients {
            let (kind, why) = match outcome {
                Outcome::Delivered => continue,
                Outcome::Refused(why) => (Kind::Refused, why),
                Outcome::Never(why) => (Kind::Never, why),
                Outcome::Deferred {
                    why,
                    maybe_delivered: false,
                } => (Kind::Deferred, why),
                Outcome::Deferred {
                    why,
                    maybe_delivered: true,
                } => (Kind::Uncertain, why),
            };
            match reasons.iter_mut().find(|r| r.0 == kind && r.1 == why) {
                Some(reason) => reason.2.push(address),
                None => reasons.push((kind, why, vec![address])),
            }
        }
        reasons
            .into_iter()
            .map(|(kind, why, addresses)| {
                let how = kind.words();
                Reason {
                    is_refusal: matches!(kind, Kind::Refused | Kind::Never),
                    is_final: kind == Kind::Never,
                    next: self.next_after(kind),
                    sentence: format!("{channel} to {} {how}: {why}", addresses.join(", ")),
                }
            })
            .collect()
    }
}

/// What an outcome that is no success means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refused,
    Never,
    Deferred,
    Uncertain,
}

impl Kind {
    /// What stands before the reason.
    fn words(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Never => "refused for good",
            Self::Deferred => "not delivered yet",
            Self::Uncertain => "perhaps not delivered",
        }
    }
}

/// Why some recipients do not have a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The other side said no.
    pub is_refusal: bool,
    /// It is not tried again.
    pub is_final: bool,
    /// For the log and the journal.
    pub sentence: String,
    /// When it is tried again, as the rest of the sentence.
    pub next: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_the_recipients_apart() {
        let recipient = |address: &str, outcome| Recipient {
            address: address.to_owned(),
            outcome,
        };
        let report = DeliveryReport {
            recipients: vec![
                recipient("a@x", Outcome::Delivered),
                recipient("b@x", Outcome::Refused("550 no".to_owned())),
                recipient("f@x", Outcome::Never("no address".to_owned())),
                recipient("c@x", Outcome::deferred("452 full")),
                recipient("d@x", Outcome::deferred("452 full")),
                recipient(
                    "e@x",
                    Outcome::Deferred {
                        why: "no answer".to_owned(),
                        maybe_delivered: true,
                    },
                ),
            ],
            ..DeliveryReport::default()
        };
        assert!(report.reached_somebody());
        assert!(report.is_uncertain());
        assert_eq!(report.delivered(), ["a@x"]);
        assert_eq!(report.pending(), ["b@x", "c@x", "d@x", "e@x"]);
        assert!(!report.is_refused(), "others are tried by the next run");
        assert_eq!(
            report.troubles("mail"),
            [
                "mail to b@x refused: 550 no",
                "mail to f@x refused for good: no address",
                "mail to c@x, d@x not delivered yet: 452 full",
                "mail to e@x perhaps not delivered: no answer",
            ]
        );
        let mut reasons = report.reasons("mail").into_iter();
        assert!(
            reasons
                .next()
                .is_some_and(|it| it.is_refusal && !it.is_final)
        );
        assert!(
            reasons
                .next()
                .is_some_and(|it| it.is_refusal && it.is_final)
        );
        assert!(
            reasons
                .next()
                .is_some_and(|it| !it.is_refusal && !it.is_final)
        );
        let report = DeliveryReport {
            recipients: report.recipients[..2].to_vec(),
            ..report
        };
        assert!(report.is_refused());
    }
}
