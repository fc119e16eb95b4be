/* Structs of other sizes, unknown values, other versions: what `nulls.c`, which is generated from
 * the header, does not have. */
#include "kogge_test.h"

static void versions_are_compared_before_anything_else(void) {
    static const struct {
        uint32_t abi;
        kogge_status wanted;
    } cases[] = {
        {KOGGE_ABI_VERSION, KOGGE_STATUS_OK},
        {(uint32_t)KOGGE_ABI_MAJOR << 16, KOGGE_STATUS_OK}, /* An older header. */
        {KOGGE_ABI_VERSION + 1, KOGGE_STATUS_ABI_MISMATCH},
        {(uint32_t)(KOGGE_ABI_MAJOR + 1) << 16, KOGGE_STATUS_ABI_MISMATCH},
        {(uint32_t)(KOGGE_ABI_MAJOR - 1) << 16, KOGGE_STATUS_ABI_MISMATCH},
        {0, KOGGE_STATUS_ABI_MISMATCH},
        {UINT32_MAX, KOGGE_STATUS_ABI_MISMATCH},
    };
    size_t at;
    for (at = 0; at < sizeof cases / sizeof cases[0]; at++) {
        kogge_config *config = NULL;
        IS(cases[at].wanted, kogge_config_new(cases[at].abi, &config, &problem));
        CHECK((config != NULL) == (cases[at].wanted == KOGGE_STATUS_OK));
        CHECK(kogge_abi_compatible(cases[at].abi) == (config != NULL));
        kogge_config_free(config);
    }
}

/* A struct of the size that it says, followed by `tail`. */
typedef union {
    size_t struct_size;
    kogge_completion completion;
    kogge_fetch_request request;
    kogge_sink sink;
    kogge_name name;
    kogge_event_filter filter;
    uint8_t bytes[8192];
} any;

static kogge_node *node;
static artifact small;

static kogge_status with_completion(const any *it) {
    kogge_op *op = NULL;
    kogge_status status = kogge_node_live_start(node, &it->completion, &op, &problem);
    kogge_op_free(op);
    return status;
}

static kogge_status with_request(const any *it) {
    kogge_sink sink = sink_of(KOGGE_SINK_NONE);
    return kogge_fetch(node, &it->request, &sink, LIMIT, NULL, NULL, NULL, &problem);
}

static kogge_status with_sink(const any *it) {
    kogge_fetch_request request = request_for(&small);
    return kogge_fetch(node, &request, &it->sink, LIMIT, NULL, NULL, NULL, &problem);
}

static kogge_status with_name(const any *it) {
    kogge_rows *rows = NULL;
    kogge_status status = kogge_resolve(node, &it->name, &rows, &problem);
    kogge_rows_free(rows);
    return status;
}

static kogge_status with_filter(const any *it) {
    kogge_events *events = NULL;
    kogge_status status = kogge_events_open(node, &it->filter, &events, &problem);
    kogge_events_free(events);
    return status;
}

static void sizes_of_structs_are_believed_only_if_they_can_be(void) {
    struct {
        kogge_status (*call)(const any *);
        size_t size;
    } kinds[] = {{with_completion, sizeof(kogge_completion)},
                 {with_request, sizeof(kogge_fetch_request)},
                 {with_sink, sizeof(kogge_sink)},
                 {with_name, sizeof(kogge_name)},
                 {with_filter, sizeof(kogge_event_filter)}};
    size_t at, size;
    for (at = 0; at < sizeof kinds / sizeof kinds[0]; at++) {
        any it;
        memset(&it, 0, sizeof it);
        if (kinds[at].call == with_request) {
            it.request = request_for(&small);
        }
        if (kinds[at].call == with_name) {
            it.name = name_of(&small);
        }
        it.struct_size = kinds[at].size;
        OK(kinds[at].call(&it));
        /* From a newer header: fields that are not known may be there if they are zero. */
        for (size = kinds[at].size + 1; size <= 4096; size += 509) {
            it.struct_size = size;
            OK(kinds[at].call(&it));
            it.bytes[size - 1] = 1;
            IS(KOGGE_STATUS_UNSUPPORTED, kinds[at].call(&it));
            it.bytes[size - 1] = 0;
        }
        /* Without a size, or one that no struct has. */
        for (size = 0; size < sizeof(size_t); size++) {
            it.struct_size = size;
            IS(KOGGE_STATUS_INVALID_ARGUMENT, kinds[at].call(&it));
        }
        it.struct_size = 4097;
        IS(KOGGE_STATUS_INVALID_ARGUMENT, kinds[at].call(&it));
        it.struct_size = SIZE_MAX;
        IS(KOGGE_STATUS_INVALID_ARGUMENT, kinds[at].call(&it));
        /* From an older header: fields that are missing count as zero. */
        it.struct_size = sizeof(size_t);
        CHECK(kinds[at].call(&it) != KOGGE_STATUS_PANIC);
        kogge_error_free(problem);
        problem = NULL;
    }
    {
        any it;
        memset(&it, 0, sizeof it);
        it.request = request_for(&small);
        it.request.name.struct_size = 0;
        IS(KOGGE_STATUS_INVALID_ARGUMENT, with_request(&it));
        it.request.name.struct_size = sizeof(kogge_name) + 8;
        IS(KOGGE_STATUS_INVALID_ARGUMENT, with_request(&it));
    }
}

