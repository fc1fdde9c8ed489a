//! The frame of every epoch-synchronous operator.
//!
//! It collects the updates of an epoch from all inputs, waits until no more can come, and hands them to the operator's
//! logic in one call; what the logic gives is sent at that epoch. Epochs are handed over in order, so the logic's state is
//! always that of the current epoch. There is one frame, for any number of inputs: timely's generic code is compiled once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use timely::container::NoopBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::frontier::MutableAntichain;

use crate::alarm::Alarm;
use crate::checkpoint::{Keeps, KeptFrom, Loaded, Saved, Saving};
use crate::delta::Parcel;
use crate::operator::DeltaStream;
use crate::operator::clock::{ClockStream, TickStream};
use crate::operator::exchange::{Route, by_columns, copies, in_turn, to_worker};
use crate::operator::late::LateGate;
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// What an operator does with an epoch.
pub(crate) trait EpochLogic {
    /// Applies all updates of `epoch`, per input, and appends what changed to `output`.
    ///
    /// `watermarks` is set if the watermarks changed with this epoch: they hold *after* it. For an operator without a
    /// clock it is always `None`.
    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>);

    /// How what it keeps comes to be in checkpoints.
    fn keeps(&self) -> Keeps;

    /// From here on it remembers what changes, for [`EpochLogic::save`].
    fn log(&mut self) {}

    /// Puts what changed since this was asked last into its tables; of operators with tables of their [own](Keeps::Own).
    fn save(&mut self, _saved: &mut Saved) {}

    /// Takes back the rows of its tables, of which there are as many as inputs or more, before any epoch is applied, and as if
    /// all had come at once: nothing was given, no watermark is known. What that gives is not given again. Of
    /// [`Logic::Anywhere`] it may run on a thread that is not its worker's.
    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        self.apply(epoch, tables, None, &mut Vec::new());
    }

    /// Whether [`EpochLogic::load`] takes tables with all that became of them, oldest first: rows that were given and taken back,
    /// in any order within what the job did between two checkpoints, and removals of entries. In the end it is as if what is gone
    /// had never been.
    fn takes_changes(&self) -> bool {
        false
    }

    /// All that was saved is loaded, and these are the watermarks as of `epoch`.
    fn resume(&mut self, epoch: Time, inputs: usize, watermarks: &[i64]) {
        self.apply(epoch, &mut vec![Vec::new(); inputs], Some(watermarks), &mut Vec::new());
    }

    /// Whether others wait until it is given back what it had.
    fn is_awaited(&self) -> bool {
        false
    }

    /// Per input what lets its rows in, of an operator that keeps its [inputs](Keeps::Inputs) but refuses late rows; none if
    /// it takes all.
    fn gates(&mut self) -> Vec<&mut LateGate> {
        Vec::new()
    }

    /// Whether an input is one of those that it [keeps](Keeps::Inputs).
    fn keeps_input(&self, _input: u32) -> bool {
        true
    }

    /// The rows of a change that it [keeps](Keeps::Inputs).
    fn kept_of(&self, _input: u32, change: &Delta) -> Delta {
        Delta::of(change.rows.clone(), change.diffs.clone())
    }

    /// What its state follows from: what its node reads, or, for those that others read through, what it gives.
    fn kept_from(&self) -> KeptFrom {
        KeptFrom::Inputs
    }

    /// Rows of a table of [inputs](Keeps::Inputs) that it keeps no longer: see [`crate::checkpoint::TableState::freed`].
    fn freed(&self, _table: u32) -> Option<(usize, i64)> {
        None
    }

    /// Rows and bytes kept, about.
    fn state(&self) -> (usize, usize) {
        (0, 0)
    }

    /// The first epoch, after those applied, in which there is something to do although no row comes. Only asked of
    /// operators that are built [awake](epoch_operator_awake); those are given every epoch.
    fn wake_at(&self) -> Option<Time> {
        None
    }

    /// Whether there is something to give before any row came, at time 0.
    fn starts_alone(&self) -> bool {
        false
    }
}

/// An operator's logic.
pub(crate) enum Logic {
    /// It stays on its worker's thread.
    Here(Box<dyn EpochLogic>),
    /// It may be given what it had on another thread.
    Anywhere(Box<dyn EpochLogic + Send>),
}

