/* Figures of the C interface, one per line: name, tab, value.
 *
 * Usage: bench DATA_DIR WHAT_TINY WHAT_LARGE OUT_FOLDER, where both names are digests. */

/* For the clock. */
#define _POSIX_C_SOURCE 200809L

#include <kogge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static kogge_error *error;

static kogge_str text(const char *it) {
    kogge_str view = {it, strlen(it)};
    return view;
}

static void check(kogge_status status) {
    if (status != KOGGE_STATUS_OK) {
        kogge_str message = kogge_error_get_message(error);
        fprintf(stderr, "bench: %.*s\n", (int)message.len, message.ptr);
        exit(1);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Prints the median of `count` values. */
static void print(const char *name, double *values, size_t count) {
    qsort(values, count, sizeof *values, compare);
    printf("%s\t%.9f\n", name, values[count / 2]);
}

/* Resident memory in MB. */
static double resident(void) {
    char line[256];
    double kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kilobytes = atof(line + 6);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kilobytes / 1000;
}

static kogge_fetch_request request_of(const char *what) {
    kogge_fetch_request request;
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.name.struct_size = sizeof request.name;
    request.name.what = text(what);
    return request;
}

static kogge_sink sink_of(int32_t kind) {
    kogge_sink sink;
    memset(&sink, 0, sizeof sink);
    sink.struct_size = sizeof sink;
    sink.kind = kind;
    return sink;
}

static kogge_node *open_node(const char *data_dir) {
    kogge_config *config = NULL;
    kogge_node *node = NULL;
    check(kogge_config_new(KOGGE_ABI_VERSION, &config, &error));
    check(kogge_config_set_str(config, text("data_dir"), text(data_dir), &error));
    check(kogge_config_set_u64(config, text("limits.disk_mb"), 20000, &error));
    check(kogge_config_set_network(config, KOGGE_NETWORK_STORED, (kogge_bytes){NULL, 0}, &error));
    check(kogge_node_open(config, 60000, &node, &error));
    kogge_config_free(config);
    return node;
}

enum { OPENS = 11, CALLS = 20000, LOOKUPS = 1000000, QUERIES = 201, LINKS = 21, STREAMS = 3 };

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: bench DATA_DIR WHAT_TINY WHAT_LARGE OUT_FOLDER\n");
        return 2;
    }
    static double values[CALLS];
    double before = resident();
    kogge_node *node = open_node(arguments[1]);
    printf("resident_more_mb\t%.3f\n", resident() - before);

    kogge_fetch_request tiny = request_of(arguments[2]), large = request_of(arguments[3]);
    kogge_sink buffer_sink = sink_of(KOGGE_SINK_BUFFER);
    for (int at = 0; at < CALLS; at++) {
        kogge_buffer *buffer = NULL;
        double begin = now();
        check(kogge_fetch(node, &tiny, &buffer_sink, 10000, NULL, &buffer, NULL, &error));
        kogge_buffer_free(buffer);
        values[at] = now() - begin;
    }
    print("fetch_10k_s", values, CALLS);
    printf("resident_used_mb\t%.3f\n", resident() - before);

    char path[4096];
    snprintf(path, sizeof path, "%s/linked", arguments[4]);
    kogge_sink link_sink = sink_of(KOGGE_SINK_PATH);
    link_sink.path = text(path);
    link_sink.place_flags = KOGGE_PLACE_HARD_LINK | KOGGE_PLACE_REPLACE;
    for (int at = 0; at < LINKS; at++) {
        kogge_fetch_result result;
        double begin = now();
        check(kogge_fetch(node, &large, &link_sink, 60000, &result, NULL, NULL, &error));
        values[at] = now() - begin;
        if (result.placed != KOGGE_PLACE_HARD_LINK) {
            fprintf(stderr, "bench: %s is on another file system\n", path);
            return 1;
        }
    }
    print("link_s", values, LINKS);

    static uint8_t bytes[1 << 20];
    kogge_sink stream_sink = sink_of(KOGGE_SINK_STREAM);
    for (int at = 0; at < STREAMS; at++) {
        kogge_stream *stream = NULL;
        double begin = now();
        check(kogge_fetch(node, &large, &stream_sink, 60000, NULL, NULL, &stream, &error));
        uint64_t size = kogge_stream_get_size(stream), offset = 0;
        while (offset < size) {
            size_t got = 0;
            check(kogge_stream_read_at(stream, offset, bytes, sizeof bytes, 60000, &got, &error));
            offset += got;
        }
        kogge_stream_free(stream);
        values[at] = (double)size / 1e9 / (now() - begin);
    }
    print("stream_gb_per_s", values, STREAMS);

    for (int at = 0; at < QUERIES; at++) {
        kogge_cursor *cursor = NULL;
        kogge_rows *rows = NULL;
        double begin = now();
        check(kogge_log_query_open(node, text("order=oldest limit=1000"), &cursor, &error));
        check(kogge_cursor_next(cursor, 10000, &rows, &error));
        size_t found = kogge_rows_get_len(rows);
        uint64_t sum = 0;
        for (size_t row = 0; row < found; row++) {
            kogge_entry entry;
            check(kogge_rows_get_entry(rows, row, &entry));
            sum += entry.size;
        }
        kogge_rows_free(rows);
        kogge_cursor_free(cursor);
        values[at] = now() - begin;
        if (found != 1000 || sum == 0) {
            fprintf(stderr, "bench: the log has %zu entries\n", found);
            return 1;
        }
    }
    print("query_1000_s", values, QUERIES);

    kogge_queue *queue = NULL;
    check(kogge_queue_new(&queue, &error));
    kogge_buffer *note = NULL;
    check(kogge_log_policy(node, &note, &error));
    double begin = now();
    size_t sum = 0;
    for (int at = 0; at < LOOKUPS; at++) {
        sum += kogge_buffer_get_bytes(note).len;
    }
    printf("lookup_s\t%.12f\n", (now() - begin) / LOOKUPS);
    kogge_buffer_free(note);
    kogge_queue_free(queue);
    check(kogge_node_close(node, 60000, &error));

    for (int at = 0; at < OPENS; at++) {
        begin = now();
        node = open_node(arguments[1]);
        values[at] = now() - begin;
        check(kogge_node_close(node, 60000, &error));
    }
    print("open_s", values, OPENS);
    return sum == 0;
}
