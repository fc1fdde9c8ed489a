//! A section's rows as bytes: an Arrow IPC stream in compressed blocks.
//!
//! ```text
//! payload = block*          block = raw bytes: u32 LE, stored bytes: u32 LE, body: a piece of the stream
//! body    = runs ([`runs`])          if the highest bit of the raw bytes is set, which does not count: numbers in fewer bytes
//!         | LZ4 of the piece
//!         | the piece                if the stored bytes are as many
//! ```
//!
//! Compression is done here and not by Arrow's own option for three reasons: numbers near each other are told by their
//! differences, which takes a fraction of LZ4's time and comes to less; a decoder of Arrow's allocates what a length inside the
//! buffer says, and here nothing is allocated but what a block, which is small, and a section's index say; and blocks are cut at
//! messages, so that columns are slices of a decompressed block and are not copied again.
//!
//! The bytes have passed a checksum when they come here, but a checksum proves only that they are what somebody wrote. Arrow's
//! decoder asserts where it should refuse; what it throws is caught and made an error.

mod runs;

use std::iter::Peekable;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice::Iter;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use lz4_flex::block::decompress;

use crate::section::Section;

/// A block is closed at the first end of a message after so many bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// No block holds more: longer messages are cut.
const BLOCK_BYTES_MAX: usize = 32 << 20;
/// Lengths before each block.
const HEADER_BYTES: usize = 8;
/// The bit of a block's raw bytes that says that it is runs.
const RUNS: u32 = 1 << 31;
/// LZ4 spends at least a byte on 255; a few at the end are literal.
const LZ4_RATIO_MAX: usize = 255;

/// A section, or a piece of one, as it is written, with what its index says of it.
pub(crate) struct Encoded<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) raw_bytes: u64,
    pub(crate) rows: u64,
    pub(crate) batches: u64,
}

/// Makes bytes of sections, one after the other in the same memory: what is new the system has to clear.
#[derive(Default)]
pub(crate) struct Encoder {
    /// What Arrow wrote and is not compressed yet.
    raw: Vec<u8>,
    /// Blocks; it never becomes shorter.
    payload: Vec<u8>,
    /// Numbers of a column in fewer bytes, before these are compressed.
    packed: Vec<u8>,
}

/// What a payload must come to.
pub(crate) struct Expected {
    pub(crate) raw_bytes: u64,
    pub(crate) rows: u64,
    pub(crate) batches: u64,
}

/// What is left to be written of a section.
pub(crate) struct Pieces<'a> {
    encoder: &'a mut Encoder,
    schema: &'a SchemaRef,
    batches: Peekable<Iter<'a, RecordBatch>>,
    piece_bytes: u64,
    begun: bool,
}

impl Encoder {
    /// A section's rows, in pieces that can be read by themselves: a piece ends with the first batch after so many bytes.
    pub(crate) fn pieces<'a>(&'a mut self, section: &'a Section, piece_bytes: u64) -> Pieces<'a> {
        let batches = section.batches.iter().peekable();
        Pieces { encoder: self, schema: &section.schema, batches, piece_bytes, begun: false }
    }

    /// Appends what Arrow wrote since the last time to a payload of `used` bytes, and empties it. Gives the payload's length.
    fn push(&mut self, mut used: usize) -> usize {
        let Encoder { raw, payload, packed } = self;
        for piece in raw.chunks(BLOCK_BYTES_MAX) {
            let body = used + HEADER_BYTES;
            runs::reserve(payload, body);
            let length = |bytes: usize| u32::try_from(bytes).expect("a block is at most 32 MiB");
            // A message that was cut is none.
            let is_whole = raw.len() <= BLOCK_BYTES_MAX;
            let packed = is_whole.then(|| runs::encode(piece, packed, payload, body)).flatten();
            let (end, form) = match packed.filter(|end| end - body < piece.len()) {
                Some(end) => (end, RUNS),
                None => (body + runs::push_body(piece, payload, body), 0),
            };
            payload[used..used + 4].copy_from_slice(&(length(piece.len()) | form).to_le_bytes());
            payload[used + 4..body].copy_from_slice(&length(end - body).to_le_bytes());
            used = end;
        }
        raw.clear();
        used
    }
}

impl Pieces<'_> {
    /// The next piece; a section without rows is one, too. Fails if Arrow cannot write a type.
    pub(crate) fn next(&mut self) -> Result<Option<Encoded<'_>>, String> {
        if std::mem::replace(&mut self.begun, true) && self.batches.peek().is_none() {
            return Ok(None);
        }
        let fault = |error: ArrowError| error.to_string();
        let encoder = &mut *self.encoder;
        let mut raw = std::mem::take(&mut encoder.raw);
        // What a piece before left that could not be written is not this one's.
        raw.clear();
        let (mut used, mut raw_bytes, mut rows, mut batches) = (0, 0, 0, 0);
        let mut writer = StreamWriter::try_new(raw, self.schema).map_err(fault)?;
        for batch in self.batches.by_ref() {
            writer.write(batch).map_err(fault)?;
            rows += batch.num_rows() as u64;
            batches += 1;
            if writer.get_ref().len() >= BLOCK_BYTES {
                raw_bytes += writer.get_ref().len() as u64;
                std::mem::swap(&mut encoder.raw, writer.get_mut());
                used = encoder.push(used);
                std::mem::swap(&mut encoder.raw, writer.get_mut());
            }
            if raw_bytes + writer.get_ref().len() as u64 >= self.piece_bytes {
                break;
            }
        }
        writer.finish().map_err(fault)?;
        encoder.raw = writer.into_inner().map_err(fault)?;
        raw_bytes += encoder.raw.len() as u64;
        used = encoder.push(used);
        Ok(Some(Encoded { payload: &encoder.payload[..used], raw_bytes, rows, batches }))
    }
}

