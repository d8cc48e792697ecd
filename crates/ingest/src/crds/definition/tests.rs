use super::*;

/// Every schema in it, with its path.
fn schemas<'a>(path: String, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.clone(), schema));
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key) {
            schemas(format!("{path}.{key}"), inner, found);
        }
    }
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        schemas(format!("{path}.{name}"), inner, found);
    }
}

#[test]
fn schemas_are_structural() {
    for definition in definitions() {
        let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        schemas(String::new(), root, &mut found);
        assert!(found.len() > 10);
        for (path, schema) in found {
            let any = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
            assert!(any || schema["type"].is_string(), "{path}: {schema}");
            for key in ["$ref", "anyOf", "oneOf", "title", "nullable", "definitions", "$schema"] {
                assert!(schema.get(key).is_none(), "{path} has {key}");
            }
        }
    }
}

#[test]
fn every_field_of_a_pool_is_described() {
    let definition = address_pool();
    let version = &definition["spec"]["versions"][0];
    let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let fields = spec["properties"].as_object().unwrap();
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let expected = [
        "addresses",
        "alb",
        "announce",
        "autoAssign",
        "namespaceSelector",
        "reserved",
        "serviceSelector",
        "visibility",
    ];
    assert_eq!(names, expected);
    for (name, field) in fields {
        assert!(field["description"].is_string(), "{name}");
    }
    assert_eq!(spec["required"], json!(["addresses"]));
    assert_eq!(fields["visibility"]["enum"], json!(["public", "private"]));
    assert_eq!(fields["visibility"]["default"], "public");
    assert_eq!(fields["autoAssign"]["type"], "boolean");
    assert_eq!(fields["addresses"]["minItems"], 1);
    let operator = &fields["serviceSelector"]["properties"]["matchExpressions"]["items"]["properties"]
        ["operator"];
    assert_eq!(operator["enum"], json!(["In", "NotIn", "Exists", "DoesNotExist"]));
    let names = &definition["spec"]["names"];
    assert_eq!((names["plural"].as_str(), names["singular"].as_str()), {
        (Some("addresspools"), Some("addresspool"))
    });
    assert_eq!(definition["metadata"]["name"], "addresspools.tidegate.io");
}