impl Logic {
    /// Logic that may be on any thread.
    pub(crate) fn anywhere(logic: impl EpochLogic + Send + 'static) -> Self {
        Logic::Anywhere(Box::new(logic))
    }

    /// To stay here.
    pub(crate) fn here(self) -> Box<dyn EpochLogic> {
        match self {
            Logic::Here(logic) => logic,
            Logic::Anywhere(logic) => logic,
        }
    }

    pub(crate) fn as_mut(&mut self) -> &mut dyn EpochLogic {
        match self {
            Logic::Here(logic) => logic.as_mut(),
            Logic::Anywhere(logic) => logic.as_mut(),
        }
    }
}

impl From<Box<dyn EpochLogic>> for Logic {
    fn from(logic: Box<dyn EpochLogic>) -> Self {
        Logic::Here(logic)
    }
}

impl<L: EpochLogic + 'static> From<Box<L>> for Logic {
    fn from(logic: Box<L>) -> Self {
        Logic::Here(logic)
    }
}

/// One input of an operator and where its rows go first.
pub(crate) struct Input<'scope> {
    pub(crate) stream: DeltaStream<'scope>,
    pub(crate) route: Route,
}

type Pull = Box<dyn FnMut(&mut dyn FnMut(InputCapability<Time>, Delta))>;

struct Waiting {
    capability: Capability<Time>,
    inputs: Vec<Vec<Delta>>,
    watermarks: Option<Arc<[i64]>>,
}

/// What keeps an operator awake: every epoch, and how to ask for one.
pub(crate) struct Awake<'scope> {
    pub(crate) ticks: TickStream<'scope>,
    pub(crate) alarm: Arc<Alarm>,
}

/// Builds an epoch-synchronous operator.
pub(crate) fn epoch_operator<'scope>(
    scope: Scope<'scope, Time>,
    stats: Arc<OperatorStats>,
    inputs: Vec<Input<'scope>>,
    clock: Option<ClockStream<'scope>>,
    logic: impl Into<Logic>,
) -> DeltaStream<'scope> {
    epoch_operator_awake(scope, stats, inputs, clock, None, logic.into())
}

