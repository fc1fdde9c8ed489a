//! `GET /v1/views/{view}/changes`.

use std::io::Read;
use std::time::{Duration, Instant};

use highwater::Limits;
use serde_json::json;

use crate::service::{EVENTS, Mirror, Service, counted};

const TOTALS: &str = "/v1/views/totals/changes";

#[test]
fn a_snapshot_comes_first_and_then_each_epoch() {
    let service = Service::with_events();
    let token = service.push("{\"id\":1,\"name\":\"a\"}\n");
    service.rows("totals", "", &token);
    let mut events = service.follow(TOTALS, None);
    let snapshot = events.next().unwrap();
    assert_eq!(snapshot.name, "snapshot");
    assert_eq!(snapshot.data["rows"], json!([{ "name": "a", "events": 1, "ids": 1 }]));
    assert_eq!(snapshot.data["complete"], true);
    assert_eq!(snapshot.id.unwrap(), format!("events:{}", snapshot.data["epoch"]));

    let token = service.push("{\"id\":5,\"name\":\"a\"}\n");
    let changes = events.next().unwrap();
    assert_eq!((changes.name.as_str(), changes.id.as_deref()), ("changes", Some(token.as_str())));
    let expected = json!([
        { "op": "-", "row": { "name": "a", "events": 1, "ids": 1 } },
        { "op": "+", "row": { "name": "a", "events": 2, "ids": 6 } },
    ]);
    assert_eq!(changes.data["changes"], expected);
    assert_eq!(changes.data["complete"], true);
}

#[test]
fn equal_rows_are_one_change_with_a_count() {
    let service = Service::with_events();
    let mut events = service.follow("/v1/views/copy/changes", None);
    assert_eq!(events.next().unwrap().data["rows"], json!([]));
    service.push("{\"id\":1}\n{\"id\":1}\n{\"id\":1}\n");
    let row = json!({ "id": 1, "name": null, "price": null, "at": null });
    assert_eq!(events.next().unwrap().data["changes"], json!([{ "op": "+", "count": 3, "row": row }]));
}

#[test]
fn a_subscription_is_taken_up_where_it_broke() {
    let service = Service::with_events();
    let mut mirror = Mirror::default();
    let mut token = String::new();
    for round in 0..10 {
        let mut events = service.follow(TOTALS, mirror.last_id.as_deref());
        for id in 0..5 {
            token = service.push(&format!("{{\"id\":{id},\"name\":\"{}\"}}\n", (round + id) % 4));
        }
        // Left somewhere in the middle, with changes unread.
        for _ in 0..3 {
            mirror.take(&events.next().unwrap());
        }
    }
    let mut events = service.follow(TOTALS, mirror.last_id.as_deref());
    mirror.read_to(&mut events, &token);
    assert_eq!(mirror.rows(), &counted(&service.rows("totals", "", &token)));
    assert_eq!(mirror.resets, 0);
}

#[test]
fn after_does_what_last_event_id_does() {
    let service = Service::with_events();
    let first = service.push("{\"id\":1,\"name\":\"a\"}\n");
    let second = service.push("{\"id\":2,\"name\":\"b\"}\n");
    service.rows("totals", "", &second);
    let mut events = service.follow(&format!("{TOTALS}?after={first}"), None);
    let changes = events.next().unwrap();
    assert_eq!((changes.name.as_str(), changes.id), ("changes", Some(second)));
    // A browser repeats the address, and says where it is in the header.
    let token = service.push("{\"id\":3,\"name\":\"c\"}\n");
    let id = changes.data["epoch"].to_string();
    let mut events = service.follow(&format!("{TOTALS}?after={first}"), Some(&id));
    assert_eq!(events.next().unwrap().id, Some(token));
}

#[test]
fn changes_only_begin_now() {
    let service = Service::with_events();
    let token = service.push("{\"id\":1,\"name\":\"a\"}\n");
    service.rows("totals", "", &token);
    let mut events = service.follow(&format!("{TOTALS}?snapshot=false"), None);
    let token = service.push("{\"id\":2,\"name\":\"b\"}\n");
    let changes = events.next().unwrap();
    assert_eq!((changes.name.as_str(), changes.id), ("changes", Some(token)));
}

#[test]
fn a_token_of_another_life_is_answered_with_a_reset() {
    let service = Service::with_events();
    let old = service.push("{\"id\":1,\"name\":\"a\"}\n");
    service.delete("/v1/jobs/events");
    service.create("events", EVENTS).ok();
    let token = service.push("{\"id\":2,\"name\":\"b\"}\n");
    service.rows("totals", "", &token);
    for strange in [old.as_str(), "other:17", "events:99999999999999", "nonsense"] {
        let mut events = service.follow(TOTALS, Some(strange));
        assert_eq!(events.next().unwrap().name, "reset", "{strange}");
        let snapshot = events.next().unwrap();
        assert_eq!(snapshot.data["rows"], json!([{ "name": "b", "events": 1, "ids": 2 }]), "{strange}");
    }
}

