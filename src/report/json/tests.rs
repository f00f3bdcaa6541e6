use super::super::samples::{print, report};
use super::*;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../../docs/report.schema.json");

fn printed() -> Value {
    let mut out = Vec::new();
    print(&report(), &mut Json::new(&mut out));
    serde_json::from_slice(&out).unwrap()
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
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|value| value >= rule.as_f64().unwrap()),
            "type" => match rule {
                Value::String(one) => is(value, one),
                several => several.as_array().unwrap().iter().any(|one| is(value, one.as_str().unwrap())),
            },
            "pattern" => {
                assert_eq!(rule, "^0x[0-9a-f]{16}$");
                let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
                let is_digit = |digit: char| digit.is_ascii_digit() || ('a'..='f').contains(&digit);
                digits.is_some_and(|digits| digits.len() == 16 && digits.chars().all(is_digit))
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
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}

fn faults_of(value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut found = Vec::new();
    faults(&schema, &schema, value, "", &mut found);
    found
}

#[test]
fn a_report_obeys_the_published_schema() {
    assert_eq!(faults_of(&printed()), Vec::<String>::new());
}

#[test]
fn the_schema_refuses_what_it_does_not_describe() {
    let mut report = printed();
    report["threads"][0]["frames"][0]["offset"] = json!("0x1");
    report["threads"][0]["new"] = json!(1);
    report["modules"][0].as_object_mut().unwrap().remove("path");
    assert_eq!(faults_of(&report).len(), 3, "{:#?}", faults_of(&report));
}

#[test]
fn the_schema_names_the_version_that_is_written() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    assert_eq!(schema["properties"]["schema_version"]["const"], SCHEMA_VERSION);
}

#[test]
fn a_frame_has_the_fields_of_minidump_tools_and_ours() {
    let report = printed();
    assert_eq!(report["crash_info"]["type"], "SIGABRT / SI_TKILL");
    assert_eq!(report["crashing_thread"], json!({"threads_index": 0, "thread_id": 10}));
    let frame = &report["threads"][0]["frames"][2];
    assert_eq!(frame["function"], "post");
    assert_eq!(frame["inlines"], json!([{"function": "add", "file": "/src/demo.c", "line": 16, "column": 5}]));
    assert_eq!(frame["kind"], "signal");
    assert_eq!((&frame["trust"], &frame["found_by"]), (&json!("cfi"), &json!("signal_frame:bytes")));
    assert_eq!(frame["module"], "demo");
    assert_eq!(frame["module_offset"], "0x0000000000001014");
    assert_eq!(frame["signal"]["address"], "0x0000000000000018");
    assert_eq!(frame["registers"]["rbp"], "0x000000007ffc0120");
    assert_eq!(frame["registers_saved_at"], json!({"rbp": "0x000000007ffc0040"}));
    assert_eq!(report["threads"][0]["frames"][4], json!({"kind": "repeat", "length": 1, "times": 174_760}));
}
