/* Callbacks that call back, that close, that never return; forgetting under use; thousands of
 * operations from many threads while the node closes. */
#include "kogge_test.h"

static kogge_node *shared_node;

/* From a callback everything may be called but `kogge_node_close`. */
static void call_back(void *user_data, kogge_op *op, kogge_status status) {
    told *it = user_data;
    artifact tiny = scene_artifact("tiny");
    kogge_fetch_request request = request_for(&tiny);
    kogge_sink sink = sink_of(KOGGE_SINK_BUFFER), writer = sink_of(KOGGE_SINK_WRITER);
    kogge_buffer *buffer = NULL;
    kogge_queue *queue = NULL;
    kogge_op *inner = NULL;
    uint64_t done;
    CHECK(status == KOGGE_STATUS_OK && kogge_op_get_status(op) == KOGGE_STATUS_OK);
    CHECK(kogge_op_wait(op, KOGGE_WAIT_FOREVER) == KOGGE_STATUS_OK);
    CHECK(kogge_op_finish(op, NULL) == KOGGE_STATUS_OK);
    CHECK(kogge_node_query_json(shared_node, str("status"), none(), LIMIT, &buffer, NULL) ==
          KOGGE_STATUS_OK);
    kogge_buffer_free(buffer);
    CHECK(kogge_fetch(shared_node, &request, &sink, LIMIT, NULL, &buffer, NULL, NULL) ==
          KOGGE_STATUS_OK);
    kogge_buffer_free(buffer);
    /* A writer would have to run on this very thread. */
    writer.write_fn = (kogge_write_fn)(void (*)(void))call_back;
    CHECK(kogge_fetch(shared_node, &request, &writer, LIMIT, NULL, NULL, NULL, NULL) ==
          KOGGE_STATUS_WOULD_DEADLOCK);
    CHECK(kogge_fetch_start(shared_node, &request, &sink, NULL, &inner, NULL) == KOGGE_STATUS_OK);
    CHECK(kogge_op_get_progress(inner, &done, NULL) == KOGGE_STATUS_OK);
    kogge_op_free(inner);
    CHECK(kogge_queue_new(&queue, NULL) == KOGGE_STATUS_OK);
    kogge_queue_free(queue);
    CHECK(kogge_node_close(shared_node, LIMIT, NULL) == KOGGE_STATUS_WOULD_DEADLOCK);
    it->ends++;
}

static void callbacks_may_call_everything_but_close(void) {
    kogge_completion completion = {sizeof completion, call_back, NULL, told_drop, NULL, 0, NULL};
    told it;
    kogge_op *op = NULL;
    memset(&it, 0, sizeof it);
    completion.user_data = &it;
    shared_node = open_scene("back");
    OK(kogge_node_live_start(shared_node, &completion, &op, &problem));
    UNTIL(it.drops == 1);
    CHECK(it.ends == 1);
    kogge_op_free(op);
    close_node(shared_node);
}

static _Atomic(kogge_op *) closing;

static void close_here(void *user_data, kogge_op *op, kogge_status status) {
    kogge_op *close = NULL;
    (void)op;
    (void)status;
    CHECK(kogge_node_close_start(shared_node, user_data, &close, NULL) == KOGGE_STATUS_OK);
    if (user_data == NULL) {
        /* It cannot end before this callback has. */
        CHECK(kogge_op_wait(close, KOGGE_WAIT_FOREVER) == KOGGE_STATUS_WOULD_DEADLOCK);
    }
    closing = close;
}

