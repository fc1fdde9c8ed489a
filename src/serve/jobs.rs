//! `/v1/jobs`: create, list, inspect, drop.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use highwater_plan::explain;
use serde::Deserialize;
use serde_json::{Value, json};
use warp::filters::BoxedFilter;
use warp::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use warp::http::{HeaderMap, Response as HttpResponse, StatusCode};
use warp::reply::Response;
use warp::{Buf, Filter};

use super::problem::{Code, Problem};
use super::query::{self, Query};
use super::respond::{answer, json_response, text_response, with};
use super::{Context, body, lookup, status};
use crate::{JobError, JobOptions, RestoreFrom};

/// A job's first epoch opens at once and is closed within milliseconds, unless its first rows are much work.
const FIRST_EPOCH_WAIT: Duration = Duration::from_secs(1);

/// How long a new job's answer waits for its first checkpoint, which is made at once.
const SAVED_WAIT: Duration = Duration::from_secs(10);

pub(super) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let all = || warp::path!("v1" / "jobs").and(with(context));
    let one = || warp::path!("v1" / "jobs" / String).and(with(context));
    let list = all().and(warp::get()).then(|context: Arc<Context>| async move { answer("GET /v1/jobs", list(&context)) });
    let create = all().and(warp::post()).and(query::raw()).and(warp::header::headers_cloned()).and(warp::body::stream()).then(
        |context: Arc<Context>, query: String, headers: HeaderMap, body| async move {
            answer("POST /v1/jobs", create(&context, &query, &headers, body).await)
        },
    );
    let inspect = one()
        .and(warp::get())
        .then(|name: String, context: Arc<Context>| async move { answer("GET /v1/jobs/{name}", inspect(&context, &name)) });
    let drop = one().and(warp::delete()).then(|name: String, context: Arc<Context>| async move {
        answer("DELETE /v1/jobs/{name}", drop_job(&context, &name).await)
    });
    let plan = warp::path!("v1" / "jobs" / String / "plan")
        .and(with(context))
        .and(warp::get())
        .then(|name: String, context: Arc<Context>| async move { answer("GET /v1/jobs/{name}/plan", plan(&context, &name)) });
    list.or(create).unify().or(inspect).unify().or(drop).unify().or(plan).unify().boxed()
}

fn list(context: &Context) -> Result<Response, Problem> {
    let runtime = context.highwater.runtime();
    // Those that are being restored first: one of them may have become a job by the time these are listed.
    let (returning, restoring) = (lookup::returning(context), runtime.restoring());
    let jobs = runtime.jobs();
    let restoring = restoring.iter().filter(|restore| !jobs.iter().any(|job| job.name() == restore.job));
    let restoring: Vec<Value> = restoring.map(status::restoring).collect();
    let all: Vec<Value> = jobs.iter().map(|job| status::summary(job)).chain(restoring).collect();
    let is_listed = |name: &String| all.iter().any(|known| known["job"] == name.as_str());
    let waiting = returning.iter().filter(|name| !is_listed(name)).map(|name| json!({ "job": name, "state": "waiting" }));
    let jobs: Vec<Value> = all.iter().cloned().chain(waiting).collect();
    Ok(json_response(&json!({ "jobs": jobs })))
}

fn inspect(context: &Context, name: &str) -> Result<Response, Problem> {
    let job = lookup::job(context, &query::segment(name)?)?;
    Ok(json_response(&status::report(&job)))
}

fn plan(context: &Context, name: &str) -> Result<Response, Problem> {
    let job = lookup::job(context, &query::segment(name)?)?;
    Ok(text_response("text/plain; charset=utf-8", explain(job.handle().job())))
}

async fn drop_job(context: &Arc<Context>, name: &str) -> Result<Response, Problem> {
    let name = query::segment(name)?;
    // One that is being changed may not be there just now; dropping it waits.
    if !context.highwater.runtime().changing().contains(&name) {
        lookup::job(context, &name)?;
    }
    let owned = Arc::clone(context);
    let dropped = tokio::task::spawn_blocking(move || owned.highwater.runtime().drop_job(&name)).await;
    match dropped {
        Ok(Ok(())) => {
            let mut response = HttpResponse::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Ok(Err(error)) => Err(Problem::new(Code::UnknownJob, error.to_string())),
        Err(error) => Err(Problem::new(Code::Internal, format!("dropping the job stopped: {error}"))),
    }
}

/// What a client asks to run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewJob {
    name: Option<String>,
    sql: String,
    #[serde(default)]
    until_end: bool,
    /// A savepoint, or a checkpoint by its number.
    restore: Option<String>,
    /// The job whose that is, if it is another one's.
    restore_job: Option<String>,
    /// Begin with nothing, although there is a checkpoint of a job of this name.
    #[serde(default)]
    fresh: bool,
    /// Go on although the job is not the one that was saved.
    #[serde(default)]
    upgrade: bool,
}

