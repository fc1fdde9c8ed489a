//! `/v1/jobs`.

use std::sync::Arc;
use std::time::Duration;

use highwater::{CheckpointConfig, Highwater, Limits};
use serde_json::json;

use crate::service::{EVENTS, Service};

#[test]
fn a_job_is_created_listed_inspected_and_dropped() {
    let service = Service::start();
    let created = service.create("shop", EVENTS);
    assert_eq!((created.status, created.headers["location"].as_str()), (201, "/v1/jobs/shop"));
    assert_eq!(created.ok()["state"], "running");

    let listed = service.get("/v1/jobs").ok();
    assert_eq!(listed["jobs"][0]["job"], "shop");
    assert_eq!(listed["jobs"][0]["views"], json!(["copy", "totals"]));

    // Workers make their operators when they come to it; a row that is visible has passed all of them.
    let token = service.push("{\"id\":1}\n");
    service.rows("totals", "", &token);
    let report = service.get("/v1/jobs/shop").ok();
    assert_eq!(report["sql"], EVENTS);
    assert_eq!(report["sources"][0]["source"], "events");
    assert_eq!(report["sources"][0]["pushable"], true);
    assert_eq!(report["sources"][0]["partitions"][0]["state"], "active");
    assert_eq!(report["problems"], json!([]));
    let names: Vec<&str> = report["operators"].as_array().unwrap().iter().map(|o| o["operator"].as_str().unwrap()).collect();
    assert!(names.contains(&"view totals"), "{names:?}");

    let plan = service.get("/v1/jobs/shop/plan");
    assert_eq!(plan.headers["content-type"], "text/plain; charset=utf-8");
    assert!(plan.text().contains("view totals key=[name]"), "{}", plan.text());

    assert_eq!(service.delete("/v1/jobs/shop").status, 204);
    service.delete("/v1/jobs/shop").problem(404, "unknown-job");
    service.get("/v1/jobs/shop").problem(404, "unknown-job");
    service.get("/v1/views/totals").problem(404, "unknown-view");
    // Its names are free again.
    service.create("shop", EVENTS).ok();
}

#[test]
fn a_job_may_come_as_json_and_without_a_name() {
    let service = Service::start();
    let body = json!({ "name": "shop", "sql": EVENTS }).to_string();
    let created = service.post("/v1/jobs", &[("content-type", "application/json")], body.as_bytes()).ok();
    assert_eq!(created["job"], "shop");
    let sql = EVENTS.replace("events", "others").replace("copy", "copied").replace("totals", "sums");
    let created = service.post("/v1/jobs", &[], sql.as_bytes()).ok();
    assert_eq!(created["job"], "job-1");
}

#[test]
fn what_a_job_begins_with_is_said_or_refused() {
    let service = Service::start();
    let refused = |query: &str, status: u16, code: &str| {
        let document = service.post(&format!("/v1/jobs?{query}"), &[], EVENTS.as_bytes()).problem(status, code);
        document["detail"].as_str().unwrap().to_owned()
    };
    assert!(refused("name=a&restor=x", 400, "bad-query").contains("a job has no 'restor'"));
    assert!(refused("name=a&upgrade=1", 400, "bad-query").contains("'upgrade' is true or false"));
    assert!(refused("name=a&restore=x&fresh", 400, "bad-query").contains("leave one out"));
    assert!(refused("name=a&upgrade&fresh", 400, "bad-query").contains("leave one out"));
    assert!(refused("name=a&restore_job=b", 400, "bad-query").contains("'restore' names, which is missing"));
    // It does not begin with nothing instead.
    assert!(refused("name=a&restore=x", 409, "checkpoints-unusable").contains("start it with --checkpoints"));
    service.create("a", EVENTS).ok();
}

#[test]
fn a_name_that_nobody_chose_is_not_that_of_a_saved_job() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let location = folder.path().join("state").display().to_string();
        let checkpoints = CheckpointConfig { location, interval: Duration::from_millis(50), record: None };
        Service::of(Highwater::builder().checkpoints(Some(checkpoints)).start().unwrap(), Limits::default())
    };
    let service = start();
    assert_eq!(service.post("/v1/jobs", &[], EVENTS.as_bytes()).ok()["job"], "job-1");
    service.push("{\"id\":1,\"name\":\"a\"}\n");
    assert_eq!(service.put("/v1/jobs/job-1/savepoints/one").status, 201);
    drop(service);
    // Nobody has brought it back.
    let service = start();
    let sql = EVENTS.replace("count(*)", "count(id)");
    assert_eq!(service.post("/v1/jobs", &[], sql.as_bytes()).ok()["job"], "job-2");
    let restored = service.post("/v1/jobs?name=other&restore=one&restore_job=job-1", &[], EVENTS.as_bytes()).ok();
    assert!(restored["checkpoints"]["restored_epoch"].is_u64(), "{restored:#}");
    assert_eq!(service.get("/v1/jobs/other/views/totals").ok()["rows"][0]["events"], 1);
}

