/* Fetching, as calls that wait: every sink, ranges, limits, and what goes wrong. */
#include "kogge_test.h"

static kogge_status fetch(kogge_node *node, const artifact *it, const kogge_sink *sink,
                          kogge_fetch_result *result) {
    kogge_fetch_request request = request_for(it);
    return kogge_fetch(node, &request, sink, LIMIT, result, NULL, NULL, &problem);
}

static bool is_file_of(const char *path, const artifact *it) {
    size_t len, wanted_len;
    char *bytes = slurp(path, &len), *wanted = slurp(it->path, &wanted_len);
    bool same = len == wanted_len && memcmp(bytes, wanted, len) == 0;
    free(bytes);
    free(wanted);
    return same;
}

static void hex(const uint8_t *bytes, char *text) {
    int at;
    for (at = 0; at < 32; at++) {
        snprintf(text + 2 * at, 3, "%02x", bytes[at]);
    }
}

static void a_buffer_holds_the_bytes_and_the_result_tells_where_they_came_from(kogge_node *node) {
    const char *names[] = {"tiny", "small", "medium"};
    size_t at;
    for (at = 0; at < 3; at++) {
        artifact it = scene_artifact(names[at]);
        kogge_fetch_request request = request_for(&it);
        kogge_sink sink = sink_of(KOGGE_SINK_BUFFER);
        kogge_buffer *buffer = NULL, *clone;
        kogge_fetch_result result;
        kogge_bytes bytes, again;
        char *wanted, digest[65];
        kogge_bytes file = bytes_of(it.path, &wanted);
        OK(kogge_fetch(node, &request, &sink, LIMIT, &result, &buffer, NULL, &problem));
        bytes = kogge_buffer_get_bytes(buffer);
        CHECK(bytes.len == file.len && memcmp(bytes.ptr, file.ptr, file.len) == 0);
        hex(result.blake3, digest);
        CHECK(strcmp(digest, it.blake3 + 7) == 0);
        hex(result.sha256, digest);
        CHECK(strcmp(digest, it.sha256 + 7) == 0);
        CHECK(result.size == it.size && result.log_index == it.index);
        CHECK(result.bytes_from_peers == it.size && result.bytes_from_store == 0);
        CHECK(result.placed == 0 && result.reserved == 0);
        clone = kogge_buffer_clone(buffer);
        kogge_buffer_free(buffer);
        again = kogge_buffer_get_bytes(clone);
        CHECK(again.ptr == bytes.ptr && again.len == bytes.len);
        CHECK(kogge_buffer_get_bytes(buffer).len == 0);
        kogge_buffer_free(clone);

        /* By digest, and from the store this time. */
        request.name.what = str(at == 0 ? it.blake3 : it.sha256);
        request.name.file = none();
        OK(kogge_fetch(node, &request, &sink, LIMIT, &result, &buffer, NULL, &problem));
        CHECK(result.bytes_from_store == it.size && result.bytes_from_peers == 0);
        kogge_buffer_free(buffer);
        free(wanted);
    }
}

static void what_is_not_there_or_too_much_is_said_so(kogge_node *node) {
    artifact it = scene_artifact("small");
    kogge_fetch_request request = request_for(&it);
    kogge_sink sink = sink_of(KOGGE_SINK_BUFFER);
    kogge_buffer *buffer = NULL;
    kogge_error *error = NULL;
    char absent[256];
    field(scene_json, "absent", absent, sizeof absent);
    request.name.what = str(absent);
    IS(KOGGE_STATUS_NOT_FOUND,
       kogge_fetch(node, &request, &sink, LIMIT, NULL, &buffer, NULL, &problem));
    request.name.what = str("sha256:"
                            "0000000000000000000000000000000000000000000000000000000000000000");
    request.name.file = none();
    IS(KOGGE_STATUS_NOT_FOUND,
       kogge_fetch(node, &request, &sink, LIMIT, NULL, &buffer, NULL, &problem));

    request = request_for(&it);
    request.name.file = none();
    CHECK(kogge_fetch(node, &request, &sink, LIMIT, NULL, &buffer, NULL, &error) ==
          KOGGE_STATUS_INVALID_ARGUMENT);
    CHECK(strstr(kogge_error_get_detail_json(error).ptr, it.file) != NULL);
    kogge_error_free(error);

    request = request_for(&it);
    request.max_bytes = it.size - 1;
    IS(KOGGE_STATUS_QUOTA, kogge_fetch(node, &request, &sink, LIMIT, NULL, &buffer, NULL, &problem));
    request.max_bytes = it.size;
    OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, &buffer, NULL, &problem));
    kogge_buffer_free(buffer);
}

