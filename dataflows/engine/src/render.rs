//! Where the two streams of the house meet: a plan becomes operators on this worker.
//!
//! Every worker builds the same operators in the same order, so that timely's channels line up. The `match` below only
//! dispatches: what an operator does is in its own file.

mod arranged;
mod contests;
mod derived;
mod expiry;
mod hold;
mod join;
#[cfg(test)]
mod keyed;
mod ordered;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod plans;
mod recursion;
mod session;
mod temporal;
mod timed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_plan::{Aggregate, Grouping, Lifetime, Map, Node, NodeId, Op, OutputNames, TimeSource};
use timely::container::NoopBuilder;
use timely::dataflow::operators::probe::Probe;
use timely::dataflow::{InputHandle, ProbeHandle, Scope};

use self::arranged::Sharing;
use self::contests::{Placed, contests};
use self::derived::Awaited;
use self::recursion::Recursed;
use crate::arrangement::{Arrangement, arrange};
use crate::checkpoint::Keeps;
use crate::delta::Parcel;
use crate::job::{EpochSink, JobShared, JobState};
use crate::operator::DeltaStream;
use crate::operator::aggregate::Grouped;
use crate::operator::clock::{ClockStream, TickStream, all_marks, clock, ticks};
use crate::operator::contenders::Contenders;
use crate::operator::epoch::{Awake, EpochLogic, Input, Logic, epoch_operator, epoch_operator_awake};
use crate::operator::exchange::Route;
use crate::operator::late::{LateGate, LateSplit, RowWindows, Watermark};
use crate::operator::map::{Mapper, map};
use crate::operator::place::InOrder;
use crate::operator::preaggregate::{Partials, Preaggregate};
use crate::operator::set_operation::SetOperator;
use crate::operator::sides::{Errors, LateRows};
use crate::operator::sink::SinkWriter;
use crate::operator::stamp::stamp;
use crate::operator::unnest::unnest;
use crate::operator::upsert::Upsert;
use crate::operator::window::window;
use crate::operator::windowed::{Windowed, WindowedSpec, row_windows};
use crate::stats::OperatorStats;
use crate::view::ViewHandle;
use crate::watermark::{Mark, Watermarks};
use crate::{Delta, Time};

/// Rows into a dataflow.
pub(crate) type SourceInput = InputHandle<Time, NoopBuilder<Parcel>>;

/// Marks into a dataflow.
pub(crate) type MarkInput = InputHandle<Time, timely::container::CapacityContainerBuilder<Vec<Mark>>>;

/// A job's dataflow on this worker.
pub(crate) struct Rendered {
    /// One per source of the job.
    pub(crate) sources: Vec<SourceInput>,
    pub(crate) marks: MarkInput,
    /// Passes an epoch when every view and sink has.
    pub(crate) probe: ProbeHandle<Time>,
    pub(crate) arrangements: Vec<Arrangement>,
}

