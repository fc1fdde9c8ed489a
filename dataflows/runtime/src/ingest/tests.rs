//! A feed whose readers follow scripts, under a clock that is set.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use highwater_connectors::source::{Offset, PartitionId, Polled, Reject, SourceError};
use highwater_engine::FeedPoll::{Pending, Ready};
use highwater_engine::FeedState::{Active, Finished, Idle};

use super::*;
use crate::signal::Signal;
use crate::status::{PartitionState, PartitionStatus};
use crate::testing::{ManualClock, Script, batch_at, max_ahead, receipt, times, watermark};

struct Fixture {
    feed: SourceFeed,
    clock: Arc<ManualClock>,
    fault: Arc<Fault>,
    statuses: Vec<Arc<PartitionStatus>>,
    wakers: Vec<highwater_connectors::source::Waker>,
}

/// A feed over these scripts; the watermark is the event time, more than 1,000 us ahead is too far.
fn feed(scripts: &[&Script], epoch_rows_max: usize, idle_timeout: Option<Duration>) -> Fixture {
    let clock = Arc::new(ManualClock::default());
    let fault = Arc::new(Fault::new(Arc::new(Signal::default())));
    let context = Arc::new(SourceContext {
        source: 0,
        name: "s".into(),
        job: "j".into(),
        bounded: true,
        event_time: Some(EventTime::new(watermark(0), Some(max_ahead(1_000)))),
        idle_timeout,
        epoch_rows_max,
        fault: Arc::clone(&fault),
        congestion: Arc::new(Congestion::new(Vec::new())),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
    });
    let (mut partitions, mut statuses, mut wakers) = (Vec::new(), Vec::new(), Vec::new());
    for (index, script) in scripts.iter().enumerate() {
        let status = Arc::new(PartitionStatus::new(index.to_string(), 0));
        let partition = Partition::open(
            PartitionId::new(index.to_string()),
            index as u32,
            Arc::new(|| {}),
            Arc::clone(&status),
            None,
            |_, _, waker| {
                wakers.push(waker);
                Ok(Box::new((*script).clone()))
            },
        );
        partitions.push(partition.unwrap());
        statuses.push(status);
    }
    Fixture { feed: SourceFeed::new(context, partitions, Arc::default()), clock, fault, statuses, wakers }
}

impl Fixture {
    /// The answer as a person reads it: `5 7 | active 7`, `| idle 7`, `pending 100ms`.
    fn poll(&mut self, rows_max: usize) -> String {
        self.poll_at(rows_max, 1)
    }

    fn poll_at(&mut self, rows_max: usize, epoch: u64) -> String {
        match self.feed.poll(rows_max) {
            Pending(wait) => wait.map_or("pending".into(), |wait| format!("pending {}ms", wait.as_millis())),
            Ready(batch) => {
                let mut words: Vec<String> = Vec::new();
                for delta in &batch.deltas {
                    words.extend(times(&delta.rows).iter().map(|time| time.map_or("-".into(), |time| time.to_string())));
                }
                words.extend(batch.rejects.iter().map(|rejects| format!("{} rejected", rejects.num_rows())));
                words.push("|".into());
                words.push(match batch.state {
                    Active(i64::MIN) => "active".into(),
                    Active(watermark) => format!("active {watermark}"),
                    Idle(watermark) => format!("idle {watermark}"),
                    Finished => "finished".into(),
                });
                batch.receipts.into_iter().for_each(|receipt| receipt(epoch));
                words.join(" ")
            }
        }
    }

    /// What one epoch gets, asked as the engine asks.
    fn epoch(&mut self, rows_max: usize, epoch: u64) -> Vec<String> {
        let mut answers = Vec::new();
        loop {
            let answer = self.poll_at(rows_max, epoch);
            if answer.starts_with("pending") {
                return answers;
            }
            answers.push(answer);
        }
    }
}

#[test]
fn partitions_take_turns_and_the_slowest_holds_the_watermark() {
    let (one, two) = (Script::default(), Script::default());
    one.say_rows(&[5]);
    one.say_rows(&[9]);
    two.say_rows(&[3]);
    one.say(Ok(Polled::Finished));
    two.say(Ok(Polled::Finished));
    let mut feed = feed(&[&one, &two], 100, None);
    assert_eq!(feed.poll(100), "5 | active");
    assert_eq!(feed.poll(99), "3 | active 3");
    assert_eq!(feed.poll(98), "9 | active 3");
    assert_eq!(feed.poll(97), "| finished");
    assert_eq!(feed.poll(96), "pending");
    assert_eq!(feed.statuses[0].lock().state, PartitionState::Finished);
}

