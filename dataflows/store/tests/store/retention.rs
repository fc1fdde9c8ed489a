//! What is kept and what is deleted.

use highwater_store::Kind;
use highwater_store::testing::Disk;

use super::*;

/// Paths of data files on a disk.
fn data(disk: &Disk) -> Vec<String> {
    disk.files().into_iter().filter(|path| path.contains("/data/")).collect()
}

fn manifests(disk: &Disk) -> usize {
    disk.files().iter().filter(|path| path.contains("/manifests/")).count()
}

fn base(epoch: u64, row: &str) -> Checkpoint {
    Checkpoint { keep: Keep::None, ..increment(epoch, vec![section("k", [(row, 1)])]) }
}

#[test]
fn the_newest_are_kept_and_what_they_name() {
    let disk = Disk::new();
    let job = disk.store().unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    for epoch in 1..=10 {
        writer.commit(base(epoch, "x")).unwrap();
    }
    assert_eq!((manifests(&disk), data(&disk).len()), (3, 3), "{:?}", disk.files());
    let epochs: Vec<_> = job.list().unwrap().into_iter().map(|info| (info.epoch, info.problem)).collect();
    assert_eq!(epochs, [(Some(10), None), (Some(9), None), (Some(8), None)]);
    // Increments need all that came before.
    for epoch in 11..=20 {
        writer.commit(increment(epoch, vec![section("k", [("x", 1)])])).unwrap();
    }
    assert_eq!((manifests(&disk), data(&disk).len()), (3, 11));
    writer.commit(base(21, "x")).unwrap();
    writer.commit(base(22, "x")).unwrap();
    assert_eq!(data(&disk).len(), 13, "the oldest of three still needs ten increments");
    writer.commit(base(23, "x")).unwrap();
    assert_eq!(data(&disk).len(), 3);
}

#[test]
fn a_savepoint_is_kept_until_it_is_deleted() {
    let disk = Disk::new();
    let job = disk.store().unwrap().job("orders").unwrap();
    assert!(job.savepoint("early").unwrap_err().to_string().contains("no checkpoint yet"));
    let writer = job.claim(options(1)).unwrap();
    assert!(writer.savepoint("early").unwrap_err().to_string().contains("no checkpoint yet"));
    writer.commit(base(1, "one")).unwrap();
    writer.savepoint("Nightly 1").unwrap();
    for epoch in 2..=9 {
        writer.commit(base(epoch, "later")).unwrap();
    }
    job.savepoint("second").unwrap();
    assert_eq!(data(&disk).len(), 4, "{:?}", disk.files());
    let saved = job.at("Nightly 1").unwrap();
    assert_eq!(state_of(&job, &saved).unwrap()["k"].keys().collect::<Vec<_>>(), ["one"]);
    assert_eq!(saved.kind, Kind::Savepoint { name: "Nightly 1".into() });
    let names: Vec<String> = job.list().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names.len(), 5);
    assert_eq!(names[4], "Nightly 1");

    assert!(matches!(writer.savepoint("second"), Err(StoreError::Taken { .. })));
    assert!(matches!(job.savepoint("second"), Err(StoreError::Taken { .. })));
    assert!(job.savepoint("12").unwrap_err().to_string().contains("numbers are the names of checkpoints"));
    assert!(job.savepoint("").unwrap_err().to_string().contains("must have a name"));

    // A new writer sweeps orphans and leaves savepoints alone.
    drop(writer);
    let writer = job.claim(options(2)).unwrap();
    assert_eq!(data(&disk).len(), 4);
    job.delete_savepoint("Nightly 1").unwrap();
    assert_eq!(data(&disk).len(), 3, "only the savepoint named it");
    job.delete_savepoint("second").unwrap();
    assert_eq!(data(&disk).len(), 3, "a checkpoint names it too");
    let error = job.delete_savepoint("second").unwrap_err().to_string();
    assert_eq!(error, "job orders has no savepoint `second`; there is none");
    writer.commit(base(10, "x")).unwrap();
    // The name can be given again.
    assert_eq!(job.savepoint("second").unwrap().epoch, 10);
}

