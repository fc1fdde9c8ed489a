//! The jobs that worlds run: windows, a join, a `DISTINCT`, or all of them, to sinks of both deliveries. Each is planned once.

use std::sync::OnceLock;

use highwater_plan::Job;
use highwater_sql::{CompileOptions, compile};

/// What a job has; small ones are cheap, so that many seeds can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sums per window, exactly once.
    Windows,
    /// A join of two sources, exactly once.
    Join,
    /// A `DISTINCT`, at least once and exactly once.
    Distinct,
    /// All of it.
    All,
}

const ORDERS: &str = "
CREATE SOURCE orders (id BIGINT, part BIGINT, nr BIGINT, customer BIGINT, amount BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '1' SECOND)
  WITH (connector = 'sim', topic = 'orders', max_ahead = '1 hour'{idle});
CREATE MATERIALIZED VIEW taken AS SELECT part, count(*) AS rows_taken, max(nr) AS last FROM orders GROUP BY part;
";

const WINDOWS: &str = "
CREATE MATERIALIZED VIEW sums AS
  SELECT customer, window_start, count(*) AS orders, sum(amount) AS amount
  FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '2' SECOND))
  GROUP BY customer, window_start, window_end;
CREATE SINK sums_out FROM sums WITH (connector = 'sim', topic = 'sums');
";

const JOIN: &str = "
CREATE SOURCE payments (order_id BIGINT, paid BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '1' SECOND)
  WITH (connector = 'sim', topic = 'payments'{idle});
CREATE MATERIALIZED VIEW paid AS
  SELECT orders.id, orders.customer, payments.paid FROM orders JOIN payments ON orders.id = payments.order_id;
CREATE SINK paid_out FROM paid WITH (connector = 'sim', topic = 'paid');
";

const DISTINCT: &str = "
CREATE MATERIALIZED VIEW customers AS SELECT DISTINCT customer FROM orders;
CREATE SINK customers_out FROM customers WITH (connector = 'sim', topic = 'customers', delivery = 'at_least_once');
";

const DISTINCT_ONCE: &str = "
CREATE SINK customers_once FROM customers WITH (connector = 'sim', topic = 'customers_once');
";

impl Kind {
    /// Whether it reads payments.
    pub(crate) fn joins(self) -> bool {
        matches!(self, Kind::Join | Kind::All)
    }

    /// Its views, but for `taken`, and per view its topics and whether they are written exactly once.
    pub(crate) fn views(self) -> Vec<(&'static str, Vec<(&'static str, bool)>)> {
        let (sums, paid) = (("sums", vec![("sums", true)]), ("paid", vec![("paid", true)]));
        match self {
            Kind::Windows => vec![sums],
            Kind::Join => vec![paid],
            Kind::Distinct => vec![("customers", vec![("customers", false), ("customers_once", true)])],
            Kind::All => vec![sums, paid, ("customers", vec![("customers", false)])],
        }
    }

    /// The job and its text; partitions may become idle.
    pub(crate) fn job(self, idle: bool) -> &'static (String, Job) {
        static PLANNED: [OnceLock<(String, Job)>; 8] = [const { OnceLock::new() }; 8];
        let parts: &[&str] = match self {
            Kind::Windows => &[ORDERS, WINDOWS],
            Kind::Join => &[ORDERS, JOIN],
            Kind::Distinct => &[ORDERS, DISTINCT, DISTINCT_ONCE],
            Kind::All => &[ORDERS, WINDOWS, JOIN, DISTINCT],
        };
        PLANNED[self as usize * 2 + usize::from(idle)].get_or_init(|| {
            let text = parts.concat().replace("{idle}", if idle { ", idle_timeout = '300 milliseconds'" } else { "" });
            let job = compile(&text, &CompileOptions::default());
            let job = job.unwrap_or_else(|errors| panic!("the job of the simulation is wrong: {errors:?}"));
            (text, job)
        })
    }
}
