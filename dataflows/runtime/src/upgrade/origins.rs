//! Where sources come from: what a position is a position of. It is saved beside the positions, so that another topic or file
//! under the same name does not go on in the middle, with state that was made of the first.

use std::collections::{BTreeMap, BTreeSet};

use highwater_connectors::Registry;
use highwater_engine::OperatorId;
use highwater_plan::{Job, Op, OutputNames};
use serde::{Deserialize, Serialize};

use super::SourceMeta;

/// The option that says where reading starts without a checkpoint.
const START: &str = "start";

/// What is saved of where a source's rows come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whence {
    /// The options that its connector [names](highwater_connectors::source::SourceConnector::origin), those that are given.
    pub(crate) options: BTreeMap<String, String>,
    /// Where reading started when nothing was saved yet; `None`: where it does if nothing is said.
    pub(crate) start: Option<String>,
}

impl Whence {
    pub(crate) fn of(source: &highwater_plan::Source, registry: &Registry) -> Whence {
        let option = |key: &str| source.options.get(key).map(|value| value.trim().to_owned());
        let connector = registry.sources().find(|connector| Some(connector.name()) == source.options.get("connector"));
        let keys = connector.map(|connector| connector.origin()).unwrap_or_default();
        Whence { options: keys.iter().filter_map(|key| Some(((*key).to_owned(), option(key)?))).collect(), start: option(START) }
    }

    /// How it differs, in words for people; the start apart.
    fn differs(&self, was: &Whence) -> Option<String> {
        let keys: BTreeSet<&String> = self.options.keys().chain(was.options.keys()).collect();
        let said = |options: &BTreeMap<String, String>, key: &str| match options.get(key) {
            Some(value) => format!("'{value}'"),
            None => "not given".into(),
        };
        let differs = keys.into_iter().filter(|key| self.options.get(*key) != was.options.get(*key));
        let differs: Vec<String> =
            differs.map(|key| format!("{key} was {} and is {} now", said(&was.options, key), said(&self.options, key))).collect();
        (!differs.is_empty()).then(|| differs.join(", "))
    }
}

/// Sources by whose name another one is read now, each with how it differs. An older version did not save what it read.
pub(crate) fn moved(known: &[SourceMeta], now: &[SourceMeta]) -> BTreeMap<String, String> {
    let differs = |now: &SourceMeta| {
        let known = known.iter().find(|known| known.name == now.name && known.connector == now.connector)?;
        let differs = now.whence.as_ref()?.differs(known.whence.as_ref()?)?;
        Some((now.name.clone(), differs))
    };
    now.iter().filter_map(differs).collect()
}

/// The start that was saved of a source and the one that it has now, in words for people, if they differ.
pub(crate) fn other_start(known: &[SourceMeta], now: &SourceMeta) -> Option<String> {
    let was = known.iter().find(|known| known.name == now.name)?.whence.as_ref()?;
    let is = now.whence.as_ref()?;
    let said = |start: &Option<String>| start.as_ref().map_or("its default".into(), |start| format!("'{start}'"));
    (was.start != is.start).then(|| format!("its start was {} and is {} now", said(&was.start), said(&is.start)))
}

/// What state is of certain sources.
pub(super) struct Downstream {
    sources: BTreeSet<usize>,
    nodes: BTreeSet<usize>,
    /// Per relation that comes with a source of the job, whether it is of one of them.
    relations: BTreeMap<String, bool>,
}

impl Downstream {
    pub(super) fn of<'a>(job: &Job, sources: impl Iterator<Item = &'a String> + Clone) -> Downstream {
        let mut nodes = BTreeSet::new();
        for (id, node) in job.plan.nodes.iter().enumerate() {
            let read = match node.op {
                Op::Source { source, .. } | Op::Versions { source, .. } => {
                    sources.clone().any(|name| *name == job.sources[source].name)
                }
                _ => node.inputs.iter().any(|input| nodes.contains(input)),
            };
            if read {
                nodes.insert(id);
            }
        }
        let mut relations = BTreeMap::new();
        for source in &job.sources {
            let is_one = sources.clone().any(|name| *name == source.name);
            for relation in [OutputNames::late(&source.name), OutputNames::rejects(&source.name)] {
                relations.insert(format!("rows of {relation}"), is_one);
            }
        }
        let index = |name: &String| job.sources.iter().position(|source| source.name == *name);
        Downstream { sources: sources.filter_map(index).collect(), nodes, relations }
    }

    pub(super) fn has(&self, operator: &OperatorId) -> bool {
        // A source's relations go by its name, whichever node refuses its rows.
        self.relations.get(&operator.name).copied().unwrap_or_else(|| self.nodes.contains(&operator.node))
    }

    /// Whether a source is one of them.
    pub(super) fn has_source(&self, index: usize) -> bool {
        self.sources.contains(&index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, options: &[(&str, &str)], start: Option<&str>) -> SourceMeta {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let whence = Some(Whence { options, start: start.map(str::to_owned) });
        SourceMeta { name: name.into(), connector: "kafka".into(), columns: Vec::new(), used: Vec::new(), whence }
    }

    #[test]
    fn another_origin_is_told_by_its_options_and_a_start_is_none() {
        let was = [source("s", &[("topic", "a")], None), source("t", &[("topic", "x")], Some("latest"))];
        let now = [source("s", &[("topic", "b")], None), source("t", &[("topic", "x")], None), source("new", &[], None)];
        let expected = BTreeMap::from([("s".to_owned(), "topic was 'a' and is 'b' now".to_owned())]);
        assert_eq!(moved(&was, &now), expected);
        assert_eq!(other_start(&was, &now[0]), None);
        assert_eq!(other_start(&was, &now[1]).as_deref(), Some("its start was 'latest' and is its default now"));
        assert_eq!(other_start(&was, &now[2]), None);
        assert_eq!(moved(&was, &[source("s", &[], None)])["s"], "topic was 'a' and is not given now");
        let older = [SourceMeta { whence: None, ..was[0].clone() }];
        assert_eq!((moved(&older, &now).len(), other_start(&older, &now[0])), (0, None));
        let text = serde_json::to_string(&older).unwrap().replace(",\"whence\":null", "");
        assert_eq!(serde_json::from_str::<Vec<SourceMeta>>(&text).unwrap(), older);
    }
}
