//! `--dump VIEW=FILE.jsonl`: a view's final rows, one JSON object a line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use highwater::RunningJob;
use highwater_connectors::format::encode;

use super::Failure;

/// A view and the file it goes to; `-` is standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dump {
    pub(super) view: String,
    path: PathBuf,
}

impl FromStr for Dump {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((view, path)) if !view.is_empty() && !path.is_empty() => {
                Ok(Dump { view: view.to_string(), path: PathBuf::from(path) })
            }
            _ => Err("expected VIEW=FILE, for example q5=q5.jsonl".into()),
        }
    }
}

impl Dump {
    /// Refuses a view that the job does not have, before anything runs.
    pub(super) fn check(&self, job: &RunningJob) -> Result<(), Failure> {
        let views = job.handle().views();
        if views.iter().any(|view| view.name() == self.view) {
            return Ok(());
        }
        let names: Vec<&str> = views.iter().map(|view| view.name()).collect();
        Err(Failure::Usage(format!("--dump: the job has no view '{}'; it has {}", self.view, names.join(", "))))
    }

    /// Writes the view's rows as of the last closed epoch, sorted as text, so that equal views make equal files.
    pub(super) fn write(&self, job: &RunningJob) -> Result<usize, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Job(format!("cannot dump view '{}' to {}: {error}", self.view, self.path.display()))
        };
        let read = job.read_view(&self.view, None, Duration::ZERO, &[], None).map_err(|error| failed(&error))?;
        let mut text = Vec::new();
        for batch in &read.batches {
            encode::ndjson(batch, &mut text).map_err(|error| failed(&error))?;
        }
        let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        let file: Box<dyn Write> = match self.path.to_str() {
            Some("-") => Box::new(std::io::stdout().lock()),
            _ => Box::new(File::create(&self.path).map_err(|error| failed(&error))?),
        };
        let mut out = BufWriter::new(file);
        lines.iter().try_for_each(|line| out.write_all(line)).and_then(|()| out.flush()).map_err(|error| failed(&error))?;
        Ok(lines.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_names_a_view_and_a_file() {
        let dump: Dump = "bid$late=out=1.jsonl".parse().expect("a view and a file");
        assert_eq!(dump, Dump { view: "bid$late".into(), path: "out=1.jsonl".into() });
        assert!("q5".parse::<Dump>().is_err());
        assert!("=x".parse::<Dump>().is_err());
    }
}
