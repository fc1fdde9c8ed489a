//! Jobs whose text is changed, and which go on from what was saved of the text before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use highwater::{Highwater, JobOptions, RunningJob, catalog};
use highwater_runtime::{CheckpointStore, StatePart, Upgrade};

use crate::rows::of_view;
use crate::shop::{PATIENCE, World, assert_equal, push, stop, written};

fn names(parts: &[StatePart]) -> Vec<&str> {
    parts.iter().map(|part| part.what.as_str()).collect()
}

/// Rows that operators of a job were given, by what they are and for which view.
fn taken(job: &RunningJob, view: &str, operator: &str) -> u64 {
    let node = job.handle().job().view(view).unwrap().node;
    let upstream = job.handle().job().plan.upstream_of(node);
    let operators = job.handle().stats().operators();
    let of = operators.iter().filter(|stats| upstream.contains(&stats.node) && stats.name == operator);
    of.map(|stats| stats.rows_in.load(Ordering::Relaxed)).sum()
}

const OLD: &str = "
    CREATE MATERIALIZED VIEW per_auction AS SELECT auction, count(*) AS n FROM bid GROUP BY auction;
    CREATE MATERIALIZED VIEW per_window AS
    SELECT window_start, auction, max(price) AS top FROM TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '2' SECOND)
    GROUP BY window_start, window_end, auction;
    CREATE MATERIALIZED VIEW named AS SELECT i.name, b.price FROM bid b JOIN item i ON b.auction = i.id;
    CREATE MATERIALIZED VIEW gone AS SELECT DISTINCT bidder FROM bid;
    CREATE SINK auctions FROM per_auction WITH (connector = 'file', path = 'DIR/auctions_out.jsonl');
";

/// A view more, an aggregate that is another one, a view less, a sink more.
const NEW: &str = "
    CREATE MATERIALIZED VIEW per_auction AS SELECT auction, count(*) AS n FROM bid GROUP BY auction;
    CREATE MATERIALIZED VIEW per_window AS
    SELECT window_start, auction, max(price) AS top, count(DISTINCT bidder) AS bidders
    FROM TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '2' SECOND) GROUP BY window_start, window_end, auction;
    CREATE MATERIALIZED VIEW named AS SELECT i.name, b.price FROM bid b JOIN item i ON b.auction = i.id;
    CREATE MATERIALIZED VIEW best AS SELECT auction, n FROM per_auction ORDER BY n DESC, auction LIMIT 2;
    CREATE MATERIALIZED VIEW items AS SELECT count(*) AS n, max(name) AS last FROM item;
    CREATE SINK auctions FROM per_auction WITH (connector = 'file', path = 'DIR/auctions_out.jsonl');
    CREATE SINK windows FROM per_window WITH (connector = 'file', path = 'DIR/windows_out.jsonl') EMIT FINAL;
    CREATE SINK named_rows FROM named WITH (connector = 'file', path = 'DIR/named_out.jsonl');
";

const ITEMS: &str = "{\"id\":1,\"name\":\"pen\"}\n{\"id\":2,\"name\":\"ink\"}\n{\"id\":3,\"name\":\"cap\"}\n";

