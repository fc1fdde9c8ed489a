//! One hub per followed view: it reads each closed epoch's changes, encodes them once, and lets its subscribers fetch them.
//!
//! ```text
//!   worker ── closes e ──► watch ──► hub: changes(e), encode ──► ring ◄── subscriber (a position)
//!                                                            └──► news   ◄── subscriber (waits)
//! ```
//!
//! Nothing goes from a subscriber towards the workers: who does not read falls out of the ring, is told so, and is cut off
//! after a moment if it does not even take that. A hub lives as long as its view has subscribers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use highwater_engine::{JobState, ViewHandle};
use highwater_plan::Epoch;
use highwater_runtime::RunningJob;
use tokio::sync::watch;
use warp::hyper::body::Bytes;

use super::Context;
use super::connection::Cut;
use super::event;
use super::problem::{Code, Problem};
use super::ring::Ring;
use super::watch::{LOOK_AGAIN, Progress};

/// Rows of one snapshot event.
const SNAPSHOT_ROWS: usize = 1_024;

/// The hubs of all followed views.
#[derive(Default)]
pub(crate) struct Hubs {
    /// By the engine's number of the job, and the view's name.
    hubs: Mutex<HashMap<(u64, String), Weak<Hub>>>,
    subscribers: Arc<AtomicUsize>,
}

/// What the subscribers of one view share.
pub(crate) struct Hub {
    pub(crate) job: Arc<RunningJob>,
    pub(crate) view: Arc<ViewHandle>,
    ring: Mutex<Ring>,
    news: watch::Sender<News>,
    seats: Mutex<Vec<Weak<Seat>>>,
    snapshot: Mutex<Weak<Snapshot>>,
    /// How long one that has fallen out may take to leave.
    grace: Duration,
    context: Weak<Context>,
}

/// What subscribers wait for.
#[derive(Debug, Clone, Default)]
pub(crate) struct News {
    /// Grows with the ring.
    version: u64,
    /// Set when everything the job ever changed is in the ring.
    pub(crate) over: Option<JobState>,
}

/// A subscriber, as its hub sees it.
pub(crate) struct Seat {
    /// Everything up to this epoch was taken; [`Seat::EXEMPT`] while it is not reading the ring.
    after: AtomicU64,
    lagged: AtomicBool,
    cut: Option<Cut>,
    total: Arc<AtomicUsize>,
}

impl Seat {
    const EXEMPT: Epoch = Epoch::MAX;

    /// Says where the subscriber stands in the ring, or that it is not there (`None`).
    pub(crate) fn stands_at(&self, after: Option<Epoch>) {
        self.after.store(after.unwrap_or(Self::EXEMPT), Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A view's rows at one epoch, encoded when first asked for.
pub(crate) struct Snapshot {
    /// The epoch.
    pub(crate) epoch: Epoch,
    rows: Vec<RecordBatch>,
    events: Vec<OnceLock<Bytes>>,
}

impl Snapshot {
    fn new(epoch: Epoch, batches: &[RecordBatch]) -> Self {
        let pieces = |batch: &RecordBatch| {
            let (batch, rows) = (batch.clone(), batch.num_rows());
            (0..rows).step_by(SNAPSHOT_ROWS).map(move |start| batch.slice(start, SNAPSHOT_ROWS.min(rows - start)))
        };
        let rows: Vec<RecordBatch> = batches.iter().flat_map(pieces).collect();
        // Without rows it still is an event.
        let events = (0..rows.len().max(1)).map(|_| OnceLock::new()).collect();
        Snapshot { epoch, rows, events }
    }

    /// How many events it is.
    pub(crate) fn pieces(&self) -> usize {
        self.events.len()
    }

    /// One of its events.
    pub(crate) fn piece(&self, job: &str, piece: usize) -> Bytes {
        let complete = piece + 1 == self.events.len();
        self.events[piece].get_or_init(|| event::snapshot(job, self.epoch, self.rows.get(piece), complete)).clone()
    }
}

impl Hubs {
    /// Takes a seat at the hub of `view`, which starts with its first subscriber.
    pub(crate) fn join(
        &self,
        context: &Arc<Context>,
        job: Arc<RunningJob>,
        view: Arc<ViewHandle>,
        cut: Option<Cut>,
    ) -> Result<(Arc<Hub>, Arc<Seat>), Problem> {
        let limits = &context.limits;
        let mut hubs = self.hubs.lock().expect("the map is changed without panicking");
        hubs.retain(|_, hub| hub.strong_count() > 0);
        let key = (job.handle().id(), view.name().to_string());
        let known = hubs.get(&key).and_then(Weak::upgrade);
        let seated = known.as_ref().map_or(0, |hub| hub.seated());
        if seated >= limits.subscribers_per_view {
            return Err(Problem::new(Code::TooManySubscribers, format!("view '{}' has {seated} subscribers", view.name())));
        }
        let total = self.subscribers.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Seat {
            after: AtomicU64::new(Seat::EXEMPT),
            lagged: AtomicBool::new(false),
            cut,
            total: Arc::clone(&self.subscribers),
        });
        if total >= limits.subscribers {
            return Err(Problem::new(Code::TooManySubscribers, format!("there are {total} subscribers")));
        }
        let hub = known.unwrap_or_else(|| {
            let hub = Arc::new(Hub {
                ring: Mutex::new(Ring::new(job.handle().closed(), limits.subscriber_bytes)),
                news: watch::Sender::new(News::default()),
                seats: Mutex::default(),
                snapshot: Mutex::default(),
                grace: limits.lag_grace,
                context: Arc::downgrade(context),
                view,
                job,
            });
            tokio::spawn(drive(Arc::downgrade(&hub), context.watches.of(&hub.job)));
            hubs.insert(key, Arc::downgrade(&hub));
            hub
        });
        hub.seats.lock().expect("seats are taken without panicking").push(Arc::downgrade(&seat));
        Ok((hub, seat))
    }

    /// Job, view and number of subscribers.
    pub(crate) fn subscribers(&self) -> Vec<(String, String, usize)> {
        let hubs = self.hubs.lock().expect("the map is changed without panicking");
        let hubs = hubs.values().filter_map(Weak::upgrade);
        hubs.map(|hub| (hub.job.name().to_string(), hub.view.name().to_string(), hub.seated())).collect()
    }
}

impl Hub {
    /// The ring; held for moments only.
    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("the ring is changed without panicking")
    }

    /// What to wait on for more.
    pub(crate) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// The view's rows now, shared with other subscribers that need them, if the ring continues from there.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        // Held while reading: who comes meanwhile waits for the same rows instead of reading them again.
        let mut kept = self.snapshot.lock().expect("views are read without panicking");
        if let Some(snapshot) = kept.upgrade().filter(|snapshot| self.ring().reaches(snapshot.epoch)) {
            return snapshot;
        }
        let snapshot = loop {
            let epoch = self.job.handle().closed();
            // An epoch that was compacted while it was read has a later one after it.
            if let Ok(batches) = self.view.read(epoch, &[], None) {
                break Arc::new(Snapshot::new(epoch, &batches));
            }
            std::thread::yield_now();
        };
        *kept = Arc::downgrade(&snapshot);
        snapshot
    }

