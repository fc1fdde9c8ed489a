//! TPC-H's tables under change: for each key a few versions of its row, perhaps its end, each in some epoch.
//!
//! The rows only look like those of TPC-H's own generator: the same keys, words and ranges, as far as the queries ask for
//! them. A seed makes them, so that nothing of them is kept here but the answers.

use std::collections::BTreeMap;

/// Epochs over which everything changes.
pub(super) const EPOCHS: usize = 50;

const NATIONS: [(&str, usize); 25] = [
    ("ALGERIA", 0),
    ("ARGENTINA", 1),
    ("BRAZIL", 1),
    ("CANADA", 1),
    ("EGYPT", 4),
    ("ETHIOPIA", 0),
    ("FRANCE", 3),
    ("GERMANY", 3),
    ("INDIA", 2),
    ("INDONESIA", 2),
    ("IRAN", 4),
    ("IRAQ", 4),
    ("JAPAN", 2),
    ("JORDAN", 4),
    ("KENYA", 0),
    ("MOROCCO", 0),
    ("MOZAMBIQUE", 0),
    ("PERU", 1),
    ("CHINA", 2),
    ("ROMANIA", 3),
    ("SAUDI ARABIA", 4),
    ("VIETNAM", 2),
    ("RUSSIA", 3),
    ("UNITED KINGDOM", 3),
    ("UNITED STATES", 1),
];
const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];
const COLORS: [&str; 16] = [
    "almond",
    "azure",
    "blush",
    "brown",
    "chocolate",
    "cream",
    "forest",
    "green",
    "ivory",
    "lemon",
    "linen",
    "maroon",
    "olive",
    "pink",
    "salmon",
    "tan",
];
const CONTAINERS: [&str; 8] = ["SM CASE", "SM BOX", "MED BOX", "MED BAG", "LG BOX", "LG CASE", "JUMBO PKG", "WRAP JAR"];
const SEGMENTS: [&str; 5] = ["AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY"];
const PRIORITIES: [&str; 5] = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"];
const MODES: [&str; 7] = ["AIR", "AIR REG", "FOB", "MAIL", "RAIL", "SHIP", "TRUCK"];
const INSTRUCTIONS: [&str; 4] = ["COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN"];
const TYPES: [&[&str]; 3] = [
    &["ECONOMY", "LARGE", "MEDIUM", "PROMO", "SMALL", "STANDARD"],
    &["ANODIZED", "BRUSHED", "BURNISHED", "PLATED", "POLISHED"],
    &["BRASS", "COPPER", "NICKEL", "STEEL", "TIN"],
];

/// Tables in the order of their names' first mention, with their columns.
pub(super) const TABLES: [(&str, &[&str]); 9] = [
    ("region", &["r_regionkey", "r_name"]),
    ("nation", &["n_nationkey", "n_name", "n_regionkey"]),
    ("supplier", &["s_suppkey", "s_name", "s_address", "s_nationkey", "s_phone", "s_acctbal", "s_comment"]),
    ("customer", &["c_custkey", "c_name", "c_address", "c_nationkey", "c_phone", "c_acctbal", "c_mktsegment", "c_comment"]),
    ("part", &["p_partkey", "p_name", "p_mfgr", "p_brand", "p_type", "p_size", "p_container"]),
    ("partsupp", &["ps_partkey", "ps_suppkey", "ps_availqty", "ps_supplycost"]),
    (
        "orders",
        &[
            "o_orderkey",
            "o_custkey",
            "o_orderstatus",
            "o_totalprice",
            "o_orderdate",
            "o_orderpriority",
            "o_shippriority",
            "o_comment",
        ],
    ),
    (
        "lineitem",
        &[
            "l_orderkey",
            "l_partkey",
            "l_suppkey",
            "l_linenumber",
            "l_quantity",
            "l_extendedprice",
            "l_discount",
            "l_tax",
            "l_returnflag",
            "l_linestatus",
            "l_shipdate",
            "l_commitdate",
            "l_receiptdate",
            "l_shipinstruct",
            "l_shipmode",
        ],
    ),
    ("note", &["id", "tag", "ref", "size"]),
];

/// Values of a row as JSON.
type Row = Vec<String>;

/// How many rows there are.
#[derive(Clone, Copy)]
struct Sizes {
    suppliers: usize,
    customers: usize,
    parts: usize,
    orders: usize,
}

