//! Connectors for tests of whole jobs: `script` and `push` read what a test says, `collect` keeps what is written.

use std::sync::{Arc, Mutex};

use arrow::array::{Array, Int64Array, RecordBatch};
use highwater_connectors::Registry;
use highwater_connectors::sink::{Changes, SinkConnector, SinkError, SinkSpec, SinkTarget, SinkWriter};
use highwater_connectors::source::{
    Backlog, COMMON_FIELDS, Offset, PartitionId, PartitionReader, Polled, PushError, PushFormat, PushHandle, PushRequest,
    PushSummary, Receipt, Source, SourceConnector, SourceError, SourceSpec, Waker,
};
use highwater_plan::{
    Diagnostic, Emit, Field, Job, Node, Op, OptionReader, Options, Plan, Properties, Settings, Sink, SourceKind, StateBound, View,
};

use super::{Script, batch_at, time_schema, times, watermark};

/// The outside world of a test.
#[derive(Clone, Default)]
pub(crate) struct World {
    /// One reader per partition of every source whose connector is `script`.
    pub(crate) scripts: Vec<Script>,
    /// The reader of every source whose connector is `push`.
    pub(crate) pushed: Script,
    /// Event times that sinks have written, with their diffs.
    pub(crate) written: Arc<Mutex<Vec<(i64, i64)>>>,
    /// Epochs that sinks have written.
    pub(crate) epochs: Arc<Mutex<Vec<u64>>>,
}

impl World {
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        registry.add_source(Arc::new(Connector { name: "script", world: self.clone() }));
        registry.add_source(Arc::new(Connector { name: "push", world: self.clone() }));
        registry.add_sink(Arc::new(Collect(self.clone())));
        registry
    }
}

/// `CREATE SOURCE s; CREATE MATERIALIZED VIEW v AS SELECT * FROM s`, and a sink if there is a name for it.
pub(crate) fn job(source: &str, view: &str, sink: Option<&str>, options: &[(&str, &str)]) -> Job {
    let time = Properties { append_only: true, time: vec![None], unique_key: None, state: StateBound::Stateless };
    let mut plan = Plan::default();
    let op = Op::Source { source: 0, projection: vec![0] };
    let node = plan.push(Node { op, inputs: Vec::new(), schema: time_schema(), properties: time, span: None });
    let sinks = sink.map(|name| Sink {
        name: name.into(),
        node,
        schema: time_schema(),
        key: None,
        emit: Emit::Changes,
        append_only: true,
        options: Options::from_pairs([("connector", "collect")]),
        span: None,
    });
    let source = highwater_plan::Source {
        name: source.into(),
        kind: SourceKind::Source,
        schema: time_schema(),
        used: vec![0],
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        watermark: Some(watermark(0)),
        options: Options::from_pairs(options.iter().copied()),
        append_only: true,
        keeps_late_rows: false,
        span: None,
    };
    let view = View { name: view.into(), node, schema: time_schema(), key: vec![0], emit: Emit::Changes, span: None };
    Job {
        sources: vec![source],
        plan,
        views: vec![view],
        sinks: sinks.into_iter().collect(),
        settings: Settings::default(),
        warnings: Vec::new(),
    }
}

/// A body of [`PushRequest`]: event times, separated by blanks.
pub(crate) fn request(body: &str) -> PushRequest {
    PushRequest { format: PushFormat::Ndjson, body: body.as_bytes().to_vec(), idempotency_key: None }
}

struct Connector {
    name: &'static str,
    world: World,
}

impl SourceConnector for Connector {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fields(&self) -> Vec<Field> {
        COMMON_FIELDS.to_vec()
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        OptionReader::new(&spec.options, "connector 'script'", &[COMMON_FIELDS])?;
        let push = self.name == "push";
        let scripts = if push { vec![self.world.pushed.clone()] } else { self.world.scripts.clone() };
        Ok(Box::new(Scripts { scripts, push }))
    }
}

struct Scripts {
    scripts: Vec<Script>,
    push: bool,
}

impl Source for Scripts {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok((0..self.scripts.len()).map(|index| PartitionId::new(index.to_string())).collect())
    }

    fn read(&self, id: &PartitionId, _offset: Option<&Offset>, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let script = self.scripts[id.0.parse::<usize>().unwrap()].clone();
        script.wakes(waker);
        Ok(Box::new(script))
    }

    fn bounded(&self) -> bool {
        !self.push
    }

    fn push_handle(&self) -> Option<Arc<dyn PushHandle>> {
        self.push.then(|| Arc::new(Push(self.scripts[0].clone())) as Arc<dyn PushHandle>)
    }
}

struct Push(Script);

impl PushHandle for Push {
    fn push(&self, request: PushRequest, done: Receipt) -> Result<PushSummary, PushError> {
        let body = String::from_utf8(request.body).unwrap();
        let micros: Vec<Option<i64>> = body.split_whitespace().map(|word| word.parse().ok()).collect();
        let mut batch = batch_at(&micros);
        batch.receipt = Some(done);
        self.0.say(Ok(Polled::Batch(batch)));
        Ok(PushSummary { accepted: micros.len() as u64, ..PushSummary::default() })
    }

    fn push_rows(&self, rows: RecordBatch, diffs: Int64Array, done: Receipt) -> Result<(), PushError> {
        let mut batch = batch_at(&times(&rows));
        batch.diffs = Some(diffs);
        batch.receipt = Some(done);
        self.0.say(Ok(Polled::Batch(batch)));
        Ok(())
    }

    fn depth(&self) -> Backlog {
        Backlog::default()
    }
}

struct Collect(World);

impl SinkConnector for Collect {
    fn name(&self) -> &'static str {
        "collect"
    }

    fn fields(&self) -> Vec<Field> {
        COMMON_FIELDS.to_vec()
    }

    fn validate(&self, _spec: &SinkSpec) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn open(&self, _spec: &SinkSpec) -> Result<SinkTarget, Diagnostic> {
        Ok(SinkTarget::Writer(Box::new(Collect(self.0.clone()))))
    }
}

impl SinkWriter for Collect {
    fn write(&mut self, epoch: u64, changes: &[Changes]) -> Result<(), SinkError> {
        self.0.epochs.lock().unwrap().push(epoch);
        let mut written = self.0.written.lock().unwrap();
        for changes in changes {
            let diff = |row: usize| changes.diffs.as_ref().map_or(1, |diffs| diffs.value(row));
            let rows = times(&changes.rows).into_iter().enumerate();
            written.extend(rows.map(|(row, time)| (time.unwrap_or(-1), diff(row))));
            debug_assert!(changes.diffs.as_ref().is_none_or(|diffs| diffs.null_count() == 0));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
