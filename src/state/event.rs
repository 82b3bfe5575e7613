//! What the journal knows of, by the names that scripts rely on.

use std::fmt;

use serde::de::IntoDeserializer;
use serde::de::value::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::notify::Channel;
use crate::verdict::Verdict;

/// What happened, by its name in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEvent {
    /// A service got this verdict, was restarted with this result, or was paused. By the name of the verdict.
    Verdict(Verdict),
    /// A service that was not well is healthy.
    Recovered,
    /// An attempt to restart a service is recorded, before anything is touched.
    Restarting,
    /// An attempt to repair a service is recorded, before its command is run.
    Repairing,
    /// Somebody asked to have a service restarted.
    Requested,
    /// That was not done.
    RequestRefused,
    /// A change of the number of replicas is recorded, before it is made.
    Scaling,
    /// A run was cut short while it restarted or repaired a service.
    Interrupted,
    /// A person ended a pause.
    Resumed,
    /// A person had the attempts to restart a service forgotten.
    Reset,
    /// No run was made for longer than there should have been one. The entry says since when.
    Silent,
    /// A part of the state was damaged.
    StateDamaged,
    /// A file in the outbox was damaged.
    OutboxDamaged,
    /// What became of a mail: `mail_sent` and so on.
    Mail(DeliveryEvent),
    /// What became of a message on another channel, which the entry names: `alert_sent` and so on.
    Alert(DeliveryEvent),
    /// Of another version of the program: kept and shown as it is.
    Other(String),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryEvent {
    /// At least one recipient has it.
    Sent,
    /// It was not taken now, and is tried again.
    Deferred,
    /// It will not be taken.
    Refused,
    /// It is not tried any more.
    GivenUp,
}

/// All events that have one name and are no verdicts.
const NAMED: [(&str, JournalEvent); 20] = {
    use DeliveryEvent::{Deferred, GivenUp, Refused, Sent};
    use JournalEvent::{
        Alert, Interrupted, Mail, OutboxDamaged, Recovered, Repairing, RequestRefused, Requested,
        Reset, Restarting, Resumed, Scaling, Silent, StateDamaged,
    };
    [
        ("recovered", Recovered),
        ("restarting", Restarting),
        ("repairing", Repairing),
        ("requested", Requested),
        ("request_refused", RequestRefused),
        ("scaling", Scaling),
        ("interrupted", Interrupted),
        ("resumed", Resumed),
        ("reset", Reset),
        ("silent", Silent),
        ("state_damaged", StateDamaged),
        ("outbox_damaged", OutboxDamaged),
        ("mail_sent", Mail(Sent)),
        ("mail_deferred", Mail(Deferred)),
        ("mail_refused", Mail(Refused)),
        ("mail_given_up", Mail(GivenUp)),
        ("alert_sent", Alert(Sent)),
        ("alert_deferred", Alert(Deferred)),
        ("alert_refused", Alert(Refused)),
        ("alert_given_up", Alert(GivenUp)),
    ]
};

impl JournalEvent {
    /// What became of a message on a channel.
    pub fn of_delivery(channel: &str, what: DeliveryEvent) -> Self {
        if channel == Channel::MAIL {
            Self::Mail(what)
        } else {
            Self::Alert(what)
        }
    }

    /// Its name in the journal.
    pub fn name(&self) -> &str {
        match self {
            Self::Verdict(verdict) => verdict.name(),
            Self::Other(name) => name,
            named => NAMED
                .iter()
                .find(|(_, event)| event == named)
                .map_or("", |(name, _)| name),
        }
    }

    /// The event of a name.
    fn of(name: &str) -> Self {
        if let Some((_, event)) = NAMED.iter().find(|(known, _)| *known == name) {
            return event.clone();
        }
        let verdict = Verdict::deserialize(IntoDeserializer::<Error>::into_deserializer(name));
        verdict.map_or_else(|_| Self::Other(name.to_owned()), Self::Verdict)
    }
}

impl fmt::Display for JournalEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for JournalEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for JournalEvent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::of(&String::deserialize(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_one_name_and_is_read_by_it() {
        let mut names = Vec::new();
        for (name, event) in NAMED {
            assert_eq!(event.name(), name);
            assert_eq!(JournalEvent::of(name), event);
            names.push(name);
        }
        for verdict in ["healthy", "restart_failed", "down", "paused", "unknown"] {
            let event = JournalEvent::of(verdict);
            assert!(matches!(event, JournalEvent::Verdict(_)), "{verdict}");
            assert_eq!(event.name(), verdict);
            names.push(verdict);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        // of a later version
        let event = JournalEvent::of("scaled_sideways");
        assert_eq!(event, JournalEvent::Other("scaled_sideways".to_owned()));
        assert_eq!(format!("{event:<20}|"), "scaled_sideways     |");
    }

    #[test]
    fn mail_has_events_of_its_own() {
        for what in [DeliveryEvent::Sent, DeliveryEvent::GivenUp] {
            let mail = JournalEvent::of_delivery("mail", what);
            assert_eq!(mail, JournalEvent::Mail(what));
            let other = JournalEvent::of_delivery("phone", what);
            assert_eq!(other, JournalEvent::Alert(what));
        }
    }
}
