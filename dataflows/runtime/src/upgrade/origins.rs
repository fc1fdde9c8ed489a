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
    /// Whether it has grown since, by what was read from the beginning wherever it starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) grown: bool,
    /// Which of the options its connector knows as [several](highwater_connectors::source::SourceConnector::origins).
    #[serde(skip)]
    pub(crate) several: BTreeSet<String>,
}

/// What a source reads besides, since it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grown {
    /// What it read then.
    pub(crate) was: Vec<String>,
    /// In words for people.
    pub(crate) how: String,
}

impl Whence {
    pub(crate) fn of(source: &highwater_plan::Source, registry: &Registry) -> Whence {
        let option = |key: &str| source.options.get(key).map(|value| value.trim().to_owned());
        let connector = registry.sources().find(|connector| Some(connector.name()) == source.options.get("connector"));
        let keys = connector.map(|connector| connector.origin()).unwrap_or_default();
        let several = connector.map(|connector| connector.origins()).unwrap_or_default();
        Whence {
            options: keys.iter().filter_map(|key| Some(((*key).to_owned(), option(key)?))).collect(),
            start: option(START),
            grown: false,
            several: several.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    /// The options that differ, more of several apart, with what they were and what they are.
    fn compared<'a>(&'a self, was: &'a Whence) -> impl Iterator<Item = (&'a String, Option<&'a String>, Option<&'a String>)> {
        let keys: BTreeSet<&String> = self.options.keys().chain(was.options.keys()).collect();
        let both = keys.into_iter().map(|key| (key, was.options.get(key), self.options.get(key)));
        both.filter(|(_, was, is)| was != is)
    }

    /// Whether one has all that the other names.
    fn has_all(&self, key: &str, was: Option<&String>, is: Option<&String>) -> bool {
        let (Some(was), Some(is)) = (was, is) else { return false };
        self.several.contains(key) && names(was).is_subset(&names(is))
    }

    /// How it differs, in words for people; the start apart.
    fn differs(&self, was: &Whence) -> Option<String> {
        let said = |option: Option<&String>| option.map_or_else(|| "not given".into(), |value| format!("'{value}'"));
        let differs = self.compared(was).filter(|(key, was, is)| !self.has_all(key, *was, *is));
        let differs: Vec<String> =
            differs.map(|(key, was, is)| format!("{key} was {} and is {} now", said(was), said(is))).collect();
        (!differs.is_empty()).then(|| differs.join(", "))
    }

    /// What it reads besides.
    fn grown(&self, was: &Whence) -> Option<Grown> {
        let (key, was, is) = self.compared(was).find(|(key, was, is)| self.has_all(key, *was, *is))?;
        let (was, is) = (names(was?), names(is?));
        let more: Vec<String> = is.difference(&was).map(|name| format!("'{name}'")).collect();
        let how = format!("reads {key} {} besides, from the beginning", more.join(", "));
        (!more.is_empty()).then(|| Grown { was: was.into_iter().map(str::to_owned).collect(), how })
    }
}

/// What an option names, separated by commas.
fn names(option: &str) -> BTreeSet<&str> {
    option.split(',').map(str::trim).collect()
}

/// Both sides of the sources that were known.
fn both<'a>(known: &'a [SourceMeta], now: &'a [SourceMeta]) -> impl Iterator<Item = (&'a SourceMeta, &'a Whence, &'a Whence)> {
    now.iter().filter_map(|now| {
        let known = known.iter().find(|known| known.name == now.name && known.connector == now.connector)?;
        Some((now, now.whence.as_ref()?, known.whence.as_ref()?))
    })
}

/// Sources by whose name another one is read now, each with how it differs. An older version did not save what it read.
pub(crate) fn moved(known: &[SourceMeta], now: &[SourceMeta]) -> BTreeMap<String, String> {
    both(known, now).filter_map(|(source, is, was)| Some((source.name.clone(), is.differs(was)?))).collect()
}

/// Sources that read more than they did, and are the same otherwise.
pub(crate) fn grown(known: &[SourceMeta], now: &[SourceMeta]) -> BTreeMap<String, Grown> {
    let same = both(known, now).filter(|(_, is, was)| is.differs(was).is_none());
    same.filter_map(|(source, is, was)| Some((source.name.clone(), is.grown(was)?))).collect()
}

