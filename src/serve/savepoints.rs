//! `/v1/jobs/{job}/savepoints`: make, list, delete. A savepoint stays after its job was dropped, and is listed then, too.

use std::sync::Arc;

use highwater_runtime::{CheckpointError, KeptCheckpoint, SavepointError};
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{Response as HttpResponse, StatusCode};
use warp::reply::Response;

use super::problem::{Code, Problem};
use super::query;
use super::respond::{answer, json_response, with};
use super::{Context, lookup};

pub(super) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let all = || warp::path!("v1" / "jobs" / String / "savepoints").and(with(context));
    let one = || warp::path!("v1" / "jobs" / String / "savepoints" / String).and(with(context));
    let list = all().and(warp::get()).then(|job: String, context: Arc<Context>| async move {
        answer("GET /v1/jobs/{name}/savepoints", list(context, &job).await)
    });
    let make = one().and(warp::put()).then(|job: String, name: String, context: Arc<Context>| async move {
        answer("PUT /v1/jobs/{name}/savepoints/{savepoint}", make(context, &job, &name).await)
    });
    let delete = one().and(warp::delete()).then(|job: String, name: String, context: Arc<Context>| async move {
        answer("DELETE /v1/jobs/{name}/savepoints/{savepoint}", delete(context, &job, &name).await)
    });
    list.or(make).unify().or(delete).unify().boxed()
}

async fn list(context: Arc<Context>, job: &str) -> Result<Response, Problem> {
    let job = query::segment(job)?;
    let kept = blocking(context, move |context| context.highwater.runtime().kept_checkpoints(&job)).await?;
    Ok(json_response(&json!({ "checkpoints": kept.iter().map(describe).collect::<Vec<Value>>() })))
}

async fn make(context: Arc<Context>, job: &str, name: &str) -> Result<Response, Problem> {
    let (job, name) = (query::segment(job)?, query::segment(name)?);
    lookup::job(&context, &job)?;
    let made = blocking(context, move |context| context.highwater.runtime().savepoint(&job, &name)).await?;
    let mut response = json_response(&describe(&made));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn delete(context: Arc<Context>, job: &str, name: &str) -> Result<Response, Problem> {
    let (job, name) = (query::segment(job)?, query::segment(name)?);
    blocking(context, move |context| context.highwater.runtime().delete_savepoint(&job, &name)).await?;
    let mut response = HttpResponse::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Savepoints wait for disks and brokers.
async fn blocking<T: Send + 'static>(
    context: Arc<Context>,
    work: impl FnOnce(&Context) -> Result<T, SavepointError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(move || work(&context)).await;
    let done = done.map_err(|error| Problem::new(Code::Internal, format!("the savepoint stopped: {error}")))?;
    done.map_err(|error| {
        let code = match &error {
            SavepointError::NoSuchJob(_) => Code::UnknownJob,
            SavepointError::Checkpoints(CheckpointError::Store(error)) if error.is_unknown() => Code::UnknownSavepoint,
            SavepointError::NoCheckpoints | SavepointError::NotSettled(_) | SavepointError::Checkpoints(_) => {
                Code::CheckpointsUnusable
            }
        };
        Problem::new(code, error.to_string())
    })
}

fn describe(kept: &KeptCheckpoint) -> Value {
    json!({
        "name": kept.name,
        "savepoint": kept.savepoint,
        "epoch": kept.epoch,
        "created_ms": kept.created_ms,
        "bytes": kept.bytes,
        "files": kept.files,
        "problem": kept.problem,
    })
}
