//! A block as runs: numbers that are near each other in fewer bytes, few texts each once, the rest compressed.
//!
//! Most of what a checkpoint holds are ids, times, multiplicities and offsets of texts. Told as differences from the least of
//! them, or from the one before, each takes a byte or two. That is found in one pass, an order of magnitude faster than LZ4, and
//! comes to less; LZ4 is left for texts of which many are different. Nothing here knows of columns: each buffer of Arrow's messages is
//! tried as words of several sizes, and what comes back is the same bytes, whatever they mean.
//!
//! ```text
//! run = form: u8, width: u8, raw bytes: u32, stored bytes: u32, base: u64, body        (all little endian)
//! form  0  bytes as they are
//!       1  words of 8 bytes less the base, `width` bytes of each (frame of reference)
//!       2  words of 16 bytes that are numbers of 8 with their sign, as form 1
//!       3  words of 4 bytes less the word before
//!       4  words of 4 bytes less the base
//!       5  offsets and texts ([`texts`])
//! body  LZ4 of that; as it is if the stored bytes are as many
//! ```

mod texts;

use std::ops::Range;

use arrow::ipc::root_as_message;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use self::texts::Layout;

/// Before each run.
const HEADER_BYTES: usize = 18;
/// Of smaller buffers nothing is gained.
const BUFFER_BYTES_MIN: usize = 1 << 10;
/// LZ4 of less is not tried.
const LZ4_BYTES_MIN: usize = 64;
/// Words between two looks whether they are still near each other.
const STRIDE: usize = 128;

/// How a buffer's bytes become words, and these fewer bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bytes = 0,
    Words = 1,
    Wide = 2,
    Steps = 3,
    Halves = 4,
    Texts = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packing {
    form: Form,
    /// Bytes that are left of a word, 0, 1, 2, 4 or 8, or of the number of a text.
    width: usize,
    /// Of texts a [`Layout`].
    base: u64,
}

/// Appends a stream's messages as runs to a payload of `used` bytes, and gives its length then; `None` if no buffer gets smaller
/// by its numbers. `packed`: memory to use.
pub(super) fn encode(stream: &[u8], packed: &mut Vec<u8>, payload: &mut Vec<u8>, used: usize) -> Option<usize> {
    let (mut end, mut rest) = (used, 0);
    let buffers = buffers(stream);
    for (number, buffer) in buffers.iter().enumerate() {
        if buffer.start < rest {
            continue;
        }
        let texts = buffers.get(number + 1).and_then(|data| Some((texts::pack(stream, buffer, data, packed)?, data.end)));
        let (packing, after) = match texts {
            Some(texts) => texts,
            None => match Packing::of(&stream[buffer.clone()]) {
                Some(packing) => (packing, buffer.end),
                None => continue,
            },
        };
        end = push_bytes(&stream[rest..buffer.start], payload, end);
        end = packing.push(&stream[buffer.start..after], packed, payload, end);
        rest = after;
    }
    (rest > 0).then(|| push_bytes(&stream[rest..], payload, end))
}

/// What runs come to, which must be so many bytes. Any bytes are safe to give: what is wrong with them is said.
pub(super) fn decode(mut runs: &[u8], bytes: usize) -> Result<Vec<u8>, String> {
    let (mut block, mut packed) = (Vec::with_capacity(bytes), Vec::new());
    while !runs.is_empty() {
        let (header, body) = runs.split_at_checked(HEADER_BYTES).ok_or("a block ends within the header of a run")?;
        let length = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes")) as usize;
        let (raw, stored) = (length(2), length(6));
        let base = u64::from_le_bytes(header[10..].try_into().expect("eight bytes"));
        let packing = Packing::new(header[0], header[1], base).ok_or("a run of a block has no form that is known")?;
        let (body, after) = body.split_at_checked(stored).ok_or("a block ends within a run")?;
        let used = block.len();
        if raw > bytes - used {
            return Err("its runs come to more than it says".into());
        }
        if packing.form == Form::Bytes && raw == stored {
            block.extend_from_slice(body);
        } else {
            // A run at a time: what is cleared is still in the cache when it is written.
            block.resize(used + raw, 0);
            packing.read(body, &mut packed, &mut block[used..])?;
        }
        runs = after;
    }
    if block.len() == bytes { Ok(block) } else { Err("its runs come to less than it says".into()) }
}

