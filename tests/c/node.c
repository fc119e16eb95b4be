/* A node from the outside: configuration, events, the store, builds, what it tells of itself; two
 * nodes side by side. */
#include "kogge_test.h"

static void bad_configurations_are_refused_by_name(void) {
    static const struct {
        const char *toml, *named;
    } cases[] = {
        {"colour = 1", "colour"},
        {"limits.disk_mb = \"much\"", "disk_mb"},
        {"limits.disk_mb = -1", "disk_mb"},
        {"peers = [\"nowhere\"]", "peers"},
        {"listen = \"here\"", "listen"},
        {"threads = 100000", "threads"},
    };
    size_t at;
    for (at = 0; at < sizeof cases / sizeof cases[0]; at++) {
        kogge_config *config = solo_config("bad");
        kogge_node *node = NULL;
        kogge_error *error = NULL;
        kogge_status status;
        OK(kogge_config_merge_toml(config, str(cases[at].toml), &problem));
        status = kogge_node_open(config, LIMIT, &node, &error);
        if (status != KOGGE_STATUS_INVALID_ARGUMENT ||
            memmem(kogge_error_get_message(error).ptr, kogge_error_get_message(error).len,
                   cases[at].named, strlen(cases[at].named)) == NULL) {
            kogge_str message = kogge_error_get_message(error);
            fprintf(stderr, "%s: %d %.*s\n", cases[at].toml, (int)status, (int)message.len,
                    message.ptr);
            exit(1);
        }
        kogge_error_free(error);
        kogge_config_free(config);
    }
    CHECK(access(in_folder("bad"), F_OK) != 0);
}

