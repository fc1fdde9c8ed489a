//! What a job with `state_ttl` is warned of.

use highwater_plan::{Diagnostic, Job, Lifetime, Op};

/// Says where `state_ttl` does not reach, and where it costs more than rows that are forgotten.
pub(super) fn warn(job: &mut Job) {
    let mut warnings: Vec<Diagnostic> = Vec::new();
    for (id, node) in job.plan.nodes.iter().enumerate() {
        let warning = match (job.lifetime(id), &node.op) {
            (Lifetime::Kept(why), _) => Diagnostic::warning("state-kept", format!("state_ttl does not bound this: {why}"))
                .help("what is kept here grows with its input"),
            (Lifetime::Expires, Op::Aggregate(_)) if !job.plan.nodes[node.inputs[0]].properties.append_only => {
                let message = "a row that is retracted after its group expired and began anew is taken off the new group";
                Diagnostic::warning("state-expires", message).help("with state_ttl longer than rows change, there are none")
            }
            _ => continue,
        };
        let warning = match node.span {
            Some(span) => warning.at(span),
            None => warning,
        };
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    job.warnings.extend(warnings);
}
