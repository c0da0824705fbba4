//! Names that are misspelt: which known one may be meant.

/// Names less alike than this are other names.
const ALIKE: f64 = 0.6;

/// The known name that is most like `name`; `None` where none is much like it.
pub fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let rated = known
        .into_iter()
        .map(|known| (rating(&wanted, &known.to_lowercase()), known));
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(rating, _)| *rating >= ALIKE)
        .map(|(_, known)| known)
}

/// From 0 to 1. Whoever leaves out the end of a long name means it, too.
fn rating(name: &str, known: &str) -> f64 {
    let alike = strsim::normalized_damerau_levenshtein(name, known);
    let begins = name.len() >= 3 && known.len() > name.len() && known.starts_with(name);
    if begins { alike.max(ALIKE) } else { alike }
}

/// As in `; did you mean marketing?`, or nothing where no known name is much like it.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    meant(name, known).map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_is_most_alike_is_meant() {
        for (name, known, expected) in [
            ("marketin", &["poet", "marketing"][..], Some("marketing")),
            ("peot", &["poet", "marketing"][..], Some("poet")),
            (
                "crew",
                &["broker", "crews", "gateway", "worker"][..],
                Some("crews"),
            ),
            (
                "timeout",
                &["concurrency", "timeout_s", "on_timeout"][..],
                Some("timeout_s"),
            ),
            ("Poet", &["poet"][..], Some("poet")),
            ("nobody", &["echo", "marketing"][..], None),
            ("x", &[][..], None),
        ] {
            assert_eq!(meant(name, known.iter().copied()), expected, "{name}");
        }
        assert_eq!(did_you_mean("peot", ["poet"]), "; did you mean poet?");
        assert_eq!(did_you_mean("nobody", ["poet"]), "");
    }
}