typedef struct {
    uint8_t *bytes;
    uint64_t next;
    int stop_after, drops;
} kept;

static int32_t keep(void *user_data, uint64_t offset, kogge_bytes bytes) {
    kept *it = user_data;
    if (it->next != offset || it->drops != 0) {
        return 99;
    }
    if (it->bytes != NULL) {
        memcpy(it->bytes + offset, bytes.ptr, bytes.len);
    }
    it->next += bytes.len;
    return it->stop_after != 0 && --it->stop_after == 0 ? 42 : 0;
}

static void count_drop(void *user_data) { ((kept *)user_data)->drops++; }

static void a_range_is_what_lies_in_it(kogge_node *node) {
    struct {
        uint64_t offset, len, wanted;
    } cases[] = {{0, 1, 1}, {4000, 90000, 90000}, {100000, 0, 1}, {100000, 9, 1},
                 {100001, 0, 0}, {UINT64_MAX, UINT64_MAX, 0}};
    artifact it = scene_artifact("small");
    char *wanted;
    kogge_bytes file = bytes_of(it.path, &wanted);
    size_t at;
    for (at = 0; at < sizeof cases / sizeof cases[0]; at++) {
        kogge_fetch_request request = request_for(&it);
        kogge_sink sink = sink_of(KOGGE_SINK_BUFFER);
        kogge_buffer *buffer = NULL;
        kogge_bytes bytes;
        request.range_offset = cases[at].offset;
        request.range_len = cases[at].len;
        OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, &buffer, NULL, &problem));
        bytes = kogge_buffer_get_bytes(buffer);
        CHECK(bytes.len == cases[at].wanted);
        CHECK(bytes.len == 0 || memcmp(bytes.ptr, file.ptr + cases[at].offset, bytes.len) == 0);
        kogge_buffer_free(buffer);
    }
    {
        kogge_fetch_request request = request_for(&it);
        kogge_sink sink = sink_of(KOGGE_SINK_WRITER);
        kept got = {NULL, 50000, 0, 0};
        request.range_offset = 50000;
        request.range_len = 10000;
        sink.write_fn = keep;
        sink.user_data = &got;
        OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, &problem));
        CHECK(got.next == 60000);
        sink = sink_of(KOGGE_SINK_PATH);
        sink.path = str(in_folder("part"));
        IS(KOGGE_STATUS_INVALID_ARGUMENT,
           kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, &problem));
        CHECK(access(in_folder("part"), F_OK) != 0);
    }
    free(wanted);
}

static void a_path_appears_whole_by_copy_or_link(kogge_node *node) {
    artifact it = scene_artifact("medium"), tiny = scene_artifact("tiny");
    kogge_sink sink = sink_of(KOGGE_SINK_PATH);
    kogge_fetch_result result;
    struct stat status;
    sink.path = str(in_folder("copy.jar"));
    OK(fetch(node, &it, &sink, &result));
    CHECK(result.placed == 0 && is_file_of(in_folder("copy.jar"), &it));
    IS(KOGGE_STATUS_EXISTS, fetch(node, &it, &sink, &result));
    sink.place_flags = KOGGE_PLACE_REPLACE;
    OK(fetch(node, &tiny, &sink, &result));
    CHECK(is_file_of(in_folder("copy.jar"), &tiny));

    sink.path = str(in_folder("link.jar"));
    sink.place_flags = KOGGE_PLACE_HARD_LINK;
    OK(fetch(node, &it, &sink, &result));
    CHECK(result.placed == KOGGE_PLACE_HARD_LINK && is_file_of(in_folder("link.jar"), &it));
    CHECK(stat(in_folder("link.jar"), &status) == 0 && status.st_nlink == 2);
    sink.place_flags = KOGGE_PLACE_HARD_LINK | KOGGE_PLACE_REFLINK | KOGGE_PLACE_REPLACE;
    OK(fetch(node, &it, &sink, &result));
    CHECK(is_file_of(in_folder("link.jar"), &it));

    /* What cannot be shared is copied. */
    sink.path = str(in_folder("ref.jar"));
    sink.place_flags = KOGGE_PLACE_REFLINK;
    OK(fetch(node, &it, &sink, &result));
    CHECK((result.placed == 0 || result.placed == KOGGE_PLACE_REFLINK) &&
          is_file_of(in_folder("ref.jar"), &it));
    sink.path = str(in_folder("small-link.jar"));
    sink.place_flags = KOGGE_PLACE_HARD_LINK;
    OK(fetch(node, &tiny, &sink, &result));
    CHECK(result.placed == 0 && is_file_of(in_folder("small-link.jar"), &tiny));

    sink.path = str(in_folder("no/such/folder/file"));
    IS(KOGGE_STATUS_IO, fetch(node, &it, &sink, &result));
    sink.path = str(in_folder(""));
    sink.place_flags = KOGGE_PLACE_REPLACE;
    CHECK(fetch(node, &it, &sink, &result) != KOGGE_STATUS_OK);
    kogge_error_free(problem);
    problem = NULL;
    sink.path = none();
    IS(KOGGE_STATUS_INVALID_ARGUMENT, fetch(node, &it, &sink, &result));
    sink.path.ptr = "a\0b";
    sink.path.len = 3;
    IS(KOGGE_STATUS_INVALID_ARGUMENT, fetch(node, &it, &sink, &result));
    sink.place_flags = 8;
    IS(KOGGE_STATUS_UNSUPPORTED, fetch(node, &it, &sink, &result));
}

