//! Only one writes: whoever claimed last. The others are told by whom.

use highwater_store::Store;

use super::*;

fn fenced(result: Result<impl std::fmt::Debug>) -> String {
    match result {
        Err(error @ StoreError::Fenced { .. }) => error.to_string(),
        other => panic!("not fenced: {other:?}"),
    }
}

#[test]
fn an_older_writer_is_told_who_took_over() {
    let (job, first) = fresh("orders");
    first.commit(increment(1, vec![section("k", [("a", 1)])])).unwrap();
    let second = job.claim(options(2)).unwrap();
    let text = fenced(first.commit(increment(2, vec![section("k", [("wrong", 1)])])));
    assert_eq!(
        text,
        "process 2 on testhost (claim 3, since 1970-01-01T00:00:01Z) has taken job orders over: this process may not write its \
         checkpoints any more, and should stop"
    );
    fenced(first.commit(increment(3, vec![])));
    second.commit(increment(2, vec![section("k", [("b", 1)])])).unwrap();
    let (epoch, state) = newest(&job).unwrap();
    assert_eq!((epoch, state["k"].keys().cloned().collect::<Vec<_>>()), (2, vec!["a".to_string(), "b".to_string()]));
    // What the fenced one wrote in vain is not left behind: two checkpoints, two files.
    assert_eq!(job.latest().unwrap().unwrap().files.len(), 2);
}

#[test]
fn a_writer_can_look_whether_the_job_is_still_its_own() {
    let (job, first) = fresh("orders");
    first.check_owner().unwrap();
    first.commit(increment(1, vec![section("k", [("a", 1)])])).unwrap();
    first.check_owner().unwrap();
    let second = job.claim(options(2)).unwrap();
    let text = fenced(first.check_owner());
    assert!(text.starts_with("process 2 on testhost"), "{text}");
    second.check_owner().unwrap();
}

#[test]
fn a_writer_that_slept_while_its_number_was_used_and_deleted_is_fenced() {
    let (job, sleeper) = fresh("orders");
    sleeper.commit(increment(1, vec![section("k", [("a", 1)])])).unwrap();
    let next = sleeper.manifest().sequence + 1;
    let writer = job.claim(options(2)).unwrap();
    assert_eq!(writer.manifest().sequence, next);
    for epoch in 2..=10 {
        writer.commit(increment(epoch, vec![section("k", [("a", 1)])])).unwrap();
    }
    assert!(job.at(&next.to_string()).is_err(), "the sleeper's next number is free again");
    fenced(sleeper.commit(increment(2, vec![section("k", [("wrong", 100)])])));
    assert!(job.at(&next.to_string()).is_err(), "and what it wrote there is gone");
    let (epoch, state) = newest(&job).unwrap();
    assert_eq!((epoch, state["k"]["a"]), (10, 10));
}

