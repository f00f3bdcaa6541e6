//! A decision as JSON: `docs/check.schema.json`.

use super::check::Examined;
use super::decision::{Answer, Hit, Reason, Standing};
use super::target::{Target, Version, Whose};
use super::text::words;
use super::trace::Of;
use super::world::Obstacle;
use serde_json::{Value, json};
use surestack_reliable::{Doubted, Missing};

/// What was examined, as one JSON value.
pub fn json(examined: &Examined) -> Value {
    let Examined { targets, searched, decision, .. } = examined;
    let (overall, reasons) = words(&decision.overall);
    json!({
        "decision": overall.replace(' ', "_"),
        "reasons": reasons.iter().map(reason).collect::<Vec<_>>(),
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
        "threads": decision.threads.iter().map(answer).collect::<Vec<_>>(),
        "searched": searched.as_ref().map(|searched| json!({
            "bytes": searched.bytes,
            "seconds": searched.took.as_secs_f64(),
        })),
    })
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn target(target: &Target) -> Value {
    let part = |part: &super::Part| {
        let whose = match part.whose {
            Whose::Body => "body",
            Whose::Split => "split",
            Whose::Host => "host",
            Whose::Version => "version",
        };
        json!({ "start": hex(part.range.start), "end": hex(part.range.end), "name": part.name, "why": whose })
    };
    let live = match target.live {
        Version::Original => "original",
        Version::Patched(_) => "patched",
        Version::Reverting(_) => "reverting",
    };
    json!({ "name": target.name, "live": live, "parts": target.live().iter().map(part).collect::<Vec<_>>() })
}

fn answer(answer: &Answer) -> Value {
    let mut value = match answer.of {
        Of::Thread(id) => json!({ "thread": id }),
        Of::Stack(number) => json!({ "stack": number }),
    };
    let more = match &answer.standing {
        Standing::Clear => json!({ "standing": "clear" }),
        Standing::Running => json!({ "standing": "running" }),
        Standing::Gone => json!({ "standing": "gone" }),
        Standing::Blocked { hits, wait, doubts } => json!({
            "standing": "blocked",
            "hits": hits.iter().map(hit).collect::<Vec<_>>(),
            "wait": wait.map(|wait| json!({ "frame": wait.frame, "pc": hex(wait.pc) })),
            "doubts": doubts.iter().map(doubt).collect::<Vec<_>>(),
        }),
        Standing::Untrusted { doubts, missing, believed } => json!({
            "standing": "untrusted",
            "doubts": doubts.iter().map(doubt).collect::<Vec<_>>(),
            "missing": (*missing != Missing::NONE).then(|| missing.to_string()),
            "believed": believed,
        }),
    };
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.insert("name".to_owned(), json!(answer.name));
        value.extend(more);
    }
    value
}

fn hit(hit: &Hit) -> Value {
    json!({
        "frame": hit.frame,
        "pc": hex(hit.pc.value()),
        "exact": hit.pc.is_exact(),
        "target": hit.target,
        "part": hit.part,
    })
}

fn doubt(found: &Doubted) -> Value {
    json!({ "frame": found.frame, "doubt": found.doubt.to_string() })
}

fn reason(reason: &Reason) -> Value {
    match reason {
        Reason::Thread(number) => json!({ "kind": "thread", "thread": number }),
        Reason::NoTargets => json!({ "kind": "no_targets" }),
        Reason::NoCode(target) => json!({ "kind": "no_code", "target": target }),
        Reason::NoThreads => json!({ "kind": "no_threads" }),
        Reason::NotSearched => json!({ "kind": "not_searched" }),
        Reason::Process(obstacle) => {
            let kind = match obstacle {
                Obstacle::InlinesUnknown { .. } => "inlines_unknown",
                Obstacle::Setjmp { .. } => "setjmp",
                Obstacle::Undecoded { .. } => "undecoded",
                Obstacle::SharesMemory { .. } => "shares_memory",
                Obstacle::Unchecked { .. } => "unchecked",
                Obstacle::Unreadable { .. } => "unreadable",
                Obstacle::ThreadsChanged => "threads_changed",
                Obstacle::ModulesChanged => "modules_changed",
                Obstacle::Unlisted { .. } => "unlisted_stack",
            };
            let address = match obstacle {
                Obstacle::Unlisted { at, .. } | Obstacle::Setjmp { at, .. } => Some(hex(*at)),
                _ => None,
            };
            json!({ "kind": kind, "text": obstacle.to_string(), "address": address })
        }
    }
}