static void a_descriptor_is_written_from_its_position(kogge_node *node) {
    artifact it = scene_artifact("medium");
    kogge_sink sink = sink_of(KOGGE_SINK_FD);
    kogge_error *error = NULL;
    kogge_fetch_request request = request_for(&it);
    size_t len, wanted_len;
    int ends[2], reading[3], at;
    char *bytes, *wanted = slurp(it.path, &wanted_len);
    sink.fd = open(in_folder("fd"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(write(sink.fd, "head", 4) == 4);
    OK(fetch(node, &it, &sink, NULL));
    CHECK(lseek(sink.fd, 0, SEEK_CUR) == 4 + (off_t)it.size);
    CHECK(write(sink.fd, "tail", 4) == 4 && close(sink.fd) == 0);
    bytes = slurp(in_folder("fd"), &len);
    CHECK(len == wanted_len + 8 && memcmp(bytes, "head", 4) == 0);
    CHECK(memcmp(bytes + 4, wanted, wanted_len) == 0);
    CHECK(memcmp(bytes + 4 + wanted_len, "tail", 4) == 0);
    free(bytes);
    free(wanted);

    IS(KOGGE_STATUS_INVALID_ARGUMENT, fetch(node, &it, &sink, NULL)); /* Closed. */
    sink.fd = -1;
    IS(KOGGE_STATUS_INVALID_ARGUMENT, fetch(node, &it, &sink, NULL));
    /* What is for reading takes nothing, and says so at once. */
    CHECK(pipe(ends) == 0);
    reading[0] = open(in_folder("fd"), O_RDONLY);
    reading[1] = ends[0];
    reading[2] = open("/dev/null", O_RDONLY);
    for (at = 0; at < 3; at++) {
        sink.fd = reading[at];
        CHECK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, &error) ==
              KOGGE_STATUS_IO);
        CHECK(kogge_error_get_os_code(error) == EBADF);
        kogge_error_free(error);
        close(sink.fd);
    }
    close(ends[1]);
}

static void a_writer_gets_all_in_order_and_may_give_up(kogge_node *node) {
    artifact it = scene_artifact("medium");
    kogge_sink sink = sink_of(KOGGE_SINK_WRITER);
    kogge_fetch_request request = request_for(&it);
    kogge_error *error = NULL;
    size_t len;
    char *wanted = slurp(it.path, &len);
    kept got = {malloc(len), 0, 0, 0}, stopped = {NULL, 0, 2, 0}, absent = {NULL, 0, 0, 0};
    sink.write_fn = keep;
    sink.drop_fn = count_drop;
    sink.user_data = &got;
    OK(fetch(node, &it, &sink, NULL));
    CHECK(got.next == it.size && memcmp(got.bytes, wanted, len) == 0);
    sink.user_data = &stopped;
    CHECK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, &error) ==
          KOGGE_STATUS_HOST);
    CHECK(kogge_error_get_os_code(error) == 42);
    kogge_error_free(error);
    sink.user_data = &absent;
    request.name.file = str("absent.jar");
    IS(KOGGE_STATUS_NOT_FOUND,
       kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, &problem));
    CHECK(absent.next == 0);
    CHECK(got.drops == 1 && stopped.drops == 1 && absent.drops == 1);
    free(got.bytes);
    free(wanted);
}

