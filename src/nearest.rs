//! The name that somebody who mistyped one most likely meant.

/// Below this likeness (Jaro-Winkler, 0 to 1) a name is another name.
const LIKE: f64 = 0.8;

/// What is added to a message of serde about an unknown name that lists the known ones: `; did you mean
/// `...`?`, or nothing where none is like it.
pub(crate) fn suggestion(message: &str) -> String {
    let Some((_, rest)) = message.split_once("unknown field ") else {
        return String::new();
    };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(given) = names.next() else {
        return String::new();
    };
    let likeness = |name: &str| strsim::jaro_winkler(given, name);
    names
        .filter(|name| likeness(name) >= LIKE)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_the_known_names_is_suggested() {
        let message =
            "unknown field `boot-sauce`, expected one of `drives`, `boot-source` at line 1";
        assert_eq!(suggestion(message), "; did you mean `boot-source`?");
    }

    #[test]
    fn nothing_is_suggested_where_nothing_is_like_it() {
        for message in [
            "unknown field `x`, expected one of `drives`, `boot-source`",
            "unknown field `x`, there are no fields",
            "missing field `drive_id` at line 1 column 2",
        ] {
            assert_eq!(suggestion(message), "", "{message}");
        }
    }
}