#[test]
fn of_many_that_claim_at_once_one_writes() {
    let (job, writer) = fresh("orders");
    writer.commit(increment(1, vec![section("k", [("start", 1)])])).unwrap();
    for round in 0..20 {
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|pid| {
                    let job = &job;
                    scope.spawn(move || {
                        let writer = job.claim(options(pid))?;
                        let row = format!("{round}/{pid}");
                        writer.commit(increment(2, vec![section("k", [(row.as_str(), 1)])])).map(|_| row)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let state = newest(&job).unwrap().1;
        // Claims follow one another, so several may write in turn; what was acknowledged is there, and nothing else.
        for pid in 0..4 {
            let row = format!("{round}/{pid}");
            let written = outcomes.iter().any(|outcome| outcome.as_ref().is_ok_and(|written| *written == row));
            assert_eq!(state["k"].contains_key(&row), written, "{row}: {outcomes:?}");
        }
        for outcome in outcomes {
            assert!(matches!(outcome, Ok(_) | Err(StoreError::Fenced { .. })), "{outcome:?}");
        }
    }
}

#[test]
fn claiming_keeps_the_content_and_numbers_go_on() {
    let store = Store::create("memory://").unwrap();
    let job = store.job("orders").unwrap();
    assert_eq!(job.latest().unwrap(), None);
    let writer = job.claim(options(1)).unwrap();
    assert_eq!((job.latest().unwrap(), job.list().unwrap().len()), (None, 0), "a claim is no checkpoint");
    assert!(!writer.manifest().has_state());
    let committed = writer.commit(increment(5, vec![section("k", [("a", 1)])])).unwrap();
    let mut sequence = committed.sequence;
    for pid in 2..8 {
        let writer = job.claim(options(pid)).unwrap();
        let latest = job.latest().unwrap().unwrap();
        assert_eq!((latest.epoch, &latest.meta, &latest.files), (5, &committed.meta, &committed.files));
        assert_eq!(latest, writer.manifest());
        assert!(latest.sequence > sequence);
        sequence = latest.sequence;
    }
    let listed: Vec<String> = job.list().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(listed, [committed.sequence.to_string()], "old claims do not pile up");
    assert_eq!(store.jobs().unwrap(), ["orders"]);
}

#[test]
fn going_on_from_an_older_checkpoint_is_asked_for_by_name() {
    let (job, writer) = fresh("orders");
    let mut names = Vec::new();
    for epoch in 1..=3 {
        let row = format!("row {epoch}");
        names.push(writer.commit(increment(epoch, vec![section("k", [(row.as_str(), 1)])])).unwrap().sequence.to_string());
    }
    let back = job.claim_at(&names[1], options(2)).unwrap();
    assert_eq!((back.manifest().epoch, state_of(&job, &back.manifest()).unwrap()["k"].len()), (2, 2));
    fenced(writer.commit(increment(4, vec![])));
    // Nothing is lost by it: the newest before is still there.
    assert_eq!(state_of(&job, &job.at(&names[2]).unwrap()).unwrap()["k"].len(), 3);
    back.commit(increment(3, vec![section("k", [("another row 3", 1)])])).unwrap();
    assert!(newest(&job).unwrap().1["k"].contains_key("another row 3"));
    let error = job.claim_at("99", options(3)).unwrap_err().to_string();
    assert!(error.starts_with("job orders has no checkpoint 99; there is "), "{error}");
    let error = job.claim_at("nightly", options(3)).unwrap_err().to_string();
    assert!(error.starts_with("job orders has no savepoint `nightly`; there is "), "{error}");
}

#[test]
fn a_job_goes_on_under_another_name_and_in_another_store() {
    let directory = tempfile::tempdir().unwrap();
    let here = Store::create(directory.path().to_str().unwrap()).unwrap();
    let there = Store::create("memory://").unwrap();
    let old = here.job("old").unwrap();
    let writer = old.claim(options(1)).unwrap();
    for epoch in 1..=3 {
        writer.commit(increment(epoch, vec![section("k", [("a", 1)])])).unwrap();
    }
    let savepoint = writer.savepoint("before the move").unwrap();
    for (store, name) in [(&here, "new"), (&there, "new"), (&here, "third")] {
        let new = store.job(name).unwrap();
        let taken = new.claim(options(2)).unwrap();
        let adopted = taken.adopt(&old, &savepoint).unwrap();
        assert_eq!((adopted.epoch, &adopted.meta, adopted.files.len()), (3, &savepoint.meta, 3));
        taken.commit(increment(4, vec![section("k", [("a", 1)])])).unwrap();
        assert_eq!(newest(&new).unwrap().1["k"]["a"], 4);
    }
    // The old job forgets it all; the new ones do not mind.
    for epoch in 4..=8 {
        writer.commit(Checkpoint { keep: Keep::None, ..increment(epoch, vec![section("k", [("b", 1)])]) }).unwrap();
    }
    old.delete_savepoint("before the move").unwrap();
    let new = here.job("new").unwrap();
    assert_eq!(newest(&new).unwrap().1["k"]["a"], 4);
    new.verify(&new.latest().unwrap().unwrap()).unwrap();
    assert_eq!(here.jobs().unwrap(), ["new", "old", "third"]);
    assert!(here.job("third").unwrap().claim(options(3)).unwrap().adopt(&old, &savepoint).unwrap_err().is_damage());
}