/* Whatever comes of it: a call that waits has released what was lent when it returns, a start that
 * fails has used nothing. */
static void what_is_lent_is_released_once_whatever_the_status(kogge_node *node) {
    artifact it = scene_artifact("medium");
    kogge_fetch_request good = request_for(&it), unsized_ = good, absent = good;
    kogge_sink writer = sink_of(KOGGE_SINK_WRITER), deaf, flagged, reserved, short_, other;
    size_t at;
    writer.write_fn = keep;
    writer.drop_fn = count_drop;
    deaf = flagged = reserved = short_ = other = writer;
    deaf.write_fn = NULL;
    flagged.place_flags = 64;
    reserved.reserved = 1;
    short_.struct_size = 3;
    other.kind = KOGGE_SINK_NONE;
    unsized_.name.struct_size = 1;
    absent.name.file = str("absent.jar");
    {
        kogge_node *foreign = (kogge_node *)(uintptr_t)0xf1;
        struct {
            kogge_node *node;
            const kogge_fetch_request *request;
            const kogge_sink *sink;
            uint64_t timeout_ms;
            kogge_status wanted;
            int drops;
            bool starts;
        } cases[] = {
            {node, &good, &writer, LIMIT, KOGGE_STATUS_OK, 1, true},
            {node, &absent, &writer, LIMIT, KOGGE_STATUS_NOT_FOUND, 1, true},
            {node, &good, &writer, 0, KOGGE_STATUS_TIMED_OUT, 1, true},
            {foreign, &good, &writer, LIMIT, KOGGE_STATUS_BAD_HANDLE, 1, false},
            {NULL, &good, &writer, LIMIT, KOGGE_STATUS_BAD_HANDLE, 1, false},
            {node, NULL, &writer, LIMIT, KOGGE_STATUS_INVALID_ARGUMENT, 1, false},
            {node, &unsized_, &writer, LIMIT, KOGGE_STATUS_INVALID_ARGUMENT, 1, false},
            {node, &good, &deaf, LIMIT, KOGGE_STATUS_INVALID_ARGUMENT, 1, false},
            {node, &good, &flagged, LIMIT, KOGGE_STATUS_UNSUPPORTED, 1, false},
            {node, &good, &reserved, LIMIT, KOGGE_STATUS_UNSUPPORTED, 1, false},
            {node, &good, &short_, LIMIT, KOGGE_STATUS_INVALID_ARGUMENT, 0, false},
            {node, &good, &other, LIMIT, KOGGE_STATUS_OK, 0, true},
        };
        for (at = 0; at < sizeof cases / sizeof cases[0]; at++) {
            kept lent = {NULL, 0, 0, 0};
            kogge_sink sink = *cases[at].sink;
            kogge_op *op = NULL;
            kogge_status status;
            sink.user_data = &lent;
            status = kogge_fetch(cases[at].node, cases[at].request, &sink, cases[at].timeout_ms,
                                 NULL, NULL, NULL, &problem);
            /* Where threads are quick all may be there before there is anything to wait for. */
            if (cases[at].timeout_ms != 0 || status != KOGGE_STATUS_OK) {
                IS(cases[at].wanted, status);
            }
            CHECK(lent.drops == cases[at].drops);

            memset(&lent, 0, sizeof lent);
            if (cases[at].starts) {
                OK(kogge_fetch_start(cases[at].node, cases[at].request, &sink, NULL, &op,
                                     &problem));
                OK(kogge_op_wait(op, LIMIT));
                CHECK(lent.drops == cases[at].drops);
                kogge_op_free(op);
            } else {
                IS(cases[at].wanted, kogge_fetch_start(cases[at].node, cases[at].request, &sink,
                                                       NULL, &op, &problem));
                CHECK(lent.drops == 0);
            }
        }
    }
}