/// Builds a job's dataflow. `sinks`: those that this worker writes, others `None`. `feeds`: the source of each feed.
pub(crate) fn render(
    scope: Scope<'_, Time>,
    shared: &Arc<JobShared>,
    sinks: Vec<Option<Box<dyn EpochSink>>>,
    feeds: &[usize],
) -> Rendered {
    let job = Arc::clone(&shared.job);
    let excerpt = shared.excerpt.as_ref();
    let given: &[NodeId] = excerpt.map_or(&[], |excerpt| &excerpt.given);
    let inputs = job.sources.len() + given.len();
    let mut sources: Vec<SourceInput> = (0..inputs).map(|_| SourceInput::new_with_builder()).collect();
    let inputs: Vec<_> = sources.iter_mut().map(|source| source.to_stream(scope)).collect();
    let mut marks = MarkInput::new();
    let watermarks = Watermarks::new(feeds, job.sources.len(), job.uses_processing_time());
    let said = all_marks(marks.to_stream(scope));
    let clock = clock(said.clone(), watermarks, shared);
    let ticks = ticks(said);
    let probe = ProbeHandle::new();
    clock.clone().probe_with(&probe);
    let sharing = Sharing::new(&job);
    let needed = sharing.needed(&job);
    let contests = contests(&job, &needed);
    let mut renderer = Renderer {
        scope,
        shared,
        inputs,
        clock,
        ticks,
        sharing,
        contests,
        awaited: Awaited::new(),
        recursions: Vec::new(),
        streams: Vec::new(),
    };
    for id in 0..job.plan.nodes.len() {
        if let Some(index) = given.iter().position(|given| *given == id) {
            renderer.streams.push(Some(renderer.inputs[job.sources.len() + index].clone()));
            continue;
        }
        let runs = excerpt.map_or(&needed, |excerpt| &excerpt.nodes).contains(&id);
        let stream = runs.then(|| {
            let stream = renderer.node(id);
            renderer.reconciled(id, stream)
        });
        renderer.streams.push(stream);
    }
    let mut arrangements = Vec::new();
    let is_run = |output: &str| excerpt.is_none_or(|excerpt| excerpt.outputs.contains(output));
    for view in job.views.iter().filter(|view| is_run(&view.name)) {
        let handle = shared.views.iter().find(|handle| handle.name() == view.name).expect("every view has a handle");
        let stats = renderer.stats(view.node, format!("view {}", view.name));
        let stream = renderer.stream(view.node);
        let (worker, peers) = (renderer.worker(), renderer.peers());
        let rows = renderer.rows_of_groups(view);
        let (arranged, arrangement) = arrange(stream, Arc::clone(handle), stats, worker, peers, rows);
        arranged.probe_with(&probe);
        arrangements.push(arrangement);
    }
    for (index, (sink, writer)) in job.sinks.iter().zip(sinks).enumerate().filter(|(_, (sink, _))| is_run(&sink.name)) {
        renderer.sink(index, sink, writer).probe_with(&probe);
    }
    // Sources that nothing reads are consumed all the same: their frontier holds nothing back.
    Rendered { sources, marks, probe, arrangements }
}

struct Renderer<'scope, 'job> {
    scope: Scope<'scope, Time>,
    shared: &'job Arc<JobShared>,
    inputs: Vec<DeltaStream<'scope>>,
    clock: ClockStream<'scope>,
    ticks: TickStream<'scope>,
    /// Tables that several joins read.
    sharing: Sharing<'scope>,
    /// Where rows are dropped that cannot be the extreme of their group.
    contests: Vec<Placed>,
    /// Views that wait for groups to be given back.
    awaited: Awaited,
    /// What recursions give: by their address, with the inputs of their nodes, a stream per binding.
    recursions: Vec<Recursed<'scope>>,
    /// Per node of the plan its output; absent for nodes that no view or sink needs.
    streams: Vec<Option<DeltaStream<'scope>>>,
}

