//! `POST /v1/sources/{source}`: rows pushed by a client.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use highwater_connectors::source::{PushError, PushFormat, PushRequest, PushSummary, Receipt};
use highwater_engine::JobState;
use highwater_runtime::{PushFailure, RunningJob};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use warp::filters::BoxedFilter;
use warp::http::header::{CONTENT_TYPE, HeaderValue};
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;
use warp::{Buf, Filter};

use super::lookup::{self, Named};
use super::problem::{Code, Problem};
use super::query::{self, Query};
use super::respond::{answer, json_response, with};
use super::token::Token;
use super::{Context, body, views};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Longest `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 256;

pub(super) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    lookup::named("sources")
        .and(warp::path::end())
        .and(warp::post())
        .and(with(context))
        .and(query::raw())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(|source: Named, context: Arc<Context>, query: String, headers: HeaderMap, body| async move {
            answer("POST /v1/sources/{source}", push(&context, &source, &query, &headers, body).await)
        })
        .boxed()
}

async fn push<S, B>(context: &Arc<Context>, named: &Named, query: &str, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let query = Query::parse(query)?;
    let (job, name) = lookup::source(context, named)?;
    let format = format(headers)?;
    let idempotency_key = key(headers)?;
    let wait_visible = match query.get("wait") {
        None | Some("assigned") => false,
        Some("visible") => true,
        Some(other) => return Err(Problem::new(Code::BadQuery, format!("'wait' is 'assigned' or 'visible', not '{other}'"))),
    };
    let timeout = query.timeout(context.limits.wait_time)?;
    let body = body::receive(context, headers, body).await?;

    let (assigned, epoch) = oneshot::channel();
    // A client that no longer waits for its token has its rows in all the same.
    let receipt = Receipt(Box::new(move |epoch| {
        let _ = assigned.send(epoch);
    }));
    let (pushed_to, source) = (Arc::clone(&job), name.clone());
    let summary = tokio::task::spawn_blocking(move || {
        // What is left of the body keeps its room until the rows are decoded.
        let mut body = body;
        let request = PushRequest { format, body: std::mem::take(&mut body.bytes), idempotency_key };
        pushed_to.push(&source, request, receipt)
    })
    .await
    .map_err(|error| Problem::new(Code::Internal, format!("decoding the body stopped: {error}")))?
    .map_err(refused)?;

    match assigned_epoch(&job, epoch, timeout).await {
        Some(epoch) => {
            if wait_visible {
                // The rows are in whether or not they are visible in time, so the client needs their token.
                let token = Token::new(job.name(), epoch).to_string();
                views::wait(context, &job, epoch, timeout).await.map_err(|late| late.with("token", token.into()))?;
            }
            let token = Token::new(job.name(), epoch).to_string();
            let mut response = json_response(&report(&summary, Some((&token, epoch))));
            if let Ok(token) = HeaderValue::try_from(token) {
                response.headers_mut().insert("highwater-token", token);
            }
            Ok(response)
        }
        None if job.state() != JobState::Running => {
            Err(Problem::new(Code::JobOver, format!("job '{}' ended before it took the rows", job.name())))
        }
        // The rows are queued and will get their epoch; the client need not send them again.
        None => {
            let mut response = json_response(&report(&summary, None));
            *response.status_mut() = StatusCode::ACCEPTED;
            Ok(response)
        }
    }
}

/// The epoch that the rows are in; `None` if the job ended or `timeout` passed before they had one.
async fn assigned_epoch(job: &RunningJob, mut epoch: oneshot::Receiver<u64>, timeout: Duration) -> Option<u64> {
    let assigned = async {
        loop {
            // A job that ends does not say so to those whose rows still wait.
            match tokio::time::timeout(Duration::from_millis(100), &mut epoch).await {
                Ok(epoch) => return epoch.ok(),
                Err(_) if job.state() != JobState::Running => return None,
                Err(_) => {}
            }
        }
    };
    tokio::time::timeout(timeout, assigned).await.ok().flatten()
}

fn report(summary: &PushSummary, token: Option<(&str, u64)>) -> Value {
    json!({
        "accepted": summary.accepted,
        "rejected": summary.rejected,
        "reasons": summary.reasons,
        "duplicate": summary.duplicate,
        "token": token.map(|(token, _)| token),
        "epoch": token.map(|(_, epoch)| epoch),
    })
}

fn refused(failure: PushFailure) -> Problem {
    match failure {
        unknown @ PushFailure::UnknownSource(_) => Problem::new(Code::UnknownSource, unknown.to_string()),
        other @ PushFailure::NotPushable { .. } => Problem::new(Code::NotPushable, other.to_string()),
        PushFailure::Refused(error @ PushError::Full { rows }) => {
            Problem::new(Code::QueueFull, error.to_string()).with("queued_rows", rows.into()).retry_after(1)
        }
        PushFailure::Refused(PushError::Malformed(detail)) => Problem::new(Code::BadBody, detail),
        PushFailure::Refused(PushError::NoRoom(detail)) => Problem::new(Code::NoRoom, detail),
        PushFailure::Refused(PushError::NotKept(detail)) => Problem::new(Code::NotKept, detail).retry_after(1),
        PushFailure::Refused(error @ PushError::Closed) => Problem::new(Code::JobOver, error.to_string()),
    }
}

/// The body's format by its `Content-Type`.
fn format(headers: &HeaderMap) -> Result<PushFormat, Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(PushFormat::Ndjson),
        "application/json" => Ok(PushFormat::Json),
        "text/csv" => Ok(PushFormat::Csv),
        "" => Err(Problem::new(Code::UnsupportedMedia, "the request has no Content-Type")),
        other => Err(Problem::new(Code::UnsupportedMedia, format!("'{other}' is not a format of rows"))),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key.to_string())),
        _ => Err(Problem::new(Code::BadQuery, format!("an Idempotency-Key is 1 to {KEY_BYTES_MAX} ASCII characters"))),
    }
}
