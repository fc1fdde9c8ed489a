//! How many steps a recursion may take.
//!
//! A recursion that never comes to an end would go round for ever at one epoch. Its changes stop here instead: after as many
//! steps as there may be, or when a row is there so many times that it can only be counting up.

use std::sync::Arc;

use differential_dataflow::AsCollection;
use highwater_plan::{AtLimit, Recursion};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{Row, Rows, Step};
use crate::Diff;

/// No relation has a row so many times: the recursion doubles it with every step.
const DIFF_MAX: Diff = 1 << 48;

/// The changes of a binding's steps up to the limit.
pub(crate) fn limited<'scope>(
    input: Rows<'scope>,
    recursion: &Recursion,
    name: &str,
    fail: Arc<dyn Fn(String) + Send + Sync>,
) -> Rows<'scope> {
    let (limit, at_limit, name) = (recursion.limit, recursion.at_limit, name.to_owned());
    let stream =
        input.inner.unary::<CapacityContainerBuilder<Vec<(Row, Step, Diff)>>, _, _, _>(Pipeline, "limit", move |_, _| {
            let mut failed = false;
            move |input, output| {
                input.for_each(|capability, data| {
                    let before = data.len();
                    let growing = data.iter().any(|(_, _, diff)| diff.abs() > DIFF_MAX);
                    data.retain(|(_, step, _)| step.inner < limit);
                    if growing && !failed {
                        failed = true;
                        fail(format!(
                            "recursive query '{name}' gives the same row again with every step and never comes to an end: \
                         write UNION instead of UNION ALL"
                        ));
                    }
                    if data.len() < before && at_limit == AtLimit::Fail && !failed {
                        failed = true;
                        fail(format!(
                            "recursive query '{name}' has not come to an end after {limit} steps: bound it by a condition, write \
                         UNION instead of UNION ALL, or SET recursion_limit to more"
                        ));
                    }
                    if !failed && !data.is_empty() {
                        output.session(&capability).give_container(data);
                    }
                });
            }
        });
    stream.as_collection()
}
