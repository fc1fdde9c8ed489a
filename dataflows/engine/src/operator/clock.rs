//! Turns the feeds' marks into the watermarks that every operator with windows goes by, and into the ticks that tell
//! operators with an eye on the clock of every epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Broadcast;

use crate::Time;
use crate::checkpoint::{Checkpoints, Slot};
use crate::job::JobShared;
use crate::watermark::{Mark, Watermarks};

/// Watermarks per source, at the epoch with which they changed.
pub(crate) type ClockStream<'scope> = Stream<'scope, Time, Vec<Arc<[i64]>>>;

/// Something at every epoch that any worker has opened.
pub(crate) type TickStream<'scope> = Stream<'scope, Time, Vec<()>>;

/// The marks of all workers, on every worker.
pub(crate) fn all_marks<'scope>(marks: Stream<'scope, Time, Vec<Mark>>) -> Stream<'scope, Time, Vec<Mark>> {
    if marks.scope().peers() > 1 { marks.broadcast() } else { marks }
}

/// Every epoch that any worker has opened, from the marks of all workers.
pub(crate) fn ticks<'scope>(marks: Stream<'scope, Time, Vec<Mark>>) -> TickStream<'scope> {
    marks.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "ticks", |_, _| {
        |input, output| input.for_each(|capability, _| output.session(&capability).give(()))
    })
}

/// Computes `W(e)` on every worker from the marks of all workers.
pub(crate) fn clock<'scope>(
    marks: Stream<'scope, Time, Vec<Mark>>,
    mut watermarks: Watermarks,
    shared: &Arc<JobShared>,
) -> ClockStream<'scope> {
    let builder = "clock";
    let worker = marks.scope().index();
    let (shared, stats) = (Arc::clone(shared), Arc::clone(&shared.stats));
    // All workers know the same.
    let recorder = shared.recorder.clone().filter(|_| worker == 0);
    let checkpoints = Arc::clone(&stats.checkpoints);
    if let Some(restore) = &checkpoints.restore {
        watermarks.resume(&restore.clock);
    }
    let slot = checkpoints.register_clock(worker);
    let mut saving = ClockSaving { worker, slot, last: 0, ended: false, checkpoints: Arc::clone(&checkpoints) };
    saving.last = checkpoints.restore.as_ref().map_or(0, |restore| restore.epoch);
    marks.unary_frontier::<CapacityContainerBuilder<Vec<Arc<[i64]>>>, _, _, _>(Pipeline, builder, move |_, _| {
        let mut waiting: BTreeMap<Time, (Capability<Time>, Vec<Mark>)> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each(|capability, data| {
                let time = *capability.time();
                waiting.entry(time).or_insert_with(|| (capability.retain(0), Vec::new())).1.append(data);
            });
            while let Some(next) = waiting.first_entry() {
                if frontier.less_equal(next.key()) {
                    break;
                }
                saving.save(Some(*next.key()), &watermarks);
                let (epoch, (capability, marks)) = next.remove_entry();
                let recorded = shared.script.of(epoch);
                let current = match recorded {
                    None => watermarks.close(epoch, marks),
                    Some(recorded) => recorded.clock.as_ref().and_then(|clock| watermarks.set(clock)),
                };
                if let Some(current) = current {
                    for (source, watermark) in stats.sources.iter().zip(current) {
                        source.watermark.store(*watermark, Ordering::Relaxed);
                    }
                    output.session(&capability).give(Arc::from(current));
                }
                if let Some(recorder) = recorder.as_ref().filter(|_| recorded.is_none()) {
                    recorder.clock(epoch, watermarks.clock());
                }
            }
            let open = frontier.frontier().first().copied();
            saving.save(open, &watermarks);
            if let Some(recorder) = &recorder {
                recorder.clocked(open.map_or(Time::MAX, |open| open.saturating_sub(1)));
            }
        }
    })
}

/// Hands out the watermarks for checkpoints.
struct ClockSaving {
    checkpoints: Arc<Checkpoints>,
    worker: usize,
    slot: Slot,
    /// The epoch of the last checkpoint that has them.
    last: Time,
    ended: bool,
}

impl ClockSaving {
    /// Hands them out if they are those of a checkpoint's epoch: all epochs before `open` (all, if none) have their marks.
    fn save(&mut self, open: Option<Time>, watermarks: &Watermarks) {
        let due = self.checkpoints.due();
        let ends = open.is_none() && !self.ended;
        if ends || (due > self.last && open.is_some_and(|open| open > due)) {
            (self.last, self.ended) = (due, ends);
            self.checkpoints.give_clock(self.worker, self.slot, watermarks.clock(), ends);
        }
    }
}