/// Where the buffers of a stream's record batches are that are worth looking at, in order; none from where on it is no stream.
fn buffers(stream: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while let Some(length) = stream.get(at + 4..at + 8) {
        let start = at + 8;
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(message) = stream.get(start..start.saturating_add(length)).filter(|message| !message.is_empty()) else { break };
        let Ok(message) = root_as_message(message) else { break };
        let body = start + length;
        let dictionary = || message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        let batch = message.header_as_record_batch().or_else(dictionary);
        for buffer in batch.and_then(|batch| batch.buffers()).into_iter().flatten() {
            let (Ok(offset), Ok(length)) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length())) else { break };
            let start = body.saturating_add(offset);
            let range = start..start.saturating_add(length);
            if length >= BUFFER_BYTES_MIN && range.end <= stream.len() && found.last().is_none_or(|last| last.end <= start) {
                found.push(range);
            }
        }
        let Ok(length) = usize::try_from(message.bodyLength()) else { break };
        at = body.saturating_add(length);
    }
    found
}

/// Appends bytes as a run of their own.
fn push_bytes(bytes: &[u8], payload: &mut Vec<u8>, used: usize) -> usize {
    if bytes.is_empty() {
        return used;
    }
    let packing = Packing { form: Form::Bytes, width: 0, base: 0 };
    let stored = push_body(bytes, payload, used + HEADER_BYTES);
    packing.head(bytes.len(), stored, payload, used)
}

/// Puts bytes behind the first `body` of a payload, compressed if that makes them fewer. Gives how many they are then.
pub(super) fn push_body(bytes: &[u8], payload: &mut Vec<u8>, body: usize) -> usize {
    reserve(payload, body + get_maximum_output_size(bytes.len()));
    let compressed = (bytes.len() >= LZ4_BYTES_MIN).then(|| compress_into(bytes, &mut payload[body..]));
    match compressed {
        Some(Ok(stored)) if stored < bytes.len() => stored,
        _ => {
            payload[body..body + bytes.len()].copy_from_slice(bytes);
            bytes.len()
        }
    }
}

/// Makes a payload at least so long; what is written before it is said to be used stays.
pub(super) fn reserve(payload: &mut Vec<u8>, bytes: usize) {
    if payload.len() < bytes {
        payload.resize(bytes, 0);
    }
}

impl Packing {
    fn new(form: u8, width: u8, base: u64) -> Option<Packing> {
        let forms = [Form::Bytes, Form::Words, Form::Wide, Form::Steps, Form::Halves, Form::Texts];
        let form = *forms.get(usize::from(form))?;
        let width = usize::from(width);
        let known = match form {
            Form::Bytes => width == 0,
            Form::Texts => width < 2 && Layout::new(width, base).is_some(),
            _ => matches!(width, 0 | 1 | 2 | 4 | 8) && width < form.word_bytes(),
        };
        known.then_some(Packing { form, width, base })
    }

    /// The best for these bytes, if any makes them fewer.
    fn of(bytes: &[u8]) -> Option<Packing> {
        [wide, words, steps, halves].into_iter().find_map(|packing| packing(bytes))
    }

    /// What is left of so many bytes, before compression.
    fn packed_bytes(self, raw: usize) -> usize {
        match self.form {
            Form::Bytes => raw,
            Form::Texts => self.layout().packed_bytes(),
            form => raw / form.word_bytes() * self.width,
        }
    }

    fn layout(self) -> Layout {
        Layout::new(self.width, self.base).expect("a packing of texts has one")
    }