#[test]
fn the_end_of_a_job_is_told() {
    let service = Service::with_events();
    let mut events = service.follow(TOTALS, None);
    events.next().unwrap();
    service.push("{\"id\":1,\"name\":\"a\"}\n");
    assert_eq!(events.next().unwrap().name, "changes");
    service.delete("/v1/jobs/events");
    let end = events.next().unwrap();
    assert_eq!((end.name.as_str(), &end.data["state"]), ("end", &json!("dropped")));
    assert_eq!(events.next(), None);
}

#[test]
fn an_idle_subscription_says_how_far_it_is() {
    let service = Service::with(Limits { heartbeat: Duration::from_millis(20), ..Limits::default() });
    service.create("events", EVENTS).ok();
    let token = service.push("{\"id\":1,\"name\":\"a\"}\n");
    service.rows("totals", "", &token);
    let mut events = service.follow(TOTALS, None);
    assert_eq!(events.next_of_any_kind().unwrap().name, "snapshot");
    let progress = events.next_of_any_kind().unwrap();
    assert_eq!((progress.name.as_str(), progress.id), ("progress", Some(token)));
}

#[test]
fn a_large_view_comes_in_pieces() {
    let service = Service::with_events();
    let rows: String = (0..5_000).map(|id| format!("{{\"id\":{id},\"name\":\"{id}\"}}\n")).collect();
    let token = service.push(&rows);
    service.rows("copy", "&limit=0", &token);
    let mut events = service.follow("/v1/views/copy/changes", None);
    let mut mirror = Mirror::default();
    let mut pieces = 0;
    loop {
        let event = events.next().unwrap();
        pieces += 1;
        mirror.take(&event);
        assert_eq!(event.id.is_some(), event.data["complete"] == true, "only the last piece has an id");
        if event.id.is_some() {
            break;
        }
    }
    assert!(pieces > 1);
    assert_eq!(mirror.rows().len(), 5_000);
    // And so do the changes of a large epoch.
    let rows: String = (5_000..25_000).map(|id| format!("{{\"id\":{id},\"name\":\"{id}\"}}\n")).collect();
    let token = service.push(&rows);
    mirror.read_to(&mut events, &token);
    assert_eq!(mirror.rows().len(), 25_000);
}

/// Rows that are too many for a subscriber's share and the kernel's buffers together.
fn flood(service: &Service, rounds: usize) -> String {
    let text = "x".repeat(1_000);
    let mut token = String::new();
    for round in 0..rounds {
        let rows: String = (0..500).map(|id| format!("{{\"id\":{},\"name\":\"{text}\"}}\n", round * 500 + id)).collect();
        token = service.push(&rows);
    }
    token
}

fn metric(service: &Service, name: &str) -> f64 {
    let text = service.get("/metrics").text();
    let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < crate::service::PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn subscribers_that_do_not_read_are_cut_off_and_hold_up_nobody() {
    let limits = Limits { subscriber_bytes: 256 << 10, lag_grace: Duration::from_millis(100), ..Limits::default() };
    let service = Service::with(limits);
    service.create("events", EVENTS).ok();
    let path = "/v1/views/copy/changes";
    let idle: Vec<_> = (0..50).map(|_| service.follow(path, None)).collect();
    wait_for("all have a seat", || metric(&service, "highwater_subscribers{") == 50.0);
    let token = flood(&service, 30);
    let rows = service.get(&format!("/v1/views/copy?min_epoch={token}&timeout_ms=60000&id=14999"));
    assert_eq!(rows.ok()["rows"].as_array().unwrap().len(), 1);
    wait_for("all are cut off", || metric(&service, "highwater_subscribers{") == 0.0);
    assert_eq!(metric(&service, "highwater_subscribers_lagged_total"), 50.0);
    drop(idle);
}

#[test]
fn who_lagged_goes_on_from_its_token() {
    let limits = Limits { subscriber_bytes: 256 << 10, lag_grace: Duration::from_millis(100), ..Limits::default() };
    let service = Service::with(limits);
    service.create("events", EVENTS).ok();
    let path = "/v1/views/copy/changes";
    let mut mirror = Mirror::default();
    let mut slow = service.follow(path, None);
    mirror.take(&slow.next().unwrap());
    let token = flood(&service, 30);
    wait_for("it is cut off", || metric(&service, "highwater_subscribers{") == 0.0);
    // What had been sent before counts, up to the last whole epoch.
    while let Some(event) = slow.next_of_any_kind() {
        mirror.take(&event);
    }
    let mut events = service.follow(path, mirror.last_id.as_deref());
    mirror.read_to(&mut events, &token);
    assert_eq!(mirror.rows().len(), 15_000);
    assert!(mirror.rows().values().all(|count| *count == 1));
}

#[test]
fn a_subscription_has_only_its_own_parameters() {
    let service = Service::with_events();
    service.get(&format!("{TOTALS}?name=a")).problem(400, "bad-query");
    service.get(&format!("{TOTALS}?after=other:1")).problem(400, "bad-token");
    service.get("/v1/views/nope/changes").problem(404, "unknown-view");
}

#[test]
fn a_stopped_server_ends_its_subscriptions() {
    let service = Service::with_events();
    let mut stream = service.raw(format!("GET {TOTALS} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
    wait_for("it has a seat", || metric(&service, "highwater_subscribers{") == 1.0);
    service.server.stop();
    let mut rest = Vec::new();
    // An end or a reset: either way the client knows.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.starts_with(b"HTTP/1.1 200"));
}
