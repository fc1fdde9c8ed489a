//! A job's ingestion on one worker: epochs that size themselves.
//!
//! Any worker opens the next epoch when it has rows, as long as fewer than `epochs_in_flight` epochs are open behind the
//! outputs; all workers then give what they have to it and go on. So a slow output stops the asking (backpressure), an
//! epoch is small when little comes and large when much does, and nobody spins.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use highwater_plan::OutputNames;
use highwater_turns::{Point, crash_point, elapsed, wall};

use crate::checkpoint::{Positions, Restore, SideRelations};
use crate::delta::Parcel;
use crate::job::{JobShared, JobState};
use crate::operator::place::with_places;
use crate::recorded::{EpochRecord, Recorder};
use crate::render::Rendered;
use crate::stats::JobStats;
use crate::view::ViewHandle;
use crate::watermark::{Mark, MarkState};
use crate::{Feed, FeedBatch, FeedPoll, FeedState, Receipt, Time};

/// How often an epoch is opened only to let idle sources' watermarks go on.
const IDLE_TICK: Duration = Duration::from_millis(100);

/// The clock may be set back: an alarm is looked at this often.
const ALARM_CHECK_MS: u64 = 1_000;

/// Opens epochs for all workers of a job, in one order.
pub(crate) struct EpochGate {
    in_flight_max: usize,
    /// The last opened epoch.
    current: AtomicU64,
    /// Opened and not yet closed, and when.
    open: Mutex<VecDeque<(Time, Duration)>>,
    /// Feeds that the job's end waits for.
    unfinished: AtomicUsize,
    /// The epoch in which all feeds are ended; 0 while there is none.
    last: AtomicU64,
    stats: Arc<JobStats>,
    recorder: Option<Arc<Recorder>>,
    wake_all: Arc<dyn Fn() + Send + Sync>,
}

impl EpochGate {
    /// `unfinished`: how many feeds must finish before the job ends. `restored`: the epoch whose state it goes on from, or 0.
    pub(crate) fn new(
        in_flight_max: usize,
        unfinished: usize,
        restored: Time,
        stats: Arc<JobStats>,
        recorder: Option<Arc<Recorder>>,
        wake_all: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        EpochGate {
            in_flight_max: in_flight_max.max(1),
            current: AtomicU64::new(restored),
            open: Mutex::new(VecDeque::new()),
            unfinished: AtomicUsize::new(unfinished),
            last: AtomicU64::new(0),
            stats,
            recorder,
            wake_all,
        }
    }

    fn current(&self) -> Time {
        self.current.load(Ordering::Acquire)
    }

    /// Whether another epoch may be opened.
    fn has_room(&self) -> bool {
        self.open.lock().expect("nothing panics under this lock").len() < self.in_flight_max
    }

    /// An epoch after `mine`: one that another worker has opened, or a new one.
    fn enter(&self, mine: Time) -> Time {
        let open = self.open.lock().expect("nothing panics under this lock");
        let current = self.current();
        if current > mine {
            // Everybody gives to the epoch of a checkpoint, so that it is known where all feeds stand as of it.
            let due = self.stats.checkpoints.due();
            return if mine < due { due } else { current };
        }
        let next = wall_ms().max(current + 1);
        self.recorder.iter().for_each(|recorder| recorder.opens(next, false));
        self.open(open, next);
        next
    }

    fn open(&self, mut open: MutexGuard<'_, VecDeque<(Time, Duration)>>, next: Time) {
        self.stats.checkpoints.opens(next);
        open.push_back((next, elapsed()));
        self.current.store(next, Ordering::Release);
        self.stats.epoch_opened.store(next, Ordering::Relaxed);
        self.stats.epochs_open.store(open.len() as u64, Ordering::Relaxed);
        drop(open);
        (self.wake_all)();
    }

    /// Opens an epoch of the job's script, unless that is done; `false`: it may not be opened yet.
    fn enter_again(&self, record: &EpochRecord) -> bool {
        let open = self.open.lock().expect("nothing panics under this lock");
        if self.current() >= record.epoch {
            return true;
        }
        if open.len() >= self.in_flight_max {
            return false;
        }
        if record.last {
            self.last.store(record.epoch, Ordering::Release);
        }
        self.open(open, record.epoch);
        true
    }

