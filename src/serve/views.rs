//! `GET /v1/views` and `GET /v1/views/{view}`: rows as of the latest closed epoch.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use futures_util::stream;
use highwater_engine::Equals;
use highwater_runtime::{ReadError, RunningJob, ViewRead};
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{CONTENT_TYPE, HeaderValue, VARY};
use warp::http::{HeaderMap, Response as HttpResponse};
use warp::hyper::body::Bytes;
use warp::reply::{Reply, Response};

use super::Context;
use super::filter::conditions;
use super::lookup::{self, Named};
use super::media::{Encoder, Media};
use super::problem::{Code, Problem};
use super::query::{self, Query};
use super::respond::{answer, json_response, with};
use super::token::Token;
use super::watch::{Waited, wait_closed};

/// Answers up to this size are sent whole, with their length; larger ones piece by piece, made as the client takes them.
const PIECE_BYTES: usize = 256 * 1024;

/// Rows encoded at a time.
const PIECE_ROWS: usize = 2_048;

pub(super) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let list = warp::path!("v1" / "views")
        .and(warp::get())
        .and(with(context))
        .then(|context: Arc<Context>| async move { answer("GET /v1/views", list(&context)) });
    let read = lookup::named("views")
        .and(warp::path::end())
        .and(warp::get())
        .and(with(context))
        .and(query::raw())
        .and(warp::header::headers_cloned())
        .then(|view: Named, context: Arc<Context>, query: String, headers: HeaderMap| async move {
            answer("GET /v1/views/{view}", read(&context, &view, &query, &headers).await)
        });
    list.or(read).unify().boxed()
}

fn list(context: &Context) -> Result<Response, Problem> {
    let jobs = context.highwater.runtime().jobs();
    let views: Vec<Value> = jobs.iter().flat_map(|job| job.handle().views().iter().map(|view| describe(job, view))).collect();
    Ok(json_response(&json!({ "views": views })))
}

