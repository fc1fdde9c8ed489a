//! Runs: what is packed how, that it comes back, and what is said of bytes that are none.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

const ROWS: usize = 1_000;

fn bytes_of<const N: usize>(words: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    words.flatten().collect()
}

fn eight(words: impl Iterator<Item = i64>) -> Vec<u8> {
    bytes_of(words.map(i64::to_le_bytes))
}

fn four(words: impl Iterator<Item = i32>) -> Vec<u8> {
    bytes_of(words.map(i32::to_le_bytes))
}

fn sixteen(words: impl Iterator<Item = i128>) -> Vec<u8> {
    bytes_of(words.map(i128::to_le_bytes))
}

/// What is read of what is written.
fn again(packing: Packing, bytes: &[u8]) -> Vec<u8> {
    let mut payload = vec![7; 3];
    let end = packing.push(bytes, &mut Vec::new(), &mut payload, 3);
    decode(&payload[3..end], bytes.len()).unwrap()
}

#[test]
fn numbers_near_each_other_take_fewer_bytes() {
    let rows = ROWS as i64;
    let cases = [
        ("multiplicities", eight((0..rows).map(|_| 1)), Some((Form::Words, 0))),
        ("ids", eight((0..rows).map(|row| 9_000_000_000 + row / 4)), Some((Form::Words, 1))),
        ("below zero", eight((0..rows).map(|row| row - 500)), Some((Form::Words, 2))),
        ("times", eight((0..rows).map(|row| 1_700_000_000_000_000 + row * 1_000_000)), Some((Form::Words, 4))),
        ("too far", eight((0..rows).map(|row| row * 0x1_2345_6789)), None),
        ("both ends", eight((0..rows).map(|row| if row % 2 == 0 { i64::MIN } else { i64::MAX })), None),
        ("sums", sixteen((0..rows).map(|row| i128::from(row) - 128)), Some((Form::Wide, 2))),
        ("far sums", sixteen((0..rows).map(|row| i128::from(row * row) << 30)), Some((Form::Wide, 8))),
        (
            "all there are",
            sixteen([i64::MIN.into(), i64::MAX.into(), -1, 0].into_iter().cycle().take(ROWS)),
            Some((Form::Wide, 8)),
        ),
        ("too wide", sixteen((0..rows).map(|row| i128::from(row) * 0x7234_5678_90ab_cdef)), None),
        ("offsets", four((0..=rows as i32).map(|row| row * 100)), Some((Form::Steps, 1))),
        ("offsets of long texts", four((0..=rows as i32).map(|row| row * 1_000)), Some((Form::Steps, 2))),
        ("codes", four((0..=rows as i32).map(|row| row * 7_919 % 251 - 1)), Some((Form::Halves, 1))),
        ("days", four((0..=rows as i32).map(|row| 19_000 + row * 7_919 % 1_009)), Some((Form::Halves, 2))),
        ("odd", vec![1; 1_025], None),
    ];
    for (name, bytes, expected) in cases {
        let packing = Packing::of(&bytes);
        assert_eq!(packing.map(|packing| (packing.form, packing.width)), expected, "{name}");
        let Some(packing) = packing else { continue };
        assert_eq!(again(packing, &bytes), bytes, "{name}");
        assert!(packing.packed_bytes(bytes.len()) <= bytes.len() / 2, "{name}");
    }
}

