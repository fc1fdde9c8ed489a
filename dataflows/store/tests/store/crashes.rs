//! Every operation of a job's life fails once, in every way; afterwards nothing is lost that was acknowledged, nothing is there that
//! was not committed, and nothing is left behind.

use std::collections::BTreeSet;

use highwater_store::testing::{Disk, FAULTS, Fault};
use highwater_store::{Folder, Span};

use super::*;

/// How many checkpoints the story has.
const EPOCHS: u64 = 14;

/// The changes of an epoch: some rows come, some go, in two keys.
fn changes(epoch: u64) -> Vec<Section> {
    let new = format!("row {epoch}");
    let gone = format!("row {}", epoch.saturating_sub(3));
    let first = if epoch > 3 { vec![(new.as_str(), 1), (gone.as_str(), -1)] } else { vec![(new.as_str(), 1)] };
    vec![section("a", first), section("b", [("count", 1)])]
}

/// The state as of each epoch.
fn model() -> Vec<State> {
    let mut states = vec![State::new()];
    for epoch in 1..=EPOCHS {
        let mut state = states.last().unwrap().clone();
        changes(epoch).iter().for_each(|section| add(&mut state, section));
        states.push(state);
    }
    states
}

/// All of a state, as sections.
fn whole(state: &State) -> Vec<Section> {
    state.iter().map(|(key, rows)| section(key, rows.iter().map(|(row, diff)| (row.as_str(), *diff)))).collect()
}

pub(crate) fn folder() -> Box<Folder<'static>> {
    Box::new(|fold, sections| {
        let mut state = State::new();
        sections.iter().for_each(|section| add(&mut state, section));
        Ok(whole(&state).pop().filter(|section| section.key == fold.key).into_iter().collect())
    })
}

/// Goes on with the story after the newest checkpoint, until something fails. Says up to where it was acknowledged.
fn live(disk: &Disk, pid: u32, model: &[State], acknowledged: &mut u64) -> Result<()> {
    let job = disk.store()?.job("orders")?;
    let writer = job.claim(options(pid))?;
    let reached = writer.manifest().epoch;
    assert!(reached >= *acknowledged, "checkpoint {acknowledged} was acknowledged, and {reached} is the newest");
    assert_eq!(newest(&job)?, (reached, model[reached as usize].clone()));
    for epoch in reached + 1..=EPOCHS {
        match epoch {
            5 | 12 => drop(writer.compact(Span::All, &*folder())?),
            8 => drop(writer.compact(Span::After(1), &*folder())?),
            _ => {}
        }
        let checkpoint = match epoch {
            9 => Checkpoint { keep: Keep::None, ..increment(epoch, whole(&model[epoch as usize])) },
            _ => increment(epoch, changes(epoch)),
        };
        // What certainly was not written may be tried again, by the same writer.
        let mut outcome = writer.commit(checkpoint.clone());
        if matches!(outcome, Err(StoreError::Io { .. })) && disk.is_alive() {
            outcome = writer.commit(checkpoint);
        }
        outcome?;
        *acknowledged = epoch;
        match epoch {
            4 => match writer.savepoint("four") {
                // An attempt whose answer was lost, before the power was.
                Ok(_) | Err(StoreError::Taken { .. }) => {}
                Err(error) => return Err(error),
            },
            11 if job.at("four").is_ok() => job.delete_savepoint("four")?,
            _ => {}
        }
    }
    Ok(())
}

/// Everything on the disk is named by something, and everything named is there.
fn nothing_is_left_behind(disk: &Disk, context: &str) {
    let job = disk.store().unwrap().job("orders").unwrap();
    drop(job.claim(options(99)).unwrap());
    let mut named = BTreeSet::new();
    for info in job.list().unwrap() {
        assert_eq!(info.problem, None, "{context}");
        let manifest = job.at(&info.name).unwrap();
        job.verify(&manifest).unwrap();
        named.extend(manifest.files.into_iter().map(|file| format!("jobs/orders/{}", file.path)));
    }
    named.extend(job.latest().unwrap().unwrap().files.into_iter().map(|file| format!("jobs/orders/{}", file.path)));
    let there: BTreeSet<String> = disk.files().into_iter().filter(|path| path.contains("/data/")).collect();
    assert_eq!(there, named, "{context}");
}

