//! The job that every world runs: windows, a join and a `DISTINCT`, to sinks of both deliveries. Planned once.

use std::sync::LazyLock;

use highwater_plan::Job;
use highwater_sql::{CompileOptions, compile};

/// Its text; `{idle}` stands for options of the sources.
const TEXT: &str = "
CREATE SOURCE orders (id BIGINT, part BIGINT, nr BIGINT, customer BIGINT, amount BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '1' SECOND)
  WITH (connector = 'sim', topic = 'orders', max_ahead = '1 hour'{idle});
CREATE SOURCE payments (order_id BIGINT, paid BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '1' SECOND)
  WITH (connector = 'sim', topic = 'payments'{idle});

CREATE MATERIALIZED VIEW sums AS
  SELECT customer, window_start, count(*) AS orders, sum(amount) AS amount
  FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '2' SECOND))
  GROUP BY customer, window_start, window_end;
CREATE MATERIALIZED VIEW paid AS
  SELECT orders.id, orders.customer, payments.paid FROM orders JOIN payments ON orders.id = payments.order_id;
CREATE MATERIALIZED VIEW customers AS SELECT DISTINCT customer FROM orders;
CREATE MATERIALIZED VIEW taken AS SELECT part, count(*) AS rows_taken, max(nr) AS last FROM orders GROUP BY part;

CREATE SINK sums_out FROM sums WITH (connector = 'sim', topic = 'sums');
CREATE SINK paid_out FROM paid WITH (connector = 'sim', topic = 'paid');
CREATE SINK customers_out FROM customers WITH (connector = 'sim', topic = 'customers', delivery = 'at_least_once');
";

static WITHOUT_IDLENESS: LazyLock<(String, Job)> = LazyLock::new(|| planned(""));
static WITH_IDLENESS: LazyLock<(String, Job)> = LazyLock::new(|| planned(", idle_timeout = '300 milliseconds'"));

fn planned(idle: &str) -> (String, Job) {
    let text = TEXT.replace("{idle}", idle);
    let job = compile(&text, &CompileOptions::default());
    let job = job.unwrap_or_else(|errors| panic!("the job of the simulation is wrong: {errors:?}"));
    (text, job)
}

/// The job and its text; partitions may become idle.
pub(crate) fn job(idle: bool) -> &'static (String, Job) {
    if idle { &WITH_IDLENESS } else { &WITHOUT_IDLENESS }
}
