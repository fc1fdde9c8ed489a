//! The rows of a batch under construction, whatever format they come in: what a row, a change and a deletion mean.
//!
//! A format says how to read a part of a record into columns; this says which parts count, with which sign, and that a record
//! that fails leaves nothing behind. Without a primary key a table is a bag, and an update is the old row away and the new row
//! there. With one, the new row replaces the old one, so the old row counts only where its key differs, and need not be
//! complete.

use super::DecoderSpec;
use super::column::{Column, Fields, Unsupported};
use super::json::Keys;
use super::text::{Rules, excerpt};

/// Columns, and per row +1 or -1.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The used columns, and what a format keeps behind them.
    pub(crate) fields: Fields,
    /// How many of the columns are the schema's.
    width: usize,
    len: usize,
    /// Columns of the primary key.
    key: Vec<usize>,
    rules: Rules,
    diffs: Vec<i64>,
    /// Whether rows have diffs whatever they are.
    signed: bool,
    /// Whether one of the rows deletes a key, so that rows need diffs even if they are only ever added.
    deletes: bool,
}

impl Rows {
    /// No rows of the used columns of `spec`, and of `hidden` behind them. `signed`: rows may be taken back.
    pub(crate) fn new(spec: &DecoderSpec, hidden: Option<Column>, rules: Rules, signed: bool) -> Result<Rows, Unsupported> {
        let place = |column: &usize| spec.used.iter().position(|used| used == column);
        let key: Vec<usize> = spec.primary_key.iter().filter_map(place).collect();
        let mut columns = spec.used.iter().map(|column| spec.column(*column)).collect::<Result<Vec<_>, _>>()?;
        let width = columns.len();
        for column in &key {
            columns[*column].is_key = true;
        }
        // Columns that nobody reads are known by their names, so that these are not taken for another spelling of others.
        let all = spec.schema.fields().iter().enumerate();
        let mut names: Vec<(&str, Option<usize>)> = all.map(|(index, field)| (field.name().as_str(), place(&index))).collect();
        let hidden_field = hidden.as_ref().map(|column| column.field.clone());
        if let Some(field) = &hidden_field {
            names.push((field.name(), Some(width)));
        }
        columns.extend(hidden);
        let fields = Fields { keys: Keys::new(names.into_iter()), columns };
        Ok(Rows { fields, width, len: 0, key, rules, diffs: Vec::new(), signed, deletes: false })
    }

    /// Rows since the last [`Rows::take`].
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The columns of the primary key among the used ones.
    pub(crate) fn key(&self) -> &[usize] {
        &self.key
    }

    /// What a format keeps behind the schema's columns.
    pub(crate) fn hidden(&self) -> &Column {
        &self.fields.columns[self.width]
    }

    /// Appends the row that `read` puts into the columns as row number `n`; its sign is what `sign` finds then.
    ///
    /// After an error the caller forgets what may be left of it, by [`Rows::truncate`].
    #[inline]
    pub(crate) fn push<E>(
        &mut self,
        read: impl FnOnce(&mut Fields, usize, &Rules) -> Result<(), E>,
        sign: impl FnOnce(&Rows) -> Result<i64, E>,
    ) -> Result<(), E> {
        read(&mut self.fields, self.len, &self.rules)?;
        let diff = sign(self)?;
        self.count(diff);
        Ok(())
    }

    #[inline]
    fn count(&mut self, diff: i64) {
        if diff < 0 && !self.signed && !self.deletes {
            self.deletes = true;
            self.diffs.resize(self.len, 1);
        }
        if self.signed || self.deletes {
            self.diffs.push(diff);
        }
        self.len += 1;
    }

    /// Appends the deletion of the row whose key `read` puts into the columns; the others have placeholders.
    pub(crate) fn delete<E>(
        &mut self,
        read: impl FnOnce(&mut Fields, usize, &Rules, &[usize]) -> Result<(), E>,
    ) -> Result<(), E> {
        let rules = Rules { key_only: true, ..self.rules };
        read(&mut self.fields, self.len, &rules, &self.key)?;
        self.count(-1);
        Ok(())
    }

    /// Appends what a change with the operation `op` does: up to two rows, which `read` puts into the columns.
    pub(crate) fn change<P: Copy, E: From<String>>(
        &mut self,
        op: Option<&str>,
        before: Option<P>,
        after: Option<P>,
        mut read: impl FnMut(&mut Fields, usize, P, i64, &Rules) -> Result<(), E>,
    ) -> Result<(), E> {
        let there = |part: Option<P>, name: &str, op: &str| {
            part.ok_or_else(|| E::from(format!("'{name}' is missing in a change with op '{op}'")))
        };
        let read = &mut read;
        match op {
            Some(op @ ("c" | "r")) => self.part(there(after, "after", op)?, 1, false, read),
            Some("d") => self.part(there(before, "before", "d")?, -1, !self.key.is_empty(), read),
            Some("u") if self.key.is_empty() => {
                self.part(there(before, "before", "u")?, -1, false, read)?;
                self.part(there(after, "after", "u")?, 1, false, read)
            }
            Some("u") => {
                let after = there(after, "after", "u")?;
                self.upsert(before, after, read)
            }
            // A message for whoever reads the topic, not a change.
            Some("m") => Ok(()),
            Some("t") => Err("op 't' (truncate) cannot be applied: delete the rows instead".to_owned().into()),
            Some(op) => Err(format!("'op' is one of c, r, u, d, found '{}'", excerpt(op.as_bytes())).into()),
            None => Err("expected a change with 'op', 'before' and 'after'".to_owned().into()),
        }
    }

    /// The new row; before it the old row's deletion if the key has changed.
    fn upsert<P: Copy, E>(
        &mut self,
        before: Option<P>,
        after: P,
        read: &mut impl FnMut(&mut Fields, usize, P, i64, &Rules) -> Result<(), E>,
    ) -> Result<(), E> {
        let row = self.len;
        self.part(after, 1, false, read)?;
        let Some(before) = before else { return Ok(()) };
        self.part(before, -1, true, read)?;
        let moved = self.key.iter().any(|column| !self.fields.columns[*column].equal(row, row + 1));
        if moved {
            self.truncate(row);
            self.part(before, -1, true, read)?;
            self.part(after, 1, false, read)
        } else {
            self.truncate(row + 1);
            Ok(())
        }
    }

    fn part<P: Copy, E>(
        &mut self,
        part: P,
        diff: i64,
        key_only: bool,
        read: &mut impl FnMut(&mut Fields, usize, P, i64, &Rules) -> Result<(), E>,
    ) -> Result<(), E> {
        let rules = Rules { key_only, ..self.rules };
        read(&mut self.fields, self.len, part, diff, &rules)?;
        self.count(diff);
        Ok(())
    }

    /// Forgets all rows from `len` on, and what a row that failed has left.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.fields.truncate(len);
        self.diffs.truncate(len);
        self.len = len;
    }

    /// Takes out the columns and diffs; there are no rows then.
    pub(crate) fn take(&mut self) -> (&mut [Column], Option<Vec<i64>>) {
        self.len = 0;
        let diffs = std::mem::take(&mut self.diffs);
        let deletes = std::mem::take(&mut self.deletes);
        let diffs = (self.signed || deletes).then_some(diffs);
        let (columns, hidden) = self.fields.columns.split_at_mut(self.width);
        hidden.iter_mut().for_each(|column| column.truncate(0));
        (columns, diffs)
    }
}
