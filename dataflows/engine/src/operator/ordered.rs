//! Rows in order: what operators over ordered partitions keep.
//!
//! A row is kept once as order-preserving bytes, first those of the order columns, then those of all others; so one
//! comparison of bytes orders rows by any columns, directions and places of NULLs, and ends ties by the whole row. A
//! partition is a [`List`] of row numbers, four bytes a row.

mod list;
mod log;
mod rows;

pub(crate) use list::List;
pub(crate) use log::RowLog;
pub(crate) use rows::{Encoded, Layout, RowKey, Rows};