/// Builds an epoch-synchronous operator; one that is awake is given every epoch, and gets those that it asks for.
pub(crate) fn epoch_operator_awake<'scope>(
    scope: Scope<'scope, Time>,
    stats: Arc<OperatorStats>,
    inputs: Vec<Input<'scope>>,
    clock: Option<ClockStream<'scope>>,
    awake: Option<Awake<'scope>>,
    mut logic: Logic,
) -> DeltaStream<'scope> {
    let peers = scope.peers();
    let ports = inputs.len();
    let routes: Vec<Route> = inputs.iter().map(|input| input.route.clone()).collect();
    let (mut saving, loading) = Saving::new(&stats, &routes, logic.as_mut());
    let mut builder = OperatorBuilder::new(stats.name.clone(), scope);
    let address = builder.operator_info().address.to_vec();
    let mut logic = Loaded::new(logic, loading, || scope.worker().sync_activator_for(address));
    let mut pulls: Vec<Pull> = inputs.into_iter().map(|input| pull(&mut builder, input, peers)).collect();
    let mut clock = clock.map(|clock| builder.new_input(clock, Pipeline));
    let (ticks, alarm) = awake.map(|awake| (awake.ticks, awake.alarm)).unzip();
    let mut ticks = ticks.map(|ticks| builder.new_input(ticks, Pipeline));
    let (output, stream) = builder.new_output::<Parcel>();
    let mut output = OutputBuilder::<Time, NoopBuilder<Parcel>>::from(output);
    let set_alarm = move |logic: &dyn EpochLogic| alarm.iter().for_each(|alarm| alarm.set(logic.wake_at()));
    let is_here = logic.get().is_some();
    if let Some(logic) = logic.get().filter(|_| !stats.is_new()) {
        set_alarm(logic);
    }
    builder.build(move |mut capabilities| {
        let mut waiting: BTreeMap<Time, Waiting> = BTreeMap::new();
        let initial = capabilities.pop().expect("one output, one capability");
        if stats.is_new() && logic.get().is_some_and(|logic| logic.starts_alone()) {
            waiting.insert(0, Waiting { capability: initial.clone(), inputs: vec![Vec::new(); ports], watermarks: None });
        }
        // Timely forgets operators to which nothing can come and which can give nothing.
        let mut awaits = (!is_here).then_some(initial);
        let mut changed = Vec::new();
        move |frontiers: &[MutableAntichain<Time>]| {
            let done = stats.guard(|| {
                let started = Instant::now();
                let Some(logic) = logic.get() else { return };
                if awaits.take().is_some() {
                    set_alarm(logic);
                }
                let mut queued = 0;
                for (port, pull) in pulls.iter_mut().enumerate() {
                    pull(&mut |capability, delta| {
                        queued += delta.len();
                        entry(&mut waiting, capability, ports).inputs[port].push(delta);
                    });
                }
                if queued > 0 {
                    stats.took(queued);
                    stats.queued_rows.fetch_add(queued as u64, Ordering::Relaxed);
                }
                if let Some(ticks) = &mut ticks {
                    ticks.for_each(|capability, _| {
                        entry(&mut waiting, capability, ports);
                    });
                }
                if let Some(clock) = &mut clock {
                    clock.for_each(|capability, data| {
                        if let Some(last) = data.drain(..).next_back() {
                            entry(&mut waiting, capability, ports).watermarks = Some(last);
                        }
                    });
                }
                let open = frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min();
                let mut output = output.activate();
                let mut worked = false;
                while let Some(next) = waiting.first_entry() {
                    if open.is_some_and(|open| open <= *next.key()) {
                        break;
                    }
                    worked = true;
                    if let Some(saving) = &mut saving {
                        saving.save(Some(*next.key()), logic);
                    }
                    let (epoch, mut entry) = next.remove_entry();
                    if let Some(saving) = &mut saving {
                        saving.takes(&entry.inputs, logic);
                    }
                    let rows: usize = entry.inputs.iter().flatten().map(Delta::len).sum();
                    stats.queued_rows.fetch_sub(rows as u64, Ordering::Relaxed);
                    logic.apply(epoch, &mut entry.inputs, entry.watermarks.as_deref(), &mut changed);
                    if let Some(saving) = &mut saving {
                        saving.gives(&changed);
                        if entry.watermarks.is_some() {
                            saving.frees(logic);
                        }
                    }
                    for delta in changed.drain(..) {
                        if !delta.is_empty() {
                            stats.gave(&delta);
                            output.session_with_builder(&entry.capability).give_container(&mut Parcel(Some(delta)));
                        }
                    }
                }
                if let Some(saving) = &mut saving {
                    saving.save(open, logic);
                }
                if worked {
                    let (rows, bytes) = logic.state();
                    stats.holds(rows, bytes);
                    set_alarm(logic);
                }
                stats.busy_ns.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            });
            if done.is_none() {
                awaits = None;
                waiting.clear();
                changed.clear();
                pulls.iter_mut().for_each(|pull| pull(&mut |_, _| {}));
                if let Some(ticks) = &mut ticks {
                    ticks.for_each(|_, _| {});
                }
                if let Some(clock) = &mut clock {
                    clock.for_each(|_, _| {});
                }
            }
        }
    });
    stream
}

fn entry(waiting: &mut BTreeMap<Time, Waiting>, capability: InputCapability<Time>, ports: usize) -> &mut Waiting {
    waiting.entry(*capability.time()).or_insert_with(|| Waiting {
        capability: capability.retain(0),
        inputs: vec![Vec::new(); ports],
        watermarks: None,
    })
}

fn pull<'scope>(builder: &mut OperatorBuilder<'scope, Time>, input: Input<'scope>, peers: usize) -> Pull {
    let Input { mut stream, route } = input;
    if peers > 1 && matches!(route, Route::Everywhere) {
        stream = copies(stream, peers);
    }
    macro_rules! pull_through {
        ($pact:expr) => {{
            let mut handle = builder.new_input(stream, $pact);
            Box::new(move |take: &mut dyn FnMut(InputCapability<Time>, Delta)| {
                handle.for_each(|capability, parcel| {
                    if let Some(delta) = parcel.0.take() {
                        take(capability, delta);
                    }
                });
            })
        }};
    }
    match route {
        _ if peers == 1 => pull_through!(Pipeline),
        Route::Here => pull_through!(Pipeline),
        Route::ByColumns(columns) => pull_through!(by_columns(&columns)),
        Route::To(worker) => pull_through!(to_worker(worker)),
        Route::Everywhere => pull_through!(in_turn()),
    }
}
