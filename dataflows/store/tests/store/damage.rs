//! Files are flipped, cut, lengthened, removed and exchanged, at thousands of places: what is read is right, or an error names the
//! file.

use std::collections::BTreeMap;

use highwater_store::Store;
use highwater_store::testing::Disk;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// A store with a base, increments and a savepoint, and what each of its checkpoints comes to.
struct Whole {
    files: BTreeMap<String, Vec<u8>>,
    states: BTreeMap<String, State>,
    newest: String,
}

fn whole() -> Whole {
    let disk = Disk::new();
    let job = disk.store().unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    for epoch in 1..=5 {
        let rows: Vec<String> = (0..300).map(|row| format!("row {}", row * epoch)).collect();
        // Of the last one so many that numbers are packed.
        let sections = [("view/0", 9), ("view/1", 9), ("join", 300)];
        let sections = sections.map(|(key, count)| section(key, rows[..count].iter().map(|row| (row.as_str(), 1))));
        let keep = if epoch == 2 { Keep::None } else { Keep::All };
        writer.commit(Checkpoint { keep, ..increment(epoch, sections.into()) }).unwrap();
        if epoch == 1 {
            writer.savepoint("first").unwrap();
        }
    }
    let mut states = BTreeMap::new();
    for info in job.list().unwrap() {
        assert_eq!(info.problem, None);
        states.insert(info.name.clone(), state_of(&job, &job.at(&info.name).unwrap()).unwrap());
    }
    let newest = job.latest().unwrap().unwrap().sequence.to_string();
    let files = disk.files().into_iter().map(|path| (path.clone(), disk.read(&path).unwrap())).collect();
    Whole { files, states, newest }
}