#[test]
fn any_numbers_come_back() {
    let mut random = SmallRng::seed_from_u64(7);
    let mut packed = [0; 5];
    for _ in 0..4_000 {
        let bits = random.gen_range(0..64);
        let base: i64 = random.r#gen();
        let mut number = || base.wrapping_add((random.r#gen::<u64>() & ((1 << bits) - 1)) as i64);
        let numbers: Vec<i64> = (0..300).map(|_| number()).collect();
        let bytes = match bits % 3 {
            0 => eight(numbers.into_iter()),
            1 => sixteen(numbers.into_iter().map(i128::from)),
            _ if bits < 32 => four(numbers.into_iter().map(|number| number as i32)),
            _ => four((0..300).map(|number| number << (bits % 8))),
        };
        if let Some(packing) = Packing::of(&bytes) {
            packed[packing.form as usize] += 1;
            assert_eq!(again(packing, &bytes), bytes, "{packing:?}");
        }
    }
    assert!(packed[1..].iter().all(|count| *count > 100), "{packed:?}");
}

/// A stream of one batch, of numbers and texts.
fn stream(rows: usize) -> Vec<u8> {
    let numbers = 0..rows as i64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter(numbers.clone().map(|row| (row % 7 > 0).then_some(row))))),
        ("name", Arc::new(StringArray::from_iter_values(numbers.clone().map(|row| format!("name {}", row % 13))))),
        ("sum", Arc::new(Decimal128Array::from_iter_values(numbers.clone().map(i128::from)))),
        ("day", Arc::new(Int32Array::from_iter_values(numbers.map(|row| 19_000 + row as i32 % 9)))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn the_columns_of_a_stream_are_found() {
    let stream = stream(ROWS);
    let mut payload = Vec::new();
    let end = encode(&stream, &mut Vec::new(), &mut payload, 0).unwrap();
    assert!(end < stream.len() / 5, "{end} of {}", stream.len());
    assert!(decode(&payload[..end], stream.len()).unwrap() == stream);
    // Ids, offsets, sums and days, of each batch.
    assert_eq!(buffers(&stream).iter().filter(|range| Packing::of(&stream[(*range).clone()]).is_some()).count(), 8);
}

#[test]
fn what_has_no_columns_worth_it_is_left_to_others() {
    for stream in [stream(10), Vec::new(), vec![0xff; 5_000], vec![0; 5_000]] {
        assert_eq!(encode(&stream, &mut Vec::new(), &mut Vec::new(), 0), None);
    }
}

#[test]
fn any_bytes_may_be_given() {
    let stream = stream(ROWS);
    let mut payload = Vec::new();
    let end = encode(&stream, &mut Vec::new(), &mut payload, 0).unwrap();
    payload.truncate(end);
    let mut random = SmallRng::seed_from_u64(8);
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut changed = payload.clone();
        for _ in 0..random.gen_range(1..4) {
            let at = random.gen_range(0..changed.len().min(400));
            changed[at] = random.r#gen();
        }
        changed.truncate(random.gen_range(changed.len() / 2..changed.len() * 3 / 2).min(changed.len()));
        refused += u32::from(decode(&changed, stream.len()).is_err());
    }
    assert!(refused > 2_000, "{refused}");
    let run =
        |form, width, raw: u8, body: &[u8]| [&[form, width, raw, 0, 0, 0, body.len() as u8, 0, 0, 0], &[0; 8][..], body].concat();
    for (runs, what) in [
        (vec![1; 17], "ends within the header of a run"),
        (run(6, 0, 8, &[]), "no form that is known"),
        (run(5, 1, 8, &[]), "no form that is known"),
        (run(5, 0, 8, &[0; 2]), "lengths that cannot be"),
        (
            [&[5, 1, 8, 0, 0, 0, 1, 0, 0, 0], &[0xff, 0xff, 0xff, 1, 0, 0, 0, 0][..], &[1]].concat(),
            "1 bytes of a run cannot stand for 8",
        ),
        (run(1, 8, 8, &[]), "no form that is known"),
        (run(1, 3, 8, &[]), "no form that is known"),
        (run(0, 1, 8, &[]), "no form that is known"),
        (run(0, 0, 8, &[1; 8])[..20].to_vec(), "ends within a run"),
        (run(1, 1, 16, &[1; 2]), "come to more"),
        (run(4, 1, 4, &[1]), "come to less"),
        (run(1, 1, 8, &[1; 2]), "2 bytes of a run cannot stand for 8"),
        (run(1, 1, 6, &[]), "0 bytes of a run cannot stand for 6"),
        (run(0, 0, 8, &[1; 7]), "run"),
        (Vec::new(), "come to less"),
    ] {
        let error = decode(&runs, 8).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
    assert_eq!(decode(&run(1, 1, 8, &[1]), 8).unwrap().len(), 8);
}

/// Offsets, zeros and bytes of texts, as a message has them.
fn column(texts: &[Vec<u8>], gap: usize) -> (Vec<u8>, Range<usize>, Range<usize>) {
    let mut end = 0;
    let ends = texts.iter().map(|text| {
        end += text.len() as i32;
        end
    });
    let mut bytes = four(std::iter::once(0).chain(ends));
    let offsets = 0..bytes.len();
    bytes.resize(bytes.len() + gap, 0);
    let data = bytes.len()..bytes.len() + end as usize;
    bytes.extend(texts.concat());
    (bytes, offsets, data)
}

#[test]
fn few_texts_are_told_once() {
    let mut random = SmallRng::seed_from_u64(9);
    let mut packed = Vec::new();
    for number in 0..200 {
        let longest = [1, 8, 9, 20, 300][number % 5];
        let different = [1, 2, 30, 256, 257][number / 5 % 5];
        // Texts that begin and end alike, too.
        let mut text = |at: usize| -> Vec<u8> {
            let length = if longest == 1 { at % 2 } else { random.gen_range(0..=longest) };
            let middle = (0..length).map(|_| b'a' + random.gen_range(0..2));
            [b"first 8 ".repeat(at % 2), at.to_le_bytes()[..at.div_ceil(256)].to_vec(), middle.collect()].concat()
        };
        let texts: Vec<Vec<u8>> = (0..different).map(&mut text).collect();
        let rows: Vec<Vec<u8>> = (0..4 * different.max(300)).map(|row| texts[row * 7 % different].clone()).collect();
        let distinct = std::collections::HashSet::<&Vec<u8>>::from_iter(&rows).len();
        let (bytes, offsets, data) = column(&rows, random.gen_range(0..64));
        let packing = texts::pack(&bytes, &offsets, &data, &mut packed);
        assert!(packing.is_some() || distinct > 256 || bytes.len() < 8 * rows.len(), "{distinct} texts of {longest}");
        let Some(packing) = packing else { continue };
        assert_eq!((packing.form, packing.width), (Form::Texts, usize::from(distinct > 1)));
        let mut payload = Vec::new();
        let end = packing.push(&bytes, &mut packed, &mut payload, 0);
        assert!(decode(&payload[..end], bytes.len()).unwrap() == bytes, "{distinct} texts of {longest}");
        for _ in 0..20 {
            let mut changed = payload[..end].to_vec();
            let at = random.gen_range(0..changed.len().min(40 + 2 * distinct));
            changed[at] = random.r#gen();
            let _ = decode(&changed, bytes.len());
        }
    }
}

#[test]
fn what_is_no_column_of_few_texts_is_none() {
    let texts = |of: &dyn Fn(usize) -> String| -> Vec<Vec<u8>> { (0..ROWS).map(|row| of(row).into_bytes()).collect() };
    let pack = |(bytes, offsets, data): (Vec<u8>, Range<usize>, Range<usize>)| {
        texts::pack(&bytes, &offsets, &data, &mut Vec::new()).is_some()
    };
    let few = texts(&|row| format!("text {}", row % 9));
    assert!(pack(column(&few, 3)));
    assert!(!pack(column(&texts(&|row| format!("text {row}")), 0)), "all are different");
    assert!(!pack(column(&texts(&|row| format!("text {}", row / 3)), 0)), "a third is");
    assert!(!pack(column(&texts(&|_| "long ".repeat(20_000)), 0)), "too long");
    assert!(!pack(column(&few, 64)), "too far from each other");
    let (bytes, offsets, data) = column(&few, 3);
    for (at, value, what) in
        [(0, 1, "a beginning"), (3, 1, "a beginning"), (offsets.end - 4, 9, "an end"), (offsets.end, 1, "zeros")]
    {
        let mut changed = bytes.clone();
        changed[at] = value;
        assert!(!pack((changed, offsets.clone(), data.clone())), "{what}");
    }
    let mut backwards = bytes.clone();
    backwards[400..404].copy_from_slice(&[1, 0, 0, 0]);
    assert!(!pack((backwards, offsets.clone(), data.clone())));
    assert!(!pack((bytes.clone(), offsets.start..offsets.end - 1, data.clone())));
    assert!(!pack((bytes, data.clone(), offsets)), "the wrong way round");
}
