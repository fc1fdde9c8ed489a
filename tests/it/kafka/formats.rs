//! Avro from topic to topic with the command as a process: two writers' schemas, poison, and a registry that is away.

use std::time::{Duration, Instant};

use highwater_broker::{Broker, SchemaRegistry};
use serde_json::Value;

use super::{PATIENCE, finish, highwater};

#[test]
fn avro_of_two_writers_with_poison_and_a_registry_that_is_away() {
    let broker = Broker::shared();
    let (brokers, tools) = (broker.bootstrap(), broker.tools());
    let registry = SchemaRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let at = format!("connector = 'kafka', brokers = '{brokers}', schema_registry = '{}'", registry.url());
    tools.create_topic("avro_bids", 2);
    tools.create_topic("avro_totals", 1);

    // The second writer's schema has one more column; both are nullable, so the registry takes it.
    for columns in ["auction, price, date_time", "auction, price, date_time, channel"] {
        let sql = format!(
            "CREATE SOURCE bids (auction BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP(3))
             WITH (connector = 'nexmark', type = 'bid', events = '2000');
             CREATE SINK out AS SELECT {columns} FROM bids WITH ({at}, topic = 'avro_bids', format = 'avro',
             delivery = 'at_least_once', avro.record_name = 'test.Bid');"
        );
        std::fs::write(folder.path().join("fill.sql"), sql).unwrap();
        finish(highwater(folder.path(), &["fill.sql"]));
        // Not of any schema.
        tools.write("avro_bids", "poison\n");
    }
    assert_eq!(registry.versions("avro_bids-value").len(), 2);

    let job = format!(
        "CREATE SOURCE bids (auction BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP(3))
         WITH ({at}, topic = 'avro_bids', format = 'avro-confluent', until_end = 'true');
         CREATE MATERIALIZED VIEW totals AS
         SELECT auction % 7 AS lane, count(*) AS n, count(channel) AS channels, sum(price) AS total, max(date_time) AS latest
         FROM bids GROUP BY auction % 7;
         CREATE SINK totals_out FROM totals WITH ({at}, topic = 'avro_totals', format = 'avro', delivery = 'exactly_once');"
    );
    std::fs::write(folder.path().join("job.sql"), job).unwrap();
    registry.set_away(true);
    let dumps = ["job.sql", "--checkpoints", "state", "--dump", "totals=totals.jsonl", "--dump", "bids$rejects=rejects.jsonl"];
    let running = highwater(folder.path(), &dumps).spawn().unwrap();
    // Reader, checks and sink have all asked in vain, some again.
    let (asked, start) = (registry.requests(), Instant::now());
    while registry.requests() < asked + 6 {
        assert!(start.elapsed() < PATIENCE, "nobody asks the registry");
        std::thread::sleep(Duration::from_millis(20));
    }
    registry.set_away(false);
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let lines = |file: &str| {
        let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
        let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows.sort_by_key(|row| row["lane"].as_i64());
        rows
    };
    // What the generator gives directly, each bid twice, once with its channel.
    let direct = "CREATE SOURCE bids (auction BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP(3))
         WITH (connector = 'nexmark', type = 'bid', events = '2000');
         CREATE MATERIALIZED VIEW totals AS
         SELECT auction % 7 AS lane, 2 * count(*) AS n, count(channel) AS channels, 2 * sum(price) AS total, max(date_time) AS latest
         FROM bids GROUP BY auction % 7;";
    std::fs::write(folder.path().join("direct.sql"), direct).unwrap();
    finish(highwater(folder.path(), &["direct.sql", "--dump", "totals=direct.jsonl"]));
    assert_eq!(lines("totals.jsonl"), lines("direct.jsonl"));
    let rejects = lines("rejects.jsonl");
    assert_eq!(rejects.len(), 2, "{rejects:?}");
    for reject in rejects {
        assert!(reject["reason"].as_str().unwrap().contains("the id of a schema in front, found 'poiso'"), "{reject}");
    }

    // The sink's topic is a table for whoever reads it.
    let back = format!(
        "CREATE TABLE totals (lane BIGINT PRIMARY KEY, n BIGINT, channels BIGINT, total BIGINT, latest TIMESTAMP(3))
         WITH ({at}, topic = 'avro_totals', format = 'avro', until_end = 'true');
         CREATE MATERIALIZED VIEW copy AS SELECT lane, n, channels, total, latest FROM totals;"
    );
    std::fs::write(folder.path().join("back.sql"), back).unwrap();
    finish(highwater(folder.path(), &["back.sql", "--dump", "copy=copy.jsonl"]));
    assert_eq!(lines("copy.jsonl"), lines("direct.jsonl"));

    // A column that the schema cannot fill is a mistake of the statement, told before anything runs.
    let wrong = format!(
        "CREATE SOURCE bids (auction VARCHAR) WITH ({at}, topic = 'avro_bids', format = 'avro', until_end = 'true');
         CREATE MATERIALIZED VIEW n AS SELECT count(auction) AS n FROM bids;"
    );
    std::fs::write(folder.path().join("wrong.sql"), wrong).unwrap();
    let output = highwater(folder.path(), &["wrong.sql"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let expected =
        "schema 2 of subject 'avro_bids-value' does not fit column 'auction': it has type VARCHAR, and its field is long";
    assert!(!output.status.success() && said.contains(expected) && said.contains("schema-mismatch"), "{said}");
}
