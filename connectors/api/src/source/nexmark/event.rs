//! The fields of one event, drawn in the order in which crate `nexmark` 0.2 draws them.
//!
//! The order of the draws is the stream's definition: a draw that is left out shifts all later ones. So drawing stops at
//! the last field that is wanted, and never skips one before it. Most of the cost is the text that pads an event to its
//! size, drawn letter by letter, so leaving it out is most of the gain.

use std::sync::LazyLock;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngCore, SeedableRng};

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Person,
    Auction,
    Bid,
}

/// The kind of an event: of 50, one person, three auctions and 46 bids.
pub(super) fn kind(event: u64) -> Kind {
    match event % 50 {
        0 => Kind::Person,
        1..=3 => Kind::Auction,
        _ => Kind::Bid,
    }
}

/// When an event happens, in milliseconds since the Unix epoch: 10,000 events a second.
pub(super) fn time_ms(event: u64) -> i64 {
    BASE_TIME_MS + (event / 10) as i64
}

/// 2015-07-15T00:00:00Z.
const BASE_TIME_MS: i64 = 1_436_918_400_000;
const FIRST_ID: usize = 1_000;
const FIRST_CATEGORY: usize = 10;
const CATEGORIES: usize = 5;
const ACTIVE_PEOPLE: usize = 1_000;
const IN_FLIGHT_AUCTIONS: usize = 100;
const ID_LEAD: usize = 10;
/// Of so many, one is hot.
const HOT: usize = 100;
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const FIRST_NAMES: [&str; 11] = ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// The fields of the event that was drawn last; those of other kinds, and those that were not wanted, are stale.
#[derive(Debug, Default)]
pub(super) struct Event {
    /// Numbers by [`Field::slot`].
    pub(super) numbers: [i64; 7],
    /// Texts by [`Field::slot`].
    pub(super) texts: [Vec<u8>; 6],
}

/// A field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name in the stream's definition.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) holds: Holds,
    /// Where it stands in [`Event`].
    pub(super) slot: usize,
    /// How many groups of draws must be made to know it.
    pub(super) depth: u8,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A number.
    Number,
    /// Milliseconds since the Unix epoch.
    Time,
    /// A text.
    Text,
}

const fn field(name: &'static str, holds: Holds, slot: usize, depth: u8) -> Field {
    Field { name, holds, slot, depth }
}

/// The fields of a kind, in their usual order.
pub(super) fn fields(kind: Kind) -> &'static [Field] {
    use Holds::{Number, Text, Time};
    match kind {
        Kind::Person => {
            &const {
                [
                    field("id", Number, 0, 0),
                    field("name", Text, 0, 1),
                    field("emailAddress", Text, 1, 1),
                    field("creditCard", Text, 2, 1),
                    field("city", Text, 3, 1),
                    field("state", Text, 4, 1),
                    field("dateTime", Time, 1, 0),
                    field("extra", Text, 5, 2),
                ]
            }
        }
        Kind::Auction => {
            &const {
                [
                    field("id", Number, 0, 0),
                    field("itemName", Text, 0, 1),
                    field("description", Text, 1, 1),
                    field("initialBid", Number, 1, 1),
                    field("reserve", Number, 2, 1),
                    field("dateTime", Time, 3, 0),
                    field("expires", Time, 4, 1),
                    field("seller", Number, 5, 1),
                    field("category", Number, 6, 1),
                    field("extra", Text, 2, 2),
                ]
            }
        }
        Kind::Bid => {
            &const {
                [
                    field("auction", Number, 0, 1),
                    field("bidder", Number, 1, 1),
                    field("price", Number, 2, 1),
                    field("channel", Text, 0, 2),
                    field("url", Text, 1, 2),
                    field("dateTime", Time, 3, 0),
                    field("extra", Text, 2, 3),
                ]
            }
        }
    }
}

impl Event {
    /// Draws an event's fields up to a depth.
    pub(super) fn draw(&mut self, event: u64, depth: u8) {
        match kind(event) {
            Kind::Person => self.person(event, depth),
            Kind::Auction => self.auction(event, depth),
            Kind::Bid => self.bid(event, depth),
        }
    }

    fn person(&mut self, event: u64, depth: u8) {
        self.numbers[0] = (last_person(event as usize) + FIRST_ID) as i64;
        self.numbers[1] = time_ms(event);
        if depth == 0 {
            return;
        }
        let rng = &mut SmallRng::seed_from_u64(event);
        let [name, email, card, city, state, extra] = &mut self.texts;
        set(name, [pick(&FIRST_NAMES, rng), " ", pick(&LAST_NAMES, rng)]);
        email.clear();
        letters(7, email, rng);
        email.push(b'@');
        letters(5, email, rng);
        email.extend_from_slice(b".com");
        card.clear();
        for group in 0..4 {
            let number: i32 = rng.gen_range(0..10_000);
            if group > 0 {
                card.push(b' ');
            }
            card.extend_from_slice(format!("{number:04}").as_bytes());
        }
        set(city, [pick(&CITIES, rng)]);
        set(state, [pick(&STATES, rng)]);
        if depth >= 2 {
            let size = 8 + name.len() + email.len() + card.len() + city.len() + state.len();
            padding(size, 200, extra, rng);
        }
    }

