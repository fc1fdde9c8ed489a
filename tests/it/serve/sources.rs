//! `POST /v1/sources/{source}`.

use std::net::Shutdown;

use serde_json::json;

use crate::service::{EVENTS, Service};

const NDJSON: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

#[test]
fn rows_come_in_three_formats() {
    let service = Service::with_events();
    let json = [("content-type", "application/json; charset=utf-8")];
    let csv = [("content-type", "text/csv")];
    service.post("/v1/sources/events", &NDJSON, b"{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"a\"}").ok();
    service.post("/v1/sources/events", &json, b"[{\"id\":3,\"name\":\"a\"},\n{\"id\":4,\"name\":\"a\"}]").ok();
    service.post("/v1/sources/events", &json, b"{\"id\":5,\"name\":\"a\"}").ok();
    let pushed = service.post("/v1/sources/events", &csv, b"name,id\na,6\na,7\n").ok();
    assert_eq!((&pushed["accepted"], &pushed["rejected"]), (&json!(2), &json!(0)));
    let rows = service.rows("totals", "", pushed["token"].as_str().unwrap());
    assert_eq!(rows, [json!({ "name": "a", "events": 7, "ids": 28 })]);
}

#[test]
fn a_push_reads_its_own_rows() {
    let service = Service::with_events();
    for id in 1..=20 {
        let token = service.push(&format!("{{\"id\":{id},\"name\":\"a\"}}\n"));
        let rows = service.rows("totals", "&name=a", &token);
        assert_eq!(rows[0]["events"], id);
    }
    let reply = service.post("/v1/sources/events?wait=visible", &NDJSON, b"{\"id\":21,\"name\":\"a\"}");
    let token = reply.ok()["token"].as_str().unwrap().to_string();
    assert_eq!(reply.headers["highwater-token"], token);
    // Visible means that nobody has to wait any more.
    assert_eq!(service.rows("totals", "&name=a&timeout_ms=0", &token)[0]["events"], 21);
}

#[test]
fn bad_rows_are_rejected_and_the_others_taken() {
    let service = Service::with_events();
    let mut body = b"{\"id\":1}\n{\"id\":\"one\"}\n\n".to_vec();
    body.extend_from_slice(&[0x00, 0xff, 0xfe, b'\n', 0x80]);
    body.extend_from_slice(b"\n{\"id\":2}\n{\"id\":");
    let pushed = service.post("/v1/sources/events", &NDJSON, &body).ok();
    assert_eq!((&pushed["accepted"], &pushed["rejected"]), (&json!(2), &json!(4)), "{pushed:#}");
    assert_eq!(pushed["reasons"].as_array().unwrap().len(), 4);
    let token = pushed["token"].as_str().unwrap();
    assert_eq!(service.rows("copy", "", token).len(), 2);
    assert_eq!(service.rows("events$rejects", "", token).len(), 4);
}

#[test]
fn a_body_with_the_same_key_is_taken_once() {
    let service = Service::with_events();
    let headers = [NDJSON[0], ("idempotency-key", "order-17")];
    let first = service.post("/v1/sources/events", &headers, b"{\"id\":1,\"name\":\"a\"}\n").ok();
    let again = service.post("/v1/sources/events", &headers, b"{\"id\":1,\"name\":\"a\"}\n").ok();
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(first["token"], again["token"]);
    let token = service.push("{\"id\":2,\"name\":\"b\"}\n");
    assert_eq!(service.rows("totals", "&name=a", &token)[0]["events"], 1);
    let long = "k".repeat(257);
    service.post("/v1/sources/events", &[NDJSON[0], ("idempotency-key", &long)], b"").problem(400, "bad-query");
}

#[test]
fn what_is_no_push_is_a_problem() {
    let service = Service::with_events();
    service.post("/v1/sources/nope", &NDJSON, b"{}").problem(404, "unknown-source");
    service.post("/v1/sources/events", &[("content-type", "image/png")], b"{}").problem(415, "unsupported-media-type");
    service.post("/v1/sources/events", &[("content-type", "")], b"{}").problem(415, "unsupported-media-type");
    service.post("/v1/sources/events", &[("content-type", "application/json")], b"[{\"id\":1}").problem(400, "bad-body");
    service.post("/v1/sources/events?wait=long", &NDJSON, b"{}").problem(400, "bad-query");
    let generated = "CREATE SOURCE made (id BIGINT) WITH (connector = 'datagen', rate = '1');
        CREATE MATERIALIZED VIEW seen AS SELECT id FROM made;";
    service.create("made", generated).ok();
    service.post("/v1/sources/made", &NDJSON, b"{\"id\":1}").problem(409, "not-pushable");
}

#[test]
fn an_empty_body_has_a_token_too() {
    let service = Service::with_events();
    let pushed = service.post("/v1/sources/events", &NDJSON, b"").ok();
    assert_eq!((&pushed["accepted"], &pushed["rejected"]), (&json!(0), &json!(0)));
    assert!(pushed["token"].is_string(), "{pushed}");
}

#[test]
fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let service = Service::with_events();
    let head = "POST /v1/sources/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n";
    for _ in 0..10 {
        let stream = service.raw(format!("{head}{{\"id\":1,\"name\":\"gone\"}}\n{{\"id\":2").as_bytes());
        stream.shutdown(Shutdown::Both).unwrap();
    }
    // The same with a chunked body that lacks its end.
    let chunked = head.replace("content-length: 1000", "transfer-encoding: chunked");
    drop(service.raw(format!("{chunked}17\r\n{{\"id\":1,\"name\":\"gone\"}}\n\r\n").as_bytes()));
    let token = service.push("{\"id\":3,\"name\":\"here\"}\n");
    assert_eq!(service.rows("totals", "", &token), [json!({ "name": "here", "events": 1, "ids": 3 })]);
    assert_eq!(service.rows("events$rejects", "", &token), Vec::<serde_json::Value>::new());
}

#[test]
fn a_source_of_a_dropped_job_is_gone() {
    let service = Service::with_events();
    service.push("{\"id\":1}\n");
    service.delete("/v1/jobs/events");
    service.post("/v1/sources/events", &NDJSON, b"{\"id\":2}\n").problem(404, "unknown-source");
    service.create("events", EVENTS).ok();
    let token = service.push("{\"id\":3}\n");
    assert_eq!(service.rows("copy", "", &token).len(), 1);
}
