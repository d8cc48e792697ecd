//! CustomResourceDefinition to the kinds that it defines, one for each version served.

use serde_json::Value;

use super::{Column, Kind, View};
use crate::shape::Shape;

/// What keeps a definition from being served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is missing or not of its type")]
pub(crate) struct DefinitionError {
    /// The field.
    pub(crate) field: String,
}

/// The kinds of a definition.
pub(crate) fn kinds_of(definition: &Value) -> Result<Vec<Kind>, DefinitionError> {
    let spec = &definition["spec"];
    let group = text(&spec["group"], "spec.group")?;
    let names = &spec["names"];
    let kind = text(&names["kind"], "spec.names.kind")?;
    let plural = text(&names["plural"], "spec.names.plural")?;
    let singular = names["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned);
    let namespaced = match spec["scope"].as_str() {
        Some("Namespaced") => true,
        Some("Cluster") => false,
        _ => return Err(missing("spec.scope")),
    };
    let versions = spec["versions"].as_array().ok_or_else(|| missing("spec.versions"))?;
    let served = versions.iter().filter(|version| version["served"] == true);
    served
        .map(|version| {
            let schema = version["schema"]["openAPIV3Schema"].clone();
            Ok(Kind {
                group: group.clone(),
                version: text(&version["name"], "spec.versions.name")?,
                kind: kind.clone(),
                plural: plural.clone(),
                singular: singular.clone(),
                short_names: strings(&names["shortNames"]),
                categories: strings(&names["categories"]),
                namespaced,
                status: version["subresources"]["status"].is_object(),
                generation: true,
                unconditional: false,
                builtin: false,
                selectable: version["selectableFields"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|field| field["jsonPath"].as_str())
                    .map(|path| path.trim_start_matches('.').to_owned())
                    .collect(),
                columns: columns(&version["additionalPrinterColumns"]),
                shape: Shape::of_schema(&schema),
                schema: schema.is_object().then_some(schema),
                shelf: 0,
                view: View::Plain,
            })
        })
        .collect()
}

fn columns(list: &Value) -> Vec<Column> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.as_array()
        .into_iter()
        .flatten()
        .map(|column| Column {
            name: text(&column["name"]),
            kind: text(&column["type"]),
            format: text(&column["format"]),
            path: text(&column["jsonPath"]),
            priority: column["priority"].as_i64().unwrap_or(0),
            description: text(&column["description"]),
        })
        .collect()
}

fn text(value: &Value, field: &str) -> Result<String, DefinitionError> {
    value.as_str().map(str::to_owned).ok_or_else(|| missing(field))
}

fn missing(field: &str) -> DefinitionError {
    DefinitionError { field: field.to_owned() }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
