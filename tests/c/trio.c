/* Every verb that can wait, started and finished in all ways; progress, cancelling,
 * deadlines. */
#include "kogge_test.h"

#include <poll.h>

enum way {
    BY_WAITING,
    BY_CALLBACK,
    BY_QUEUE,
    AT_ONCE_OR_BY_CALLBACK,
    AT_ONCE_OR_BY_QUEUE,
    WAYS
};

typedef struct {
    enum way way;
    told told;
    kogge_queue *queue;
    uint8_t has_ended;
    kogge_completion completion;
} teller;

static void prepare(teller *it, enum way way) {
    memset(it, 0, sizeof *it);
    it->way = way;
    it->completion.struct_size = sizeof it->completion;
    if (way == AT_ONCE_OR_BY_CALLBACK || way == AT_ONCE_OR_BY_QUEUE) {
        it->has_ended = 0xee; /* Neither answer. */
        it->completion.ended_out = &it->has_ended;
    }
    if (way == BY_CALLBACK || way == AT_ONCE_OR_BY_CALLBACK) {
        it->completion.done_fn = told_end;
        it->completion.drop_fn = told_drop;
        it->completion.user_data = &it->told;
    }
    if (way == BY_QUEUE || way == AT_ONCE_OR_BY_QUEUE) {
        OK(kogge_queue_new(&it->queue, &problem));
        it->completion.queue = it->queue;
        it->completion.tag = 0xfeedfacecafebeef;
    }
}

static const kogge_completion *completion_of(const teller *it) {
    return it->way == BY_WAITING ? NULL : &it->completion;
}

/* Waits for the one end of an operation, and gives its status. */
static kogge_status await(teller *it, kogge_op *op) {
    kogge_completed item;
    size_t count = 0;
    struct pollfd ready;
    CHECK(it->has_ended <= 1);
    if (it->has_ended) {
        CHECK(kogge_op_get_status(op) != KOGGE_STATUS_AGAIN);
        return kogge_op_get_status(op);
    }
    switch (it->way) {
    case BY_WAITING:
        OK(kogge_op_wait(op, LIMIT));
        break;
    case BY_CALLBACK:
    case AT_ONCE_OR_BY_CALLBACK:
        UNTIL(it->told.drops == 1);
        CHECK(it->told.ends == 1 && it->told.op == op);
        CHECK(it->told.status == kogge_op_get_status(op));
        break;
    default:
        ready.fd = kogge_queue_get_fd(it->queue);
        ready.events = POLLIN;
        CHECK(poll(&ready, 1, (int)LIMIT) == 1);
        OK(kogge_queue_next(it->queue, 0, &item, 1, &count));
        CHECK(count == 1 && item.tag == 0xfeedfacecafebeef && item.op == op);
        CHECK(item.kind == KOGGE_COMPLETED_OP && item.status == kogge_op_get_status(op));
        CHECK(poll(&ready, 1, 0) == 0);
        IS(KOGGE_STATUS_TIMED_OUT, kogge_queue_next(it->queue, 0, &item, 1, &count));
    }
    return kogge_op_get_status(op);
}

static void done(teller *it, kogge_op *op) {
    kogge_completed item;
    size_t count = 0;
    kogge_op_free(op);
    if (it->has_ended) {
        CHECK(it->told.ends == 0 && it->told.drops == 0);
        if (it->queue != NULL) {
            IS(KOGGE_STATUS_TIMED_OUT, kogge_queue_next(it->queue, 0, &item, 1, &count));
        }
    }
    kogge_queue_free(it->queue);
    CHECK(it->told.ends <= 1 && it->told.drops == it->told.ends);
}

static void holds(kogge_buffer *buffer, const char *part) {
    char *text = take_text(buffer);
    CHECK(strstr(text, part) != NULL);
    free(text);
}

