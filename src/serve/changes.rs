//! `GET /v1/views/{view}/changes`: a view as it changes, as Server-Sent Events.
//!
//! `snapshot` (one or more events), then `changes` for each epoch that changed something; `progress` when nothing did for
//! a while; `reset` when what was sent does not count any more, with a snapshot after it; `lagged` before a subscriber
//! that does not keep up is disconnected; `end` when the job is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::stream;
use highwater_engine::Changed;
use highwater_plan::Epoch;
use highwater_runtime::RunningJob;
use tokio::sync::watch;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::HeaderMap;
use warp::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use warp::hyper::body::Bytes;
use warp::reply::{Reply, Response};

use super::connection::Cut;
use super::hub::{Hub, News, Seat, Snapshot};
use super::lookup::{self, Named};
use super::problem::{Code, Problem};
use super::query::{self, Query};
use super::respond::{answer, with};
use super::ring::{Next, Position};
use super::token::Token;
use super::{Context, event};

pub(super) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    lookup::named("views")
        .and(warp::path("changes"))
        .and(warp::path::end())
        .and(warp::get())
        .and(with(context))
        .and(query::raw())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Cut>())
        .then(|view: Named, context: Arc<Context>, query: String, headers: HeaderMap, cut: Option<Cut>| async move {
            answer("GET /v1/views/{view}/changes", subscribe(&context, &view, &query, &headers, cut))
        })
        .boxed()
}

/// Where a subscriber wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Snapshot,
    Now,
    After(Epoch),
    /// Its token is of another life of the job: what it has does not count.
    Stranger,
}

fn subscribe(
    context: &Arc<Context>,
    named: &Named,
    query: &str,
    headers: &HeaderMap,
    cut: Option<Cut>,
) -> Result<Response, Problem> {
    let query = Query::parse(query)?;
    if let Some((unknown, _)) = query.0.iter().find(|(name, _)| !matches!(name.as_str(), "after" | "snapshot")) {
        let detail = format!("'{unknown}' is no parameter of changes; 'after' and 'snapshot' are");
        return Err(Problem::new(Code::BadQuery, detail));
    }
    let (job, view) = lookup::view(context, named)?;
    let start = start(&job, &query, headers)?;
    let (hub, seat) = context.hubs.join(context, job, view, cut)?;
    let subscriber = Subscriber {
        news: hub.news(),
        heartbeat: context.limits.heartbeat,
        outbox: VecDeque::from([event::hello()]),
        phase: Phase::Begin(start),
        hub,
        seat,
    };
    let events = stream::unfold(subscriber, |mut subscriber| async move {
        subscriber.next().await.map(|event| (Ok::<Bytes, std::convert::Infallible>(event), subscriber))
    });
    let mut response = warp::reply::stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

fn start(job: &RunningJob, query: &Query, headers: &HeaderMap) -> Result<Start, Problem> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let start = match (last, query.get("after"), query.get("snapshot")) {
        // A browser repeats its first address, so what it has seen since goes before.
        (Some(id), ..) => match Token::epoch_of(id, job.name()) {
            Ok(epoch) => Start::After(epoch),
            Err(_) => Start::Stranger,
        },
        (None, Some(after), _) => Start::After(Token::epoch_of(after, job.name())?),
        (None, None, None | Some("true")) => Start::Snapshot,
        (None, None, Some("false")) => Start::Now,
        (None, None, Some(other)) => {
            return Err(Problem::new(Code::BadQuery, format!("'snapshot' is true or false, not '{other}'")));
        }
    };
    Ok(match start {
        Start::After(epoch) if !is_of_this_life(job, epoch) => Start::Stranger,
        start => start,
    })
}

/// Epochs are wall-clock milliseconds, so those from before the job was created belong to an earlier job of its name, and
/// those that were never opened to nobody.
fn is_of_this_life(job: &RunningJob, epoch: Epoch) -> bool {
    let created = job.created().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as Epoch;
    let opened = job.handle().stats().epoch_opened.load(std::sync::atomic::Ordering::Acquire).max(job.handle().closed());
    (created.saturating_sub(1)..=opened).contains(&epoch)
}

/// One subscriber, asked for its next event whenever its connection has room.
struct Subscriber {
    hub: Arc<Hub>,
    seat: Arc<Seat>,
    news: watch::Receiver<News>,
    heartbeat: Duration,
    /// Events that go before whatever the phase says.
    outbox: VecDeque<Bytes>,
    phase: Phase,
}

