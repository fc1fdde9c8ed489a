//! What the comparison of codecs for exchanged batches works on: made-up bids, in the forms the codecs take.
//!
//! The comparison itself is `benches/exchange_codecs.rs`; `docs/decisions/exchange-codec.md` says what followed from it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::record_batch::RecordBatch;

/// A bid as plain values: auction, bidder, price, date and time in milliseconds, url.
pub type Bid = (u64, u64, u64, u64, String);

/// `rows` bids, a function of their number.
pub fn bids(rows: usize) -> Vec<Bid> {
    (0..rows as u64)
        .map(|row| {
            let mixed = row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let url = format!("https://example.com/{:012x}/item.html?query={}", mixed >> 16, row % 97);
            (1_000 + mixed % 10_000, 1_000 + (mixed >> 20) % 1_000, (mixed >> 40) % 1_000_000, 1_436_918_400_000 + row / 10, url)
        })
        .collect()
}

/// The same bids as an Arrow batch.
pub fn batch(bids: &[Bid]) -> RecordBatch {
    let ints =
        |value: fn(&Bid) -> u64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(bids.iter().map(|bid| value(bid) as i64))) };
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(bids.iter().map(|bid| bid.3 as i64)));
    let urls: ArrayRef = Arc::new(StringArray::from_iter_values(bids.iter().map(|bid| &bid.4)));
    let columns =
        [("auction", ints(|b| b.0)), ("bidder", ints(|b| b.1)), ("price", ints(|b| b.2)), ("time", times), ("url", urls)];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_the_bids() {
        let bids = bids(100);
        let batch = batch(&bids);
        assert_eq!(batch.num_rows(), 100);
        let urls = batch.column(4).as_any().downcast_ref::<StringArray>().expect("strings");
        assert_eq!(urls.value(7), bids[7].4);
    }
}
