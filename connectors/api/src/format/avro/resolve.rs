//! A writer's schema against columns: decided once per schema, so that rows are read without asking again.

use arrow::datatypes::{DataType, Field as Column, FieldRef};

use super::schema::{Schema, Type, TypeId};
use crate::format::column::sql_type;
use crate::format::scalar::Scalar;

/// How the rows of a writer's schema are read into columns.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) schema: Schema,
    pub(crate) rows: Root,
}

/// What a message is.
#[derive(Debug)]
pub(crate) enum Root {
    /// A record, its fields the columns.
    Record(Record),
    /// A value for the only column.
    Value(Node),
    /// A change.
    Change(Envelope),
}

/// How the fields of a record are read, in the order in which they stand in it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) steps: Vec<Step>,
    /// Columns that no field fills.
    pub(crate) missing: Vec<usize>,
}

/// What becomes of a field.
#[derive(Debug)]
pub(crate) enum Step {
    Skip(TypeId),
    Read(usize, Node),
}

/// A change: `before`, `after` and `op` among other fields.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) steps: Vec<Part>,
    pub(crate) before: Optional,
    pub(crate) after: Optional,
}

/// A field of a change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Skip(TypeId),
    /// Text, or a union with it at this branch.
    Op(TypeId, Option<i64>),
    Before(TypeId),
    After(TypeId),
}

/// A row that may be absent.
#[derive(Debug)]
pub(crate) struct Optional {
    /// Which branch of its union it is; `None`: it is no union.
    pub(crate) branch: Option<i64>,
    pub(crate) record: Record,
}

/// How a value is read into a column.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Bool,
    Int(Scalar),
    Float,
    Double,
    Bytes(Scalar),
    Fixed {
        size: usize,
        scalar: Scalar,
    },
    Enum(Vec<String>),
    Array(Box<Node>),
    /// Values; keys are text.
    Map(Box<Node>),
    /// Branches; those that the column cannot take say why.
    Union(Vec<Result<Node, String>>),
    Record(Record),
}

/// Why a schema does not fit the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The column, with those it is in; empty if it is about the whole.
    pub(crate) column: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do.
    pub(crate) help: String,
}

impl Misfit {
    fn new(column: &str, what: impl Into<String>, help: impl Into<String>) -> Misfit {
        Misfit { column: column.to_owned(), what: what.into(), help: help.into() }
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.column.is_empty() {
            write!(f, "column '{}': ", self.column)?;
        }
        write!(f, "{}; {}", self.what, self.help)
    }
}

/// The columns that records are read into.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// All columns, with the place of each among those that are read.
    pub(crate) columns: Vec<(FieldRef, Option<usize>)>,
    /// Per column whether something stands in it where no field fills it.
    pub(crate) defaults: Vec<bool>,
    /// Whether a field that no column is declared for is a mistake.
    pub(crate) refuses_unknown: bool,
    /// The columns that must be filled: all but where only the key counts.
    pub(crate) key_only: Option<Vec<usize>>,
}

impl Plan {
    /// Resolves rows: records, or values if there is one column.
    pub(crate) fn rows(schema: Schema, target: &Target) -> Result<Plan, Misfit> {
        let resolver = Resolver { schema: &schema, target };
        let rows = match schema.get(schema.root()) {
            Type::Record { .. } => Root::Record(resolver.columns(schema.root())?),
            Type::Pending => unreachable!("a schema that was read has no type that was not"),
            _ => {
                let wanted = match &target.key_only {
                    Some(key) => target.columns.iter().filter(|(_, place)| place.is_some_and(|at| key.contains(&at))).collect(),
                    None => target.columns.iter().collect::<Vec<_>>(),
                };
                match &wanted[..] {
                    [(field, _)] => Root::Value(resolver.value(schema.root(), field, field.name())?),
                    _ => {
                        let what = format!("a message is {}, which cannot be several columns", schema.name(schema.root()));
                        return Err(Misfit::new("", what, "declare one column"));
                    }
                }
            }
        };
        Ok(Plan { rows, schema })
    }

    /// Resolves changes.
    pub(crate) fn changes(schema: Schema, target: &Target) -> Result<Plan, Misfit> {
        let resolver = Resolver { schema: &schema, target };
        let rows = Root::Change(resolver.envelope(schema.root())?);
        Ok(Plan { rows, schema })
    }
}

struct Resolver<'a> {
    schema: &'a Schema,
    target: &'a Target,
}

