//! The store in an S3 server that is not ours.

use highwater_broker::Bucket;
use highwater_store::{Kind, Span, Store};

use super::crashes::folder;
use super::*;

fn store(bucket: &Bucket, create: bool) -> Result<Store> {
    let options = bucket.options();
    let options: Vec<(&str, &str)> = options.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let open = if create { Store::create_with } else { Store::open_with };
    open("s3://bucket/some/prefix", &options)
}

#[test]
fn a_bucket_is_a_store() {
    let bucket = Bucket::start();
    assert!(matches!(store(&bucket, false), Err(StoreError::NotAStore { .. })));
    let job = store(&bucket, true).unwrap().job("orders").unwrap();
    assert_eq!(job.latest().unwrap(), None);
    let writer = job.claim(options(1)).unwrap();
    for epoch in 1..=4 {
        writer.commit(increment(epoch, vec![section("k", [("a", 1)])])).unwrap();
    }
    writer.savepoint("nightly").unwrap();
    writer.compact(Span::All, &*folder()).unwrap().unwrap();
    writer.commit(increment(5, vec![section("k", [("a", 1)])])).unwrap();
    assert_eq!(newest(&job).unwrap().1["k"]["a"], 5);

    // Put-if-absent is what fences.
    let second = store(&bucket, false).unwrap().job("orders").unwrap().claim(options(2)).unwrap();
    assert!(matches!(writer.commit(increment(6, vec![section("k", [("wrong", 1)])])), Err(StoreError::Fenced { .. })));

    // A file of several parts, and a copy of it under another job's name.
    let mut seed = 1u64;
    let numbers = (0..10 << 17).map(|_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed as i64
    });
    let numbers: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let large = Section::new("large", batch.schema(), vec![batch]);
    let manifest = second.commit(increment(7, vec![large.clone()])).unwrap();
    let other = store(&bucket, false).unwrap().job("copy").unwrap();
    other.claim(options(3)).unwrap().adopt(&job, &manifest).unwrap();
    let read = other.read(&other.latest().unwrap().unwrap(), ReadOptions::default().only(|key| key == "large"));
    assert_eq!(read.unwrap().map(|section| section.unwrap()).collect::<Vec<_>>(), [large]);

    for epoch in 8..=12 {
        let checkpoint = Checkpoint { keep: Keep::None, ..increment(epoch, vec![section("k", [("a", 1)])]) };
        second.commit(checkpoint).unwrap();
    }
    let kinds: Vec<Option<Kind>> = job.list().unwrap().into_iter().map(|info| info.kind).collect();
    let nightly = Kind::Savepoint { name: "nightly".into() };
    assert_eq!(kinds, [Some(Kind::Checkpoint), Some(Kind::Checkpoint), Some(Kind::Checkpoint), Some(nightly)]);
    assert_eq!(state_of(&job, &job.at("nightly").unwrap()).unwrap()["k"]["a"], 4);
    assert_eq!(store(&bucket, false).unwrap().jobs().unwrap(), ["copy", "orders"]);

    // What is removed is missed.
    let newest = job.latest().unwrap().unwrap();
    bucket.delete(&format!("some/prefix/jobs/orders/{}", newest.files[0].path));
    let error = job.latest().unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }) && error.to_string().contains(&newest.files[0].path), "{error}");
}
