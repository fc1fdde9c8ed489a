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
