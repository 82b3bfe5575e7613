//! Fingerprints of the first and last bytes of a log: enough to know a file again, and little enough to remember.

use std::fmt::{self, Write};

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use twox_hash::XxHash3_64;

/// A print of the beginning is of so many bytes at most.
pub(super) const HEAD: u64 = 1024;

/// A print of what was read last is of so many bytes at most.
pub(super) const TAIL: u64 = 256;

/// So long is the longest text: the digits of two numbers of 64 bits.
const LENGTH: usize = 20 + 1 + 16;

/// Enough of some bytes to know them again. In JSON as `LEN:HASH`, the hash in hexadecimal digits; objects with `len` and
/// `xxh3`, as older states have them, are read too. With a hash of another kind a mark is none, and its log is seen for the
/// first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// How many bytes.
    pub len: u64,
    /// Their hash (XXH3, 64 bits).
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

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // in one piece: each piece is searched for what must be escaped
        let mut text = String::with_capacity(LENGTH);
        let _ = write!(text, "{}:{:016x}", self.len, self.hash);
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Fingerprint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes and the hexadecimal digits of their hash")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Fingerprint, E> {
                let read = text.split_once(':').and_then(|(len, hash)| {
                    Some(Fingerprint {
                        len: len.parse().ok()?,
                        hash: u64::from_str_radix(hash, 16).ok()?,
                    })
                });
                read.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Fingerprint, A::Error> {
                #[derive(Deserialize)]
                struct Fields {
                    len: u64,
                    xxh3: String,
                }

                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                let hash = u64::from_str_radix(&fields.xxh3, 16).map_err(de::Error::custom)?;
                let len = fields.len;
                Ok(Fingerprint { len, hash })
            }
        }

        from.deserialize_any(Either)
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
        let json = r#""3:0123456789abcdef""#;
        assert_eq!(serde_json::to_string(&print).unwrap(), json);
        for json in [json, r#"{"len":3,"xxh3":"0123456789abcdef"}"#] {
            assert_eq!(serde_json::from_str::<Fingerprint>(json).unwrap(), print);
        }
        for (print, why) in [
            ("5", "expected a number of bytes and the hexadecimal digits"),
            (r#""""#, "expected a number of bytes"),
            (r#""3""#, "expected a number of bytes"),
            (r#""3:x""#, "expected a number of bytes"),
            (r#""x:3""#, "expected a number of bytes"),
            (r#"{"len":3,"xxh3":5}"#, "expected a string"),
            (r#"{"len":3,"xxh3":"x"}"#, "invalid digit"),
            (r#"{"len":3,"fnv":"af63dc4c8601ec8c"}"#, "missing field"),
        ] {
            let error = serde_json::from_str::<Fingerprint>(print);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
