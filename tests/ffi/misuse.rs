//! A C program that gives every function of the header, for every parameter, what it must not get:
//! NULL, handles that are stale, of another kind or never were, texts that are none.

use std::fmt::Write as _;

use crate::header::Function;

const KINDS: [&str; 11] = [
    "error", "buffer", "config", "node", "op", "queue", "stream", "cursor", "rows", "events",
    "event",
];

/// Parameters that may be NULL; whether that succeeds depends on the rest.
const OPTIONAL: [&str; 10] = [
    "error",
    "completion",
    "filter",
    "result_out",
    "buffer_out",
    "stream_out",
    "done_out",
    "total_out",
    "freed_out",
    "user_data",
];

/// The kind of a handle that is passed as `kind`.
fn handle(kind: &str) -> Option<&'static str> {
    let name = kind.trim_start_matches("const ").strip_suffix(" *")?;
    let name = name.strip_prefix("kogge_")?;
    KINDS.into_iter().find(|it| *it == name)
}

/// Where a new handle of a kind is written.
fn handle_out(kind: &str) -> Option<&'static str> {
    handle(kind.strip_suffix('*')?)
}

/// A value that fits.
fn fitting(kind: &str, name: &str) -> String {
    if let Some(it) = handle(kind) {
        return format!("world.{it}");
    }
    if let Some(it) = handle_out(kind) {
        return format!("&made.{it}");
    }
    match (kind, name) {
        ("kogge_str", "topic") => "str(\"status\")".into(),
        ("kogge_str", "params_json" | "toml") => "none()".into(),
        ("kogge_str", "spec") => "str(\"maven org.example:lib:1\")".into(),
        ("kogge_str", "query") => "str(\"limit=1\")".into(),
        ("kogge_str", "digest") => "str(world.artifact.blake3)".into(),
        ("kogge_str", "path") => "str(world.artifact.path)".into(),
        ("kogge_str", "key") => "str(\"a.b\")".into(),
        ("kogge_str", "id" | "value") => "str(\"x\")".into(),
        ("kogge_bytes", _) => "some_bytes".into(),
        ("uint8_t *", "bytes_out") => "world.bytes_out_8".into(),
        ("uint8_t *", "id_out") => "world.id_out_32".into(),
        ("uint64_t *", "bytes_out") => "&world.bytes_out_64".into(),
        ("void *", _) | ("kogge_log_fn" | "kogge_drop_fn", _) => "NULL".into(),
        // Nothing may be evicted that later calls are about.
        ("uint64_t", "bytes_max") => "UINT64_MAX".into(),
        ("int32_t", "network") => "KOGGE_NETWORK_GENESIS".into(),
        ("uint32_t", "header_abi") => "KOGGE_ABI_VERSION".into(),
        ("size_t", "capacity") => "1".into(),
        (it, name) if it.ends_with('*') => format!("&world.{name}"),
        _ => "0".into(),
    }
}

fn is_optional(function: &Function, kind: &str, name: &str) -> bool {
    let is_verified = function.name.starts_with("kogge_verify") && name == "rows_out";
    is_verified || kind.ends_with("_fn") || OPTIONAL.contains(&name)
}

/// What a call with one parameter that is `bad` must come to.
enum Wanted {
    Anything,
    Status(&'static str),
}

struct Program {
    text: String,
    cases: usize,
}

impl Program {
    fn call(&mut self, function: &Function, at: usize, bad: &str, wanted: &Wanted) {
        let params: Vec<String> = function
            .params
            .iter()
            .enumerate()
            .map(|(this, (kind, name))| match this == at {
                true => format!("({kind})({bad})")
                    .replace("(kogge_str)", "")
                    .replace("(kogge_bytes)", ""),
                false => fitting(kind, name),
            })
            .collect();
        let call = format!("{}({})", function.name, params.join(", "));
        self.cases += 1;
        let line = match (function.result.as_str(), wanted) {
            ("kogge_status", Wanted::Status(it)) => format!("IS(KOGGE_STATUS_{it}, {call});"),
            ("kogge_str" | "kogge_bytes", _) => format!("CHECK({call}.len == 0);"),
            ("size_t" | "uint64_t", _) => format!("CHECK({call} == 0);"),
            ("kogge_buffer *", _) => format!("CHECK({call} == NULL);"),
            ("int32_t", _) => format!("CHECK({call} <= 0);"),
            _ => format!("(void){call};"),
        };
        writeln!(self.text, "    {line} clean();").unwrap();
    }