#[test]
fn an_epoch_takes_at_most_the_sources_limit() {
    let script = Script::default();
    script.say_rows(&[1, 2, 3]);
    script.say_rows(&[4]);
    let mut feed = feed(&[&script], 1, None);
    let epochs: Vec<Vec<String>> = (0..4).map(|epoch| feed.epoch(100, epoch)).collect();
    assert_eq!(epochs, [["1 | active 1"], ["2 | active 2"], ["3 | active 3"], ["4 | active 4"]]);
    let info = feed.statuses[0].lock().clone();
    assert_eq!((info.rows, info.bytes, info.watermark, info.offset.as_deref()), (4, 40, Some(4), Some("1")));
}

#[test]
fn an_epoch_that_the_engine_fills_needs_no_end() {
    let script = Script::default();
    script.say_rows(&[1, 2, 3, 4]);
    let mut feed = feed(&[&script], 2, None);
    assert_eq!(feed.poll(2), "1 2 | active 2");
    assert_eq!(feed.poll(2), "3 4 | active 4", "the engine went on to the next epoch by itself");
}

#[test]
fn a_pushed_unit_is_in_one_epoch_and_its_receipt_says_which() {
    let (script, told) = (Script::default(), Arc::new(AtomicU64::new(0)));
    script.say_rows(&[1, 2]);
    let mut pushed = batch_at(&[Some(3), Some(4)]);
    pushed.receipt = Some(receipt(&told));
    script.say(Ok(Polled::Batch(pushed)));
    let mut feed = feed(&[&script], 3, None);
    assert_eq!(feed.epoch(100, 7), ["1 2 | active 2"]);
    assert_eq!(told.load(SeqCst), 0);
    assert_eq!(feed.epoch(100, 8), ["3 4 | active 4"]);
    assert_eq!(told.load(SeqCst), 8);
}

#[test]
fn a_pushed_unit_larger_than_an_epoch_is_told_its_last_epoch() {
    let (script, told) = (Script::default(), Arc::new(AtomicU64::new(0)));
    let mut pushed = batch_at(&[Some(1), Some(2), Some(3)]);
    pushed.receipt = Some(receipt(&told));
    script.say(Ok(Polled::Batch(pushed)));
    let mut feed = feed(&[&script], 2, None);
    assert_eq!(feed.epoch(100, 7), ["1 2 | active 2"]);
    assert_eq!(told.load(SeqCst), 0);
    assert_eq!(feed.epoch(100, 8), ["3 | active 3"]);
    assert_eq!(told.load(SeqCst), 8);
}

#[test]
fn rejects_come_with_the_batch_and_fill_epochs() {
    let script = Script::default();
    for _ in 0..3 {
        let mut bad = batch_at(&[]);
        bad.rejects = vec![Reject::new(b"x", Offset::new(0), "not json")];
        script.say(Ok(Polled::Batch(bad)));
    }
    script.say_rows(&[5, 5_000]);
    let mut feed = feed(&[&script], 2, None);
    assert_eq!(feed.epoch(100, 1), ["1 rejected | active", "1 rejected | active"]);
    assert_eq!(feed.epoch(100, 2), ["1 rejected | active", "5 1 rejected | active 5"], "the far future is rejected");
    assert_eq!(feed.statuses[0].lock().rejected_rows, 4);
}

#[test]
fn idle_partitions_are_noticed_without_rows() {
    let (one, two) = (Script::default(), Script::default());
    one.say_rows(&[50]);
    two.say_rows(&[3]);
    let mut feed = feed(&[&one, &two], 100, Some(Duration::from_millis(100)));
    assert_eq!(feed.epoch(100, 1), ["50 | active", "3 | active 3"]);
    feed.clock.set_ms(60);
    assert_eq!(feed.poll(100), "pending 40ms");
    one.say_rows(&[60]);
    feed.wakers[0]();
    assert_eq!(feed.poll(100), "60 | active 3");
    feed.clock.set_ms(100);
    assert_eq!(feed.poll(100), "| active 60", "the slow one is idle");
    assert_eq!(feed.statuses[1].lock().state, PartitionState::Idle);
    assert_eq!(feed.poll(100), "pending 100ms");
    feed.clock.set_ms(200);
    assert_eq!(feed.poll(100), "| idle 60");
    assert_eq!(feed.poll(100), "pending");
    two.say_rows(&[8]);
    feed.wakers[1]();
    assert_eq!(feed.poll(100), "8 | active 8", "the engine keeps the source's watermark from going back");
}

