//! Fingerprints of the first and last bytes of a log: enough to know a file again, and little enough to remember.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// A print of the beginning is of so many bytes at most.
pub(super) const HEAD: u64 = 1024;

/// A print of what was read last is of so many bytes at most.
pub(super) const TAIL: u64 = 256;

/// Enough of some bytes to know them again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many bytes.
    pub len: u64,
    /// Their hash (XXH3, 64 bits); in JSON as hexadecimal digits, for JSON tools round large numbers. With a hash of
    /// another kind a mark is none, and its log is seen for the first time.
    #[serde(rename = "xxh3", with = "hexadecimal")]
    pub hash: u64,
}

impl Fingerprint {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            len: bytes.len() as u64,
            // the same in every build, as the hashers of the standard library need not be
            hash: XxHash3_64::oneshot(bytes),
        }
    }
}

mod hexadecimal {
    use serde::{Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{hash:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct Digits;

        impl de::Visitor<'_> for Digits {
            type Value = u64;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, digits: &str) -> Result<u64, E> {
                u64::from_str_radix(digits, 16).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_is_the_same_in_every_build() {
        assert_eq!(Fingerprint::of(b"").hash, 0x2d06_8005_38d3_94c2);
        assert_eq!(Fingerprint::of(b"a").hash, 0xe6c6_32b6_1e96_4e1f);
    }

    #[test]
    fn a_print_is_written_as_digits_and_read_back() {
        let print = Fingerprint {
            len: 3,
            hash: 0x0123_4567_89ab_cdef,
        };
        let json = r#"{"len":3,"xxh3":"0123456789abcdef"}"#;
        assert_eq!(serde_json::to_string(&print).unwrap(), json);
        assert_eq!(serde_json::from_str::<Fingerprint>(json).unwrap(), print);
        for (print, why) in [
            (r#"{"len":3,"xxh3":5}"#, "expected hexadecimal digits"),
            (r#"{"len":3,"xxh3":"x"}"#, "invalid digit"),
            (r#"{"len":3,"fnv":"af63dc4c8601ec8c"}"#, "missing field"),
        ] {
            let error = serde_json::from_str::<Fingerprint>(print);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