/// Reads a section's rows. Any bytes are safe to give: what is wrong is said.
pub(crate) fn decode(payload: &[u8], expected: &Expected) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_blocks(payload, expected)));
    decoded.unwrap_or_else(|_| Err("its rows are not what Arrow's format allows".into()))
}

fn decode_blocks(payload: &[u8], expected: &Expected) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    let (mut rows, mut raw_bytes) = (0u64, 0u64);
    let mut rest = payload;
    while !rest.is_empty() {
        let mut block = next_block(&mut rest, expected.raw_bytes - raw_bytes)?;
        raw_bytes += block.len() as u64;
        while !block.is_empty() {
            if let Some(batch) = decoder.decode(&mut block).map_err(|error| error.to_string())? {
                rows += batch.num_rows() as u64;
                batches.push(batch);
            }
        }
    }
    decoder.finish().map_err(|error| error.to_string())?;
    let schema = decoder.schema().ok_or("it has no schema")?;
    let found = (raw_bytes, rows, batches.len() as u64);
    if found != (expected.raw_bytes, expected.rows, expected.batches) {
        let (raw_bytes, rows, batches) = (expected.raw_bytes, expected.rows, expected.batches);
        return Err(format!(
            "it holds {} bytes, {} rows and {} batches, and its index says {raw_bytes}, {rows} and {batches}",
            found.0, found.1, found.2
        ));
    }
    Ok((schema, batches))
}

