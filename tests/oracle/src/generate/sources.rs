//! Random sources and tables.

use super::Random;
use super::names::{Column, Kind, Relation, Role};
use crate::script::DUE;

/// What a relation's rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// They only come.
    Grows,
    /// They come and are retracted.
    Retracts,
    /// They replace the row with the same key.
    Upserts {
        /// How many of the first columns are the key.
        key: usize,
    },
}

/// A declared source or table.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) relation: Relation,
    pub(super) behaviour: Behaviour,
    /// SQL types of the columns.
    types: Vec<String>,
    /// Milliseconds that rows may be out of order; `None`: no watermark.
    pub(super) bound_ms: Option<i64>,
    /// About where event times begin.
    pub(super) base_ms: i64,
    /// Whether there is a column [`MOMENT`], which nobody gives: processing time.
    stamped: bool,
}

/// The column that says when a row came.
pub(super) const MOMENT: &str = "moment";

impl Declared {
    /// Whether its timestamps are whole seconds.
    pub(super) fn counts_seconds(&self) -> bool {
        self.types.iter().any(|sql| sql == "TIMESTAMP(0)")
    }

    /// What queries can name of it.
    pub(super) fn named(&self) -> Relation {
        let mut relation = self.relation.clone();
        if self.stamped {
            relation.columns.push(Column { name: MOMENT.into(), kind: Kind::Timestamp, role: Role::None });
        }
        relation
    }

    /// How many columns its key has, if it has one.
    pub(super) fn keys(&self) -> Option<usize> {
        match self.behaviour {
            Behaviour::Upserts { key } => Some(key),
            _ => None,
        }
    }

    /// `CREATE SOURCE ...`.
    pub(super) fn statement(&self) -> String {
        let mut parts: Vec<String> =
            self.relation.columns.iter().zip(&self.types).map(|(column, sql)| format!("{} {sql}", column.name)).collect();
        if let Behaviour::Upserts { key } = self.behaviour {
            let key: Vec<&str> = self.relation.columns[..key].iter().map(|column| column.name.as_str()).collect();
            parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        }
        if self.stamped {
            parts.push(format!("{MOMENT} AS PROCTIME()"));
        }
        if let Some(bound) = self.bound_ms {
            let interval = super::query::interval(bound);
            parts.push(format!("WATERMARK FOR ts AS ts - {interval}"));
        }
        let (what, format) = match self.behaviour {
            Behaviour::Grows => ("SOURCE", "json"),
            Behaviour::Retracts => ("TABLE", "changelog"),
            Behaviour::Upserts { .. } => ("TABLE", "json"),
        };
        let columns = parts.join(", ");
        format!("CREATE {what} {} ({columns}) WITH (connector = 'http', format = '{format}')", self.relation.name)
    }
}

/// One or two streams, and perhaps tables.
pub(super) fn declare(random: &mut Random) -> Vec<Declared> {
    let mut declared = vec![stream(random, "s1")];
    if random.chance(45) {
        declared.push(stream(random, "s2"));
    }
    if random.chance(55) {
        declared.push(changelog(random));
    }
    if random.chance(50) {
        declared.push(keyed(random));
    }
    declared
}

const PAYLOAD: [(&str, Kind, &str); 6] = [
    ("k", Kind::BigInt, "BIGINT"),
    ("n", Kind::Int, "INT"),
    ("tag", Kind::Varchar, "VARCHAR"),
    ("x", Kind::Double, "DOUBLE"),
    ("d", Kind::Decimal, "DECIMAL(10, 2)"),
    ("ok", Kind::Boolean, "BOOLEAN"),
];

/// Some of the payload columns, the first always, up to `most`.
fn payload(random: &mut Random, least: usize, most: usize) -> (Vec<Column>, Vec<String>) {
    let wanted = random.range(least as i64, most as i64) as usize;
    let mut chosen: Vec<usize> = vec![0];
    while chosen.len() < wanted {
        let next = 1 + random.below(PAYLOAD.len() - 1);
        if !chosen.contains(&next) {
            chosen.push(next);
        }
    }
    chosen.sort_unstable();
    let columns = chosen.iter().map(|index| {
        let (name, kind, sql) = PAYLOAD[*index];
        (Column { name: name.into(), kind, role: Role::None }, sql.to_string())
    });
    columns.unzip()
}

fn with_time(random: &mut Random, columns: &mut Vec<Column>, types: &mut Vec<String>, watermark: bool) -> Option<i64> {
    let role = if watermark { Role::Event } else { Role::None };
    columns.push(Column { name: "ts".into(), kind: Kind::Timestamp, role });
    types.push(
        random
            .pick(&["TIMESTAMP(3)", "TIMESTAMP(3)", "TIMESTAMP(3)", "TIMESTAMP", "TIMESTAMP", "TIMESTAMP(0)", "TIMESTAMP(9)"])
            .to_string(),
    );
    watermark.then(|| *random.one_of(&[0, 500, 1_000, 2_000, 4_000]))
}

/// A time about the moment at which the job runs, in so many cases of a hundred.
fn with_clock(random: &mut Random, columns: &mut Vec<Column>, types: &mut Vec<String>, percent: u64) {
    if random.chance(percent) {
        columns.push(Column { name: DUE.into(), kind: Kind::Timestamp, role: Role::Clock });
        types.push("TIMESTAMP(3)".into());
    }
}

fn stream(random: &mut Random, name: &str) -> Declared {
    let (mut columns, mut types) = payload(random, 2, 5);
    let bound_ms = with_time(random, &mut columns, &mut types, true);
    with_clock(random, &mut columns, &mut types, 12);
    let base_ms = *random.one_of(&[0, -7_000, 1_700_000_000_000]);
    let relation = Relation { name: name.into(), columns, depth: 0 };
    Declared { relation, behaviour: Behaviour::Grows, types, bound_ms, base_ms, stamped: random.chance(14) }
}

fn changelog(random: &mut Random) -> Declared {
    let (mut columns, mut types) = payload(random, 2, 4);
    let mut bound_ms = None;
    if random.chance(50) {
        let watermark = random.chance(60);
        bound_ms = with_time(random, &mut columns, &mut types, watermark);
    }
    with_clock(random, &mut columns, &mut types, 35);
    let relation = Relation { name: "c1".into(), columns, depth: 0 };
    Declared { relation, behaviour: Behaviour::Retracts, types, bound_ms, base_ms: 0, stamped: false }
}

fn keyed(random: &mut Random) -> Declared {
    let (mut columns, mut types) = payload(random, 2, 4);
    let key = if columns.len() > 2 && random.chance(30) { 2 } else { 1 };
    let bound_ms = if random.chance(60) { with_time(random, &mut columns, &mut types, true) } else { None };
    with_clock(random, &mut columns, &mut types, 30);
    let base_ms = *random.one_of(&[0, -7_000, 1_700_000_000_000]);
    let relation = Relation { name: "p1".into(), columns, depth: 0 };
    Declared { relation, behaviour: Behaviour::Upserts { key }, types, bound_ms, base_ms, stamped: false }
}