    /// Appends what it is of; `packed` has texts that are packed already.
    fn push(self, bytes: &[u8], packed: &mut Vec<u8>, payload: &mut Vec<u8>, used: usize) -> usize {
        let length = self.packed_bytes(bytes.len());
        // What is a quarter of its length, or less, LZ4 would hardly make shorter.
        if length <= bytes.len() / 4 {
            let body = used + HEADER_BYTES;
            reserve(payload, body + length);
            match self.form {
                Form::Texts => payload[body..body + length].copy_from_slice(&packed[..length]),
                _ => self.pack(bytes, &mut payload[body..body + length]),
            }
            return self.head(bytes.len(), length, payload, used);
        }
        if self.form != Form::Texts {
            reserve(packed, length);
            self.pack(bytes, &mut packed[..length]);
        }
        let stored = push_body(&packed[..length], payload, used + HEADER_BYTES);
        self.head(bytes.len(), stored, payload, used)
    }

    /// Writes the header of a run whose body is there; gives where the next one begins.
    fn head(self, raw: usize, stored: usize, payload: &mut [u8], used: usize) -> usize {
        let length = |bytes: usize| u32::try_from(bytes).expect("a block is at most 32 MiB").to_le_bytes();
        let header = &mut payload[used..used + HEADER_BYTES];
        header[..2].copy_from_slice(&[self.form as u8, self.width as u8]);
        header[2..6].copy_from_slice(&length(raw));
        header[6..10].copy_from_slice(&length(stored));
        header[10..].copy_from_slice(&self.base.to_le_bytes());
        used + HEADER_BYTES + stored
    }

    fn pack(self, bytes: &[u8], packed: &mut [u8]) {
        let base = self.base;
        match self.form {
            Form::Bytes | Form::Texts => unreachable!("bytes stay as they are, texts are packed when they are found"),
            Form::Words => narrow(eights(bytes).map(|word| word.wrapping_sub(base)), self.width, packed),
            Form::Wide => narrow(eights(bytes).step_by(2).map(|word| word.wrapping_sub(base)), self.width, packed),
            Form::Halves => narrow(fours(bytes).map(|word| u64::from(word.wrapping_sub(base as u32))), self.width, packed),
            Form::Steps => {
                let mut last = 0;
                let step = |word: u32| u64::from(word.wrapping_sub(std::mem::replace(&mut last, word)));
                narrow(fours(bytes).map(step), self.width, packed);
            }
        }
    }

    /// The other way round: fills `run`. `packed`: memory to use.
    fn read(self, body: &[u8], packed: &mut Vec<u8>, run: &mut [u8]) -> Result<(), String> {
        let length = self.packed_bytes(run.len());
        if length > run.len() || body.len() > length || !run.len().is_multiple_of(self.form.word_bytes()) {
            return Err(format!("{} bytes of a run cannot stand for {}", body.len(), run.len()));
        }
        let unpack = |stored: &[u8], into: &mut [u8]| match decompress_into(stored, into) {
            Ok(found) if found == into.len() => Ok(()),
            Ok(found) => Err(format!("a run of {} bytes holds {found}", into.len())),
            Err(error) => Err(format!("a run cannot be decompressed: {error}")),
        };
        let body = match body.len() < length {
            true if self.form == Form::Bytes => return unpack(body, run),
            true => {
                reserve(packed, length);
                unpack(body, &mut packed[..length])?;
                &packed[..length]
            }
            false => body,
        };
        let base = self.base;
        match self.form {
            Form::Bytes => run.copy_from_slice(body),
            Form::Texts => self.layout().read(body, run)?,
            Form::Words => widen(body, self.width, run, |word| word.wrapping_add(base).to_le_bytes()),
            Form::Wide => widen(body, self.width, run, |word| {
                let number = word.wrapping_add(base) as i64;
                i128::from(number).to_le_bytes()
            }),
            Form::Halves => widen(body, self.width, run, |word| (word as u32).wrapping_add(base as u32).to_le_bytes()),
            Form::Steps => {
                let mut last = 0u32;
                widen(body, self.width, run, |step| {
                    last = last.wrapping_add(step as u32);
                    last.to_le_bytes()
                });
            }
        }
        Ok(())
    }
}

impl Form {
    fn word_bytes(self) -> usize {
        match self {
            Form::Bytes | Form::Texts => 1,
            Form::Words => 8,
            Form::Wide => 16,
            Form::Steps | Form::Halves => 4,
        }
    }
}

fn eights(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

fn fours(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word))
}

