//! Each row once, whatever happens to processes and brokers.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use highwater_broker::{Broker, Cluster};
use highwater_connectors::sink::{EpochChanges, PublishError, Publisher};
use rdkafka::producer::Producer;

use super::{added, publisher, spec};
use crate::support::{PATIENCE, Stored, consume, rows, send, topic, topic_with, transactional, unique, values, wait};

const PROGRESS: &str = "__highwater_progress";

/// Publishes, and again after each error that may pass; gives these.
fn publish(publisher: &mut dyn Publisher, epochs: &[EpochChanges], through: u64) -> Vec<String> {
    let mut errors = Vec::new();
    let start = Instant::now();
    loop {
        match publisher.publish(epochs, through) {
            Ok(()) => return errors,
            Err(PublishError { fatal: true, message }) => panic!("{message}, after {errors:?}"),
            Err(error) => errors.push(format!("{:?}: {}", start.elapsed(), error.message)),
        }
        assert!(start.elapsed() < PATIENCE, "published in vain: {errors:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn committed(brokers: &str, topic: &str) -> Vec<String> {
    let mut values = values(brokers, topic, "read_committed");
    values.sort();
    values
}

fn expected(ids: std::ops::Range<i64>) -> Vec<String> {
    let mut rows: Vec<String> = rows(ids).collect();
    rows.sort();
    rows
}

#[test]
fn rows_and_progress_are_published_together() {
    let brokers = Broker::shared().bootstrap();
    let (topic, job) = (topic(&brokers, "out", 2), unique("job"));
    let mut first = publisher(&spec(&brokers, &topic, &job, &[]));
    assert_eq!(first.take_over(), Ok(None));
    assert_eq!(publish(&mut *first, &[added(10, 0..3), added(11, 3..5)], 12), Vec::<String>::new());
    publish(&mut *first, &[], 20);
    assert_eq!(committed(&brokers, &topic), expected(0..5));
    let records = consume(&brokers, PROGRESS, "read_committed");
    let own: Vec<_> = records.iter().filter(|record| record.key.as_deref() == Some(&format!("{job}/out"))).collect();
    assert!(own.last().unwrap().value.as_ref().unwrap().starts_with("{\"epoch\":20,"), "{own:?}");
    drop(first);

    // The next process goes on after it; what it is given once more, because it was not told, it does not publish.
    let mut second = publisher(&spec(&brokers, &topic, &job, &[]));
    assert_eq!(second.take_over(), Ok(Some(20)));
    publish(&mut *second, &[added(11, 3..5), added(21, 5..6)], 21);
    publish(&mut *second, &[added(21, 5..6)], 21);
    assert_eq!(committed(&brokers, &topic), expected(0..6));

    // Other sinks are other records.
    let mut other = publisher(&spec(&brokers, &topic, &unique("job"), &[]));
    assert_eq!(other.take_over(), Ok(None));
}

#[test]
fn what_takes_longer_than_a_transaction_may_is_several() {
    let brokers = Broker::shared().bootstrap();
    let (topic, job) = (topic(&brokers, "backlog", 1), unique("job"));
    let mut sink = publisher(&spec(&brokers, &topic, &job, &[("transaction_timeout", "1 s")]));
    sink.take_over().unwrap();
    let epochs: Vec<EpochChanges> =
        (0..500).map(|number| added(number + 1, number as i64 * 400..number as i64 * 400 + 400)).collect();
    publish(&mut *sink, &epochs, 1_000);
    assert_eq!(committed(&brokers, &topic).len(), 200_000);
    let own = |record: &Stored| record.key.as_deref() == Some(&*format!("{job}/out"));
    let records = consume(&brokers, PROGRESS, "read_committed").into_iter().filter(own).count();
    assert!(records > 2, "the claim and {records} - 1 transactions");
    let mut next = publisher(&spec(&brokers, &topic, &job, &[]));
    assert_eq!(next.take_over(), Ok(Some(1_000)));
}

#[test]
fn an_older_process_gives_way() {
    let brokers = Broker::shared().bootstrap();
    let (topic, job) = (topic(&brokers, "zombie", 1), unique("job"));
    let mut old = publisher(&spec(&brokers, &topic, &job, &[]));
    old.take_over().unwrap();
    publish(&mut *old, &[added(1, 0..2)], 1);
    let mut new = publisher(&spec(&brokers, &topic, &job, &[]));
    assert_eq!(new.take_over(), Ok(Some(1)));
    let error = old.publish(&[added(2, 2..4)], 2).expect_err("it is fenced");
    assert!(error.fatal && error.message.contains("another process runs this job"), "{error}");
    assert!(error.message.contains(&format!("topic '{topic}'")), "{error}");
    publish(&mut *new, &[added(2, 2..4)], 2);
    let error = old.publish(&[added(3, 4..5)], 3).expect_err("for good");
    assert!(error.fatal, "{error}");
    publish(&mut *new, &[added(3, 4..5)], 3);
    assert_eq!(committed(&brokers, &topic), expected(0..5));
}

#[test]
fn a_producer_that_only_the_broker_gave_up_is_replaced() {
    let brokers = Broker::shared().bootstrap();
    let (topic, job) = (topic(&brokers, "given-up", 1), unique("job"));
    let mut sink = publisher(&spec(&brokers, &topic, &job, &[]));
    sink.take_over().unwrap();
    publish(&mut *sink, &[added(1, 0..2)], 1);
    // What a coordinator does when a transaction has timed out: the producer's number is another, nobody claims the sink.
    drop(transactional(&brokers, &format!("highwater-{job}/out")));
    let errors = publish(&mut *sink, &[added(2, 2..4)], 2);
    assert!(errors.len() <= 1, "{errors:?}");
    publish(&mut *sink, &[added(3, 4..6)], 3);
    assert_eq!(committed(&brokers, &topic), expected(0..6));
}

#[test]
fn what_others_have_open_in_the_progress_topic_is_waited_for() {
    let brokers = Broker::shared().bootstrap();
    let (topic, job) = (topic(&brokers, "others", 1), unique("job"));
    let own = unique("progress");
    let options = [("progress_topic", own.as_str())];
    let mut first = publisher(&spec(&brokers, &topic, &job, &options));
    first.take_over().unwrap();
    let other = transactional(&brokers, &unique("other"));
    other.begin_transaction().unwrap();
    send(&other, &own, 0, Some("other/sink"), Some("{}"));
    other.flush(PATIENCE).unwrap();
    // Its record stands behind the open transaction: not to be seen yet, but decided.
    publish(&mut *first, &[added(1, 0..2)], 1);
    let (told, asked) = mpsc::channel();
    let (spec, brokers_) = (spec(&brokers, &topic, &job, &options), brokers.clone());
    let thread = std::thread::spawn(move || {
        let mut second = publisher(&spec);
        let taken = wait("taking over", || second.take_over().ok());
        told.send(taken).unwrap();
    });
    assert!(asked.recv_timeout(Duration::from_secs(2)).is_err(), "it cannot know");
    other.commit_transaction(PATIENCE).unwrap();
    assert_eq!(asked.recv_timeout(PATIENCE), Ok(Some(1)));
    thread.join().unwrap();
    assert_eq!(committed(&brokers_, &topic), expected(0..2));
}

#[test]
fn a_progress_topic_that_forgets_is_refused() {
    let brokers = Broker::shared().bootstrap();
    let (topic, progress) =
        (topic(&brokers, "forgets", 1), topic_with(&brokers, "forgetful", 1, &[("cleanup.policy", "delete")]));
    let error = publisher(&spec(&brokers, &topic, &unique("job"), &[("progress_topic", &progress)])).take_over().unwrap_err();
    assert!(error.fatal && error.message.contains("cleanup.policy = compact"), "{error}");
}

#[test]
fn outcomes_that_a_broker_took_with_it_are_found_out() {
    let mut broker = Broker::start();
    let brokers = broker.bootstrap();
    let (topic, job) = (topic(&brokers, "outage", 1), unique("job"));
    let spec = spec(&brokers, &topic, &job, &[]);
    let mut sink = publisher(&spec);
    sink.take_over().unwrap();
    // Killed while epochs are published one after another: some outcomes are unknown.
    let (progress, seen) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut errors = Vec::new();
        for number in 0..120 {
            let ids = number as i64 * 50..number as i64 * 50 + 50;
            errors.extend(publish(&mut *sink, &[added(number + 1, ids)], number + 1));
            progress.send(number).unwrap();
        }
        errors
    });
    for kill_at in [20, 70] {
        while seen.recv_timeout(PATIENCE).unwrap() < kill_at {}
        broker.restart();
    }
    let errors = thread.join().unwrap();
    assert_eq!(committed(&brokers, &topic), expected(0..6_000), "{errors:?}");
    let mut next = publisher(&spec);
    assert_eq!(next.take_over(), Ok(Some(120)));
}