static void unknown_values_are_refused(void) {
    static const int32_t kinds[] = {-1, 6, 7, 1000, INT32_MAX, INT32_MIN};
    static const uint32_t flags[] = {8, 1u << 31, UINT32_MAX};
    kogge_bytes one = {(const uint8_t *)"x", 1};
    kogge_config *config = NULL;
    size_t at;
    for (at = 0; at < sizeof kinds / sizeof kinds[0]; at++) {
        any it;
        memset(&it, 0, sizeof it);
        it.sink = sink_of(kinds[at]);
        IS(KOGGE_STATUS_UNSUPPORTED, with_sink(&it));
        OK(kogge_config_new(KOGGE_ABI_VERSION, &config, &problem));
        IS(KOGGE_STATUS_INVALID_ARGUMENT,
           kogge_config_set_network(config, kinds[at], one, &problem));
        IS(KOGGE_STATUS_INVALID_ARGUMENT,
           kogge_config_set_log(config, kinds[at], NULL, NULL, NULL, &problem));
        kogge_config_free(config);
        CHECK(is_text(kogge_status_get_name(kinds[at] == 6 || kinds[at] == 7 ? 999 : kinds[at]),
                      "unknown"));
        CHECK(!kogge_status_is_retryable(kinds[at] == 6 ? 999 : kinds[at]));
    }
    for (at = 0; at < sizeof flags / sizeof flags[0]; at++) {
        any it;
        memset(&it, 0, sizeof it);
        it.sink = sink_of(KOGGE_SINK_NONE);
        it.sink.place_flags = flags[at];
        IS(KOGGE_STATUS_UNSUPPORTED, with_sink(&it));
    }
    {
        any it;
        memset(&it, 0, sizeof it);
        it.sink = sink_of(KOGGE_SINK_NONE);
        it.sink.reserved = 1;
        IS(KOGGE_STATUS_UNSUPPORTED, with_sink(&it));
    }
}

/* A completion whose start failed is not told, and what was lent is not released. */
static void a_start_that_fails_tells_nobody(void) {
    told it;
    kogge_completion completion = {sizeof completion, told_end, &it, told_drop, NULL, 0, NULL};
    kogge_fetch_request request = request_for(&small);
    kogge_sink sink = sink_of(KOGGE_SINK_WRITER);
    kogge_op *op = NULL;
    kogge_completed item;
    size_t count;
    memset(&it, 0, sizeof it);
    sink.user_data = &it;
    sink.drop_fn = told_drop;
    OK(kogge_queue_new(&completion.queue, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_fetch_start(node, &request, &sink, &completion, &op, &problem));
    sink.kind = KOGGE_SINK_NONE;
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_fetch_start(node, &request, &sink, &completion, NULL, &problem));
    close_node(node);
    IS(KOGGE_STATUS_BAD_HANDLE,
       kogge_fetch_start(node, &request, &sink, &completion, &op, &problem));
    IS(KOGGE_STATUS_BAD_HANDLE, kogge_node_close_start(node, &completion, &op, &problem));
    IS(KOGGE_STATUS_TIMED_OUT, kogge_queue_next(completion.queue, 5, &item, 1, &count));
    kogge_queue_free(completion.queue);
    CHECK(it.ends == 0 && it.drops == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    versions_are_compared_before_anything_else();
    small = scene_artifact("small");
    node = open_scene("data");
    sizes_of_structs_are_believed_only_if_they_can_be();
    unknown_values_are_refused();
    a_start_that_fails_tells_nobody();
    return finish();
}
