//! Names for what the operators of a job keep, by what made it and not by where it stands in the plan: equal names are equal
//! sub-plans over equal sources, in whatever job. State is saved under them, so that a job that was changed elsewhere finds it.
//!
//! A source goes by its name and by how its rows come to be, not by where they are read from: a broker that has moved is the
//! same source. (Whether another topic is read is compared where state is restored, beside the positions.) Of its columns only those count that an operator reads: that another operator of the job reads more of them
//! makes no difference to this one.

use std::collections::HashMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::sharing::as_columns;
use crate::{Job, Map, Node, Op, Plan, Settings, Source};

/// Per node of a job's plan its name: 32 hexadecimal digits, and behind them which one it is of nodes that differ in nothing
/// but the names of their columns. No two are equal.
pub fn fingerprints(job: &Job) -> Vec<String> {
    let settings = settings(&job.settings);
    let mut met: HashMap<String, usize> = HashMap::new();
    let numbered = |named: Named| {
        let same = met.entry(named.name.clone()).or_default();
        *same += 1;
        if *same == 1 { named.name } else { format!("{}-{same}", named.name) }
    };
    of_plan(&job.plan, &job.sources, &settings).into_iter().map(numbered).collect()
}

/// What a node goes by.
struct Named {
    name: String,
    /// What it gives, if it is columns of a source's rows and nothing more.
    columns: Option<Columns>,
}

/// Columns of what a source gives.
struct Columns {
    of: String,
    /// Each with all that is said of it.
    said: Vec<String>,
}

impl Columns {
    fn named(self, settings: &str) -> Named {
        Named { name: digest(&format!("{:?} of {}\n{settings}", self.said, self.of)), columns: Some(self) }
    }
}

fn of_plan(plan: &Plan, sources: &[Source], settings: &str) -> Vec<Named> {
    let mut all: Vec<Named> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let named = match &node.op {
            Op::Source { source, .. } => Some(of_source("rows", &sources[*source], settings)),
            Op::Versions { source, .. } => Some(of_source("versions", &sources[*source], settings)),
            Op::Map(map) => of_map(map, node, &all[node.inputs[0]], sources, settings),
            _ => None,
        };
        let named = named.unwrap_or_else(|| {
            let inputs: Vec<&str> = node.inputs.iter().map(|input| all[*input].name.as_str()).collect();
            let name = digest(&format!("{}\n{settings}\n{}", describe(node, sources, settings), inputs.join("\n")));
            Named { name, columns: None }
        });
        all.push(named);
    }
    all
}

/// A source's rows, with all columns that the job reads.
fn of_source(what: &str, source: &Source, settings: &str) -> Named {
    let said = |column: &usize| {
        let field = &source.schema.fields()[*column];
        let default = source.defaults.get(*column).cloned().flatten();
        let metadata = source.metadata.get(*column).cloned().flatten();
        format!("{} {:?} {} {default:?} {metadata:?}", field.name(), field.data_type(), field.is_nullable())
    };
    let said = source.used.iter().map(said).collect();
    Columns { of: format!("{what} {}", identity(source)), said }.named(settings)
}

/// A map of a source's rows, by the columns that it reads; `None` if its text cannot tell which they are.
fn of_map(map: &Map, node: &Node, input: &Named, sources: &[Source], settings: &str) -> Option<Named> {
    let columns = input.columns.as_ref()?;
    if let Some(taken) = as_columns(map, columns.said.len()) {
        let said = taken.iter().map(|column| columns.said[*column].clone()).collect();
        return Some(Columns { of: columns.of.clone(), said }.named(settings));
    }
    let width = if map.exprs.is_none() { format!("all {:?}", columns.said) } else { String::new() };
    let text = with_names(&describe(node, sources, settings), |column| columns.said.get(column).cloned())?;
    let name = digest(&format!("{text} {width} of {}\n{settings}", columns.of));
    Some(Named { name, columns: None })
}

/// The text with what is said of columns in place of their positions (`#0`); `None` if one may be part of a literal: that would
/// stand for whichever column happens to be there.
fn with_names(text: &str, said: impl Fn(usize) -> Option<String>) -> Option<String> {
    let mut named = String::with_capacity(2 * text.len());
    let (mut rest, mut quote) = (text, None);
    while let Some(at) = rest.find(['#', '\'', '"']) {
        let (before, found) = rest.split_at(at);
        let mark = found.chars().next()?;
        named.push_str(before);
        rest = &found[1..];
        match (mark, quote) {
            ('#', Some(_)) => return None,
            ('#', None) => {
                let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let column = rest[..digits].parse().ok().and_then(&said)?;
                let _ = write!(named, "{{{column}}}");
                rest = &rest[digits..];
                continue;
            }
            (mark, None) => quote = Some(mark),
            (mark, Some(open)) if mark == open => quote = None,
            _ => {}
        }
        named.push(mark);
    }
    named.push_str(rest);
    quote.is_none().then_some(named)
}

