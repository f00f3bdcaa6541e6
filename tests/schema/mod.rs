//! Whether JSON obeys one of our schemas.

use serde_json::Value;

/// What of `value` the text of a schema does not allow.
pub fn breaks(schema: &str, value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let mut found = Vec::new();
    faults(&schema, &schema, value, "", &mut found);
    found
}

/// What of `value` the schema does not allow. Knows the keywords that our schema uses, and refuses others.
fn faults(root: &Value, schema: &Value, value: &Value, at: &str, into: &mut Vec<String>) {
    let allows = |schema: &Value| {
        let mut inside = Vec::new();
        faults(root, schema, value, at, &mut inside);
        inside.is_empty()
    };
    for (keyword, rule) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let target = rule.as_str().unwrap().strip_prefix('#').unwrap();
                faults(root, root.pointer(target).unwrap(), value, at, into);
                true
            }
            "anyOf" => rule.as_array().unwrap().iter().any(allows),
            "oneOf" => rule.as_array().unwrap().iter().filter(|one| allows(one)).count() == 1,
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|value| value >= rule.as_f64().unwrap()),
            "type" => match rule {
                Value::String(one) => is(value, one),
                several => several.as_array().unwrap().iter().any(|one| is(value, one.as_str().unwrap())),
            },
            "pattern" => {
                let length = match rule.as_str() {
                    Some("^0x[0-9a-f]{16}$") => 16..=16,
                    Some("^0x[0-9a-f]+$") => 1..=16,
                    other => panic!("the schema has a pattern that this test does not know: {other:?}"),
                };
                let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
                let is_digit = |digit: char| digit.is_ascii_digit() || ('a'..='f').contains(&digit);
                digits.is_some_and(|digits| length.contains(&digits.len()) && digits.chars().all(is_digit))
            }
            "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    faults(root, rule, item, &format!("{at}/{index}"), into);
                }
                true
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        faults(root, rule, inner, &format!("{at}/{name}"), into);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let others = value.as_object().into_iter().flatten();
                for (name, inner) in others.filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name))) {
                    match rule {
                        Value::Bool(false) => into.push(format!("{at}/{name}: not in the schema")),
                        rule => faults(root, rule, inner, &format!("{at}/{name}"), into),
                    }
                }
                true
            }
            other => panic!("the schema has a keyword that this test does not know: {other}"),
        };
        if !holds {
            into.push(format!("{at}: {value} breaks {keyword} {rule}"));
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "number" => value.is_number(),
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}