static void a_node_is_closed_from_its_callback(void) {
    int way;
    for (way = 0; way < 2; way++) {
        told it;
        kogge_completion last = {sizeof last, told_end, &it, told_drop, NULL, 0, NULL};
        kogge_completion completion = {sizeof completion, close_here, NULL, NULL, NULL, 0, NULL};
        kogge_op *op = NULL;
        kogge_config *config = solo_config("closed");
        memset(&it, 0, sizeof it);
        closing = NULL;
        OK(kogge_node_open(config, LIMIT, &shared_node, &problem));
        kogge_config_free(config);
        completion.user_data = way == 0 ? NULL : &last;
        OK(kogge_node_live_start(shared_node, &completion, &op, &problem));
        UNTIL(closing != NULL);
        OK(kogge_op_wait(closing, LIMIT));
        OK(kogge_op_finish(closing, &problem));
        UNTIL(way == 0 || it.drops == 1);
        CHECK(it.ends == way);
        kogge_op_free(closing);
        kogge_op_free(op);
        IS(KOGGE_STATUS_BAD_HANDLE, kogge_node_close(shared_node, LIMIT, &problem));
    }
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void wait_at_gate(void *user_data, kogge_op *op, kogge_status status) {
    ((told *)user_data)->ends++;
    (void)op;
    (void)status;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
}

static void close_gives_up_on_a_callback_that_does_not_return(void) {
    kogge_completion completion = {sizeof completion, wait_at_gate, NULL, told_drop, NULL, 0, NULL};
    told it;
    kogge_node *node = NULL;
    kogge_op *op = NULL, *other = NULL;
    kogge_config *config = solo_config("stuck");
    uint8_t id[32];
    kogge_buffer *json = NULL;
    memset(&it, 0, sizeof it);
    completion.user_data = &it;
    OK(kogge_node_open(config, LIMIT, &node, &problem));
    kogge_config_free(config);
    pthread_mutex_lock(&gate);
    OK(kogge_node_live_start(node, &completion, &op, &problem));
    UNTIL(it.ends == 1);
    /* Only callbacks wait for it. */
    OK(kogge_node_query_json(node, str("status"), none(), LIMIT, &json, &problem));
    kogge_buffer_free(json);
    IS(KOGGE_STATUS_TIMED_OUT, kogge_node_close(node, 50, &problem));
    CHECK(kogge_node_get_id(node, id, NULL) != KOGGE_STATUS_OK);
    CHECK(kogge_node_close_start(node, NULL, &other, NULL) != KOGGE_STATUS_OK);
    IS(KOGGE_STATUS_TIMED_OUT, kogge_node_close(node, 0, &problem));
    pthread_mutex_unlock(&gate);
    UNTIL(it.drops == 1);
    /* Long after the end perhaps: it is told once. */
    OK(kogge_node_close(node, LIMIT, &problem));
    IS(KOGGE_STATUS_BAD_HANDLE, kogge_node_close(node, LIMIT, &problem));
    kogge_op_free(op);
}

/* A writer that is held up in the middle of a piece, and what was lent to it. */
typedef struct {
    atomic_int pieces, drops;
    atomic_bool returned;
    kogge_events *clock;
    uint64_t wait_ms;
} held;

static int32_t hold_up(void *user_data, uint64_t offset, kogge_bytes bytes) {
    held *it = user_data;
    (void)offset;
    (void)bytes;
    it->pieces++;
    if (it->clock != NULL) {
        /* Until long after the time of the fetch was up. */
        kogge_event *event = NULL;
        CHECK(kogge_events_next(it->clock, it->wait_ms, &event, NULL) ==
              KOGGE_STATUS_TIMED_OUT);
    } else {
        pthread_mutex_lock(&gate);
        pthread_mutex_unlock(&gate);
    }
    CHECK(!it->returned && it->drops == 0);
    return 0;
}

static void drop_held(void *user_data) {
    held *it = user_data;
    CHECK(!it->returned);
    it->drops++;
}

static kogge_sink holding(held *it) {
    kogge_sink sink = sink_of(KOGGE_SINK_WRITER);
    sink.write_fn = hold_up;
    sink.drop_fn = drop_held;
    sink.user_data = it;
    return sink;
}

static void no_fetch_ends_while_its_writer_runs(void) {
    kogge_node *node = open_scene("held");
    artifact medium = scene_artifact("medium");
    kogge_fetch_request request = request_for(&medium);
    kogge_sink nowhere = sink_of(KOGGE_SINK_NONE), sink;
    kogge_event_filter filter;
    kogge_op *op = NULL;
    int round;
    OK(kogge_fetch(node, &request, &nowhere, LIMIT, NULL, NULL, NULL, &problem));
    memset(&filter, 0, sizeof filter);
    filter.struct_size = sizeof filter;
    filter.kinds = str("fault");
    for (round = 0; round < 2; round++) {
        uint64_t limit = 50;
        held it;
        do {
            memset(&it, 0, sizeof it);
            it.wait_ms = 3 * limit;
            OK(kogge_events_open(node, &filter, &it.clock, &problem));
            sink = holding(&it);
            request.deadline_ms = round == 0 ? 0 : limit;
            IS(KOGGE_STATUS_TIMED_OUT,
               kogge_fetch(node, &request, &sink, round == 0 ? limit : LIMIT, NULL, NULL, NULL,
                           &problem));
            it.returned = true;
            CHECK(it.drops == 1 && it.pieces <= 1);
            kogge_events_free(it.clock);
            limit *= 2;
        } while (it.pieces == 0); /* A slow machine. */
    }
    request.deadline_ms = 0;
    for (round = 0; round < 2; round++) {
        kogge_completion completion = {sizeof completion, told_end, NULL, told_drop, NULL, 0, NULL};
        told told;
        held it;
        memset(&told, 0, sizeof told);
        memset(&it, 0, sizeof it);
        completion.user_data = &told;
        sink = holding(&it);
        pthread_mutex_lock(&gate);
        OK(kogge_fetch_start(node, &request, &sink, &completion, &op, &problem));
        UNTIL(it.pieces == 1);
        if (round == 0) {
            OK(kogge_op_cancel(op));
        } else {
            /* A piece that never comes back holds up the end of the node too. */
            IS(KOGGE_STATUS_TIMED_OUT, kogge_node_close(node, 20, &problem));
        }
        IS(KOGGE_STATUS_TIMED_OUT, kogge_op_wait(op, 20));
        IS(KOGGE_STATUS_AGAIN, kogge_op_get_status(op));
        CHECK(told.ends == 0 && it.drops == 0);
        pthread_mutex_unlock(&gate);
        OK(kogge_op_wait(op, LIMIT));
        CHECK(it.drops == 1 && it.pieces == 1);
        it.returned = true;
        IS(KOGGE_STATUS_CANCELLED, kogge_op_get_status(op));
        UNTIL(told.drops == 1);
        CHECK(told.ends == 1);
        kogge_op_free(op);
    }
    OK(kogge_node_close(node, LIMIT, &problem));
}

/* An end whose callback takes its time, and what another thread sees that waits for the same. */
static void *close_too(void *data) {
    told *it = data;
    kogge_status status;
    it->status = -1;
    status = kogge_node_close(shared_node, LIMIT, NULL);
    /* Who comes late finds no node. */
    CHECK(status == KOGGE_STATUS_OK || status == KOGGE_STATUS_BAD_HANDLE);
    CHECK(status != KOGGE_STATUS_OK || (it->ends == 1 && it->drops == 1));
    return (void *)(uintptr_t)(status == KOGGE_STATUS_OK);
}

static void take_time(void *user_data, kogge_op *op, kogge_status status) {
    int at;
    (void)op;
    (void)status;
    for (at = 0; at < 50; at++) {
        nap();
    }
    ((told *)user_data)->ends++;
}

static void take_time_to_drop(void *user_data) {
    int at;
    for (at = 0; at < 50; at++) {
        nap();
    }
    ((told *)user_data)->drops++;
}

/* As often is tried what threads have to be quick for. */
enum { ROUNDS = 100 };

static void who_closes_second_waits_for_the_callbacks_of_the_first(void) {
    artifact medium = scene_artifact("medium");
    void *was_second = NULL;
    int round;
    for (round = 0; round < ROUNDS && was_second == NULL; round++) {
        kogge_completion completion = {sizeof completion, take_time, NULL, take_time_to_drop,
                                       NULL, 0, NULL};
        kogge_fetch_request request = request_for(&medium);
        kogge_sink sink;
        kogge_op *fetch = NULL, *close = NULL;
        pthread_t other;
        held it;
        told told;
        int at;
        memset(&it, 0, sizeof it);
        memset(&told, 0, sizeof told);
        completion.user_data = &told;
        sink = holding(&it);
        shared_node = open_scene("second");
        pthread_mutex_lock(&gate);
        OK(kogge_fetch_start(shared_node, &request, &sink, NULL, &fetch, &problem));
        UNTIL(it.pieces == 1);
        OK(kogge_node_close_start(shared_node, &completion, &close, &problem));
        CHECK(pthread_create(&other, NULL, close_too, &told) == 0);
        UNTIL(told.status == -1);
        for (at = 0; at < 10; at++) {
            nap();
        }
        pthread_mutex_unlock(&gate);
        pthread_join(other, &was_second);
        OK(kogge_op_wait(close, LIMIT));
        UNTIL(told.drops == 1);
        kogge_op_free(close);
        kogge_op_free(fetch);
    }
    CHECK(was_second != NULL);
}

static void no_line(void *user_data, int32_t level, kogge_str target, kogge_str line) {
    (void)user_data;
    (void)level;
    (void)target;
    (void)line;
}

/* The end of a node, or of an attempt to open one, comes after all callbacks but its own. */
static void a_log_is_released_before_the_end_is_heard(void) {
    int way;
    for (way = 0; way < 2; way++) {
        told log, end;
        kogge_completion completion = {sizeof completion, told_end, &end, told_drop, NULL, 7, NULL};
        kogge_config *config = solo_config("logged");
        kogge_completed item;
        kogge_op *op = NULL;
        kogge_node *node = NULL, *first = NULL;
        size_t count;
        memset(&log, 0, sizeof log);
        memset(&end, 0, sizeof end);
        OK(kogge_queue_new(&completion.queue, &problem));
        if (way == 0) {
            /* Its directory is in use. */
            OK(kogge_node_open(config, LIMIT, &first, &problem));
        }
        OK(kogge_config_set_log(config, 3, no_line, &log, take_time_to_drop, &problem));
        if (way == 0) {
            OK(kogge_node_open_start(config, &completion, &op, &problem));
            kogge_config_free(config);
        } else {
            OK(kogge_node_open(config, LIMIT, &node, &problem));
            kogge_config_free(config);
            OK(kogge_node_close_start(node, &completion, &op, &problem));
        }
        OK(kogge_queue_next(completion.queue, LIMIT, &item, 1, &count));
        CHECK(log.drops == 1);
        IS(way == 0 ? KOGGE_STATUS_BUSY : KOGGE_STATUS_OK, item.status);
        UNTIL(end.drops == 1);
        CHECK(end.ends == 1);
        kogge_op_free(op);
        kogge_queue_free(completion.queue);
        if (way == 0) {
            close_node(first);
        }
    }
}

/* A callback that would wait for a piece that only its own thread can take. */
static void wait_for_a_writer(void *user_data, kogge_op *op, kogge_status status) {
    artifact tiny = scene_artifact("tiny");
    kogge_fetch_request request = request_for(&tiny);
    held *it = user_data;
    kogge_sink sink = holding(it);
    kogge_op *inner = NULL;
    (void)op;
    CHECK(status == KOGGE_STATUS_OK);
    CHECK(kogge_fetch_start(shared_node, &request, &sink, NULL, &inner, NULL) == KOGGE_STATUS_OK);
    CHECK(kogge_op_wait(inner, KOGGE_WAIT_FOREVER) == KOGGE_STATUS_WOULD_DEADLOCK);
    kogge_op_free(inner);
}

static void a_callback_does_not_wait_for_itself(void) {
    kogge_completion completion = {sizeof completion, wait_for_a_writer, NULL, NULL, NULL, 0, NULL};
    kogge_op *op = NULL;
    held it;
    memset(&it, 0, sizeof it);
    completion.user_data = &it;
    shared_node = open_scene("itself");
    OK(kogge_node_live_start(shared_node, &completion, &op, &problem));
    UNTIL(it.drops == 1);
    kogge_op_free(op);
    close_node(shared_node);
}

enum { BUSY_THREADS = 6 };

static atomic_int busy_calls;

/* All that looks at the node for a moment only. */
static void *ask_all_the_time(void *data) {
    artifact tiny = scene_artifact("tiny");
    kogge_stream *stream = data;
    kogge_status status;
    do {
        kogge_buffer *buffer = NULL;
        kogge_rows *rows = NULL;
        kogge_stored stored;
        kogge_name name = name_of(&tiny);
        uint64_t bytes;
        status = kogge_log_waybill(shared_node, tiny.index, &buffer, NULL);
        kogge_buffer_free(buffer);
        kogge_resolve(shared_node, &name, &rows, NULL);
        kogge_rows_free(rows);
        kogge_store_stat(shared_node, str(tiny.blake3), &stored, NULL);
        kogge_stream_get_progress(stream, &bytes, NULL);
        busy_calls++;
    } while (status == KOGGE_STATUS_OK || status == KOGGE_STATUS_AGAIN);
    CHECK(status == KOGGE_STATUS_CLOSED || status == KOGGE_STATUS_BAD_HANDLE);
    kogge_stream_free(stream);
    return NULL;
}

static void a_closed_node_leaves_its_directory_to_the_next(void) {
    artifact tiny = scene_artifact("tiny");
    kogge_fetch_request request = request_for(&tiny);
    kogge_sink sink = sink_of(KOGGE_SINK_STREAM);
    int round, at;
    for (round = 0; round < 12; round++) {
        pthread_t thread[BUSY_THREADS];
        shared_node = open_scene("again"); /* Never busy. */
        busy_calls = 0;
        for (at = 0; at < BUSY_THREADS; at++) {
            kogge_stream *stream = NULL;
            OK(kogge_fetch(shared_node, &request, &sink, LIMIT, NULL, NULL, &stream, &problem));
            CHECK(pthread_create(&thread[at], NULL, ask_all_the_time, stream) == 0);
        }
        UNTIL(busy_calls > 2 * BUSY_THREADS);
        close_node(shared_node);
        {
            kogge_node *next = NULL;
            kogge_config *config = scene_config("again");
            OK(kogge_node_open(config, LIMIT, &next, &problem));
            kogge_config_free(config);
            close_node(next);
        }
        for (at = 0; at < BUSY_THREADS; at++) {
            pthread_join(thread[at], NULL);
        }
    }
}

static atomic_bool is_reading;
static atomic_int freed_under_readers;

static void *read_the_end(void *stream) {
    uint8_t byte;
    size_t count;
    kogge_status status;
    is_reading = true;
    status = kogge_stream_read_at(stream, kogge_stream_get_size(stream) - 1, &byte, 1,
                                  KOGGE_WAIT_FOREVER, &count, NULL);
    /* Who comes late finds no stream. */
    CHECK(status == KOGGE_STATUS_CLOSED || status == KOGGE_STATUS_BAD_HANDLE);
    freed_under_readers += status == KOGGE_STATUS_CLOSED;
    return NULL;
}

/* Of an artifact that would take hours. */
static void who_reads_a_stream_hears_that_it_is_freed(void) {
    artifact large = scene_artifact("large");
    kogge_fetch_request request = request_for(&large);
    kogge_sink sink = sink_of(KOGGE_SINK_STREAM);
    kogge_config *config = scene_config("freed");
    kogge_node *node;
    kogge_stream *stream = NULL;
    pthread_t reader;
    int naps = 0, at;
    OK(kogge_config_set_u64(config, str("limits.download_kb_per_s"), 1, &problem));
    node = open_live(config);
    do {
        is_reading = false;
        OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, &stream, &problem));
        CHECK(pthread_create(&reader, NULL, read_the_end, stream) == 0);
        UNTIL(is_reading);
        for (at = 0; at < naps; at++) {
            nap();
        }
        kogge_stream_free(stream);
        pthread_join(reader, NULL);
        naps = 2 * naps + 1;
    } while (freed_under_readers == 0 && naps < 1 << 12); /* A slow machine. */
    CHECK(freed_under_readers != 0);
    close_node(node);
}

