//! What the sources will be given: partitions of rows with event times out of order, some far too late, some no rows at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::baton::{BEGINNING, WALL_MS};
use crate::random::Random;

/// The bound of the job's watermarks.
const BOUND_MS: i64 = 1_000;

/// The length of the job's windows.
pub(crate) const WINDOW_MS: i64 = 2_000;

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) part: i64,
    /// Its number among the rows of its partition.
    pub(crate) nr: i64,
    pub(crate) customer: i64,
    pub(crate) amount: i64,
    pub(crate) at_ms: i64,
    /// Further behind the rows before it than the watermark's bound.
    pub(crate) straggles: bool,
}

/// A payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payment {
    pub(crate) order: i64,
    pub(crate) paid: i64,
    pub(crate) at_ms: i64,
}

/// What lies at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The next row of the partition.
    Row,
    /// Bytes that do not decode.
    Poison,
    /// A row that is refused: it is from the future.
    Ahead,
}

/// A partition: its entries, and their rows as columns.
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    /// The rows of all entries but the poison, whole.
    pub(crate) rows: RecordBatch,
    /// When each entry is there: microseconds of simulated time.
    pub(crate) at_us: Vec<u64>,
    /// When the partition is there.
    pub(crate) since_us: u64,
}

impl Log {
    /// The rows of the entries from `from` up to `to`.
    pub(crate) fn rows_of(&self, from: usize, to: usize) -> RecordBatch {
        let count = |entries: &[Entry]| entries.iter().filter(|entry| **entry != Entry::Poison).count();
        self.rows.slice(count(&self.entries[..from]), count(&self.entries[from..to]))
    }
}

/// All that there will be.
pub(crate) struct Input {
    pub(crate) orders: Vec<Order>,
    pub(crate) payments: Vec<Payment>,
    /// Per topic its partitions.
    pub(crate) topics: BTreeMap<&'static str, Vec<Log>>,
}

/// A row of a view.
pub(crate) type Row = Vec<i64>;

impl Input {
    /// Draws an input. `grows`: some partitions appear later.
    pub(crate) fn new(random: &mut Random, grows: bool, payments_too: bool) -> Self {
        let (mut orders, mut payments) = (Vec::new(), Vec::new());
        let span_us = random.pick(&[30_000, 150_000, 150_000, 1_000_000]);
        let customers = random.between(1, 12);
        let parts = random.between(1, 3);
        let rows_max = random.pick(&[4, 12, 12, 40]);
        let since = |random: &mut Random, part: u64| {
            BEGINNING.as_micros() as u64 + if grows && part > 0 { random.between(span_us / 4, span_us) } else { 0 }
        };
        let mut order_logs = Vec::new();
        for part in 0..parts {
            let mut clock = WALL_MS as i64 - 60_000 + random.below(3_000) as i64;
            let mut highest = i64::MIN;
            let (mut entries, mut rows) = (Vec::new(), Vec::new());
            for _ in 0..random.between(0, rows_max) {
                clock += random.below(300) as i64;
                if random.chance(10) {
                    clock += 10_000;
                }
                if random.chance(30) {
                    entries.push(Entry::Poison);
                }
                let straggles = random.chance(60);
                let behind = if straggles { random.between(1_001, 9_000) } else { random.below(900) } as i64;
                let ahead = random.chance(15);
                let at_ms = if ahead { clock + 86_400_000 } else { clock - behind };
                let straggles = at_ms + BOUND_MS <= highest;
                if !ahead {
                    highest = highest.max(at_ms);
                }
                let id = (orders.len() as i64) * 3 + part as i64 * 100_000;
                let customer = random.below(customers) as i64;
                let nr = rows.iter().filter(|(_, ahead)| !ahead).count() as i64;
                let order = Order { id, part: part as i64, nr, customer, amount: random.below(100) as i64, at_ms, straggles };
                entries.push(if ahead { Entry::Ahead } else { Entry::Row });
                rows.push((order, ahead));
                if !ahead {
                    orders.push(order);
                }
            }
            let at_us = times(random, entries.len(), span_us);
            let rows = orders_batch(&rows.iter().map(|(order, _)| *order).collect::<Vec<_>>());
            order_logs.push(Log { entries, rows, at_us, since_us: since(random, part) });
        }
        let parts = random.between(1, 2);
        let mut payment_logs: Vec<(Vec<Entry>, Vec<Payment>)> = (0..parts).map(|_| Default::default()).collect();
        let mut clock = WALL_MS as i64 - 60_000;
        for order in &orders {
            for paid in 0..random.pick(&[0, 1, 1, 1, 2]) {
                clock += random.below(100) as i64;
                let payment = Payment { order: order.id, paid, at_ms: clock };
                payments.push(payment);
                let (entries, rows) = &mut payment_logs[random.below(parts) as usize];
                entries.push(Entry::Row);
                rows.push(payment);
            }
        }
        let payment_logs = payment_logs.into_iter().enumerate().map(|(part, (entries, rows))| {
            let at_us = times(random, entries.len(), span_us);
            Log { entries, rows: payments_batch(&rows), at_us, since_us: since(random, part as u64) }
        });
        let payment_logs = payment_logs.collect();
        let mut topics = BTreeMap::from([("orders", order_logs), ("payments", payment_logs)]);
        if !payments_too {
            topics.remove("payments");
        }
        Input { orders, payments, topics }
    }

