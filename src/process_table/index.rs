//! Where each short piece of a text stands: for many searches of one text.
//!
//! A search for one needle reads the whole text, and each service has a needle of its own: with a thousand of them that
//! was a twelfth of all instructions of a run, and it grew with the square of their number. With an index, a search
//! looks only at the places of that gram of the needle, four bytes, which has the fewest. Letters of either case have one
//! hash, so that needles of any case are found as well.
//!
//! An Aho-Corasick automaton of all needles searches for them at once, but to build it takes more than all of that: for a
//! thousand command lines it was 10 million instructions to 3 million, of 100 million that the run took.

use super::needles::Needle;

/// How many bytes a gram has.
const GRAM: usize = 4;

/// Of a longer text, no index is made: it takes up to six times the memory of its text, and one process can have a
/// command line of 256 KiB. A few hundred bytes are usual: then the processes must be very many to come to this.
const TEXT_LIMIT: usize = 4 << 20;

/// Grams of more places than one in so many bytes are no help: to look at a place costs as much as to search past this
/// many bytes.
const COMMON: usize = 64;

/// The places of all grams of a text, those of equal hash together.
#[derive(Debug)]
pub(super) struct Index {
    /// By hash.
    grams: Vec<Places>,
    /// Behind each place, the next one of the same hash.
    next: Vec<u32>,
    /// How far a hash is shifted to be an index of `grams`.
    shift: u32,
}

/// The places of one hash.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    first: u32,
    count: u32,
}

impl Index {
    /// The index of a text; none where it is too long.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_LIMIT {
            return None;
        }
        let grams = text.array_windows::<GRAM>();
        let count = u32::try_from(grams.len()).ok()?;
        let bits = (count / 8).max(2).next_power_of_two().ilog2();
        let mut index = Self {
            grams: vec![Places::default(); 1 << bits],
            next: vec![0; grams.len()],
            shift: u32::BITS - bits,
        };
        // from the last to the first, so that the places of each ascend
        for ((place, &gram), next) in (0..count).zip(grams).zip(&mut index.next).rev() {
            let places = &mut index.grams[hash(gram, index.shift)];
            *next = places.first;
            places.first = place;
            places.count += 1;
        }
        Some(index)
    }

    /// At how many places one of these texts may stand; none where it is no faster to look there than to search.
    pub(super) fn count(&self, choice: &[Needle<'_>], text: &[u8]) -> Option<usize> {
        let counts = choice
            .iter()
            .map(|needle| Some(self.rarest(needle)?.1.count));
        let sum: u32 = counts.sum::<Option<u32>>()?;
        let count = sum as usize;
        (count <= text.len() / COMMON).then_some(count)
    }

    /// Where a needle stands in the text that this is the index of, from the first to the last; none where it is too
    /// short for that.
    pub(super) fn find<'a>(
        &'a self,
        needle: Needle<'a>,
        text: &'a [u8],
    ) -> Option<impl Iterator<Item = usize> + 'a> {
        let (offset, places) = self.rarest(&needle)?;
        let found = std::iter::successors(Some(places.first as usize), |&place| {
            Some(self.next[place] as usize)
        })
        .take(places.count as usize)
        .filter_map(move |place| place.checked_sub(offset))
        .filter(move |&place| needle.begins(&text[place..]));
        Some(found)
    }

    /// The gram of a needle with the fewest places, and where it stands in it.
    fn rarest(&self, needle: &Needle<'_>) -> Option<(usize, Places)> {
        needle
            .text
            .array_windows::<GRAM>()
            .map(|&gram| self.grams[hash(gram, self.shift)])
            .enumerate()
            .min_by_key(|(_, places)| places.count)
    }
}

/// The hash of a gram, by Knuth: its upper bits depend on all of the gram. The bit in which the cases of a letter differ
/// is set, so that it does not count; it is in most of what is no letter.
fn hash(gram: [u8; GRAM], shift: u32) -> usize {
    const CASE: u32 = u32::from_ne_bytes([0x20; GRAM]);
    ((u32::from_ne_bytes(gram) | CASE).wrapping_mul(0x9E37_79B1) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Where a needle stands in a text, with an index where that is no slower, and without.
    fn in_case(any_case: bool, needle: &[u8], text: &[u8]) -> (Option<Vec<usize>>, Vec<usize>) {
        let index = Index::of(text).unwrap();
        let needle = Needle {
            text: needle,
            any_case,
        };
        let plain = (0..text.len()).filter(|&place| needle.begins(&text[place..]));
        let found = index.count(&[needle], text).map(|count| {
            let found: Vec<usize> = index.find(needle, text).unwrap().collect();
            assert!(found.len() <= count);
            found
        });
        (found, plain.collect())
    }

    fn both_ways(needle: &[u8], text: &[u8]) -> (Option<Vec<usize>>, Vec<usize>) {
        in_case(false, needle, text)
    }

    proptest! {
        #[test]
        fn every_place_is_found_in_order(
            needle in vec(select(b"abA\0".to_vec()), GRAM..9),
            mut text in vec(select(b"abA\0".to_vec()), 0..200),
            from in 0..200_usize,
            any_case in any::<bool>(),
        ) {
            // so much that no gram is common
            text.resize(text.len() + 300 * COMMON, b'x');
            let part = text[from.min(text.len())..].iter().take(needle.len());
            for needle in [part.copied().collect(), needle] {
                if let (Some(found), plain) = in_case(any_case, &needle, &text) {
                    prop_assert_eq!(found, plain);
                } else {
                    prop_assert!(needle.contains(&b'x'));
                }
            }
        }
    }

    #[test]
    fn texts_and_needles_of_all_lengths() {
        for length in 0..20 {
            let text: Vec<u8> = (0..length).collect();
            // so short that whatever stands there at all is common
            for from in 0..text.len() {
                for to in from..=text.len() {
                    assert_eq!(both_ways(&text[from..to], &text).0, None);
                }
            }
        }
        let text = [b"-".repeat(2 * COMMON), b"a needle".to_vec()].concat();
        for (needle, found) in [
            (&b"needle"[..], Some(&[2 * COMMON + 2][..])),
            (b"a needle", Some(&[2 * COMMON])),
            (b"-a needle", Some(&[2 * COMMON - 1])),
            (b"needles", Some(&[])),
            (b"dle", None),
            (b"", None),
            (b"----", None),
            (b"----a needle", Some(&[2 * COMMON - 4])),
        ] {
            assert_eq!(both_ways(needle, &text).0.as_deref(), found, "{needle:?}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_has_none() {
        let mut text = b"needle".repeat(TEXT_LIMIT / 6 + 1);
        assert!(Index::of(&text).is_none());
        text.truncate(TEXT_LIMIT);
        let index = Index::of(&text).unwrap();
        let taken = size_of_val(&*index.grams) + size_of_val(&*index.next);
        assert!(taken <= 6 * text.len(), "{taken}");
    }
}