typedef struct {
    kogge_queue *queue;
    kogge_stream *stream;
    kogge_cursor *cursor;
    kogge_events *events;
    atomic_int ready, ended;
} used;

static void *use_queue(void *data) {
    used *it = data;
    kogge_completed items[4];
    size_t count;
    it->ready++;
    CHECK(kogge_queue_next(it->queue, KOGGE_WAIT_FOREVER, items, 4, &count) ==
          KOGGE_STATUS_CLOSED);
    it->ended++;
    return NULL;
}

static void *use_stream(void *data) {
    used *it = data;
    uint8_t bytes[1000];
    size_t count;
    kogge_status status;
    it->ready++;
    do {
        status = kogge_stream_read_at(it->stream, 999, bytes, sizeof bytes, LIMIT, &count, NULL);
    } while (status == KOGGE_STATUS_OK);
    CHECK(status == KOGGE_STATUS_BAD_HANDLE || status == KOGGE_STATUS_CLOSED);
    it->ended++;
    return NULL;
}

static void *use_cursor(void *data) {
    used *it = data;
    kogge_rows *rows;
    kogge_status status;
    it->ready++;
    do {
        rows = NULL;
        status = kogge_cursor_next(it->cursor, LIMIT, &rows, NULL);
        kogge_rows_free(rows);
    } while (status == KOGGE_STATUS_OK || status == KOGGE_STATUS_END);
    CHECK(status == KOGGE_STATUS_BAD_HANDLE);
    it->ended++;
    return NULL;
}