    fn misuse(&mut self, function: &Function) {
        for (at, (kind, name)) in function.params.iter().enumerate() {
            let is_closing = function.name.starts_with("kogge_node_close");
            if let Some(it) = handle(kind) {
                let other = if it == "buffer" { "config" } else { "buffer" };
                let (stale, other) = (format!("stale.{it}"), format!("(void *)world.{other}"));
                for bad in ["NULL", &stale, &other] {
                    self.call(function, at, bad, &Wanted::Status("BAD_HANDLE"));
                }
                let line = format!("for (at = 0; at < GARBAGE; at++) {{ // {}\n", function.name);
                self.text.push_str(&format!("    {line}"));
                self.call(function, at, "garbage[at]", &Wanted::Status("BAD_HANDLE"));
                self.text.push_str("    }\n");
            } else if kind == "kogge_str" || kind == "kogge_bytes" {
                let prefix = if kind == "kogge_str" {
                    "text"
                } else {
                    "octets"
                };
                let kinds: &[&str] = if kind == "kogge_str" {
                    &["null", "huge", "bad"]
                } else {
                    &["null", "huge"]
                };
                for bad in kinds {
                    let bad = format!("{prefix}_{bad}");
                    self.call(function, at, &bad, &Wanted::Status("INVALID_ARGUMENT"));
                }
            } else if kind.ends_with('*') || kind.ends_with("_fn") {
                let wanted = match is_optional(function, kind, name) {
                    true if is_closing => continue,
                    true => Wanted::Anything,
                    false => Wanted::Status("INVALID_ARGUMENT"),
                };
                self.call(function, at, "NULL", &wanted);
            }
        }
    }
}

/// The program, and how many calls it has.
pub(crate) fn program(functions: &[Function]) -> (String, usize) {
    let mut program = Program {
        text: String::new(),
        cases: 0,
    };
    for function in functions {
        writeln!(
            program.text,
            "static void {}_(void) {{\n    size_t at = 0;\n    (void)at;",
            function.name
        )
        .unwrap();
        program.misuse(function);
        program.text.push_str("}\n\n");
    }
    let handles = |prefix: &str| -> String {
        let fields: Vec<String> = KINDS
            .into_iter()
            .map(|it| format!("    kogge_{it} *{it};\n"))
            .collect();
        format!("{prefix}{}", fields.concat())
    };
    let frees: String = KINDS
        .into_iter()
        .filter(|it| *it != "node")
        .map(|it| format!("    kogge_{it}_free(made.{it});\n"))
        .collect();
    let calls: String = functions
        .iter()
        .map(|it| format!("    {}_();\n", it.name))
        .collect();
    let text = TEMPLATE
        .replace("HANDLES", &handles(""))
        .replace("FREES", &frees)
        .replace("FUNCTIONS", &program.text)
        .replace("CALLS", &calls);
    (text, program.cases)
}

const TEMPLATE: &str = r#"/* Generated by tests/ffi/misuse.rs from include/kogge.h. */
#include "kogge_test.h"

typedef struct {
HANDLES} handles;

static handles made, stale;

static struct {
HANDLES    artifact artifact;
    kogge_fetch_request request;
    kogge_sink sink;
    kogge_name name;
    kogge_event_filter filter;
    kogge_completion completion;
    kogge_fetch_result result_out;
    kogge_stored stored_out;
    kogge_entry entry_out;
    kogge_event_view view_out;
    kogge_completed items_out;
    uint64_t done_out, total_out, freed_out;
    size_t count_out;
    uint8_t bytes_out_8[8], id_out_32[32];
    int32_t fd_out;
    uint64_t bytes_out_64;
} world;

/* NULL with a length, more than there can be, and what is no UTF-8. */
static const kogge_str text_null = {NULL, 1}, text_huge = {"x", SIZE_MAX}, text_bad = {"a\xff", 2};
static const kogge_bytes octets_null = {NULL, 1}, octets_huge = {(const uint8_t *)"x", SIZE_MAX};
static const kogge_bytes some_bytes = {(const uint8_t *)"x", 1};

enum { GARBAGE = 9 };
static void *garbage[GARBAGE];

static void clean(void) {
    kogge_error_free(problem);
    problem = NULL;
    if (made.node != NULL) {
        kogge_node_close(made.node, LIMIT, NULL);
    }
FREES    memset(&made, 0, sizeof made);
}

FUNCTIONS
static void build_world(void) {
    kogge_sink sink = sink_of(KOGGE_SINK_STREAM);
    static const uintptr_t numbers[GARBAGE - 1] = {1,          2,           0xdeadbeef, UINTPTR_MAX,
                                                   0x10000001, 0xffffffff00000011, 12345,      (uintptr_t)1 << 63};
    size_t at;
    int local;
    for (at = 0; at < GARBAGE - 1; at++) {
        garbage[at] = (void *)numbers[at];
    }
    garbage[GARBAGE - 1] = &local;
    world.artifact = scene_artifact("tiny");
    world.node = open_scene("data");
    world.request = request_for(&world.artifact);
    world.name = name_of(&world.artifact);
    world.filter.struct_size = sizeof world.filter;
    world.completion.struct_size = sizeof world.completion;
    OK(kogge_fetch(world.node, &world.request, &sink, LIMIT, NULL, NULL, &world.stream, &problem));
    sink = sink_of(KOGGE_SINK_NONE);
    world.sink = sink;
    OK(kogge_fetch(world.node, &world.request, &sink, LIMIT, NULL, NULL, NULL, &problem));
    OK(kogge_config_new(KOGGE_ABI_VERSION, &world.config, &problem));
    CHECK(kogge_node_open(world.config, 0, &made.node, &world.error) != KOGGE_STATUS_OK);
    OK(kogge_node_query_json(world.node, str("status"), none(), LIMIT, &world.buffer, &problem));
    OK(kogge_node_live_start(world.node, NULL, &world.op, &problem));
    OK(kogge_op_wait(world.op, LIMIT));
    OK(kogge_queue_new(&world.queue, &problem));
    OK(kogge_log_query_open(world.node, str("limit=1"), &world.cursor, &problem));
    OK(kogge_cursor_next(world.cursor, LIMIT, &world.rows, &problem));
    world.filter.after = UINT64_MAX;
    OK(kogge_events_open(world.node, &world.filter, &world.events, &problem));
    OK(kogge_events_next(world.events, LIMIT, &world.event, &problem));
}

int main(int argc, char **argv) {
    size_t live;
    int round;
    begin(argc, argv);
    build_world();
    /* What was alive a moment ago, of every kind. */
    stale.error = world.error;
    stale.buffer = kogge_buffer_clone(world.buffer);
    kogge_buffer_free(stale.buffer);
    kogge_error_free(world.error);
    kogge_node_open(world.config, 0, &made.node, &world.error);
    OK(kogge_config_new(KOGGE_ABI_VERSION, &stale.config, &problem));
    kogge_config_free(stale.config);
    OK(kogge_node_live_start(world.node, NULL, &stale.op, &problem));
    kogge_op_free(stale.op);
    OK(kogge_queue_new(&stale.queue, &problem));
    kogge_queue_free(stale.queue);
    OK(kogge_log_query_open(world.node, str("limit=1"), &stale.cursor, &problem));
    OK(kogge_cursor_next(stale.cursor, LIMIT, &stale.rows, &problem));
    kogge_rows_free(stale.rows);
    kogge_cursor_free(stale.cursor);
    OK(kogge_events_open(world.node, &world.filter, &stale.events, &problem));
    OK(kogge_events_next(stale.events, LIMIT, &stale.event, &problem));
    kogge_event_free(stale.event);
    kogge_events_free(stale.events);
    stale.stream = (kogge_stream *)(void *)stale.cursor;
    stale.node = (kogge_node *)(void *)stale.config;
    for (round = 0; round < 2; round++) {
        live = kogge_debug_live_handles();
CALLS        CHECK(kogge_debug_live_handles() == live);
        /* Twice freed is freed once. */
        kogge_buffer_free(stale.buffer);
        kogge_queue_free(stale.queue);
    }
    made = (handles){world.error, world.buffer, world.config, world.node,   world.op,    world.queue,
                     world.stream, world.cursor, world.rows,   world.events, world.event};
    clean();
    return finish();
}
"#;