/// Changes something; says which files it is about.
fn damage(random: &mut SmallRng, whole: &Whole, disk: &Disk) -> (&'static str, Vec<String>) {
    let paths: Vec<&String> = whole.files.keys().collect();
    let path = paths[random.gen_range(0..paths.len())];
    let mut content = whole.files[path].clone();
    let at = random.gen_range(0..content.len());
    let (what, content): (&'static str, _) = match random.gen_range(0..7) {
        0 => {
            content[at] ^= 1 << random.gen_range(0..8);
            ("flip", Some(content))
        }
        1 => {
            content.truncate(at);
            ("cut", Some(content))
        }
        2 => {
            content.extend((0..random.gen_range(1..100)).map(|_| random.r#gen::<u8>()));
            ("lengthen", Some(content))
        }
        3 => ("remove", None),
        4 => {
            let end = random.gen_range(at..content.len()) + 1;
            content[at..end].iter_mut().for_each(|byte| *byte = !*byte);
            ("overwrite", Some(content))
        }
        5 => {
            content.remove(at);
            ("shift", Some(content))
        }
        _ => {
            let other = paths[random.gen_range(0..paths.len())];
            disk.set(other, Some(content));
            disk.set(path, Some(whole.files[other].clone()));
            return ("exchange", vec![path.clone(), other.clone()]);
        }
    };
    disk.set(path, content);
    (what, vec![path.clone()])
}

/// What a checkpoint comes to, read as a restore would.
fn restore(disk: &Disk, name: Option<&str>) -> Result<State> {
    let job = disk.store()?.job("orders")?;
    let manifest = match name {
        Some(name) => job.at(name)?,
        None => job.latest()?.expect("a checkpoint was written"),
    };
    state_of(&job, &manifest)
}

/// Reads a checkpoint as a restore that needs none of its rows.
fn read_unopened(disk: &Disk, name: Option<&str>) -> Result<()> {
    let job = disk.store()?.job("orders")?;
    let manifest = match name {
        Some(name) => job.at(name)?,
        None => job.latest()?.expect("a checkpoint was written"),
    };
    job.read(&manifest, ReadOptions::default().unopened(|_| true))?.try_for_each(|section| section.map(|_| ()))
}

#[test]
fn thousands_of_mutations_are_noticed_and_named() {
    let whole = whole();
    let mut random = SmallRng::seed_from_u64(4);
    let (mut noticed, mut offered) = (BTreeMap::<&str, u32>::new(), 0);
    let mut seen = BTreeMap::<String, u32>::new();
    let disk = Disk::new();
    for number in 0..2_500 {
        for (path, content) in &whole.files {
            // Only what the last round changed.
            if disk.read(path).as_ref() != Some(content) {
                disk.set(path, Some(content.clone()));
            }
        }
        let (what, paths) = damage(&mut random, &whole, &disk);
        let is_same = paths.iter().all(|path| disk.read(path).as_ref() == whole.files.get(path));
        let context = || format!("{number}: {what} {paths:?}");
        let other = whole.states.keys().nth(random.gen_range(0..whole.states.len())).map(String::as_str);
        for name in [None, other] {
            let expected = &whole.states[name.unwrap_or(&whole.newest)];
            let restored = restore(&disk, name);
            let unopened = read_unopened(&disk, name).is_ok();
            assert!(unopened || restored.is_err(), "{}: what is not opened is sound, too", context());
            assert!(!unopened || restored.is_ok(), "{}: what is not opened is checked, too", context());
            let error = match restored {
                Ok(state) => {
                    assert_eq!(state, *expected, "{}", context());
                    continue;
                }
                Err(error) => error,
            };
            assert!(!is_same, "{}: {error}", context());
            let text = error.to_string();
            let is_named = paths.iter().any(|path| text.contains(path.as_str()));
            // Without its savepoint a name is unknown; without its mark a folder is no store.
            let is_unknown = matches!(error, StoreError::Unknown { .. } | StoreError::NotAStore { .. });
            assert!(is_named || is_unknown, "{}: {text}", context());
            if let StoreError::Missing { instead: Some(instead), .. } | StoreError::Corrupt { instead: Some(instead), .. } =
                &error
            {
                let job = disk.store().unwrap().job("orders").unwrap();
                let instead = instead.trim_start_matches("checkpoint ").trim_start_matches("savepoint `");
                let instead = instead.split([' ', '`']).next().unwrap();
                let manifest = job.at(instead).unwrap_or_else(|error| panic!("{}: {instead} was offered: {error}", context()));
                assert_eq!(state_of(&job, &manifest).unwrap(), whole.states[instead], "{}", context());
                offered += 1;
            }
            *noticed.entry(what).or_default() += 1;
            paths.iter().for_each(|path| *seen.entry(path.clone()).or_default() += 1);
        }
        // Never a panic, whatever is there; a list shows what is wrong.
        if let Ok(job) = disk.store().and_then(|store| store.job("orders"))
            && number % 8 == 0
        {
            let _ = job.list();
        }
    }
    assert!(noticed.len() == 7 && noticed.values().all(|count| *count > 60), "{noticed:?}");
    assert!(offered > 200, "{offered}");
    assert!(seen.len() == whole.files.len(), "each file was damaged, and it mattered: {seen:?}");
}

#[test]
fn each_file_of_the_newest_checkpoint_matters() {
    let whole = whole();
    let needed: Vec<&String> = {
        let disk = Disk::new();
        whole.files.iter().for_each(|(path, content)| disk.set(path, Some(content.clone())));
        let job = disk.store().unwrap().job("orders").unwrap();
        let manifest = job.latest().unwrap().unwrap();
        let is_needed = |path: &&String| {
            let data = manifest.files.iter().any(|file| path.ends_with(&file.path));
            data || path.ends_with(&format!("{:020}.manifest", manifest.sequence))
        };
        whole.files.keys().filter(is_needed).collect()
    };
    assert_eq!(needed.len(), 5);
    for path in needed {
        let length = whole.files[path].len();
        // Every byte of it, or some hundreds of them.
        for at in (0..length).step_by((length / 200).max(1)) {
            let disk = Disk::new();
            whole.files.iter().for_each(|(path, content)| disk.set(path, Some(content.clone())));
            let mut content = whole.files[path].clone();
            content[at] ^= 0x10;
            disk.set(path, Some(content));
            let error = restore(&disk, None).expect_err("a flipped bit is noticed").to_string();
            assert!(error.contains(path.as_str()), "byte {at} of {path}: {error}");
        }
    }
}

#[test]
fn an_error_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let job = Store::create(directory.path().to_str().unwrap()).unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    for epoch in 1..=3 {
        let row = format!("row {epoch}");
        writer.commit(increment(epoch, vec![section("k", [(row.as_str(), 1)])])).unwrap();
    }
    let newest = job.latest().unwrap().unwrap();
    let folder = directory.path().canonicalize().unwrap().join("jobs/orders");
    let last = folder.join(&newest.files[2].path);
    let whole = std::fs::read(&last).unwrap();

    std::fs::remove_file(&last).unwrap();
    let offer =
        "; the newest whole checkpoint before it is checkpoint 3 (epoch 2): restore from it by name, and lose what came after";
    assert_eq!(job.latest().unwrap_err().to_string(), format!("{} is missing{offer}", last.display()));
    assert!(matches!(job.claim(options(2)), Err(StoreError::Missing { .. })), "nobody goes on from it unasked");
    let listed: Vec<bool> = job.list().unwrap().iter().map(|info| info.problem.is_some()).collect();
    assert_eq!(listed, [true, false, false]);

    std::fs::write(&last, &whole[..whole.len() - 7]).unwrap();
    let text = job.latest().unwrap_err().to_string();
    let (cut, length) = (whole.len() - 7, whole.len());
    assert_eq!(text, format!("{} is damaged: it has {cut} bytes and must have {length}{offer}", last.display()));

    let first = folder.join(&newest.files[0].path);
    std::fs::copy(&first, &last).unwrap();
    let text = job.latest().unwrap_err().to_string();
    assert!(text.contains("is another file than the one that its manifest names") || text.contains("must have"), "{text}");
    std::fs::write(&last, &whole).unwrap();
    job.verify(&newest).unwrap();

    // The newest manifest is missed, too, though the one before it is whole.
    let manifest = folder.join(format!("manifests/{:020}.manifest", newest.sequence));
    let text = std::fs::read(&manifest).unwrap();
    std::fs::remove_file(&manifest).unwrap();
    assert_eq!(job.latest().unwrap_err().to_string(), format!("{} is missing{offer}", manifest.display()));
    assert_eq!(job.list().unwrap()[0].problem.as_deref().map(|text| text.contains("is missing")), Some(true));
    // Going on from the one before is possible, by name, and ends the matter.
    let writer = job.claim_at("3", options(3)).unwrap();
    writer.commit(increment(4, vec![section("k", [("b", 1)])])).unwrap();
    assert_eq!(super::newest(&job).unwrap().0, 4);

    // A later version's manifest is not taken for a damaged one.
    let newer = String::from_utf8(text).unwrap().replacen("highwater-manifest 1", "highwater-manifest 2", 1);
    let place = folder.join(format!("manifests/{:020}.manifest", 99));
    std::fs::write(place, newer).unwrap();
    let error = job.latest().unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, supported: 1, .. }), "{error}");
}