impl<'scope> Renderer<'scope, '_> {
    fn node(&mut self, id: NodeId) -> DeltaStream<'scope> {
        let job = Arc::clone(&self.shared.job);
        let node = &job.plan.nodes[id];
        match &node.op {
            Op::Source { source, .. } => self.source(id, *source),
            Op::Versions { source, .. } => self.versions(id, *source),
            Op::Constant { rows } => self.constant(id, rows.clone()),
            Op::Map(mapping) => {
                let (stats, errors) = (self.stats(id, "map"), self.errors(id, "map"));
                let mapper = if job.plan.gives_versions(id) { Mapper::of_versions } else { Mapper::new };
                map(self.input(id, 0), mapper(mapping.clone(), Arc::clone(&node.schema), errors), stats)
            }
            Op::Window(assign) => {
                let (stats, errors) = (self.stats(id, "window"), self.errors(id, "window"));
                window(self.input(id, 0), assign.clone(), Arc::clone(&node.schema), errors, stats)
            }
            Op::Session(assign) => self.session(id, node, assign),
            Op::Stamp => stamp(self.stream(node.inputs[0]), Arc::clone(&node.schema), self.stats(id, "stamp")),
            Op::Hold(hold) => self.hold(id, node, hold),
            Op::Aggregate(aggregate) => match &aggregate.grouping {
                Grouping::Session(assign) => self.session_aggregate(id, node, aggregate, assign),
                _ => self.aggregate(id, node, aggregate),
            },
            Op::Unnest(spec) => {
                let stats = self.stats(id, "unnest");
                unnest(self.stream(node.inputs[0]), spec.clone(), Arc::clone(&node.schema), stats)
            }
            Op::Join(join) => self.join(id, node, join),
            Op::SetOperation(operation) => {
                // The output's columns have the inputs' types, so rows are told apart by them.
                let columns: Vec<usize> = (0..node.schema.fields().len()).collect();
                let route = || Route::ByColumns(columns.clone());
                let inputs = node.inputs.iter().map(|input| Input { stream: self.stream(*input), route: route() }).collect();
                let mut logic = SetOperator::new(*operation, Arc::clone(&node.schema));
                let stats = self.stats(id, "set operation");
                let ttl = self.time_to_live(id, &stats);
                let expires = ttl.is_some();
                if let Some(ttl) = ttl {
                    logic = logic.that_expire(ttl);
                }
                self.expiring_operator(stats, inputs, expires, Logic::anywhere(logic))
            }
            Op::TopN(topn) => self.topn(id, node, topn),
            Op::TemporalJoin(temporal) => self.temporal_join(id, node, temporal),
            Op::Nearest(nearest) => self.nearest(id, node, nearest),
            Op::Over(over) => self.over(id, node, over),
            Op::Union => {
                use timely::dataflow::operators::Concatenate;
                let streams: Vec<_> = node.inputs.iter().map(|input| self.branch(id, node, *input)).collect();
                self.scope.concatenate(streams)
            }
            Op::Temporal(filter) => self.temporal(id, node, filter),
            Op::Recursion { recursion, output } => self.recursion(id, node, recursion, *output),
            Op::Entry(_) | Op::Binding(_) => unreachable!("planners put these into the bodies of recursions only"),
        }
    }

    fn source(&mut self, id: NodeId, source: usize) -> DeltaStream<'scope> {
        let declared = &self.shared.job.sources[source];
        let stream = self.inputs[source].clone();
        if !declared.upserts() {
            return stream;
        }
        let key = self.primary_key(source);
        let schema = Arc::clone(&self.shared.job.plan.nodes[id].schema);
        let input = Input { stream, route: Route::ByColumns(key.clone()) };
        self.operator(id, format!("table {}", declared.name), vec![input], false, Logic::anywhere(Upsert::new(key, schema)))
    }

    /// The rows of a table in the order in which they count.
    fn versions(&mut self, id: NodeId, source: usize) -> DeltaStream<'scope> {
        let input = Input { stream: self.inputs[source].clone(), route: Route::ByColumns(self.primary_key(source)) };
        let logic = InOrder(Arc::clone(&self.shared.job.plan.nodes[id].schema));
        self.operator(id, format!("versions of {}", self.shared.job.sources[source].name), vec![input], false, Box::new(logic))
    }

    /// A table's key columns among those that are read.
    fn primary_key(&self, source: usize) -> Vec<usize> {
        let declared = &self.shared.job.sources[source];
        let position = |column: &usize| declared.used.iter().position(|used| used == column);
        let key: Option<Vec<usize>> = declared.primary_key.iter().map(position).collect();
        key.expect("planners always read a table's primary key")
    }

    /// A union's input under the union's schema: a branch that has no NULLs says so in its own.
    fn branch(&mut self, id: NodeId, node: &Node, input: NodeId) -> DeltaStream<'scope> {
        let stream = self.stream(input);
        if self.shared.job.plan.nodes[input].schema == node.schema {
            return stream;
        }
        let (stats, errors) = (self.stats(id, "union"), self.errors(id, "union"));
        let unchanged = Map { filters: Vec::new(), exprs: None };
        map(stream, Mapper::new(unchanged, Arc::clone(&node.schema), errors), stats)
    }

    fn constant(&mut self, id: NodeId, rows: arrow::array::RecordBatch) -> DeltaStream<'scope> {
        let rows = if self.worker() == 0 { Some(Delta::insert(rows)) } else { None };
        self.operator(id, "constant", Vec::new(), false, Box::new(Constant(rows)))
    }

    fn aggregate(&mut self, id: NodeId, node: &Node, aggregate: &Aggregate) -> DeltaStream<'scope> {
        let input = &self.shared.job.plan.nodes[node.inputs[0]];
        let (schema, append_only) = (Arc::clone(&input.schema), input.properties.append_only);
        let name = if aggregate.calls.is_empty() { "distinct" } else { "aggregate" };
        let errors = self.errors(id, name);
        let mut stream = self.stream(node.inputs[0]);
        let mut route = Route::ByColumns(aggregate.keys.clone());
        // With one worker nothing travels, so there is nothing to save by adding rows up before.
        // Retractions of rows that were forgotten are told from others row by row.
        // What tables take back and give anew meets where rows with equal keys do, and is told from late rows there.
        let of_tables = aggregate.time_column().and_then(|time| input.properties.time[time].as_ref());
        let of_tables = of_tables.is_some_and(|time| self.of_tables(&time.sources));
        let added_up = self.peers() > 1 && !of_tables && (append_only || self.shared.job.lifetime(id) != Lifetime::Expires);
        let partials = added_up.then(|| Partials::of(aggregate, &schema, append_only)).flatten();
        if partials.is_some() {
            route = Route::ByColumns((0..aggregate.keys.len()).collect());
        }
        let states = partials.as_ref().map(|partials| (partials.assign(), partials.columns.clone()));
        let output = Arc::clone(&node.schema);
        let Some(windows) = row_windows(aggregate) else {
            if let Some(partials) = partials {
                let before = Box::new(Preaggregate { partials, gate: None });
                stream = self.operator(id, "preaggregate", vec![Input { stream, route: Route::Here }], false, before);
            }
            let owns_unit = self.worker() == unit_owner(self.peers());
            let states = states.map(|(_, columns)| columns);
            let mut logic = Grouped::new(aggregate, &schema, append_only, output, errors, owns_unit, states);
            logic = logic.awaited_by(self.waiting_for(id));
            let stats = self.stats(id, name);
            let ttl = self.time_to_live(id, &stats);
            let expires = ttl.is_some();
            if let Some(ttl) = ttl {
                logic = logic.that_expire(ttl);
            }
            return self.expiring_operator(stats, vec![Input { stream, route }], expires, Logic::anywhere(logic));
        };
        let time = aggregate.time_column().expect("a windowed grouping has a time column");
        let sources = input.properties.time[time].as_ref().map(|time| time.sources.clone()).unwrap_or_default();
        let watermark = Watermark::of(sources.clone());
        let assigned = matches!(aggregate.grouping, Grouping::Assign(_));
        let before = (self.peers() > 1 && assigned && !of_tables).then(|| self.stats(id, "preaggregate"));
        let stats = self.stats(id, name);
        let counted = before.as_ref().unwrap_or(&stats);
        let mut gate = Some(self.gate(windows, name, id, &sources, Arc::clone(counted)));
        if let Some(before) = before {
            let gate = gate.take().expect("just made");
            let logic: Box<dyn EpochLogic> = match partials {
                Some(partials) => Box::new(Preaggregate { partials, gate: Some((gate, watermark.clone())) }),
                None => Box::new(LateSplit { gate, watermark: watermark.clone() }),
            };
            let input = Input { stream, route: Route::Here };
            stream = epoch_operator(self.scope, before, vec![input], Some(self.clock.clone()), logic);
        }
        let logic = Windowed::new(WindowedSpec {
            aggregate: aggregate.clone(),
            input: schema,
            append_only,
            schema: output,
            errors,
            watermark,
            lateness: self.lateness(),
            gate,
            partials: states.and_then(|(assign, columns)| Some((assign?, columns))),
        });
        self.clocked_operator(stats, vec![Input { stream, route }], Logic::anywhere(logic))
    }

    fn sink(&mut self, index: usize, sink: &highwater_plan::Sink, writer: Option<Box<dyn EpochSink>>) -> DeltaStream<'scope> {
        let logic: Box<dyn EpochLogic> = match writer {
            Some(writer) => Box::new(SinkWriter::new(writer, sink.append_only, Arc::clone(&sink.schema), self.fail())),
            None => Box::new(Nothing),
        };
        let input = Input { stream: self.stream(sink.node), route: Route::To(sink_owner(index, self.peers())) };
        self.operator(sink.node, format!("sink {}", sink.name), vec![input], false, logic)
    }

    fn operator(
        &mut self,
        id: NodeId,
        name: impl Into<String>,
        inputs: Vec<Input<'scope>>,
        clocked: bool,
        logic: impl Into<Logic>,
    ) -> DeltaStream<'scope> {
        let stats = self.stats(id, name);
        epoch_operator(self.scope, stats, inputs, clocked.then(|| self.clock.clone()), logic)
    }

    /// An operator with watermarks. Where one may be processing time, it is given every epoch, and gets those that it asks
    /// for.
    fn clocked_operator(
        &mut self,
        stats: Arc<OperatorStats>,
        inputs: Vec<Input<'scope>>,
        logic: impl Into<Logic>,
    ) -> DeltaStream<'scope> {
        let clock = Some(self.clock.clone());
        let awake = || Awake { ticks: self.ticks.clone(), alarm: self.shared.alarms.add(self.worker()) };
        let awake = self.shared.job.uses_processing_time().then(awake);
        epoch_operator_awake(self.scope, stats, inputs, clock, awake, logic.into())
    }

    /// An operator that is given every epoch, and gets those that it asks for ([`EpochLogic::wake_at`]).
    fn awake_operator(
        &mut self,
        id: NodeId,
        name: impl Into<String>,
        inputs: Vec<Input<'scope>>,
        logic: impl Into<Logic>,
    ) -> DeltaStream<'scope> {
        let awake = Awake { ticks: self.ticks.clone(), alarm: self.shared.alarms.add(self.worker()) };
        epoch_operator_awake(self.scope, self.stats(id, name), inputs, None, Some(awake), logic.into())
    }

    /// What `id` reads, without rows that its results cannot depend on.
    fn input(&mut self, id: NodeId, place: usize) -> DeltaStream<'scope> {
        let input = self.shared.job.plan.nodes[id].inputs[place];
        let stream = self.stream(input);
        let placed = self.contests.iter().find(|placed| (placed.reader, placed.place) == (id, place)).cloned();
        let Some(Placed { contest, sources, .. }) = placed else { return stream };
        let schema = &self.shared.job.plan.nodes[input].schema;
        let types = contest.keys.iter().map(|key| schema.field(*key).data_type().clone()).collect();
        let clocked = contest.windows.is_some();
        let logic = Contenders::new(contest, types, Watermark::of(sources), self.lateness());
        let inputs = vec![Input { stream, route: Route::Here }];
        self.operator(id, "contenders", inputs, clocked, Box::new(logic))
    }

    fn stream(&self, id: NodeId) -> DeltaStream<'scope> {
        self.streams[id].clone().expect("inputs are rendered before their readers")
    }

    fn worker(&self) -> usize {
        self.scope.index()
    }

    fn peers(&self) -> usize {
        self.scope.peers()
    }

    fn stats(&self, id: NodeId, name: impl Into<String>) -> Arc<OperatorStats> {
        self.shared.stats.operator(id, name, self.worker())
    }

    fn lateness(&self) -> i64 {
        i64::try_from(self.shared.job.settings.allowed_lateness.as_micros()).unwrap_or(i64::MAX)
    }

    fn fail(&self) -> Arc<dyn Fn(String) + Send + Sync> {
        let (shared, failed) = (Arc::clone(self.shared), AtomicBool::new(false));
        Arc::new(move |message| {
            if !failed.swap(true, Ordering::Relaxed) {
                shared.set_state(JobState::Failed(message));
            }
        })
    }

    /// Where rows go on which `id`'s expressions fail: the errors of every view that reads it.
    fn errors(&self, id: NodeId, operator: &str) -> Errors {
        let job = &self.shared.job;
        let readers = job.views.iter().filter(|view| job.plan.upstream_of(view.node).contains(&id)).map(|view| &view.name);
        let sinks = job.sinks.iter().filter(|sink| job.plan.upstream_of(sink.node).contains(&id)).map(|sink| &sink.name);
        let relations = readers.chain(sinks).filter_map(|name| self.view(&OutputNames::errors(name))).collect();
        Errors {
            worker: self.worker(),
            operator: format!("{operator} @{id}"),
            relations,
            policy: job.settings.on_error,
            fail: self.fail(),
        }
    }

    fn gate(
        &self,
        windows: RowWindows,
        operator: &str,
        id: NodeId,
        sources: &[TimeSource],
        stats: Arc<OperatorStats>,
    ) -> LateGate {
        let relations = self.shared.job.sources.iter().map(|source| self.view(&OutputNames::late(&source.name))).collect();
        LateGate {
            windows,
            lateness: self.lateness(),
            late: LateRows {
                worker: self.worker(),
                operator: format!("{operator} @{id}"),
                relations,
                fallback: own_source(&self.shared.job, sources),
                before_images: self.of_tables(sources),
            },
            errors: self.errors(id, operator),
            stats,
            job: Arc::clone(&self.shared.stats),
            silent: false,
            admitted: None,
        }
    }

    /// Whether these sources are tables with primary keys, whose retractions are made here.
    fn of_tables(&self, sources: &[TimeSource]) -> bool {
        let upserts = |time: &TimeSource| self.shared.job.sources.get(time.source).is_some_and(|source| source.upserts());
        !sources.is_empty() && sources.iter().all(upserts)
    }

    fn view(&self, name: &str) -> Option<Arc<ViewHandle>> {
        self.shared.views.iter().find(|view| view.name() == name).cloned()
    }
}

/// The source that late rows are counted for where it cannot be told.
fn own_source(job: &highwater_plan::Job, sources: &[TimeSource]) -> usize {
    sources.iter().map(|time| time.source).find(|source| *source < job.sources.len()).unwrap_or(0)
}

/// The worker that writes a sink.
pub(crate) fn sink_owner(sink: usize, peers: usize) -> usize {
    sink % peers
}

/// The worker that rows without key columns go to.
fn unit_owner(peers: usize) -> usize {
    let mut hashes = Vec::new();
    crate::hash::hash_columns(&[], 1, &mut hashes);
    crate::hash::worker_of(hashes[0], peers)
}

/// Constant rows, present from the start.
struct Constant(Option<Delta>);

impl EpochLogic for Constant {
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    fn apply(&mut self, _epoch: Time, _inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        output.extend(self.0.take());
    }

    fn starts_alone(&self) -> bool {
        self.0.is_some()
    }
}

/// An operator that another worker runs: nothing comes here.
struct Nothing;

impl EpochLogic for Nothing {
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    fn apply(&mut self, _epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, _output: &mut Vec<Delta>) {
        debug_assert!(inputs.iter().all(Vec::is_empty), "a sink's rows go to its worker");
    }
}