/// All changes, and what is left in the end.
pub(super) struct Changes {
    /// Per epoch and table the changes as Debezium writes them, one a line.
    pub(super) epochs: Vec<[String; TABLES.len()]>,
    /// Per table the rows after all changes.
    pub(super) tables: [Vec<Row>; TABLES.len()],
}

/// The changes of tables of this scale: 0.01 has 15,000 orders.
pub(super) fn changes(scale: f64) -> Changes {
    let of = |rows: f64| (rows * scale) as usize;
    let sizes = Sizes { suppliers: of(10_000.0), customers: of(150_000.0), parts: of(200_000.0), orders: of(1_500_000.0) };
    let mut random = Random(20_261_121);
    // Each change with a number by which the changes of an epoch are mixed; those of a key stay in order.
    let mut epochs: Vec<Vec<(u64, usize, String)>> = vec![Vec::new(); EPOCHS];
    let mut tables: [Vec<Row>; TABLES.len()] = Default::default();
    for (table, (_, columns)) in TABLES.iter().enumerate() {
        for key in keys(table, sizes, &mut random) {
            let mut before: Option<Row> = None;
            for epoch in moments(table, &mut random) {
                let gone = before.is_some() && table > 1 && random.below(100) < 30;
                let after = (!gone).then(|| row(table, &key, sizes, &mut random));
                let op = match (&before, &after) {
                    (None, _) => "c",
                    (Some(_), Some(_)) => "u",
                    (Some(_), None) => "d",
                };
                let change = format!(
                    "{{\"op\":\"{op}\",\"before\":{},\"after\":{}}}",
                    json(columns, before.as_ref()),
                    json(columns, after.as_ref()),
                );
                epochs[epoch].push((random.number(), table, change));
                before = after;
            }
            tables[table].extend(before);
        }
    }
    let epochs = epochs.into_iter().map(|mut changes| {
        changes.sort_unstable_by_key(|(number, ..)| *number);
        let mut bodies: [String; TABLES.len()] = Default::default();
        for (_, table, change) in changes {
            bodies[table].push_str(&change);
            bodies[table].push('\n');
        }
        bodies
    });
    Changes { epochs: epochs.collect(), tables }
}

/// Epochs in which a key's row changes, ascending, each once: the first makes it.
fn moments(table: usize, random: &mut Random) -> Vec<usize> {
    if table < 2 {
        // Regions and nations are there from the first third on.
        return vec![random.below(EPOCHS / 3)];
    }
    let more = [0, 0, 0, 1, 1, 2][random.below(6)];
    let mut epochs: Vec<usize> = (0..=more).map(|_| random.below(EPOCHS)).collect();
    epochs.sort_unstable();
    epochs.dedup();
    epochs
}

/// The keys of a table.
fn keys(table: usize, sizes: Sizes, random: &mut Random) -> Vec<Vec<usize>> {
    let plain = |from: usize, count: usize| (from..from + count).map(|key| vec![key]).collect();
    match TABLES[table].0 {
        "region" => plain(0, REGIONS.len()),
        "nation" => plain(0, NATIONS.len()),
        "supplier" => plain(1, sizes.suppliers),
        "customer" => plain(1, sizes.customers),
        "part" => plain(1, sizes.parts),
        "partsupp" => {
            let pairs = (1..=sizes.parts).flat_map(|part| (0..4).map(move |place| vec![part, supplier_of(part, place, sizes)]));
            pairs.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        }
        "orders" => plain(1, sizes.orders),
        "lineitem" => {
            let lines: BTreeMap<usize, usize> = (1..=sizes.orders).map(|order| (order, 1 + random.below(7))).collect();
            lines.into_iter().flat_map(|(order, lines)| (1..=lines).map(move |line| vec![order, line])).collect()
        }
        _ => plain(0, 150),
    }
}

fn supplier_of(part: usize, place: usize, sizes: Sizes) -> usize {
    (part * 7 + place * (sizes.suppliers / 4).max(1)) % sizes.suppliers + 1
}

