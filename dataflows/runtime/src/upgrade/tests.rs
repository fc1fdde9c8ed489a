//! Jobs over a source that is read from somewhere: what comes of them when that is somewhere else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highwater_connectors::Registry;
use highwater_connectors::source::{
    COMMON_FIELDS, Offset, PartitionId, PartitionReader, Polled, Source, SourceConnector, SourceError, SourceSpec, Waker,
};
use highwater_plan::{Aggregate, Diagnostic, Emit, Field, Grouping, Node, OptionReader, Properties, StateBound};

use super::*;
use crate::checkpoints::CheckpointConfig;
use crate::jobs::{CreateError, CreateOptions, Runtime, RuntimeConfig};
use crate::replay::{ReplayError, ReplayOptions};
use crate::running::RunningJob;
use crate::testing::connector::job;
use crate::testing::{batch_at, times};

const PATIENCE: Duration = Duration::from_secs(180);

/// The numbers of a log from `start` to 9, unless it is resumed without an offset: then from 0. Log `b` has 100 more each.
struct Numbers;

struct Log {
    first: i64,
    start: i64,
    latest: bool,
    /// Whether nothing comes any more.
    silent: bool,
    resumes: std::sync::atomic::AtomicBool,
}

struct Reader {
    first: i64,
    next: i64,
    /// Rows from here on do not come.
    end: i64,
}

impl SourceConnector for Numbers {
    fn name(&self) -> &'static str {
        "numbers"
    }

    fn fields(&self) -> Vec<Field> {
        COMMON_FIELDS.to_vec()
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        let fields = ["topic", "start", "silent"].map(|key| Field { key, about: "" });
        let reader = OptionReader::new(&spec.options, "connector 'numbers'", &[&fields, COMMON_FIELDS])?;
        let latest = reader.optional("start") == Some("latest");
        let start = if latest { 7 } else { reader.parsed("start", "a number")?.unwrap_or(0) };
        let first = if reader.required("topic")? == "b" { 100 } else { 0 };
        let silent = reader.flag("silent", false)?;
        Ok(Box::new(Log { first, start, latest, silent, resumes: Default::default() }))
    }
}

impl Source for Log {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok(vec![PartitionId::new("0")])
    }

    fn read(&self, _: &PartitionId, offset: Option<&Offset>, _: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let start = if self.resumes.load(std::sync::atomic::Ordering::SeqCst) { 0 } else { self.start };
        let next = offset.map_or(start, |offset| offset.0.parse().unwrap());
        Ok(Box::new(Reader { first: self.first, next, end: if self.silent { next } else { 10 } }))
    }

    fn repeats(&self) -> bool {
        !self.latest
    }

    fn resumes(&self) {
        self.resumes.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    fn bounded(&self) -> bool {
        false
    }
}

impl PartitionReader for Reader {
    fn poll(&mut self, _: usize) -> Result<Polled, SourceError> {
        if self.next >= self.end {
            return Ok(Polled::Pending(None));
        }
        let mut batch = batch_at(&[Some(self.first + self.next)]);
        self.next += 1;
        batch.offset = Offset::new(self.next);
        Ok(Polled::Batch(batch))
    }

