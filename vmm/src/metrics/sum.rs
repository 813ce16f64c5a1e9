//! Figures together, and figures since another time.

use devices::metrics::{Figure, Value};

/// What was counted since `before`, which has the same figures. What is no count stands as it is.
pub(super) fn since(now: &[Figure], before: &[Figure]) -> Vec<Figure> {
    let less = |(now, before): (&Figure, &Figure)| Figure {
        value: match (now.value, before.value) {
            (Value::Count(now), Value::Count(before)) => Value::Count(now.wrapping_sub(before)),
            (
                Value::Latency {
                    min_us,
                    max_us,
                    sum_us,
                },
                Value::Latency { sum_us: before, .. },
            ) => Value::Latency {
                min_us,
                max_us,
                sum_us: sum_us.wrapping_sub(before),
            },
            (now, _) => now,
        },
        ..*now
    };
    now.iter().zip(before).map(less).collect()
}

/// Adds `more`, which has the same figures, to `total`.
pub(super) fn add(total: &mut [Figure], more: &[Figure]) {
    for (total, more) in total.iter_mut().zip(more) {
        total.value = match (total.value, more.value) {
            (Value::Count(a), Value::Count(b)) => Value::Count(a.wrapping_add(b)),
            (
                Value::Latency {
                    min_us,
                    max_us,
                    sum_us,
                },
                Value::Latency {
                    min_us: other_min,
                    max_us: other_max,
                    sum_us: other_sum,
                },
            ) => Value::Latency {
                min_us: shortest(min_us, other_min),
                max_us: max_us.max(other_max),
                sum_us: sum_us.wrapping_add(other_sum),
            },
            (_, other) => other,
        };
    }
}

/// Leaves of each latency only the sum: Firecracker tells the shortest and the longest of devices of which
/// there may be several for each alone.
pub(super) fn without_extremes(figures: &mut [Figure]) {
    for figure in figures {
        if let Value::Latency { min_us, max_us, .. } = &mut figure.value {
            (*min_us, *max_us) = (0, 0);
        }
    }
}

/// 0 says that nothing was timed.
fn shortest(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, time) | (time, 0) => time,
        (a, b) => a.min(b),
    }
}

#[cfg(test)]
mod tests {
    use devices::metrics::Audience;

    use super::*;

    fn figures(values: [Value; 3]) -> Vec<Figure> {
        let figure = |value| Figure {
            key: "k",
            help: "",
            audience: Audience::All,
            value,
        };
        values.map(figure).into()
    }

    fn latency(min_us: u64, max_us: u64, sum_us: u64) -> Value {
        Value::Latency {
            min_us,
            max_us,
            sum_us,
        }
    }

    #[test]
    fn counts_are_told_since_the_last_time_and_levels_as_they_are() {
        let before = figures([Value::Count(3), Value::Level(9), latency(2, 9, 30)]);
        let now = figures([Value::Count(10), Value::Level(4), latency(1, 9, 31)]);
        let expected = figures([Value::Count(7), Value::Level(4), latency(1, 9, 1)]);
        assert_eq!(since(&now, &before), expected);
    }

    #[test]
    fn a_sum_has_the_shortest_of_what_was_timed() {
        let mut total = figures([Value::Count(1), Value::Never, latency(0, 0, 0)]);
        let first = figures([Value::Count(2), Value::Never, latency(5, 8, 20)]);
        let second = figures([Value::Count(3), Value::Never, latency(3, 7, 10)]);
        add(&mut total, &first);
        add(&mut total, &second);
        let expected = figures([Value::Count(6), Value::Never, latency(3, 8, 30)]);
        assert_eq!(total, expected);
        without_extremes(&mut total);
        assert_eq!(total[2].value, latency(0, 0, 30));
    }
}
