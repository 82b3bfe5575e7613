//! Bytes of a log, by position.
//!
//! Only positioned reads of one open file: a mapping dies of SIGBUS when a log is truncated under it. A read
//! that ends early means exactly that, and is an error ([`io::ErrorKind::UnexpectedEof`]) for the caller to
//! begin again.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use super::encoding::Encoding;
use super::fingerprint::{Fingerprint, HEAD, TAIL};

/// What is read at once backwards.
pub(super) const BLOCK: u64 = 16 << 10;

/// What was read does not belong together, because the log was rotated or truncated meanwhile: as a read that
/// ends early, to be begun again.
pub(super) fn interrupted() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// A file of a size, open for reading.
///
/// Its end is asked for again and again, by the print of what was read last, by `expect` and by `forbid`; so it is read
/// once, and kept, and so is the beginning: one or two system calls a log instead of eleven.
#[derive(Debug)]
pub(super) struct Bytes {
    file: File,
    size: u64,
    held: RefCell<Held>,
    /// Of a file that begins without a mark.
    inherited: Cell<Encoding>,
    encoding: Cell<Option<Encoding>>,
}

thread_local! {
    /// The buffer that the end of the last log was read into: a thread looks at one log after the other, and to allocate
    /// and clear one for each took more instructions than to look for lines in it.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[derive(Debug, Default)]
struct Held {
    /// Where each begins.
    blocks: Vec<(u64, Rc<Vec<u8>>)>,
    /// Where each was taken, and of how many bytes.
    prints: Vec<(u64, u64, Fingerprint)>,
}

impl Held {
    fn get(&self, from: u64, len: u64) -> Option<Part> {
        self.blocks.iter().find_map(|(start, block)| {
            let begin = usize::try_from(from.checked_sub(*start)?).ok()?;
            let range = begin..begin.checked_add(usize::try_from(len).ok()?)?;
            (range.end <= block.len()).then(|| Part {
                block: Rc::clone(block),
                range,
            })
        })
    }
}

/// Some bytes of a file, perhaps of a block that others look at as well.
#[derive(Clone, Debug)]
pub(super) struct Part {
    block: Rc<Vec<u8>>,
    /// Never beyond the block.
    range: Range<usize>,
}

impl Part {
    /// Its end, from a place on.
    pub(super) fn end_from(&self, place: usize) -> Self {
        let begin = self.range.end.min(self.range.start + place);
        Self {
            block: Rc::clone(&self.block),
            range: begin..self.range.end,
        }
    }
}

impl From<Vec<u8>> for Part {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            range: 0..bytes.len(),
            block: Rc::new(bytes),
        }
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block[self.range.clone()]
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        for (_, block) in self.held.get_mut().blocks.drain(..) {
            if block.len() as u64 > HEAD
                && let Ok(block) = Rc::try_unwrap(block)
            {
                SPARE.set(block);
            }
        }
    }
}

impl Bytes {
    pub(super) fn new(file: File, size: u64) -> Self {
        Self {
            file,
            size,
            held: RefCell::default(),
            inherited: Cell::default(),
            encoding: Cell::default(),
        }
    }

    /// Says how the log was stored until now: only its first file may begin with a mark, for one that is truncated or
    /// created anew is often written on as before.
    pub(super) fn inherit(&self, encoding: Encoding) {
        self.inherited.set(encoding);
        self.encoding.set(None);
    }

