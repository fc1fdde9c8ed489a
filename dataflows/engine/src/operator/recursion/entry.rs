//! What goes into a recursion, in checkpoints.
//!
//! Of a recursion its inputs are saved, not the arrangements that know at which steps rows came and went: a job that is
//! restored computes it once more, from its inputs as they were, and gives nothing of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use crate::checkpoint::{KeptFrom, Known, Saving, Spread};
use crate::delta::Parcel;
use crate::operator::DeltaStream;
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// An input of so many columns, each epoch's changes when it is complete.
///
/// Time: what a restored job's input had comes at the epoch that it was restored from.
pub(crate) fn saved<'scope>(input: DeltaStream<'scope>, columns: usize, stats: Arc<OperatorStats>) -> DeltaStream<'scope> {
    let all: Vec<usize> = (0..columns).collect();
    // Its rows stay where the operator before has them; the recursion moves them itself.
    let saving = Saving::of_relation(&stats, KeptFrom::Inputs, Spread::Anywhere, &all, Known::default());
    let Some((mut saving, mut had)) = saving else { return input };
    let scope = input.scope();
    input.unary_frontier::<NoopBuilder<Parcel>, _, _, _>(Pipeline, "saved", move |capability, info| {
        let restore = stats.checkpoints.restore.as_ref();
        let mut awaits = restore.map(|restore| {
            let activator = scope.worker().sync_activator_for(info.address.to_vec());
            (capability.delayed(&restore.epoch), restore.await_them(stats.worker, activator))
        });
        let mut waiting: BTreeMap<Time, (Capability<Time>, Vec<Delta>)> = BTreeMap::new();
        move |(input, frontier), output| {
            if awaits.is_some() {
                let Some(deltas) = had.take() else { return };
                let (capability, awaits) = awaits.take().expect("just looked at");
                for delta in deltas {
                    output.session_with_builder(&capability).give_container(&mut Parcel(Some(delta)));
                }
                awaits.end();
            }
            input.for_each(|capability, parcel| {
                let Some(delta) = parcel.0.take() else { return };
                let entry = waiting.entry(*capability.time()).or_insert_with(|| (capability.retain(0), Vec::new()));
                entry.1.push(Delta::of(delta.rows, delta.diffs));
            });
            while let Some(first) = waiting.first_entry().filter(|first| !frontier.less_equal(first.key())) {
                let (epoch, (capability, deltas)) = first.remove_entry();
                saving.save_relation(Some(epoch));
                saving.gives(&deltas);
                for delta in deltas {
                    output.session_with_builder(&capability).give_container(&mut Parcel(Some(delta)));
                }
            }
            saving.save_relation(frontier.frontier().first().copied());
        }
    })
}
