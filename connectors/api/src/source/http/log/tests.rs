//! What the log does when the disk does not do what it should.

use super::*;
use crate::source::{PushFormat, PushSummary};

fn body(text: &str) -> Unsealed {
    let content = Content::Pushed(PushFormat::Json);
    let entry = Entry { number: 0, at: 5, content, key: None, summary: PushSummary::default(), body: text.into() };
    Unsealed::new(&entry).expect("a short body")
}

fn bodies(log: &Log) -> Vec<(u64, Vec<u8>)> {
    let mut replay = log.replay(0);
    let mut bodies = Vec::new();
    while let Some(entry) = replay.next().expect("a whole log") {
        bodies.push((entry.number, entry.body));
    }
    bodies
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_whole_groups_and_takes_more_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = Log::open(directory.path(), Duration::ZERO).expect("an empty log");
    std::os::unix::fs::symlink("/dev/full", directory.path().join("00000000000000000001.bodies")).expect("a link");
    let error = log.append(1, &[body("a"), body("b")]).expect_err("there is no room");
    assert!(matches!(&error, LogError::Full { .. }) && error.to_string().contains("has no room"), "{error}");
    assert_eq!(log.size(), Backlog::default());
    log.append(1, &[body("c")]).expect("there is room again");
    assert_eq!(bodies(&log), [(1, b"c".to_vec())]);
    drop(log);
    let (log, found) = Log::open(directory.path(), Duration::ZERO).expect("a log");
    assert_eq!((found.bodies, bodies(&log).len()), (Some((1, 1)), 1));
}

/// A write that fails and cannot be taken back: what is on the disk is not known.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_does_not_know_what_it_holds_takes_nothing_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = Log::open(directory.path(), Duration::ZERO).expect("an empty log");
    log.append(1, &[body("a")]).expect("taken");
    log.open = Some(OpenOptions::new().write(true).open("/dev/full").expect("a device"));
    log.append(2, &[body("b")]).expect_err("there is no room");
    let error = log.append(2, &[body("b")]).expect_err("nobody knows").to_string();
    assert!(error.contains("accepts no more since an earlier error"), "{error}");
    let (log, _) = Log::open(directory.path(), Duration::ZERO).expect("a log");
    assert_eq!(bodies(&log), [(1, b"a".to_vec())]);
}

#[test]
fn a_process_that_writes_is_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(directory.path(), Duration::ZERO).expect("an empty log");
    log.owner.lock().expect("a lock");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| Log::open(directory.path(), Duration::ZERO).map(|(log, _)| log.generation));
        std::thread::sleep(Duration::from_millis(20));
        log.owner.unlock().expect("a lock");
        assert_eq!(next.join().expect("no panic").expect("it is free"), 2);
    });
}

#[test]
fn a_saved_file_that_is_deleted_by_hand_does_not_keep_the_others() {
    let directory = tempfile::tempdir().expect("a directory");
    for number in [1, 2] {
        let (mut log, _) = Log::open(directory.path(), Duration::ZERO).expect("a log");
        log.append(number, &[body("a")]).expect("taken");
    }
    let (mut log, _) = Log::open(directory.path(), Duration::from_millis(50)).expect("a log");
    log.release(2, |_| Vec::new()).expect("released");
    let saved = || list(directory.path(), "saved").expect("a directory");
    assert_eq!(saved().len(), 2);
    fs::remove_file(&saved()[0]).expect("a file");
    std::thread::sleep(Duration::from_millis(60));
    log.release(2, |_| Vec::new()).expect("released");
    assert_eq!((saved().len(), log.saved.len()), (0, 0));
}
