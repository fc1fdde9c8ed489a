//! Where reading starts, and what a position is a position of, over a real broker.

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
    while seen(job) != visits {
        assert!(started.elapsed() < PATIENCE && seen(job) < visits, "{} of {visits}: {:?}", seen(job), job.problems());
        std::thread::sleep(Duration::from_millis(20));
    }
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
    let location = folder.path().join("state").display().to_string();
    let checkpoints = CheckpointConfig { location, interval: Duration::from_millis(100), record: None };
    let start = || Highwater::builder().checkpoints(Some(checkpoints.clone())).start().unwrap();
    let sql = |topic: &str, start: &str| {
        format!(
            "CREATE SOURCE visits (page VARCHAR) WITH (connector = 'kafka', brokers = '{brokers}', topic = '{topic}', start = '{start}');
             CREATE MATERIALIZED VIEW seen AS SELECT page, count(*) AS visits FROM visits GROUP BY page;"
        )
    };
    let end = |highwater: std::sync::Arc<Highwater>, job: std::sync::Arc<RunningJob>| {
        assert!(job.settle(PATIENCE), "{:?}", job.problems());
        highwater.runtime().shutdown();
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
