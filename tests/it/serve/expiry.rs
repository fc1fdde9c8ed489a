//! `SET state_ttl`, as its user sees it: what expires is forgotten and counted, views keep one row per key.

use std::time::Duration;

use serde_json::{Value, json};

use crate::service::Service;

const JOB: &str = "
SET state_ttl = '80 ms';
CREATE SOURCE events (id BIGINT, name VARCHAR) WITH (connector = 'http');
CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS events, sum(id) AS ids FROM events GROUP BY name;
";

fn operator<'a>(report: &'a Value, name: &str) -> &'a Value {
    let operators = report["operators"].as_array().unwrap();
    operators.iter().find(|operator| operator["operator"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

#[test]
fn a_group_that_nothing_touches_is_forgotten_and_begins_anew() {
    let service = Service::start();
    service.create("events", JOB).ok();
    let token = service.push("{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"a\"}\n{\"id\":3,\"name\":\"b\"}\n");
    service.rows("totals", "", &token);
    std::thread::sleep(Duration::from_millis(300));
    let token = service.push("{\"id\":10,\"name\":\"a\"}\n");
    let mut rows = service.rows("totals", "", &token);
    rows.sort_by_key(|row| row["name"].to_string());
    // What was given of `b` stays; `a` replaces what was given of it.
    assert_eq!(rows, [json!({"name": "a", "events": 1, "ids": 10}), json!({"name": "b", "events": 1, "ids": 3})]);
    let report = service.get("/v1/jobs/events").ok();
    let aggregate = operator(&report, "aggregate");
    assert_eq!((&aggregate["expired_rows"], &aggregate["expired_retractions"]), (&json!(2), &json!(0)));
    assert_eq!(aggregate["state_rows"], 1, "on whatever worker a group was: {aggregate:#}");
    let metrics = service.get("/metrics").text();
    let expired = metrics.lines().filter(|line| line.starts_with("highwater_operator_expired_rows_total"));
    let expired: f64 = expired.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert!(expired >= 2.0, "{metrics}");
}
