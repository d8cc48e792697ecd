//! meta/v1 LabelSelector, with a schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

const VALUES: &str = "(self.operator in ['In', 'NotIn']) == (has(self.values) && \
                      self.values.size() > 0)";
const WRITE: &str = "In and NotIn have values, Exists and DoesNotExist have none";

/// Selects by labels. All of it must hold; an empty one selects everything.
// A restriction: a field that isn't known must not be passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// These labels have these values.
    pub match_labels: Option<BTreeMap<String, String>>,
    /// These requirements hold.
    #[schemars(length(max = 32))]
    pub match_expressions: Option<Vec<LabelRequirement>>,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": VALUES, "message": WRITE}]))]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// What about it.
    pub operator: LabelOperator,
    /// For In and NotIn one or more, otherwise none.
    pub values: Option<Vec<String>>,
}

/// What must hold for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or isn't there.
    NotIn,
    /// It is there.
    Exists,
    /// It isn't there.
    DoesNotExist,
}