enum Phase {
    /// Nothing was sent yet.
    Begin(Start),
    /// A snapshot is being sent, so many events of it already.
    Snapshot(Arc<Snapshot>, usize),
    /// Changes that are not in the ring any more are being sent, up to the epoch.
    CatchUp(VecDeque<Changed>, Epoch),
    /// The ring is being followed.
    Follow(Position),
    /// Nothing follows.
    Over,
}

impl Subscriber {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.outbox.pop_front() {
                return Some(event);
            }
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Begin(start) => self.begin(start).await,
                Phase::Snapshot(snapshot, sent) if sent == snapshot.pieces() => self.resume(snapshot.epoch).await,
                Phase::Snapshot(snapshot, sent) => {
                    let (hub, rows) = (Arc::clone(&self.hub), Arc::clone(&snapshot));
                    let piece = tokio::task::spawn_blocking(move || rows.piece(hub.job.name(), sent)).await.ok()?;
                    self.phase = Phase::Snapshot(snapshot, sent + 1);
                    return Some(piece);
                }
                Phase::CatchUp(mut changes, through) => match changes.pop_front() {
                    None => self.resume(through).await,
                    Some(changed) => {
                        let hub = Arc::clone(&self.hub);
                        let parts = tokio::task::spawn_blocking(move || event::changes(hub.job.name(), &changed)).await;
                        self.outbox.extend(parts.ok()?);
                        self.phase = Phase::CatchUp(changes, through);
                    }
                },
                Phase::Follow(position) => self.follow(position).await,
                Phase::Over => return None,
            }
        }
    }

    async fn begin(&mut self, start: Start) {
        match start {
            Start::Snapshot => self.snapshot().await,
            Start::Now => {
                let through = self.hub.ring().through();
                self.follow_from(through);
            }
            Start::After(epoch) => self.resume(epoch).await,
            Start::Stranger => {
                self.outbox.push_back(event::reset("the token is not of this job's present life"));
                self.snapshot().await;
            }
        }
    }

    async fn snapshot(&mut self) {
        let hub = Arc::clone(&self.hub);
        if let Ok(snapshot) = tokio::task::spawn_blocking(move || hub.snapshot()).await {
            self.phase = Phase::Snapshot(snapshot, 0);
        }
    }

    /// Continues after `epoch`: from the ring, else from the view's own history, else anew.
    async fn resume(&mut self, epoch: Epoch) {
        let through = {
            let ring = self.hub.ring();
            if ring.reaches(epoch) {
                drop(ring);
                return self.follow_from(epoch);
            }
            ring.through()
        };
        let hub = Arc::clone(&self.hub);
        match tokio::task::spawn_blocking(move || hub.view.changes(epoch, through)).await {
            Ok(Ok(changes)) => {
                self.seat.stands_at(None);
                self.phase = Phase::CatchUp(changes.into(), through);
            }
            Ok(Err(compacted)) => {
                self.seat.stands_at(None);
                self.outbox.push_back(event::reset(&compacted.to_string()));
                self.snapshot().await;
            }
            // The server is stopping.
            Err(_) => {}
        }
    }

    fn follow_from(&mut self, epoch: Epoch) {
        self.seat.stands_at(Some(epoch));
        self.phase = Phase::Follow(Position::after(epoch));
    }

    async fn follow(&mut self, mut position: Position) {
        // Read before the ring: once it is set, the ring has everything.
        let over = self.news.borrow_and_update().over.clone();
        let next = self.hub.ring().next(&mut position);
        self.seat.stands_at(Some(position.after));
        self.phase = Phase::Follow(position);
        let job = self.hub.job.name();
        match (next, over) {
            (Next::Event(event), _) => self.outbox.push_back(event),
            (Next::CaughtUp, Some(state)) => {
                self.outbox.push_back(event::end(job, position.after, &state));
                self.phase = Phase::Over;
            }
            (Next::CaughtUp, None) => {
                if tokio::time::timeout(self.heartbeat, self.news.changed()).await.is_err() {
                    let through = self.hub.ring().through().max(position.after);
                    self.outbox.push_back(event::progress(job, position.after.min(through)));
                }
            }
            (Next::Fallen, _) => {
                self.outbox.push_back(event::lagged(job, position.after));
                self.phase = Phase::Over;
            }
            (Next::Broken, _) => {
                self.seat.stands_at(None);
                self.outbox.push_back(event::reset("changes were lost before they could be sent"));
                self.snapshot().await;
            }
        }
    }
}
