//! The rules of the house as tests, so that they stay true without anyone remembering them.
//!
//! They read the repository's text and nothing else: no dependency, no build of the other crates, a second to run. A rule
//! that is broken says which file breaks it and what to do. Each module is one kind of rule: [`crates`] (who may know
//! whom), [`source`] (what a file of Rust may look like), [`paths`] (what texts may name), [`jobs`] (what a job's folder
//! holds), [`docs`] (what must be explained).

#[cfg(test)]
mod crates;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod repository;
#[cfg(test)]
mod source;

/// Fails a test with everything that is wrong, not only the first thing.
#[cfg(test)]
fn report(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}
