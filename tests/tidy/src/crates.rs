//! Who may know whom: arrows between our crates, and the one crate that each heavy dependency is for.
//!
//! The arrows are the drawing in ARCHITECTURE.md. A heavy dependency seen by one crate can be replaced by changing one
//! crate, and costs compile time only there.

use crate::manifest::Manifest;
use crate::report;
use crate::repository::{files, rust_files};

/// For each crate which of ours it may depend on, and which its tests may use besides.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("highwater-plan", &[], &[]),
    ("highwater-sql", &["highwater-plan"], &[]),
    ("highwater-turns", &[], &[]),
    ("highwater-engine", &["highwater-plan", "highwater-turns"], &["highwater-sql"]),
    ("highwater-connectors", &["highwater-plan", "highwater-schemas"], &["highwater-broker"]),
    ("highwater-schemas", &[], &["highwater-broker"]),
    ("highwater-store", &["highwater-turns"], &["highwater-broker"]),
    ("highwater-kafka", &["highwater-plan", "highwater-connectors"], &["highwater-broker"]),
    ("highwater-broker", &[], &[]),
    (
        "highwater-runtime",
        &["highwater-plan", "highwater-engine", "highwater-connectors", "highwater-store", "highwater-turns"],
        &["highwater-sql"],
    ),
    (
        "highwater",
        &["highwater-plan", "highwater-sql", "highwater-engine", "highwater-connectors", "highwater-kafka", "highwater-runtime"],
        &["highwater-oracle", "highwater-broker"],
    ),
    ("highwater-oracle", &["highwater-plan", "highwater-sql", "highwater-engine"], &[]),
    (
        "highwater-sim",
        &[
            "highwater-plan",
            "highwater-sql",
            "highwater-engine",
            "highwater-connectors",
            "highwater-store",
            "highwater-runtime",
            "highwater-turns",
        ],
        &[],
    ),
    ("highwater-tidy", &[], &[]),
    ("highwater-bench-codecs", &[], &[]),
];

/// A heavy dependency (or all that begin with its name) and the folder that alone may name it.
const HEAVY: &[(&str, &str)] = &[
    ("datafusion", "dataflows/sql"),
    ("sqlparser", "dataflows/sql"),
    ("timely", "dataflows/engine"),
    ("differential-dataflow", "dataflows/engine"),
    ("object_store", "dataflows/store"),
    ("rdkafka", "connectors/kafka"),
    ("prost", "connectors/schemas"),
    ("protox", "connectors/schemas"),
    ("warp", "src/serve"),
    ("abomonation", "benches"),
];

fn manifests() -> Vec<Manifest> {
    let manifests = files().into_iter().filter(|file| file.path.ends_with("Cargo.toml"));
    manifests.filter_map(|file| Manifest::parse(&file.path, file.text())).collect()
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let manifests = manifests();
    let mut wrong = Vec::new();
    for manifest in &manifests {
        let Some((_, allowed, in_tests)) = ARROWS.iter().find(|(name, ..)| *name == manifest.name) else {
            wrong.push(format!("{}: a new crate; say in tests/tidy/src/crates.rs what it may depend on", manifest.name));
            continue;
        };
        let ours = |name: &&String| manifests.iter().any(|other| other.name == **name);
        for name in manifest.dependencies.iter().filter(ours) {
            if !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} may not depend on {name}: there is no such arrow in ARCHITECTURE.md", manifest.name));
            }
        }
        for name in manifest.dev_dependencies.iter().filter(ours) {
            if !allowed.contains(&name.as_str()) && !in_tests.contains(&name.as_str()) {
                wrong.push(format!("tests of {} may not depend on {name}", manifest.name));
            }
        }
    }
    report(wrong);
}

#[test]
fn heavy_dependencies_are_seen_by_one_crate() {
    let mut wrong = Vec::new();
    for manifest in manifests() {
        for name in manifest.dependencies.iter().chain(&manifest.dev_dependencies) {
            let Some((_, home)) = HEAVY.iter().find(|(heavy, _)| is(name, heavy)) else { continue };
            // `warp` lives in a folder of the root crate, `abomonation` in the benchmarks of one below.
            let at_home = inside(&manifest.folder, home) || (manifest.folder.is_empty() && home.starts_with("src"));
            if !at_home {
                wrong.push(format!("{} may not depend on {name}: only {home} may", manifest.name));
            }
        }
    }
    for file in rust_files() {
        for (number, line) in file.lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (heavy, home) in HEAVY.iter().filter(|(_, home)| !inside(&file.path, home)) {
                if names(line, &heavy.replace('-', "_")) {
                    wrong.push(format!("{}:{number} may not name {heavy}: only {home} may", file.path));
                }
            }
        }
    }
    report(wrong);
}

/// Whether a dependency is this heavy one, or one of its family.
fn is(name: &str, heavy: &str) -> bool {
    name == heavy || name.strip_prefix(heavy).is_some_and(|rest| rest.starts_with('-'))
}

/// Whether `path` is `folder`, the module file beside it, or below it.
fn inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

/// Whether a line of code names a crate: `timely::`, `datafusion_expr::`.
fn names(line: &str, module: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(module).any(|(at, _)| {
        let starts = !line[..at].ends_with(|c: char| is_word(c) || c == ':' || c == '"');
        let rest = &line[at + module.len()..];
        let family = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let same_family = family == 0 || (rest.starts_with('_') && module == "datafusion");
        starts && same_family && rest[family..].starts_with("::")
    })
}

#[test]
fn a_crate_is_recognised_where_it_is_named() {
    assert!(names("use time::dataflow::Scope;", "time"));
    assert!(names(&["    fn f(plan: &datafusion", "_expr::LogicalPlan) {"].concat(), "datafusion"));
    assert!(!names("use self::time_dataflow;", "time"));
    assert!(!names("let warped = unwarp::now();", "warp"));
    assert!(!names("fn warp() {}", "warp"));
    assert!(
        inside("src/serve.rs", "src/serve") && inside("src/serve/hub.rs", "src/serve") && !inside("src/server.rs", "src/serve")
    );
}
