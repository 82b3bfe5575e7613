//! The output of a container as an engine gives it.
//!
//! Without a terminal it comes in frames: one byte for the stream (1 output, 2 error), three zeros, the length as four bytes,
//! the most significant first, and so much of the output. With one it comes as it is. Each line begins with the time at
//! which the engine got it, since that was asked for.

use chrono::{DateTime, Utc};

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When the engine got it.
    pub time: DateTime<Utc>,
    /// Where it was written.
    pub stream: Stream,
    /// Without the time and the end of the line.
    pub text: Vec<u8>,
}

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Output,
    /// Standard error.
    Error,
}

/// Lines of output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// In the order of the engine.
    pub lines: Vec<Line>,
    /// There are more, which were not read.
    pub is_cut: bool,
}

/// The head of a frame.
const HEAD: usize = 8;

impl Lines {
    /// Reads an answer; `is_cut` says that it was cut at its end.
    pub(super) fn read(body: &[u8], has_terminal: bool, is_cut: bool) -> Self {
        let mut all = Self {
            lines: Vec::new(),
            is_cut,
        };
        if has_terminal {
            all.add(body, Stream::Output, false);
        } else {
            all.add_frames(body);
        }
        // of a last line that was cut nobody knows the rest
        if is_cut {
            all.lines.pop();
        }
        all
    }

    fn add_frames(&mut self, mut rest: &[u8]) {
        // whether the last line of a stream goes on: an engine has a frame for each 16 KiB of one
        let (mut output, mut error) = (false, false);
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((frame, next)) = after.split_at_checked(length) else {
                self.is_cut = true;
                return;
            };
            let (stream, goes_on) = match head[0] {
                2 => (Stream::Error, &mut error),
                _ => (Stream::Output, &mut output),
            };
            self.add(frame, stream, *goes_on);
            *goes_on = !frame.ends_with(b"\n");
            rest = next;
        }
    }

    /// Adds lines of one stream; the first may belong to the last one of it.
    fn add(&mut self, output: &[u8], stream: Stream, mut goes_on: bool) {
        for line in output.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let end = line.iter().position(|&byte| byte == b' ');
            let (stamp, text) = line.split_at(end.unwrap_or(line.len()));
            let text = text.strip_prefix(b" ").unwrap_or(text);
            let time = std::str::from_utf8(stamp)
                .ok()
                .and_then(|stamp| DateTime::parse_from_rfc3339(stamp).ok());
            let last = self.lines.iter_mut().rfind(|last| last.stream == stream);
            match (time, last) {
                (Some(_), Some(last)) if goes_on => last.text.extend_from_slice(text),
                (Some(time), _) => self.lines.push(Line {
                    time: time.to_utc(),
                    stream,
                    text: text.to_vec(),
                }),
                // no engine was seen to give a line without its time
                (None, Some(last)) => last.text.extend_from_slice(line),
                (None, None) => {}
            }
            goes_on = false;
        }
    }
}
