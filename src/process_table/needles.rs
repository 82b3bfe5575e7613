//! Texts without which a command line is not wanted: to find the few that may be, among thousands, without looking at
//! each.

/// A text, of one byte at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needle<'a> {
    /// The text.
    pub text: &'a [u8],
    /// Letters of ASCII may stand in either case.
    pub any_case: bool,
}

impl Needle<'_> {
    /// Whether it stands at the beginning of some text.
    pub(super) fn begins(&self, text: &[u8]) -> bool {
        text.get(..self.text.len()).is_some_and(|beginning| {
            beginning == self.text || (self.any_case && beginning.eq_ignore_ascii_case(self.text))
        })
    }
}

/// In each command line that is wanted stands one text, at least, of each of these choices. Without a choice nothing is
/// known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needles<'a> {
    /// None is empty.
    choices: Vec<Vec<Needle<'a>>>,
}

impl<'a> Needles<'a> {
    /// Where nothing is known of what is wanted.
    pub const NONE: Needles<'static> = Needles {
        choices: Vec::new(),
    };

    /// Where one text stands in all that is wanted.
    pub fn text(text: &'a [u8]) -> Self {
        let any_case = false;
        Self::of([[Needle { text, any_case }]])
    }

    /// Where one text of each choice does. A choice with a text of no bytes, or without a text, tells nothing.
    pub fn of<C: IntoIterator<Item = Needle<'a>>>(choices: impl IntoIterator<Item = C>) -> Self {
        let choices = choices
            .into_iter()
            .map(|choice| choice.into_iter().collect::<Vec<_>>())
            .filter(|choice| {
                !choice.is_empty() && choice.iter().all(|needle| !needle.text.is_empty())
            });
        Self {
            choices: choices.collect(),
        }
    }

    /// The choices.
    pub fn choices(&self) -> impl Iterator<Item = &[Needle<'a>]> {
        self.choices.iter().map(Vec::as_slice)
    }

    /// The choice to search for without an index: of those whose texts stand as they are, the one whose shortest text is
    /// the longest.
    pub(super) fn rarest(&self) -> Option<&[Needle<'a>]> {
        let shortest = |choice: &&[Needle<'_>]| choice.iter().map(|needle| needle.text.len()).min();
        self.choices()
            .filter(|choice| choice.iter().all(|needle| !needle.any_case))
            .max_by_key(shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needle(text: &str, any_case: bool) -> Needle<'_> {
        Needle {
            text: text.as_bytes(),
            any_case,
        }
    }

    #[test]
    fn a_needle_begins_a_text_in_its_case_or_in_any() {
        for (text, exactly, in_any_case) in [
            ("bot-1 x", true, true),
            ("bot-1", true, true),
            ("Bot-1", false, true),
            ("bot", false, false),
            ("x bot-1", false, false),
            ("", false, false),
        ] {
            let begins = |any_case| needle("bot-1", any_case).begins(text.as_bytes());
            assert_eq!(
                (begins(false), begins(true)),
                (exactly, in_any_case),
                "{text}"
            );
        }
    }

    #[test]
    fn what_tells_nothing_is_left_out_and_the_longest_is_searched_for() {
        assert_eq!(Needles::NONE.rarest(), None);
        assert_eq!(Needles::text(b""), Needles::NONE);
        let needles = Needles::of([
            vec![needle("java ", false)],
            vec![needle("app-17", false), needle("app-018", false)],
            vec![needle("long but in any case", true)],
            vec![
                needle("a text that does not help", false),
                needle("", false),
            ],
            vec![],
        ]);
        assert_eq!(needles.choices().count(), 3);
        assert_eq!(
            needles.rarest().unwrap(),
            [needle("app-17", false), needle("app-018", false)]
        );
    }
}