    /// Forgets the epochs before `frontier` (all, if there is none); says whether there was one.
    fn close_before(&self, frontier: Option<Time>) -> bool {
        let mut open = self.open.lock().expect("nothing panics under this lock");
        let mut closed = false;
        while let Some((epoch, opened)) = open.front().copied()
            && frontier.is_none_or(|frontier| epoch < frontier)
        {
            open.pop_front();
            closed = true;
            self.stats.epochs_closed.fetch_add(1, Ordering::Relaxed);
            self.stats.epoch_latency.record(elapsed().saturating_sub(opened));
        }
        self.stats.epochs_open.store(open.len() as u64, Ordering::Relaxed);
        closed
    }

    fn one_finished(&self) {
        if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            (self.wake_all)();
        }
    }

    /// Whether the job is to end, because the feeds that it waits for have finished.
    fn ends(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) == 0
    }

    /// The epoch in which every worker ends its feeds.
    fn last_epoch(&self, mine: Time) -> Time {
        let last = self.last.load(Ordering::Acquire);
        if last != 0 {
            return last;
        }
        // Opened after every feed that counts has finished, so after all their rows.
        let mut open = self.open.lock().expect("nothing panics under this lock");
        let last = self.last.load(Ordering::Acquire);
        if last != 0 {
            return last;
        }
        let next = wall_ms().max(self.current() + 1).max(mine + 1);
        self.recorder.iter().for_each(|recorder| recorder.opens(next, true));
        open.push_back((next, elapsed()));
        self.current.store(next, Ordering::Release);
        self.last.store(next, Ordering::Release);
        self.stats.epoch_opened.store(next, Ordering::Relaxed);
        drop(open);
        (self.wake_all)();
        next
    }
}

fn wall_ms() -> Time {
    wall().as_millis() as Time
}

/// A feed on its worker.
pub(crate) struct PumpFeed {
    /// Its number among all feeds of the job.
    pub(crate) index: u32,
    pub(crate) source: usize,
    /// Whether the job's end waits for it.
    pub(crate) ends_job: bool,
    pub(crate) feed: Box<dyn Feed>,
}

struct Running {
    index: u32,
    source: usize,
    ends_job: bool,
    feed: Box<dyn Feed>,
    state: Option<FeedState>,
}

/// Whether what must be read before a source has ended, and that is known to every operator.
fn has_turn(shared: &JobShared, source: usize) -> bool {
    let sources = &shared.stats.sources;
    shared.first[source].iter().all(|first| sources[*first].watermark.load(Ordering::Relaxed) == i64::MAX)
}

/// What a round of pumping came to.
pub(crate) enum Pumped {
    /// Rows were sent, or the dataflow has work that this worker is waiting for.
    Busy,
    /// Nothing to do before something arrives, or this much time has passed.
    Idle(Option<Duration>),
}

/// One worker's ingestion and publication of one job.
pub(crate) struct Pump {
    worker: usize,
    shared: Arc<JobShared>,
    gate: Arc<EpochGate>,
    /// The job ends with its feeds, whatever the clock would still change.
    until_end: bool,
    feeds: Vec<Running>,
    rejects: Vec<Option<Arc<ViewHandle>>>,
    /// If the job is saved, once it has begun.
    side_relations: Option<SideRelations>,
    /// All operators have what they had.
    begun: bool,
    /// Until then, the last news of what they had that this worker's were asked about.
    saw: u64,
    /// Gone when the inputs have ended.
    rendered: Option<Rendered>,
    ended: bool,
    /// The last epoch this worker has given to.
    mine: Time,
    closed: Time,
    /// It has not given to any epoch yet.
    first: bool,
    /// The epoch that the job was restored from, or 0: before it is through with that again, there is nothing to be seen.
    start: Time,
    /// How many epochs of the job's script it has gone through.
    again: usize,
}

mod again;

