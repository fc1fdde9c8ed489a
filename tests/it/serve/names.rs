//! Names of views and sources, with and without their job.

use serde_json::json;

use crate::service::Service;

const JOB: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR) WITH (connector = 'http');
    CREATE MATERIALIZED VIEW copy AS SELECT id, v FROM t;";

#[test]
fn a_name_is_short_as_long_as_one_job_has_it() {
    let service = Service::start();
    service.create("one", JOB).ok();
    let json = [("content-type", "application/json")];
    service.post("/v1/sources/t?wait=visible", &json, b"{\"id\":1,\"v\":\"a\"}").ok();
    assert_eq!(service.get("/v1/views/copy").ok()["rows"], json!([{ "id": 1, "v": "a" }]));

    service.create("two", JOB).ok();
    let document = service.get("/v1/views/copy").problem(409, "ambiguous-name");
    assert_eq!(document["jobs"], json!(["one", "two"]));
    assert_eq!(document["detail"], "jobs one, two have a view 'copy'; ask for /v1/jobs/one/views/copy");
    service.get("/v1/views/copy/changes").problem(409, "ambiguous-name");
    service.post("/v1/sources/t", &json, b"{\"id\":2}").problem(409, "ambiguous-name");

    service.post("/v1/jobs/two/sources/t?wait=visible", &json, b"{\"id\":2,\"v\":\"b\"}").ok();
    assert_eq!(service.get("/v1/jobs/one/views/copy").ok()["rows"], json!([{ "id": 1, "v": "a" }]));
    assert_eq!(service.get("/v1/jobs/two/views/copy").ok()["rows"], json!([{ "id": 2, "v": "b" }]));
    let mut events = service.follow("/v1/jobs/two/views/copy/changes", None);
    assert_eq!(events.next().unwrap().data["rows"], json!([{ "id": 2, "v": "b" }]));
    service.get("/v1/jobs/three/views/copy").problem(404, "unknown-job");
    let document = service.get("/v1/jobs/two/views/nope").problem(404, "unknown-view");
    assert_eq!(document["detail"], "no view 'nope'; views: copy");

    service.delete("/v1/jobs/one");
    assert_eq!(service.get("/v1/views/copy").ok()["rows"], json!([{ "id": 2, "v": "b" }]));
}
