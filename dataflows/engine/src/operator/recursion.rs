//! Recursive queries on differential dataflow: the one place of a job where time is partially ordered.
//!
//! Inside, updates are at (epoch, step). A row is its bytes, so that every operator of differential is compiled for one type
//! of row, one time and one multiplicity, here; a batch of rows is decoded, mapped by our own expressions and encoded again
//! where something has to be computed. What recursion keeps are differential's arrangements: they know at which steps of which
//! epochs a row came and went, which is what makes a retraction right in a cycle of rows that hold up each other.

pub(crate) mod entry;
pub(crate) mod keyed;
pub(crate) mod limit;
pub(crate) mod rows;

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::{BatchReader, TraceReader};
use timely::order::Product;
use timely::progress::frontier::AntichainRef;

use crate::{Diff, Time};

/// A row's bytes.
pub(crate) type Row = Vec<u8>;

/// An epoch and a step in it.
pub(crate) type Step = Product<Time, u64>;

/// Rows inside a recursion.
pub(crate) type Rows<'scope> = VecCollection<'scope, Step, Row, Diff>;

/// Rows under their keys inside a recursion.
pub(crate) type KeyedRows<'scope> = VecCollection<'scope, Step, (Row, Row), Diff>;

/// What the arrangements of a recursion hold, in updates.
#[derive(Clone, Default)]
pub(crate) struct Held(Rc<RefCell<Vec<Count>>>);

/// How many updates an arrangement holds.
type Count = Box<dyn Fn() -> usize>;

impl Held {
    /// Counts an arrangement too, without keeping it from compacting.
    pub(crate) fn count<Tr>(&self, arranged: &Arranged<'_, Tr>)
    where
        Tr: TraceReader + Clone + 'static,
        Tr::Batch: BatchReader,
    {
        let mut trace = arranged.trace.clone();
        trace.set_logical_compaction(AntichainRef::new(&[]));
        trace.set_physical_compaction(AntichainRef::new(&[]));
        self.0.borrow_mut().push(Box::new(move || {
            let mut updates = 0;
            trace.map_batches(|batch| updates += batch.len());
            updates
        }));
    }

    /// Updates in all of them.
    pub(crate) fn updates(&self) -> usize {
        self.0.borrow().iter().map(|count| count()).sum()
    }
}