static void *use_events(void *data) {
    used *it = data;
    kogge_event *event = NULL;
    kogge_status status;
    it->ready++;
    status = kogge_events_next(it->events, KOGGE_WAIT_FOREVER, &event, NULL);
    CHECK(status == KOGGE_STATUS_CLOSED || status == KOGGE_STATUS_BAD_HANDLE);
    it->ended++;
    return NULL;
}

static void what_is_used_can_be_freed(void) {
    void *(*users[])(void *) = {use_queue, use_stream, use_cursor, use_events};
    pthread_t thread[8];
    kogge_node *node = open_scene("used");
    artifact small = scene_artifact("small");
    kogge_fetch_request request = request_for(&small);
    kogge_sink sink = sink_of(KOGGE_SINK_STREAM);
    kogge_event_filter filter;
    used it;
    int at;
    memset(&it, 0, sizeof it);
    memset(&filter, 0, sizeof filter);
    filter.struct_size = sizeof filter;
    filter.kinds = str("fault");
    OK(kogge_queue_new(&it.queue, &problem));
    OK(kogge_log_query_open(node, str("limit=1"), &it.cursor, &problem));
    OK(kogge_events_open(node, &filter, &it.events, &problem));
    OK(kogge_events_attach(it.events, it.queue, 1, &problem));
    {
        kogge_completed item;
        size_t count;
        OK(kogge_queue_next(it.queue, 0, &item, 1, &count));
    }
    OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, &it.stream, &problem));
    for (at = 0; at < 8; at++) {
        CHECK(pthread_create(&thread[at], NULL, users[at % 4], &it) == 0);
    }
    UNTIL(it.ready == 8);
    nap();
    kogge_stream_free(it.stream);
    kogge_cursor_free(it.cursor);
    kogge_events_free(it.events);
    kogge_queue_free(it.queue);
    for (at = 0; at < 8; at++) {
        pthread_join(thread[at], NULL);
    }
    CHECK(it.ended == 8);
    close_node(node);
}

