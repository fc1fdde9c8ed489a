//! What was saved of a source's relations, under the columns that the source has now.

use arrow::array::{ArrayRef, Int64Array};
use highwater_engine::{Delta, Form, Piece, Spread, kept_operators};

use super::*;
use crate::testing::connector::{World, job};

#[test]
fn rows_of_relations_are_adapted_whether_they_have_multiplicities_or_not() {
    let job = Arc::new(job("s", "v", None, &[("connector", "script")]));
    let names = Names::new(&job, kept_operators(&job).unwrap(), &World::default().registry(), "", false);
    assert!(names.relations.len() >= 2, "{:?}", names.relations);
    for (name, schema) in &names.relations {
        let key = format!("{SOURCE}0/{name}");
        let log = (0..LOG_COLUMNS).map(|column| -> ArrayRef { Arc::new(Int64Array::from(vec![column as i64; 2])) });
        let own = schema.fields().iter().map(|field| new_null_array(field.data_type(), 2));
        let names_of_log = (0..LOG_COLUMNS).map(|column| format!("log {column}"));
        let all: Vec<String> = names_of_log.chain(schema.fields().iter().map(|field| field.name().clone())).collect();
        let whole =
            RecordBatch::try_from_iter_with_nullable(all.iter().zip(log.chain(own)).map(|(name, column)| (name, column, true)));
        let whole = whole.unwrap();
        // The last column was not there before.
        let before = whole.project(&(0..whole.num_columns() - 1).collect::<Vec<_>>()).unwrap();
        for diffs in [None, Some(vec![1, -1])] {
            for rows in [&whole, &before] {
                let changes = vec![Delta::of(rows.clone(), diffs.clone().map(Int64Array::from))];
                let (form, spread, piece) = (Form::Rows, Spread::Anywhere, Piece::WHOLE);
                let table = TableState { table: 0, form, spread, piece, changes, freed: None };
                let section = sections_of_table(&key, &[&table]).remove(0);
                let read = table_of(0, &names.adapted(section).unwrap()).unwrap().changes.remove(0);
                let columns: Vec<&String> = read.rows.schema_ref().fields().iter().map(|field| field.name()).collect();
                assert_eq!(columns, all.iter().collect::<Vec<_>>(), "{key}");
                assert_eq!((0..2).map(|row| read.diff(row)).collect::<Vec<_>>(), diffs.clone().unwrap_or(vec![1; 2]));
            }
        }
    }
}