/// Why a source cannot be read from its start as it was read then, in words for people, with what can be done.
pub(crate) fn other_start(known: &[SourceMeta], now: &SourceMeta) -> Option<String> {
    let was = known.iter().find(|known| known.name == now.name)?.whence.as_ref()?;
    let is = now.whence.as_ref()?;
    let said = |start: &Option<String>| start.as_ref().map_or("its default".into(), |start| format!("'{start}'"));
    let began = said(&was.start);
    if was.start != is.start {
        return Some(format!("its start was {began} and is {} now (write it as it was)", said(&is.start)));
    }
    let begins_late = was.grown && was.start.as_ref().is_some_and(|start| start != "earliest");
    let remedy = "begin what is new under another name, or all with --fresh";
    begins_late.then(|| format!("it began at {began}, and what it reads besides since at the beginning ({remedy})"))
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
        let several = BTreeSet::from(["topic".to_owned()]);
        let whence = Some(Whence { options, start: start.map(str::to_owned), grown: false, several });
        SourceMeta { name: name.into(), connector: "kafka".into(), columns: Vec::new(), used: Vec::new(), whence }
    }

    #[test]
    fn another_origin_is_told_by_its_options_and_a_start_is_none() {
        let was = [source("s", &[("topic", "a")], None), source("t", &[("topic", "x")], Some("latest"))];
        let now = [source("s", &[("topic", "b")], None), source("t", &[("topic", "x")], None), source("new", &[], None)];
        let expected = BTreeMap::from([("s".to_owned(), "topic was 'a' and is 'b' now".to_owned())]);
        assert_eq!(moved(&was, &now), expected);
        assert_eq!(other_start(&was, &now[0]), None);
        let differs = "its start was 'latest' and is its default now (write it as it was)";
        assert_eq!(other_start(&was, &now[1]).as_deref(), Some(differs));
        assert_eq!(other_start(&was, &now[2]), None);
        assert_eq!(moved(&was, &[source("s", &[], None)])["s"], "topic was 'a' and is not given now");
        let older = [SourceMeta { whence: None, ..was[0].clone() }];
        assert_eq!((moved(&older, &now).len(), other_start(&older, &now[0])), (0, None));
        let text = serde_json::to_string(&older).unwrap().replace(",\"whence\":null", "");
        assert_eq!(serde_json::from_str::<Vec<SourceMeta>>(&text).unwrap(), older);
    }

    #[test]
    fn a_source_that_reads_more_is_the_same() {
        let of = |topic: &str| [source("s", &[("topic", topic)], None)];
        let (was, same) = (of("b,a"), of("a, b"));
        assert!(moved(&was, &same).is_empty() && grown(&was, &same).is_empty());
        let more = of("a,c, b");
        assert!(moved(&was, &more).is_empty());
        let how = "reads topic 'c' besides, from the beginning".to_owned();
        let expected = Grown { was: vec!["a".into(), "b".into()], how };
        assert_eq!(grown(&was, &more), BTreeMap::from([("s".to_owned(), expected)]));
        // What was added was read from its beginning, wherever the others were.
        let mut begun = source("s", &[("topic", "a,b")], Some("0:3"));
        assert_eq!(other_start(&[begun.clone()], &begun), None);
        begun.whence.as_mut().unwrap().grown = true;
        let why = other_start(&[begun.clone()], &begun).unwrap();
        assert!(why.contains("it began at '0:3', and what it reads besides since at the beginning"), "{why}");
        begun.whence.as_mut().unwrap().start = Some("earliest".into());
        assert_eq!(other_start(&[begun.clone()], &begun), None);
        // One less is another one, and so is a path with a comma.
        assert_eq!(moved(&more, &was)["s"], "topic was 'a,c, b' and is 'b,a' now");
        assert!(grown(&more, &was).is_empty());
        let path = |path: &str| [source("s", &[("path", path)], None)];
        assert_eq!((moved(&path("a"), &path("a,b")).len(), grown(&path("a"), &path("a,b")).len()), (1, 0));
        let both = [source("s", &[("topic", "a,b"), ("path", "x")], None)];
        assert_eq!((moved(&of("a"), &both).len(), grown(&of("a"), &both).len()), (1, 0));
    }
}
