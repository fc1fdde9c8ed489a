//! What queries can name: columns with their types, and what they mean for time.

/// A column's type, as far as queries care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    BigInt,
    Int,
    Varchar,
    Double,
    Decimal,
    Boolean,
    Timestamp,
}

/// What a timestamp column says of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    None,
    /// It has a watermark.
    Event,
    /// The start of windows of this length (milliseconds).
    Start(i64),
    /// The end of windows of this length (milliseconds).
    End(i64),
    /// About the moment at which the job runs; without a watermark.
    Clock,
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// As it is written in a query: with its qualifier, if it needs one.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) role: Role,
}

impl Column {
    /// Whether a watermark says something of it.
    pub(super) fn is_timed(&self) -> bool {
        matches!(self.role, Role::Event | Role::Start(_) | Role::End(_))
    }
}

/// A relation.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// As it is written in a FROM.
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// How many views stand between it and the sources.
    pub(super) depth: usize,
}

impl Relation {
    /// Its columns, qualified.
    pub(super) fn columns_of(&self, alias: &str) -> Vec<Column> {
        self.columns.iter().map(|column| Column { name: format!("{alias}.{}", column.name), ..column.clone() }).collect()
    }

    /// A column that the clock passes while the job runs.
    pub(super) fn clock(&self) -> Option<&Column> {
        self.columns.iter().find(|column| column.role == Role::Clock)
    }

    /// Whether a watermark bounds one of its columns.
    pub(super) fn event_time(&self) -> Option<&Column> {
        self.columns.iter().find(|column| column.role == Role::Event)
    }

    /// The length of its windows, if both bounds are columns.
    pub(super) fn windows(&self) -> Option<i64> {
        self.columns.iter().find_map(|column| match column.role {
            Role::End(size) if self.columns.iter().any(|other| other.role == Role::Start(size)) => Some(size),
            _ => None,
        })
    }
}
