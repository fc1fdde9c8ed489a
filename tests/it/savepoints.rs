//! One savepoint, gone on from in many ways.

use highwater::{JobOptions, RestoreFrom};

use crate::shop::{PATIENCE, World, assert_equal, push, stop, written};

/// Windows that are open and closed, a join with a table, rows once, ranks, sessions; two sinks.
const JOB: &str = "
    CREATE MATERIALIZED VIEW per_window AS
    SELECT window_start, auction, max(price) AS top, count(DISTINCT bidder) AS bidders
    FROM TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '2' SECOND) GROUP BY window_start, window_end, auction;
    CREATE MATERIALIZED VIEW visits AS
    SELECT bidder, window_start, window_end, count(*) AS n
    FROM TABLE(SESSION(TABLE bid, DESCRIPTOR(at), INTERVAL '3' SECOND)) GROUP BY bidder, window_start, window_end;
    CREATE MATERIALIZED VIEW named AS
    SELECT i.name, count(*) AS n, min(b.price) AS least FROM bid b LEFT JOIN item i ON b.auction = i.id GROUP BY i.name;
    CREATE MATERIALIZED VIEW seen AS SELECT DISTINCT bidder, auction FROM bid;
    CREATE MATERIALIZED VIEW best AS
    SELECT auction, price, rank FROM (
      SELECT auction, price, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, at) AS rank FROM bid
    ) WHERE rank <= 2;
    CREATE MATERIALIZED VIEW running AS
    SELECT auction, at, sum(price) OVER (PARTITION BY auction ORDER BY at, bidder, price) AS total FROM bid;
    CREATE SINK closed FROM per_window WITH (connector = 'file', path = 'DIR/NAME_closed.jsonl') EMIT FINAL;
    CREATE SINK names FROM named WITH (connector = 'file', path = 'DIR/NAME_names.jsonl');
";

const VIEWS: [&str; 6] = ["per_window", "visits", "named", "seen", "best", "running"];

#[test]
fn a_savepoint_gives_the_same_on_any_number_of_workers() {
    let mut world = World::new();
    world.bid(300);
    let items = "{\"id\":1,\"name\":\"pen\"}\n{\"id\":2,\"name\":\"ink\"}\n{\"id\":3,\"name\":\"cap\"}\n";
    let more = "{\"id\":2,\"name\":\"pen\"}\n{\"id\":4,\"name\":\"hat\"}\n";
    let first = world.start(2);
    let job = first.create_job("first", &world.sql(&JOB.replace("NAME", "first")), JobOptions::default()).unwrap();
    push(&job, items);
    world.wait_read(&job);
    first.runtime().savepoint("first", "half").unwrap();
    let saved = [written(&world.path("first_closed.jsonl")), written(&world.path("first_names.jsonl"))];

    // The same rows come to the job that was never stopped and to those that go on from the savepoint.
    let mut others = Vec::new();
    for workers in [1, 2, 3, 8] {
        let highwater = world.start(workers);
        let restore = RestoreFrom::Named { job: Some("first".into()), name: "half".into() };
        let name = format!("on{workers}");
        let options = JobOptions { restore, ..JobOptions::default() };
        let other = highwater.create_job(&name, &world.sql(&JOB.replace("NAME", &name)), options).unwrap();
        assert_equal(&VIEWS, &other, &job);
        others.push((name, highwater, other));
    }
    world.bid(120);
    push(&job, more);
    world.wait_read(&job);
    assert!(job.settle(PATIENCE));
    for (name, highwater, other) in others {
        push(&other, more);
        world.wait_read(&other);
        assert_equal(&VIEWS, &other, &job);
        assert!(other.settle(PATIENCE));
        for (sink, saved) in ["closed", "names"].iter().zip(&saved) {
            // What the first one wrote up to the savepoint and the other wrote after it is what the first one wrote in all.
            let mut all = saved.iter().cloned().chain(written(&world.path(&format!("{name}_{sink}.jsonl")))).fold(
                std::collections::BTreeMap::<String, i64>::new(),
                |mut all, (row, count)| {
                    *all.entry(row).or_default() += count;
                    all
                },
            );
            all.retain(|_, count| *count != 0);
            let all: Vec<(String, i64)> = all.into_iter().collect();
            assert_eq!(all, written(&world.path(&format!("first_{sink}.jsonl"))), "{sink} of {name}");
        }
        stop(highwater, other);
    }
    stop(first, job);
}