/* A queue that is freed before the end: nobody is told there, and nothing is lost. */
static void operations_outlive_their_queue(void) {
    kogge_node *node = open_scene("untold");
    kogge_completion completion;
    kogge_op *op = NULL;
    artifact small = scene_artifact("small");
    kogge_fetch_request request = request_for(&small);
    kogge_sink sink = sink_of(KOGGE_SINK_NONE);
    memset(&completion, 0, sizeof completion);
    completion.struct_size = sizeof completion;
    OK(kogge_queue_new(&completion.queue, &problem));
    OK(kogge_fetch_start(node, &request, &sink, &completion, &op, &problem));
    kogge_queue_free(completion.queue);
    OK(kogge_op_wait(op, LIMIT));
    OK(kogge_fetch_finish(op, NULL, NULL, NULL, &problem));
    kogge_op_free(op);
    IS(KOGGE_STATUS_BAD_HANDLE,
       kogge_fetch_start(node, &request, &sink, &completion, &op, &problem));
    close_node(node);
}

enum { STORM_THREADS = 8, STORM_OPS = 1000 };

typedef struct {
    told told[STORM_OPS];
    atomic_int written, writers_dropped;
    int started, writers;
} storm;

static storm storms[STORM_THREADS];
static kogge_queue *storm_queue;
static atomic_int storm_queued;

