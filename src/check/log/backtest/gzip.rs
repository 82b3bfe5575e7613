//! Files that a rotation has compressed with gzip (RFC 1952), as a stream: the memory that it takes does not depend on
//! what is in them.

use std::io::{self, Read};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// What is read at once of the file.
const INPUT: usize = 64 << 10;

/// The flags of a header that say what follows it.
const HAS_CHECKSUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;

/// What comes next in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    Data,
    Trailer,
    End,
}

/// Decompresses what a reader gives. Several members are one text, as `gzip -d` has it.
///
/// What is damaged is an error of kind [`io::ErrorKind::InvalidData`], what ends too early one of kind
/// [`io::ErrorKind::UnexpectedEof`]; all that could be decompressed was given out before.
pub(super) struct Gunzip<R> {
    source: R,
    input: Vec<u8>,
    /// What of the input was not used yet.
    from: usize,
    to: usize,
    state: Box<InflateState>,
    part: Part,
    checksum: u32,
    length: u32,
    /// There was a member already.
    begun: bool,
}

impl<R: Read> Gunzip<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            input: vec![0; INPUT],
            from: 0,
            to: 0,
            state: InflateState::new_boxed(DataFormat::Raw),
            part: Part::Header,
            checksum: 0,
            length: 0,
            begun: false,
        }
    }

    /// Reads on where all was used; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.from == self.to {
            self.from = 0;
            self.to = 0;
            self.to = self.source.read(&mut self.input)?;
        }
        Ok(self.from < self.to)
    }

    fn next(&mut self) -> io::Result<Option<u8>> {
        if !self.fill()? {
            return Ok(None);
        }
        self.from += 1;
        Ok(Some(self.input[self.from - 1]))
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.next()?.ok_or_else(cut_off)
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a header; false where there is none but the end.
    fn header(&mut self) -> io::Result<bool> {
        // archives on tapes are filled up with zeros
        let first = loop {
            match self.next()? {
                Some(0) if self.begun => {}
                first => break first,
            }
        };
        let Some(first) = first else {
            return Ok(false);
        };
        if first != 0x1f || self.next()? != Some(0x8b) {
            return Err(damaged(if self.begun {
                "something else follows the compressed text"
            } else {
                "it is not in the gzip format"
            }));
        }
        if self.byte()? != 8 {
            return Err(damaged("it is compressed by an unknown method"));
        }
        let flags = self.byte()?;
        for _ in 0..6 {
            self.byte()?;
        }
        if flags & HAS_EXTRA != 0 {
            let length = u16::from_le_bytes([self.byte()?, self.byte()?]);
            for _ in 0..length {
                self.byte()?;
            }
        }
        for flag in [HAS_NAME, HAS_COMMENT] {
            if flags & flag != 0 {
                while self.byte()? != 0 {}
            }
        }
        if flags & HAS_CHECKSUM != 0 {
            self.byte()?;
            self.byte()?;
        }
        self.begun = true;
        self.checksum = 0;
        self.length = 0;
        self.state.reset(DataFormat::Raw);
        Ok(true)
    }

    /// Decompresses a piece; how long it is.
    fn data(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let is_more = self.fill()?;
        let input = &self.input[self.from..self.to];
        let done = inflate(&mut self.state, input, out, MZFlush::None);
        self.from += done.bytes_consumed;
        let given = &out[..done.bytes_written];
        self.checksum = checksum(self.checksum, given);
        self.length = self
            .length
            .wrapping_add(u32::try_from(given.len()).unwrap_or_default());
        match done.status {
            Ok(MZStatus::StreamEnd) => self.part = Part::Trailer,
            Ok(_) if done.bytes_consumed + done.bytes_written > 0 => {}
            Ok(_) | Err(MZError::Buf) if !is_more => return Err(cut_off()),
            Err(MZError::Buf) => {}
            Ok(_) | Err(_) => return Err(damaged("what is compressed in it is damaged")),
        }
        Ok(done.bytes_written)
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.part {
                Part::Header => {
                    self.part = if self.header()? {
                        Part::Data
                    } else {
                        Part::End
                    };
                }
                Part::Data => {
                    let length = self.data(out)?;
                    if length > 0 {
                        return Ok(length);
                    }
                }
                Part::Trailer => {
                    if (self.number()?, self.number()?) != (self.checksum, self.length) {
                        return Err(damaged("its checksum is not that of what is in it"));
                    }
                    self.part = Part::Header;
                }
                Part::End => return Ok(0),
            }
        }
    }
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off")
}