    fn begins(&self) -> Option<Offset> {
        Some(Offset::new(self.next))
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add_source(Arc::new(Numbers));
    registry
}

fn runtime(directory: &Path) -> Arc<Runtime> {
    let record = Some(Duration::from_secs(3_600));
    let location = directory.display().to_string();
    let checkpoints = Some(CheckpointConfig { location, interval: Duration::from_secs(3_600), record });
    Runtime::start(RuntimeConfig { workers: 1, registry: registry(), checkpoints }).unwrap()
}

fn numbers(view: &str, options: &[(&str, &str)]) -> Job {
    job("s", view, None, &[&[("connector", "numbers")], options].concat())
}

fn create(runtime: &Runtime, job: Job, upgrade: bool) -> Result<Arc<RunningJob>, CreateError> {
    runtime.create("j", "CREATE ...", job, CreateOptions { upgrade, ..CreateOptions::default() })
}

/// Waits until the view has this row, and gives all of its rows.
fn rows_with(job: &RunningJob, view: &str, last: i64) -> Vec<i64> {
    let started = std::time::Instant::now();
    loop {
        let read = job.read_view(view, None, PATIENCE, &[], None).unwrap();
        let mut rows: Vec<i64> = read.batches.iter().flat_map(times).flatten().collect();
        rows.sort_unstable();
        if rows.contains(&last) {
            return rows;
        }
        assert!(started.elapsed() < PATIENCE, "{rows:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn stop(runtime: &Runtime, job: &RunningJob) {
    assert!(job.settle(PATIENCE), "{:?}", job.problems());
    runtime.shutdown();
}

#[test]
fn another_topic_under_the_same_name_is_another_source() {
    let directory = tempfile::tempdir().unwrap();
    let old = numbers("v", &[("topic", "a")]);
    let first = runtime(directory.path());
    let running = create(&first, old.clone(), false).unwrap();
    assert_eq!(rows_with(&running, "v", 9).len(), 10);
    stop(&first, &running);

    let new = numbers("v", &[("topic", "b"), ("start", "4")]);
    let second = runtime(directory.path());
    let refused = create(&second, new.clone(), false).err().unwrap().to_string();
    assert!(refused.contains("source s is another one: topic was 'a' and is 'b' now"), "{refused}");
    assert!(refused.contains("--upgrade"), "{refused}");
    // It begins where a new one would, and nothing is left of what was made of the other; its watermark neither.
    let running = create(&second, new.clone(), true).unwrap();
    assert_eq!(rows_with(&running, "v", 109), [104, 105, 106, 107, 108, 109]);
    let report = running.upgrade().unwrap();
    assert_eq!(report.moved, ["source s is another one: topic was 'a' and is 'b' now"]);
    assert_eq!(report.rebuilt[0].from.as_deref(), Some("source s, which begins anew"));
    assert_eq!(report.dropped[0].what, "view v");
    stop(&second, &running);

    let third = runtime(directory.path());
    let running = create(&third, new, false).unwrap();
    assert_eq!(rows_with(&running, "v", 109).len(), 6);
    assert!(running.upgrade().is_none());
    stop(&third, &running);
    assert!(
        !Upgrade::between(&Arc::new(old.clone()), &Arc::new(numbers("v", &[("topic", "b")])), &registry()).unwrap().is_nothing()
    );
    assert!(Upgrade::between(&Arc::new(old.clone()), &Arc::new(old), &registry()).unwrap().is_nothing());
}

/// `CREATE MATERIALIZED VIEW v AS SELECT DISTINCT * FROM s`.
fn distinct_numbers() -> Arc<Job> {
    let mut job = numbers("v", &[("topic", "a")]);
    let aggregate = Aggregate { keys: vec![0], calls: Vec::new(), grouping: Grouping::Keys, emit: Emit::Changes };
    let properties = Properties { append_only: true, time: vec![None], unique_key: Some(vec![0]), state: StateBound::Keys };
    let schema = Arc::clone(&job.plan.nodes[0].schema);
    let node = Node { op: Op::Aggregate(aggregate), inputs: vec![0], schema, properties, span: None };
    job.views[0].node = job.plan.push(node);
    Arc::new(job)
}

#[test]
fn a_view_of_groups_is_rebuilt_with_them() {
    let job = distinct_numbers();
    let registry = registry();
    let names = Names::new(&job, kept_operators(&job).unwrap(), &registry, "", false);
    assert!(names.kept().iter().any(|kept| kept.derived), "{:?}", names.kept());
    let mut meta = names.meta_after_reading();
    assert!(Change::new(&job, &names, &meta, &registry, &[]).report.is_nothing());
    let groups = names.kept().iter().find(|kept| kept.from == KeptFrom::Inputs).unwrap();
    meta.operators.get_mut(&names.operator(&groups.operator)).unwrap().form = "as another version kept them".into();

    let change = Change::new(&job, &names, &meta, &registry, &[]);
    let rebuilt: Vec<&str> = change.report.rebuilt.iter().map(|part| part.what.as_str()).collect();
    assert_eq!(rebuilt, ["distinct of v", "view v"]);
    assert_eq!(change.excerpt.outputs, BTreeSet::from(["v".to_owned()]));
}

#[test]
fn a_start_that_is_moved_changes_nothing_of_what_began() {
    let directory = tempfile::tempdir().unwrap();
    let first = runtime(directory.path());
    let running = create(&first, numbers("v", &[("topic", "a"), ("start", "4")]), false).unwrap();
    assert_eq!(rows_with(&running, "v", 9), [4, 5, 6, 7, 8, 9]);
    stop(&first, &running);

    // It goes on, and where it began is not forgotten.
    let moved = [("topic", "a"), ("start", "2")];
    let second = runtime(directory.path());
    let running = create(&second, numbers("v", &moved), false).unwrap();
    assert_eq!(rows_with(&running, "v", 9).len(), 6);
    stop(&second, &running);

    let third = runtime(directory.path());
    let mut another = numbers("w", &moved);
    another.plan.nodes[0].properties.append_only = false;
    let refused = create(&third, another, true).err().unwrap().to_string();
    assert!(refused.contains("its start was '4' and is '2' now (write it as it was)"), "{refused}");
    third.shutdown();

    let wanted = |from| ReplayOptions { from, to: None, into: None };
    let bounds = |runtime: &Runtime| match runtime.replay("j", "", numbers("v", &moved), &wanted(1)) {
        Err(ReplayError::NotRecorded { first, .. }) => first,
        other => panic!("{:?}", other.err()),
    };
    let fourth = runtime(directory.path());
    let begins = wanted(bounds(&fourth));
    let refused = fourth.replay("j", "", numbers("v", &moved), &begins).err().unwrap().to_string();
    assert!(refused.contains("source 's' is not what it was in these epochs: its start was '4' and is '2' now"), "{refused}");
    let elsewhere = numbers("v", &[("topic", "b"), ("start", "4")]);
    let refused = fourth.replay("j", "", elsewhere, &begins).err().unwrap().to_string();
    assert!(refused.contains("topic was 'a' and is 'b' now"), "{refused}");
    // From the job's beginning, which is not the log's.
    let replayed = fourth.replay("j", "", numbers("v", &[("topic", "a"), ("start", "4")]), &begins).unwrap();
    assert_eq!(replayed.base, 0);
    assert!(replayed.wait(PATIENCE).unwrap());
    assert_eq!(rows_with(&replayed.job, "v", 9), [4, 5, 6, 7, 8, 9]);
    fourth.end_replay(&replayed);
    fourth.shutdown();
}

#[test]
fn a_beginning_that_nobody_can_tell_again_is_not_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let first = runtime(directory.path());
    let latest = || numbers("v", &[("topic", "a"), ("start", "latest")]);
    let running = create(&first, latest(), false).unwrap();
    assert_eq!(rows_with(&running, "v", 9), [7, 8, 9]);
    stop(&first, &running);
    let second = runtime(directory.path());
    let error = second.replay("j", "", latest(), &ReplayOptions { from: 1, to: None, into: None }).err();
    let Some(ReplayError::NotRecorded { first, .. }) = error else { panic!("{error:?}") };
    let refused = second.replay("j", "", latest(), &ReplayOptions { from: first, to: None, into: None }).err().unwrap();
    assert!(matches!(&refused, ReplayError::Start(source) if source == "s"), "{refused}");
    second.shutdown();
}

#[test]
fn a_partition_that_was_silent_goes_on_where_it_began() {
    let directory = tempfile::tempdir().unwrap();
    let first = runtime(directory.path());
    let silent = numbers("v", &[("topic", "a"), ("start", "latest"), ("silent", "true")]);
    let running = create(&first, silent, false).unwrap();
    stop(&first, &running);
    let second = runtime(directory.path());
    let running = create(&second, numbers("v", &[("topic", "a"), ("start", "latest")]), false).unwrap();
    assert_eq!(rows_with(&running, "v", 9), [7, 8, 9]);
    stop(&second, &running);
}
