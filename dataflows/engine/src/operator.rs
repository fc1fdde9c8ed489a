//! The operators: one idea a file, each a plain function from streams to a stream.

pub(crate) mod accumulate;
pub(crate) mod aggregate;
pub(crate) mod clock;
pub(crate) mod contenders;
pub(crate) mod epoch;
pub(crate) mod exact_sum;
pub(crate) mod exchange;
pub(crate) mod gather;
pub(crate) mod groups;
pub(crate) mod hold;
pub(crate) mod join;
pub(crate) mod late;
pub(crate) mod ledger;
pub(crate) mod lives;
pub(crate) mod map;
pub(crate) mod ordered;
pub(crate) mod over;
pub(crate) mod place;
pub(crate) mod preaggregate;
pub(crate) mod recursion;
pub(crate) mod replace;
pub(crate) mod rows;
pub(crate) mod session;
pub(crate) mod set_operation;
pub(crate) mod sides;
pub(crate) mod sink;
pub(crate) mod stamp;
pub(crate) mod temporal;
pub(crate) mod topn;
pub(crate) mod unnest;
pub(crate) mod upsert;
pub(crate) mod window;
pub(crate) mod windowed;

use timely::dataflow::Stream;

use crate::Time;
use crate::delta::Parcel;

/// Updates between operators.
pub(crate) type DeltaStream<'scope> = Stream<'scope, Time, Parcel>;
