//! `POST /v1/query`.

use serde_json::{Value, json};

use crate::service::{Reply, Service};

const SHOP: &str = "
CREATE TABLE item (id BIGINT PRIMARY KEY, name VARCHAR NOT NULL, price DOUBLE DEFAULT 9.5, doubled AS price * 2);
CREATE TABLE sale (item BIGINT, amount INT) WITH (connector = 'http', readable = 'true');
CREATE TABLE log (text VARCHAR) WITH (connector = 'http');
CREATE TABLE unkept (id BIGINT PRIMARY KEY, text VARCHAR) WITH (connector = 'http');
CREATE MATERIALIZED VIEW sold AS SELECT item, sum(amount) AS amount FROM sale GROUP BY item;
CREATE MATERIALIZED VIEW texts AS SELECT text FROM log;
CREATE MATERIALIZED VIEW unkept_texts AS SELECT text FROM unkept;
";

fn shop() -> Service {
    let service = Service::start();
    service.create("shop", SHOP).ok();
    service
}

fn sql(service: &Service, text: &str) -> Reply {
    service.post("/v1/query", &[("content-type", "application/sql")], text.as_bytes())
}

#[track_caller]
fn rows(service: &Service, text: &str) -> Value {
    sql(service, text).ok()["rows"].clone()
}

#[track_caller]
fn changed(service: &Service, text: &str) -> u64 {
    let document = sql(service, text).ok();
    assert!(document["token"].as_str().unwrap().starts_with("shop:"), "{document}");
    document["rows"].as_u64().unwrap()
}

#[test]
fn what_is_inserted_can_be_asked_for() {
    let service = shop();
    assert_eq!(changed(&service, "INSERT INTO item VALUES (1, 'pen', 2.5), (2, 'ink', 4)"), 2);
    assert_eq!(changed(&service, "INSERT INTO item (name, ID) VALUES ('paper', 3)"), 1);
    let all = json!([
        { "id": 1, "name": "pen", "price": 2.5, "doubled": 5.0 },
        { "id": 2, "name": "ink", "price": 4.0, "doubled": 8.0 },
        { "id": 3, "name": "paper", "price": 9.5, "doubled": 19.0 },
    ]);
    assert_eq!(rows(&service, "SELECT * FROM item ORDER BY id"), all);
    assert_eq!(changed(&service, "INSERT INTO sale SELECT id, 10 FROM item WHERE price < 5; INSERT INTO sale VALUES (1, 5)"), 3);
    let joined = "SELECT i.name, s.amount FROM sold AS s JOIN item AS i ON i.id = s.item ORDER BY s.amount DESC LIMIT 1";
    assert_eq!(rows(&service, joined), json!([{ "name": "pen", "amount": 15 }]));
    assert_eq!(rows(&service, "SELECT name FROM item ORDER BY price DESC LIMIT 1 OFFSET 1"), json!([{ "name": "ink" }]));
    assert_eq!(rows(&service, "SELECT count(*) AS n FROM sale"), json!([{ "n": 3 }]));
    assert_eq!(rows(&service, "SELECT 1 + 1 AS two"), json!([{ "two": 2 }]));
    assert_eq!(rows(&service, "VALUES (1, 'a')").as_array().unwrap().len(), 1);
}

#[test]
fn tables_are_updated_and_deleted_from() {
    let service = shop();
    changed(&service, "INSERT INTO item VALUES (1, 'pen', 2), (2, 'ink', 4), (3, 'cap', NULL)");
    assert_eq!(changed(&service, "UPDATE item SET price = price * 10, name = 'x' || name WHERE price IS NOT NULL"), 2);
    let names = "SELECT id, name, price FROM item ORDER BY id";
    let now = json!([
        { "id": 1, "name": "xpen", "price": 20.0 },
        { "id": 2, "name": "xink", "price": 40.0 },
        { "id": 3, "name": "cap", "price": null },
    ]);
    assert_eq!(rows(&service, names), now);
    // Another key: the old row goes.
    assert_eq!(changed(&service, "UPDATE item SET id = id + 10 WHERE id = 3"), 1);
    assert_eq!(changed(&service, "DELETE FROM item WHERE id = 1"), 1);
    assert_eq!(changed(&service, "DELETE FROM item WHERE id = 1"), 0);
    assert_eq!(rows(&service, "SELECT id FROM item ORDER BY 1"), json!([{ "id": 2 }, { "id": 13 }]));
    // A bag: one equal row after the other.
    changed(&service, "INSERT INTO sale VALUES (1, 5), (1, 5), (2, 7)");
    assert_eq!(changed(&service, "UPDATE sale SET amount = amount + 1 WHERE item = 1"), 2);
    assert_eq!(
        rows(&service, "SELECT * FROM sale ORDER BY item"),
        json!([
            { "item": 1, "amount": 6 }, { "item": 1, "amount": 6 }, { "item": 2, "amount": 7 },
        ])
    );
    assert_eq!(changed(&service, "DELETE FROM sale"), 3);
    assert_eq!(rows(&service, "SELECT * FROM sold"), json!([]));
}