#[test]
fn a_reader_is_asked_only_when_there_is_a_reason() {
    let script = Script::default();
    script.say(Ok(Polled::Pending(Some(Duration::from_millis(20)))));
    let mut feed = feed(&[&script], 100, None);
    assert_eq!(feed.poll(100), "pending 20ms");
    assert_eq!(feed.poll(100), "pending 20ms");
    assert_eq!(script.asked(), 1);
    feed.clock.set_ms(20);
    assert_eq!(feed.poll(100), "pending");
    assert_eq!(script.asked(), 2);
    feed.wakers[0]();
    assert_eq!(feed.poll(100), "pending");
    assert_eq!(script.asked(), 3);
}

#[test]
fn a_partition_that_waits_is_not_idle() {
    let (one, two) = (Script::default(), Script::default());
    one.say_rows(&[5]);
    one.say(Ok(Polled::Waiting(Some(Duration::from_millis(500)))));
    two.say_rows(&[9]);
    let mut feed = feed(&[&one, &two], 100, Some(Duration::from_millis(100)));
    assert_eq!(feed.epoch(100, 1), ["5 | active", "9 | active 5"]);
    assert_eq!(feed.poll(100), "pending 100ms", "two becomes idle");
    feed.clock.set_ms(400);
    assert_eq!(feed.poll(100), "pending 100ms", "one does not, and is asked again in time");
    assert_eq!((one.asked(), feed.statuses[0].lock().state), (2, PartitionState::Active));
    feed.clock.set_ms(500);
    assert_eq!(feed.poll(100), "pending 100ms", "now it stands at the end");
    feed.clock.set_ms(600);
    assert_eq!(feed.poll(100), "| idle 9");
}

#[test]
fn a_passing_failure_is_retried_later_and_holds_the_watermark() {
    let (one, two) = (Script::default(), Script::default());
    one.say_rows(&[5]);
    one.say(Err(SourceError::passing("broker away")));
    one.say(Err(SourceError::passing("broker away")));
    one.say_rows(&[6]);
    two.say_rows(&[9]);
    let mut feed = feed(&[&one, &two], 100, Some(Duration::ZERO));
    assert_eq!(feed.epoch(100, 1), ["5 | active", "9 | active 5"], "two is idle, one is not");
    feed.wakers[0]();
    assert_eq!(feed.poll(100), "pending 100ms", "waking does not repair");
    assert_eq!(feed.statuses[0].lock().state, PartitionState::Active);
    feed.clock.set_ms(100);
    assert_eq!(feed.poll(100), "pending 200ms");
    feed.clock.set_ms(300);
    assert_eq!(feed.poll(100), "6 | active 6");
    let error = feed.statuses[0].lock().last_error.clone().unwrap();
    assert_eq!((error.message.as_str(), error.count, error.passed), ("broker away", 2, true));
    assert!(feed.fault.reason().is_none());
}

#[test]
fn a_failure_for_good_stops_the_job_and_finishes_nothing() {
    let (one, two) = (Script::default(), Script::default());
    one.say_rows(&[5]);
    two.say(Err(SourceError::fatal("topic 't' is gone")));
    let mut feed = feed(&[&one, &two], 100, None);
    assert_eq!(feed.epoch(100, 1), ["5 | active"]);
    one.say_rows(&[6]);
    feed.wakers[0]();
    assert_eq!(feed.poll(100), "pending");
    assert_eq!(feed.fault.reason(), Some("source 's', partition '1': topic 't' is gone"));
    assert_eq!(feed.statuses[1].lock().state, PartitionState::Failed);
    assert_eq!(feed.statuses[0].lock().state, PartitionState::Active);
}

#[test]
fn a_feed_without_partitions_finishes() {
    let mut feed = feed(&[], 100, None);
    assert_eq!(feed.poll(100), "| finished");
    assert_eq!(feed.poll(100), "pending");
}