impl Pump {
    pub(crate) fn new(
        worker: usize,
        shared: Arc<JobShared>,
        gate: Arc<EpochGate>,
        feeds: Vec<PumpFeed>,
        rendered: Rendered,
        until_end: bool,
    ) -> Self {
        let start = shared.stats.checkpoints.restore.as_ref().map_or(0, |restore| restore.epoch);
        let running = |feed: PumpFeed| Running {
            index: feed.index,
            source: feed.source,
            ends_job: feed.ends_job,
            feed: feed.feed,
            state: None,
        };
        let rejects = shared
            .job
            .sources
            .iter()
            .map(|source| shared.views.iter().find(|view| view.name() == OutputNames::rejects(&source.name)).cloned())
            .collect();
        shared.stats.checkpoints.restore.iter().for_each(Restore::made);
        Pump {
            worker,
            gate,
            until_end,
            feeds: feeds.into_iter().map(running).collect(),
            rejects,
            side_relations: None,
            begun: false,
            saw: 0,
            rendered: Some(rendered),
            ended: false,
            mine: start,
            closed: 0,
            first: true,
            start,
            again: 0,
            shared,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<JobShared> {
        &self.shared
    }

    /// Whether epochs of the job are not closed yet, and will be.
    pub(crate) fn has_open_epochs(&self) -> bool {
        let running = *self.shared.state.lock().expect("a state is set without panicking") == JobState::Running;
        running && self.shared.stats.epochs_open.load(Ordering::Relaxed) > 0
    }

    /// Gives the dataflow what there is, if an epoch may be opened.
    pub(crate) fn pump(&mut self) -> Pumped {
        let running = *self.shared.state.lock().expect("a state is set without panicking") == JobState::Running;
        if self.ended || !running {
            if !running {
                self.end();
            }
            return Pumped::Idle(None);
        }
        if !self.begins() {
            return Pumped::Idle(None);
        }
        if let Some(pumped) = self.pump_again() {
            return pumped;
        }
        if self.gate.ends() && !self.awaits_the_clock() {
            let due = self.shared.stats.checkpoints.due();
            if self.mine < due {
                self.send(due, Vec::new());
            }
            self.finish(Vec::new());
            return Pumped::Busy;
        }
        let joins = self.gate.current() > self.mine;
        if !joins && !self.gate.has_room() {
            return Pumped::Idle(None);
        }
        let (batches, wait) = self.poll();
        let first = std::mem::take(&mut self.first);
        let asked = self.shared.stats.checkpoints.is_asked();
        let ticks = self.feeds.iter().any(|feed| matches!(feed.state, Some(FeedState::Idle(_)))) && self.tick_is_due();
        let alarm = self.shared.alarms.next(self.worker);
        let rings = alarm.is_some_and(|at| at > self.gate.current() && at <= wall_ms());
        if batches.is_empty() && !joins && !first && !ticks && !rings && !asked {
            let alarm = alarm.map(|at| Duration::from_millis(at.saturating_sub(wall_ms()).clamp(1, ALARM_CHECK_MS)));
            let wait = [wait, alarm].into_iter().flatten().min();
            let tick = self.feeds.iter().any(|feed| matches!(feed.state, Some(FeedState::Idle(_)))).then_some(IDLE_TICK);
            return Pumped::Idle(match (wait, tick) {
                (Some(wait), Some(tick)) => Some(wait.min(tick)),
                (wait, tick) => wait.or(tick),
            });
        }
        let epoch = self.gate.enter(self.mine);
        // Another worker may have ended the job since: then this is its last epoch, for these rows as well.
        if self.gate.last.load(Ordering::Acquire) == epoch {
            self.finish(batches);
        } else {
            self.send(epoch, batches);
        }
        Pumped::Busy
    }

    /// Whether all operators of all workers have what they had, if the job goes on from a checkpoint: only then there are epochs.
    fn begins(&mut self) -> bool {
        if self.begun {
            return true;
        }
        let checkpoints = &self.shared.stats.checkpoints;
        if let Some(restore) = checkpoints.restore.as_ref().filter(|restore| !restore.is_over(checkpoints.workers)) {
            restore.ask_again(self.worker, &mut self.saw);
            return false;
        }
        // Rows of it are appended only in epochs; nothing that is computed once more reports its errors before.
        self.side_relations = SideRelations::new(&self.shared, self.worker);
        if let Some(rendered) = self.rendered.as_mut().filter(|_| self.start > 0) {
            rendered.sources.iter_mut().for_each(|input| input.advance_to(self.start + 1));
            rendered.marks.advance_to(self.start + 1);
        }
        self.begun = true;
        self.shared.stats.checkpoints.begins();
        true
    }

    /// Whether the clock will still change results although all feeds have finished, or that cannot be told yet.
    fn awaits_the_clock(&self) -> bool {
        let alarms = &self.shared.alarms;
        !self.until_end && alarms.any() && (self.shared.closed() < self.gate.current() || alarms.any_set())
    }

    fn tick_is_due(&self) -> bool {
        wall_ms() >= self.gate.current() + IDLE_TICK.as_millis() as Time
    }

    /// Asks each feed until it has nothing or has given enough for one epoch.
    fn poll(&mut self) -> (Vec<(usize, FeedBatch)>, Option<Duration>) {
        let rows_max = self.shared.job.settings.epoch_rows_max;
        let mut batches = Vec::new();
        let mut wait: Option<Duration> = None;
        for (position, running) in self.feeds.iter_mut().enumerate() {
            if running.state == Some(FeedState::Finished) || !has_turn(&self.shared, running.source) {
                continue;
            }
            let mut rows = 0;
            while rows < rows_max {
                match running.feed.poll(rows_max - rows) {
                    FeedPoll::Ready(batch) => {
                        rows += batch.deltas.iter().map(|delta| delta.len()).sum::<usize>();
                        rows += batch.rejects.iter().map(|rejects| rejects.num_rows()).sum::<usize>();
                        running.state = Some(batch.state);
                        let finished = batch.state == FeedState::Finished;
                        batches.push((position, batch));
                        if finished {
                            break;
                        }
                    }
                    FeedPoll::Pending(again) => {
                        wait = match (wait, again) {
                            (Some(wait), Some(again)) => Some(wait.min(again)),
                            (wait, again) => wait.or(again),
                        };
                        break;
                    }
                }
            }
        }
        (batches, wait)
    }

    /// Sends batches and marks at `epoch` and goes past it.
    fn send(&mut self, epoch: Time, batches: Vec<(usize, FeedBatch)>) {
        let (receipts, finished) = self.give(epoch, batches);
        let Some(rendered) = &mut self.rendered else { return };
        for running in &self.feeds {
            if let Some(state) = running.state {
                rendered.marks.send(Mark { feed: running.index, state: state.into() });
            }
        }
        if self.shared.alarms.any() || self.shared.script.of(epoch).is_some() {
            rendered.marks.send(Mark::TICK);
        }
        self.record(epoch);
        let Some(rendered) = &mut self.rendered else { return };
        rendered.sources.iter_mut().for_each(|input| {
            input.advance_to(epoch + 1);
            input.flush();
        });
        rendered.marks.advance_to(epoch + 1);
        rendered.marks.flush();
        self.mine = epoch;
        if self.shared.stats.checkpoints.due() == epoch {
            self.shared.stats.checkpoints.give_positions(self.worker, self.positions());
        }
        receipts.into_iter().for_each(|receipt| receipt(epoch));
        crash_point(Point::RowsGiven);
        (0..finished).for_each(|_| self.gate.one_finished());
    }

    /// Where the feeds stand after all that they have given.
    fn positions(&self) -> Positions {
        let of_feed = |running: &Running| {
            let source = running.source;
            running.feed.positions().into_iter().map(move |read| ((source, read.partition), read.position))
        };
        self.feeds.iter().flat_map(of_feed).collect()
    }

    /// Puts rows into `epoch`; gives who is to be told, and how many feeds finished that the job's end waits for.
    fn give(&mut self, epoch: Time, batches: Vec<(usize, FeedBatch)>) -> (Vec<Receipt>, usize) {
        let (mut receipts, mut finished) = (Vec::new(), 0);
        let Some(rendered) = &mut self.rendered else { return (receipts, finished) };
        rendered.sources.iter_mut().for_each(|input| input.advance_to(epoch));
        rendered.marks.advance_to(epoch);
        for (position, batch) in batches {
            let running = &self.feeds[position];
            let stats = &self.shared.stats.sources[running.source];
            let source = self.shared.job.sources.get(running.source);
            let (upserts, mut place) = (source.is_some_and(|source| source.upserts()), batch.place);
            for mut delta in batch.deltas {
                stats.rows.fetch_add(delta.len() as u64, Ordering::Relaxed);
                if !delta.is_empty() {
                    if upserts {
                        let rows = delta.len() as u64;
                        delta = with_places(delta, place);
                        place.number += rows;
                    }
                    rendered.sources[running.source].send_batch(&mut Parcel(Some(delta)));
                }
            }
            for rejects in batch.rejects {
                stats.rows.fetch_add(rejects.num_rows() as u64, Ordering::Relaxed);
                stats.rejected_rows.fetch_add(rejects.num_rows() as u64, Ordering::Relaxed);
                if let Some(Some(relation)) = self.rejects.get(running.source) {
                    relation.append(self.worker, epoch, rejects, None);
                }
            }
            receipts.extend(batch.receipts);
            finished += usize::from(batch.state == FeedState::Finished && running.ends_job);
        }
        (receipts, finished)
    }

    /// Ends all feeds in the job's last epoch, after these rows: every watermark goes to infinity.
    fn finish(&mut self, batches: Vec<(usize, FeedBatch)>) {
        let epoch = self.gate.last_epoch(self.mine);
        let (receipts, _) = self.give(epoch, batches);
        self.record(epoch);
        if let Some(rendered) = &mut self.rendered {
            for running in &self.feeds {
                rendered.marks.send(Mark { feed: running.index, state: MarkState::Finished });
            }
            if self.shared.alarms.any() {
                rendered.marks.send(Mark::TICK);
            }
            rendered.sources.iter_mut().for_each(|input| input.flush());
            rendered.marks.flush();
        }
        self.mine = epoch;
        self.shared.stats.checkpoints.give_last_positions(self.worker, epoch, self.positions());
        receipts.into_iter().for_each(|receipt| receipt(epoch));
        self.end();
    }

    /// Closes the inputs.
    fn end(&mut self) {
        self.ended = true;
        self.feeds.clear();
        if let Some(restore) = self.shared.stats.checkpoints.restore.as_ref().filter(|_| !self.begun) {
            restore.give_up();
        }
        if let Some(rendered) = &mut self.rendered {
            rendered.sources.clear();
            let marks = std::mem::take(&mut rendered.marks);
            marks.close();
        }
    }

    /// Makes what the last step has closed visible to readers.
    pub(crate) fn publish(&mut self) {
        let Some(rendered) = &mut self.rendered else { return };
        let frontier = rendered.probe.with_frontier(|frontier| frontier.first().copied());
        // Looked at after the frontier: an epoch that is complete because an operator gave up is not published.
        if matches!(*self.shared.state.lock().expect("a state is set without panicking"), JobState::Failed(_)) {
            return;
        }
        let through = match frontier {
            Some(frontier) if frontier <= self.start => return,
            Some(frontier) => frontier - 1,
            None => self.gate.current(),
        };
        let closed = through.min(self.gate.current());
        let over = frontier.is_none() && self.ended;
        if let Some(relations) = &mut self.side_relations {
            relations.save(frontier, over);
        }
        if closed > self.closed {
            for arrangement in &mut rendered.arrangements {
                arrangement.publish(closed);
            }
            self.closed = closed;
            // Only a worker that found the gate full waits for this.
            let made_room = self.gate.close_before(frontier);
            self.shared.published[self.worker].store(closed, Ordering::Release);
            self.shared.tell();
            crash_point(Point::EpochClosed);
            if made_room {
                (self.gate.wake_all)();
            }
        }
        if over && self.shared.closed() >= self.gate.current() {
            self.shared.set_state(JobState::Finished);
            self.rendered = None;
        }
    }
}