/// What a node does, without places, names of columns, or positions in the plan.
fn describe(node: &Node, sources: &[Source], settings: &str) -> String {
    let mut text = match &node.op {
        Op::Recursion { recursion, output } => {
            let body = of_plan(&recursion.body, sources, settings);
            let roots: Vec<&str> = recursion.bindings.iter().map(|binding| body[binding.root].name.as_str()).collect();
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
    with_sources(&text, sources)
}

/// The text with the names of sources in place of their positions: another source may have come before them.
fn with_sources(text: &str, sources: &[Source]) -> String {
    const BEFORE: &str = "TimeSource { source: ";
    let mut parts = text.split(BEFORE);
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(',').unwrap_or(part.len());
        match part[..end].parse::<usize>().ok().and_then(|source| sources.get(source)) {
            Some(source) => {
                let _ = write!(named, "{BEFORE}{:?}{}", source.name, &part[end..]);
            }
            None => {
                let _ = write!(named, "{BEFORE}{part}");
            }
        }
    }
    named
}

/// What makes a source's rows what they are, its columns apart.
fn identity(source: &Source) -> String {
    let name_of = |column: &usize| source.schema.fields()[*column].name().clone();
    let used: Vec<String> = source.used.iter().map(name_of).collect();
    let watermark = source.watermark.as_ref().map(|watermark| {
        let text = format!("{:?} {:?}", watermark.event_time, watermark.expr);
        with_names(&text, |column| used.get(column).cloned()).unwrap_or_else(|| format!("{text} {used:?}"))
    });
    let key: Vec<String> = source.primary_key.iter().map(name_of).collect();
    format!("{} {:?} {key:?} {watermark:?} {}", source.name, source.kind, source.append_only)
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
    #[test]
    fn columns_in_texts_get_names_and_literals_that_read_like_columns_get_none() {
        let named = |text: &str| with_names(text, |column| ["a", "b"].get(column).map(|name| (*name).to_owned()));
        assert_eq!(named("(#1 + 1: Int64) AND #0 = 'x'").as_deref(), Some("({b} + 1: Int64) AND {a} = 'x'"));
        for unclear in ["#0 = '#1'", "#2", "# 1", "#0 = 'it's #1'", "\"it's #1\""] {
            assert_eq!(named(unclear), None, "{unclear}");
        }
    }

    fn source(columns: &[&str], used: &[usize]) -> Source {
        let fields: Vec<Field> = columns.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        Source {
            name: "s".into(),
            kind: crate::SourceKind::Source,
            schema: Arc::new(Schema::new(fields)),
            used: used.to_vec(),
            primary_key: Vec::new(),
            defaults: Vec::new(),
            metadata: Vec::new(),
            append_only: true,
            watermark: None,
            options: crate::Options::default(),
            keeps_late_rows: false,
            span: None,
        }
    }

    fn reads(source: Source, columns: &[usize]) -> Job {
        let mut plan = Plan::default();
        let mut read = node("s", DataType::Int64);
        read.op = Op::Source { source: 0, projection: source.used.clone() };
        let mut node = node("s", DataType::Int64);
        let exprs = columns.iter().map(|column| crate::Expr::column(*column, DataType::Int64, true)).collect();
        node.op = Op::Map(Map { filters: Vec::new(), exprs: Some(exprs) });
        node.inputs = vec![plan.push(read)];
        plan.push(node);
        let settings = Settings::default();
        Job { sources: vec![source], plan, views: Vec::new(), sinks: Vec::new(), settings, warnings: Vec::new() }
    }

    #[test]
    fn a_column_more_makes_a_difference_to_those_who_read_it() {
        let before = reads(source(&["a", "b"], &[0, 1]), &[1]);
        let after = reads(source(&["a", "new", "b"], &[0, 1, 2]), &[2]);
        let (before, after) = (fingerprints(&before), fingerprints(&after));
        assert_ne!(before[0], after[0], "what is kept of the source has one more column");
        assert_eq!(before[1], after[1]);
        assert_ne!(fingerprints(&reads(source(&["a", "new", "b"], &[0, 1, 2]), &[1]))[1], after[1]);
    }
}
