//! SQL that is run once: queries over what views hold at one moment, and changes of tables that rows can be pushed to.
//!
//! A statement speaks of one job: its relations are that job's views, read at one closed epoch. It is planned into a job of
//! its own that ends ([`highwater_sql::Script`]) and run on the same workers. A change of a table is a question first (which
//! rows?) and then a push of the rows; it is done when the job's views show it, so that the next statement finds it.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use highwater_connectors::source::Receipt;
use highwater_engine::{JobState, Time, ViewHandle};
use highwater_plan::{Diagnostic, Source, SourceKind};
use highwater_runtime::{EvaluateError, PushFailure, ReadError, RunningJob, Runtime};
use highwater_sql::{Once, Planned, Readable, Script, Verb, Writable};

use crate::Highwater;

/// How a script is run.
#[derive(Debug, Clone)]
pub struct ScriptOptions {
    /// The job whose relations it speaks of; `None`: the one that has them.
    pub job: Option<String>,
    /// Wait until this epoch is closed.
    pub min_epoch: Option<Time>,
    /// How long all of it may take.
    pub timeout: Duration,
    /// The most rows of an answer.
    pub rows_max: u64,
}

/// What a script gave.
pub enum Answer {
    /// The rows of its last statement.
    Rows {
        /// The job they were read from; none if nothing was read.
        job: Option<Arc<RunningJob>>,
        /// The epoch they were read at; 0 if nothing was read.
        epoch: Time,
        /// The rows.
        rows: RecordBatch,
    },
    /// What it changed.
    Changed {
        /// The job of its last statement.
        job: Arc<RunningJob>,
        /// The epoch at which all changes are visible.
        epoch: Time,
        /// Per statement what it changed.
        changes: Vec<Change>,
    },
}

/// What a statement changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it did.
    pub verb: Verb,
    /// To which table.
    pub table: String,
    /// To how many rows.
    pub rows: u64,
}

/// A script was not run to its end; the changes of the statements before the one that failed are made.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The text is wrong.
    #[error("{}", .0.first().map_or_else(String::new, ToString::to_string))]
    Text(Vec<Diagnostic>),
    /// There is no job of this name.
    #[error("no job '{0}'")]
    UnknownJob(String),
    /// Several jobs have what a statement speaks of.
    #[error("jobs {} have relations of these names; say which one is meant: job=", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// No job has all that a statement speaks of.
    #[error("a statement reads one job at one moment, and its relations are of jobs {}", .0.join(", "))]
    SeveralJobs(Vec<String>),
    /// Rows could not be computed.
    #[error(transparent)]
    Evaluate(EvaluateError),
    /// A view could not be read.
    #[error(transparent)]
    Read(ReadError),
    /// The rows cannot be rows of the table.
    #[error("the rows cannot be put into table '{table}': {detail}")]
    Values {
        /// The table.
        table: String,
        /// Why not.
        detail: String,
    },
    /// The table did not take them.
    #[error(transparent)]
    Push(PushFailure),
    /// The rows are queued, but not visible in time.
    #[error("the rows are queued, but the job has not taken them within {} ms", .0.as_millis())]
    Queued(Duration),
    /// The job ended.
    #[error("job '{0}' ended")]
    Over(String),
}

impl Highwater {
    /// Runs a script: any number of `INSERT`, `UPDATE` and `DELETE`, and at its end possibly a query, whose rows are the answer.
    ///
    /// Statements that change the same job's tables are run one after another. Blocks for `timeout` at most, and as long as
    /// planning takes.
    pub fn run_script(&self, text: &str, options: &ScriptOptions) -> Result<Answer, ScriptError> {
        let script = Script::parse(text).map_err(|wrong| ScriptError::Text(vec![wrong]))?;
        let early = (0..script.len().saturating_sub(1)).find(|statement| script.verb(*statement) == Verb::Select);
        if script.is_empty() || early.is_some() {
            let message = if script.is_empty() { "there is no statement" } else { "only the last statement may give rows" };
            let wrong = Diagnostic::error("invalid-script", message).at(early.map(|statement| script.span(statement)));
            return Err(ScriptError::Text(vec![wrong.help("send queries one by one")]));
        }
        let run = Run { highwater: self, script: &script, options, began: Instant::now() };
        let mut changes = Vec::new();
        let mut last = None;
        for statement in 0..script.len() {
            if script.verb(statement) == Verb::Select {
                return run.query(statement);
            }
            let (job, epoch, change) = run.change(statement)?;
            changes.push(change);
            last = Some((job, epoch));
        }
        let (job, epoch) = last.expect("a script has a statement");
        Ok(Answer::Changed { job, epoch, changes })
    }
}

/// A script under way.
struct Run<'a> {
    highwater: &'a Highwater,
    script: &'a Script,
    options: &'a ScriptOptions,
    began: Instant,
}

