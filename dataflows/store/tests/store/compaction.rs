//! Folding: the state is the same before and after, while others commit, and whatever chain of increments it was.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;

use highwater_store::testing::Disk;
use highwater_store::{Fold, Policy, Span};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::crashes::folder;
use super::*;

#[test]
fn many_files_become_one_with_the_next_commit() {
    let disk = Disk::new();
    let job = disk.store().unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    for epoch in 1..=6 {
        let sections =
            vec![section("k", [("a", 1), ("b", if epoch == 1 { 5 } else { -1 })]), section(&format!("{epoch}"), [("x", 1)])];
        writer.commit(increment(epoch, sections)).unwrap();
    }
    let before = newest(&job).unwrap();
    let compacted = writer.compact(Span::All, &*folder()).unwrap().unwrap();
    assert_eq!(compacted.files, 6);
    assert_eq!(writer.compact(Span::All, &*folder()).unwrap(), None, "not twice before it was committed");
    assert_eq!(writer.due(&Policy { files: 2, growth: 0.0 }), None);
    assert_eq!(
        (newest(&job).unwrap(), job.latest().unwrap().unwrap().files.len()),
        (before.clone(), 6),
        "nothing has changed yet"
    );
    let manifest = writer.commit(increment(7, vec![])).unwrap();
    assert_eq!(manifest.files, [compacted.file.unwrap()]);
    assert!(manifest.files[0].base && manifest.files[0].epoch == 6 && manifest.files[0].rows == 7, "{manifest:?}");
    assert_eq!(state_of(&job, &manifest).unwrap(), before.1);
    assert_eq!(keys(&job, &manifest), ["1", "2", "3", "4", "5", "6", "k"]);
    // The old files go with the checkpoints that name them.
    writer.commit(increment(8, vec![])).unwrap();
    writer.commit(increment(9, vec![])).unwrap();
    assert_eq!(disk.files().iter().filter(|path| path.contains("/data/")).count(), 1);
}

#[test]
fn sections_of_a_key_come_oldest_first_and_may_vanish() {
    let (job, writer) = fresh("orders");
    for epoch in 1..=4 {
        let (one, two) = (format!("{epoch}.1"), format!("{epoch}.2"));
        let sections = vec![section("k", [(one.as_str(), 1)]), section("gone", [("x", 1)]), section("k", [(two.as_str(), 1)])];
        let sections = sections.into_iter().map(|section| section.with_meta(serde_json::json!(epoch))).collect();
        writer.commit(increment(epoch, sections)).unwrap();
    }
    let seen = std::cell::RefCell::new(Vec::new());
    let fold = |fold: Fold<'_>, sections: Vec<Section>| {
        let rows = |section: &Section| {
            let column = section.batches[0].column(0).clone();
            column.as_any().downcast_ref::<StringArray>().unwrap().value(0).to_string()
        };
        seen.borrow_mut().push((fold.key.to_string(), fold.complete, sections.iter().map(rows).collect::<Vec<_>>()));
        Ok(sections.into_iter().last().filter(|_| fold.key == "k").into_iter().collect())
    };
    writer.compact(Span::After(1), &fold).unwrap().unwrap();
    let manifest = writer.commit(increment(5, vec![])).unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let expected = [
        ("gone".to_string(), false, texts(&["x", "x", "x"])),
        ("k".to_string(), false, texts(&["2.1", "2.2", "3.1", "3.2", "4.1", "4.2"])),
    ];
    assert_eq!(*seen.borrow(), expected);
    assert_eq!(keys(&job, &manifest), ["k", "gone", "k", "k"]);
    assert!(!manifest.files[1].base);
    // When nothing is left there is no file.
    let none = writer.compact(Span::All, &|_, _| Ok(Vec::new())).unwrap().unwrap();
    assert_eq!(none.file, None);
    let manifest = writer.commit(increment(6, vec![])).unwrap();
    assert_eq!(manifest.files, []);
    assert_eq!(writer.compact(Span::All, &*folder()).unwrap(), None, "nothing to fold");
}

#[test]
fn what_cannot_be_folded_changes_nothing() {
    let (job, writer) = fresh("orders");
    writer.commit(increment(1, vec![section("k", [("a", 1)])])).unwrap();
    let error = writer.compact(Span::All, &|_, _| Err("it is odd".into())).unwrap_err().to_string();
    assert_eq!(error, "sections `k` cannot be folded: it is odd");
    let error = writer.compact(Span::All, &|_, _| Ok(vec![section("other", [("a", 1)])])).unwrap_err().to_string();
    assert_eq!(error, "sections `k` cannot be folded: what came of them is called `other`");
    writer.commit(increment(2, vec![section("k", [("b", 1)])])).unwrap();
    assert_eq!(newest(&job).unwrap().1["k"].len(), 2);
}