#[test]
fn a_changed_job_takes_over_what_is_equal_and_makes_the_rest_anew() {
    let mut world = World::new();
    world.bid(400);
    let first = world.start(2);
    let job = first.create_job("shop", &world.sql(OLD), JobOptions::default()).unwrap();
    push(&job, ITEMS);
    world.wait_read(&job);
    stop(first, job);

    // What is said before is what is done, on another number of workers.
    let (registry, new) = (catalog::registry(), world.sql(NEW));
    let planned = Arc::new(Highwater::check(&registry, &new).unwrap());
    let store = CheckpointStore::open(&world.path("state").display().to_string()).unwrap();
    let promised = store.upgrade("shop", None, &planned, &registry).unwrap();
    let kept = names(&promised.reused);
    for part in ["aggregate of per_auction, best, auctions", "view per_auction", "join of named, named_rows", "table item"] {
        assert!(kept.contains(&part), "{part} in {kept:?}");
    }
    let size = promised.reused.iter().find(|part| part.what == "view per_auction").and_then(|part| part.rows.zip(part.bytes));
    assert!(size.is_some_and(|(rows, bytes)| rows >= 5 && bytes > 0), "{size:?}");
    let from = |what: &str| {
        let part = promised.rebuilt.iter().find(|part| part.what == what);
        part.unwrap_or_else(|| panic!("{what} in {:?}", promised.rebuilt)).from.clone().unwrap_or_default()
    };
    assert_eq!(from("view per_window"), "source bid, read again from its start");
    assert_eq!(from("view best"), "view per_auction");
    assert_eq!(from("view items"), "table item");
    assert!(from("sink named_rows: all that it would have written").contains("view named"));
    assert!(names(&promised.dropped).contains(&"view gone"), "{:?}", promised.dropped);
    assert_eq!(promised.refused, Vec::<String>::new());
    let old = Arc::new(Highwater::check(&registry, &world.sql(OLD)).unwrap());
    let between = Upgrade::between(&old, &planned, &registry).unwrap();
    assert_eq!(names(&between.rebuilt), names(&promised.rebuilt));

    let second = world.start(3);
    let refused = second.create_job("shop", &new, JobOptions::default()).err().unwrap().to_string();
    assert!(refused.contains("another version of job 'shop'") && refused.contains("--upgrade"), "{refused}");
    let upgrade = JobOptions { upgrade: true, ..JobOptions::default() };
    let job = second.create_job("shop", &new, upgrade.clone()).unwrap();
    assert_eq!(job.upgrade(), Some(&promised));
    let views = ["per_auction", "per_window", "named", "best", "items"];
    let (_anew, other) = world.anew(NEW, ITEMS);
    assert_equal(&views, &job, &other);
    // Nothing came since: what was taken over was given nothing.
    assert_eq!((taken(&job, "per_auction", "aggregate"), taken(&job, "named", "join")), (0, 0));

    // It goes on as if it had always been so: rows, late ones, corrections, and a restart without a change.
    world.bid(150);
    push(&job, "{\"id\":3,\"name\":\"hat\"}\n{\"id\":4,\"name\":\"bag\"}\n");
    world.wait_read(&job);
    // Added up before they travel.
    assert!((1..=150).contains(&taken(&job, "per_auction", "aggregate")));
    stop(second, job);
    let third = world.start(1);
    let job = third.create_job("shop", &new, JobOptions::default()).unwrap();
    assert!(job.upgrade().is_none());
    world.bid(30);
    world.wait_read(&job);
    let items = format!("{ITEMS}{}\n{}\n", r#"{"id":3,"name":"hat"}"#, r#"{"id":4,"name":"bag"}"#);
    let (_anew, other) = world.anew(NEW, &items);
    assert_equal(&views, &job, &other);
    assert!(job.settle(PATIENCE) && other.settle(PATIENCE));
    for sink in ["auctions", "windows", "named"] {
        let (once, again) = (world.path(&format!("{sink}_anew.jsonl")), world.path(&format!("{sink}_out.jsonl")));
        assert_eq!(written(&again), written(&once), "{sink}");
    }
    stop(third, job);

    // And back: what was dropped is made of what there is now, not of what there was.
    let fourth = world.start(2);
    let job = fourth.create_job("shop", &world.sql(OLD), upgrade).unwrap();
    let (_anew, other) = world.anew(OLD, &items);
    assert_equal(&["per_auction", "per_window", "named", "gone"], &job, &other);
    stop(fourth, job);
}

#[test]
fn a_view_is_added_on_a_recursion_that_stays() {
    let mut world = World::new();
    let old = "CREATE MATERIALIZED VIEW reaches AS WITH RECURSIVE chain (a, b) AS (
               SELECT bidder, auction FROM bid UNION SELECT c.a, bid.auction FROM chain c JOIN bid ON c.b = bid.bidder)
               SELECT a, b FROM chain;";
    world.bid(40);
    let first = world.start(2);
    let job = first.create_job("shop", &world.sql(old), JobOptions::default()).unwrap();
    world.wait_read(&job);
    stop(first, job);

    let both = format!("{old} CREATE MATERIALIZED VIEW reached AS SELECT b, count(*) AS n FROM reaches GROUP BY b;");
    let second = world.start(3);
    let job = second.create_job("shop", &world.sql(&both), JobOptions { upgrade: true, ..JobOptions::default() }).unwrap();
    let upgrade = job.upgrade().unwrap();
    assert!(names(&upgrade.reused).contains(&"view reaches"), "{upgrade:?}");
    assert!(names(&upgrade.rebuilt).contains(&"aggregate of reached"), "{upgrade:?}");
    let (_anew, other) = world.anew(&both, "");
    assert_equal(&["reaches", "reached"], &job, &other);

    world.bid(30);
    world.wait_read(&job);
    let (_anew, other) = world.anew(&both, "");
    assert_equal(&["reaches", "reached"], &job, &other);
    stop(second, job);
}