#[test]
fn a_query_is_answered_in_the_format_that_is_accepted() {
    let service = shop();
    changed(&service, "INSERT INTO item VALUES (1, 'pen', 2), (2, 'ink', 4)");
    let headers = [("content-type", "application/json"), ("accept", "text/csv")];
    let body = json!({ "sql": "SELECT name, id FROM item ORDER BY id DESC", "job": "shop" }).to_string();
    let reply = service.post("/v1/query", &headers, body.as_bytes());
    assert_eq!(reply.text(), "name,id\nink,2\npen,1\n");
    assert!(reply.headers["highwater-token"].starts_with("shop:"));
    let ndjson = service.post("/v1/query?format=ndjson", &[], b"SELECT id FROM item WHERE false");
    assert_eq!(ndjson.text(), "");
    let arrow = service.post("/v1/query?format=arrow", &[], b"SELECT id FROM item");
    let reader = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(arrow.bytes), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let service = shop();
    let document = sql(&service, "SELECT nme FROM item").problem(422, "invalid-script");
    assert_eq!(document["diagnostics"][0]["code"], "unknown-column");
    assert_eq!((&document["diagnostics"][0]["line"], &document["diagnostics"][0]["column"]), (&json!(1), &json!(8)));
    let document = sql(&service, "SELECT 1 FROM nowhere").problem(422, "invalid-script");
    let help = document["diagnostics"][0]["help"].as_str().unwrap();
    assert!(help.contains("sold"), "{help}");
    let first = |text: &str| sql(&service, text).problem(422, "invalid-script")["diagnostics"][0].clone();
    assert_eq!(first("CREATE VIEW v AS SELECT 1")["code"], "not-a-query");
    assert_eq!(first("SELECT 1; SELECT 2")["code"], "invalid-script");
    assert_eq!(first("")["code"], "invalid-script");
    assert_eq!(first("INSERT INTO sold VALUES (1, 2)")["code"], "not-a-table");
    assert_eq!(first("DELETE FROM log")["code"], "append-only-table");
    assert_eq!(first("DELETE FROM unkept")["code"], "not-readable");
    assert_eq!(first("UPDATE item SET nme = 'x'")["code"], "unknown-column");
    assert_eq!(first("UPDATE item SET doubled = 1")["code"], "unknown-column");
    assert_eq!(first("INSERT INTO item VALUES (1)")["code"], "column-count");
    sql(&service, "INSERT INTO item VALUES (1, NULL, 2)").problem(422, "invalid-rows");
    changed(&service, "INSERT INTO item VALUES (1, 'pen', 2)");
    let document = sql(&service, "SELECT 1 / (id - 1) AS x FROM item").problem(422, "query-failed");
    assert!(document["detail"].as_str().unwrap().to_lowercase().contains("by zero"), "{document:#}");
    service.post("/v1/query?job=nope", &[], b"SELECT 1").problem(404, "unknown-job");
    service.get("/v1/query").problem(405, "method-not-allowed");
}

#[test]
fn a_statement_speaks_of_one_job() {
    let service = shop();
    service.create("other", "CREATE TABLE item (id BIGINT PRIMARY KEY); CREATE TABLE only (id BIGINT);").ok();
    let document = sql(&service, "SELECT id FROM item").problem(409, "ambiguous-name");
    assert_eq!(document["jobs"], json!(["shop", "other"]));
    sql(&service, "SELECT 1 FROM only JOIN sold ON id = item").problem(422, "different-jobs");
    let token = sql(&service, "INSERT INTO only VALUES (7)").ok()["token"].as_str().unwrap().to_owned();
    assert_eq!(rows(&service, "WITH item AS (SELECT id FROM only) SELECT id FROM item"), json!([{ "id": 7 }]));
    // A token names the job.
    let reply = service.post(&format!("/v1/query?min_epoch={token}"), &[], b"SELECT count(*) AS n FROM item");
    assert_eq!(reply.ok()["job"], "other");
}
