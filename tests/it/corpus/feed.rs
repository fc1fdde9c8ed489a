//! Tables that are pushed to, and end when the case's input does: the http connector, made bounded.

use std::sync::{Arc, Mutex};

use highwater_connectors::Registry;
use highwater_connectors::source::{
    Backlog, HttpSource, Offset, PartitionId, PartitionReader, Polled, PushHandle, Source, SourceConnector, SourceError,
    SourceSpec, Waker,
};
use highwater_plan::{Diagnostic, Field};

/// The end of all input of a job.
#[derive(Clone, Default)]
pub(super) struct End(Arc<Mutex<(bool, Vec<Waker>)>>);

impl End {
    /// Ends every table once what was pushed is read.
    pub(super) fn come(&self) {
        let wakers = {
            let mut end = self.0.lock().unwrap();
            end.0 = true;
            std::mem::take(&mut end.1)
        };
        wakers.iter().for_each(|waker| waker());
    }
}

/// The builtin sinks, and the bounded 'http'.
pub(super) fn registry(end: &End) -> Registry {
    let mut registry = Registry::default();
    registry.add_source(Arc::new(Connector(end.clone())));
    Registry::builtin().sinks_into(&mut registry);
    registry
}

struct Connector(End);

impl SourceConnector for Connector {
    fn name(&self) -> &'static str {
        HttpSource.name()
    }

    fn fields(&self) -> Vec<Field> {
        HttpSource.fields()
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        Ok(Box::new(Bounded { pushed: HttpSource.open(spec)?, end: self.0.clone() }))
    }
}

struct Bounded {
    pushed: Box<dyn Source>,
    end: End,
}

impl Source for Bounded {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        self.pushed.partitions()
    }

    fn read(&self, id: &PartitionId, offset: Option<&Offset>, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        self.end.0.lock().unwrap().1.push(Arc::clone(&waker));
        let pushed = self.pushed.read(id, offset, waker)?;
        Ok(Box::new(Reader { pushed, end: self.end.clone() }))
    }

    /// It is read like a table that is pushed to for ever: nobody waits for its end.
    fn bounded(&self) -> bool {
        false
    }

    fn push_handle(&self) -> Option<Arc<dyn PushHandle>> {
        self.pushed.push_handle()
    }
}

struct Reader {
    pushed: Box<dyn PartitionReader>,
    end: End,
}

impl PartitionReader for Reader {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        // Asked first: what was pushed before the end has come is read.
        let ended = self.end.0.lock().unwrap().0;
        match self.pushed.poll(rows_max)? {
            Polled::Pending(_) | Polled::Waiting(_) if ended => Ok(Polled::Finished),
            polled => Ok(polled),
        }
    }

    fn backlog(&self) -> Option<Backlog> {
        self.pushed.backlog()
    }
}
