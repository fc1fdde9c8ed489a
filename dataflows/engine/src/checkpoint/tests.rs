//! Who gives what when, and what a checkpoint has of it.

use std::sync::Arc;

use super::*;

/// What was asked for, when it has come.
type Asked = Arc<Mutex<Option<Result<Checkpoint, String>>>>;

fn ask(checkpoints: &Checkpoints) -> Asked {
    let asked: Asked = Arc::default();
    let gives = Arc::clone(&asked);
    checkpoints.ask(Box::new(move |checkpoint| *gives.lock().unwrap() = Some(checkpoint)));
    asked
}

fn taken(asked: &Asked) -> Option<Checkpoint> {
    asked.lock().unwrap().take().map(|taken| taken.expect("a checkpoint"))
}

fn positions(read: &str) -> Positions {
    Positions::from([((0, "0".to_owned()), read.to_owned())])
}

fn clock(watermark: i64) -> Clock {
    Clock { watermarks: vec![watermark], idle_since: vec![None] }
}

fn state(worker: usize) -> OperatorState {
    OperatorState { operator: OperatorId { node: 0, name: "join".into() }, worker, tables: Vec::new() }
}

#[test]
fn a_checkpoint_has_nothing_of_the_end_that_comes_while_it_is_taken() {
    let checkpoints = Checkpoints::new(true, 1, None);
    let (slow, _) = checkpoints.register(0, state(0).operator, KeptFrom::Inputs, &"");
    let clocks = checkpoints.register_clock(0);
    let asked = ask(&checkpoints);
    checkpoints.opens(5);
    checkpoints.give_positions(0, positions("three rows"));
    checkpoints.give_clock(0, clocks, clock(3), false);
    // The job ends, and an operator is not through with epoch 5.
    checkpoints.give_last_positions(0, 6, positions("all rows"));
    checkpoints.give_clock(0, clocks, clock(i64::MAX), true);
    assert!(taken(&asked).is_none());
    checkpoints.give(slow, state(0));
    let checkpoint = taken(&asked).expect("all have given");
    assert_eq!((checkpoint.epoch, checkpoint.positions, checkpoint.clock), (5, positions("three rows"), clock(3)));
    let last = ask(&checkpoints);
    assert!(taken(&last).is_none(), "the operator has not come to the end");
    checkpoints.give_last(slow, state(0));
    let checkpoint = taken(&last).expect("all have ended");
    assert_eq!((checkpoint.epoch, checkpoint.states.len()), (6, 1));
    assert_eq!((checkpoint.positions, checkpoint.clock), (positions("all rows"), clock(i64::MAX)));
    let again = taken(&ask(&checkpoints)).expect("nothing is waited for");
    assert_eq!((again.epoch, again.states.len(), again.positions), (6, 0, positions("all rows")));
}

#[test]
fn a_worker_that_ends_without_a_word_of_the_epoch_is_not_waited_for() {
    let checkpoints = Checkpoints::new(true, 2, None);
    let slots = [0, 1].map(|worker| checkpoints.register(worker, state(worker).operator, KeptFrom::Inputs, &"").0);
    let asked = ask(&checkpoints);
    checkpoints.opens(5);
    checkpoints.give_positions(0, positions("three rows"));
    // This worker was at its end when the epoch was opened.
    let other = Positions::from([((0, "1".to_owned()), "no row".to_owned())]);
    checkpoints.give_last_positions(1, 6, other.clone());
    slots.iter().enumerate().for_each(|(worker, slot)| checkpoints.give(*slot, state(worker)));
    let checkpoint = taken(&asked).expect("all have given");
    let mut read = positions("three rows");
    read.extend(other);
    assert_eq!((checkpoint.epoch, checkpoint.positions), (5, read));
}

#[test]
fn a_job_that_finishes_without_the_epoch_that_was_asked_for_gives_its_last() {
    let checkpoints = Checkpoints::new(true, 1, None);
    let (slot, _) = checkpoints.register(0, state(0).operator, KeptFrom::Inputs, &"");
    let asked = ask(&checkpoints);
    checkpoints.give_last_positions(0, 9, positions("all rows"));
    assert!(taken(&asked).is_none());
    checkpoints.give_last(slot, state(0));
    assert_eq!(taken(&asked).map(|checkpoint| checkpoint.epoch), Some(9));
}
