//! `GET /v1/views/{view}`.

use std::io::Cursor;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};

use crate::service::Service;

const ROWS: &str = "{\"id\":1,\"name\":\"a\",\"price\":1.5,\"at\":\"2026-01-02T03:04:05\"}\n\
    {\"id\":2,\"name\":\"\",\"price\":null,\"at\":\"2026-01-02T03:04:06\"}\n\
    {\"id\":3,\"name\":null,\"price\":2.5,\"at\":null}\n\
    {\"id\":3,\"name\":\"a,\\\"b\",\"price\":0.25,\"at\":null}\n";

fn ids(rows: &[Value]) -> Vec<i64> {
    let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn rows_are_answered_with_their_token() {
    let service = Service::with_events();
    let token = service.push("{\"id\":1,\"name\":\"a\",\"price\":1.5,\"at\":\"2026-01-02T03:04:05\"}\n");
    let reply = service.get(&format!("/v1/views/copy?min_epoch={token}"));
    let answer = reply.ok();
    assert_eq!(answer["rows"], json!([{ "id": 1, "name": "a", "price": 1.5, "at": "2026-01-02T03:04:05.000" }]));
    assert_eq!((&answer["view"], &answer["job"]), (&json!("copy"), &json!("events")));
    assert_eq!(answer["token"], format!("events:{}", answer["epoch"]));
    assert_eq!(reply.headers["highwater-token"], answer["token"].as_str().unwrap());
    assert!(answer["token"].as_str().unwrap() >= token.as_str());
    // An epoch alone will do, and a later answer's token is as good as a push's.
    let epoch = answer["epoch"].as_u64().unwrap();
    assert_eq!(service.rows("copy", "", &epoch.to_string()).len(), 1);
}

#[test]
fn rows_are_chosen_by_any_column() {
    let service = Service::with_events();
    let token = service.push(ROWS);
    let chosen = |query: &str| ids(&service.rows("copy", query, &token));
    assert_eq!(chosen("&id=3"), [3, 3]);
    assert_eq!(chosen("&id=3&price=2.5"), [3]);
    assert_eq!(chosen("&name=a"), [1]);
    assert_eq!(chosen("&name="), [2]);
    assert_eq!(chosen("&name.is=null"), [3]);
    assert_eq!(chosen("&at=2026-01-02T03:04:06"), [2]);
    assert_eq!(chosen("&at.is=null"), [3, 3]);
    assert!(chosen("&id=7").is_empty());
    assert_eq!(service.rows("copy", "&limit=2", &token).len(), 2);
    assert_eq!(service.rows("copy", "&limit=0", &token).len(), 0);
    assert_eq!(service.rows("totals", "&name=a", &token), [json!({ "name": "a", "events": 1, "ids": 1 })]);
}

#[test]
fn rows_come_in_the_format_that_is_accepted() {
    let service = Service::with_events();
    let token = service.push(ROWS);
    let path = format!("/v1/views/copy?min_epoch={token}");

    let ndjson = service.get_as(&path, "application/x-ndjson");
    assert_eq!(ndjson.headers["content-type"], "application/x-ndjson");
    let rows: Vec<Value> = ndjson.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids(&rows), [1, 2, 3, 3]);

    let csv = service.get_as(&path, "text/csv").text();
    let mut lines: Vec<&str> = csv.lines().collect();
    lines[1..].sort_unstable();
    let expected = [
        "id,name,price,at",
        "1,a,1.5,2026-01-02T03:04:05.000",
        "2,\"\",,2026-01-02T03:04:06.000",
        "3,\"a,\"\"b\",0.25,",
        "3,,2.5,",
    ];
    assert_eq!(lines, expected);

    let arrow = service.get_as(&path, "application/vnd.apache.arrow.stream");
    let reader = StreamReader::try_new(Cursor::new(arrow.bytes), None).unwrap();
    let mut found: Vec<i64> = Vec::new();
    for batch in reader {
        found.extend(batch.unwrap().column_by_name("id").unwrap().as_primitive::<Int64Type>().values());
    }
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 3]);

    assert_eq!(service.get(&format!("{path}&format=csv")).headers["content-type"], "text/csv; charset=utf-8");
    service.get_as(&path, "image/png").problem(406, "not-acceptable");
    service.get(&format!("{path}&format=xml")).problem(406, "not-acceptable");
}

#[test]
fn a_large_answer_comes_whole() {
    let service = Service::with_events();
    let rows: String = (0..30_000).map(|id| format!("{{\"id\":{id},\"name\":\"name {}\"}}\n", id % 7)).collect();
    let token = service.push(&rows);
    let answer = service.rows("copy", "", &token);
    assert_eq!(ids(&answer), (0..30_000).collect::<Vec<i64>>());
    let path = format!("/v1/views/copy?min_epoch={token}");
    assert_eq!(service.get_as(&path, "application/x-ndjson").text().lines().count(), 30_000);
    assert_eq!(service.get_as(&path, "text/csv").text().lines().count(), 30_001);
    let arrow = service.get(&format!("{path}&format=arrow"));
    let reader = StreamReader::try_new(Cursor::new(arrow.bytes), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 30_000);
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let service = Service::with_events();
    let token = service.push("{\"id\":1}\n");
    let document = service.get("/v1/views/copy?colour=red").problem(400, "unknown-column");
    assert_eq!(document["detail"], "no column 'colour'; columns: id, name, price, at");
    service.get("/v1/views/copy?id=one").problem(400, "bad-value");
    service.get("/v1/views/copy?limit=many").problem(400, "bad-query");
    service.get("/v1/views/copy?id=%zz").problem(400, "bad-query");
    service.get("/v1/views/copy?min_epoch=soon").problem(400, "bad-token");
    service.get(&format!("/v1/views/copy?min_epoch=other:{}", token.split(':').next_back().unwrap())).problem(400, "bad-token");
    let document = service.get("/v1/views/nope").problem(404, "unknown-view");
    assert_eq!(document["detail"], "no view 'nope'; views: copy, totals");
    let document = service.get("/v1/views/copy?min_epoch=99999999999999&timeout_ms=20").problem(504, "epoch-timeout");
    assert!(document["closed"].is_u64(), "{document:#}");
}

#[test]
fn views_are_listed_with_their_columns() {
    let service = Service::with_events();
    let token = service.push(ROWS);
    service.rows("copy", "", &token);
    let listed = service.get("/v1/views").ok();
    let copy = listed["views"].as_array().unwrap().iter().find(|view| view["view"] == "copy").unwrap();
    assert_eq!(copy["rows"], 4);
    assert_eq!(copy["columns"][1], json!({ "name": "name", "type": "Utf8", "nullable": true }));
    let sides: Vec<&str> = listed["views"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|view| view["kind"] == "side")
        .map(|view| view["view"].as_str().unwrap())
        .collect();
    assert!(sides.contains(&"events$rejects"), "{sides:?}");
}

#[test]
fn side_relations_are_read_by_either_spelling() {
    let service = Service::with_events();
    let token = service.push("{\"id\":1}\nnot json\n{\"id\":\"x\"}\n");
    for name in ["events$rejects", "events%24rejects"] {
        let rows = service.rows(name, "", &token);
        assert_eq!(rows.len(), 2, "{rows:?}");
    }
    assert_eq!(service.rows("copy", "", &token).len(), 1);
}
