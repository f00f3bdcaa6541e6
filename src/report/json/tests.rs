use super::super::samples::{print, report};
use super::*;
use serde_json::Value;

#[path = "../../../tests/schema/mod.rs"]
mod schema;

const SCHEMA: &str = include_str!("../../../docs/report.schema.json");

fn printed() -> Value {
    let mut out = Vec::new();
    print(&report(), &mut Json::new(&mut out));
    serde_json::from_slice(&out).unwrap()
}

fn faults_of(value: &Value) -> Vec<String> {
    schema::breaks(SCHEMA, value)
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
