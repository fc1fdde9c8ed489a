//! Whole jobs on a real engine: from a connector's rows to a read.

use std::sync::mpsc;
use std::time::Duration;

use highwater_connectors::source::{Polled, PushError, Receipt, SourceError};
use highwater_engine::JobState;

use super::*;
use crate::running::PushFailure;
use crate::status::PartitionState;
use crate::testing::connector::{World, job, request};
use crate::testing::{Script, times};
use crate::{ReadError, ViewRead};

/// Longer than anything here takes; a test that waits for all of it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const SCRIPT: &[(&str, &str)] = &[("connector", "script")];
const PUSH: &[(&str, &str)] = &[("connector", "push")];

fn runtime(world: &World, workers: usize) -> Arc<Runtime> {
    Runtime::start(RuntimeConfig { workers, registry: world.registry(), checkpoints: None }).unwrap()
}

fn create(runtime: &Runtime, name: &str, job: Job) -> Result<Arc<RunningJob>, CreateError> {
    runtime.create(name, "CREATE ...", job, CreateOptions::default())
}

fn rows(read: &ViewRead) -> Vec<i64> {
    let mut rows: Vec<i64> = read.batches.iter().flat_map(times).flatten().collect();
    rows.sort_unstable();
    rows
}

fn read(job: &RunningJob, view: &str) -> Vec<i64> {
    rows(&job.read_view(view, None, PATIENCE, &[], None).unwrap())
}

/// Pushes and gives the epoch of the rows.
fn push(job: &RunningJob, source: &str, body: &str) -> u64 {
    let (told, epoch) = mpsc::channel();
    let receipt = Receipt(Box::new(move |epoch| told.send(epoch).unwrap()));
    assert_eq!(job.push(source, request(body), receipt).unwrap().accepted, body.split_whitespace().count() as u64);
    epoch.recv_timeout(PATIENCE).unwrap()
}

fn a_script(rows: &[i64]) -> Script {
    let script = Script::default();
    script.say_rows(rows);
    script.say(Ok(Polled::Finished));
    script
}

#[test]
fn a_bounded_job_runs_to_its_end() {
    let world = World { scripts: vec![a_script(&[3, 1]), a_script(&[2]), a_script(&[i64::MAX])], ..World::default() };
    let runtime = runtime(&world, 2);
    let job = create(&runtime, "j", job("s", "v", Some("out"), SCRIPT)).unwrap();
    assert_eq!(job.wait_over(Some(PATIENCE)), JobState::Finished);
    assert_eq!(read(&job, "v"), [1, 2, 3]);
    let mut written = world.written.lock().unwrap().clone();
    written.sort_unstable();
    assert_eq!(written, [(1, 1), (2, 1), (3, 1)]);

    let rejects = job.read_view("s$rejects", None, PATIENCE, &[], None).unwrap();
    assert_eq!(rejects.batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1, "the end of time is too far ahead");
    let source = &job.sources()[0];
    assert_eq!((source.name.as_str(), source.connector.as_str(), source.bounded), ("s", "script", true));
    let partitions: Vec<_> =
        source.partitions.iter().map(|part| (part.worker, part.rows, part.rejected_rows, part.state)).collect();
    let finished = PartitionState::Finished;
    assert_eq!(partitions, [(0, 2, 0, finished), (1, 1, 0, finished), (0, 0, 1, finished)]);
    let sink = &job.sinks()[0];
    assert_eq!((sink.name.as_str(), sink.connector.as_str(), sink.rows), ("out", "collect", 3));
    assert_eq!(job.problems(), Vec::<String>::new());
    runtime.shutdown();
}

#[test]
fn a_source_may_give_one_row_an_epoch() {
    let world = World { scripts: vec![a_script(&[1, 2, 3, 4, 5])], ..World::default() };
    let runtime = runtime(&world, 1);
    let options = [("connector", "script"), ("epoch_rows_max", "1")];
    let job = create(&runtime, "j", job("s", "v", Some("out"), &options)).unwrap();
    assert_eq!(job.wait_over(Some(PATIENCE)), JobState::Finished);
    let mut epochs: Vec<u64> = world.epochs.lock().unwrap().clone();
    epochs.dedup();
    assert_eq!(epochs.len(), 5);
    runtime.shutdown();
}

#[test]
fn what_was_pushed_is_read_at_its_epoch() {
    let runtime = runtime(&World::default(), 2);
    let job = create(&runtime, "j", job("s", "v", None, PUSH)).unwrap();
    let mut expected = Vec::new();
    for value in 1..20 {
        let epoch = push(&job, "s", &format!("{value} {value}"));
        expected.extend([value, value]);
        let read = job.read_view("v", Some(epoch), PATIENCE, &[], None).unwrap();
        assert!(read.epoch >= epoch);
        assert_eq!(rows(&read), expected);
    }
    assert_eq!(job.wait_closed(u64::MAX, Duration::ZERO), job.handle().closed());
    runtime.shutdown();
}

#[test]
fn reads_beside_writes_see_whole_epochs_and_never_go_back() {
    let runtime = runtime(&World::default(), 3);
    let job = create(&runtime, "j", job("s", "v", None, PUSH)).unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut epoch, mut seen) = (0, 0);
                    while seen < 600 {
                        let read = job.read_view("v", None, PATIENCE, &[], None).unwrap();
                        let count = rows(&read).len();
                        assert!(read.epoch >= epoch && count >= seen && count.is_multiple_of(3), "three rows are pushed at once");
                        (epoch, seen) = (read.epoch, count);
                    }
                })
            })
            .collect();
        for value in 0..200 {
            push(&job, "s", &format!("{value} {value} {value}"));
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    runtime.shutdown();
}

