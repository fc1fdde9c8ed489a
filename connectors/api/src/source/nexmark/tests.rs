//! Known answers, and the same stream however it is cut.

use std::collections::BTreeMap;

use ::nexmark::EventGenerator;
use ::nexmark::config::{NexmarkConfig, RateShape};
use ::nexmark::event::Event as Known;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit};
use highwater_plan::Options;

use super::*;
use crate::format::encode;

fn of_kind(kind: Kind) -> Fields {
    let field = |field: &event::Field| {
        let data_type = match field.holds {
            event::Holds::Number => DataType::Int64,
            event::Holds::Time => DataType::Timestamp(TimeUnit::Millisecond, None),
            event::Holds::Text => DataType::Utf8,
        };
        Field::new(field.name, data_type, true)
    };
    event::fields(kind).iter().map(field).collect()
}

fn whole() -> Schema {
    Schema::new(vec![
        Field::new("event_type", DataType::Int32, false),
        Field::new("person", DataType::Struct(of_kind(Kind::Person)), true),
        Field::new("auction", DataType::Struct(of_kind(Kind::Auction)), true),
        Field::new("bid", DataType::Struct(of_kind(Kind::Bid)), true),
    ])
}

fn spec(schema: Schema, used: &[usize], pairs: &[(&str, &str)]) -> SourceSpec {
    SourceSpec {
        name: "events".into(),
        schema: Arc::new(schema),
        used: used.to_vec(),
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        options: Options::from_pairs(pairs.iter().copied().chain([("connector", "nexmark")])),
        keeps_origin: true,
        workers: 1,
        log: None,
    }
}

fn nothing() -> Waker {
    Arc::new(|| {})
}

/// All batches of all partitions.
fn batches(spec: &SourceSpec) -> Vec<SourceBatch> {
    let source = Nexmark.open(spec).expect("good options");
    let mut batches = Vec::new();
    for partition in source.partitions().expect("partitions") {
        let mut reader = source.read(&partition, None, nothing()).expect("a reader");
        loop {
            match reader.poll(777).expect("no errors") {
                Polled::Batch(batch) => batches.push(batch),
                Polled::Pending(_) | Polled::Waiting(_) => panic!("without a rate all rows are due"),
                Polled::Finished => break,
            }
        }
    }
    batches
}

fn lines(batches: &[SourceBatch]) -> Vec<String> {
    let mut text = Vec::new();
    batches.iter().for_each(|batch| encode::ndjson(&batch.rows, &mut text).expect("all types have JSON"));
    String::from_utf8(text).expect("JSON is UTF-8").lines().map(str::to_string).collect()
}

/// The event as the crate makes it, with its times made exact.
fn known(number: u64, event: Known) -> String {
    let time = |ms: i64| {
        let mut text = Vec::new();
        crate::format::time::write_timestamp(ms, TimeUnit::Millisecond, &mut text);
        String::from_utf8(text).expect("digits")
    };
    let at = event::time_ms(number);
    match event {
        Known::Person(e) => format!(
            r#"{{"event_type":0,"person":{{"id":{},"name":"{}","emailAddress":"{}","creditCard":"{}","city":"{}","state":"{}","dateTime":"{}","extra":"{}"}},"auction":null,"bid":null}}"#,
            e.id,
            e.name,
            e.email_address,
            e.credit_card,
            e.city,
            e.state,
            time(at),
            e.extra
        ),
        Known::Auction(e) => format!(
            r#"{{"event_type":1,"person":null,"auction":{{"id":{},"itemName":"{}","description":"{}","initialBid":{},"reserve":{},"dateTime":"{}","expires":"{}","seller":{},"category":{},"extra":"{}"}},"bid":null}}"#,
            e.id,
            e.item_name,
            e.description,
            e.initial_bid,
            e.reserve,
            time(at),
            time(at + e.expires as i64 - e.date_time as i64),
            e.seller,
            e.category,
            e.extra
        ),
        Known::Bid(e) => format!(
            r#"{{"event_type":2,"person":null,"auction":null,"bid":{{"auction":{},"bidder":{},"price":{},"channel":"{}","url":"{}","dateTime":"{}","extra":"{}"}}}}"#,
            e.auction,
            e.bidder,
            e.price,
            e.channel,
            e.url,
            time(at),
            e.extra
        ),
    }
}

fn generator() -> EventGenerator {
    let words = |text: &str| text.split(',').map(str::to_string).collect();
    EventGenerator::new(NexmarkConfig {
        base_time: 1_436_918_400_000,
        first_rate: 10_000,
        next_rate: 10_000,
        rate_shape: RateShape::Square,
        us_states: words("AZ,CA,ID,OR,WA,WY"),
        us_cities: words("Phoenix,Los Angeles,San Francisco,Boise,Portland,Bend,Redmond,Seattle,Kent,Cheyenne"),
        first_names: words("Peter,Paul,Luke,John,Saul,Vicky,Kate,Julie,Sarah,Deiter,Walter"),
        last_names: words("Shultz,Abrams,Spencer,White,Bartels,Walton,Smith,Jones,Noris"),
        ..NexmarkConfig::default()
    })
}

