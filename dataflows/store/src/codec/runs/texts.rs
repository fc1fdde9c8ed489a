//! A column of few different texts: each once, and of every row which it is.
//!
//! ```text
//! run      = the column's offsets, zeros up to its texts, its texts
//! base     = rows: 24 bits, texts less one: 8 bits, zeros: 8 bits, bytes of the texts: 24 bits       (from the lowest)
//! body     = the number of each row's text, a byte each (none if there is one text), lengths of the texts: u16 each, the texts
//! ```

use std::ops::Range;

use super::{Form, Packing, fours, reserve};

/// So many texts have numbers of a byte.
const TEXTS_MAX: usize = 256;
/// So many rows there are at least for each text; how many there will be a few rows do not tell.
const ROWS_PER_TEXT: usize = 4;
const ROWS_MAX: usize = 1 << 24;
/// Between two buffers of a message there are fewer bytes.
const GAP_MAX: usize = 64;
/// Four for each text.
const SLOTS: usize = 4 * TEXTS_MAX;

/// What is left of a run, and how it is laid out.
pub(super) struct Layout {
    rows: usize,
    texts: usize,
    gap: usize,
    text_bytes: usize,
    /// Of the number of a row's text: 0 or 1.
    width: usize,
}

impl Layout {
    /// Of a run's header; `None` if there can be no such one.
    pub(super) fn new(width: usize, base: u64) -> Option<Layout> {
        let bits = |from: u32, count: u32| (base >> from) as usize & ((1 << count) - 1);
        let layout = Layout { rows: bits(0, 24), texts: bits(24, 8) + 1, gap: bits(32, 8), text_bytes: bits(40, 24), width };
        (layout.gap < GAP_MAX && (layout.texts == 1) == (width == 0)).then_some(layout)
    }

    fn packing(&self) -> Packing {
        let base = self.rows as u64 | (self.texts as u64 - 1) << 24 | (self.gap as u64) << 32 | (self.text_bytes as u64) << 40;
        Packing { form: Form::Texts, width: self.width, base }
    }

    /// Bytes of the body.
    pub(super) fn packed_bytes(&self) -> usize {
        self.rows * self.width + 2 * self.texts + self.text_bytes
    }

    /// Fills a run from a body of [`Layout::packed_bytes`].
    pub(super) fn read(&self, body: &[u8], run: &mut [u8]) -> Result<(), String> {
        let wrong = || "a run of texts has lengths that cannot be".to_owned();
        let (numbers, rest) = body.split_at(self.rows * self.width);
        let (lengths, bytes) = rest.split_at(2 * self.texts);
        let mut texts: [&[u8]; TEXTS_MAX] = [&[]; TEXTS_MAX];
        let mut rest = bytes;
        for (text, length) in texts.iter_mut().zip(lengths.as_chunks().0) {
            (*text, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or_else(wrong)?;
        }
        let (offsets, after) = run.split_at_mut_checked(4 * (self.rows + 1)).ok_or_else(wrong)?;
        let (gap, data) = after.split_at_mut_checked(self.gap).ok_or_else(wrong)?;
        gap.fill(0);
        let mut at = 0;
        for (row, offset) in offsets.as_chunks_mut().0.iter_mut().enumerate() {
            *offset = (at as u32).to_le_bytes();
            if row < self.rows {
                let number = numbers.get(row).copied().unwrap_or(0);
                let text = texts[usize::from(number)];
                data.get_mut(at..at + text.len()).ok_or_else(wrong)?.copy_from_slice(text);
                at += text.len();
            }
        }
        // Whoever wrote it counted right.
        if at == data.len() && rest.is_empty() { Ok(()) } else { Err(wrong()) }
    }
}

/// A text as two words, which are all of it if it has at most sixteen bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends(u64, u64);

impl Ends {
    #[inline]
    fn of(text: &[u8]) -> Ends {
        match (text.first_chunk(), text.last_chunk()) {
            (Some(first), Some(last)) => Ends(u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => match (text.first_chunk(), text.last_chunk()) {
                (Some(first), Some(last)) => Ends(u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
                _ => Ends(text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
            },
        }
    }

    #[inline]
    fn slot(self, length: usize) -> usize {
        let mixed = (self.0 ^ self.1.rotate_left(29) ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 48) as usize % SLOTS
    }
}

/// Whether a buffer and the one after it are the offsets and the bytes of a column of few texts: what is left of them, in `packed`.
pub(super) fn pack(stream: &[u8], offsets: &Range<usize>, data: &Range<usize>, packed: &mut Vec<u8>) -> Option<Packing> {
    let gap = stream.get(offsets.end..data.start).filter(|gap| gap.len() < GAP_MAX && gap.iter().all(|byte| *byte == 0))?;
    let (offsets, data) = (&stream[offsets.clone()], &stream[data.clone()]);
    let rows =
        (offsets.len() / 4).checked_sub(1).filter(|rows| (1..ROWS_MAX).contains(rows) && offsets.len().is_multiple_of(4))?;
    let (first, last) = (offsets.first_chunk()?, offsets.last_chunk()?);
    if u32::from_le_bytes(*first) != 0 || u32::from_le_bytes(*last) as usize != data.len() {
        return None;
    }
    reserve(packed, rows);
    let mut texts: Vec<(Ends, &[u8])> = Vec::with_capacity(TEXTS_MAX);
    // One more than the number of the text that is there.
    let mut slots = [0u16; SLOTS];
    let mut start = 0;
    for (end, to) in fours(&offsets[4..]).zip(packed.iter_mut()) {
        let text = data.get(start..end as usize)?;
        start = end as usize;
        let ends = Ends::of(text);
        let mut slot = ends.slot(text.len());
        let number = loop {
            let Some(number) = usize::from(slots[slot]).checked_sub(1) else {
                let number = texts.len();
                if number == TEXTS_MAX || number * ROWS_PER_TEXT >= rows || text.len() > usize::from(u16::MAX) {
                    return None;
                }
                slots[slot] = number as u16 + 1;
                texts.push((ends, text));
                break number;
            };
            let (known_ends, known) = texts[number];
            if known_ends == ends && known.len() == text.len() && (text.len() <= 16 || known == text) {
                break number;
            }
            slot = (slot + 1) % SLOTS;
        };
        *to = number as u8;
    }
    let text_bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let layout = Layout { rows, texts: texts.len(), gap: gap.len(), text_bytes, width: usize::from(texts.len() > 1) };
    let length = layout.packed_bytes();
    if text_bytes >= 1 << 24 || length > (offsets.len() + data.len()) / 2 {
        return None;
    }
    reserve(packed, length);
    let (lengths, mut rest) = packed[rows * layout.width..length].split_at_mut(2 * texts.len());
    for ((_, text), length) in texts.iter().zip(lengths.as_chunks_mut().0) {
        *length = (text.len() as u16).to_le_bytes();
        let (to, after) = rest.split_at_mut(text.len());
        to.copy_from_slice(text);
        rest = after;
    }
    Some(layout.packing())
}