    fn seated(&self) -> usize {
        let mut seats = self.seats.lock().expect("seats are taken without panicking");
        seats.retain(|seat| seat.strong_count() > 0);
        seats.len()
    }

    /// Puts the changes up to `closed` into the ring.
    fn catch_up(&self, closed: Epoch) {
        let through = self.ring().through();
        match self.view.changes(through, closed) {
            Ok(changes) => {
                for changed in &changes {
                    let parts = event::changes(self.job.name(), changed);
                    self.ring().push(changed.epoch, parts);
                    self.tell(|_| {});
                    self.dismiss_lagging();
                }
                self.ring().advance(closed);
            }
            Err(compacted) => {
                tracing::warn!(view = self.view.name(), %compacted, "changes were gone before they were encoded");
                self.ring().break_at(closed);
            }
        }
        self.tell(|_| {});
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        self.news.send_modify(|news| {
            news.version += 1;
            change(news);
        });
    }

    /// Gives every subscriber that has fallen out of the ring a moment to leave, then cuts it off.
    fn dismiss_lagging(&self) {
        let floor = self.ring().floor();
        let mut seats = self.seats.lock().expect("seats are taken without panicking");
        seats.retain(|seat| {
            let Some(seat) = seat.upgrade() else { return false };
            if seat.after.load(Ordering::Relaxed) < floor && !seat.lagged.swap(true, Ordering::Relaxed) {
                if let Some(context) = self.context.upgrade() {
                    context.http.lagged();
                }
                let (seat, grace) = (Arc::downgrade(&seat), self.grace);
                tokio::runtime::Handle::current().spawn(async move {
                    tokio::time::sleep(grace).await;
                    if let Some(cut) = seat.upgrade().and_then(|seat| seat.cut.clone()) {
                        cut.now();
                    }
                });
            }
            true
        });
    }
}

/// Follows the job for as long as the hub has subscribers.
async fn drive(hub: Weak<Hub>, mut progress: watch::Receiver<Progress>) {
    loop {
        let Some(current) = hub.upgrade() else { return };
        // The state is read first: once it is final, the closed epoch is, too.
        let state = current.job.state();
        let closed = current.job.handle().closed();
        if closed > current.ring().through() {
            let behind = Arc::clone(&current);
            if let Err(error) = tokio::task::spawn_blocking(move || behind.catch_up(closed)).await {
                tracing::error!(view = current.view.name(), %error, "encoding changes failed");
                current.ring().break_at(closed);
            }
        }
        if state != JobState::Running {
            current.tell(|news| news.over = Some(state));
            return;
        }
        drop(current);
        tokio::select! {
            // Without a sender the pause below is what is left.
            Ok(()) = progress.changed() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}