#[test]
fn commits_go_on_while_files_are_folded() {
    for keep_nothing in [false, true] {
        let disk = Disk::new();
        let job = disk.store().unwrap().job("orders").unwrap();
        let writer = job.claim(Options { retain: 1, ..options(1) }).unwrap();
        for epoch in 1..=4 {
            writer.commit(increment(epoch, vec![section("k", [("old", 1)])])).unwrap();
        }
        let (inside, begun) = mpsc::channel();
        let (go, gone_on) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let writer = &writer;
            let compaction = scope.spawn(move || {
                let first = AtomicBool::new(true);
                let fold = |fold: Fold<'_>, sections| {
                    if first.swap(false, Ordering::Relaxed) {
                        inside.send(()).unwrap();
                        gone_on.recv().unwrap();
                    }
                    folder()(fold, sections)
                };
                // `gone_on` belongs to this thread.
                let _ = &gone_on;
                writer.compact(Span::All, &fold)
            });
            begun.recv().unwrap();
            assert_eq!(writer.compact(Span::All, &*folder()).unwrap(), None, "one at a time");
            for epoch in 5..=9 {
                let keep = if keep_nothing && epoch == 6 { Keep::None } else { Keep::All };
                writer.commit(Checkpoint { keep, ..increment(epoch, vec![section("k", [("new", 1)])]) }).unwrap();
            }
            go.send(()).unwrap();
            compaction.join().unwrap().unwrap().unwrap();
        });
        let manifest = writer.commit(increment(10, vec![section("k", [("new", 1)])])).unwrap();
        let state = state_of(&job, &manifest).unwrap();
        let rows: Vec<(&str, i64)> = state["k"].iter().map(|(row, count)| (row.as_str(), *count)).collect();
        match keep_nothing {
            false => assert_eq!((rows, manifest.files.len()), (vec![("new", 6), ("old", 4)], 7)),
            true => assert_eq!((rows, manifest.files.len()), (vec![("new", 5)], 5)),
        }
        writer.commit(increment(11, vec![])).unwrap();
        let files = disk.files().iter().filter(|path| path.contains("/data/")).count();
        assert_eq!(files, manifest.files.len(), "{:?}", disk.files());
    }
}

/// A chain of random increments, folds, bases, restarts, savepoints and returns to them, against a model.
#[test]
fn any_chain_of_increments_comes_to_the_models_state() {
    for seed in 0..30 {
        let mut random = SmallRng::seed_from_u64(seed);
        let disk = Disk::new();
        let job = disk.store().unwrap().job("orders").unwrap();
        let policy = Policy { files: random.gen_range(2..5), growth: random.gen_range(0.0..3.0) };
        let mut writer = job.claim(options(0)).unwrap();
        let (mut state, mut epoch, mut saved) = (State::new(), 0, Vec::new());
        for step in 0..40 {
            let context = || format!("seed {seed}, step {step}");
            match random.gen_range(0..20) {
                0 => writer = job.claim(options(step)).unwrap(),
                1 => {
                    let name = format!("s{step}");
                    match job.savepoint(&name) {
                        Ok(_) => saved.push((name, epoch, state.clone())),
                        Err(error) => assert!(epoch == 0, "{}: {error}", context()),
                    }
                }
                2 if !saved.is_empty() => {
                    let (name, at, then) = saved[random.gen_range(0..saved.len())].clone();
                    writer = job.claim_at(&name, options(step)).unwrap();
                    (epoch, state) = (at, then);
                }
                3 if !saved.is_empty() => {
                    let (name, ..) = saved.swap_remove(random.gen_range(0..saved.len()));
                    job.delete_savepoint(&name).unwrap();
                }
                4 => {
                    epoch += 1;
                    let sections = state.iter().map(|(key, rows)| section(key, rows.iter().map(|(row, n)| (row.as_str(), *n))));
                    writer.commit(Checkpoint { keep: Keep::None, ..increment(epoch, sections.collect()) }).unwrap();
                }
                5 => drop(writer.compact(Span::All, &*folder()).unwrap()),
                _ => {
                    if let Some(span) = writer.due(&policy) {
                        writer.compact(span, &*folder()).unwrap();
                    }
                    epoch += 1;
                    let sections: Vec<Section> = (0..random.gen_range(0..4))
                        .map(|_| {
                            let key = format!("key {}", random.gen_range(0..3));
                            let rows: Vec<String> =
                                (0..random.gen_range(0..5)).map(|_| format!("{}", random.gen_range(0..6))).collect();
                            section(&key, rows.iter().map(|row| (row.as_str(), random.gen_range(-1..3))))
                        })
                        .collect();
                    sections.iter().for_each(|section| add(&mut state, section));
                    writer.commit(increment(epoch, sections)).unwrap();
                }
            }
            assert_eq!(newest(&job).unwrap(), (epoch, state.clone()), "{}", context());
        }
        for (name, at, then) in &saved {
            let manifest = job.at(name).unwrap();
            assert_eq!(
                (manifest.epoch, state_of(&job, &manifest).unwrap()),
                (*at, then.clone()),
                "seed {seed}, savepoint {name}"
            );
        }
        assert!(job.list().unwrap().iter().all(|info| info.problem.is_none()));
    }
}

#[test]
fn a_compaction_that_is_stopped_changes_nothing() {
    let disk = Disk::new();
    let job = disk.store().unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    for epoch in 1..=3 {
        writer.commit(increment(epoch, vec![section("a", [("x", 1)]), section("b", [("x", 1)])])).unwrap();
    }
    let folds = AtomicUsize::new(0);
    let fold = |fold: Fold<'_>, sections| {
        folds.fetch_add(1, Ordering::Relaxed);
        writer.stop_compacting();
        folder()(fold, sections)
    };
    assert_eq!(writer.compact(Span::All, &fold).unwrap(), None);
    assert_eq!(folds.load(Ordering::Relaxed), 1, "the other key was not read any more");
    assert_eq!(writer.compact(Span::All, &*folder()).unwrap(), None, "and none begins");
    let before = newest(&job).unwrap();
    let manifest = writer.commit(increment(4, vec![])).unwrap();
    assert_eq!((manifest.files.len(), state_of(&job, &manifest).unwrap()), (3, before.1));
}
