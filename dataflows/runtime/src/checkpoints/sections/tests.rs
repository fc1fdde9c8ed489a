//! Sections of tables: in pieces or whole.

use super::*;

/// The changes of a table that a worker, of so many, has: rows from `first` on.
fn part(piece: (usize, usize), first: i64, rows: i64) -> TableState {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
    let changes = vec![Delta::insert(RecordBatch::try_from_iter([("k", column)]).unwrap())];
    let piece = Piece { number: piece.0, of: piece.1 };
    TableState { table: 0, form: Form::Rows, spread: Spread::ByColumns(vec![0]), piece, changes, freed: None }
}

#[test]
fn a_large_table_is_kept_in_pieces_and_a_small_one_is_not() {
    for (rows, pieces) in [(2_000, vec![(0, 2), (1, 2)]), (10, vec![(0, 1)])] {
        let parts = [part((0, 2), 0, rows), part((1, 2), 10_000, rows)];
        let sections = sections_of_table("node/0/join", &parts.iter().collect::<Vec<_>>());
        let read = sections.iter().map(|section| table_of(0, section).unwrap());
        let read: Vec<(usize, usize)> = read.map(|table| (table.piece.number, table.piece.of)).collect();
        assert_eq!(read, pieces);
        assert_eq!(sections.iter().map(Section::rows).sum::<u64>(), 2 * rows as u64);
    }
}

#[test]
fn a_piece_that_cannot_be_is_refused() {
    let section = sections_of_table("node/0/join", &[&part((1, 2), 0, 3_000)]).remove(0);
    for (piece, spread) in [([2, 2], "by_columns"), ([0, 0], "by_columns"), ([0, 2], "anywhere")] {
        let mut section = section.clone();
        section.meta["piece"] = serde_json::json!(piece);
        if spread == "anywhere" {
            section.meta["spread"] = serde_json::json!(spread);
        }
        let error = table_of(0, &section).unwrap_err().to_string();
        assert!(error.contains("'node/0/join'") && error.contains("cannot have piece"), "{error}");
    }
}

#[test]
fn only_rows_that_do_not_come_once_each_have_multiplicities() {
    let of = |diffs: &[Option<Vec<i64>>]| {
        let mut table = part((0, 1), 0, 3);
        let rows = table.changes[0].rows.clone();
        let deltas = diffs.iter().map(|diffs| Delta::of(rows.clone(), diffs.clone().map(Int64Array::from)));
        table.changes = deltas.collect();
        let section = sections_of_table("node/0/join", &[&table]).remove(0);
        let read = table_of(0, &section).unwrap().changes;
        let read: Vec<Vec<i64>> = read.iter().map(|delta| (0..delta.len()).map(|row| delta.diff(row)).collect()).collect();
        (section, read)
    };
    let (section, read) = of(&[None, Some(vec![1, 1, 1])]);
    assert_eq!((section.schema.fields().len(), read), (1, vec![vec![1; 3]; 2]));
    let (section, read) = of(&[None, Some(vec![1, -1, 2])]);
    assert_eq!((section.schema.fields().len(), read), (2, vec![vec![1; 3], vec![1, -1, 2]]));
    // One that has lost them is not taken for one of those.
    let mut lost = section;
    let rows = lost.batches.iter().map(|batch| batch.project(&[0]).unwrap());
    (lost.schema, lost.batches) = (Arc::new(lost.schema.project(&[0]).unwrap()), rows.collect());
    assert!(table_of(0, &lost).unwrap_err().to_string().contains("it has no multiplicities"));
}
