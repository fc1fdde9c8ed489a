//! State that the watermark frees stays flat: what operators keep does not grow with the number of events.
//!
//! Thirty seconds of Nexmark's time, in small epochs: windows and sessions of two seconds and an interval of as much. What
//! they keep in the last quarter is what they kept in the second; a join without bounds, which keeps all, keeps twice as much.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater::{Highwater, JobOptions};
use highwater_engine::JobState;

/// The ready-made jobs' sources, with more events in smaller epochs and a watermark one second behind.
fn sources() -> String {
    let (sources, _) = include_str!("../../dataflows/jobs/nexmark_q0/job.sql").split_once("CREATE MATERIALIZED VIEW").unwrap();
    let sources = sources.replace("events = '200000'", "events = '300000'").replace("INTERVAL '4' SECOND", "INTERVAL '1' SECOND");
    format!("SET epoch_rows_max = 1000;\n{sources}")
}

/// How many rows the operators of a query keep on average in the second and in the last quarter of its epochs.
fn kept(query: &str) -> [u64; 2] {
    let highwater = Highwater::builder().workers(2).start().unwrap();
    let sql = format!("{}CREATE SINK out WITH (connector = 'blackhole') AS {query};", sources());
    let job = highwater.create_job("flat", &sql, JobOptions { until_end: true, ..JobOptions::default() }).unwrap();
    let seen: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let (stats, sees) = (Arc::clone(job.handle().stats()), Arc::clone(&seen));
    // As each epoch closes: a look now and then misses the fullest moments where the machine is busy.
    job.handle().listen(move |_, _| {
        let rows = stats.operators().iter().map(|operator| operator.state_rows.load(Ordering::Relaxed)).sum();
        sees.lock().unwrap().push((stats.epochs_closed.load(Ordering::Relaxed), rows));
    });
    while job.state() == JobState::Running {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(job.state(), JobState::Finished);
    let seen = seen.lock().unwrap();
    let epochs = seen.last().map_or(0, |(epochs, _)| *epochs);
    [1, 3].map(|quarter| {
        let within = epochs * quarter / 4..epochs * (quarter + 1) / 4;
        let rows: Vec<u64> = seen.iter().filter(|seen| within.contains(&seen.0)).map(|seen| seen.1).collect();
        rows.iter().sum::<u64>() / (rows.len() as u64).max(1)
    })
}

/// How far one source runs ahead of another differs from moment to moment, and so does what is kept: half as much again is no
/// growth. Nor are a hundred rows of 300,000 events, which is what a window of which only the least rows are kept varies by.
fn check_flat(query: &str) {
    let [second, last] = kept(query);
    assert!(
        second > 0 && last * 10 <= second * 15 + 1_000,
        "{second} rows are kept in the second quarter, {last} in the last: {query}"
    );
}

#[test]
fn windows_and_sessions_stay_flat() {
    check_flat(
        "SELECT B.auction, B.price FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND)) AS B
         JOIN (SELECT MIN(price) AS least, window_start, window_end
               FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND)) GROUP BY window_start, window_end) AS M
         ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.price = M.least",
    );
    check_flat(
        "SELECT P.id, P.window_start FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(dateTime), INTERVAL '2' SECOND)) AS P
         LEFT JOIN TABLE(TUMBLE(TABLE auction, DESCRIPTOR(dateTime), INTERVAL '2' SECOND)) AS A
         ON P.id = A.seller AND P.window_start = A.window_start AND P.window_end = A.window_end EMIT FINAL",
    );
    check_flat("SELECT bidder, count(*) AS bids FROM bid GROUP BY bidder, SESSION(dateTime, INTERVAL '2' SECOND) EMIT FINAL");
}

#[test]
fn interval_joins_stay_flat() {
    let within = "B.dateTime BETWEEN A.dateTime AND A.dateTime + INTERVAL '2' SECOND";
    for kind in ["JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"] {
        check_flat(&format!("SELECT A.id, A.seller FROM auction AS A {kind} bid AS B ON A.id = B.auction AND {within}"));
    }
}

#[test]
fn what_nothing_frees_grows() {
    let [second, last] = kept("SELECT A.id, P.name FROM auction AS A JOIN person AS P ON A.seller = P.id");
    assert!(last * 10 > second * 20, "all is kept: {second} rows in the second quarter, {last} in the last");
}
