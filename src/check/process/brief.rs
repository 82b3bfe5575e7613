//! Identities in the state as one text, `PID START BOOT_ID`: to read and write that takes a third of the instructions
//! that an object with three fields takes, and a state has some for each service. Objects, as older states have them, are
//! read too.
//!
//! For `#[serde(with = "…")]`.

use std::fmt::{self, Write};

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Identity;
use crate::clock;

/// So long are most texts: a PID, a start time, and a boot id of 36 characters.
const LENGTH: usize = 64;

/// Writes an identity.
pub(super) fn serialize<S: Serializer>(
    identity: &Identity,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Identity {
        pid,
        start,
        boot_id,
    } = identity;
    // in one piece: each piece is searched for what must be escaped
    let mut text = String::with_capacity(LENGTH);
    let _ = write!(text, "{pid} {start} {boot_id}");
    serializer.serialize_str(&text)
}

/// Reads an identity. An error where it is none.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Identity, D::Error> {
    struct Either;

    impl<'de> de::Visitor<'de> for Either {
        type Value = Identity;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a process: its PID, its start and its boot")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Identity, E> {
            let parts = || {
                let (pid, rest) = text.split_once(' ')?;
                let (start, boot_id) = rest.split_once(' ')?;
                Some(Identity {
                    pid: pid.parse().ok()?,
                    start: start.parse().ok()?,
                    boot_id: clock::share(boot_id),
                })
            };
            parts().ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Identity, A::Error> {
            Identity::deserialize(MapAccessDeserializer::new(map))
        }
    }

    from.deserialize_any(Either)
}

/// The same for one that may be absent.
pub(super) mod perhaps {
    use super::{Deserialize, Deserializer, Identity, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Brief(#[serde(with = "super")] Identity);

    #[derive(Serialize)]
    #[serde(transparent)]
    struct BriefOf<'a>(#[serde(serialize_with = "super::serialize")] &'a Identity);

    /// Writes an identity, or null.
    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in super::super) fn serialize<S: Serializer>(
        identity: &Option<Identity>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        identity.as_ref().map(BriefOf).serialize(serializer)
    }

    /// Reads an identity, or null. An error where it is neither.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Identity>, D::Error> {
        Ok(Option::<Brief>::deserialize(from)?.map(|brief| brief.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        #[serde(with = "super")]
        one: Identity,
        #[serde(default, with = "perhaps")]
        other: Option<Identity>,
    }

    fn identity(pid: i32, start: u64, boot_id: &str) -> Identity {
        Identity {
            pid,
            start,
            boot_id: boot_id.into(),
        }
    }

    proptest! {
        #[test]
        fn every_identity_reads_back(pid: i32, start: u64, boot_id: String) {
            let one = identity(pid, start, &boot_id);
            for other in [None, Some(identity(1, 2, "")), Some(one.clone())] {
                let kept = Kept { one: one.clone(), other };
                let text = serde_json::to_string(&kept).unwrap();
                prop_assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
            }
        }
    }

    #[test]
    fn objects_are_read_too_and_what_is_neither_is_an_error() {
        let read = |one: &str, rest: &str| {
            serde_json::from_str::<Kept>(&format!(r#"{{"one":{one}{rest}}}"#))
        };
        let object = r#"{"pid":5,"start":7,"boot_id":"b c"}"#;
        for one in [object, r#""5 7 b c""#] {
            for (rest, other) in [
                ("", None),
                (r#","other":null"#, None),
                (
                    r#","other":{"pid":6,"start":8,"boot_id":""}"#,
                    Some(identity(6, 8, "")),
                ),
                (r#","other":"6 8 ""#, Some(identity(6, 8, ""))),
            ] {
                let one_read = identity(5, 7, "b c");
                assert_eq!(
                    read(one, rest).unwrap(),
                    Kept {
                        one: one_read,
                        other
                    }
                );
            }
        }
        for wrong in [
            r#""""#,
            r#""5""#,
            r#""5 7""#,
            r#""x 7 b""#,
            r#""5 -7 b""#,
            "5",
            "null",
            "[]",
            "{}",
        ] {
            assert!(read(wrong, "").is_err(), "{wrong}");
        }
        let why = read(r#""5 7""#, "").unwrap_err().to_string();
        assert!(
            why.starts_with(r#"invalid value: string "5 7", expected a process: its PID"#),
            "{why}"
        );
    }
}
