//! The source on a real broker.

mod failures;
mod messages;

use std::sync::atomic::Ordering;

use highwater_broker::Broker;
use highwater_connectors::source::{Backlog, Offset, PartitionId, Source};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::Producer;

use crate::support::{
    PATIENCE, Reading, Stand, add_partitions, config, open, produce, rows, send, topic, transactional, unique, wait,
};

fn names(source: &dyn Source) -> Vec<String> {
    source.partitions().unwrap().iter().map(PartitionId::to_string).collect()
}

#[test]
fn partitions_are_read_on_from_their_offsets() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "resume", 2);
    produce(&brokers, &topic, 0, rows(0..5_000));
    produce(&brokers, &topic, 1, rows(10_000..10_003));
    let source = open(&brokers, &topic, &[]);
    assert!(!source.bounded());
    assert_eq!(source.rows(), None);
    assert_eq!(names(&*source), ["0", "1"]);
    let (mut zero, mut one) = (Reading::of(&*source, "0", None), Reading::of(&*source, "1", None));
    zero.until_rows(1);
    let middle = (zero.offset().to_owned(), zero.ids.len());
    zero.until(Stand::AtEnd);
    one.until(Stand::AtEnd);
    assert_eq!(zero.ids, (0..5_000).collect::<Vec<_>>());
    assert!(zero.batches.iter().all(|batch| batch.rows.num_rows() <= 1_000), "no more than asked for");
    assert_eq!(one.ids, [10_000, 10_001, 10_002]);
    assert_eq!((zero.offset(), one.offset()), ("5000", "3"));
    assert_eq!(zero.reader.backlog(), Some(Backlog::default()));
    drop((zero, one, source));

    let source = open(&brokers, &topic, &[]);
    let mut rest = Reading::of(&*source, "0", Some(&middle.0));
    rest.until(Stand::AtEnd);
    assert_eq!(rest.ids, (middle.1 as i64..5_000).collect::<Vec<_>>());
    assert_eq!(middle.0, middle.1.to_string());
}

#[test]
fn several_topics_are_one_source() {
    let brokers = Broker::shared().bootstrap();
    let (left, right) = (topic(&brokers, "left", 1), topic(&brokers, "right", 2));
    produce(&brokers, &right, 1, rows(7..8));
    let source = open(&brokers, &format!("{left}, {right}"), &[]);
    assert_eq!(names(&*source), [format!("{left}/0"), format!("{right}/0"), format!("{right}/1")]);
    let mut reading = Reading::of(&*source, &format!("{right}/1"), None);
    reading.until(Stand::AtEnd);
    assert_eq!(reading.ids, [7]);
}

#[test]
fn the_worker_is_woken_when_rows_arrive_at_the_end() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "woken", 1);
    let source = open(&brokers, &topic, &[]);
    let mut reading = Reading::of(&*source, "0", None);
    assert_eq!(reading.step(), Ok(Stand::Waiting), "that the log is empty is not known yet");
    reading.until(Stand::AtEnd);
    for round in 0..3 {
        let before = reading.woken.load(Ordering::Relaxed);
        produce(&brokers, &topic, 0, rows(round..round + 1));
        wait("being woken", || (reading.woken.load(Ordering::Relaxed) > before).then_some(()));
        reading.until_rows(round as usize + 1);
        reading.until(Stand::AtEnd);
    }
    assert_eq!(reading.ids, [0, 1, 2]);
}

#[test]
fn reading_starts_where_the_options_say() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "start", 2);
    produce(&brokers, &topic, 0, rows(0..3));
    produce(&brokers, &topic, 1, rows(10..13));
    std::thread::sleep(std::time::Duration::from_millis(5));
    let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    std::thread::sleep(std::time::Duration::from_millis(5));
    produce(&brokers, &topic, 0, rows(3..5));
    let read = |start: &str, more: &[(&str, &str)]| {
        let source = open(&brokers, &topic, &[&[("start", start)], more].concat());
        let mut readings = [Reading::of(&*source, "0", None), Reading::of(&*source, "1", None)];
        readings.each_mut().map(|reading| {
            reading.until(Stand::AtEnd);
            std::mem::take(&mut reading.ids)
        })
    };
    assert_eq!(read("earliest", &[]), [vec![0, 1, 2, 3, 4], vec![10, 11, 12]]);
    assert_eq!(read("latest", &[]), [Vec::<i64>::new(), vec![]]);
    assert_eq!(read(&time, &[]), [vec![3, 4], vec![]]);
    assert_eq!(read("1:2", &[]), [vec![0, 1, 2, 3, 4], vec![12]]);
    assert_eq!(read("0:4, 1:3", &[]), [vec![4], vec![]]);

    // What the group is told after a checkpoint is where it stands.
    let group = unique("group");
    assert_eq!(read("committed", &[("group", &group)]), [vec![0, 1, 2, 3, 4], vec![10, 11, 12]]);
    let source = open(&brokers, &topic, &[("group", &group)]);
    source.committed(&[(PartitionId::new("0"), Offset::new(2)), (PartitionId::new("1"), Offset::new(3))]);
    let client: BaseConsumer = config(&brokers).set("group.id", &group).create().unwrap();
    wait("the group's offsets", || {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, 0);
        let committed = client.committed_offsets(list, PATIENCE).ok()?;
        (committed.elements()[0].offset() == rdkafka::Offset::Offset(2)).then_some(())
    });
    assert_eq!(read("committed", &[("group", &group)]), [vec![2, 3, 4], vec![]]);
}

