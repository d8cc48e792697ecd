//! Label selectors (equality and sets) and field selectors.

use crate::kinds::Kind;
use crate::object::Object;
use crate::refusal::Refusal;

/// What a list or watch is narrowed to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// The namespace, if it isn't all.
    pub(crate) namespace: Option<String>,
    /// The name, of a watch on one object.
    pub(crate) name: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Debug)]
struct FieldRequirement {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Namespace,
    /// Of the kind's list.
    Other(usize),
}

impl Selection {
    /// Of a request's namespace and parameters.
    pub(crate) fn parse(
        kind: &Kind,
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            name: None,
            labels: label_requirements(labels.unwrap_or_default())?,
            fields: field_requirements(kind, fields.unwrap_or_default())?,
        })
    }

    /// Everything in a namespace.
    pub(crate) fn of_namespace(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::default() }
    }

    /// Whether it narrows anything but the namespace.
    pub(crate) fn narrows(&self) -> bool {
        self.name.is_some() || !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// Whether an object is among those selected.
    pub(crate) fn takes(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| object.namespace == *namespace)
            && self.name.as_ref().is_none_or(|name| object.name == *name)
            && self.labels.iter().all(|requirement| requirement.holds(object))
            && self.fields.iter().all(|requirement| requirement.holds(object))
    }
}

impl Requirement {
    fn holds(&self, object: &Object) -> bool {
        let value = |name: &String| object.labels.get(name);
        match self {
            Self::In(name, values) => value(name).is_some_and(|value| values.contains(value)),
            Self::NotIn(name, values) => value(name).is_none_or(|value| !values.contains(value)),
            Self::Exists(name) => value(name).is_some(),
            Self::Absent(name) => value(name).is_none(),
        }
    }
}

impl FieldRequirement {
    fn holds(&self, object: &Object) -> bool {
        let found = match self.field {
            Field::Name => &object.name,
            Field::Namespace => &object.namespace,
            Field::Other(place) => &object.fields[place],
        };
        (*found == self.value) == self.equal
    }
}

fn label_requirements(text: &str) -> Result<Vec<Requirement>, Refusal> {
    outside_parentheses(text).map(requirement).collect()
}

/// Parts between commas that stand in no parentheses.
fn outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn requirement(text: &str) -> Result<Requirement, Refusal> {
    let wrong = || {
        let message = format!("unable to parse requirement: {text:?} is no label requirement");
        Refusal::bad_request(message)
    };
    let name = |text: &str| -> Result<String, Refusal> {
        let text = text.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if text.is_empty() || !text.chars().all(fits) {
            return Err(wrong());
        }
        Ok(text.to_owned())
    };
    if let Some(open) = text.find('(') {
        let list = text[open + 1..].strip_suffix(')').ok_or_else(wrong)?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = text[..open].split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(label), Some("in"), None) => Ok(Requirement::In(name(label)?, values)),
            (Some(label), Some("notin"), None) => Ok(Requirement::NotIn(name(label)?, values)),
            _ => Err(wrong()),
        };
    }
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((label, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(name(label)?, one(value)));
    }
    if let Some((label, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(name(label)?, one(value)));
    }
    match text.strip_prefix('!') {
        Some(label) => Ok(Requirement::Absent(name(label)?)),
        None => Ok(Requirement::Exists(name(text)?)),
    }
}

fn field_requirements(kind: &Kind, text: &str) -> Result<Vec<FieldRequirement>, Refusal> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value, equal) = if let Some((name, value)) = part.split_once("!=") {
                (name, value, false)
            } else if let Some((name, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (name, value, true)
            } else {
                let message = format!("invalid selector: '{text}'; can't understand '{part}'");
                return Err(Refusal::bad_request(message));
            };
            let field = match name.trim() {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                other => {
                    let place = kind.selectable.iter().position(|field| field == other);
                    Field::Other(place.ok_or_else(|| {
                        Refusal::bad_request(format!("field label not supported: {other}"))
                    })?)
                }
            };
            Ok(FieldRequirement { field, value: value.trim().to_owned(), equal })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_by_equality_and_by_set() {
        let parsed = label_requirements("a=b, c!=d,e in (f, g),!h,i,j notin (k)").unwrap();
        let own = str::to_owned;
        assert_eq!(
            parsed,
            [
                Requirement::In(own("a"), vec![own("b")]),
                Requirement::NotIn(own("c"), vec![own("d")]),
                Requirement::In(own("e"), vec![own("f"), own("g")]),
                Requirement::Absent(own("h")),
                Requirement::Exists(own("i")),
                Requirement::NotIn(own("j"), vec![own("k")]),
            ]
        );
        assert!(label_requirements("a b").is_err());
        assert!(label_requirements("a in b").is_err());
    }
}
