//! `/healthz`, `/readyz`, `/metrics`, and the pages of error codes.

use std::sync::Arc;

use highwater_engine::JobState;
use serde_json::json;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::StatusCode;
use warp::reply::Response;

use super::Context;
use super::problem::{Code, Problem};
use super::respond::{answer, json_response, text_response, with};
use crate::telemetry;

pub(super) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let healthy = warp::path!("healthz")
        .and(warp::get())
        .then(|| async { answer("GET /healthz", Ok(text_response("text/plain", "ok\n"))) });
    let ready = warp::path!("readyz")
        .and(warp::get())
        .and(with(context))
        .then(|context: Arc<Context>| async move { answer("GET /readyz", Ok(ready(&context))) });
    let metrics = warp::path!("metrics")
        .and(warp::get())
        .and(with(context))
        .then(|context: Arc<Context>| async move { answer("GET /metrics", Ok(metrics(&context))) });
    let errors = warp::path!("errors" / String)
        .and(warp::get())
        .then(|code: String| async move { answer("GET /errors/{code}", page(&code)) });
    healthy.or(ready).unify().or(metrics).unify().or(errors).unify().boxed()
}

/// Ready is who takes jobs and answers reads, and has brought back what it had; a job that has failed or is being changed is reported,
/// but it is no reason to send clients elsewhere.
fn ready(context: &Context) -> Response {
    let runtime = context.highwater.runtime();
    let (returning, changing) = (runtime.returning(), runtime.changing());
    let jobs = runtime.jobs();
    let failed: Vec<&str> = jobs.iter().filter(|job| matches!(job.state(), JobState::Failed(_))).map(|job| job.name()).collect();
    let restoring: Vec<String> = runtime.restoring().into_iter().map(|restore| restore.job).collect();
    let ready = returning.is_empty();
    let mut response = json_response(&json!({
        "ready": ready, "jobs": jobs.len(), "failed": failed,
        "restoring": restoring, "returning": returning, "changing": changing,
    }));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn metrics(context: &Context) -> Response {
    let mut text = telemetry::Text::default();
    telemetry::jobs(&mut text, &context.highwater.runtime().jobs());
    telemetry::restores(&mut text, &context.highwater.runtime().restoring());
    telemetry::http(&mut text, &context.http, context.hubs.subscribers());
    text_response("text/plain; version=0.0.4; charset=utf-8", text.finish())
}

fn page(code: &str) -> Result<Response, Problem> {
    let found = Code::ALL.iter().find(|known| known.code() == code);
    let found = found.ok_or_else(|| Problem::new(Code::UnknownRoute, format!("no error code '{code}'")))?;
    Ok(text_response("text/plain; charset=utf-8", found.page()))
}