#[test]
fn a_cluster_may_lose_a_broker() {
    let mut cluster = Cluster::start(3);
    let brokers = cluster.bootstrap();
    let (topic, job) = (unique("cluster"), unique("job"));
    super::messages::create_replicated(&brokers, &topic);
    let mut sink = publisher(&spec(&brokers, &topic, &job, &[]));
    wait("taking over", || sink.take_over().ok());
    publish(&mut *sink, &[added(1, 0..10)], 1);
    cluster.stop(1);
    publish(&mut *sink, &[added(2, 10..20)], 2);
    publish(&mut *sink, &[added(3, 20..30)], 3);
    cluster.restart(1);
    cluster.stop(0);
    publish(&mut *sink, &[added(4, 30..40)], 4);
    assert_eq!(committed(&brokers, &topic), expected(0..40));
}

#[test]
fn a_process_that_dies_within_a_transaction_leaves_nothing_of_it() {
    let brokers = Broker::shared().bootstrap();
    let (topic, job) = (topic(&brokers, "dies", 1), unique("job"));
    let mut sink = publisher(&spec(&brokers, &topic, &job, &[]));
    sink.take_over().unwrap();
    publish(&mut *sink, &[added(1, 0..2)], 1);
    drop(sink);
    // Rows and the record are sent, and the process is gone before it commits.
    let dying = transactional(&brokers, &format!("highwater-{job}/out"));
    dying.begin_transaction().unwrap();
    rows(2..4).for_each(|row| send(&dying, &topic, 0, None, Some(&row)));
    send(&dying, PROGRESS, 0, Some(&format!("{job}/out")), Some("{\"epoch\":2,\"claim\":\"x\"}"));
    dying.flush(PATIENCE).unwrap();
    let mut next = publisher(&spec(&brokers, &topic, &job, &[]));
    assert_eq!(next.take_over(), Ok(Some(1)));
    publish(&mut *next, &[added(2, 2..4)], 2);
    assert_eq!(committed(&brokers, &topic), expected(0..4));
    assert_eq!(values(&brokers, &topic, "read_uncommitted").len(), 6, "the first two of four are aborted");
}