static void a_stream_is_read_anywhere_while_it_arrives(kogge_node *node) {
    artifact it = scene_artifact("large"), tiny = scene_artifact("tiny");
    kogge_fetch_request request = request_for(&it);
    kogge_sink sink = sink_of(KOGGE_SINK_STREAM);
    kogge_stream *stream = NULL, *small = NULL;
    kogge_op *op = NULL;
    kogge_buffer *chunk = NULL;
    char *wanted;
    kogge_bytes file = bytes_of(it.path, &wanted);
    uint8_t *buf = malloc(100000);
    uint64_t seed = 7, progress = 0;
    size_t count = 9;
    int at, fd = -1;
    struct stat status;
    kogge_fetch_result result;
    OK(kogge_fetch(node, &request, &sink, LIMIT, &result, NULL, &stream, &problem));
    /* Whatever has come by now came from peers. */
    CHECK(result.bytes_from_store == 0 && result.bytes_from_peers <= it.size);
    CHECK(kogge_stream_get_size(stream) == it.size);
    for (at = 0; at < 40; at++) {
        uint64_t offset;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        offset = (seed >> 16) % it.size;
        OK(kogge_stream_read_at(stream, offset, buf, 100000, LIMIT, &count, &problem));
        CHECK(count != 0 && offset + count <= it.size);
        CHECK(memcmp(buf, file.ptr + offset, count) == 0);
    }
    OK(kogge_stream_chunk_start(stream, 12345, 70000, NULL, &op, &problem));
    OK(kogge_op_wait(op, LIMIT));
    OK(kogge_stream_chunk_finish(op, &chunk, &problem));
    count = kogge_buffer_get_bytes(chunk).len;
    CHECK(count != 0 && memcmp(kogge_buffer_get_bytes(chunk).ptr, file.ptr + 12345, count) == 0);
    kogge_buffer_free(chunk);
    kogge_op_free(op);
    OK(kogge_stream_read_at(stream, it.size, buf, 1, LIMIT, &count, &problem));
    CHECK(count == 0);
    OK(kogge_stream_read_at(stream, UINT64_MAX, buf, 1, LIMIT, &count, &problem));
    CHECK(count == 0);
    /* Waits until all is there. */
    OK(kogge_stream_take_fd(stream, LIMIT, &fd, &problem));
    CHECK(fstat(fd, &status) == 0 && (uint64_t)status.st_size == it.size);
    OK(kogge_stream_get_progress(stream, &progress, &problem));
    CHECK(progress == it.size);
    kogge_stream_free(stream);
    IS(KOGGE_STATUS_BAD_HANDLE,
       kogge_stream_read_at(stream, 0, buf, 1, LIMIT, &count, &problem));
    CHECK(pread(fd, buf, 100000, 5000000) == 100000);
    CHECK(memcmp(buf, file.ptr + 5000000, 100000) == 0 && close(fd) == 0);

    request = request_for(&tiny);
    OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, &small, &problem));
    IS(KOGGE_STATUS_UNSUPPORTED, kogge_stream_take_fd(small, LIMIT, &fd, &problem));
    kogge_stream_free(small);
    free(buf);
    free(wanted);
}

static void a_stream_outlives_its_node_as_a_handle(kogge_node *node) {
    artifact it = scene_artifact("small");
    kogge_fetch_request request = request_for(&it);
    kogge_sink sink = sink_of(KOGGE_SINK_STREAM);
    kogge_stream *stream = NULL;
    uint8_t byte;
    size_t count;
    uint64_t progress;
    int fd;
    OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, &stream, &problem));
    close_node(node);
    IS(KOGGE_STATUS_CLOSED, kogge_stream_read_at(stream, 0, &byte, 1, LIMIT, &count, &problem));
    IS(KOGGE_STATUS_CLOSED, kogge_stream_take_fd(stream, LIMIT, &fd, &problem));
    IS(KOGGE_STATUS_CLOSED, kogge_stream_get_progress(stream, &progress, &problem));
    CHECK(kogge_stream_get_size(stream) == it.size);
    kogge_stream_free(stream);
    IS(KOGGE_STATUS_BAD_HANDLE, kogge_node_close(node, LIMIT, &problem));
}

int main(int argc, char **argv) {
    kogge_node *node;
    kogge_sink nowhere = sink_of(KOGGE_SINK_NONE), unknown = sink_of(6);
    artifact small;
    begin(argc, argv);
    node = open_scene("data");
    small = scene_artifact("small");
    a_buffer_holds_the_bytes_and_the_result_tells_where_they_came_from(node);
    what_is_not_there_or_too_much_is_said_so(node);
    a_range_is_what_lies_in_it(node);
    a_path_appears_whole_by_copy_or_link(node);
    a_descriptor_is_written_from_its_position(node);
    a_writer_gets_all_in_order_and_may_give_up(node);
    what_is_lent_is_released_once_whatever_the_status(node);
    OK(fetch(node, &small, &nowhere, NULL));
    IS(KOGGE_STATUS_UNSUPPORTED, fetch(node, &small, &unknown, NULL));
    a_stream_is_read_anywhere_while_it_arrives(node);
    a_stream_outlives_its_node_as_a_handle(node);
    return finish();
}
