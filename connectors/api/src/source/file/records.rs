//! Records of a stream of bytes: read in chunks, cut at line ends, over-long ones skipped without being held.

use std::io::{self, Read};
use std::ops::Range;

use crate::format::Format;
use crate::source::Reject;

/// Bytes asked for at a time.
const CHUNK: usize = 256 * 1024;

/// Cuts what a reader gives into records.
#[derive(Debug)]
pub(super) struct Records {
    format: Format,
    buffer: Vec<u8>,
    /// What is not taken yet.
    start: usize,
    /// Where the bytes that were read end.
    end: usize,
    /// Up to here no record end was found.
    searched: usize,
    /// Position in the file of `start`.
    position: u64,
    /// Lines before `start`.
    line: u64,
    skipping: Option<Skipped>,
}

/// A record that is too long.
#[derive(Debug)]
struct Skipped {
    head: Vec<u8>,
    bytes: u64,
    position: u64,
    line: u64,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// A record, without its line end: see [`Records::bytes`].
    Record {
        /// Where it stands in the buffer.
        range: Range<usize>,
        /// Its line, counted from 1.
        line: u64,
        /// Its first byte in the file.
        position: u64,
    },
    /// A record that was too long to be read.
    TooLong {
        /// Its beginning.
        head: Vec<u8>,
        /// Its length.
        bytes: u64,
        /// Its line, counted from 1.
        line: u64,
        /// Its first byte in the file.
        position: u64,
    },
    /// The reader has no more bytes for now.
    Dry,
}

impl Records {
    /// Starts at a position and line of a file.
    pub(super) fn new(format: Format, position: u64, line: u64) -> Self {
        Records { format, buffer: Vec::new(), start: 0, end: 0, searched: 0, position, line, skipping: None }
    }

    /// Position in the file of the first byte that no record has taken.
    pub(super) fn position(&self) -> u64 {
        // An over-long record that is being skipped is taken when its end is found.
        self.skipping.as_ref().map_or(self.position, |skipped| skipped.position)
    }

    /// Lines before [`Records::position`].
    pub(super) fn line(&self) -> u64 {
        self.skipping.as_ref().map_or(self.line, |skipped| skipped.line)
    }

    /// Position in the file up to which bytes were read.
    pub(super) fn read_to(&self) -> u64 {
        self.position + (self.end - self.start) as u64
    }

