//! What the threads that look share, and how they read `/proc`.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::seen::{Process, Seen};

/// What several threads add to.
pub(in super::super) type Shared = Arc<Mutex<Seen>>;

/// Does something with what was seen so far.
pub(in super::super) fn with<T>(shared: &Shared, act: impl FnOnce(&mut Seen) -> T) -> T {
    act(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(super) fn change(shared: &Shared, place: usize, act: impl FnOnce(&mut Process)) {
    with(shared, |seen| seen.processes.get_mut(place).map(act));
}

/// No file of `/proc` that is shown whole is longer.
pub(super) const TEXT_LIMIT: u64 = 16 << 10;

/// A file of `/proc`, as far as `limit`.
pub(super) fn bytes(path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn text(path: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&bytes(path, TEXT_LIMIT)?).into_owned())
}
