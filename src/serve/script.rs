//! `POST /v1/query`: SQL that is run once.

use std::sync::Arc;

use futures_util::Stream;
use highwater_connectors::source::PushError;
use highwater_runtime::{EvaluateError, PushFailure, ReadError};
use serde::Deserialize;
use serde_json::{Value, json};
use warp::filters::BoxedFilter;
use warp::http::HeaderMap;
use warp::http::header::{CONTENT_TYPE, HeaderValue};
use warp::reply::Response;
use warp::{Buf, Filter};

use super::media::Media;
use super::problem::{Code, Problem};
use super::query::{self, Query};
use super::respond::{answer, json_response, with};
use super::token::Token;
use super::views::Answer as Rows;
use super::{Context, body, lookup, status};
use crate::{Answer, ScriptError, ScriptOptions};

pub(super) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "query")
        .and(warp::post())
        .and(with(context))
        .and(query::raw())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(|context: Arc<Context>, query: String, headers: HeaderMap, body| async move {
            answer("POST /v1/query", run(&context, &query, &headers, body).await)
        })
        .boxed()
}

/// What a client asks to run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewScript {
    sql: String,
    #[serde(default)]
    job: Option<String>,
    #[serde(default)]
    min_epoch: Option<String>,
}

async fn run<S, B>(context: &Arc<Context>, query: &str, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let query = Query::parse(query)?;
    let media = Media::negotiate(headers, query.get("format"))?;
    let body = body::receive(context, headers, body).await?;
    let NewScript { sql, job, min_epoch } = new_script(&query, headers, &body.bytes)?;
    let (job, min_epoch) = moment(job, min_epoch.as_deref())?;
    let timeout = query.timeout(context.limits.wait_time)?;
    let options = ScriptOptions { job, min_epoch, timeout, rows_max: context.limits.query_rows };
    let Ok(room) = Arc::clone(&context.scripts).try_acquire_owned() else {
        let detail = format!("{} queries run already", context.limits.queries);
        return Err(Problem::new(Code::TooManyQueries, detail).retry_after(1));
    };
    let highwater = Arc::clone(&context.highwater);
    let returning = lookup::returning(context);
    let ran = tokio::task::spawn_blocking(move || {
        let answered = highwater.run_script(&sql, &options).map_err(|error| match is_missing(&error) {
            true if !returning.is_empty() => {
                let detail = format!("{error}; jobs that are being brought back: {}", returning.join(", "));
                lookup::not_back(detail, &returning)
            }
            _ => refused(&sql, error),
        });
        drop(room);
        respond(media, answered?)
    });
    ran.await.map_err(|error| Problem::new(Code::Internal, format!("the script stopped: {error}")))?
}

/// Reads `{"sql", "job", "min_epoch"}`, or SQL text; the query's parameters win.
fn new_script(query: &Query, headers: &HeaderMap, body: &[u8]) -> Result<NewScript, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut new = if content_type.starts_with("application/json") {
        serde_json::from_slice(body).map_err(|error| Problem::new(Code::BadBody, format!("the body is no script: {error}")))?
    } else {
        let sql =
            std::str::from_utf8(body).map_err(|error| Problem::new(Code::BadBody, format!("the body is not UTF-8: {error}")))?;
        NewScript { sql: sql.to_string(), job: None, min_epoch: None }
    };
    new.job = query.get("job").map(str::to_string).or(new.job);
    new.min_epoch = query.get("min_epoch").map(str::to_string).or(new.min_epoch);
    Ok(new)
}

/// The job and the epoch that are asked for: a token names both.
fn moment(job: Option<String>, min_epoch: Option<&str>) -> Result<(Option<String>, Option<u64>), Problem> {
    let Some(text) = min_epoch else { return Ok((job, None)) };
    let epoch = match &job {
        Some(job) => return Ok((Some(job.clone()), Some(Token::epoch_of(text, job)?))),
        None => Token::parse(text),
    };
    let token = epoch.ok_or_else(|| Problem::new(Code::BadToken, format!("'{text}' is neither an epoch nor a token")))?;
    Ok((token.job.map(str::to_string), Some(token.epoch)))
}