impl NewJob {
    /// What contradicts itself is not guessed.
    fn check(&self) -> Result<(), Problem> {
        let wrong = match (&self.restore, &self.restore_job, self.fresh) {
            (Some(_), _, true) => "'restore' goes on from what was saved, and 'fresh' begins with nothing: leave one out",
            (None, Some(_), _) => "'restore_job' says whose the savepoint is that 'restore' names, which is missing",
            _ if self.fresh && self.upgrade => {
                "'upgrade' goes on from what was saved, and 'fresh' begins with nothing: leave one out"
            }
            _ => return Ok(()),
        };
        Err(Problem::new(Code::BadQuery, wrong))
    }

    fn restore(&self) -> RestoreFrom {
        match &self.restore {
            Some(name) => RestoreFrom::Named { job: self.restore_job.clone(), name: name.clone() },
            None if self.fresh => RestoreFrom::Nothing,
            None => RestoreFrom::Newest,
        }
    }
}

async fn create<S, B>(context: &Arc<Context>, query: &str, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let query = Query::parse(query)?;
    let body = body::receive(context, headers, body).await?;
    let new = new_job(&query, headers, &body.bytes)?;
    let owned = Arc::clone(context);
    let created = tokio::task::spawn_blocking(move || {
        if new.restore.is_some() && !owned.highwater.runtime().keeps_checkpoints() {
            let what = "the service keeps no checkpoints that a job could go on from: start it with --checkpoints";
            return Err(Problem::new(Code::CheckpointsUnusable, what));
        }
        let name = match &new.name {
            Some(name) => name.clone(),
            None => free_name(&owned)?,
        };
        let options = JobOptions { until_end: new.until_end, restore: new.restore(), upgrade: new.upgrade };
        let made = owned.highwater.create_job(&name, &new.sql, options);
        let job = made.map_err(|error| refused(&name, &new.sql, error))?;
        // What has a row without any input, such as count(*), has it in the first epoch: who asks next is to find it.
        job.wait_closed(1, FIRST_EPOCH_WAIT);
        // Who is answered finds it after a crash.
        job.wait_saved(SAVED_WAIT);
        Ok(job)
    });
    let job = created.await.map_err(|error| Problem::new(Code::Internal, format!("creating the job stopped: {error}")))??;
    let mut response = json_response(&status::report(&job));
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(format!("/v1/jobs/{}", job.name())) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Reads `{"name", "sql"}`, or SQL text with the name in the query.
fn new_job(query: &Query, headers: &HeaderMap, body: &[u8]) -> Result<NewJob, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut new = if content_type.starts_with("application/json") {
        serde_json::from_slice(body).map_err(|error| Problem::new(Code::BadBody, format!("the body is no job: {error}")))?
    } else {
        let sql =
            std::str::from_utf8(body).map_err(|error| Problem::new(Code::BadBody, format!("the body is not UTF-8: {error}")))?;
        NewJob { sql: sql.to_string(), ..NewJob::default() }
    };
    for (key, value) in &query.0 {
        let flag = || match value.as_str() {
            "true" | "" => Ok(true),
            "false" => Ok(false),
            other => Err(Problem::new(Code::BadQuery, format!("'{key}' is true or false, not '{other}'"))),
        };
        match key.as_str() {
            "name" => new.name = Some(value.clone()),
            "until_end" => new.until_end = flag()?,
            "restore" => new.restore = Some(value.clone()),
            "restore_job" => new.restore_job = Some(value.clone()),
            "fresh" => new.fresh = flag()?,
            "upgrade" => new.upgrade = flag()?,
            // A job that began with something else than was meant is not noticed soon.
            other => {
                let what = format!("a job has no '{other}': there are name, until_end, restore, restore_job, fresh and upgrade");
                return Err(Problem::new(Code::BadQuery, what));
            }
        }
    }
    new.check()?;
    Ok(new)
}

/// A name that no job has, nor one that was saved: the new job would go on from its state.
fn free_name(context: &Context) -> Result<String, Problem> {
    let runtime = context.highwater.runtime();
    let saved = runtime.saved_jobs().map_err(|error| Problem::new(Code::CheckpointsUnusable, error.to_string()))?;
    let is_free = |name: &String| runtime.job(name).is_none() && !saved.iter().any(|(known, _)| known == name);
    Ok((1..).map(|number| format!("job-{number}")).find(is_free).expect("there are more numbers than jobs"))
}

fn refused(name: &str, text: &str, error: JobError) -> Problem {
    match error {
        JobError::Name(_) => Problem::new(Code::BadName, error.to_string()),
        JobError::Exists(_) | JobError::Busy(_) => Problem::new(Code::JobExists, error.to_string()),
        JobError::Text(diagnostics) => Problem::diagnostics(name, text, &diagnostics),
        JobError::Nothing => Problem::new(Code::InvalidJob, error.to_string()).with("diagnostics", json!([])),
        JobError::Checkpoints(_) | JobError::Replay(_) => Problem::new(Code::CheckpointsUnusable, error.to_string()),
        JobError::Engine(detail) => Problem::new(Code::Internal, detail),
    }
}