#[test]
fn a_table_gets_a_column_and_keeps_its_rows() {
    let world = World::new();
    let old = "CREATE MATERIALIZED VIEW by_name AS SELECT name, count(*) AS n FROM item GROUP BY name;";
    let first = world.start(2);
    let job = first.create_job("shop", &world.sql(old), JobOptions::default()).unwrap();
    push(&job, ITEMS);
    stop(first, job);

    let with = |columns: &str, view: &str| world.sql(&format!("{old}{view}")).replace("name VARCHAR)", columns);
    let new = with(
        "name VARCHAR, size INT, colour VARCHAR DEFAULT 'grey')",
        "CREATE MATERIALIZED VIEW by_size AS SELECT size, colour, count(*) AS n FROM item GROUP BY size, colour;",
    );
    let second = world.start(1);
    let upgrade = JobOptions { upgrade: true, ..JobOptions::default() };
    let required =
        with("name VARCHAR, size INT NOT NULL)", "CREATE MATERIALIZED VIEW by_size AS SELECT max(size) AS s FROM item;");
    let refused = second.create_job("shop", &required, upgrade.clone()).err().unwrap().to_string();
    assert!(refused.contains("its new column size is NOT NULL: give it a DEFAULT"), "{refused}");

    let job = second.create_job("shop", &new, upgrade).unwrap();
    let report = job.upgrade().unwrap();
    assert!(names(&report.reused).contains(&"aggregate of by_name"), "{report:?}");
    assert_eq!(report.rebuilt[0].from.as_deref(), Some("table item, as it is kept"));
    let rows = |view: &str| of_view(&job, view).iter().map(|row| serde_json::to_string(row).unwrap()).collect::<Vec<_>>();
    assert_eq!(rows("by_size"), [r#"{"colour":"grey","n":3,"size":null}"#]);
    // The row before is taken back with the columns that it has now.
    push(&job, "{\"id\":2,\"name\":\"ink\",\"size\":7,\"colour\":\"blue\"}\n");
    let mut sizes = rows("by_size");
    sizes.sort_unstable();
    assert_eq!(sizes, [r#"{"colour":"blue","n":1,"size":7}"#, r#"{"colour":"grey","n":2,"size":null}"#]);
    assert_eq!(rows("by_name").len(), 3);
    stop(second, job);
}

#[test]
fn what_cannot_be_made_anew_is_refused_and_nothing_is_lost() {
    let world = World::new();
    let clicks = "CREATE SOURCE click (page VARCHAR, n BIGINT) WITH (connector = 'http');";
    let old = format!(
        "{clicks} CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS n FROM click GROUP BY page;
         CREATE SINK out FROM pages WITH (connector = 'file', path = 'DIR/pages_out.jsonl');"
    );
    let first = world.start(1);
    let job = first.create_job("shop", &world.sql(&old), JobOptions::default()).unwrap();
    let request = highwater_connectors::source::PushRequest {
        format: highwater_connectors::source::PushFormat::Ndjson,
        body: br#"{"page":"a","n":1}"#.to_vec(),
        idempotency_key: None,
    };
    let (give, given) = std::sync::mpsc::channel();
    let receipt = highwater_connectors::source::Receipt(Box::new(move |epoch| give.send(epoch).unwrap()));
    job.push("click", request, receipt).unwrap();
    let epoch = given.recv_timeout(PATIENCE).unwrap();
    assert!(job.wait_closed(epoch, PATIENCE) >= epoch);
    stop(first, job);

    let second = world.start(1);
    let upgrade = JobOptions { upgrade: true, ..JobOptions::default() };
    let changed = world.sql(&old.replace("count(*) AS n", "sum(n) AS n"));
    let refused = second.create_job("shop", &changed, upgrade.clone()).err().unwrap().to_string();
    assert!(refused.contains("source click cannot be read again, and its rows are not kept"), "{refused}");
    assert!(refused.contains("sink out gets other rows than before") && refused.contains("another name"), "{refused}");

    // A view over what is kept needs no history.
    let more = format!("{old} CREATE MATERIALIZED VIEW most AS SELECT max(n) AS n FROM pages;");
    let job = second.create_job("shop", &world.sql(&more), upgrade).unwrap();
    assert_eq!(of_view(&job, "most")[0]["n"], serde_json::json!(1));
    assert_eq!(written(&world.path("pages_out.jsonl")), [(r#"{"n":1,"page":"a"}"#.to_owned(), 1)]);
    stop(second, job);
}

#[test]
fn a_source_that_has_grown_makes_no_other_job() {
    let world = World::new();
    let rows = |name: &str, count: usize| {
        let lines: String = (0..count).map(|number| format!("{{\"k\":{},\"v\":{number}}}\n", number % 50)).collect();
        std::fs::write(world.path(name), lines).unwrap();
    };
    [("a", 3000), ("b", 300), ("c", 30)].into_iter().for_each(|(name, count)| rows(name, count));
    let source = |name: &str| {
        let path = world.path(name).display().to_string();
        format!("CREATE SOURCE {name} (k BIGINT, v BIGINT) WITH (connector = 'file', path = '{path}', format = 'json');")
    };
    let sql = format!(
        "{}{}{} CREATE MATERIALIZED VIEW joined AS
         SELECT a.k, count(*) AS n FROM a JOIN b ON a.k = b.k JOIN c ON b.k = c.k GROUP BY a.k;",
        source("a"),
        source("b"),
        source("c")
    );
    let first = world.start(1);
    let job = first.create_job("joins", &sql, JobOptions { until_end: true, ..JobOptions::default() }).unwrap();
    assert_eq!(job.wait_over(Some(PATIENCE)), highwater_engine::JobState::Finished);
    let before = of_view(&job, "joined");
    stop(first, job);

    // By their sizes now the joins would be in another order, and their state another one.
    [("a", 30), ("c", 60_000)].into_iter().for_each(|(name, count)| rows(name, count));
    let second = world.start(1);
    assert!(second.create_job("other", &sql, JobOptions { until_end: true, ..JobOptions::default() }).is_ok());
    rows("a", 3000);
    let job = second.create_job("joins", &sql, JobOptions { until_end: true, ..JobOptions::default() }).unwrap();
    assert_eq!(job.wait_over(Some(PATIENCE)), highwater_engine::JobState::Finished);
    assert!(of_view(&job, "joined").len() >= before.len());
    stop(second, job);
}

#[test]
fn the_order_of_statements_and_a_source_that_nobody_reads_are_no_change() {
    let mut world = World::new();
    world.bid(50);
    let view = "CREATE MATERIALIZED VIEW named AS SELECT i.name, b.price FROM bid b JOIN item i ON b.auction = i.id;";
    let first = world.start(1);
    let job = first.create_job("shop", &world.sql(view), JobOptions::default()).unwrap();
    push(&job, ITEMS);
    world.wait_read(&job);
    let before = of_view(&job, "named").len();
    stop(first, job);

    let sql = world.sql(view);
    let (bid, rest) = sql.split_at(sql.find("CREATE TABLE").unwrap());
    let (item, view) = rest.split_at(rest.find("CREATE MATERIALIZED").unwrap());
    let unread = "CREATE SOURCE unread (a BIGINT) WITH (connector = 'http');";
    let second = world.start(2);
    let job = second.create_job("shop", &format!("{item}{unread}{bid}{view}"), JobOptions::default()).unwrap();
    assert!(before > 0 && of_view(&job, "named").len() == before);
    stop(second, job);
}

#[test]
fn another_file_under_the_same_name_begins_anew_and_what_is_made_of_others_stays() {
    let mut world = World::new();
    world.bid(300);
    let views = "CREATE MATERIALIZED VIEW per_auction AS SELECT auction, count(*) AS n FROM bid GROUP BY auction;
         CREATE MATERIALIZED VIEW per_window AS
         SELECT window_start, count(*) AS n FROM TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '2' SECOND)
         GROUP BY window_start, window_end;
         CREATE MATERIALIZED VIEW named AS SELECT i.name, b.price FROM bid b JOIN item i ON b.auction = i.id;
         CREATE MATERIALIZED VIEW items AS SELECT name, count(*) AS n FROM item GROUP BY name;";
    let sink = "CREATE SINK auctions FROM per_auction WITH (connector = 'file', path = 'DIR/auctions_out.jsonl');";
    let first = world.start(2);
    let old = world.sql(views);
    let job = first.create_job("shop", &old, JobOptions::default()).unwrap();
    push(&job, ITEMS);
    world.wait_read(&job);
    stop(first, job);

    // Its bids are older than those of the first: no watermark of them is left.
    world.bid_elsewhere("others.jsonl");
    world.bid(80);
    let new = world.sql(views);
    let second = world.start(2);
    let refused = second.create_job("shop", &new, JobOptions::default()).err().unwrap().to_string();
    assert!(refused.contains("source bid is another one: path was '") && refused.contains("others.jsonl' now"), "{refused}");
    assert!(refused.contains("--upgrade"), "{refused}");
    // The old text goes on as if nothing had been tried.
    let job = second.create_job("shop", &old, JobOptions::default()).unwrap();
    assert!(job.upgrade().is_none());
    stop(second, job);

    let third = world.start(1);
    let upgrade = JobOptions { upgrade: true, ..JobOptions::default() };
    let job = third.create_job("shop", &new, upgrade.clone()).unwrap();
    let report = job.upgrade().unwrap();
    assert!(report.moved[0].starts_with("source bid is another one"), "{report:?}");
    assert!(names(&report.reused).contains(&"view items") && names(&report.dropped).contains(&"view per_auction"), "{report:?}");
    world.wait_read(&job);
    let all = ["per_auction", "per_window", "named", "items"];
    let (_anew, other) = world.anew(views, ITEMS);
    assert_equal(&all, &job, &other);
    stop(third, job);
    let fourth = world.start(3);
    let job = fourth.create_job("shop", &world.sql(&format!("{views}{sink}")), upgrade.clone()).unwrap();
    world.bid(20);
    world.wait_read(&job);
    let (_anew, other) = world.anew(views, ITEMS);
    assert_equal(&all, &job, &other);
    stop(fourth, job);

    // What a sink has written of one file cannot be taken back for another.
    world.bid_elsewhere("more.jsonl");
    let fifth = world.start(1);
    let refused = fifth.create_job("shop", &world.sql(&format!("{views}{sink}")), upgrade).err().unwrap().to_string();
    assert!(refused.contains("source bid is another one") && refused.contains("sink auctions gets other rows"), "{refused}");
    fifth.runtime().shutdown();
}

#[test]
fn a_running_job_is_changed_where_it_is_or_goes_on_as_it_was() {
    let mut world = World::new();
    world.bid(120);
    let highwater = world.start(2);
    let sql = world.sql(OLD);
    let job = highwater.create_job("shop", &sql, JobOptions::default()).unwrap();
    push(&job, ITEMS);
    world.wait_read(&job);
    let upgrade = || JobOptions { upgrade: true, ..JobOptions::default() };
    let exists = highwater.create_job("shop", &sql, JobOptions::default()).err().unwrap().to_string();
    assert!(exists.contains("it can be changed by an upgrade"), "{exists}");

    // What is refused disturbs nobody.
    let other_rows = sql.replace("count(*) AS n FROM bid", "count(*) + 1 AS n FROM bid");
    let refused = highwater.create_job("shop", &other_rows, upgrade()).err().unwrap().to_string();
    assert!(refused.contains("sink auctions gets other rows"), "{refused}");
    assert!(Arc::ptr_eq(&highwater.runtime().job("shop").unwrap(), &job));

    // What only shows when it starts: the job is what it was, with all that it had.
    let nowhere = format!(
        "{sql} CREATE SOURCE gone_file (a BIGINT) WITH (connector = 'file', path = 'nowhere.jsonl');
         CREATE MATERIALIZED VIEW of_it AS SELECT a FROM gone_file;"
    );
    let failed = highwater.create_job("shop", &nowhere, upgrade()).err().unwrap().to_string();
    assert!(failed.contains("nowhere.jsonl"), "{failed}");
    drop(job);
    let job = highwater.runtime().job("shop").unwrap();
    world.bid(40);
    world.wait_read(&job);
    push(&job, "{\"id\":3,\"name\":\"hat\"}\n");
    let items = format!("{ITEMS}{}\n", r#"{"id":3,"name":"hat"}"#);
    let (_anew, other) = world.anew(OLD, &items);
    assert_equal(&["per_auction", "per_window", "named", "gone"], &job, &other);

    let changed = highwater.create_job("shop", &world.sql(NEW), upgrade()).unwrap();
    assert!(changed.upgrade().is_some_and(|report| names(&report.reused).contains(&"view per_auction")));
    assert!(Arc::ptr_eq(&highwater.runtime().job("shop").unwrap(), &changed));
    assert_ne!(job.state(), highwater_engine::JobState::Running);
    assert_eq!(highwater.runtime().jobs().len(), 1);
    world.bid(40);
    world.wait_read(&changed);
    let (_anew, other) = world.anew(NEW, &items);
    assert_equal(&["per_auction", "per_window", "named", "best", "items"], &changed, &other);
    assert!(changed.settle(PATIENCE) && other.settle(PATIENCE));
    for sink in ["auctions", "windows", "named"] {
        let (once, again) = (world.path(&format!("{sink}_anew.jsonl")), world.path(&format!("{sink}_out.jsonl")));
        assert_eq!(written(&again), written(&once), "{sink}");
    }
    stop(highwater, changed);
}