#[test]
fn the_stream_is_the_crates_stream() {
    let ours = lines(&batches(&spec(whole(), &[0, 1, 2, 3], &[("events", "30000")])));
    assert_eq!(ours.len(), 30_000);
    for (number, (ours, theirs)) in ours.iter().zip(generator()).enumerate() {
        assert_eq!(*ours, known(number as u64, theirs), "event {number}");
    }
}

#[test]
fn it_is_the_crates_stream_far_out_too() {
    // There the crate's own times, of which the auctions' lengths are made, have lost their last digits.
    let far = 123_456_000;
    let source = Nexmark.open(&spec(whole(), &[0, 1, 2, 3], &[])).expect("good options");
    let offset = Offset::new(format_args!("event {far} of 1 partitions"));
    let mut reader = source.read(&PartitionId::new("0"), Some(&offset), nothing()).expect("a reader");
    let Polled::Batch(batch) = reader.poll(2_000).expect("no errors") else { panic!("rows are due") };
    for (place, (ours, theirs)) in lines(&[batch]).iter().zip(generator().with_offset(far)).enumerate() {
        assert_eq!(*ours, known(far + place as u64, theirs));
    }
}

#[test]
fn of_200_000_events_so_many_are_of_each_kind() {
    let mut kinds = BTreeMap::new();
    for batch in batches(&spec(whole(), &[0], &[("events", "200000")])) {
        for kind in batch.rows.column(0).as_primitive::<Int32Type>().values() {
            *kinds.entry(*kind).or_insert(0) += 1;
        }
    }
    assert_eq!(kinds, BTreeMap::from([(0, 4_000), (1, 12_000), (2, 184_000)]));
}

#[test]
fn any_number_of_partitions_has_the_same_rows() {
    let sorted = |partitions: &str| {
        let mut lines = lines(&batches(&spec(whole(), &[0, 1, 2, 3], &[("events", "10500"), ("partitions", partitions)])));
        lines.sort();
        lines
    };
    let one = sorted("1");
    assert_eq!(one, sorted("2"));
    assert_eq!(one, sorted("4"));
    assert_eq!(one, sorted("40"));
}

#[test]
fn one_kind_has_flat_columns_and_only_what_is_used() {
    let schema = Schema::new(of_kind(Kind::Bid));
    let bids = batches(&spec(schema.clone(), &[0, 2], &[("events", "5000"), ("type", "bid")]));
    assert_eq!(bids.iter().map(|batch| batch.rows.num_rows()).sum::<usize>(), 4_600);
    let everything = batches(&spec(schema, &[0, 1, 2, 3, 4, 5, 6], &[("events", "5000"), ("type", "bid")]));
    for (some, all) in bids.iter().zip(&everything) {
        assert_eq!(some.rows, all.rows.project(&[0, 2]).expect("columns"));
        // The origin gives back what was not drawn.
        let picked: Vec<u32> = vec![3, 0, 3];
        let whole = some.origin.as_ref().expect("asked for").rows(&picked).expect("rows");
        let expected = all.origin.as_ref().expect("asked for").rows(&picked).expect("rows");
        assert_eq!(whole, expected);
        assert_eq!(whole.num_columns(), 7);
    }
}

#[test]
fn reading_goes_on_at_an_offset() {
    let spec = spec(whole(), &[0, 3], &[("events", "12000"), ("partitions", "3")]);
    let all = batches(&spec);
    let source = Nexmark.open(&spec).expect("good options");
    let middle = all.iter().position(|batch| batch.offset.0.starts_with("event 3")).expect("a batch of partition 0");
    let mut reader = source.read(&PartitionId::new("0"), Some(&all[middle].offset), nothing()).expect("a reader");
    let Polled::Batch(next) = reader.poll(777).expect("no errors") else { panic!("rows are due") };
    assert_eq!(next.rows, all[middle + 1].rows);
    let error = source.read(&PartitionId::new("0"), Some(&Offset::new("event 0 of 2 partitions")), nothing());
    assert!(error.err().expect("other partitions").message.contains("partitions = '2'"));
}

#[test]
fn what_the_stream_does_not_have_is_named() {
    let open = |name: &str, data_type: DataType, kind: &str| {
        let schema = Schema::new(vec![Field::new(name, data_type, true)]);
        let error = Nexmark.open(&spec(schema, &[0], &[("type", kind)])).err().expect("a mistake");
        format!("{}; {}", error.message, error.help.unwrap_or_default())
    };
    assert_eq!(
        open("seller", DataType::Int64, "bid"),
        "connector 'nexmark' has no column 'seller'; columns: auction, bidder, price, channel, url, dateTime, extra"
    );
    assert!(
        open("price", DataType::Utf8, "bid").contains("'price' of connector 'nexmark' cannot be VARCHAR; declare it as BIGINT")
    );
    assert!(open("bids", DataType::Int64, "all").contains("event_type, person, auction, bid"));
    assert!(open("bid", DataType::Int64, "all").contains("ROW<auction, bidder"));
}

#[test]
fn at_a_rate_rows_come_when_they_are_due() {
    let spec = spec(whole(), &[0], &[("rate", "0.001")]);
    let source = Nexmark.open(&spec).expect("good options");
    let mut reader = source.read(&PartitionId::new("0"), None, nothing()).expect("a reader");
    assert!(matches!(reader.poll(10), Ok(Polled::Pending(Some(wait))) if wait.as_secs() > 900));
}
