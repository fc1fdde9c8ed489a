//! `/v1/jobs`.

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
