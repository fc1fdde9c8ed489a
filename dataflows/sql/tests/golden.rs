//! Text in, text out: every `plans/*.sql` against its plan, every `broken/*.sql` against its rendered error.
//!
//! `UPDATE=1 cargo test -p highwater-sql` writes what is found; the difference is reviewed like code.

use std::fs;
use std::path::{Path, PathBuf};

use highwater_plan::explain;
use highwater_sql::{CompileOptions, compile};

#[test]
fn plans() {
    check("plans", |name, text| match compile(text, &CompileOptions::default()) {
        Ok(job) => {
            let warnings: String = job.warnings.iter().map(|warning| warning.render(name, text)).collect();
            format!("{}{warnings}", explain(&job))
        }
        Err(errors) => errors.iter().map(|e| e.render(name, text)).collect::<String>(),
    });
}

#[test]
fn broken_jobs_say_what_where_and_what_to_do() {
    check("broken", |name, text| match compile(text, &CompileOptions::default()) {
        Ok(job) => format!("compiles, which it should not\n{}", explain(&job)),
        Err(errors) => errors.iter().map(|e| e.render(name, text)).collect(),
    });
}

#[test]
fn joins_are_ordered_by_the_rows_that_are_known() {
    let table = |name: &str| format!("CREATE TABLE {name} (id BIGINT PRIMARY KEY, kind BIGINT) WITH (connector = 'http');");
    let text = ["a", "b", "c"].map(table).concat()
        + "CREATE MATERIALIZED VIEW v AS SELECT a.id FROM a, b, c WHERE a.kind = b.kind AND b.id = c.kind;";
    let last_joined = |rows: &[(&str, u64)]| {
        let rows = rows.iter().map(|(name, rows)| (name.to_string(), *rows)).collect();
        let job = compile(&text, &CompileOptions::default().with_rows(rows)).expect("the job compiles");
        let plan = explain(&job);
        let table = |line: &&str| line.starts_with("    table ") || line.starts_with("    map ");
        plan.lines().find(table).expect("one table is joined last").trim().to_string()
    };
    assert_eq!(last_joined(&[("a", 10), ("b", 1_000_000), ("c", 10)]), "table a [id, kind] -- update state=keys");
    let c = "map select [#1] -- update state=none";
    assert_eq!(last_joined(&[("a", 10), ("b", 10), ("c", 1_000_000)]), c);
}

#[test]
fn compiling_twice_gives_the_same_plan() {
    for path in cases("plans") {
        let text = fs::read_to_string(&path).expect("the case is readable");
        let plan = || compile(&text, &CompileOptions::default()).map(|job| explain(&job)).ok();
        assert_eq!(plan(), plan(), "{}", path.display());
    }
}

fn cases(folder: &str) -> Vec<PathBuf> {
    // Asked when the test runs: clones that share a build directory share this binary, too.
    let clone = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let folder = Path::new(&clone).join("tests").join(folder);
    let entries = fs::read_dir(&folder).expect("the folder of cases exists");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder is readable").path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    cases
}

fn check(folder: &str, run: impl Fn(&str, &str) -> String) {
    let (mut differences, mut wrongs) = (Vec::new(), Vec::new());
    for path in cases(folder) {
        let text = fs::read_to_string(&path).expect("the case is readable");
        let name = path.file_name().expect("a case is a file").to_string_lossy().into_owned();
        let found = run(&name, &text);
        let wrong = match folder {
            "plans" => found.starts_with("error"),
            _ => !found.starts_with("error") || found.contains("internal-planner-error") || !found.contains(" --> "),
        };
        if wrong {
            wrongs.push(found.clone());
        }
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &found).expect("the golden file is writable");
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            differences.push(format!("{name}\n--- expected\n{expected}--- found\n{found}"));
        }
    }
    assert!(wrongs.is_empty(), "{folder}:\n{}", wrongs.join("\n"));
    assert!(differences.is_empty(), "{}\nUPDATE=1 accepts these", differences.join("\n"));
}
