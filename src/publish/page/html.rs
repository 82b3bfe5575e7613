//! HTML that grows piece by piece, in which nothing that came from elsewhere is markup.

use std::fmt;

use crate::text::{cut, visible};

/// A piece of a document. Markup can only be a text of this program's own; all else is escaped.
#[derive(Clone, Debug, Default)]
pub(super) struct Html {
    text: String,
}

impl Html {
    /// Adds markup.
    pub(super) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.text.push_str(markup);
        self
    }

    /// Adds text, at most `limit` characters of it: all that could be markup, end an attribute, or show nothing is escaped.
    pub(super) fn text(&mut self, text: &str, limit: usize) -> &mut Self {
        for c in cut(&visible(text), limit).chars() {
            match c {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                '\'' => self.text.push_str("&#39;"),
                c => self.text.push(c),
            }
        }
        self
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.text.push_str(&number.into().to_string());
        self
    }

    /// Adds another piece.
    pub(super) fn piece(&mut self, piece: &Self) -> &mut Self {
        self.text.push_str(&piece.text);
        self
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        html.markup("<p title=\"").text("\" onload='x", 100);
        html.markup("\">").text("<b>&amp;\u{202e}\x1b\n", 100);
        assert_eq!(
            html.to_string(),
            "<p title=\"&quot; onload=&#39;x\">&lt;b&gt;&amp;amp;\\u{202e}\\x1b\\x0a"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_before_it_is_escaped() {
        let mut html = Html::default();
        html.text("<<<<<", 3);
        assert_eq!(html.to_string(), "&lt;&lt;…");
        assert_eq!(html.len(), "&lt;&lt;…".len());
    }
}
