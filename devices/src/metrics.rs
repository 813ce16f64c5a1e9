//! What is counted, beside what counts it.
//!
//! A device declares its figures with [`group!`](crate::group): one struct whose fields are the figures, whose
//! doc comments are what an operator reads of them, and which lists itself as a [`Group`]. Counting is one
//! relaxed addition; there is no lock, and nobody waits for a reader.
//!
//! The fields of a group's first part have the names of Firecracker's metrics and are written under these;
//! those of the part behind `and` are ravelin's own, which no Firecracker client is shown.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One in so many events is timed where reading the clock would cost as much as the event.
const SAMPLE: u64 = 64;

/// A number that only grows; any writers, any readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; wraps after 2^64.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that stands until another is set.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets the value to the microseconds that `act` takes.
    pub fn time<T>(&self, act: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let outcome = act();
        self.set(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        outcome
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter of something that cannot happen in ravelin: it costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

/// How long something took: the shortest, the longest, and all together. One writer at a time.
#[derive(Debug, Default)]
pub struct Latency {
    /// The shortest in ns, and 1 more: 0 says that nothing was timed.
    shortest: AtomicU64,
    longest: AtomicU64,
    sum: AtomicU64,
}

impl Latency {
    /// Adds an event that took `took` and stands for `weight` events.
    pub fn record(&self, took: Duration, weight: u64) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let shortest = self.shortest.load(Ordering::Relaxed);
        if shortest == 0 || ns < shortest {
            self.shortest.store(ns.saturating_add(1), Ordering::Relaxed);
        }
        if ns > self.longest.load(Ordering::Relaxed) {
            self.longest.store(ns, Ordering::Relaxed);
        }
        self.sum
            .fetch_add(ns.saturating_mul(weight), Ordering::Relaxed);
    }

    fn get(&self, value: &AtomicU64) -> u64 {
        value.load(Ordering::Relaxed) / 1000
    }
}

/// Times one in 64 of the events of one thread; each timed one stands for those that were not.
#[derive(Debug, Default)]
pub struct Sampler(u64);

/// An event that is being timed.
#[derive(Debug)]
#[must_use = "an event that is not finished is not counted"]
pub struct Timing {
    since: Instant,
    weight: u64,
}

impl Sampler {
    /// Begins an event; `None` when it is not one of those that are timed.
    pub fn begin(&mut self) -> Option<Timing> {
        let before = self.0;
        self.0 = before.wrapping_add(1);
        // The first stands for itself alone, so that the sum never tells of more events than there were.
        before.is_multiple_of(SAMPLE).then(|| Timing {
            since: Instant::now(),
            weight: if before == 0 { 1 } else { SAMPLE },
        })
    }
}

impl Timing {
    /// The event is over.
    pub fn end(self, latency: &Latency) {
        latency.record(self.since.elapsed(), self.weight);
    }
}

/// The present value of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: it cannot happen. Clients that expect the key see a 0.
    Never,
    /// How often, or how much, since the start.
    Count(u64),
    /// What was set last.
    Level(u64),
    /// How long, since the start, in microseconds.
    Latency {
        /// The shortest.
        min_us: u64,
        /// The longest.
        max_us: u64,
        /// All together.
        sum_us: u64,
    },
}

/// Who reads a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody: Firecracker has it too.
    All,
    /// Who asks ravelin itself.
    Own,
}

/// A figure as it stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name in its group.
    pub key: &'static str,
    /// What it counts: a sentence.
    pub help: &'static str,
    /// Who reads it.
    pub audience: Audience,
    /// Its value.
    pub value: Value,
}

/// Something that has a value.
pub trait Measure {
    /// The present value.
    fn value(&self) -> Value;
}

impl Measure for Counter {
    fn value(&self) -> Value {
        Value::Count(self.get())
    }
}

impl Measure for Level {
    fn value(&self) -> Value {
        Value::Level(self.get())
    }
}

impl Measure for Never {
    fn value(&self) -> Value {
        Value::Never
    }
}

impl Measure for Latency {
    fn value(&self) -> Value {
        let shortest = self.shortest.load(Ordering::Relaxed).saturating_sub(1);
        Value::Latency {
            min_us: shortest / 1000,
            max_us: self.get(&self.longest),
            sum_us: self.get(&self.sum),
        }
    }
}