#[test]
fn a_savepoint_has_the_rows_that_were_accepted_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().join("state").display().to_string();
    // There is always a checkpoint that is being taken already.
    let checkpoints = CheckpointConfig { location, interval: Duration::from_millis(1), record: None };
    let service = Service::of(Highwater::builder().checkpoints(Some(checkpoints)).start().unwrap(), Limits::default());
    service.post("/v1/jobs?name=own", &[], EVENTS.as_bytes()).ok();
    for events in 1..=20 {
        service.push("{\"id\":1,\"name\":\"a\"}\n");
        assert_eq!(service.put(&format!("/v1/jobs/own/savepoints/s{events}")).status, 201);
        let restore = format!("/v1/jobs?name=other{events}&restore=s{events}&restore_job=own");
        service.post(&restore, &[], EVENTS.as_bytes()).ok();
        let view = service.get(&format!("/v1/jobs/other{events}/views/totals")).ok();
        assert_eq!(view["rows"][0]["events"], events, "{view}");
        service.delete(&format!("/v1/jobs/other{events}"));
    }
}

#[test]
fn a_job_that_is_being_brought_back_is_not_there_yet_and_that_is_said() {
    let highwater = Highwater::builder().start().unwrap();
    let service = Service::of(Arc::clone(&highwater), Limits::default());
    service.create("here", EVENTS).ok();
    let reservation = highwater.runtime().reserve("late", true).unwrap();
    let asks = ["/v1/jobs/late", "/v1/jobs/late/plan", "/v1/jobs/late/views/totals", "/v1/views/nothing"];
    let ask = |path: &str| service.get(path);
    for path in asks {
        let reply = ask(path);
        assert_eq!(reply.problem(503, "job-returning")["returning"], json!(["late"]), "{path}");
        assert_eq!(reply.headers["retry-after"], "1", "{path}");
    }
    service.delete("/v1/jobs/late").problem(503, "job-returning");
    service.post("/v1/sources/nothing", &[("content-type", "application/x-ndjson")], b"{}").problem(503, "job-returning");
    let query = |sql: &str| service.post("/v1/query", &[], sql.as_bytes());
    query("SELECT * FROM nothing").problem(503, "job-returning");
    query("SELECT nothing FROM totals").problem(422, "invalid-script");
    service.create("late", EVENTS).problem(409, "job-exists");
    assert_eq!(service.get("/v1/jobs").ok()["jobs"][1], json!({ "job": "late", "state": "waiting" }));
    let ready = service.get("/readyz");
    assert_eq!((ready.status, &ready.json()["ready"], &ready.json()["returning"]), (503, &json!(false), &json!(["late"])));
    // Those that are there are served meanwhile.
    service.get("/v1/views/totals").ok();

    drop(reservation);
    service.get("/readyz").ok();
    service.get("/v1/jobs/late").problem(404, "unknown-job");
    service.get("/v1/views/nothing").problem(404, "unknown-view");
    query("SELECT * FROM nothing").problem(422, "invalid-script");
}

#[test]
fn a_wrong_text_is_told_with_its_place() {
    let service = Service::start();
    let reply = service.create(
        "wrong",
        "CREATE SOURCE s (a BIGINT)\nWITH (connector = 'http', colour = 'red');\nCREATE MATERIALIZED VIEW v AS SELECT a FROM s;",
    );
    let document = reply.problem(422, "invalid-job");
    let diagnostic = &document["diagnostics"][0];
    assert_eq!((&diagnostic["line"], &diagnostic["column"]), (&json!(2), &json!(27)), "{document:#}");
    assert!(document["rendered"].as_str().unwrap().contains("--> wrong:2:27"), "{document:#}");
    assert_eq!(service.get("/v1/jobs").ok()["jobs"], json!([]));
}

#[test]
fn names_are_checked() {
    let service = Service::with_events();
    service.create("events", EVENTS).problem(409, "job-exists");
    service.create("a%3Ab", EVENTS).problem(400, "bad-name");
    service.create("", EVENTS).problem(400, "bad-name");
    // Another job has names of its own.
    service.create("more", EVENTS).ok();
}

#[test]
fn dropping_a_job_does_not_disturb_another() {
    let service = Service::with_events();
    let other = EVENTS.replace("events", "others").replace("copy", "copied").replace("totals", "sums");
    service.create("other", &other).ok();
    let token = service.push("{\"id\":1,\"name\":\"a\"}\n");
    assert_eq!(service.delete("/v1/jobs/other").status, 204);
    assert_eq!(service.rows("copy", "", &token).len(), 1);
    let token = service.push("{\"id\":2,\"name\":\"a\"}\n");
    assert_eq!(service.rows("totals", "", &token), [json!({ "name": "a", "events": 2, "ids": 3 })]);
}

#[test]
fn a_body_that_is_no_job_is_a_problem() {
    let service = Service::start();
    service.post("/v1/jobs", &[("content-type", "application/json")], b"{\"sql\":").problem(400, "bad-body");
    service.post("/v1/jobs", &[], &[0xff, 0xfe]).problem(400, "bad-body");
    service.create("empty", "").problem(422, "invalid-job");
}