    /// The bytes of a record.
    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.buffer[range.clone()]
    }

    /// The next record. If `last`, what follows the last line end is a record too.
    pub(super) fn next(&mut self, input: &mut dyn Read, last: bool) -> io::Result<Next> {
        loop {
            if self.skipping.is_some() {
                match self.skip() {
                    Some(next) => return Ok(next),
                    None if self.fill(input)? => continue,
                    None if last => return Ok(self.skipped()),
                    None => return Ok(Next::Dry),
                }
            }
            if let Some(length) = self.record_end() {
                return Ok(self.take(length, length + 1));
            }
            if self.end - self.start > self.format.row_bytes_max() {
                self.start_skipping();
            } else if !self.fill(input)? {
                return Ok(match self.end - self.start {
                    length if last && length > 0 => self.take(length, length),
                    _ => Next::Dry,
                });
            }
        }
    }

    /// Length of the record at `start`, if its end is in the buffer.
    fn record_end(&mut self) -> Option<usize> {
        let text = &self.buffer[self.start..self.end];
        if self.format.has_quotes() {
            return self.format.record_end(text);
        }
        let found = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]).map(|at| self.searched - self.start + at);
        self.searched = self.end;
        found
    }

    /// Takes a record of `length` bytes, and `with_end` with its line end.
    fn take(&mut self, length: usize, with_end: usize) -> Next {
        let (position, line) = (self.position, self.line + 1);
        let start = self.start;
        let newlines = if self.format.has_quotes() {
            memchr::memchr_iter(b'\n', &self.buffer[start..start + length]).count() as u64
        } else {
            0
        };
        self.start += with_end;
        self.searched = self.start;
        self.position += with_end as u64;
        self.line += newlines + 1;
        if length > self.format.row_bytes_max() {
            let head = self.buffer[start..start + length.min(Reject::RAW_BYTES_MAX)].to_vec();
            return Next::TooLong { head, bytes: length as u64, line, position };
        }
        let length = if self.buffer[start..start + length].ends_with(b"\r") { length - 1 } else { length };
        Next::Record { range: start..start + length, line, position }
    }

    /// Reads more; false if there is none for now.
    fn fill(&mut self, input: &mut dyn Read) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.searched -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + CHUNK {
            self.buffer.resize(self.end + CHUNK, 0);
        }
        loop {
            match input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn start_skipping(&mut self) {
        let head = self.buffer[self.start..self.end.min(self.start + Reject::RAW_BYTES_MAX)].to_vec();
        self.skipping = Some(Skipped { head, bytes: 0, position: self.position, line: self.line });
        // It does not come back to what was searched already.
        let searched = (self.end - self.start) as u64;
        self.position += searched;
        self.start = self.end;
        self.searched = self.end;
        if let Some(skipped) = &mut self.skipping {
            skipped.bytes = searched;
        }
    }

    /// Looks for the end of the record that is skipped: the next line feed, quoted or not.
    fn skip(&mut self) -> Option<Next> {
        let found = memchr::memchr(b'\n', &self.buffer[self.start..self.end]);
        let bytes = found.unwrap_or(self.end - self.start);
        let taken = bytes + usize::from(found.is_some());
        self.start += taken;
        self.searched = self.start;
        self.position += taken as u64;
        let skipped = self.skipping.as_mut().expect("called while skipping");
        skipped.bytes += bytes as u64;
        found.map(|_| self.skipped())
    }

    fn skipped(&mut self) -> Next {
        let Skipped { head, bytes, position, line } = self.skipping.take().expect("called while skipping");
        self.line = line + 1;
        Next::TooLong { head, bytes, line: line + 1, position }
    }
}

#[cfg(test)]
mod tests {
    use highwater_plan::{OptionReader, Options};

    use super::*;
    use crate::format::FORMAT_FIELDS;

    fn all(text: &[u8], pairs: &[(&str, &str)], last: bool) -> (Vec<String>, u64) {
        let options = Options::from_pairs(pairs.iter().copied());
        let reader = OptionReader::new(&options, "a test", &[FORMAT_FIELDS]).expect("known options");
        let mut records = Records::new(Format::from_options(&reader).expect("a format"), 0, 0);
        let (mut input, mut found) = (text, Vec::new());
        loop {
            match records.next(&mut input, last).expect("memory has no errors") {
                Next::Record { range, line, position } => {
                    found.push(format!("{line}@{position}:{}", String::from_utf8_lossy(records.bytes(&range))));
                }
                Next::TooLong { head, bytes, line, position } => found.push(format!("{line}@{position}!{bytes}/{}", head.len())),
                Next::Dry => return (found, records.position()),
            }
        }
    }

    #[test]
    fn lines_and_the_last_one_without_an_end() {
        assert_eq!(all(b"a\r\n\nbc\nd", &[], false), (vec!["1@0:a".into(), "2@3:".into(), "3@4:bc".into()], 7));
        assert_eq!(all(b"a\nd", &[], true), (vec!["1@0:a".into(), "2@2:d".into()], 3));
        assert_eq!(all(b"a,\"x\ny\"\nb\n", &[("format", "csv")], true).0, ["1@0:a,\"x\ny\"", "3@8:b"]);
    }

    #[test]
    fn an_over_long_line_is_skipped_and_told() {
        let mut text = b"a\n".to_vec();
        text.resize(3_000_000, b'x');
        let cut = all(&text, &[("row_bytes_max", "1024")], false);
        assert_eq!(cut, (vec!["1@0:a".into()], 2));
        text.extend_from_slice(b"\nb\n");
        let (found, position) = all(&text, &[("row_bytes_max", "1024")], false);
        assert_eq!(found, ["1@0:a", "2@2!2999998/65536", "3@3000001:b"]);
        assert_eq!(position, 3_000_003);
        text.truncate(2_000);
        assert_eq!(all(&text, &[("row_bytes_max", "1024")], true).0, ["1@0:a", "2@2!1998/1998"]);
    }
}