static int32_t storm_write(void *user_data, uint64_t offset, kogge_bytes bytes) {
    (void)offset;
    (void)bytes;
    ((storm *)user_data)->written++;
    return 0;
}

static void storm_drop(void *user_data) { ((storm *)user_data)->writers_dropped++; }

static void *blow(void *data) {
    storm *it = data;
    static const char *names[] = {"tiny", "small", "medium"};
    artifact artifacts[3];
    int at;
    for (at = 0; at < 3; at++) {
        artifacts[at] = scene_artifact(names[at]);
    }
    for (at = 0; at < STORM_OPS; at++) {
        kogge_completion completion = {sizeof completion, told_end, NULL, told_drop, NULL, 0, NULL};
        kogge_fetch_request request = request_for(&artifacts[at % 3]);
        kogge_sink sink = sink_of(at % 4 == 0 ? KOGGE_SINK_WRITER : KOGGE_SINK_BUFFER);
        kogge_op *op = NULL;
        kogge_status status;
        completion.user_data = &it->told[at];
        completion.queue = storm_queue;
        sink.write_fn = storm_write;
        sink.user_data = it;
        sink.drop_fn = storm_drop;
        if (at % 7 == 0) {
            request.name.file = str("absent.jar");
        }
        status = at % 5 == 0
                     ? kogge_node_live_start(shared_node, &completion, &op, NULL)
                     : kogge_fetch_start(shared_node, &request, &sink, &completion, &op, NULL);
        if (status != KOGGE_STATUS_OK) {
            CHECK(status == KOGGE_STATUS_CLOSED || status == KOGGE_STATUS_BAD_HANDLE);
            break;
        }
        it->started++;
        it->writers += at % 5 != 0 && at % 4 == 0;
        if (at % 3 == 0) {
            CHECK(kogge_op_cancel(op) == KOGGE_STATUS_OK);
        }
        if (at % 2 == 0) {
            kogge_op_free(op);
        } else {
            /* Freed by who takes it out of the queue. */
            storm_queued++;
        }
    }
    return NULL;
}

