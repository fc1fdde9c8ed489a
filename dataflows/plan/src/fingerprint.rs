//! Names for what the operators of a job keep, by what made it and not by where it stands in the plan: equal names are equal
//! sub-plans over equal sources, in whatever job. State is saved under them, so that a job that was changed elsewhere finds it.
//!
//! A source goes by its name and by how its rows come to be, not by where they are read from: a broker that has moved is the
//! same source.

use std::collections::HashMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::{Job, Node, Op, Plan, Settings, Source};

/// Per node of a job's plan its name: 32 hexadecimal digits, and behind them which one it is of nodes that differ in nothing
/// but the names of their columns. No two are equal.
pub fn fingerprints(job: &Job) -> Vec<String> {
    let settings = settings(&job.settings);
    let sources: Vec<String> = job.sources.iter().map(source).collect();
    let mut met: HashMap<String, usize> = HashMap::new();
    let numbered = |name: String| {
        let same = met.entry(name.clone()).or_default();
        *same += 1;
        if *same == 1 { name } else { format!("{name}-{same}") }
    };
    of_plan(&job.plan, &sources, &settings).into_iter().map(numbered).collect()
}

fn of_plan(plan: &Plan, sources: &[String], settings: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let inputs: Vec<&str> = node.inputs.iter().map(|input| names[*input].as_str()).collect();
        let name = digest(&format!("{}\n{settings}\n{}", describe(node, sources, settings), inputs.join("\n")));
        names.push(name);
    }
    names
}

/// What a node does, without places, names of columns, or positions in the plan.
fn describe(node: &Node, sources: &[String], settings: &str) -> String {
    let mut text = match &node.op {
        Op::Source { source, projection } => format!("source {projection:?} of {}", sources[*source]),
        Op::Versions { source, projection } => format!("versions {projection:?} of {}", sources[*source]),
        Op::Recursion { recursion, output } => {
            let body = of_plan(&recursion.body, sources, settings);
            let roots: Vec<&str> = recursion.bindings.iter().map(|binding| body[binding.root].as_str()).collect();
            format!("recursion {output} of {roots:?}, {} {:?}", recursion.limit, recursion.at_limit)
        }
        op => format!("{op:?}"),
    };
    for field in node.schema.fields() {
        let nullable = if field.is_nullable() { "" } else { " NOT NULL" };
        // Writing to a string cannot fail.
        let _ = write!(text, " {:?}{nullable}", field.data_type());
    }
    let known = &node.properties;
    let _ = write!(text, " {} {:?} {:?} {:?}", known.append_only, known.time, known.unique_key, known.state);
    text
}

fn source(source: &Source) -> String {
    let columns: Vec<String> = source
        .used
        .iter()
        .map(|column| {
            let field = &source.schema.fields()[*column];
            let default = source.defaults.get(*column).cloned().flatten();
            let metadata = source.metadata.get(*column).cloned().flatten();
            format!("{} {:?} {} {default:?} {metadata:?}", field.name(), field.data_type(), field.is_nullable())
        })
        .collect();
    let watermark = source.watermark.as_ref().map(|watermark| (&watermark.event_time, &watermark.expr));
    let (name, kind, key) = (&source.name, source.kind, &source.primary_key);
    format!("{name} {kind:?} {key:?} {columns:?} {watermark:?} {}", source.append_only)
}

/// What of the settings is in the state.
fn settings(settings: &Settings) -> String {
    format!("{:?} {:?} {:?}", settings.allowed_lateness, settings.on_error, settings.state_ttl)
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(16).fold(String::with_capacity(32), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::{Properties, StateBound};

    fn node(column: &str, data_type: DataType) -> Node {
        let properties = Properties { append_only: true, time: vec![None], unique_key: None, state: StateBound::Stateless };
        let schema = Arc::new(Schema::new(vec![Field::new(column, data_type, true)]));
        Node { op: Op::Union, inputs: Vec::new(), schema, properties, span: None }
    }

    #[test]
    fn no_two_nodes_have_one_name_and_names_of_columns_are_no_difference() {
        let mut plan = Plan::default();
        for (column, data_type) in [("a", DataType::Int64), ("b", DataType::Int64), ("a", DataType::Utf8)] {
            plan.push(node(column, data_type));
        }
        let settings = Settings::default();
        let job = Job { sources: Vec::new(), plan, views: Vec::new(), sinks: Vec::new(), settings, warnings: Vec::new() };
        let names = fingerprints(&job);
        assert_eq!(names[1], format!("{}-2", names[0]));
        assert!(!names[2].contains('-') && names[2] != names[0]);
    }
}