/// A view without its rows.
pub(super) fn describe(job: &RunningJob, view: &highwater_engine::ViewHandle) -> Value {
    let schema = view.schema();
    let columns: Vec<Value> = schema
        .fields()
        .iter()
        .map(|field| json!({ "name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable() }))
        .collect();
    let key: Vec<&str> = view.key().iter().map(|column| schema.field(*column).name().as_str()).collect();
    json!({
        "view": view.name(),
        "job": job.name(),
        "kind": if view.is_side_relation() { "side" } else { "view" },
        "columns": columns,
        "key": key,
        "rows": view.rows(),
        "bytes": view.bytes(),
        "epoch": job.handle().closed(),
    })
}

async fn read(context: &Arc<Context>, named: &Named, query: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let query = Query::parse(query)?;
    let (job, view) = lookup::view(context, named)?;
    let name = view.name().to_owned();
    let media = Media::negotiate(headers, query.get("format"))?;
    let conditions = conditions(&query, view.schema())?;
    let limit = query.number::<usize>("limit")?;
    if let Some(token) = query.get("min_epoch") {
        let epoch = Token::epoch_of(token, job.name())?;
        wait(context, &job, epoch, query.timeout(context.limits.wait_time)?).await?;
    }
    let found = tokio::task::spawn_blocking(move || rows(&job, &name, media, &conditions, limit))
        .await
        .map_err(|error| Problem::new(Code::Internal, format!("reading the view stopped: {error}")))??;
    Ok(found.into_response())
}

/// Waits until `epoch` is closed, or says why it will not be.
pub(super) async fn wait(context: &Context, job: &RunningJob, epoch: u64, timeout: Duration) -> Result<(), Problem> {
    if job.handle().closed() >= epoch {
        return Ok(());
    }
    match wait_closed(context.watches.of(job), job, epoch, timeout).await {
        Waited::Closed => Ok(()),
        Waited::Over(state) => {
            let closed = job.handle().closed();
            let detail =
                format!("job '{}' is {} at epoch {closed}, before {epoch}", job.name(), super::status::state_name(&state));
            Err(Problem::new(Code::JobOver, detail).with("closed", Value::from(closed)))
        }
        Waited::TimedOut(closed) => {
            let detail = format!("epoch {epoch} is not closed after {} ms; {closed} is", timeout.as_millis());
            Err(Problem::new(Code::EpochTimeout, detail).with("closed", Value::from(closed)))
        }
    }
}

/// Rows on their way to a client.
pub(super) struct Answer {
    media: Media,
    moment: Option<(String, u64)>,
    /// How the job is: rows of one that failed are as of when it did.
    state: &'static str,
    first: Vec<u8>,
    rest: Option<Pieces>,
}

impl Answer {
    /// Begins to write rows; `head` is what a JSON object has before them, `moment` the token and epoch they are of.
    pub(super) fn start(
        media: Media,
        head: &Value,
        moment: Option<(String, u64)>,
        state: &'static str,
        schema: &SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<Answer, Problem> {
        let head = head.to_string();
        let comma = if head == "{}" { "" } else { "," };
        let head = format!("{}{comma}\"rows\":", head.trim_end_matches('}'));
        let mut first = Vec::new();
        let encoder = Encoder::start(media, schema, &head, &mut first).map_err(unencodable)?;
        let mut pieces = Pieces { encoder, batches: batches.into(), row: 0, finished: false };
        while first.len() < PIECE_BYTES && !pieces.finished {
            pieces.next(&mut first).map_err(unencodable)?;
        }
        let rest = (!pieces.finished).then_some(pieces);
        Ok(Answer { media, moment, state, first, rest })
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = match self.rest {
            None => HttpResponse::new(self.first.into()),
            Some(rest) => {
                let first = stream::iter([Ok::<Bytes, ArrowError>(Bytes::from(self.first))]);
                warp::reply::stream(futures_util::StreamExt::chain(first, stream::unfold(rest, next_piece))).into_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media.content_type()));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        headers.insert("highwater-state", HeaderValue::from_static(self.state));
        if let Some((token, epoch)) = self.moment {
            headers.insert("highwater-epoch", HeaderValue::from(epoch));
            if let Ok(token) = HeaderValue::try_from(token) {
                headers.insert("highwater-token", token);
            }
        }
        response
    }
}

fn rows(job: &RunningJob, view: &str, media: Media, conditions: &[Equals], limit: Option<usize>) -> Result<Answer, Problem> {
    let ViewRead { epoch, schema, batches } = job.read_view(view, None, Duration::ZERO, conditions, limit).map_err(unreadable)?;
    let token = Token::new(job.name(), epoch).to_string();
    let state = super::status::state_name(&job.state());
    let head = json!({ "view": view, "job": job.name(), "epoch": epoch, "token": token, "state": state });
    Answer::start(media, &head, Some((token, epoch)), state, &schema, batches)
}

fn unreadable(error: ReadError) -> Problem {
    Problem::new(Code::Internal, format!("the view cannot be read: {error}"))
}

fn unencodable(error: ArrowError) -> Problem {
    Problem::new(Code::NotAcceptable, format!("the rows cannot be written in this format: {error}"))
}

/// The rest of a large answer.
struct Pieces {
    encoder: Encoder,
    batches: std::collections::VecDeque<RecordBatch>,
    row: usize,
    finished: bool,
}

impl Pieces {
    /// Appends the next piece, and the end after the last.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let Some(batch) = self.batches.front() else {
            self.finished = true;
            return self.encoder.finish(out);
        };
        let length = PIECE_ROWS.min(batch.num_rows() - self.row);
        self.encoder.rows(&batch.slice(self.row, length), out)?;
        self.row += length;
        if self.row == batch.num_rows() {
            self.batches.pop_front();
            self.row = 0;
        }
        Ok(())
    }
}

/// Makes the next piece on a thread that may compute; nothing is made that the client has not taken the place for.
async fn next_piece(mut pieces: Pieces) -> Option<(Result<Bytes, ArrowError>, Pieces)> {
    if pieces.finished {
        return None;
    }
    let made = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        while out.len() < PIECE_BYTES && !pieces.finished {
            if let Err(error) = pieces.next(&mut out) {
                // The answer breaks off: its length was not promised, its end is missing.
                pieces.finished = true;
                return (Err(error), pieces);
            }
        }
        (Ok(Bytes::from(out)), pieces)
    });
    made.await.ok()
}
