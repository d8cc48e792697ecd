//! From text to a selector, by recursive descent.

use std::collections::BTreeSet;

use super::{Selector, SelectorError};

/// How deep parentheses and negations may stand in each other.
const MAX_DEPTH: usize = 50;

const OPERATOR: &str = "==, !=, in {…}, not in {…}, contains '…', starts with '…' or ends with '…'";
const TERM: &str = "a label, has(…), all(), global(), ! or (";

pub(super) fn parse(text: &str) -> Result<Selector, SelectorError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.skip_spaces();
    if parser.rest().is_empty() {
        return Ok(Selector::All);
    }
    let selector = parser.any()?;
    if parser.rest().is_empty() { Ok(selector) } else { parser.error("&&, || or the end") }
}

struct Parser<'a> {
    text: &'a str,
    /// The byte that is read next; never inside a character.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes a text and the spaces after it, if it stands here.
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
            self.skip_spaces();
        }
        found
    }

    /// Takes a word, if it stands here and ends here.
    fn take_word(&mut self, word: &str) -> bool {
        let follows = self.rest().strip_prefix(word);
        follows.is_some_and(|rest| !rest.starts_with(is_of_label)) && self.take(word)
    }

    /// Takes the words of an operator, such as `not in`; spaces between them may be missing.
    fn take_words(&mut self, first: &str, second: &str) -> bool {
        let before = self.at;
        if self.take(first) && self.take_word(second) {
            return true;
        }
        self.at = before;
        false
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<(), SelectorError> {
        if self.take(token) { Ok(()) } else { self.error(expected) }
    }

    fn error<T>(&self, expected: &'static str) -> Result<T, SelectorError> {
        let found = match self.rest().chars().next() {
            None => "the end".to_owned(),
            Some(first) => {
                let word: String = self.rest().chars().take_while(|&c| is_of_label(c)).collect();
                let shown: String = word.chars().take(40).collect();
                if shown.is_empty() { format!("{first:?}") } else { format!("{shown:?}") }
            }
        };
        let position = self.text[..self.at].chars().count() + 1;
        Err(SelectorError { position, expected, found })
    }

    fn any(&mut self) -> Result<Selector, SelectorError> {
        let mut parts = vec![self.all()?];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Ok(single(parts, Selector::Or))
    }

    fn all(&mut self) -> Result<Selector, SelectorError> {
        let mut parts = vec![self.term()?];
        while self.take("&&") {
            parts.push(self.term()?);
        }
        Ok(single(parts, Selector::And))
    }

    fn term(&mut self) -> Result<Selector, SelectorError> {
        if self.depth == MAX_DEPTH {
            return self.error("no more than 50 levels of ! and (");
        }
        self.depth += 1;
        let term = self.term_within();
        self.depth -= 1;
        term
    }

    fn term_within(&mut self) -> Result<Selector, SelectorError> {
        if self.take("!") {
            return Ok(Selector::Not(Box::new(self.term()?)));
        }
        if self.take("(") {
            let inner = self.any()?;
            self.expect(")", "&&, || or )")?;
            return Ok(inner);
        }
        for (name, selector) in [("all", Selector::All), ("global", Selector::Global)] {
            if self.is_call(name) {
                self.take(name);
                self.take("(");
                self.expect(")", ")")?;
                return Ok(selector);
            }
        }
        if self.is_call("has") {
            self.take("has");
            self.take("(");
            let label = self.label("a label")?;
            self.expect(")", ")")?;
            return Ok(Selector::Has(label));
        }
        let label = self.label(TERM)?;
        self.comparison(label)
    }

    /// Whether this name and an opening parenthesis stand here.
    fn is_call(&self, name: &str) -> bool {
        self.rest().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('('))
    }

    fn label(&mut self, expected: &'static str) -> Result<String, SelectorError> {
        let label: String = self.rest().chars().take_while(|&c| is_of_label(c)).collect();
        if label.is_empty() {
            return self.error(expected);
        }
        self.take(&label);
        Ok(label)
    }

    fn comparison(&mut self, label: String) -> Result<Selector, SelectorError> {
        if self.take("==") {
            Ok(Selector::Equal(label, self.value()?))
        } else if self.take("!=") {
            Ok(Selector::NotEqual(label, self.value()?))
        } else if self.take_word("in") {
            Ok(Selector::In(label, self.values()?))
        } else if self.take_words("not", "in") {
            Ok(Selector::NotIn(label, self.values()?))
        } else if self.take_word("contains") {
            Ok(Selector::Contains(label, self.value()?))
        } else if self.take_words("starts", "with") {
            Ok(Selector::StartsWith(label, self.value()?))
        } else if self.take_words("ends", "with") {
            Ok(Selector::EndsWith(label, self.value()?))
        } else {
            self.error(OPERATOR)
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        self.expect("{", "{ and values in quotes")?;
        let mut values = BTreeSet::new();
        if self.take("}") {
            return Ok(values);
        }
        loop {
            values.insert(self.value()?);
            if self.take("}") {
                return Ok(values);
            }
            self.expect(",", ", or }")?;
        }
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        let quote = self.rest().chars().next().filter(|c| ['\'', '"'].contains(c));
        let Some(quote) = quote else { return self.error("a value in quotes") };
        let inner = &self.rest()[1..];
        let Some(length) = inner.find(quote) else {
            self.at = self.text.len();
            return self.error("the quote that ends the value");
        };
        self.at += length + 2;
        self.skip_spaces();
        Ok(inner[..length].to_owned())
    }
}

fn is_of_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./-".contains(c)
}

fn single(mut parts: Vec<Selector>, join: fn(Vec<Selector>) -> Selector) -> Selector {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            join(parts)
        }
    }
}
