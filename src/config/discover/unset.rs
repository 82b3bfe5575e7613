//! What of a table could not be filled in, and where that stands.

use std::collections::BTreeMap;

/// A placeholder that there is nothing for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unset {
    /// Where it stands: `http.url`. What stands there is not shown, for it may be a secret.
    pub(super) key: String,
    /// Which, with its braces.
    pub(super) placeholder: String,
    /// Why, as a sentence.
    pub(super) why: String,
}

impl Unset {
    /// The same of a table or list that has this key.
    pub(super) fn below(mut self, key: &str) -> Self {
        self.key = match &*self.key {
            "" => key.to_owned(),
            inner => format!("{key}.{inner}"),
        };
        self
    }
}

/// How a table of a list is called: as the second check of a target is.
pub(super) fn numbered(list: &str, number: usize) -> String {
    match number {
        1 => list.to_owned(),
        _ => format!("{list}#{number}"),
    }
}

/// Where a fault stands, `[[]] http[1].url`, in the table as it is written. `numbers` are those of the tables that were left
/// of each list.
pub(super) fn place_of(fault: &str, numbers: &BTreeMap<String, Vec<usize>>) -> String {
    let key = fault.strip_prefix("[[]] ").unwrap_or(fault);
    let entry = || {
        let (list, rest) = key.split_once('[')?;
        let (index, rest) = rest.split_once(']')?;
        let number = numbers.get(list)?.get(index.parse::<usize>().ok()?)?;
        Some(format!("{}{rest}", numbered(list, *number)))
    };
    entry().unwrap_or_else(|| key.to_owned())
}

/// Why something that was found lacks parts of the table, as sentences: one for each placeholder, wherever it stands.
pub(super) fn sentences(unset: &[Unset], target: &str) -> Vec<String> {
    let mut grouped: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for Unset {
        key,
        placeholder,
        why,
    } in unset
    {
        let known = grouped
            .iter_mut()
            .find(|(of, for_it, _)| (*of, *for_it) == (placeholder, why));
        match known {
            Some((_, _, keys)) => keys.push(key),
            None => grouped.push((placeholder, why, vec![key])),
        }
    }
    let sentence = |(placeholder, why, keys): (&str, &str, Vec<&str>)| {
        format!(
            "{placeholder} in {} cannot be filled in for {}: {why}",
            keys.join(", "),
            target
        )
    };
    grouped.into_iter().map(sentence).collect()
}