/// Figures that belong together. **The same keys in the same order at every call.**
pub trait Group: Debug + Send + Sync {
    /// Shows every figure, in order.
    fn visit(&self, see: &mut dyn FnMut(Figure));

    /// Every figure, in order.
    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        self.visit(&mut |figure| figures.push(figure));
        figures
    }
}

/// Declares a struct of figures that is a [`Group`]; see the [module](crate::metrics).
///
/// ```
/// use devices::metrics::{Counter, Group, Never, Value};
///
/// devices::group! {
///     /// What a door counts.
///     pub struct Door {
///         /// Times it was opened.
///         pub open_count: Counter,
///         /// Times it was kicked in: this door never is.
///         pub break_count: Never,
///     } and {
///         /// Times it creaked.
///         pub creaks: Counter,
///     }
/// }
///
/// let door = Door::default();
/// door.open_count.increment();
/// let figures = door.figures();
/// assert_eq!(figures.len(), 3);
/// assert_eq!((figures[0].key, figures[0].value), ("open_count", Value::Count(1)));
/// assert_eq!(figures[0].help.trim(), "Times it was opened.");
/// ```
#[macro_export]
macro_rules! group {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $help:literal])+ $see:vis $key:ident: $kind:ty, )*
        } $( and {
            $( $(#[doc = $own_help:literal])+ $own_see:vis $own_key:ident: $own_kind:ty, )*
        } )?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $name {
            $( $(#[doc = $help])+ $see $key: $kind, )*
            $( $( $(#[doc = $own_help])+ $own_see $own_key: $own_kind, )* )?
        }

        impl $crate::metrics::Group for $name {
            fn visit(&self, see: &mut dyn FnMut($crate::metrics::Figure)) {
                use $crate::metrics::{Audience, Figure, Measure};
                $( see(Figure {
                    key: stringify!($key),
                    help: concat!($($help),+),
                    audience: Audience::All,
                    value: Measure::value(&self.$key),
                }); )*
                $( $( see(Figure {
                    key: stringify!($own_key),
                    help: concat!($($own_help),+),
                    audience: Audience::Own,
                    value: Measure::value(&self.$own_key),
                }); )* )?
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::group! {
        /// For these tests.
        struct Kinds {
            /// One.
            count: Counter,
            /// Two
            /// lines.
            level: Level,
            /// Three.
            never: Never,
            /// Four.
            time: Latency,
        } and {
            /// Five.
            own: Counter,
        }
    }

    #[test]
    fn a_group_lists_its_fields_in_order_with_their_docs() {
        let kinds = Kinds::default();
        kinds.count.add(7);
        kinds.level.set(8);
        let seen: Vec<_> = kinds.figures();
        let keys: Vec<_> = seen.iter().map(|figure| figure.key).collect();
        assert_eq!(keys, ["count", "level", "never", "time", "own"]);
        let values: Vec<_> = seen.iter().map(|figure| figure.value).collect();
        assert_eq!(values[..2], [Value::Count(7), Value::Level(8)]);
        assert_eq!(values[2], Value::Never);
        assert_eq!(seen[1].help, " Two lines.");
        assert_eq!(seen[3].audience, Audience::All);
        assert_eq!(seen[4].audience, Audience::Own);
    }

    #[test]
    fn a_latency_has_the_shortest_the_longest_and_the_sum() {
        let time = Latency::default();
        let values = |min_us, max_us, sum_us| Value::Latency {
            min_us,
            max_us,
            sum_us,
        };
        assert_eq!(time.value(), values(0, 0, 0));
        time.record(Duration::from_micros(40), 1);
        assert_eq!(time.value(), values(40, 40, 40));
        time.record(Duration::from_micros(5), 2);
        time.record(Duration::from_nanos(1500), 1);
        assert_eq!(time.value(), values(1, 40, 51));
        time.record(Duration::ZERO, 1);
        time.record(Duration::from_micros(9), 1);
        assert_eq!(time.value(), values(0, 40, 60));
    }

    #[test]
    fn one_event_in_sixty_four_is_timed_and_stands_for_the_others() {
        let mut sampler = Sampler::default();
        let weights: Vec<_> = (0..129)
            .filter_map(|event| sampler.begin().map(|timing| (event, timing.weight)))
            .collect();
        assert_eq!(weights, [(0, 1), (64, 64), (128, 64)]);
    }
}
