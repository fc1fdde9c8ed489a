//! Where a store may lie, and what is said of addresses that lead nowhere.

use highwater_store::Store;

use super::*;

#[test]
fn a_directory_a_file_address_and_a_named_memory_are_the_same_store_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/new one/über");
    let path = path.to_str().unwrap();
    let memory = format!("memory://{}", std::process::id());
    for (make, again) in [(path.to_string(), format!("file://{path}")), (memory.clone(), memory)] {
        let job = Store::create(&make).unwrap().job("a/b C").unwrap();
        job.claim(options(1)).unwrap().commit(increment(1, vec![section("k", [("a", 1)])])).unwrap();
        let store = Store::open(&again).unwrap();
        assert_eq!(store.jobs().unwrap(), ["a/b C"]);
        assert_eq!(newest(&store.job("a/b C").unwrap()).unwrap().0, 1);
    }
    assert!(Store::open("memory://").is_err(), "without a name it is a new one");
}

#[test]
fn an_address_that_cannot_be_used_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let text = |path: &str| directory.path().join(path).to_str().unwrap().to_string();
    let error = |address: &str| Store::open(address).unwrap_err().to_string();
    assert_eq!(
        error(&text("nothing")),
        format!(
            "{} is not a store of checkpoints: there is nothing; a job that keeps checkpoints makes it, or check the path",
            text("nothing")
        )
    );
    std::fs::write(text("file"), "x").unwrap();
    assert!(error(&text("file")).ends_with("it is no directory"));
    assert!(Store::create(&text("file")).is_err());
    assert!(error(directory.path().to_str().unwrap()).contains("there is no highwater-store.json"));
    let other = Store::create(directory.path().to_str().unwrap()).unwrap_err().to_string();
    assert!(other.ends_with("it holds other things and no highwater-store.json; give an empty directory"), "{other}");
    assert!(error("").ends_with("it is empty"));
    assert!(error("file://relative").contains("three slashes"));
    assert!(error("ftp://x").contains("give a directory, or an address that begins with"));
    #[cfg(not(feature = "cloud"))]
    for address in ["s3://bucket/a", "gs://bucket", "az://container/x"] {
        assert!(error(address).ends_with("build highwater with `--features cloud`"), "{}", error(address));
    }
}

#[test]
fn a_later_layout_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    Store::create(path).unwrap();
    std::fs::write(directory.path().join("highwater-store.json"), r#"{"highwater_store":2}"#).unwrap();
    for error in [Store::open(path).unwrap_err(), Store::create(path).unwrap_err()] {
        assert!(matches!(error, StoreError::Newer { found: 2, supported: 1, .. }), "{error}");
        assert!(error.to_string().contains("use the version that wrote it, or a later one"));
    }
    std::fs::write(directory.path().join("highwater-store.json"), "{}").unwrap();
    assert!(matches!(Store::open(path), Err(StoreError::Corrupt { .. })));
}

#[test]
fn files_of_versions_before_are_read_and_a_later_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let job = Store::create(directory.path().to_str().unwrap()).unwrap().job("orders").unwrap();
    let writer = job.claim(options(1)).unwrap();
    // So few rows that nothing is packed: as it was written then.
    let manifest = writer.commit(increment(1, vec![section("k", [("a", 1)])])).unwrap();
    let file = directory.path().join("jobs/orders").join(&manifest.files[0].path);
    let mut bytes = std::fs::read(&file).unwrap();
    let version = bytes.len() - 16;
    assert_eq!(bytes[version..version + 4], 3u32.to_le_bytes());
    for before in [1, 2] {
        bytes[version] = before;
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(newest(&job).unwrap().1["k"]["a"], 1);
    }
    bytes[version] = 4;
    std::fs::write(&file, &bytes).unwrap();
    assert!(matches!(newest(&job), Err(StoreError::Newer { found: 4, supported: 3, .. })));
    bytes[version] = 0;
    std::fs::write(&file, &bytes).unwrap();
    assert!(matches!(newest(&job), Err(StoreError::Corrupt { .. })));
}

#[test]
fn the_store_may_be_called_from_a_runtime_of_someone_else() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let epoch = runtime.block_on(async {
        let (job, writer) = fresh("inside");
        writer.commit(increment(1, vec![section("k", [("a", 1)])])).unwrap();
        newest(&job).unwrap().0
    });
    assert_eq!(epoch, 1);
}