/// Takes a block, which may come to so many bytes.
fn next_block(rest: &mut &[u8], left: u64) -> Result<Buffer, String> {
    let (header, body) = rest.split_at_checked(HEADER_BYTES).ok_or("it ends within the header of a block")?;
    let length = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let is_runs = length(0) & RUNS != 0;
    let (raw, stored) = ((length(0) & !RUNS) as usize, length(4) as usize);
    let (body, after) = body.split_at_checked(stored).ok_or("it ends within a block")?;
    *rest = after;
    let most = if is_runs { BLOCK_BYTES_MAX } else { stored.saturating_mul(LZ4_RATIO_MAX).saturating_add(LZ4_RATIO_MAX) };
    if raw > BLOCK_BYTES_MAX || stored > raw || raw > most {
        return Err(format!("a block says that {stored} bytes stand for {raw}, which cannot be"));
    }
    if raw as u64 > left {
        return Err("it holds more bytes than its index says".into());
    }
    if is_runs {
        return Ok(runs::decode(body, raw)?.into());
    }
    if raw == stored {
        return Ok(Buffer::from_slice_ref(body));
    }
    match decompress(body, raw) {
        Ok(block) if block.len() == raw => Ok(block.into()),
        Ok(block) => Err(format!("a block of {raw} bytes holds {}", block.len())),
        Err(error) => Err(format!("a block cannot be decompressed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Decimal128Array, DictionaryArray, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
    };
    use arrow::datatypes::{DataType, Field, Int32Type};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Of so many rows that numbers are packed.
    fn long_section() -> Section {
        let numbers = Int64Array::from_iter((0..500).map(|row| (row % 9 > 0).then_some(row)));
        let texts = StringArray::from_iter_values((0..500).map(|row| format!("text {row}")));
        let columns: [(&str, ArrayRef); 2] = [("number", Arc::new(numbers)), ("text", Arc::new(texts))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        Section::new("k", batch.schema(), vec![batch.clone(), batch])
    }

    fn section() -> Section {
        let texts = vec![Some("one"), None, Some("a text that is longer than twelve bytes")];
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)]));
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        let dictionary: DictionaryArray<Int32Type> = texts.iter().copied().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("number", numbers.clone()),
            ("text", Arc::new(StringArray::from(texts.clone()))),
            ("view", Arc::new(StringViewArray::from(texts))),
            ("decimal", Arc::new(Decimal128Array::from(vec![Some(1), None, Some(-3)]))),
            ("list", Arc::new(list)),
            ("dictionary", Arc::new(dictionary)),
            ("row", Arc::new(StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), numbers)]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
        let batch = batch.expect("columns of one length");
        Section::new("k", batch.schema(), vec![batch.clone(), batch])
    }

    /// The stream of a payload, and a payload of a stream.
    fn stream(payload: &[u8]) -> Vec<u8> {
        let (mut rest, mut stream) = (payload, Vec::new());
        while !rest.is_empty() {
            stream.extend_from_slice(&next_block(&mut rest, u64::MAX).unwrap());
        }
        stream
    }

    fn payload(stream: Vec<u8>) -> Vec<u8> {
        let mut encoder = Encoder { raw: stream, ..Encoder::default() };
        let used = encoder.push(0);
        encoder.payload.truncate(used);
        encoder.payload
    }

    fn encoded(encoder: &mut Encoder, section: &Section, piece_bytes: u64) -> Vec<(Vec<u8>, Expected)> {
        let (mut pieces, mut all) = (encoder.pieces(section, piece_bytes), Vec::new());
        while let Some(piece) = pieces.next().unwrap() {
            let expected = Expected { raw_bytes: piece.raw_bytes, rows: piece.rows, batches: piece.batches };
            all.push((piece.payload.to_vec(), expected));
        }
        all
    }

    #[test]
    fn a_stream_that_somebody_changed_before_it_was_summed_does_no_harm() {
        for (section, packed) in [(section(), false), (long_section(), true)] {
            let (bytes, expected) = encoded(&mut Encoder::default(), &section, u64::MAX).pop().unwrap();
            assert_eq!(bytes[3] & 0x80 > 0, packed);
            let whole = stream(&bytes);
            assert_eq!(decode(&payload(whole.clone()), &expected).unwrap(), (section.schema.clone(), section.batches.clone()));
            let mut random = SmallRng::seed_from_u64(5);
            let mut refused = 0;
            for _ in 0..3_000 {
                let mut changed = whole.clone();
                for _ in 0..random.gen_range(1..4) {
                    // Messages are at its beginning.
                    let at = random.gen_range(0..changed.len().min(3_000));
                    match random.gen_range(0..4) {
                        0 => changed[at] ^= 1 << random.gen_range(0..8),
                        1 => changed[at] = 0xff,
                        2 => changed[at..].iter_mut().take(4).for_each(|byte| *byte = 0x7f),
                        _ => changed.truncate(at.max(1)),
                    }
                }
                // What is not refused is a table that Arrow has validated.
                refused += u32::from(decode(&payload(changed), &expected).is_err());
            }
            assert!(refused > 1_000, "{refused}");
        }
    }

    #[test]
    fn no_more_is_allocated_than_the_index_says() {
        for section in [section(), long_section()] {
            let (bytes, expected) = encoded(&mut Encoder::default(), &section, u64::MAX).pop().unwrap();
            let less = Expected { raw_bytes: expected.raw_bytes - 1, ..expected };
            assert_eq!(decode(&bytes, &less).unwrap_err(), "it holds more bytes than its index says");
        }
    }

    #[test]
    fn a_large_section_is_written_in_pieces() {
        let section = section();
        let none = Section { batches: Vec::new(), ..section.clone() };
        // One after the other in the same memory, as in a file.
        let mut encoder = Encoder::default();
        for (section, piece_bytes, pieces) in [(&section, 1 << 20, 1), (&section, 1, 2), (&none, 1, 1), (&section, 1, 2)] {
            let encoded = encoded(&mut encoder, section, piece_bytes);
            assert_eq!(encoded.len(), pieces);
            let read = encoded.iter().flat_map(|(payload, expected)| {
                let (schema, batches) = decode(payload, expected).unwrap();
                assert_eq!(schema, section.schema);
                batches
            });
            assert_eq!(read.collect::<Vec<_>>(), section.batches);
        }
    }

    #[test]
    fn blocks_that_cannot_be_are_refused_before_anything_is_allocated() {
        let expected = || Expected { raw_bytes: u64::MAX, rows: 0, batches: 0 };
        let block = |raw: u32, stored: u32, body: &[u8]| [&raw.to_le_bytes()[..], &stored.to_le_bytes(), body].concat();
        for (bytes, what) in [
            (block(u32::MAX, 4, b"abcd"), "4 bytes stand for 2147483647"),
            (block(RUNS | 33 << 20, 4, b"abcd"), "4 bytes stand for 34603008"),
            (block(RUNS | 32 << 20, 4, b"abcd"), "ends within the header of a run"),
            (block(32 << 20, 4, b"abcd"), "4 bytes stand for 33554432"),
            (block(2, 4, b"abcd"), "4 bytes stand for 2"),
            (block(9, 5, b"abcd"), "ends within a block"),
            (b"1234567".to_vec(), "ends within the header"),
            (block(900, 4, b"\xffabc"), "block"),
            (block(0, 0, b""), "no schema"),
            (Vec::new(), "no schema"),
        ] {
            let error = decode(&bytes, &expected()).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn any_bytes_may_be_given() {
        let mut random = SmallRng::seed_from_u64(6);
        for length in 0..2_000 {
            let bytes: Vec<u8> = (0..length % 300).map(|_| random.r#gen::<u8>() >> (length % 8)).collect();
            let _ = decode(&bytes, &Expected { raw_bytes: 1 << 20, rows: 1, batches: 1 });
        }
    }
}