    /// How its characters are stored.
    pub(super) fn encoding(&self) -> io::Result<Encoding> {
        if let Some(known) = self.encoding.get() {
            return Ok(known);
        }
        let mut encoding = Encoding::of_mark(&self.read(0, self.size.min(HEAD))?);
        let inherited = self.inherited.get();
        if encoding == Encoding::Bytes && inherited != Encoding::Bytes {
            // the end, for a writer that does not append leaves a hole at the beginning
            let end = inherited.floor(self.size);
            let from = inherited.ceil(end.saturating_sub(HEAD));
            if end == 0 || inherited.fits(&self.read(from, end - from)?) {
                encoding = inherited;
            }
        }
        self.encoding.set(Some(encoding));
        Ok(encoding)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// What is known of a file when it is to be known again, the end first: it may hold the beginning as well.
    fn ends(&self) -> [(u64, u64); 2] {
        let len = self.size.min(TAIL);
        [(self.size - len, len), (0, self.size.min(HEAD))]
    }

    /// Reads the end and the beginning, to be asked for later.
    pub(super) fn hold(&self) -> io::Result<()> {
        self.ends()
            .into_iter()
            .try_for_each(|(from, len)| self.read(from, len).map(|_| ()))
    }

    /// Whether the end and the beginning are in the file by now as they were when they were first read.
    pub(super) fn still_stands(&self) -> bool {
        self.ends().into_iter().all(|(from, len)| {
            self.read_at(from, len)
                .and_then(|now| Ok(*self.read(from, len)? == *now))
                .unwrap_or(false)
        })
    }

    /// Reads `len` bytes at `from`, all of them or an error. `len` must be bounded by the caller.
    pub(super) fn read(&self, from: u64, len: u64) -> io::Result<Part> {
        let mut held = self.held.borrow_mut();
        if let Some(part) = held.get(from, len) {
            return Ok(part);
        }
        let end = self.size.saturating_sub(BLOCK);
        let begin = HEAD.min(self.size);
        let (start, block) = match from.checked_add(len) {
            Some(to) if from >= end && to <= self.size => (end, self.size - end),
            Some(to) if to <= begin => (0, begin),
            _ => return Ok(self.read_at(from, len)?.into()),
        };
        let block = Rc::new(self.read_at(start, block)?);
        held.blocks.push((start, block));
        held.get(from, len).ok_or_else(interrupted)
    }

    fn read_at(&self, from: u64, len: u64) -> io::Result<Vec<u8>> {
        let is_block = len > HEAD && len <= BLOCK;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut bytes = if is_block { SPARE.take() } else { Vec::new() };
        bytes.resize(len, 0);
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }

    /// A print of `len` bytes at `from`.
    pub(super) fn print(&self, from: u64, len: u64) -> io::Result<Fingerprint> {
        let known = self
            .held
            .borrow()
            .prints
            .iter()
            .find(|(at, of, _)| (*at, *of) == (from, len))
            .map(|(.., print)| *print);
        if let Some(print) = known {
            return Ok(print);
        }
        let print = Fingerprint::of(&self.read(from, len)?);
        let mut held = self.held.borrow_mut();
        held.prints.push((from, len, print));
        Ok(print)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    /// A file of this content, and its size.
    pub(in crate::check::log) fn file(content: &[u8]) -> (Bytes, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let size = content.len() as u64;
        (Bytes::new(file, size), size)
    }

    #[test]
    fn what_is_held_is_what_stands_in_the_file() {
        let content: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
        // the buffer of one is that of the next
        let sizes = [
            0, 1, 255, 256, 1023, 1024, 1025, 16_383, 16_384, 16_385, 17_000, 40_000,
        ];
        for size in sizes.into_iter().chain(sizes.into_iter().rev()) {
            let (file, size) = file(&content[..size]);
            let whole = size.max(1);
            for len in [1, 256, 1024, 5000, whole] {
                for from in [0, 1, 300, 1023, 17_000, whole.saturating_sub(len), whole] {
                    let expected = usize::try_from(from)
                        .ok()
                        .zip(usize::try_from(from + len).ok())
                        .filter(|_| from + len <= size)
                        .map(|(from, to)| &content[from..to]);
                    assert_eq!(
                        file.read(from, len).ok().as_deref(),
                        expected,
                        "{len} at {from} of {size}"
                    );
                    assert_eq!(file.print(from, len).ok(), expected.map(Fingerprint::of));
                }
            }
        }
    }

    #[test]
    fn what_was_read_is_kept_and_whether_it_still_stands_is_asked_of_the_file() {
        let (bytes, size) = file(b"one\n");
        bytes.hold().unwrap();
        let before = bytes.print(0, size).unwrap();
        assert!(bytes.still_stands());
        bytes.file().write_all_at(b"two\n", 0).unwrap();
        assert_eq!(*bytes.read(0, 3).unwrap(), *b"one");
        assert_eq!(bytes.print(0, size).unwrap(), before);
        assert!(!bytes.still_stands());
    }

    #[test]
    fn of_a_long_file_both_ends_must_still_stand() {
        let size = 3 * BLOCK;
        for (at, stands) in [
            (0, false),
            (HEAD - 1, false),
            (HEAD, true),
            (size / 2, true),
            (size - TAIL - 1, true),
            (size - TAIL, false),
            (size - 1, false),
        ] {
            let (bytes, _) = file(&vec![b'a'; usize::try_from(size).unwrap()]);
            bytes.hold().unwrap();
            bytes.file().write_all_at(b"b", at).unwrap();
            assert_eq!(bytes.still_stands(), stands, "{at}");
        }
        let (bytes, _) = file(b"");
        bytes.hold().unwrap();
        assert!(bytes.still_stands());
        let (bytes, _) = file(b"short\n");
        bytes.hold().unwrap();
        bytes.file().set_len(2).unwrap();
        assert!(!bytes.still_stands());
    }

    #[test]
    fn the_end_and_the_beginning_are_read_once() {
        let (file, size) = file(&vec![b'x'; 40_000]);
        for _ in 0..3 {
            file.print(size - 256, 256).unwrap();
            file.print(0, 1024).unwrap();
            file.read(size - 1, 1).unwrap();
            file.read(size - BLOCK, BLOCK).unwrap();
            file.read(20, 30).unwrap();
        }
        let held: Vec<(u64, usize)> = (file.held.borrow().blocks.iter())
            .map(|(start, block)| (*start, block.len()))
            .collect();
        assert_eq!(held, [(size - BLOCK, 16 << 10), (0, 1024)]);
    }
}