    fn auction(&mut self, event: u64, depth: u8) {
        let number = event as usize;
        self.numbers[0] = (last_auction(number) + FIRST_ID) as i64;
        self.numbers[3] = time_ms(event);
        if depth == 0 {
            return;
        }
        let rng = &mut SmallRng::seed_from_u64(event);
        let [item, description, extra, ..] = &mut self.texts;
        item.clear();
        letters(20, item, rng);
        description.clear();
        letters(100, description, rng);
        let initial_bid = price(rng);
        let reserve = initial_bid + price(rng);
        let horizon = rounded_time(number + IN_FLIGHT_AUCTIONS * 50 / 3) - rounded_time(number);
        let length = 1 + rng.gen_range(0..(horizon * 2).max(1));
        let seller = if rng.gen_range(0..4_usize) > 0 { last_person(number) / HOT * HOT } else { next_person(number, rng) };
        let category = FIRST_CATEGORY + rng.gen_range(0..CATEGORIES);
        self.numbers[1] = initial_bid as i64;
        self.numbers[2] = reserve as i64;
        self.numbers[4] = time_ms(event) + length as i64;
        self.numbers[5] = (seller + FIRST_ID) as i64;
        self.numbers[6] = category as i64;
        if depth >= 2 {
            padding(8 + item.len() + description.len() + 40, 500, extra, rng);
        }
    }

    fn bid(&mut self, event: u64, depth: u8) {
        let number = event as usize;
        self.numbers[3] = time_ms(event);
        if depth == 0 {
            return;
        }
        let rng = &mut SmallRng::seed_from_u64(event);
        let auction = if rng.gen_range(0..2_usize) > 0 { last_auction(number) / HOT * HOT } else { next_auction(number, rng) };
        let bidder = if rng.gen_range(0..4_usize) > 0 { last_person(number) / HOT * HOT + 1 } else { next_person(number, rng) };
        self.numbers[0] = (auction + FIRST_ID) as i64;
        self.numbers[1] = (bidder + FIRST_ID) as i64;
        self.numbers[2] = price(rng) as i64;
        if depth == 1 {
            return;
        }
        let [channel, url, extra, ..] = &mut self.texts;
        if rng.gen_range(0..2_usize) > 0 {
            let hot = rng.gen_range(0..HOT_CHANNELS.len());
            set(channel, [HOT_CHANNELS[hot]]);
            set(url, [&*HOT_URLS[hot]]);
        } else {
            let (name, address) = CHANNELS.choose(rng).expect("there are channels");
            set(channel, [&**name]);
            set(url, [&**address]);
        }
        if depth >= 3 {
            padding(32, 100, extra, rng);
        }
    }
}

fn set<const N: usize>(text: &mut Vec<u8>, parts: [&str; N]) {
    text.clear();
    parts.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
}

fn pick(texts: &[&'static str], rng: &mut SmallRng) -> &'static str {
    texts.choose(rng).expect("the list is not empty")
}

/// Appends letters as `gen_range(b'a'..=b'z')` draws them: this is its method, with the constants worked out.
fn letters(count: usize, text: &mut Vec<u8>, rng: &mut SmallRng) {
    const RANGE: u32 = 26;
    const ZONE: u32 = u32::MAX - (u32::MAX - RANGE + 1) % RANGE;
    let start = text.len();
    text.resize(start + count, 0);
    for letter in &mut text[start..] {
        *letter = loop {
            let drawn = u64::from(rng.next_u32()) * u64::from(RANGE);
            if drawn as u32 <= ZONE {
                break b'a' + (drawn >> 32) as u8;
            }
        };
    }
}

/// The text that brings an event of `size` bytes to about `average`.
fn padding(size: usize, average: usize, text: &mut Vec<u8>, rng: &mut SmallRng) {
    text.clear();
    if size > average {
        return;
    }
    let missing = average - size;
    let delta = (missing + 2) / 5;
    let more = if delta == 0 { 0 } else { rng.gen_range(0..2 * delta) };
    letters(missing - delta + more, text, rng);
}

fn price(rng: &mut SmallRng) -> usize {
    (10.0_f32.powf(rng.r#gen::<f32>() * 6.0) * 100.0).round() as usize
}

/// The time as the crate rounds it, from which an auction's length is drawn.
fn rounded_time(event: usize) -> u64 {
    ((event as f32 * 100.0) / 1_000.0).round() as u64
}

/// Number of the last person up to an event.
fn last_person(event: usize) -> usize {
    event / 50
}

/// Number of the last auction up to an event.
fn last_auction(event: usize) -> usize {
    let (epoch, offset) = (event / 50, event % 50);
    match offset {
        0 => (epoch - 1) * 3 + 2,
        1..=3 => epoch * 3 + offset - 1,
        _ => epoch * 3 + 2,
    }
}

fn next_person(event: usize, rng: &mut SmallRng) -> usize {
    let people = last_person(event) + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + rng.gen_range(0..active + ID_LEAD)
}

fn next_auction(event: usize, rng: &mut SmallRng) -> usize {
    let last = last_auction(event);
    let first = last.saturating_sub(IN_FLIGHT_AUCTIONS);
    first + rng.gen_range(0..last - first + 1 + ID_LEAD)
}

static HOT_URLS: LazyLock<Vec<String>> = LazyLock::new(|| (0..4).map(base_url).collect());

static CHANNELS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let channel = |number: u32| {
        let mut url = base_url(u64::from(number));
        let mut rng = SmallRng::seed_from_u64(u64::from(number));
        if rng.gen_range(0..10_i32) > 0 {
            url.push_str(&format!("&channel_id={}", i64::from(number.reverse_bits() as i32).abs()));
        }
        (format!("channel-{number}"), url)
    };
    (0..10_000).map(channel).collect()
});

fn base_url(seed: u64) -> String {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut url = "https://www.nexmark.com/".to_string();
    for _ in 0..3 {
        let length = rng.gen_range(3..5_usize);
        for _ in 0..length {
            let delimiter = rng.gen_range(0..13_i32) == 0;
            url.push(if delimiter { '_' } else { char::from(rng.gen_range(b'a'..=b'z')) });
        }
        url.push('/');
    }
    url.push_str("item.htm?query=1");
    url
}