    /// How many entries of a topic go to `$rejects`.
    pub(crate) fn rejected(&self, topic: &str) -> usize {
        self.topics[topic].iter().flat_map(|log| &log.entries).filter(|entry| **entry != Entry::Row).count()
    }

    /// The view `sums` of all orders but those with these identifiers.
    pub(crate) fn sums(&self, without: &BTreeSet<i64>) -> BTreeSet<Row> {
        let mut sums: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
        for order in self.orders.iter().filter(|order| !without.contains(&order.id)) {
            let window = order.at_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
            let sum = sums.entry((order.customer, window * 1_000)).or_default();
            *sum = (sum.0 + 1, sum.1 + order.amount);
        }
        sums.into_iter().map(|((customer, window), (count, amount))| vec![customer, window, count, amount]).collect()
    }

    /// The view `paid`, as a multiset.
    pub(crate) fn paid(&self) -> BTreeMap<Row, i64> {
        let customers: BTreeMap<i64, i64> = self.orders.iter().map(|order| (order.id, order.customer)).collect();
        let mut paid = BTreeMap::new();
        for payment in &self.payments {
            *paid.entry(vec![payment.order, customers[&payment.order], payment.paid]).or_default() += 1;
        }
        paid
    }

    /// The view `customers`.
    pub(crate) fn customers(&self) -> BTreeSet<Row> {
        self.orders.iter().map(|order| vec![order.customer]).collect()
    }
}

/// When entries come: in order, in bursts.
fn times(random: &mut Random, entries: usize, span_us: u64) -> Vec<u64> {
    let mut at = 0;
    let step = span_us * 2 / (entries as u64 + 1);
    let mut burst = 0;
    let times = (0..entries).map(|_| {
        if burst == 0 {
            burst = random.pick(&[1, 4, 16]);
            at += random.below(step * burst + 1);
        }
        burst -= 1;
        BEGINNING.as_micros() as u64 + at.min(span_us)
    });
    times.collect()
}

/// The columns of a topic.
pub(crate) fn schema(topic: &str) -> SchemaRef {
    let names: &[&str] = if topic == "orders" { &["id", "part", "nr", "customer", "amount"] } else { &["order_id", "paid"] };
    let mut fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
    fields.push(Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true));
    Arc::new(Schema::new(fields))
}

fn batch(topic: &str, numbers: Vec<Vec<i64>>, at_ms: Vec<i64>) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = numbers.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef).collect();
    columns.push(Arc::new(TimestampMillisecondArray::from(at_ms)));
    RecordBatch::try_new(schema(topic), columns).expect("columns are as long as each other")
}

fn orders_batch(orders: &[Order]) -> RecordBatch {
    let column = |of: fn(&Order) -> i64| orders.iter().map(of).collect::<Vec<i64>>();
    let numbers = vec![
        column(|order| order.id),
        column(|order| order.part),
        column(|order| order.nr),
        column(|order| order.customer),
        column(|order| order.amount),
    ];
    batch("orders", numbers, column(|order| order.at_ms))
}

fn payments_batch(payments: &[Payment]) -> RecordBatch {
    let column = |of: fn(&Payment) -> i64| payments.iter().map(of).collect::<Vec<i64>>();
    batch("payments", vec![column(|payment| payment.order), column(|payment| payment.paid)], column(|payment| payment.at_ms))
}

/// Gives back whole rows of a batch.
#[derive(Debug)]
pub(crate) struct Whole(pub(crate) RecordBatch);

impl highwater_plan::Origin for Whole {
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, arrow::error::ArrowError> {
        take_record_batch(&self.0, &UInt32Array::from(rows.to_vec()))
    }
}