static void every_verb_ends_in_this_way(enum way way) {
    teller it;
    artifact small = scene_artifact("small");
    kogge_config *config = scene_config("data");
    kogge_node *node = NULL;
    kogge_op *op = NULL;
    kogge_buffer *buffer = NULL;
    kogge_rows *rows = NULL;
    kogge_stream *stream = NULL;
    kogge_cursor *cursor = NULL;
    kogge_fetch_request request = request_for(&small);
    kogge_sink sink = sink_of(KOGGE_SINK_BUFFER);
    kogge_fetch_result result;
    kogge_error *error = NULL;
    uint64_t freed = 1;
    char *text, id[80], spec[512];

    prepare(&it, way);
    OK(kogge_node_open_start(config, completion_of(&it), &op, &problem));
    kogge_config_free(config);
    OK(await(&it, op));
    OK(kogge_node_open_finish(op, &node, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_node_open_finish(op, &node, &problem));
    done(&it, op);

    prepare(&it, way);
    OK(kogge_node_live_start(node, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_fetch_finish(op, NULL, NULL, NULL, &problem));
    OK(kogge_op_finish(op, &problem));
    done(&it, op);

    prepare(&it, way);
    OK(kogge_node_query_json_start(node, str("status"), none(), completion_of(&it), &op,
                                   &problem));
    OK(await(&it, op));
    OK(kogge_node_query_json_finish(op, &buffer, &problem));
    holds(buffer, "\"ready\"");
    done(&it, op);

    prepare(&it, way);
    OK(kogge_fetch_start(node, &request, &sink, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    /* What has nowhere to go stays. */
    CHECK(kogge_fetch_finish(op, &result, NULL, NULL, &error) == KOGGE_STATUS_INVALID_ARGUMENT);
    CHECK(memmem(kogge_error_get_message(error).ptr, kogge_error_get_message(error).len,
                 "buffer_out", 10) != NULL);
    kogge_error_free(error);
    OK(kogge_fetch_finish(op, &result, &buffer, NULL, &problem));
    CHECK(kogge_buffer_get_bytes(buffer).len == small.size && result.size == small.size);
    kogge_buffer_free(buffer);
    done(&it, op);

    prepare(&it, way);
    sink = sink_of(KOGGE_SINK_STREAM);
    OK(kogge_fetch_start(node, &request, &sink, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_fetch_finish(op, NULL, NULL, &stream, &problem));
    done(&it, op);
    prepare(&it, way);
    OK(kogge_stream_chunk_start(stream, 10, 20, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_stream_chunk_finish(op, &buffer, &problem));
    CHECK(kogge_buffer_get_bytes(buffer).len == 20);
    kogge_buffer_free(buffer);
    kogge_stream_free(stream);
    done(&it, op);

    /* The bytes were there; now they are stored for good too. */
    prepare(&it, way);
    sink = sink_of(KOGGE_SINK_NONE);
    OK(kogge_fetch_start(node, &request, &sink, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_fetch_finish(op, NULL, NULL, NULL, &problem));
    done(&it, op);
    prepare(&it, way);
    OK(kogge_store_pin_start(node, str(small.blake3), 1, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_op_finish(op, &problem));
    done(&it, op);

    prepare(&it, way);
    OK(kogge_store_shrink_start(node, 0, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_store_shrink_finish(op, &freed, &problem));
    CHECK(freed == 0); /* All that there is is pinned. */
    done(&it, op);
    OK(kogge_store_pin(node, str(small.sha256), 0, LIMIT, &problem));

    prepare(&it, way);
    OK(kogge_log_query_open(node, str("limit=2"), &cursor, &problem));
    OK(kogge_cursor_next_start(cursor, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_cursor_next_finish(op, &rows, &problem));
    CHECK(kogge_rows_get_len(rows) == 2);
    kogge_rows_free(rows);
    kogge_cursor_free(cursor);
    done(&it, op);

    prepare(&it, way);
    snprintf(spec, sizeof spec, "maven %s", small.what);
    OK(kogge_build_request_start(node, str(spec), completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_build_finish(op, &buffer, &problem));
    text = take_text(buffer);
    field(text, "id", id, sizeof id);
    free(text);
    done(&it, op);
    prepare(&it, way);
    OK(kogge_build_wait_start(node, str(id), completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_build_finish(op, &buffer, &problem));
    holds(buffer, "\"committed\"");
    done(&it, op);

    prepare(&it, way);
    OK(kogge_node_close_start(node, completion_of(&it), &op, &problem));
    OK(await(&it, op));
    OK(kogge_op_finish(op, &problem));
    IS(KOGGE_STATUS_BAD_HANDLE, kogge_node_live(node, 0, &problem));
    done(&it, op);
}

/* A node to which bytes come so slowly that there is time to look. */
static kogge_node *open_slow(const char *name) {
    kogge_config *config = scene_config(name);
    OK(kogge_config_set_u64(config, str("limits.download_kb_per_s"), 500, &problem));
    return open_live(config);
}

static void progress_grows_to_the_size_and_stays(kogge_node *node) {
    artifact small = scene_artifact("small");
    kogge_fetch_request request = request_for(&small);
    kogge_sink sink = sink_of(KOGGE_SINK_NONE);
    kogge_op *op = NULL;
    uint64_t bytes = 0, total = 0, before = 0;
    OK(kogge_fetch_start(node, &request, &sink, NULL, &op, &problem));
    while (kogge_op_wait(op, 1) == KOGGE_STATUS_TIMED_OUT) {
        OK(kogge_op_get_progress(op, &bytes, &total));
        CHECK(before <= bytes && bytes <= small.size && (total == 0 || total == small.size));
        before = bytes;
    }
    OK(kogge_op_get_status(op));
    OK(kogge_op_get_progress(op, &bytes, &total));
    CHECK(bytes == small.size && total == small.size);
    OK(kogge_op_get_progress(op, NULL, NULL));
    kogge_op_free(op);
}

static void what_needs_no_waiting_ends_in_the_call_that_starts_it(kogge_node *node) {
    artifact tiny = scene_artifact("tiny");
    kogge_fetch_request request = request_for(&tiny);
    kogge_sink sink = sink_of(KOGGE_SINK_BUFFER);
    kogge_buffer *buffer = NULL;
    kogge_error *error = NULL;
    kogge_op *op = NULL;
    teller it;

    /* It has to come first. */
    prepare(&it, AT_ONCE_OR_BY_CALLBACK);
    sink = sink_of(KOGGE_SINK_NONE);
    OK(kogge_fetch_start(node, &request, &sink, &it.completion, &op, &problem));
    CHECK(it.has_ended == 0);
    OK(await(&it, op));
    done(&it, op);

    prepare(&it, AT_ONCE_OR_BY_CALLBACK);
    sink = sink_of(KOGGE_SINK_BUFFER);
    OK(kogge_fetch_start(node, &request, &sink, &it.completion, &op, &problem));
    CHECK(it.has_ended == 1);
    OK(await(&it, op));
    OK(kogge_fetch_finish(op, NULL, &buffer, NULL, &problem));
    CHECK(kogge_buffer_get_bytes(buffer).len == tiny.size);
    kogge_buffer_free(buffer);
    done(&it, op);

    /* Failures too, which the start does not tell. */
    prepare(&it, AT_ONCE_OR_BY_QUEUE);
    request.name.what = str("blake3:0000000000000000000000000000000000000000000000000000000000000000");
    OK(kogge_fetch_start(node, &request, &sink, &it.completion, &op, &problem));
    CHECK(it.has_ended == 1);
    IS(KOGGE_STATUS_NOT_FOUND, await(&it, op));
    CHECK(kogge_fetch_finish(op, NULL, &buffer, NULL, &error) == KOGGE_STATUS_NOT_FOUND);
    kogge_error_free(error);
    done(&it, op);
}

static void a_cancelled_operation_ends_cancelled_whatever_it_was_doing(kogge_node *node) {
    artifact large = scene_artifact("large"), small = scene_artifact("small");
    kogge_fetch_request request = request_for(&large), quick = request_for(&small);
    kogge_sink nowhere = sink_of(KOGGE_SINK_NONE);
    int stage;
    for (stage = 0; stage < 4; stage++) {
        enum way way = (enum way)(stage % WAYS);
        teller it;
        kogge_op *op = NULL;
        uint64_t bytes = 0;
        prepare(&it, way);
        OK(kogge_fetch_start(node, &request, &nowhere, completion_of(&it), &op, &problem));
        if (stage != 0) {
            UNTIL(kogge_op_get_progress(op, &bytes, NULL) == KOGGE_STATUS_OK &&
                  bytes >= (uint64_t)stage * 100000);
            IS(KOGGE_STATUS_AGAIN, kogge_op_get_status(op));
            IS(KOGGE_STATUS_AGAIN, kogge_op_finish(op, &problem));
            IS(KOGGE_STATUS_TIMED_OUT, kogge_op_wait(op, 0));
        }
        OK(kogge_op_cancel(op));
        OK(kogge_op_cancel(op));
        IS(KOGGE_STATUS_CANCELLED, await(&it, op));
        OK(kogge_op_cancel(op));
        IS(KOGGE_STATUS_CANCELLED, kogge_op_get_status(op));
        IS(KOGGE_STATUS_CANCELLED, kogge_fetch_finish(op, NULL, NULL, NULL, &problem));
        IS(KOGGE_STATUS_CANCELLED, kogge_op_finish(op, &problem));
        done(&it, op);
    }
    {
        /* After the end it changes nothing. */
        kogge_op *op = NULL;
        OK(kogge_fetch_start(node, &quick, &nowhere, NULL, &op, &problem));
        OK(kogge_op_wait(op, LIMIT));
        OK(kogge_op_cancel(op));
        OK(kogge_op_get_status(op));
        OK(kogge_fetch_finish(op, NULL, NULL, NULL, &problem));
        kogge_op_free(op);
        IS(KOGGE_STATUS_BAD_HANDLE, kogge_op_cancel(op));
    }
    {
        /* Freed while it runs: told as ever, with a handle that is stale. */
        teller it;
        kogge_op *op = NULL;
        prepare(&it, BY_CALLBACK);
        OK(kogge_fetch_start(node, &request, &nowhere, completion_of(&it), &op, &problem));
        kogge_op_free(op);
        UNTIL(it.told.drops == 1);
        CHECK(it.told.ends == 1 && it.told.op == op);
        CHECK(it.told.status == KOGGE_STATUS_CANCELLED);
        IS(KOGGE_STATUS_BAD_HANDLE, kogge_op_get_status(op));
    }
}

static void when_the_time_is_up_the_work_is_given_up(kogge_node *node) {
    artifact large = scene_artifact("large");
    kogge_fetch_request request = request_for(&large);
    kogge_sink nowhere = sink_of(KOGGE_SINK_NONE), path = sink_of(KOGGE_SINK_PATH);
    kogge_op *op = NULL;
    kogge_stream *stream = NULL;
    uint8_t byte;
    size_t count;
    IS(KOGGE_STATUS_TIMED_OUT,
       kogge_fetch(node, &request, &nowhere, 30, NULL, NULL, NULL, &problem));
    IS(KOGGE_STATUS_TIMED_OUT,
       kogge_fetch(node, &request, &nowhere, 0, NULL, NULL, NULL, &problem));
    request.deadline_ms = 30;
    path.path = str(in_folder("late.jar"));
    IS(KOGGE_STATUS_TIMED_OUT,
       kogge_fetch(node, &request, &path, LIMIT, NULL, NULL, NULL, &problem));
    CHECK(access(in_folder("late.jar"), F_OK) != 0);
    OK(kogge_fetch_start(node, &request, &nowhere, NULL, &op, &problem));
    OK(kogge_op_wait(op, LIMIT));
    IS(KOGGE_STATUS_TIMED_OUT, kogge_fetch_finish(op, NULL, NULL, NULL, &problem));
    kogge_op_free(op);

    request.deadline_ms = 0;
    path = sink_of(KOGGE_SINK_STREAM);
    OK(kogge_fetch(node, &request, &path, LIMIT, NULL, NULL, &stream, &problem));
    IS(KOGGE_STATUS_TIMED_OUT,
       kogge_stream_read_at(stream, large.size - 1, &byte, 1, 0, &count, &problem));
    kogge_stream_free(stream);
}

static void a_queue_is_woken_and_freed_under_its_readers(void) {
    kogge_queue *queue = NULL;
    kogge_completed items[4];
    size_t count = 77;
    OK(kogge_queue_new(&queue, &problem));
    OK(kogge_queue_wake(queue));
    IS(KOGGE_STATUS_AGAIN, kogge_queue_next(queue, LIMIT, items, 4, &count));
    IS(KOGGE_STATUS_TIMED_OUT, kogge_queue_next(queue, 5, items, 4, &count));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_queue_next(queue, 0, items, 0, &count));
    CHECK(count == 77);
    kogge_queue_free(queue);
    IS(KOGGE_STATUS_BAD_HANDLE, kogge_queue_next(queue, 5, items, 4, &count));
    IS(KOGGE_STATUS_BAD_HANDLE, kogge_queue_wake(queue));
    CHECK(kogge_queue_get_fd(queue) == -1);
}

static void opening_can_be_cancelled_and_forgotten(void) {
    int round;
    for (round = 0; round < 4; round++) {
        kogge_config *config = solo_config("forgotten");
        kogge_op *op = NULL;
        kogge_node *node = NULL;
        kogge_status status;
        /* The one before may hold the directory yet. */
        do {
            OK(kogge_node_open_start(config, NULL, &op, &problem));
            if (round == 0) {
                OK(kogge_op_cancel(op));
            }
            if (round == 1) {
                kogge_op_free(op);
                IS(KOGGE_STATUS_BAD_HANDLE, kogge_op_wait(op, 0));
                status = KOGGE_STATUS_OK;
                break;
            }
            OK(kogge_op_wait(op, LIMIT));
            status = kogge_op_get_status(op);
            if (round == 3 && status == KOGGE_STATUS_OK) {
                OK(kogge_node_open_finish(op, &node, &problem));
                close_node(node);
            }
            kogge_op_free(op); /* Round 2: opened, and not wanted. */
        } while (status == KOGGE_STATUS_BUSY);
        CHECK(status == KOGGE_STATUS_OK || (round == 0 && status == KOGGE_STATUS_CANCELLED));
        IS(KOGGE_STATUS_TIMED_OUT, round == 0 ? kogge_node_open(config, 0, &node, &problem)
                                              : KOGGE_STATUS_TIMED_OUT);
        kogge_config_free(config);
    }
}

/* A node that is closed as soon as it is open: whoever asked to be told has been told. */
static void the_end_of_opening_is_told_before_the_node_is_closed(void) {
    int round;
    for (round = 0; round < 20; round++) {
        kogge_config *config = solo_config("brief");
        kogge_node *node = NULL;
        kogge_op *op = NULL;
        teller it;
        prepare(&it, BY_CALLBACK);
        OK(kogge_node_open_start(config, &it.completion, &op, &problem));
        OK(kogge_op_wait(op, LIMIT));
        OK(kogge_node_open_finish(op, &node, &problem));
        close_node(node);
        CHECK(it.told.ends == 1 && it.told.drops == 1 && it.told.status == KOGGE_STATUS_OK);
        kogge_config_free(config);
        kogge_op_free(op);
    }
}

int main(int argc, char **argv) {
    kogge_node *node;
    int way;
    begin(argc, argv);
    for (way = 0; way < WAYS; way++) {
        every_verb_ends_in_this_way((enum way)way);
    }
    node = open_slow("slow");
    what_needs_no_waiting_ends_in_the_call_that_starts_it(node);
    progress_grows_to_the_size_and_stays(node);
    a_cancelled_operation_ends_cancelled_whatever_it_was_doing(node);
    when_the_time_is_up_the_work_is_given_up(node);
    a_queue_is_woken_and_freed_under_its_readers();
    close_node(node);
    opening_can_be_cancelled_and_forgotten();
    the_end_of_opening_is_told_before_the_node_is_closed();
    return finish();
}