fn respond(media: Media, answer: Answer) -> Result<Response, Problem> {
    match answer {
        Answer::Rows { job: Some(job), epoch, rows } => {
            let token = Token::new(job.name(), epoch).to_string();
            let state = status::state_name(&job.state());
            let head = json!({ "job": job.name(), "epoch": epoch, "token": token, "state": state });
            Ok(Rows::start(media, &head, Some((token, epoch)), state, &rows.schema(), vec![rows])?.into_response())
        }
        Answer::Rows { job: None, rows, .. } => {
            Ok(Rows::start(media, &json!({}), None, "running", &rows.schema(), vec![rows])?.into_response())
        }
        Answer::Changed { job, epoch, changes } => {
            let token = Token::new(job.name(), epoch).to_string();
            let rows: u64 = changes.iter().map(|change| change.rows).sum();
            let statement =
                |change: &crate::Change| json!({ "statement": change.verb.as_str(), "table": change.table, "rows": change.rows });
            let statements: Vec<Value> = changes.iter().map(statement).collect();
            let document = json!({ "job": job.name(), "epoch": epoch, "token": token, "rows": rows, "statements": statements });
            let mut response = json_response(&document);
            if let Ok(token) = HeaderValue::try_from(token) {
                response.headers_mut().insert("highwater-token", token);
            }
            Ok(response)
        }
    }
}

/// Whether what a script speaks of is not there.
fn is_missing(error: &ScriptError) -> bool {
    match error {
        ScriptError::Text(diagnostics) => diagnostics.iter().any(|diagnostic| diagnostic.code == "unknown-relation"),
        ScriptError::UnknownJob(_) | ScriptError::Read(ReadError::UnknownView { .. }) => true,
        ScriptError::Push(PushFailure::UnknownSource(_)) => true,
        _ => false,
    }
}

fn refused(text: &str, error: ScriptError) -> Problem {
    let detail = error.to_string();
    match error {
        ScriptError::Text(diagnostics) => Problem::text(Code::InvalidScript, "query", text, &diagnostics),
        ScriptError::UnknownJob(_) => Problem::new(Code::UnknownJob, detail),
        ScriptError::Ambiguous(jobs) => Problem::new(Code::AmbiguousName, detail).with("jobs", json!(jobs)),
        ScriptError::SeveralJobs(jobs) => Problem::new(Code::DifferentJobs, detail).with("jobs", json!(jobs)),
        ScriptError::Evaluate(EvaluateError::Failed(_)) => Problem::new(Code::QueryFailed, detail),
        ScriptError::Evaluate(EvaluateError::TimedOut(_)) => Problem::new(Code::QueryTimeout, detail),
        ScriptError::Evaluate(EvaluateError::TooManyRows { allowed, .. }) => {
            Problem::new(Code::TooManyRows, detail).with("limit_rows", allowed.into())
        }
        ScriptError::Evaluate(EvaluateError::Engine(_)) => Problem::new(Code::Internal, detail),
        ScriptError::Read(ReadError::UnknownView { .. }) => Problem::new(Code::UnknownView, detail),
        ScriptError::Read(ReadError::NotYet { closed, .. }) => {
            Problem::new(Code::EpochTimeout, detail).with("closed", closed.into())
        }
        ScriptError::Read(ReadError::Over { closed, .. }) => Problem::new(Code::JobOver, detail).with("closed", closed.into()),
        ScriptError::Values { .. } => Problem::new(Code::InvalidRows, detail),
        ScriptError::Push(PushFailure::UnknownSource(_)) => Problem::new(Code::UnknownSource, detail),
        ScriptError::Push(PushFailure::NotPushable { .. }) => Problem::new(Code::NotPushable, detail),
        ScriptError::Push(PushFailure::Refused(PushError::Full { rows })) => {
            Problem::new(Code::QueueFull, detail).with("queued_rows", rows.into()).retry_after(1)
        }
        ScriptError::Push(PushFailure::Refused(PushError::Malformed(_))) => Problem::new(Code::InvalidRows, detail),
        ScriptError::Push(PushFailure::Refused(PushError::NoRoom(_))) => Problem::new(Code::NoRoom, detail),
        ScriptError::Push(PushFailure::Refused(PushError::NotKept(_))) => Problem::new(Code::NotKept, detail).retry_after(1),
        ScriptError::Push(PushFailure::Refused(PushError::Closed)) | ScriptError::Over(_) => Problem::new(Code::JobOver, detail),
        ScriptError::Queued(_) => Problem::new(Code::EpochTimeout, detail),
    }
}