impl Run<'_> {
    fn left(&self) -> Duration {
        self.options.timeout.saturating_sub(self.began.elapsed())
    }

    fn query(&self, statement: usize) -> Result<Answer, ScriptError> {
        let job = self.job(statement)?;
        let relations = job.as_deref().map(relations).unwrap_or_default();
        let text = job.as_deref().map_or("", RunningJob::text);
        let planned = self.script.plan(statement, &relations, None, text).map_err(|wrong| ScriptError::Text(vec![wrong]))?;
        let Planned::Rows(once) = planned else { unreachable!("a SELECT gives rows") };
        let (epoch, rows) = self.rows(job.as_deref(), &relations, once)?;
        Ok(Answer::Rows { job, epoch, rows })
    }

    fn change(&self, statement: usize) -> Result<(Arc<RunningJob>, Time, Change), ScriptError> {
        let (name, at) = self.script.target(statement).expect("a change has a target");
        let verb = self.script.verb(statement);
        let refused =
            |code, message: String, help: &str| ScriptError::Text(vec![Diagnostic::error(code, message).at(Some(at)).help(help)]);
        let table = "a table of a running job with connector 'http'";
        let Some(job) = self.job(statement)? else {
            return Err(refused(
                "unknown-relation",
                format!("unknown table '{name}'"),
                &format!("{verb} changes {table}", verb = verb.as_str()),
            ));
        };
        let Some(source) = source(&job, &name) else {
            let what = if view(&job, &name).is_some() { "is a view" } else { "is not there" };
            return Err(refused(
                "not-a-table",
                format!("'{name}' {what}"),
                &format!("{verb} changes {table}", verb = verb.as_str()),
            ));
        };
        if source.kind == SourceKind::Source && verb != Verb::Insert {
            let message = format!("'{}' is a source: its rows are never changed", source.name);
            return Err(refused("not-a-table", message, "declare it with CREATE TABLE; rows can be inserted into a source"));
        }
        if source.append_only && source.kind == SourceKind::Table && verb != Verb::Insert {
            let message = format!("the rows of table '{}' only come: it is append-only", source.name);
            let help = "declare it with a PRIMARY KEY; or without WITH, WATERMARK and APPEND ONLY";
            return Err(refused("append-only-table", message, help));
        }
        let relations = relations(&job);
        let readable = relations.iter().any(|relation| relation.name == source.name);
        let writable = Writable {
            name: source.name.clone(),
            schema: Arc::clone(&source.schema),
            primary_key: source.primary_key.clone(),
            defaults: source.defaults.clone(),
        };
        // From reading to the moment when the change can be read: so that no other statement reads in between.
        let _alone = job.writing();
        let planned = self.script.plan(statement, &relations, Some((&writable, readable)), job.text());
        let Planned::Change { old, new } = planned.map_err(|wrong| ScriptError::Text(vec![wrong]))? else {
            unreachable!("a change gives changes")
        };
        let mut batches = Vec::new();
        let mut diffs = Vec::new();
        let mut count = 0;
        for (once, diff) in [(old, -1), (new, 1)] {
            let Some(once) = once else { continue };
            let (_, rows) = self.rows(Some(&job), &relations, once)?;
            count = rows.num_rows();
            diffs.extend(std::iter::repeat_n(diff, count));
            let rows = RecordBatch::try_new(Arc::clone(&writable.schema), rows.columns().to_vec());
            batches.push(rows.map_err(|error| ScriptError::Values { table: source.name.clone(), detail: error.to_string() })?);
        }
        let change = Change { verb, table: source.name.clone(), rows: count as u64 };
        if diffs.is_empty() {
            let epoch = job.handle().closed();
            return Ok((Arc::clone(&job), epoch, change));
        }
        let rows = concat_batches(&writable.schema, &batches).expect("batches of one schema");
        let epoch = self.push(&job, &source.name, rows, Int64Array::from(diffs))?;
        Ok((Arc::clone(&job), epoch, change))
    }

    /// Pushes rows, and waits until they are visible.
    fn push(&self, job: &RunningJob, table: &str, rows: RecordBatch, diffs: Int64Array) -> Result<Time, ScriptError> {
        let (told, assigned) = channel();
        let receipt = Receipt(Box::new(move |epoch| {
            let _ = told.send(epoch);
        }));
        job.push_rows(table, rows, diffs, receipt).map_err(ScriptError::Push)?;
        let epoch = loop {
            match assigned.recv_timeout(self.left().min(Duration::from_millis(100))) {
                Ok(epoch) => break epoch,
                // A job that ends does not say so to those whose rows still wait.
                Err(RecvTimeoutError::Disconnected) => return Err(ScriptError::Over(job.name().to_owned())),
                Err(RecvTimeoutError::Timeout) if job.state() != JobState::Running => {
                    return Err(ScriptError::Over(job.name().to_owned()));
                }
                Err(RecvTimeoutError::Timeout) if self.left().is_zero() => return Err(ScriptError::Queued(self.options.timeout)),
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        if job.wait_closed(epoch, self.left()) < epoch {
            return Err(match job.state() {
                JobState::Running => ScriptError::Queued(self.options.timeout),
                _ => ScriptError::Over(job.name().to_owned()),
            });
        }
        Ok(epoch)
    }

    /// The rows of a planned query, and the epoch they are of.
    fn rows(&self, job: Option<&RunningJob>, relations: &[Readable], once: Once) -> Result<(Time, RecordBatch), ScriptError> {
        let read: Vec<usize> = Runtime::sources_read(&once.job).into_iter().filter(|source| *source < relations.len()).collect();
        let (epoch, inputs) = match job {
            None => (0, Vec::new()),
            Some(job) => {
                let names: Vec<&str> = read.iter().map(|source| relations[*source].name.as_str()).collect();
                let snapshot = job.snapshot(&names, self.options.min_epoch, self.left()).map_err(ScriptError::Read)?;
                (snapshot.epoch, read.into_iter().zip(snapshot.views).collect())
            }
        };
        let runtime = self.highwater.runtime();
        let evaluated = runtime.evaluate(once.job.clone(), inputs, self.options.rows_max, self.left());
        let rows = once.answer(&evaluated.map_err(ScriptError::Evaluate)?.rows);
        let rows = rows.map_err(|error| ScriptError::Evaluate(EvaluateError::Failed(error.to_string())))?;
        Ok((epoch, rows))
    }

    /// The job that a statement speaks of; none if it speaks of nothing.
    fn job(&self, statement: usize) -> Result<Option<Arc<RunningJob>>, ScriptError> {
        let runtime = self.highwater.runtime();
        if let Some(name) = &self.options.job {
            return runtime.job(name).map(Some).ok_or_else(|| ScriptError::UnknownJob(name.clone()));
        }
        let jobs = runtime.jobs();
        let mut names = self.script.names(statement);
        names.extend(self.script.target(statement).map(|(name, _)| name));
        let known = |job: &RunningJob| -> Vec<bool> {
            let has = |name: &String| view(job, name).is_some() || source(job, name).is_some();
            let mut known: Vec<bool> = names.iter().map(has).collect();
            if known.contains(&false) {
                let plain = highwater_sql::plain_views(job.text());
                for (known, name) in known.iter_mut().zip(&names) {
                    *known |= plain.iter().any(|view| view.eq_ignore_ascii_case(name));
                }
            }
            known
        };
        let found: Vec<(Arc<RunningJob>, Vec<bool>)> = jobs.iter().map(|job| (Arc::clone(job), known(job))).collect();
        let wanted: Vec<bool> = (0..names.len()).map(|name| found.iter().any(|(_, known)| known[name])).collect();
        let some = |job: &&(Arc<RunningJob>, Vec<bool>)| job.1.contains(&true);
        let list = |jobs: &[&(Arc<RunningJob>, Vec<bool>)]| jobs.iter().map(|(job, _)| job.name().to_owned()).collect();
        let all: Vec<_> = found.iter().filter(some).filter(|(_, known)| *known == wanted).collect();
        match all[..] {
            [(job, _)] => Ok(Some(Arc::clone(job))),
            [] if wanted.contains(&true) => Err(ScriptError::SeveralJobs(list(&found.iter().filter(some).collect::<Vec<_>>()))),
            // Nobody has them: the only job is the one whose views are suggested instead.
            [] => Ok(jobs.first().filter(|_| jobs.len() == 1).map(Arc::clone)),
            _ => Err(ScriptError::Ambiguous(list(&all))),
        }
    }
}

/// What statements may read of a job.
fn relations(job: &RunningJob) -> Vec<Readable> {
    let views = job.handle().views().iter();
    let readable =
        |view: &Arc<ViewHandle>| Readable { name: view.name().to_owned(), schema: Arc::clone(view.schema()), rows: view.rows() };
    views.map(readable).collect()
}

/// A view of a job, found as names are in SQL.
fn view<'a>(job: &'a RunningJob, name: &str) -> Option<&'a str> {
    let names = || job.handle().views().iter().map(|view| view.name());
    names().find(|known| *known == name).or_else(|| names().find(|known| known.eq_ignore_ascii_case(name)))
}

fn source<'a>(job: &'a RunningJob, name: &str) -> Option<&'a Source> {
    let sources = &job.handle().job().sources;
    let exact = sources.iter().find(|source| source.name == name);
    exact.or_else(|| sources.iter().find(|source| source.name.eq_ignore_ascii_case(name)))
}