#[test]
fn every_operation_may_fail_in_every_way() {
    let model = model();
    let disk = Disk::new();
    live(&disk, 1, &model, &mut 0).unwrap();
    let operations = disk.operations();
    assert!(operations > 60, "the story is shorter than it should be: {:?}", disk.log());
    let mut failures = 0;
    for fault in FAULTS {
        for operation in 0..operations {
            let disk = Disk::new();
            disk.fail(operation, fault);
            let (mut acknowledged, mut pid) = (0, 1);
            let context = || format!("{fault:?} at operation {operation}: {:#?}", disk.log());
            while let Err(error) = live(&disk, pid, &model, &mut acknowledged) {
                let expected = matches!(error, StoreError::Io { .. } | StoreError::Uncertain { .. });
                assert!(expected, "{error}\n{}", context());
                assert!(pid < 5, "it does not come back: {error}\n{}", context());
                failures += 1;
                disk.revive();
                pid += 1;
            }
            // The power may have failed after the last checkpoint.
            disk.revive();
            let job = disk.store().unwrap().job("orders").unwrap();
            assert_eq!(newest(&job).unwrap(), (EPOCHS, model[EPOCHS as usize].clone()), "{}", context());
            nothing_is_left_behind(&disk, &context());
        }
    }
    assert!(failures as u64 > operations * 2, "only {failures} of the faults were noticed");
}

#[test]
fn parts_of_a_large_file_may_fail_in_every_way() {
    let mut seed = 1u64;
    let numbers = (0..10 << 17).map(|_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed as i64
    });
    let numbers: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let large = || increment(2, vec![Section::new("large", batch.schema(), vec![batch.clone()])]);
    let story = |disk: &Disk| -> Result<u64> {
        let job = disk.store()?.job("orders")?;
        let writer = job.claim(options(1))?;
        writer.commit(increment(1, vec![section("k", [("a", 1)])]))?;
        let before = disk.operations();
        writer.commit(large())?;
        Ok(before)
    };
    let disk = Disk::new();
    let before = story(&disk).unwrap();
    assert!(disk.operations() - before >= 6, "{:?}", disk.log());
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::PowerAfter] {
        // The manifest comes after the parts, and is the other test's.
        for operation in before..before + 4 {
            let disk = Disk::new();
            disk.fail(operation, fault);
            let error = story(&disk).unwrap_err();
            assert!(matches!(error, StoreError::Io { .. }), "{fault:?} at {operation}: {error}");
            disk.revive();
            let job = disk.store().unwrap().job("orders").unwrap();
            assert_eq!(newest(&job).unwrap().0, 1);
            let writer = job.claim(options(2)).unwrap();
            writer.commit(large()).unwrap();
            nothing_is_left_behind(&disk, "large");
        }
    }
}

#[test]
fn a_writer_in_doubt_writes_no_more() {
    // A request that seems to have failed arrives later, when the writer has gone on: nobody can tell what it held.
    let disk = Disk::new();
    let job = disk.store().unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    writer.commit(increment(1, vec![section("k", [("a", 1)])])).unwrap();
    let arrives_late = disk.clone();
    arrives_late.fail(disk.operations() + 1, Fault::Refused);
    assert!(matches!(writer.commit(increment(2, vec![section("k", [("b", 1)])])), Err(StoreError::Io { .. })));
    let other = Disk::new();
    for path in disk.files() {
        other.set(&path, disk.read(&path));
    }
    // The same writer, on a copy of the disk, writes what the lost request held.
    let late = Manifest { sequence: 3, epoch: 2, kind: highwater_store::Kind::Checkpoint, ..writer.manifest() };
    disk.set("jobs/orders/manifests/00000000000000000003.manifest", Some(disk.encode(&late)));
    let error = writer.commit(increment(2, vec![section("k", [("c", 1)])])).unwrap_err();
    assert!(matches!(error, StoreError::Uncertain { .. }), "{error}");
    assert!(error.to_string().contains("claim the job again"), "{error}");
    for _ in 0..2 {
        assert!(matches!(writer.commit(increment(3, vec![])), Err(StoreError::Uncertain { .. })));
        assert!(matches!(writer.savepoint("s"), Err(StoreError::Uncertain { .. })));
    }
    assert_eq!(job.claim(options(2)).unwrap().manifest().epoch, 2);
}