#[test]
fn going_on_from_a_savepoint_that_is_deleted_then_keeps_its_files() {
    let disk = Disk::new();
    let job = disk.store().unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    writer.commit(base(1, "one")).unwrap();
    writer.savepoint("s").unwrap();
    for epoch in 2..=9 {
        writer.commit(base(epoch, "later")).unwrap();
    }
    let writer = job.claim_at("s", options(2)).unwrap();
    job.delete_savepoint("s").unwrap();
    writer.commit(increment(2, vec![section("k", [("two", 1)])])).unwrap();
    assert_eq!(newest(&job).unwrap().1["k"].keys().collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn savepoints_can_be_made_and_deleted_while_a_writer_commits() {
    let directory = tempfile::tempdir().unwrap();
    let job = highwater_store::Store::create(directory.path().to_str().unwrap()).unwrap().job("busy").unwrap();
    let writer = job.claim(Options { retain: 1, ..options(1) }).unwrap();
    writer.commit(base(1, "row")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (2..150).for_each(|epoch| drop(writer.commit(base(epoch, "row")).unwrap())));
        for thread in 0..2 {
            let job = &job;
            scope.spawn(move || {
                for round in 0..40 {
                    let name = format!("s{thread}-{round}");
                    match job.savepoint(&name) {
                        Ok(_) => {}
                        // Sixteen commits in a row were faster, with `retain` 1.
                        Err(StoreError::Refused { .. }) => continue,
                        Err(error) => panic!("{error}"),
                    }
                    let saved = job.at(&name).unwrap();
                    assert_eq!(state_of(job, &saved).unwrap()["k"].len(), 1, "a savepoint is whole when it has been made");
                    if round % 2 == 0 {
                        job.delete_savepoint(&name).unwrap();
                    }
                }
            });
        }
    });
    assert!(job.list().unwrap().iter().all(|info| info.problem.is_none()));
    // Nothing is left behind that nothing names, once the job was claimed again.
    for info in job.list().unwrap() {
        if let Some(Kind::Savepoint { name }) = info.kind {
            job.delete_savepoint(&name).unwrap();
        }
    }
    job.claim(Options { retain: 1, ..options(2) }).unwrap();
    let files = std::fs::read_dir(directory.path().join("jobs/busy/data")).unwrap().count();
    assert_eq!(files, 1);
}

#[test]
fn what_a_crash_left_behind_is_swept_when_the_job_is_claimed() {
    let directory = tempfile::tempdir().unwrap();
    let job = highwater_store::Store::create(directory.path().to_str().unwrap()).unwrap().job("swept").unwrap();
    let writer = job.claim(options(1)).unwrap();
    writer.commit(base(1, "row")).unwrap();
    let folder = directory.path().join("jobs/swept");
    let orphan = folder.join("data/00000000000000000001-00000099.state");
    let torn = folder.join("data/00000000000000000001-00000100.state#1");
    let torn_manifest = folder.join("manifests/00000000000000000003.manifest#1");
    let foreign = folder.join("data/README");
    for file in [&orphan, &torn, &torn_manifest, &foreign] {
        std::fs::write(file, "x").unwrap();
    }
    job.claim(options(2)).unwrap();
    assert!(!orphan.exists() && !torn.exists() && !torn_manifest.exists());
    assert!(foreign.exists(), "what is not ours is not touched");
    assert_eq!(newest(&job).unwrap().0, 1);
}

#[test]
fn nothing_is_deleted_while_a_savepoint_cannot_be_read() {
    let disk = Disk::new();
    let job = disk.store().unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    writer.commit(base(1, "one")).unwrap();
    writer.savepoint("s").unwrap();
    let path = disk.files().into_iter().find(|path| path.contains("savepoints")).unwrap();
    let whole = disk.read(&path).unwrap();
    disk.set(&path, Some(b"garbage".to_vec()));
    for epoch in 2..=9 {
        writer.commit(base(epoch, "later")).unwrap();
    }
    let writer = job.claim(options(2)).unwrap();
    assert_eq!(data(&disk).len(), 9);
    // Mended, the savepoint is whole; deleted, all goes that nothing names.
    disk.set(&path, Some(whole));
    assert_eq!(job.at("s").unwrap().epoch, 1);
    disk.set(&path, Some(b"garbage".to_vec()));
    job.delete_savepoint("s").unwrap();
    writer.commit(base(10, "later")).unwrap();
    job.claim(options(3)).unwrap();
    assert_eq!(data(&disk).len(), 3);
}