impl Resolver<'_> {
    /// A record into the columns.
    fn columns(&self, id: TypeId) -> Result<Record, Misfit> {
        let Type::Record { name, fields } = self.schema.get(id) else { unreachable!("the caller looked") };
        let Target { columns, defaults, refuses_unknown, key_only } = self.target;
        let names: Vec<&str> = columns.iter().map(|(field, _)| field.name().as_str()).collect();
        let mut filled = vec![false; columns.len()];
        let mut steps = Vec::with_capacity(fields.len());
        for field in fields {
            let step = match place(&names, &field.name, fields.iter().map(|field| field.name.as_str())) {
                None if *refuses_unknown => {
                    let what = format!("no column is declared for the field '{}' of record {name}", field.name);
                    return Err(Misfit::new("", what, "declare one, or say ignore_unknown_fields = 'true'"));
                }
                None => Step::Skip(field.kind),
                Some(at) if filled[at] => Step::Skip(field.kind),
                Some(at) => {
                    filled[at] = true;
                    let (column, used) = &columns[at];
                    let node = self.value(field.kind, column, column.name())?;
                    used.map_or(Step::Skip(field.kind), |used| Step::Read(used, node))
                }
            };
            steps.push(step);
        }
        let mut missing = Vec::new();
        for (at, (column, used)) in columns.iter().enumerate().filter(|(at, _)| !filled[*at]) {
            let needed = match key_only {
                None => !column.is_nullable() && !defaults.get(at).copied().unwrap_or(false),
                Some(key) => used.is_some_and(|used| key.contains(&used)),
            };
            if needed {
                let what = format!("it is NOT NULL, and record {name} has no such field");
                let there: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                let help = format!("there are: {}; give it a DEFAULT, or declare it without NOT NULL", there.join(", "));
                return Err(Misfit::new(column.name(), what, help));
            }
            missing.extend(*used);
        }
        Ok(Record { steps, missing })
    }

    fn envelope(&self, id: TypeId) -> Result<Envelope, Misfit> {
        let wrong = |what: String| Misfit::new("", what, "format 'debezium-avro' reads records with before, after and op");
        let Type::Record { name, fields } = self.schema.get(id) else {
            return Err(wrong(format!("a message is {}, no change", self.schema.name(id))));
        };
        let (mut before, mut after, mut op) = (None, None, false);
        let mut steps = Vec::with_capacity(fields.len());
        for field in fields {
            steps.push(match field.name.as_str() {
                "op" => {
                    let text = |id: &TypeId| matches!(self.schema.get(*id), Type::Bytes(Scalar::Text));
                    let branch = match self.schema.get(field.kind) {
                        Type::Union(branches) => branches.iter().position(text).map(|branch| Some(branch as i64)),
                        _ => text(&field.kind).then_some(None),
                    };
                    op = true;
                    Part::Op(field.kind, branch.ok_or_else(|| wrong(format!("'op' of record {name} is no string")))?)
                }
                "before" => {
                    before = Some(self.optional(field.kind)?);
                    Part::Before(field.kind)
                }
                "after" => {
                    after = Some(self.optional(field.kind)?);
                    Part::After(field.kind)
                }
                _ => Part::Skip(field.kind),
            });
        }
        match (before, after, op) {
            (Some(before), Some(after), true) => Ok(Envelope { steps, before, after }),
            _ => Err(wrong(format!("record {name} lacks 'before', 'after' or 'op'"))),
        }
    }

    /// A record, or a union of null and one.
    fn optional(&self, id: TypeId) -> Result<Optional, Misfit> {
        let is_record = |id: &TypeId| matches!(self.schema.get(*id), Type::Record { .. });
        let (branch, id) = match self.schema.get(id) {
            Type::Union(branches) => match branches.iter().position(is_record) {
                Some(at) => (Some(at as i64), branches[at]),
                None => (None, id),
            },
            _ => (None, id),
        };
        if !is_record(&id) {
            let what = format!("a row of the change is {}, no record", self.schema.name(id));
            return Err(Misfit::new("", what, "format 'debezium-avro' reads records with before, after and op"));
        }
        Ok(Optional { branch, record: self.columns(id)? })
    }

    /// A value into a column.
    fn value(&self, id: TypeId, field: &Column, path: &str) -> Result<Node, Misfit> {
        let misfit = |help: String| {
            let what = format!("it has type {}, and its field is {}", sql_type(field.data_type()), self.schema.name(id));
            Misfit::new(path, what, help)
        };
        let scalar = |scalar: Scalar, node: Node| match scalar.fits(field.data_type()) {
            true => Ok(node),
            false => Err(misfit(format!("declare it as {}", scalar.remedy()))),
        };
        match self.schema.get(id) {
            Type::Null => Ok(Node::Null),
            Type::Pending => unreachable!("a schema that was read has no type that was not"),
            Type::Bool => scalar(Scalar::Bool, Node::Bool),
            Type::Int(of, _) => scalar(*of, Node::Int(*of)),
            Type::Float => scalar(Scalar::Float, Node::Float),
            Type::Double => scalar(Scalar::Double, Node::Double),
            Type::Bytes(of) => scalar(*of, Node::Bytes(*of)),
            Type::Fixed { size, scalar: of, .. } => scalar(*of, Node::Fixed { size: *size, scalar: *of }),
            Type::Enum(symbols) => scalar(Scalar::Text, Node::Enum(symbols.clone())),
            Type::Array(item) => match field.data_type() {
                DataType::List(own) => Ok(Node::Array(Box::new(self.value(*item, own, path)?))),
                _ => Err(misfit("declare it as an array, such as VARCHAR[]".to_owned())),
            },
            Type::Map(value) => match field.data_type() {
                DataType::Map(entries, _) => match entries.data_type() {
                    DataType::Struct(entry) if entry.len() == 2 && Scalar::Text.fits(entry[0].data_type()) => {
                        Ok(Node::Map(Box::new(self.value(*value, &entry[1], path)?)))
                    }
                    _ => Err(misfit("declare it as MAP<VARCHAR, ..>".to_owned())),
                },
                _ => Err(misfit("declare it as MAP<VARCHAR, ..>".to_owned())),
            },
            Type::Union(branches) => {
                let nodes: Vec<_> = branches.iter().map(|branch| self.value(*branch, field, path)).collect();
                let fit = |node: &Result<Node, Misfit>| matches!(node, Ok(node) if !matches!(node, Node::Null));
                let misfit = nodes.iter().find_map(|node| node.as_ref().err());
                match misfit {
                    Some(misfit) if !nodes.iter().any(fit) => Err(misfit.clone()),
                    _ => Ok(Node::Union(nodes.into_iter().map(|node| node.map_err(|misfit| misfit.what)).collect())),
                }
            }
            Type::Record { name, fields } => match field.data_type() {
                DataType::Struct(children) => self.record(name, fields, children, path).map(Node::Record),
                _ => Err(misfit("declare it as ROW<..> with the fields that are read".to_owned())),
            },
        }
    }

    fn record(&self, name: &str, fields: &[super::schema::Field], children: &[FieldRef], path: &str) -> Result<Record, Misfit> {
        let names: Vec<&str> = children.iter().map(|child| child.name().as_str()).collect();
        let mut filled = vec![false; children.len()];
        let mut steps = Vec::with_capacity(fields.len());
        for field in fields {
            let found = place(&names, &field.name, fields.iter().map(|field| field.name.as_str()));
            steps.push(match found {
                None => Step::Skip(field.kind),
                Some(at) if filled[at] => Step::Skip(field.kind),
                Some(at) => {
                    filled[at] = true;
                    let child = &children[at];
                    Step::Read(at, self.value(field.kind, child, &format!("{path}.{}", child.name()))?)
                }
            });
        }
        let missing: Vec<usize> = (0..children.len()).filter(|at| !filled[*at]).collect();
        if let Some(at) = missing.iter().find(|at| !children[**at].is_nullable()) {
            let what = format!("it is NOT NULL, and record {name} has no such field");
            return Err(Misfit::new(&format!("{path}.{}", names[*at]), what, "declare it without NOT NULL"));
        }
        Ok(Record { steps, missing })
    }
}

/// The column for a field: of its name, or else the only one of this name but for its case, unless that one has a field of its
/// own.
pub(crate) fn place<'a>(columns: &[&str], field: &str, mut fields: impl Iterator<Item = &'a str>) -> Option<usize> {
    if let Some(at) = columns.iter().position(|column| *column == field) {
        return Some(at);
    }
    let mut others = columns.iter().enumerate().filter(|(_, column)| column.eq_ignore_ascii_case(field));
    match (others.next(), others.next()) {
        (Some((at, column)), None) if !fields.any(|other| other == *column) => Some(at),
        _ => None,
    }
}
