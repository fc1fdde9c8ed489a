//! Seeds that found something once: what it was, and that it does not come back.
//!
//! A seed means something else as soon as a world draws one number more or less. So a test that is nearer to the mistake is named
//! where there is one, and whoever changes what is drawn looks for new seeds here: take the repair back, run `many_seeds`.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]

use highwater_sim::run;

/// The thread that saves a job went round and round without waiting once the job had failed and nothing was new to be saved, for up
/// to ten seconds of a whole core.
#[test]
fn the_saving_of_a_job_that_has_failed_comes_to_its_end() {
    for seed in [269, 344, 436] {
        assert_eq!(run(seed, false).failure, None, "seed {seed}");
    }
}

/// A process that had waited for its brokers since before it was replaced took the sinks over when these were back: that stopped its
/// successor, and then its own checkpoints were refused. Nearer: `a_writer_can_look_whether_the_job_is_still_its_own` in
/// `dataflows/store/tests/store/writers.rs`.
#[test]
fn a_process_that_was_replaced_takes_no_sink_from_its_successor() {
    for seed in [251, 258] {
        assert_eq!(run(seed, false).failure, None, "seed {seed}");
    }
}

/// The same, had it looked just before its successor claimed the job, and come to the sink just after it: the successor stopped, and
/// somebody had to start it again. Nearer: the tests of `dataflows/runtime/src/publishing.rs`.
#[test]
fn a_successor_takes_its_sink_back() {
    for seed in [1869, 9518] {
        assert_eq!(run(seed, false).failure, None, "seed {seed}");
    }
}

/// Of a batch that was cut at the end of an epoch, rejects were told of with the first piece, and again by whoever read the rest after
/// a restart. Nearer: `a_batch_whose_rest_is_read_again_tells_of_each_reject_once` in `dataflows/runtime/src/batch.rs`.
#[test]
fn rejects_of_a_batch_that_was_cut_are_told_of_once() {
    for seed in [46, 142, 392] {
        assert_eq!(run(seed, false).failure, None, "seed {seed}");
    }
}
