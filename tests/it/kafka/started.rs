//! Where reading starts, and what a position is a position of, over a real broker.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::{CheckpointConfig, Highwater, JobOptions, RunningJob};
use highwater_broker::Broker;

use super::PATIENCE;

fn seen(job: &RunningJob) -> u64 {
    crate::rows::of_view(job, "seen").iter().map(|row| row["visits"].as_u64().unwrap()).sum()
}

#[track_caller]
fn wait_for(job: &RunningJob, visits: u64) {
    let started = Instant::now();
    loop {
        let seen = seen(job);
        if seen == visits {
            return;
        }
        assert!(started.elapsed() < PATIENCE && seen < visits, "{seen} of {visits}: {:?}", job.problems());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn starter(folder: &Path) -> impl Fn() -> Arc<Highwater> {
    let location = folder.join("state").display().to_string();
    let checkpoints = CheckpointConfig { location, interval: Duration::from_millis(100), record: None };
    move || Highwater::builder().checkpoints(Some(checkpoints.clone())).start().unwrap()
}

fn end(highwater: Arc<Highwater>, job: Arc<RunningJob>) {
    assert!(job.settle(PATIENCE), "{:?}", job.problems());
    highwater.runtime().shutdown();
}

#[test]
fn a_silent_partition_goes_on_where_it_began_and_another_topic_begins_anew() {
    let broker = Broker::shared();
    let (brokers, tools) = (broker.bootstrap(), broker.tools());
    let folder = tempfile::tempdir().unwrap();
    for topic in ["silent", "silent-next"] {
        tools.create_topic(topic, 1);
    }
    let rows = |topic: &str, count: usize| tools.write(topic, &"{\"page\":\"a\"}\n".repeat(count));
    rows("silent", 5);
    rows("silent-next", 4);
    let start = starter(folder.path());
    let sql = |topic: &str, start: &str| {
        format!(
            "CREATE SOURCE visits (page VARCHAR) WITH (connector = 'kafka', brokers = '{brokers}', topic = '{topic}', start = '{start}');
             CREATE MATERIALIZED VIEW seen AS SELECT page, count(*) AS visits FROM visits GROUP BY page;"
        )
    };
    let first = start();
    let job = first.create_job("visits", &sql("silent", "latest"), JobOptions::default()).unwrap();
    end(first, job);

    rows("silent", 2);
    let second = start();
    let job = second.create_job("visits", &sql("silent", "latest"), JobOptions::default()).unwrap();
    wait_for(&job, 2);
    end(second, job);

    let third = start();
    let next = sql("silent-next", "0:1");
    let refused = third.create_job("visits", &next, JobOptions::default()).err().unwrap().to_string();
    assert!(refused.contains("source visits is another one: topic was 'silent' and is 'silent-next' now"), "{refused}");
    let upgrade = JobOptions { upgrade: true, ..JobOptions::default() };
    let job = third.create_job("visits", &next, upgrade).unwrap();
    wait_for(&job, 3);
    end(third, job);
}

#[test]
fn a_topic_is_added() {
    let broker = Broker::shared();
    let (brokers, tools) = (broker.bootstrap(), broker.tools());
    let folder = tempfile::tempdir().unwrap();
    for topic in ["grown-a", "grown-b", "grown-c"] {
        tools.create_topic(topic, 2);
    }
    let rows = |topic: &str, count: usize| tools.write(topic, &"{\"page\":\"a\"}\n".repeat(count));
    rows("grown-a", 5);
    rows("grown-b", 4);
    let start = starter(folder.path());
    let sql = |topics: &str, more: &str| {
        format!(
            "CREATE SOURCE visits (page VARCHAR) WITH (connector = 'kafka', brokers = '{brokers}', topic = '{topics}');
             CREATE MATERIALIZED VIEW seen AS SELECT page, count(*) AS visits FROM visits GROUP BY page; {more}"
        )
    };
    let upgrade = JobOptions { upgrade: true, ..JobOptions::default() };
    let first = start();
    let job = first.create_job("visits", &sql("grown-a", ""), JobOptions::default()).unwrap();
    wait_for(&job, 5);
    end(first, job);

    // What was read goes on under its new name, and a view that is new has all of it, too.
    rows("grown-a", 1);
    let more = "CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS n FROM visits GROUP BY page, length(page);";
    let second = start();
    let two = sql("grown-b, grown-a", more);
    let refused = second.create_job("visits", &two, JobOptions::default()).err().unwrap().to_string();
    assert!(refused.contains("source visits reads topic 'grown-b' besides, from the beginning"), "{refused}");
    let job = second.create_job("visits", &two, upgrade.clone()).unwrap();
    let report = job.upgrade().unwrap();
    assert!(report.moved.is_empty() && report.dropped.is_empty() && report.refused.is_empty(), "{report:?}");
    assert!(report.reused.iter().any(|part| part.what.starts_with("aggregate of")), "{report:?}");
    wait_for(&job, 10);
    rows("grown-b", 2);
    wait_for(&job, 12);
    let started = Instant::now();
    while crate::rows::of_view(&job, "pages")[0]["n"] != 12 {
        assert!(started.elapsed() < PATIENCE, "{:?}", crate::rows::of_view(&job, "pages"));
        std::thread::sleep(Duration::from_millis(20));
    }
    end(second, job);

    // In another order they are the same; and one more.
    let third = start();
    let job = third.create_job("visits", &sql("grown-a,grown-b", more), JobOptions::default()).unwrap();
    assert!(job.upgrade().is_none());
    end(third, job);
    rows("grown-c", 3);
    let fourth = start();
    let job = fourth.create_job("visits", &sql("grown-a,grown-b,grown-c", more), upgrade).unwrap();
    assert!(job.upgrade().unwrap().rebuilt.is_empty());
    wait_for(&job, 15);
    end(fourth, job);
}