fn row(table: usize, key: &[usize], sizes: Sizes, random: &mut Random) -> Row {
    let number = |value: usize| value.to_string();
    match TABLES[table].0 {
        "region" => vec![number(key[0]), text(REGIONS[key[0]])],
        "nation" => vec![number(key[0]), text(NATIONS[key[0]].0), number(NATIONS[key[0]].1)],
        "supplier" => {
            let nation = random.below(25);
            let comment = if random.below(20) == 0 { "says Customer Complaints" } else { "quick" };
            vec![
                number(key[0]),
                text(&format!("Supplier#{:04}", key[0])),
                text(&word(random)),
                number(nation),
                text(&phone(nation, random)),
                cents(random, -99_999, 999_999),
                text(comment),
            ]
        }
        "customer" => {
            let nation = random.below(25);
            vec![
                number(key[0]),
                text(&format!("Customer#{:05}", key[0])),
                text(&word(random)),
                number(nation),
                text(&phone(nation, random)),
                cents(random, -99_999, 999_999),
                text(random.one_of(&SEGMENTS)),
                text(&word(random)),
            ]
        }
        "part" => {
            let name: Vec<&str> = (0..3).map(|_| random.one_of(&COLORS)).collect();
            let kind: Vec<&str> = TYPES.iter().map(|words| random.one_of(words)).collect();
            let (maker, brand) = (1 + random.below(5), 1 + random.below(5));
            vec![
                number(key[0]),
                text(&name.join(" ")),
                text(&format!("Manufacturer#{maker}")),
                text(&format!("Brand#{maker}{brand}")),
                text(&kind.join(" ")),
                number(1 + random.below(50)),
                text(random.one_of(&CONTAINERS)),
            ]
        }
        "partsupp" => vec![number(key[0]), number(key[1]), number(1 + random.below(999)), cents(random, 100, 100_000)],
        "orders" => {
            let date = random.between(8_035, 10_440);
            let status = if date < 9_300 { "F" } else { random.one_of(&["O", "P"]) };
            let comment = if random.below(50) == 0 { "special fast requests" } else { "regular" };
            vec![
                number(key[0]),
                // Two customers in three have no orders.
                number(random.below(sizes.customers) / 3 * 3 + 1),
                text(status),
                cents(random, 100_000, 40_000_000),
                day(date),
                text(random.one_of(&PRIORITIES)),
                number(0),
                text(comment),
            ]
        }
        "lineitem" => {
            let part = 1 + random.below(sizes.parts);
            let supplier = supplier_of(part, random.below(4), sizes);
            let ordered = random.between(8_035, 10_440);
            let (shipped, committed) = (ordered + random.between(1, 121), ordered + random.between(30, 90));
            let received = shipped + random.between(1, 30);
            let flag = if received <= 9_298 { random.one_of(&["R", "A"]) } else { "N" };
            let quantity = 1 + random.below(50);
            vec![
                number(key[0]),
                number(part),
                number(supplier),
                number(key[1]),
                format!("{quantity}.00"),
                cents(random, 90_000 * quantity as i64, 200_000 * quantity as i64),
                format!("0.{:02}", random.below(11)),
                format!("0.{:02}", random.below(9)),
                text(flag),
                text(if shipped > 9_298 { "O" } else { "F" }),
                day(shipped),
                day(committed),
                day(received),
                text(random.one_of(&INSTRUCTIONS)),
                text(random.one_of(&MODES)),
            ]
        }
        _ => {
            let mut maybe = |below: usize| match random.below(6) {
                0 => "null".to_string(),
                _ => random.below(below).to_string(),
            };
            vec![number(key[0]), maybe(40), maybe(160), maybe(9)]
        }
    }
}

fn phone(nation: usize, random: &mut Random) -> String {
    format!("{}-{:03}-{:04}", nation + 10, random.below(1_000), random.below(10_000))
}

fn word(random: &mut Random) -> String {
    (0..5).map(|_| char::from(b'a' + random.below(26) as u8)).collect()
}

fn text(value: &str) -> String {
    format!("\"{value}\"")
}

fn cents(random: &mut Random, from: i64, to: i64) -> String {
    let cents = from + random.below((to - from) as usize) as i64;
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

/// A day as text, from its number since 1970.
fn day(number: i64) -> String {
    // Years begin in March here, so that a leap day is the last of its year.
    let days = number + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + i64::from(month <= 2);
    text(&format!("{year:04}-{month:02}-{day:02}"))
}

fn json(columns: &[&str], row: Option<&Row>) -> String {
    let Some(row) = row else { return "null".into() };
    let fields: Vec<String> = columns.iter().zip(row).map(|(column, value)| format!("\"{column}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// The same numbers every time.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as usize) as i64
    }

    fn one_of(&mut self, values: &[&'static str]) -> &'static str {
        values[self.below(values.len())]
    }
}
