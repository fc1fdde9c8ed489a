//! The broker's jars: brought once into a cache folder that all checkouts share.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const POM: &str = include_str!("../pom.xml");

/// Written last, with what was asked for: a folder without it, or with another one, is not whole.
const COMPLETE: &str = "complete";

/// A class path of all jars; brings them if they are not here.
///
/// Test processes that come at the same time wait for the first.
pub(crate) fn class_path() -> String {
    let folder = cache().join(format!("kafka-{}", version()));
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("making the folder {}: {error}", folder.display()));
    let lock = File::create(folder.join("lock")).expect("a file can be made in a folder just made");
    lock.lock().unwrap_or_else(|error| panic!("locking {}: {error}", folder.display()));
    if fs::read_to_string(folder.join(COMPLETE)).ok().as_deref() != Some(POM) {
        bring(&folder);
        fs::write(folder.join(COMPLETE), POM).expect("a file can be made in a folder just filled");
    }
    format!("{}/*", folder.display())
}

fn bring(folder: &Path) {
    let pom = concat!(env!("CARGO_MANIFEST_DIR"), "/pom.xml");
    // The plug-in's version is fixed so that Maven need not look for the newest.
    let goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--no-transfer-progress", "--file", pom, goal])
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "mvn could not bring the broker's jars from Maven Central into {}:\n{}{}",
            folder.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            panic!("running mvn, which brings the broker's jars: {error}; install Maven (Debian: apt-get install maven)")
        }
    }
}

/// The version that the pom names.
fn version() -> &'static str {
    let (_, rest) = POM.split_once("<kafka.version>").expect("the pom names a version");
    rest.split_once('<').expect("elements end").0
}

fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("highwater")
}