static void a_storm_ends_with_one_completion_each(void) {
    pthread_t thread[STORM_THREADS];
    kogge_completed items[64];
    size_t count = 0;
    int at, op, started = 0, queued = 0;
    shared_node = open_scene("storm");
    OK(kogge_queue_new(&storm_queue, &problem));
    for (at = 0; at < STORM_THREADS; at++) {
        CHECK(pthread_create(&thread[at], NULL, blow, &storms[at]) == 0);
    }
    UNTIL(storm_queued > 2000);
    close_node(shared_node);
    for (at = 0; at < STORM_THREADS; at++) {
        pthread_join(thread[at], NULL);
        started += storms[at].started;
    }
    /* All ends have been told when a node is closed. */
    while (kogge_queue_next(storm_queue, 0, items, 64, &count) == KOGGE_STATUS_OK) {
        for (op = 0; op < (int)count; op++) {
            CHECK(items[op].status != KOGGE_STATUS_AGAIN);
            kogge_op_free(items[op].op);
            queued++;
        }
    }
    CHECK(queued == started && started >= 4000);
    for (at = 0; at < STORM_THREADS; at++) {
        storm *it = &storms[at];
        for (op = 0; op < STORM_OPS; op++) {
            int wanted = op < it->started;
            CHECK(it->told[op].ends == wanted && it->told[op].drops == wanted);
            CHECK(!wanted || it->told[op].status != KOGGE_STATUS_PANIC);
        }
        CHECK(it->writers_dropped == it->writers);
    }
    kogge_queue_free(storm_queue);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    callbacks_may_call_everything_but_close();
    a_node_is_closed_from_its_callback();
    close_gives_up_on_a_callback_that_does_not_return();
    no_fetch_ends_while_its_writer_runs();
    who_closes_second_waits_for_the_callbacks_of_the_first();
    a_log_is_released_before_the_end_is_heard();
    a_callback_does_not_wait_for_itself();
    a_closed_node_leaves_its_directory_to_the_next();
    who_reads_a_stream_hears_that_it_is_freed();
    what_is_used_can_be_freed();
    operations_outlive_their_queue();
    a_storm_ends_with_one_completion_each();
    return finish();
}