#[test]
fn a_latest_start_is_where_the_log_ended_when_reading_began() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "latest", 1);
    produce(&brokers, &topic, 0, rows(0..3));
    let source = open(&brokers, &topic, &[("start", "latest")]);
    let mut reading = Reading::of(&*source, "0", None);
    produce(&brokers, &topic, 0, rows(3..5));
    reading.until_rows(2);
    assert_eq!(reading.ids, [3, 4]);
}

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "added", 1);
    let source = open(&brokers, &topic, &[("start", "latest")]);
    let mut first = Reading::of(&*source, "0", None);
    first.until(Stand::AtEnd);
    add_partitions(&brokers, &topic, 3);
    wait("new partitions", || (names(&*source) == ["0", "1", "2"]).then_some(()));
    produce(&brokers, &topic, 2, rows(20..22));
    let mut added = Reading::of(&*source, "2", None);
    added.until_rows(2);
    assert_eq!(added.ids, [20, 21]);
    produce(&brokers, &topic, 0, rows(0..1));
    first.until_rows(1);

    // A job that goes on from a checkpoint has not read them, whatever `start` says.
    let source = open(&brokers, &topic, &[("start", "latest")]);
    source.resumes();
    let mut added = Reading::of(&*source, "2", None);
    added.until_rows(2);
    assert_eq!(added.ids, [20, 21]);
}

#[test]
fn a_bounded_source_ends_where_the_log_ended() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "bounded", 3);
    produce(&brokers, &topic, 0, rows(0..10));
    // Ends with the end of an aborted transaction, which no message tells.
    let producer = transactional(&brokers, &unique("bounded"));
    produce(&brokers, &topic, 1, rows(20..22));
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 1, None, Some("{\"id\":99}"));
    producer.flush(PATIENCE).unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
    let source = open(&brokers, &topic, &[("until_end", "true")]);
    assert!(source.bounded());
    assert_eq!(source.rows(), Some(14), "10, and 2 with an aborted one and its end");
    produce(&brokers, &topic, 0, rows(10..20));
    produce(&brokers, &topic, 2, rows(30..31));
    let mut readings = ["0", "1", "2"].map(|partition| Reading::of(&*source, partition, None));
    for reading in &mut readings {
        reading.until(Stand::Finished);
        assert_eq!(reading.step(), Ok(Stand::Finished));
    }
    assert_eq!(readings.map(|reading| reading.ids), [(0..10).collect(), vec![20, 21], vec![]]);
}

#[test]
fn only_what_is_committed_is_read() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "committed", 1);
    let producer = transactional(&brokers, &unique("source"));
    let transaction = |id: i64, commit: bool| {
        producer.begin_transaction().unwrap();
        send(&producer, &topic, 0, None, Some(&format!("{{\"id\":{id}}}")));
        producer.flush(PATIENCE).unwrap();
        if commit { producer.commit_transaction(PATIENCE).unwrap() } else { producer.abort_transaction(PATIENCE).unwrap() }
    };
    transaction(1, true);
    transaction(2, false);
    let source = open(&brokers, &topic, &[]);
    let mut reading = Reading::of(&*source, "0", None);
    // The position passes the aborted message and the ends of transactions: were the log cut there, nothing would be missed.
    wait("the log's end", || {
        reading.step().unwrap();
        (reading.offset() == "4").then_some(())
    });
    assert_eq!(reading.ids, [1]);
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 0, None, Some("{\"id\":3}"));
    producer.flush(PATIENCE).unwrap();
    let all = open(&brokers, &topic, &[("isolation", "read_uncommitted")]);
    let mut uncommitted = Reading::of(&*all, "0", None);
    uncommitted.until_rows(3);
    assert_eq!(uncommitted.ids, [1, 2, 3]);
    assert_eq!(reading.step(), Ok(Stand::AtEnd));
    producer.commit_transaction(PATIENCE).unwrap();
    reading.until_rows(2);
    assert_eq!(reading.ids, [1, 3]);
}

#[test]
fn what_waits_is_counted_and_what_is_queued_is_bounded() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "queued", 1);
    let text = "x".repeat(1_000);
    let total = 150_000;
    produce(&brokers, &topic, 0, (0..total).map(|id| format!("{{\"id\":{id},\"name\":\"{text}\"}}")));
    let source = open(&brokers, &topic, &[("properties.queued.max.messages.kbytes", "4096")]);
    let before = resident_kbytes();
    let mut reading = Reading::of(&*source, "0", None);
    reading.until_rows(1);
    wait("a report of the log's end", || reading.reader.backlog());
    // Nobody polls: as much as may be is fetched, in several times the time that it takes.
    let mut sizes = Vec::new();
    wait("the queue to stay as it is", || {
        sizes.push(resident_kbytes());
        std::thread::sleep(std::time::Duration::from_millis(100));
        (sizes.len() >= 30).then_some(())
    });
    let grown = sizes.iter().max().unwrap().saturating_sub(before);
    assert!(grown < 100 * 1024, "{grown} kB of 150 MB are in memory");
    let left = reading.reader.backlog().unwrap().rows;
    assert_eq!(left, total as u64 - reading.ids.len() as u64);
    reading.until_rows(total);
    reading.until(Stand::AtEnd);
    assert_eq!(reading.reader.backlog(), Some(Backlog::default()));
}

fn resident_kbytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