/// The remainders of all bytes by the polynomial of CRC-32, its bits the lowest first.
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "less than 256")]
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 {
                0xedb8_8320 ^ (rest >> 1)
            } else {
                rest >> 1
            };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// The CRC-32 of a text, going on from that of what stands before it.
fn checksum(before: u32, text: &[u8]) -> u32 {
    !text.iter().fold(!before, |rest, byte| {
        REMAINDERS[usize::from(rest.to_le_bytes()[0] ^ byte)] ^ (rest >> 8)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// What gzip makes of a text.
    pub(in crate::check::log) fn gzip(text: &[u8]) -> Vec<u8> {
        let mut gzip = Command::new("gzip")
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = gzip.stdin.take().unwrap();
        let text = text.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&text).unwrap());
        let out = gzip.wait_with_output().unwrap();
        writer.join().unwrap();
        out.stdout
    }

    /// What comes out, and the error at its end.
    fn gunzip(packed: &[u8], at_once: usize) -> (Vec<u8>, Option<io::Error>) {
        let mut source = Gunzip::new(packed);
        let (mut all, mut piece) = (Vec::new(), vec![0; at_once]);
        loop {
            match source.read(&mut piece) {
                Ok(0) => return (all, None),
                Ok(length) => all.extend_from_slice(&piece[..length]),
                Err(error) => return (all, Some(error)),
            }
        }
    }

    fn text() -> Vec<u8> {
        let mut text = String::new();
        for n in 0..4000_u64 {
            writeln!(text, "{n} {}", n.wrapping_mul(2_654_435_761)).unwrap();
        }
        text.into_bytes()
    }

    #[test]
    fn what_gzip_has_compressed_is_read_in_any_steps() {
        let text = text();
        let packed = gzip(&text);
        for at_once in [1, 7, 4096, 1 << 20] {
            let (all, error) = gunzip(&packed, at_once);
            assert!(all == text && error.is_none(), "{at_once} {error:?}");
        }
        let (nothing, error) = gunzip(&gzip(b""), 10);
        assert!(nothing.is_empty() && error.is_none());
        let (nothing, error) = gunzip(b"", 10);
        assert!(nothing.is_empty() && error.is_none());
    }

    #[test]
    fn several_members_are_one_text_and_zeros_may_follow() {
        let mut packed = gzip(b"one\n");
        packed.extend(gzip(b"two\n"));
        packed.extend([0; 512]);
        let (all, error) = gunzip(&packed, 100);
        assert_eq!((all, error.is_none()), (b"one\ntwo\n".to_vec(), true));
    }

    #[test]
    fn all_parts_of_a_header_are_passed_over() {
        let plain = gzip(b"text\n");
        let mut packed = plain[..10].to_vec();
        packed[3] = HAS_EXTRA | HAS_NAME | HAS_COMMENT | HAS_CHECKSUM;
        packed.extend(b"\x03\0abcname\0comment\0\x12\x34");
        packed.extend(&plain[10..]);
        assert_eq!(gunzip(&packed, 100).0, b"text\n");
    }

    #[test]
    fn damage_is_an_error_after_what_could_be_read() {
        let text = text();
        let packed = gzip(&text);
        let (all, error) = gunzip(&packed[..packed.len() / 2], 4096);
        assert!(!all.is_empty() && text.starts_with(&all));
        assert_eq!(error.unwrap().kind(), io::ErrorKind::UnexpectedEof);
        for (at, why) in [
            (0, "it is not in the gzip format"),
            (2, "it is compressed by an unknown method"),
            (
                packed.len() - 6,
                "its checksum is not that of what is in it",
            ),
        ] {
            let mut wrong = packed.clone();
            wrong[at] ^= 0xff;
            let (_, error) = gunzip(&wrong, 4096);
            assert_eq!(error.unwrap().to_string(), why, "{at}");
        }
        let mut more = packed.clone();
        more.extend(b"more");
        let (all, error) = gunzip(&more, 4096);
        assert_eq!(all, text);
        assert_eq!(
            error.unwrap().to_string(),
            "something else follows the compressed text"
        );
        for n in (0..packed.len()).step_by(499) {
            let mut wrong = packed.clone();
            wrong[n] ^= 0x55;
            let (all, error) = gunzip(&wrong, 4096);
            // the header has fields that say nothing about the text
            assert!(error.is_some() || (all == text && n < 10), "{n}");
        }
    }
}