/// The fewest bytes that hold all numbers up to this one.
fn width_of(most: u64) -> usize {
    match most {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// Numbers' least and how far from it the others are, unless that is more than `most` somewhere on the way.
fn extent<'a>(bytes: &'a [u8], stride_bytes: usize, most: u64, numbers: impl Fn(&'a [u8]) -> (i64, i64)) -> Option<(i64, u64)> {
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for piece in bytes.chunks(stride_bytes) {
        let (least, greatest) = numbers(piece);
        (low, high) = (low.min(least), high.max(greatest));
        if high.abs_diff(low) > most {
            return None;
        }
    }
    (low <= high).then(|| (low, high.abs_diff(low)))
}

fn ends(numbers: impl Iterator<Item = i64>) -> (i64, i64) {
    numbers.fold((i64::MAX, i64::MIN), |(low, high), number| (low.min(number), high.max(number)))
}

fn words(bytes: &[u8]) -> Option<Packing> {
    let numbers = |piece| ends(eights(piece).map(|word| word as i64));
    let whole = bytes.len().is_multiple_of(8);
    let (low, most) = whole.then(|| extent(bytes, STRIDE * 8, u32::MAX.into(), numbers)).flatten()?;
    Some(Packing { form: Form::Words, width: width_of(most), base: low as u64 })
}

fn wide(bytes: &[u8]) -> Option<Packing> {
    let has_signs = |piece: &[u8]| piece.as_chunks().0.iter().all(|word| i64::try_from(i128::from_le_bytes(*word)).is_ok());
    if !bytes.len().is_multiple_of(16) || !bytes.chunks(STRIDE * 16).all(has_signs) {
        return None;
    }
    let numbers = |piece| ends(eights(piece).step_by(2).map(|word| word as i64));
    let (low, most) = extent(bytes, STRIDE * 16, u64::MAX, numbers)?;
    Some(Packing { form: Form::Wide, width: width_of(most), base: low as u64 })
}

fn steps(bytes: &[u8]) -> Option<Packing> {
    let mut last = 0;
    let mut most = 0;
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    for piece in bytes.chunks(STRIDE * 4) {
        // All bits of them: the width is the same as of the greatest.
        let bits = fours(piece).fold(0, |bits, word| bits | word.wrapping_sub(std::mem::replace(&mut last, word)));
        most |= bits;
        if most > 0xffff {
            return None;
        }
    }
    Some(Packing { form: Form::Steps, width: width_of(most.into()), base: 0 })
}

fn halves(bytes: &[u8]) -> Option<Packing> {
    let numbers = |piece| ends(fours(piece).map(|word| i64::from(word as i32)));
    let whole = bytes.len().is_multiple_of(4);
    let (low, most) = whole.then(|| extent(bytes, STRIDE * 4, 0xffff, numbers)).flatten()?;
    Some(Packing { form: Form::Halves, width: width_of(most), base: low as u64 })
}

/// The low bytes of numbers that have no others.
fn narrow(words: impl Iterator<Item = u64>, width: usize, packed: &mut [u8]) {
    match width {
        0 => {}
        1 => packed.iter_mut().zip(words).for_each(|(to, word)| *to = word as u8),
        2 => packed.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, word)| *to = (word as u16).to_le_bytes()),
        4 => packed.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, word)| *to = (word as u32).to_le_bytes()),
        _ => packed.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes()),
    }
}

/// What `word` makes of each number.
fn widen<const N: usize>(packed: &[u8], width: usize, run: &mut [u8], mut word: impl FnMut(u64) -> [u8; N]) {
    let run = run.as_chunks_mut().0.iter_mut();
    match width {
        0 => run.for_each(|to| *to = word(0)),
        1 => run.zip(packed).for_each(|(to, number)| *to = word((*number).into())),
        2 => run.zip(packed.as_chunks().0).for_each(|(to, number)| *to = word(u16::from_le_bytes(*number).into())),
        4 => run.zip(packed.as_chunks().0).for_each(|(to, number)| *to = word(u32::from_le_bytes(*number).into())),
        _ => run.zip(packed.as_chunks().0).for_each(|(to, number)| *to = word(u64::from_le_bytes(*number))),
    }
}

#[cfg(test)]
mod tests;
