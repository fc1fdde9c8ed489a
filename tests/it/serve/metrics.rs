//! `/healthz`, `/readyz`, `/metrics`.

use std::collections::BTreeSet;

use highwater::telemetry::METRICS;
use serde_json::json;

use crate::service::Service;

#[test]
fn health_and_readiness_are_told() {
    let service = Service::with_events();
    assert_eq!(service.get("/healthz").text(), "ok\n");
    assert_eq!(
        service.get("/readyz").ok(),
        json!({ "ready": true, "jobs": 1, "failed": [], "restoring": [], "returning": [], "changing": [] })
    );
}

#[test]
fn metrics_are_in_the_table_and_counted() {
    let service = Service::with_events();
    let token = service.push("{\"id\":1,\"name\":\"a\"}\n{\"id\":\"x\"}\n");
    service.rows("totals", "", &token);
    let _events = service.follow("/v1/views/totals/changes", None);
    let reply = service.get("/metrics");
    assert_eq!(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = reply.text();
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(known.contains(name), "{line}");
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
    }
    for line in [
        "highwater_job_up{job=\"events\"} 1",
        "highwater_source_rows_total{job=\"events\",source=\"events\"} 2",
        "highwater_source_rejected_rows_total{job=\"events\",source=\"events\"} 1",
        "highwater_view_rows{job=\"events\",view=\"totals\"} 1",
        "highwater_subscribers{job=\"events\",view=\"totals\"} 1",
        "highwater_http_requests_total{route=\"POST /v1/jobs\",status=\"201\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