#[test]
fn an_epoch_that_does_not_come_is_said_so() {
    let runtime = runtime(&World::default(), 1);
    let job = create(&runtime, "j", job("s", "v", None, PUSH)).unwrap();
    let read = |wait| job.read_view("v", Some(u64::MAX), wait, &[], None).unwrap_err();
    assert!(matches!(read(Duration::from_millis(1)), ReadError::NotYet { wanted: u64::MAX, .. }));
    runtime.drop_job("j").unwrap();
    assert!(matches!(read(PATIENCE), ReadError::Over { wanted: u64::MAX, .. }), "it does not wait for a job that is over");
    let unknown = job.read_view("w", None, PATIENCE, &[], None).unwrap_err().to_string();
    assert!(unknown.starts_with("no view 'w' in this job; its views: v, "), "{unknown}");
    runtime.shutdown();
}

#[test]
fn jobs_have_names_of_their_own() {
    let runtime = runtime(&World::default(), 1);
    create(&runtime, "one", job("s", "v", None, PUSH)).unwrap();
    assert!(matches!(create(&runtime, "one", job("a", "b", None, PUSH)), Err(CreateError::Exists(name)) if name == "one"));
    create(&runtime, "two", job("s", "v", None, PUSH)).unwrap();
    assert_eq!(runtime.jobs().len(), 2);
    runtime.drop_job("one").unwrap();
    assert_eq!(runtime.drop_job("one"), Err(NoSuchJob("one".into())));
    runtime.shutdown();
}

#[test]
fn a_job_that_is_being_changed_is_dropped_then() {
    let runtime = runtime(&World::default(), 1);
    create(&runtime, "one", job("s", "v", None, PUSH)).unwrap();
    let changing = runtime.reserve_running("one").unwrap();
    assert_eq!((runtime.changing(), runtime.returning()), (vec!["one".to_owned()], Vec::new()));
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| runtime.drop_job("one"));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!dropping.is_finished() && runtime.job("one").is_some());
        drop(changing);
        assert_eq!(dropping.join().unwrap(), Ok(()));
    });
    assert!(runtime.job("one").is_none() && runtime.changing().is_empty());
    runtime.shutdown();
}

#[test]
fn dropping_a_job_leaves_the_others_alone() {
    let world = World { scripts: vec![Script::default()], ..World::default() };
    let runtime = runtime(&world, 2);
    let stays = create(&runtime, "stays", job("s", "v", None, PUSH)).unwrap();
    let goes = create(&runtime, "goes", job("t", "w", None, SCRIPT)).unwrap();
    push(&stays, "s", "1");
    runtime.drop_job("goes").unwrap();
    assert_eq!(goes.wait_over(Some(PATIENCE)), JobState::Dropped);
    let epoch = push(&stays, "s", "2");
    assert_eq!(rows(&stays.read_view("v", Some(epoch), PATIENCE, &[], None).unwrap()), [1, 2]);
    assert_eq!(stays.state(), JobState::Running);
    runtime.drop_job("stays").unwrap();
    let refused = stays.push("s", request("3"), Receipt(Box::new(|_| ()))).unwrap_err();
    assert_eq!(refused, PushFailure::Refused(PushError::Closed));
    runtime.shutdown();
}

#[test]
fn a_partition_that_cannot_be_read_fails_the_job_and_closes_nothing() {
    let (good, bad) = (Script::default(), Script::default());
    good.say_rows(&[1]);
    bad.say(Err(SourceError::fatal("file 'x' is gone")));
    let world = World { scripts: vec![good, bad], ..World::default() };
    let runtime = runtime(&world, 1);
    let job = create(&runtime, "j", job("s", "v", None, SCRIPT)).unwrap();
    let reason = "source 's', partition '1': file 'x' is gone".to_owned();
    assert_eq!(job.wait_over(Some(PATIENCE)), JobState::Failed(reason.clone()));
    assert_eq!(job.problems(), [reason]);
    assert_eq!(job.sources()[0].partitions[1].state, PartitionState::Failed);
    runtime.shutdown();
}

#[test]
fn mistakes_in_options_are_diagnostics() {
    let runtime = runtime(&World::default(), 1);
    let mistake = |options: &[(&str, &str)]| match create(&runtime, "j", job("s", "v", None, options)) {
        Err(CreateError::Diagnostics(mistakes)) => mistakes[0].to_string(),
        _ => panic!("{options:?} are wrong"),
    };
    assert_eq!(mistake(&[("connector", "kafak")]), "unknown connector 'kafak'; connectors: script, push");
    assert_eq!(
        mistake(&[("connector", "push"), ("max_ahed", "1 h")]),
        "unknown option 'max_ahed' for connector 'script'; valid options of connector 'script': connector, \
         idle_timeout, max_ahead, readable, epoch_rows_max"
    );
    assert!(
        mistake(&[("connector", "push"), ("max_ahead", "soon")]).starts_with("option 'max_ahead' of source 's' cannot be 'soon'")
    );
    let mut nothing = job("s", "v", None, PUSH);
    nothing.views.clear();
    assert!(matches!(create(&runtime, "j", nothing), Err(CreateError::NoViewsOrSinks)));
    assert!(runtime.jobs().is_empty());
    runtime.shutdown();
}

#[test]
fn only_pushable_sources_take_rows() {
    let runtime = runtime(&World { scripts: vec![Script::default()], ..World::default() }, 1);
    let job = create(&runtime, "j", job("s", "v", None, SCRIPT)).unwrap();
    let push = |source| job.push(source, request("1"), Receipt(Box::new(|_| ()))).unwrap_err();
    assert_eq!(push("t"), PushFailure::UnknownSource("t".into()));
    assert_eq!(push("s"), PushFailure::NotPushable { source_name: "s".into(), connector: "script".into() });
    runtime.shutdown();
}
