//! Encodes and decodes the same batch of bids with every codec that came into question for exchange between processes.
//!
//! `cargo bench -p highwater-bench-codecs`. Each figure is the median of 15 runs; compare figures of one run only.

use std::hint::black_box;
use std::time::Instant;

use arrow::array::{Array, ArrayData, RecordBatch, make_array};
use arrow::buffer::Buffer;
use highwater_bench_codecs::{Bid, batch, bids};

const ROWS: usize = 8_192;
const RUNS: usize = 15;

fn main() {
    let rows = bids(ROWS);
    let arrow = batch(&rows);
    println!("{:<30}{:>12}{:>12}{:>12}", "codec", "encode ns/r", "decode ns/r", "bytes/row");
    report("abomonation (rows)", || abomonation_encode(&rows), abomonation_decode);
    report(
        "bincode 1 (rows)",
        || bincode::serialize(&rows).expect("plain values"),
        |bytes| {
            let back: Vec<Bid> = bincode::deserialize(bytes).expect("just encoded");
            back.len()
        },
    );
    report("columnar (columns)", || columnar_encode(&rows), columnar_decode);
    report(
        "arrow IPC stream",
        || ipc_encode(&arrow),
        |bytes| {
            let mut reader = arrow::ipc::reader::StreamReader::try_new(bytes, None).expect("just encoded");
            reader.next().expect("one batch").expect("just encoded").num_rows()
        },
    );
    let template = arrow.clone();
    report("arrow buffers, schema known", || raw_encode(&arrow), |bytes| raw_decode(bytes, &template));
}

fn report(name: &str, mut encode: impl FnMut() -> Vec<u8>, mut decode: impl FnMut(&[u8]) -> usize) {
    let encoded = encode();
    assert_eq!(decode(&encoded), ROWS, "{name} gives back what it took");
    let median = |run: &mut dyn FnMut()| {
        let mut times: Vec<f64> = (0..RUNS)
            .map(|_| {
                let started = Instant::now();
                (0..20).for_each(|_| run());
                started.elapsed().as_nanos() as f64 / (20 * ROWS) as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[RUNS / 2]
    };
    let encoding = median(&mut || {
        black_box(encode());
    });
    let decoding = median(&mut || {
        black_box(decode(&encoded));
    });
    println!("{name:<30}{encoding:>12.2}{decoding:>12.2}{:>12.1}", encoded.len() as f64 / ROWS as f64);
}

fn abomonation_encode(rows: &Vec<Bid>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // SAFETY: the bytes stay in this process; what abomonation writes of padding is never looked at.
    unsafe { abomonation::encode(rows, &mut bytes).expect("writing to memory") };
    bytes
}

fn abomonation_decode(bytes: &[u8]) -> usize {
    // Decoding rewrites the bytes in place, so they are copied first, as a receiver would.
    let mut bytes = bytes.to_vec();
    // SAFETY: the bytes were written by `abomonation_encode` for the same type, and the copy is well aligned.
    let (rows, _) = unsafe { abomonation::decode::<Vec<Bid>>(&mut bytes) }.expect("just encoded");
    rows.len()
}

fn columnar_encode(rows: &[Bid]) -> Vec<u8> {
    use columnar::{AsBytes, Borrow, Columnar};
    let columns = <Bid as Columnar>::as_columns(rows.iter());
    let mut bytes = Vec::new();
    for (align, slice) in columns.borrow().as_bytes() {
        bytes.extend_from_slice(&align.to_le_bytes());
        bytes.extend_from_slice(&(slice.len() as u64).to_le_bytes());
        bytes.extend_from_slice(slice);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

fn columnar_decode(bytes: &[u8]) -> usize {
    // The first slice holds the auctions' words: its length tells the rows. Reading is borrowing: nothing is copied.
    let length = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes")) as usize;
    length / 8
}

fn ipc_encode(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).expect("writing to memory");
    writer.write(batch).expect("writing to memory");
    writer.finish().expect("writing to memory");
    drop(writer);
    bytes
}

/// Row count, then each column's buffers with their lengths, each at a multiple of eight bytes.
fn raw_encode(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(batch.num_rows() as u64).to_le_bytes());
    for column in batch.columns() {
        for buffer in column.to_data().buffers() {
            bytes.extend_from_slice(&(buffer.len() as u64).to_le_bytes());
            bytes.extend_from_slice(buffer.as_slice());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
    }
    bytes
}

fn raw_decode(bytes: &[u8], template: &RecordBatch) -> usize {
    let whole = Buffer::from(bytes);
    let word = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().expect("eight bytes")) as usize;
    let (rows, mut at) = (word(0), 8);
    let columns = template.columns().iter().map(|column| {
        let count = column.to_data().buffers().len();
        let buffers = (0..count).map(|_| {
            let length = word(at);
            let buffer = whole.slice_with_length(at + 8, length);
            at += 8 + length.next_multiple_of(8);
            buffer
        });
        let data =
            ArrayData::builder(column.data_type().clone()).len(rows).buffers(buffers.collect()).build().expect("just encoded");
        make_array(data)
    });
    let columns = columns.collect();
    RecordBatch::try_new(template.schema(), columns).expect("just encoded").num_rows()
}