static void setters_refuse_what_cannot_be(void) {
    kogge_config *config = NULL;
    kogge_node *node = NULL;
    kogge_bytes garbage = {(const uint8_t *)"{}", 2};
    OK(kogge_config_new(KOGGE_ABI_VERSION, &config, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_node_open(config, LIMIT, &node, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_config_merge_toml(config, str("= ="), &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_set_str(config, none(), str("x"), &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_set_str(config, str("a..b"), str("x"), &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_set_str(config, str("a.b.c.d.e.f.g.h.i"), str("x"), &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_set_u64(config, str("limits.disk_mb"), UINT64_MAX, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_set_bool(config, str("limits.share"), 2, &problem));
    OK(kogge_config_set_bool(config, str("limits.share"), 0, &problem));
    OK(kogge_config_set_str(config, str("data_dir"), str(in_folder("never")), &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_add_str(config, str("data_dir"), str("x"), &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_set_str(config, str("data_dir.x"), str("x"), &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_config_set_network(config, 3, garbage, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_set_network(config, KOGGE_NETWORK_GENESIS, garbage, &problem));
    OK(kogge_config_set_network(config, KOGGE_NETWORK_STORED, garbage, &problem));
    IS(KOGGE_STATUS_NOT_FOUND, kogge_node_open(config, LIMIT, &node, &problem));
    kogge_config_free(config);
    IS(KOGGE_STATUS_BAD_HANDLE, kogge_node_open(config, LIMIT, &node, &problem));
}

static void a_directory_has_one_node_and_one_network(kogge_node *node, const char *name) {
    kogge_config *config = scene_config(name);
    kogge_node *second = NULL;
    (void)node;
    IS(KOGGE_STATUS_BUSY, kogge_node_open(config, LIMIT, &second, &problem));
    kogge_config_free(config);
    config = solo_config("solo");
    OK(kogge_node_open(config, LIMIT, &second, &problem));
    close_node(second);
    kogge_config_free(config);
    config = scene_config("solo");
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_node_open(config, LIMIT, &second, &problem));
    kogge_config_free(config);
}

static void events_come_one_by_one_and_by_queue(kogge_node *node) {
    kogge_events *events = NULL, *builds = NULL, *fresh = NULL;
    kogge_event_filter filter;
    kogge_event *event = NULL;
    kogge_event_view view;
    kogge_queue *queue = NULL;
    kogge_completed item;
    size_t count;
    uint64_t number = 0;
    char id[80], *text, kind[40];
    kogge_buffer *json = NULL;
    artifact tiny = scene_artifact("tiny");
    bool committed = false;
    memset(&filter, 0, sizeof filter);
    filter.struct_size = sizeof filter;
    filter.after = UINT64_MAX;
    OK(kogge_events_open(node, &filter, &events, &problem));
    while (kogge_events_next(events, 0, &event, NULL) == KOGGE_STATUS_OK) {
        OK(kogge_event_get(event, &view));
        CHECK(view.number == number + 1 && view.lost == 0 && view.time_ms != 0);
        number = view.number;
        snprintf(kind, sizeof kind, "\"event\":\"%.*s\"", (int)view.kind.len, view.kind.ptr);
        CHECK(memmem(view.json.ptr, view.json.len, kind, strlen(kind)) != NULL);
        committed = committed || is_text(view.kind, "committed");
        kogge_event_free(event);
    }
    CHECK(committed);
    IS(KOGGE_STATUS_AGAIN, kogge_events_next(events, 0, &event, &problem));
    OK(kogge_events_open(node, NULL, &fresh, &problem));
    IS(KOGGE_STATUS_TIMED_OUT, kogge_events_next(fresh, 5, &event, &problem));
    kogge_events_free(fresh);

    OK(kogge_queue_new(&queue, &problem));
    filter.after = 0;
    filter.kinds = str("build");
    OK(kogge_events_open(node, &filter, &builds, &problem));
    OK(kogge_events_attach(builds, queue, 5, &problem));
    /* The first item comes at once: there may have been events. */
    OK(kogge_queue_next(queue, 0, &item, 1, &count));
    CHECK(item.kind == KOGGE_COMPLETED_EVENTS && item.tag == 5 && item.op == NULL);
    IS(KOGGE_STATUS_AGAIN, kogge_events_next(builds, 0, &event, &problem));
    {
        char spec[512];
        snprintf(spec, sizeof spec, "maven %s", tiny.what);
        OK(kogge_build_request(node, str(spec), LIMIT, &json, &problem));
        text = take_text(json);
        field(text, "id", id, sizeof id);
        free(text);
        OK(kogge_build_wait(node, str(id), LIMIT, &json, &problem));
        text = take_text(json);
        CHECK(strstr(text, "\"committed\"") != NULL);
        free(text);
        OK(kogge_build_request(node, str("maven org.example:lib:999"), LIMIT, &json, &problem));
        text = take_text(json);
        field(text, "id", id, sizeof id);
        free(text);
        OK(kogge_build_wait(node, str(id), LIMIT, &json, &problem));
        text = take_text(json);
        CHECK(strstr(text, "\"failed\"") != NULL);
        free(text);
    }
    OK(kogge_queue_next(queue, LIMIT, &item, 1, &count));
    CHECK(count == 1 && item.tag == 5);
    OK(kogge_events_next(builds, 0, &event, &problem));
    OK(kogge_event_get(event, &view));
    CHECK(is_text(view.kind, "build"));
    kogge_event_free(event);
    IS(KOGGE_STATUS_BAD_HANDLE, kogge_event_get(event, &view));
    /* The queue may go first. */
    kogge_queue_free(queue);
    kogge_events_free(builds);
    kogge_events_free(events);

    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_build_request(node, str("cobol x"), LIMIT, &json, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_build_wait(node, str("x"), LIMIT, &json, &problem));
    memset(id, '0', 64);
    id[64] = 0;
    IS(KOGGE_STATUS_NOT_FOUND, kogge_build_wait(node, str(id), LIMIT, &json, &problem));
}

static void what_is_stored_can_be_pinned_and_evicted(kogge_node *node) {
    artifact it = scene_artifact("medium");
    kogge_fetch_request request = request_for(&it);
    kogge_sink sink = sink_of(KOGGE_SINK_NONE);
    kogge_stored stored;
    uint64_t freed = 0;
    IS(KOGGE_STATUS_NOT_FOUND, kogge_store_stat(node, str(it.sha256), &stored, &problem));
    IS(KOGGE_STATUS_NOT_FOUND, kogge_store_pin(node, str(it.sha256), 1, LIMIT, &problem));
    OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, &problem));
    OK(kogge_store_stat(node, str(it.sha256), &stored, &problem));
    CHECK(stored.size == it.size && !stored.is_pinned);
    OK(kogge_store_pin(node, str(it.blake3), 1, LIMIT, &problem));
    OK(kogge_store_stat(node, str(it.blake3), &stored, &problem));
    CHECK(stored.is_pinned);
    OK(kogge_store_shrink(node, 0, LIMIT, &freed, &problem));
    CHECK(freed == 0);
    OK(kogge_store_pin(node, str(it.blake3), 0, LIMIT, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_store_pin(node, str(it.blake3), 2, LIMIT, &problem));
    /* What is needed to verify it counts too. */
    OK(kogge_store_shrink(node, 2 * it.size, LIMIT, &freed, &problem));
    CHECK(freed == 0);
    OK(kogge_store_shrink(node, it.size / 2, LIMIT, &freed, &problem));
    CHECK(freed >= it.size);
    OK(kogge_store_shrink(node, 0, LIMIT, NULL, &problem));
    IS(KOGGE_STATUS_NOT_FOUND, kogge_store_stat(node, str(it.sha256), &stored, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_store_stat(node, str("sha256:1"), &stored, &problem));
}

static void every_topic_answers_in_json(kogge_node *node) {
    static const char *topics[][2] = {{"status", "\"log\""},   {"peers", "["},
                                      {"builds", "["},         {"config", "\"data_dir\""},
                                      {"genesis", "\"name\""}, {"metrics", "\"unit\""}};
    kogge_buffer *json = NULL;
    size_t at;
    char *text;
    uint8_t id[32];
    for (at = 0; at < sizeof topics / sizeof topics[0]; at++) {
        OK(kogge_node_query_json(node, str(topics[at][0]), none(), LIMIT, &json, &problem));
        text = take_text(json);
        if (strstr(text, topics[at][1]) == NULL) {
            fail(__FILE__, __LINE__, text);
        }
        free(text);
    }
    IS(KOGGE_STATUS_UNSUPPORTED,
       kogge_node_query_json(node, str("weather"), none(), LIMIT, &json, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_node_query_json(node, str("build"), none(), LIMIT, &json, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_node_query_json(node, str("status"), str("{"), LIMIT, &json, &problem));
    IS(KOGGE_STATUS_NOT_FOUND,
       kogge_node_query_json(node, str("build"),
                             str("{\"id\":\"00000000000000000000000000000000"
                                 "00000000000000000000000000000000\"}"),
                             LIMIT, &json, &problem));
    OK(kogge_node_get_id(node, id, &problem));
}

typedef struct {
    char data_dir[4096];
    atomic_int lines, errors, drops;
    atomic_bool foreign;
} journal;

static void write_line(void *user_data, int32_t level, kogge_str target, kogge_str line) {
    journal *it = user_data;
    it->lines++;
    if (level < 1 || level > 4 || target.len == 0) {
        it->errors++;
    }
    if (it->data_dir[0] != 0 && memmem(line.ptr, line.len, it->data_dir, strlen(it->data_dir))) {
        it->foreign = true;
    }
}

static void drop_journal(void *user_data) { ((journal *)user_data)->drops++; }

static void two_nodes_log_apart_and_live_apart(void) {
    journal alice, bob;
    kogge_config *of_alice, *of_bob;
    kogge_node *a, *b, *alone = NULL;
    uint8_t id_a[32], id_b[32];
    memset(&alice, 0, sizeof alice);
    memset(&bob, 0, sizeof bob);
    snprintf(alice.data_dir, sizeof alice.data_dir, "%s/bob", test_folder);
    snprintf(bob.data_dir, sizeof bob.data_dir, "%s/alice", test_folder);
    of_alice = scene_config("alice");
    of_bob = scene_config("bob");
    OK(kogge_config_set_log(of_alice, 4, write_line, &alice, drop_journal, &problem));
    /* A sink that is replaced is released. */
    OK(kogge_config_set_log(of_bob, 4, write_line, &alice, drop_journal, &problem));
    OK(kogge_config_set_log(of_bob, 4, write_line, &bob, drop_journal, &problem));
    CHECK(alice.drops == 1);
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_config_set_log(of_bob, 6, write_line, &bob, drop_journal, &problem));
    CHECK(bob.drops == 0);
    a = open_live(of_alice);
    b = open_live(of_bob);
    OK(kogge_node_get_id(a, id_a, &problem));
    OK(kogge_node_get_id(b, id_b, &problem));
    CHECK(memcmp(id_a, id_b, 32) != 0);
    UNTIL(alice.lines != 0 && bob.lines != 0);
    close_node(a);
    CHECK(alice.drops == 2); /* Nothing comes after the end. */
    OK(kogge_node_live(b, LIMIT, &problem));
    what_is_stored_can_be_pinned_and_evicted(b);
    close_node(b);
    CHECK(bob.drops == 1 && alice.errors + bob.errors == 0);
    CHECK(!alice.foreign && !bob.foreign);

    /* A sink outlives its nodes if the configuration does. */
    of_alice = solo_config("alone");
    OK(kogge_config_set_log(of_alice, 4, write_line, &alice, drop_journal, &problem));
    OK(kogge_node_open(of_alice, LIMIT, &alone, &problem));
    close_node(alone);
    CHECK(alice.drops == 2);
    kogge_config_free(of_alice);
    CHECK(alice.drops == 3);
}

/* When a node could not be opened, none of its lines is on its way any more. */
static void a_failed_open_is_over_when_it_returns(const char *name) {
    journal lines;
    int round;
    memset(&lines, 0, sizeof lines);
    for (round = 0; round < 8; round++) {
        kogge_config *config = scene_config(name);
        kogge_node *second = NULL;
        OK(kogge_config_set_log(config, 5, write_line, &lines, drop_journal, &problem));
        IS(KOGGE_STATUS_BUSY, kogge_node_open(config, LIMIT, &second, &problem));
        kogge_config_free(config);
        CHECK(lines.drops == round + 1);
    }
}

static void a_reader_that_waits_hears_of_the_end(kogge_node *node) {
    kogge_events *events = NULL;
    kogge_event *event = NULL;
    kogge_event_filter filter;
    memset(&filter, 0, sizeof filter);
    filter.struct_size = sizeof filter;
    filter.kinds = str("fault");
    OK(kogge_events_open(node, &filter, &events, &problem));
    close_node(node);
    IS(KOGGE_STATUS_END, kogge_events_next(events, KOGGE_WAIT_FOREVER, &event, &problem));
    kogge_events_free(events);
}

int main(int argc, char **argv) {
    kogge_node *node;
    begin(argc, argv);
    bad_configurations_are_refused_by_name();
    setters_refuse_what_cannot_be();
    node = open_scene("data");
    a_directory_has_one_node_and_one_network(node, "data");
    events_come_one_by_one_and_by_queue(node);
    every_topic_answers_in_json(node);
    two_nodes_log_apart_and_live_apart();
    a_failed_open_is_over_when_it_returns("data");
    a_reader_that_waits_hears_of_the_end(node);
    return finish();
}
